"""Plots of lightcurves, and of the exposed sky.

Files are made with objects of matplotlib alone, never pyplot, so that a plot neither needs nor leaves behind any global
state. What gives axes to who asks for them in Python makes them by pyplot, as a notebook expects.
"""

from ztfmatch.core.camera import field_grid
from ztfmatch.plot.axes import PHASE_ZERO_HMJD
from ztfmatch.plot.coverage import CoverageOptions, plot_coverage
from ztfmatch.plot.curves import BAND_COLOURS, MAX_LEGEND_CURVES
from ztfmatch.plot.footprint import Coverage, coverage_of
from ztfmatch.plot.lightcurves import PlotOptions, draw_lightcurves, plot_lightcurves
from ztfmatch.plot.periodogram import Periodogram, periodogram_of
from ztfmatch.plot.regeneration import Story, plot_regenerations

__all__ = [
    "BAND_COLOURS",
    "MAX_LEGEND_CURVES",
    "PHASE_ZERO_HMJD",
    "Coverage",
    "CoverageOptions",
    "Periodogram",
    "PlotOptions",
    "Story",
    "coverage_of",
    "draw_lightcurves",
    "field_grid",
    "periodogram_of",
    "plot_coverage",
    "plot_lightcurves",
    "plot_regenerations",
]
