"""ztfmatch: the lightcurve matchfile processor of the Zwicky Transient Facility."""

__version__ = "0.1.0"
