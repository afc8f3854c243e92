"""Answers: objects, statistics, lightcurves, transients and lineage by place, objectid and condition."""
