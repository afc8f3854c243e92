"""Pictures of a report: each function draws one figure of sums.

Only objects of matplotlib are used, never pyplot, so that a picture neither needs nor leaves behind any global state.
"""

from ztfmatch.photometry.report.pictures.curves import draw_histograms, draw_magnitudes, draw_scatter
from ztfmatch.photometry.report.pictures.exposures import draw_exposures
from ztfmatch.photometry.report.pictures.maps import draw_channels, draw_focal_plane, map_limit
from ztfmatch.photometry.report.pictures.sky import draw_sky
from ztfmatch.photometry.report.pictures.style import png
from ztfmatch.photometry.report.pictures.times import draw_eras, draw_times

__all__ = [
    "draw_channels",
    "draw_eras",
    "draw_exposures",
    "draw_focal_plane",
    "draw_histograms",
    "draw_magnitudes",
    "draw_scatter",
    "draw_sky",
    "draw_times",
    "map_limit",
    "png",
]
