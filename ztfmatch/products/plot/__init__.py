"""Pictures of lightcurves.

Only objects of matplotlib are used, never pyplot, so that a plot neither needs nor leaves behind any global state.
"""

from ztfmatch.products.plot.axes import PHASE_ZERO_HMJD
from ztfmatch.products.plot.curves import BAND_COLOURS, MAX_LEGEND_CURVES
from ztfmatch.products.plot.lightcurves import PlotOptions, plot_lightcurves
from ztfmatch.products.plot.regeneration import Story, plot_regenerations

__all__ = [
    "BAND_COLOURS",
    "MAX_LEGEND_CURVES",
    "PHASE_ZERO_HMJD",
    "PlotOptions",
    "Story",
    "plot_lightcurves",
    "plot_regenerations",
]
