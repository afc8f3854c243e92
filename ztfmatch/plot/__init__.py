"""Pictures of lightcurves, and of the sky that was exposed.

Only objects of matplotlib are used, never pyplot, so that a plot neither needs nor leaves behind any global state.
"""

from ztfmatch.plot.axes import PHASE_ZERO_HMJD
from ztfmatch.plot.coverage import CoverageOptions, plot_coverage
from ztfmatch.plot.curves import BAND_COLOURS, MAX_LEGEND_CURVES
from ztfmatch.plot.footprint import Coverage, coverage_of
from ztfmatch.plot.lightcurves import PlotOptions, plot_lightcurves
from ztfmatch.plot.regeneration import Story, plot_regenerations

__all__ = [
    "BAND_COLOURS",
    "MAX_LEGEND_CURVES",
    "PHASE_ZERO_HMJD",
    "Coverage",
    "CoverageOptions",
    "PlotOptions",
    "Story",
    "coverage_of",
    "plot_coverage",
    "plot_lightcurves",
    "plot_regenerations",
]
