"""Residual maps: the focal plane as it lies on the sky, and every readout channel by itself."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from ztfmatch.core.camera import quadrant_corners
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import FILTER_CODES, N_RCID, QUADRANT_SHAPE_PIX
from ztfmatch.photometry.report.measure import Sums
from ztfmatch.photometry.report.numbers import coarse_factor, mean_map
from ztfmatch.photometry.report.pictures.style import (
    DARK,
    GREY,
    NO_DATA,
    WIDTH_INCH,
    Scale,
    colour_bar,
    colour_scale,
    new_figure,
    nice_limit,
    phase_titles,
    style,
)

PAIRS_ACROSS: Final = 4
"""Channels side by side, each before and after."""

_LEFT_INCH, _TOP_INCH, _BOTTOM_INCH = 0.62, 0.28, 1.15
"""Room for labels, and below for the bar of colours."""
_GAP_INCH: Final = (0.15, 0.33)
"""Between panels, across and down."""
_WIDEST_INCH: Final = 2.4

_HALF_WIDTH_DEG: Final = 3.95


def map_limit(sums: Sums) -> float:
    """Symmetric limit of the colours of all maps, mmag: before and after, and every filter, on one scale."""
    factor = coarse_factor(sums)
    values = [mean_map(held[0], sums.bins, factor).ravel() for held in sums.maps.values()]
    return nice_limit(np.concatenate([np.zeros(1), *values]), 5.0)


def draw_focal_plane(sums: Sums, fid: int) -> Figure:
    """The 64 channels of a filter as they lie on the sky, north up and east left."""
    figure = new_figure(6.05 if sums.phases == 2 else 8.6)
    panels = figure.subplots(1, sums.phases, squeeze=False, sharey=True)[0]
    scale = colour_scale(map_limit(sums))
    for phase, (axes, title) in enumerate(zip(panels, phase_titles(sums.phases, sums.titles), strict=True)):
        for rcid in range(N_RCID):
            _draw_quadrant(axes, sums, (rcid, fid, phase), scale)
        _style_plane(axes)
        axes.set_title(f"{FILTER_CODES[fid]}, {title}", fontsize=11.5, color=DARK)
    panels[0].set_ylabel("north of the field centre (deg)", fontsize=10.5, color=DARK)
    colour_bar(figure, scale, panels, _bar_label(sums))
    return figure


def _bar_label(sums: Sums) -> str:
    against = "PS1" if sums.against_ps1 else "median of the lightcurve"
    return f"mean of observed \N{MINUS SIGN} {against} (mmag); grey: no data"


def _style_plane(axes: Axes) -> None:
    style(axes, "east of the field centre (deg)")
    axes.grid(visible=False)
    axes.set_xlim(_HALF_WIDTH_DEG, -_HALF_WIDTH_DEG)
    axes.set_ylim(-_HALF_WIDTH_DEG, _HALF_WIDTH_DEG)
    axes.set_aspect("equal")


def _draw_quadrant(axes: Axes, sums: Sums, which: tuple[int, int, int], scale: Scale) -> None:
    """Map of a channel between its corners: x grows to the west, y to the south. Grey without data."""
    rcid, fid, phase = which
    corners = quadrant_corners(rcid)
    held = sums.maps.get((rcid, fid))
    if held is None or not held[phase, :, 0].any():
        axes.add_patch(Polygon(corners, facecolor=NO_DATA, edgecolor="white", linewidth=0.8))
        colour = GREY
    else:
        _draw_cells(axes, corners, mean_map(held[phase], sums.bins, coarse_factor(sums)), scale)
        axes.add_patch(Polygon(corners, fill=False, edgecolor=GREY, linewidth=0.6))
        colour = DARK
    east, north = corners[2]
    axes.text(east - 0.04, north - 0.04, str(rcid), ha="left", va="top", fontsize=6.5, color=colour, zorder=4,
              bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.5})  # fmt: skip


def _draw_cells(axes: Axes, corners: Floats, cells: Floats, scale: Scale) -> None:
    """Cells of a map, shape (rows, columns), on the quadrant with corners SW, NW, NE, SE."""
    sw, nw, ne, se = corners
    rows, columns = cells.shape
    u = np.linspace(0.0, 1.0, columns + 1)[None, :, None]
    v = np.linspace(0.0, 1.0, rows + 1)[:, None, None]
    places = (1 - u) * (1 - v) * ne + u * (1 - v) * nw + (1 - u) * v * se + u * v * sw
    axes.pcolormesh(places[..., 0], places[..., 1], np.ma.masked_invalid(cells), cmap=scale.cmap, norm=scale.norm,
                    rasterized=True)  # fmt: skip
    if np.isnan(cells).any():
        axes.add_patch(Polygon(corners, facecolor=NO_DATA, edgecolor="none", zorder=0.5))


def draw_channels(sums: Sums, fid: int) -> Figure:
    """Maps of all channels of a filter that have data, in pixels of the quadrant, before and after side by side."""
    channels = sums.channels(fid)
    across = min(PAIRS_ACROSS if sums.phases == 2 else 2 * PAIRS_ACROSS, len(channels))
    figure, columns = _panels(math.ceil(len(channels) / across), across * sums.phases)
    scale = colour_scale(map_limit(sums))
    for number, panel in enumerate(columns.reshape(-1, sums.phases)):
        for phase, axes in enumerate(panel):
            if number < len(channels):
                _draw_channel(axes, sums, (channels[number], fid, phase), scale)
            else:
                axes.set_visible(False)
    for axes in columns[:, 0]:
        axes.set_ylabel("y (pix)", fontsize=9, color=DARK)
        axes.tick_params(labelleft=True)
    _label_lowest(columns)
    height = figure.get_figheight()
    place = figure.add_axes((0.25, 0.5 / height, 0.5, 0.14 / height))
    colour_bar(figure, scale, [], _bar_label(sums), place)
    return figure


def _panels(rows: int, columns: int) -> tuple[Figure, Any]:
    """Square panels set out by hand: matplotlib's own layout takes minutes for hundreds of them."""
    across, down = _GAP_INCH
    side = min((WIDTH_INCH - _LEFT_INCH - 0.12 + across) / columns - across, _WIDEST_INCH)
    width, height = columns * (side + across) - across, rows * (side + down) - down
    figure = new_figure(height + _TOP_INCH + _BOTTOM_INCH, layout=None)
    total = figure.get_figheight()
    figure.subplots_adjust(
        _LEFT_INCH / WIDTH_INCH, _BOTTOM_INCH / total, (_LEFT_INCH + width) / WIDTH_INCH, 1.0 - _TOP_INCH / total,
        across / side, down / side,
    )  # fmt: skip
    return figure, figure.subplots(rows, columns, squeeze=False)  # shared axes would tell each other of every change


def _label_lowest(panels: Any) -> None:
    for column in panels.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        if lowest is column[-1]:
            lowest.set_xlabel("x (pix)", fontsize=9, color=DARK)


def _draw_channel(axes: Axes, sums: Sums, which: tuple[int, int, int], scale: Scale) -> None:
    rcid, fid, phase = which
    width, height = QUADRANT_SHAPE_PIX
    cells = mean_map(sums.maps[rcid, fid][phase], sums.bins, coarse_factor(sums))
    axes.imshow(np.ma.masked_invalid(cells), extent=(0.5, width + 0.5, 0.5, height + 0.5), origin="lower",
                cmap=scale.cmap, norm=scale.norm, interpolation="nearest")  # fmt: skip
    name = f"rc {rcid}: c{rcid // 4 + 1:02d} q{rcid % 4 + 1}"
    title = f"{name} before" if sums.phases == 2 and phase == 0 else "after" if phase else name
    axes.set_title(title, fontsize=8, color=DARK, pad=3)
    axes.set_xticks([1000, 2000, 3000])
    axes.set_yticks([1000, 2000, 3000])
    axes.tick_params(direction="in", labelsize=7.5, color=GREY, labelcolor=DARK, labelleft=False, labelbottom=False)
    for side in axes.spines.values():
        side.set_color(GREY)
