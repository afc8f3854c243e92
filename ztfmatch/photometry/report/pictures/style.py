"""Shared by all figures: size, colours, labels, and PNG bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Keywords

WIDTH_INCH: Final = 10.0
DPI: Final = 120
"""1,200 pixels wide."""

GREY, DARK, PALE = "#7A7A7A", "#222222", "#E4E4E4"
NO_DATA: Final = "#D9D9D9"
BEFORE_COLOUR, AFTER_COLOUR = "#D55E00", "#0072B2"
"""Told apart with colour-deficient vision too (Okabe and Ito)."""

DIVERGING: Final = "RdBu_r"
"""White at zero; red is too faint."""

DENSITY: Final = "Greys"
_STEPS: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
PHASE_TITLES: Final = ("before: without corrections", "after: with corrections, as stored")
ONLY_TITLE: Final = "as measured: the store has no corrections"


def new_figure(height_inch: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure as wide as the page."""
    figure = Figure(figsize=(WIDTH_INCH, height_inch), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": "ztfmatch"}, pil_kwargs={"optimize": True})
    return buffer.getvalue()


def phase_titles(phases: int, titles: Sequence[str] = ()) -> Sequence[str]:
    """Heads of the columns of a figure, unless there are others."""
    if titles:
        return titles
    return PHASE_TITLES if phases == 2 else (ONLY_TITLE,)


def style(axes: Axes, x: str = "", y: str = "") -> None:
    """Labels, a quiet grid, ticks inside."""
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=PALE, linewidth=0.7)
    axes.set_xlabel(x, fontsize=10.5, color=DARK)
    axes.set_ylabel(y, fontsize=10.5, color=DARK)
    for side in axes.spines.values():
        side.set_color(GREY)
    axes.tick_params(which="both", direction="in", top=True, right=True, color=GREY, labelcolor=DARK, labelsize=9.5)


def panel_text(axes: Axes, text: str) -> None:
    """Write a label in the upper left of the axes."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(
        0.015, 0.96, text, transform=axes.transAxes, va="top", ha="left", fontsize=9.5, color=DARK, bbox=box, zorder=6
    )


def signed(value: float) -> str:
    """A number with one decimal and its sign, as the field prints it."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")


def nice_limit(values: Floats, least: float = 1.0, fraction: float = 0.98) -> float:
    """Round number that most absolute values do not exceed."""
    known = np.abs(values[np.isfinite(values)])
    most = max(float(np.quantile(known, fraction)) if len(known) else least, least)
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in _STEPS if most <= step * power * (1.0 + 1e-9))


class Scale(NamedTuple):
    """How values become colours."""

    norm: Normalize
    cmap: Colormap


def colour_scale(limit: float) -> Scale:
    """Diverging colours centred on zero; cells without data grey."""
    return Scale(Normalize(-limit, limit), mpl.colormaps[DIVERGING].with_extremes(bad=NO_DATA))


def colour_bar(figure: Figure, scale: Scale, axes: Sequence[Axes], label: str, place: Axes | None = None) -> None:
    """One bar for several axes, below them or in a place of its own."""
    shape: Keywords = {"cax": place, "orientation": "horizontal"}
    if place is None:
        shape = {"ax": list(axes), "location": "bottom", "shrink": 0.5, "aspect": 40, "pad": 0.02}
    bar = figure.colorbar(ScalarMappable(*scale), extend="both", **shape)
    bar.set_label(label, fontsize=10.5, color=DARK)
    bar.ax.tick_params(labelsize=9.5, color=GREY, labelcolor=DARK)
