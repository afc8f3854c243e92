"""Queries: objects, statistics, lightcurves, transients and lineage by position, objectid and condition."""
