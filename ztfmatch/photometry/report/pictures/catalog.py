"""Residuals of one catalog relative to PS1, before and after corrections: two maps, and their histogram."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.photometry.catalogresiduals import CatalogResiduals
from ztfmatch.photometry.kernels.residuals import group_medians
from ztfmatch.photometry.report.numbers import MMAG, STARS_PER_CELL, robust_rms
from ztfmatch.photometry.report.pictures.style import (
    AFTER_COLOUR,
    BEFORE_COLOUR,
    DARK,
    Scale,
    colour_bar,
    colour_scale,
    new_figure,
    nice_limit,
    signed,
    style,
)

_MOST_CELLS: Final = 20
"""Along x and y."""
_BINS: Final = 40


def draw_catalog(stars: CatalogResiduals, name: str) -> Figure:
    """Maps of median residuals over the quadrant, on one scale, and the histogram of both."""
    cells = int(np.clip(np.sqrt(len(stars.x) / STARS_PER_CELL), 1, _MOST_CELLS))
    maps = [_map(stars, values, cells) for values in (stars.before, stars.after)]
    scale = colour_scale(nice_limit(maps[0].ravel(), 5.0))
    figure = new_figure(4.6)
    panels = figure.subplots(1, 3, width_ratios=(1.0, 1.0, 1.25))
    figure.suptitle(name, fontsize=10, color=DARK)
    for axes, cell, title in zip(panels, maps, ("before", "after"), strict=False):
        _draw_map(axes, cell, title, scale)
    panels[0].set_ylabel("y (pix)", fontsize=10.5, color=DARK)
    panels[1].tick_params(labelleft=False)
    colour_bar(figure, scale, [panels[0], panels[1]], "median of observed \N{MINUS SIGN} PS1 (mmag); grey: no star")
    _draw_histogram(panels[2], stars)
    return figure


def _map(stars: CatalogResiduals, values: Floats, cells: int) -> Floats:
    """Median residual by cell, mmag; rows are y. A mean would show a star that varies, among the ten of a cell."""
    width, height = QUADRANT_SHAPE_PIX
    column, row = ((at - 0.5) * cells / n for at, n in ((stars.x, width), (stars.y, height)))
    place = np.clip(row, 0, cells - 1).astype(np.int64) * cells + np.clip(column, 0, cells - 1).astype(np.int64)
    medians = np.full(cells * cells, np.nan)
    medians[place] = MMAG * group_medians(values, place)
    return medians.reshape(cells, cells)


def _draw_map(axes: Axes, cells: Floats, title: str, scale: Scale) -> None:
    width, height = QUADRANT_SHAPE_PIX
    style(axes, "x (pix)")
    axes.grid(visible=False)
    axes.imshow(np.ma.masked_invalid(cells), extent=(0.5, width + 0.5, 0.5, height + 0.5), origin="lower",
                cmap=scale.cmap, norm=scale.norm, interpolation="nearest")  # fmt: skip
    axes.set_xticks([1000, 2000, 3000])
    axes.set_yticks([1000, 2000, 3000])
    axes.set_title(title, fontsize=11, color=DARK)


def _draw_histogram(axes: Axes, stars: CatalogResiduals) -> None:
    style(axes, "observed \N{MINUS SIGN} PS1 (mmag)", "stars")
    both = [("before", stars.before, BEFORE_COLOUR), ("after", stars.after, AFTER_COLOUR)]
    spread = max(abs(float(np.median(values))) + 4.0 * robust_rms(values) for _, values, _ in both)
    limit = nice_limit(np.array([MMAG * spread]), 10.0, 1.0)
    edges = np.linspace(-limit, limit, _BINS + 1)
    axes.axvline(0.0, color=DARK, linewidth=0.9)
    for name, values, colour in both:
        middle, rms = MMAG * float(np.median(values)), MMAG * robust_rms(values)
        counts = np.histogram(np.clip(MMAG * values, -limit, limit), edges)[0]
        axes.stairs(counts, edges, color=colour, linewidth=1.8, label=f"{name}: {signed(middle)}, RMS {rms:.1f}")
    axes.set_xlim(-limit, limit)
    axes.set_ylim(0.0, 1.3 * axes.get_ylim()[1])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{len(stars.x):,} stars", fontsize=11, color=DARK)
    axes.legend(loc="upper center", fontsize=9, framealpha=0.8, edgecolor="none", labelcolor=DARK)
