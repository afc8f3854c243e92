"""Plot lightcurves: all bands, flagged epochs marked, against time or phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Keywords
from ztfmatch.plot.axes import DARK, GREY, abscissa, own_axes, phase_axis, style_axes, time_axis
from ztfmatch.plot.curves import Curve, curves_of, magnitude_limits, marker_shapes, marker_size
from ztfmatch.plot.density import MOST_CURVES, draw_density
from ztfmatch.plot.files import metadata_of, save_figure
from ztfmatch.plot.legend import add_legend, add_title, handles_of, title_lines


@dataclass(frozen=True)
class PlotOptions:
    """How to draw.

    Raises
    ------
    ConfigError
        If a number is outside its range.
    """

    title: str | None = None
    """Heads the picture: what was asked for. By default the numbers of the objects do."""
    period: float | None = None
    """In days: fold, and show two cycles."""
    place: tuple[float, float] | None = None
    """What was asked for, in degrees: the title says how far from it objects are."""
    dpi: int = 150
    """Pixels per inch."""
    size: tuple[float, float] = (11.0, 6.0)
    """Width and height in inches."""

    def __post_init__(self) -> None:
        if self.period is not None and not 0.0 < self.period < math.inf:
            raise ConfigError(f"period {self.period} day: expected a positive number")
        if not 20 <= self.dpi <= 1200:
            raise ConfigError(f"dpi {self.dpi} is outside 20..1200")
        if not (5.0 <= self.size[0] <= 40.0 and 4.0 <= self.size[1] <= 40.0):
            raise ConfigError(f"size {self.size}: expected a width of 5 to 40 and a height of 4 to 40 inches")


def draw_lightcurves(epochs: pa.Table, options: PlotOptions = PlotOptions(), axes: Axes | None = None) -> Axes:
    """Draw lightcurves to axes.

    Parameters
    ----------
    epochs : pyarrow.Table
        As for :func:`plot_lightcurves`.
    options : PlotOptions
        How to draw; ``dpi`` and ``size`` are those of the figure that is made.
    axes : matplotlib.axes.Axes, optional
        With a legend and title of their own; by default new ones, of pyplot.

    Raises
    ------
    ConfigError
        If no epoch has a magnitude.
    """
    curves = _curves(epochs)
    if axes is None:
        axes = own_axes(options.size)
        _draw_all(axes.get_figure(root=True), axes, epochs, curves, options)  # type: ignore[arg-type]
        return axes
    handles = _draw_axes(axes, curves, options)
    if handles:
        place: Keywords = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 3}
        axes.legend(handles=handles, fontsize=8, frameon=False, labelcolor=DARK, **place)
    said = "\n".join(title_lines(epochs, curves, options))
    axes.set_title(said, fontsize=9, color=GREY, loc="left").set_parse_math(False)
    return axes


def plot_lightcurves(epochs: pa.Table, path: Path, options: PlotOptions = PlotOptions()) -> None:
    """Draw lightcurves to a PNG, PDF or SVG file; the same epochs give the same bytes.

    Parameters
    ----------
    epochs : pyarrow.Table
        ``objectid``, ``fid``, ``field``, ``rcid``, ``hmjd`` (day), ``mag``, ``magerr``, ``catflags``, ``ra``, ``dec``
        (degrees, ICRS) of any number of objects, in any order. Other columns are ignored.
    path : Path
        Its suffix tells the format.
    options : PlotOptions
        How to draw.

    Raises
    ------
    ConfigError
        If no epoch has a magnitude, or the suffix is another.
    """
    metadata_of(path)
    save_figure(_figure(epochs, options), path, options.dpi)


def _figure(epochs: pa.Table, options: PlotOptions) -> Figure:
    curves = _curves(epochs)
    figure = Figure(figsize=options.size, dpi=options.dpi, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    _draw_all(figure, figure.add_subplot(), epochs, curves, options)
    return figure


def _curves(epochs: pa.Table) -> list[Curve]:
    curves = curves_of(epochs)
    if not curves:
        without = f": none of {epochs.num_rows} has a magnitude" if epochs.num_rows else ""
        raise ConfigError(f"no epochs to plot{without}; widen the selection")
    return curves


def _draw_all(figure: Figure, axes: Axes, epochs: pa.Table, curves: Sequence[Curve], options: PlotOptions) -> None:
    """Draw curves, with the legend below and the title above."""
    width = options.size[0]
    if handles := _draw_axes(axes, curves, options):
        add_legend(figure, handles, width)
    add_title(figure, axes, title_lines(epochs, curves, options), width)


def _draw_axes(axes: Axes, curves: Sequence[Curve], options: PlotOptions) -> list[Line2D]:
    """Draw curves; entries of the legend, none where it is their density that is drawn."""
    width = options.size[0]
    limits = magnitude_limits(curves)
    axes.set_ylim(limits[1], limits[0])
    style_axes(axes)
    if options.period is None:
        first, last = min(curve.hmjd[0] for curve in curves), max(curve.hmjd[-1] for curve in curves)
        time_axis(axes, first, last, max(3, int(0.65 * width)))
    else:
        phase_axis(axes, options.period)
    if len(curves) > MOST_CURVES:
        draw_density(axes, curves, limits, options.period)
        return []
    shapes = marker_shapes(curves)
    for curve in curves:
        _draw(axes, curve, shapes[curve.objectid], marker_size(curves), options.period)
    n_outside = sum(_draw_outside(axes, curve, limits, options.period) for curve in curves)
    return handles_of(curves, shapes, n_outside)


def _draw(axes: Axes, curve: Curve, shape: str, size: float, period: float | None) -> None:
    """Clean epochs on top, filled and edged in white; the others pale."""
    for kind in np.unique(curve.kind).tolist():
        chosen = curve.kind == kind
        x, times = abscissa(curve.hmjd[chosen], period)
        axes.errorbar(
            x,
            np.tile(curve.mag[chosen], times),
            yerr=np.tile(np.nan_to_num(curve.magerr[chosen]), times),
            fmt="x" if kind == 2 else shape,
            markersize=size,
            color=curve.colour,
            markerfacecolor="none" if kind else curve.colour,
            markeredgecolor=curve.colour if kind else "white",
            markeredgewidth=1.1 if kind else 0.4,
            elinewidth=0.9,
            alpha=0.45 if kind else 0.9,
            zorder=2 if kind else 3,
        )


def _draw_outside(axes: Axes, curve: Curve, limits: tuple[float, float], period: float | None) -> int:
    """Arrows at the edge for epochs beyond the magnitude axis; how many there are."""
    edges = ("^", curve.mag < limits[0], 0.98), ("v", curve.mag > limits[1], 0.02)
    for marker, chosen, height in edges:
        x, _ = abscissa(curve.hmjd[chosen], period)
        if len(x):
            style: Keywords = {"color": curve.colour, "markersize": 6, "alpha": 0.7, "zorder": 4}
            axes.plot(x, np.full(len(x), height), marker, transform=axes.get_xaxis_transform(), **style)
    return int(sum(chosen.sum() for _, chosen, _ in edges))
