"""Map of the number of exposures over the sky in galactic coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import hpgeom
import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Ellipse
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.kernels.sphere import Floats, lonlats_of, unit_vectors
from ztfmatch.core.plain import Keywords
from ztfmatch.plot.axes import DARK, GREY
from ztfmatch.plot.files import metadata_of, save_figure
from ztfmatch.plot.footprint import Coverage, coverage_of
from ztfmatch.plot.projection import HAMMER_HALF_AXES, ICRS_TO_GALACTIC, from_hammer, hammer
from ztfmatch.plot.zoom import counts_in, draw_frame, frame_of

_SIZE_INCH: Final = (11.0, 6.6)
_IMAGE_SHAPE: Final = (1400, 2800)
"""Rows and columns of what is coloured: finer than the picture, which then shows gaps between CCDs as paler lines."""

_SMALL_IMAGE_SHAPE: Final = (500, 1000)

_UNCOVERED: Final = "#EFEFEF"
_COLOURS: Final = "viridis"
"""Of even lightness, told apart with colour-deficient vision too."""

_POLE_DEG, _EQUATOR_NAME_DEG = (122.93, 27.13), (33.0, -8.0)
"""The north celestial pole in galactic coordinates, and a place beside the celestial equator."""

_LOG_RANGE: Final = 20.0
"""From many exposures of a place to few; of wider ranges it is the logarithm that is coloured."""


@dataclass(frozen=True)
class CoverageOptions:
    """How to draw.

    Raises
    ------
    ConfigError
        If a number is outside its range.
    """

    title: str | None = None
    """Heads the picture."""
    dpi: int = 150
    """Pixels per inch."""
    zoom: bool = False
    """Show what was exposed alone, where that is a small part of the sky."""

    def __post_init__(self) -> None:
        if not 20 <= self.dpi <= 1200:
            raise ConfigError(f"dpi {self.dpi} is outside 20..1200")


def plot_coverage(exposures: pa.Table, path: Path, options: CoverageOptions = CoverageOptions()) -> Coverage:
    """Draw how often each place was exposed to a PNG, PDF or SVG file; the same exposures give the same bytes.

    Parameters
    ----------
    exposures : pyarrow.Table
        ``field`` and ``rcid``, a row a catalog, as ``snapshot.table("exposures")`` has; other columns are ignored.
    path : Path
        Its suffix tells the format.
    options : CoverageOptions
        How to draw.

    Returns
    -------
    Coverage
        What is drawn, by HEALPix pixel.

    Raises
    ------
    ConfigError
        If no exposure is of a field of the survey's grid, or the suffix is another.
    """
    metadata_of(path)
    coverage = coverage_of(exposures)
    save_figure(coverage_figure(coverage, options, exposures), path, options.dpi)
    return coverage


def coverage_figure(
    coverage: Coverage, options: CoverageOptions = CoverageOptions(), exposures: pa.Table | None = None
) -> Figure:
    """The figure of :func:`plot_coverage`; the exposures are needed where it zooms."""
    if not coverage.counts.any():
        raise ConfigError(f"nothing to draw: none of {coverage.unplaced} exposures is of a field of the survey's grid")
    figure = Figure(figsize=_SIZE_INCH, dpi=options.dpi, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    norm, extend = _norm(coverage)
    frame = frame_of(coverage, to_galactic) if options.zoom and exposures is not None else None
    if frame is not None and exposures is not None:
        look = (norm, mpl.colormaps[_COLOURS].with_extremes(bad=_UNCOVERED))
        image = draw_frame(axes, counts_in(frame, exposures, from_galactic), frame, look)
    else:
        shown = np.where(coverage.counts > 0, coverage.counts, np.nan)
        image = draw_map(axes, shown, coverage.order, norm)
    _colour_bar(figure, axes, image, extend)
    if options.title is not None:
        figure.suptitle(options.title, fontsize=15, fontweight="bold", color=DARK).set_parse_math(False)
    axes.set_title(_summary(coverage), fontsize=11, color=GREY, pad=4)
    return figure


def _colour_bar(figure: Figure, axes: Axes, image: AxesImage, extend: Literal["max", "neither"]) -> None:
    """Below the map, with round numbers."""
    shape: Keywords = {"location": "bottom", "shrink": 0.5, "aspect": 40, "pad": 0.02}
    if isinstance(image.norm, LogNorm):
        shape |= {"ticks": LogLocator(subs=(1.0, 2.0, 5.0)), "format": StrMethodFormatter("{x:,.0f}")}
    bar = figure.colorbar(image, ax=axes, extend=extend, **shape)
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.set_label("exposures", fontsize=11, color=DARK)
    bar.ax.tick_params(labelsize=10, color=GREY, labelcolor=DARK)


def _summary(coverage: Coverage) -> str:
    """What the picture shows, in figures."""
    covered = coverage.counts[coverage.counts > 0]
    unplaced = f", {coverage.unplaced:,} of unknown fields" if coverage.unplaced else ""
    area = f"{coverage.area_deg2:,.{0 if coverage.area_deg2 >= 10.0 else 2}f} square degrees"
    return f"{coverage.exposures:,} quadrant images{unplaced}; {area} exposed, {np.median(covered):.0f} times (median)"


def _norm(coverage: Coverage) -> tuple[Normalize, Literal["max", "neither"]]:
    """How exposures become colours, and whether places exceed the scale: the few most exposed do not set it."""
    covered = coverage.counts[coverage.counts > 0]
    low, high = (float(end) for end in np.percentile(covered, [0.5, 99.5]))
    norm = LogNorm(low, high) if high > _LOG_RANGE * low else Normalize(0.0, high)
    return norm, "max" if covered.max() > high else "neither"


def draw_map(axes: Axes, values: Floats, order: int, norm: Normalize, names: bool = True) -> AxesImage:
    """Draw values by HEALPix pixel, shape (12 * 4**order,), NESTED, ICRS, as a map of the sky in galactic coordinates.

    NaN is not drawn. Without ``names`` it is a small map: lines have no names, and the image is coarser.
    """
    _frame(axes)
    image = _image(axes, values, order, norm, _IMAGE_SHAPE if names else _SMALL_IMAGE_SHAPE)
    _graticule(axes, names)
    return image


def _image(axes: Axes, values: Floats, order: int, norm: Normalize, shape: tuple[int, int]) -> AxesImage:
    """Colour every point of the projection by the value at its place."""
    half_x, half_y = HAMMER_HALF_AXES
    rows, columns = shape
    y, x = np.meshgrid(_centres(half_y, rows), _centres(half_x, columns), indexing="ij")
    lon, lat, inside = from_hammer(-x, y)
    shown = np.full(x.shape, np.nan)
    shown[inside] = values[hpgeom.angle_to_pixel(2**order, *from_galactic(lon[inside], lat[inside]))]
    cmap = mpl.colormaps[_COLOURS].with_extremes(bad=(0.0, 0.0, 0.0, 0.0))
    extent = (-half_x, half_x, -half_y, half_y)
    return axes.imshow(shown, extent=extent, origin="lower", norm=norm, cmap=cmap, zorder=2)


def _centres(half: float, n: int) -> Floats:
    return half * (2.0 * np.arange(n) + 1.0 - n) / n


def from_galactic(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Right ascension and declination of galactic longitudes and latitudes, degrees, shape (N,)."""
    return lonlats_of(unit_vectors(lon, lat) @ ICRS_TO_GALACTIC)


def to_galactic(ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Galactic longitudes and latitudes of positions, degrees, shape (N,)."""
    return lonlats_of(unit_vectors(ra, dec) @ ICRS_TO_GALACTIC.T)


def _placed(lon: Floats, lat: Floats) -> Floats:
    """Points of the picture, shape (2, N): the galactic centre in the middle, longitude to the left."""
    x, y = hammer((lon + 180.0) % 360.0 - 180.0, lat).T
    return np.stack([-x, y])


def _frame(axes: Axes) -> None:
    half_x, half_y = HAMMER_HALF_AXES
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-1.04 * half_x, 1.04 * half_x)
    axes.set_ylim(-1.04 * half_y, 1.04 * half_y)
    whole = {"xy": (0.0, 0.0), "width": 2 * half_x, "height": 2 * half_y}
    axes.add_patch(Ellipse(**whole, facecolor=_UNCOVERED, edgecolor="none", zorder=1))
    axes.add_patch(Ellipse(**whole, facecolor="none", edgecolor=GREY, linewidth=1.0, zorder=4))


def _graticule(axes: Axes, names: bool) -> None:
    """Lines of latitude and longitude, the plane, the celestial equator and pole, and their names."""
    along = np.arange(-179.5, 180.0)
    faint: Keywords = {"color": "#B5B5B5", "linewidth": 0.5, "alpha": 0.8, "zorder": 3}
    for lat in range(-60, 90, 30):
        axes.plot(*_placed(along, np.full(360, float(lat))), **faint)
    for lon in range(-150, 180, 30):
        axes.plot(*_placed(np.full(360, float(lon)), along / 2.0), **faint)
    plane, equator = (along, np.zeros(360)), to_galactic(along, np.zeros(360))
    wide = 1.0 if names else 0.5
    for points, dashes in ((_placed(*plane), "-"), (_unbroken(_placed(*equator)), (0.0, (4.0, 3.0)))):
        axes.plot(*points, color=DARK, linewidth=2.6 * wide, zorder=3.1)
        axes.plot(*points, color="white", linewidth=1.4 * wide, linestyle=dashes, zorder=3.2)
    axes.plot(*_placed(*np.array(_POLE_DEG)[:, None]), "P", color="white", mec=DARK, ms=8 * wide, zorder=3.3)
    if names:
        _names(axes)


def _unbroken(points: Floats) -> Floats:
    """The same line, interrupted where it leaves the ellipse on one side and comes back on the other."""
    jumps = np.flatnonzero(np.hypot(*np.diff(points, axis=1)) > 1.0) + 1
    return np.insert(points, jumps, np.nan, axis=1)


def _names(axes: Axes) -> None:
    """Of the lines: latitudes outside the ellipse, longitudes along the plane."""
    for lat in range(-60, 90, 30):
        (x,), (y,) = _placed(np.array([179.999]), np.array([float(lat)]))
        text = f"{lat:+d}°".replace("-", "\N{MINUS SIGN}") if lat else "0°"
        axes.text(1.03 * x - 0.03, 1.03 * y, text, ha="right", va="center", fontsize=9.5, color=DARK)
    for lon in range(-120, 180, 60):
        _label(axes, f"{lon % 360}°", (float(lon), 0.0))
    _label(axes, "north celestial pole", (_POLE_DEG[0], _POLE_DEG[1] - 3.0))
    _label(axes, "galactic plane", (-30.0, 0.0))
    _label(axes, "celestial equator", _EQUATOR_NAME_DEG)


def _label(axes: Axes, text: str, place: tuple[float, float]) -> None:
    """A name below a place, degrees."""
    (x,), (y,) = _placed(np.array([place[0]]), np.array([place[1]]))
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    axes.text(x, y - 0.04, text, ha="center", va="top", fontsize=9, color=DARK, zorder=5, bbox=box)
