"""Lightcurves as a picture: all bands, flagged epochs marked, by time or folded.

Only objects of matplotlib are used, never pyplot, so that a plot neither needs nor leaves behind any global state.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoMinorLocator, MultipleLocator

from ztfmatch.errors import ConfigError
from ztfmatch.kernels.calibration import BAD_EXPOSURE
from ztfmatch.kernels.sphere import Floats, unit_vectors
from ztfmatch.survey import FILTER_CODES

BAND_COLOURS: Final = {1: "#009E73", 2: "#B2182B", 3: "#E69F00"}
"""By fid; told apart with normal and with colour-deficient vision (CIELAB distance > 30 in each)."""

PHASE_ZERO_HMJD: Final = 58000.0
"""Where phase is 0, the same in every plot."""

MAX_LEGEND_CURVES: Final = 8
_MARKERS: Final = "osD^vPph"
_GREY, _DARK = "#7A7A7A", "#222222"
_MIN_SPAN_MAG = 0.2
_ENOUGH_CLEAN = 5
_MJD_ZERO = np.datetime64("1858-11-17", "s")
_DATE_STEPS: Final = {"m": (1, 5, 15, 30, 60, 180, 360), "D": (1, 2, 5, 10), "M": (1, 2, 3, 6), "Y": (1, 2, 5, 10, 50)}
"""Between dates on the axis, by numpy's unit."""

_NOTES: Final = (
    ("o", "none", "flagged: bad exposure"),
    ("x", "none", "flagged: pixels or edge"),
    ("^", _GREY, "beyond the axis"),
)
"""Marker, face and text in the legend of what is not an ordinary epoch."""


@dataclass(frozen=True)
class PlotOptions:
    """How to draw.

    Parameters
    ----------
    title : str, optional
        Heads the picture; the position moves to the line below.
    period : float, optional
        In days: fold, and show two cycles.
    dpi : int
        Pixels per inch.
    size : tuple of float
        Width and height in inches.

    Raises
    ------
    ConfigError
        If a number is outside its range.
    """

    title: str | None = None
    period: float | None = None
    dpi: int = 150
    size: tuple[float, float] = (11.0, 6.0)

    def __post_init__(self) -> None:
        if self.period is not None and not 0.0 < self.period < math.inf:
            raise ConfigError(f"period {self.period} day: expected a positive number")
        if not 20 <= self.dpi <= 1200:
            raise ConfigError(f"dpi {self.dpi} is outside 20..1200")
        if not (5.0 <= self.size[0] <= 40.0 and 4.0 <= self.size[1] <= 40.0):
            raise ConfigError(f"size {self.size}: expected a width of 5 to 40 and a height of 4 to 40 inches")


@dataclass(frozen=True)
class _Curve:
    """Epochs of one object that have a magnitude, by time."""

    objectid: int
    unit: tuple[int, int, int]
    hmjd: Floats
    mag: Floats
    magerr: Floats
    kind: npt.NDArray[np.int64]

    @property
    def fid(self) -> int:
        return self.unit[0]

    @property
    def colour(self) -> str:
        return BAND_COLOURS.get(self.fid, _GREY)

    @property
    def label(self) -> str:
        fid, field, rcid = self.unit
        return f"{_band(fid)} {field} c{rcid // 4 + 1:02d} q{rcid % 4 + 1}"


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
    suffix = Path(path).suffix.lower()
    metadata = {".png": {"Software": "ztfmatch"}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(suffix)
    if metadata is None:
        raise ConfigError(f"cannot draw to {path}: expected a name that ends in .png, .pdf or .svg")
    figure = _figure(epochs, options)
    buffer = io.BytesIO()
    # matplotlib takes this setting from nowhere else; without it the ids in an SVG are random.
    with mpl.rc_context({"svg.hashsalt": "ztfmatch"} if suffix == ".svg" else {}):
        figure.savefig(buffer, format=suffix[1:], dpi=options.dpi, metadata=metadata)
    Path(path).write_bytes(buffer.getvalue())


def _figure(epochs: pa.Table, options: PlotOptions) -> Figure:
    curves = _curves(epochs)
    if not curves:
        without = f": none of {epochs.num_rows} has a magnitude" if epochs.num_rows else ""
        raise ConfigError(f"no epochs to plot{without}; widen the selection")
    width = options.size[0]
    figure = Figure(figsize=options.size, dpi=options.dpi, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    limits = _magnitude_limits(curves)
    axes.set_ylim(limits[1], limits[0])
    _style(axes)
    if options.period is None:
        _time_axis(axes, curves, max(3, int(0.65 * width)))
    else:
        _phase_axis(axes, options.period)
    shapes = _shapes(curves)
    for curve in curves:
        _draw(axes, curve, shapes[curve.objectid], _marker_size(curves), options.period)
    n_outside = sum(_draw_outside(axes, curve, limits, options.period) for curve in curves)
    _legend(figure, _handles(curves, shapes, n_outside), width)
    _title(figure, axes, _lines(epochs, curves, options.title), width)
    return figure


def _curves(epochs: pa.Table) -> list[_Curve]:
    """One curve per object, by band, field, channel and objectid."""
    columns = {name: epochs[name].to_numpy() for name in ("objectid", "fid", "field", "rcid", "hmjd", "catflags")}
    for name in ("mag", "magerr"):
        columns[name] = epochs[name].cast(pa.float64()).to_numpy()
    usable = np.isfinite(columns["mag"]) & np.isfinite(columns["hmjd"])
    columns = {name: values[usable] for name, values in columns.items()}
    order = np.lexsort([columns[name] for name in ("hmjd", "objectid", "rcid", "field", "fid")])
    columns = {name: values[order] for name, values in columns.items()}
    starts = np.flatnonzero(np.diff(columns["objectid"])) + 1
    parts = np.split(np.arange(len(order)), starts)
    return [_curve({name: values[part] for name, values in columns.items()}) for part in parts if len(part)]


def _curve(rows: dict[str, Any]) -> _Curve:
    flags = rows["catflags"].astype(np.int64)
    # 65535 is an edge source: all bits set, so it counts as a flag on pixels.
    kind = np.where(flags == 0, 0, np.where(flags == BAD_EXPOSURE, 1, 2))
    unit = (int(rows["fid"][0]), int(rows["field"][0]), int(rows["rcid"][0]))
    return _Curve(int(rows["objectid"][0]), unit, rows["hmjd"], rows["mag"], rows["magerr"], kind)


def _band(fid: int) -> str:
    return FILTER_CODES[fid][1:] if fid in FILTER_CODES else f"fid {fid}"


def _magnitude_limits(curves: Sequence[_Curve]) -> tuple[float, float]:
    """Bright and faint end of the axis: what is clean and not wildly off, with a margin.

    The percentiles 0.5 and 99.5 of each curve, so that a curve of few epochs counts as much as one of many, widened by
    their own span to keep outbursts and eclipses, then cut to the epochs there are, flagged ones if they are near.
    """
    good = [_trusted(curve) for curve in curves]
    ends = np.array([np.percentile(mags, [0.5, 99.5]) for mags in good])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    reach = max(high - low, 0.5)
    inside = np.concatenate(good)
    inside = inside[(inside >= low - reach) & (inside <= high + reach)]
    low, high = inside.min(), inside.max()
    reach = max(0.25 * (high - low), _MIN_SPAN_MAG / 2)
    every = np.concatenate([curve.mag for curve in curves])
    inside = every[(every >= low - reach) & (every <= high + reach)]
    middle, half = (inside.min() + inside.max()) / 2, max(0.56 * np.ptp(inside), _MIN_SPAN_MAG / 2)
    return float(middle - half), float(middle + half)


def _trusted(curve: _Curve) -> Floats:
    clean = curve.kind == 0
    return curve.mag[clean] if clean.sum() >= _ENOUGH_CLEAN else curve.mag


def _shapes(curves: Sequence[_Curve]) -> dict[int, str]:
    """Marker by objectid: of its band, or where a band has several curves of its field and channel, or a circle."""
    if len(curves) > MAX_LEGEND_CURVES:
        return {curve.objectid: "o" for curve in curves}
    seen: Counter[tuple[int, int, int]] = Counter()
    keys: dict[int, tuple[int, ...]] = {}
    for curve in curves:
        keys[curve.objectid] = (*curve.unit[1:], seen[curve.unit])
        seen[curve.unit] += 1
    if len({curve.fid for curve in curves}) == len(curves):
        keys = {curve.objectid: (curve.fid,) for curve in curves}
    shape = dict(zip(sorted(set(keys.values())), _MARKERS, strict=False))
    return {objectid: shape[key] for objectid, key in keys.items()}


def _style(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.grid(True, color="#E4E4E4", linewidth=0.8)
    axes.set_ylabel("Magnitude (AB)", fontsize=13, color=_DARK)
    axes.yaxis.set_minor_locator(AutoMinorLocator())
    axes.xaxis.set_minor_locator(AutoMinorLocator())
    for side in axes.spines.values():
        side.set_color(_GREY)
    axes.tick_params(which="both", direction="in", right=True, color=_GREY, labelcolor=_DARK, labelsize=11)
    axes.tick_params(which="major", length=6)


def _time_axis(axes: Axes, curves: Sequence[_Curve], n_dates: int) -> None:
    """HMJD below, calendar dates above; a heliocentric time differs from the observatory's by 8.3 minutes at most."""
    first, last = min(c.hmjd[0] for c in curves), max(c.hmjd[-1] for c in curves)
    margin = max(0.03 * (last - first), 0.02 if last > first else 0.5)
    axes.set_xlim(first - margin, last + margin)
    axes.set_xlabel("HMJD (day)", fontsize=13, color=_DARK)
    axes.ticklabel_format(axis="x", useOffset=False, style="plain")
    ticks, labels = _calendar(first - margin, last + margin, n_dates)
    calendar = axes.secondary_xaxis("top")
    calendar.set_ticks(ticks, labels)
    calendar.set_xlabel("Date (UTC)", fontsize=10, color=_GREY)
    calendar.tick_params(direction="in", color=_GREY, labelcolor=_GREY, labelsize=10, length=6)
    calendar.spines["top"].set_color(_GREY)


def _calendar(first: float, last: float, most: int) -> tuple[list[float], list[str]]:
    """Round dates between two MJDs, in the finest steps that need no more than ``most`` of them, and their names."""
    start, stop = (_MJD_ZERO + np.timedelta64(round(mjd * 86400.0), "s") for mjd in (first, last))
    for unit, step in ((unit, step) for unit, steps in _DATE_STEPS.items() for step in steps):
        low, high = (int(time.astype(f"datetime64[{unit}]").astype(np.int64)) // step for time in (start, stop))
        if high - low <= most:
            break
    times = (np.arange(low + 1, high + 1) * step).astype(f"datetime64[{unit}]")
    mjd = (times.astype("datetime64[s]") - _MJD_ZERO) / np.timedelta64(86400, "s")
    return mjd.tolist(), [str(time).replace("T", " ") for time in times]


def _phase_axis(axes: Axes, period: float) -> None:
    axes.set_xlim(0.0, 2.0)
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.tick_params(which="both", top=True)
    axes.set_xlabel(f"Phase (period {period:.10g} day, zero at HMJD {PHASE_ZERO_HMJD:.0f})", fontsize=13, color=_DARK)


def _abscissa(hmjd: Floats, period: float | None) -> tuple[Floats, int]:
    """Where epochs are drawn, and how many times over."""
    if period is None:
        return hmjd, 1
    phase = (hmjd - PHASE_ZERO_HMJD) / period % 1.0
    return np.concatenate([phase, phase + 1.0]), 2


def _draw(axes: Axes, curve: _Curve, shape: str, size: float, period: float | None) -> None:
    """Clean epochs on top, filled and edged in white; the others pale."""
    for kind in np.unique(curve.kind).tolist():
        chosen = curve.kind == kind
        x, times = _abscissa(curve.hmjd[chosen], period)
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


def _marker_size(curves: Sequence[_Curve]) -> float:
    """In points: smaller the more epochs there are."""
    return float(np.clip(10.8 - 2.0 * math.log10(sum(len(curve.hmjd) for curve in curves)), 3.2, 7.0))


def _draw_outside(axes: Axes, curve: _Curve, limits: tuple[float, float], period: float | None) -> int:
    """Arrows at the edge for epochs beyond the magnitude axis; how many there are."""
    edges = ("^", curve.mag < limits[0], 0.98), ("v", curve.mag > limits[1], 0.02)
    for marker, chosen, height in edges:
        x, _ = _abscissa(curve.hmjd[chosen], period)
        if len(x):
            style: dict[str, Any] = {"color": curve.colour, "markersize": 6, "alpha": 0.7, "zorder": 4}
            axes.plot(x, np.full(len(x), height), marker, transform=axes.get_xaxis_transform(), **style)
    return int(sum(chosen.sum() for _, chosen, _ in edges))


def _handles(curves: Sequence[_Curve], shapes: dict[int, str], n_outside: int) -> list[Line2D]:
    flagged = np.bincount(np.concatenate([curve.kind for curve in curves]), minlength=3)[1:].tolist()
    notes = zip(_NOTES, (*flagged, n_outside), strict=True)
    return _curve_handles(curves, shapes) + [
        _handle(marker, _GREY, f"{text} ({count})", face) for (marker, face, text), count in notes if count
    ]


def _curve_handles(curves: Sequence[_Curve], shapes: dict[int, str]) -> list[Line2D]:
    """One entry per band where that says all or the curves are many, else one per curve."""
    objects = Counter(curve.fid for curve in curves)
    epochs: Counter[int] = Counter()
    for curve in curves:
        epochs[curve.fid] += len(curve.hmjd)
    if max(objects.values()) == 1 or len(curves) > MAX_LEGEND_CURVES:
        looks = {curve.fid: (shapes[curve.objectid], curve.colour) for curve in curves}
        of_objects = {fid: f"{count} objects, " if count > 1 else "" for fid, count in objects.items()}
        names = {fid: f"{_band(fid)} ({of_objects[fid]}{_counted(epochs[fid], 'epoch')})" for fid in objects}
        return [_handle(*looks[fid], names[fid]) for fid in sorted(objects)]
    same = Counter(curve.label for curve in curves)
    sources = [f" #{curve.objectid % 10**8}" if same[curve.label] > 1 else "" for curve in curves]
    texts = [f"{c.label}{source} ({len(c.hmjd)})" for c, source in zip(curves, sources, strict=True)]
    return [_handle(shapes[c.objectid], c.colour, text) for c, text in zip(curves, texts, strict=True)]


def _handle(marker: str, colour: str, label: str, face: str | None = None) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, color=colour, mfc=face or colour, markersize=7, label=label)


def _legend(figure: Figure, handles: Sequence[Line2D], width_inch: float) -> None:
    fontsize = 11.0 * min(1.0, max(0.7, width_inch / 10.0))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(1, min(len(handles), int(4.0 * width_inch / fontsize))),
        frameon=False,
        fontsize=fontsize,
        labelcolor=_DARK,
        handletextpad=0.2,
        columnspacing=1.6,
    )


def _title(figure: Figure, axes: Axes, lines: Sequence[str], width_inch: float) -> None:
    """A bold line, and smaller ones below it; flush with the axes."""
    shrink = min(1.0, (width_inch - 1.0) / 10.0)
    head = figure.suptitle(lines[0], fontsize=16 * shrink, fontweight="bold", color=_DARK, ha="left")
    rest = axes.set_title("\n".join(lines[1:]), fontsize=11 * shrink, color=_GREY, loc="left", pad=8)
    for text in (head, rest):
        text.set_parse_math(False)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    head.set_x(axes.get_position().x0)


def _lines(epochs: pa.Table, curves: Sequence[_Curve], title: str | None) -> list[str]:
    ids = [curve.objectid for curve in curves]
    named = "objectid " + ", ".join(map(str, ids)) if len(ids) <= 3 else f"{len(ids)} objects"
    n_without = epochs.num_rows - sum(len(curve.hmjd) for curve in curves)
    note = f"  |  {_counted(n_without, 'epoch')} without magnitude not shown" if n_without else ""
    return ([] if title is None else [title]) + [_position(epochs), named + note]


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _position(epochs: pa.Table) -> str:
    """Mean direction of the epochs, in degrees and sexagesimal."""
    mean = unit_vectors(epochs["ra"].to_numpy(), epochs["dec"].to_numpy()).mean(axis=0)
    ra = round(math.degrees(math.atan2(mean[1], mean[0])), 6) % 360.0
    dec = math.degrees(math.atan2(mean[2], math.hypot(mean[0], mean[1])))
    return f"RA {round(ra, 5) % 360.0:.5f}  Dec {dec:+.5f}  (ICRS)   {_sexagesimal(ra, dec)}"


def _sexagesimal(ra: float, dec: float) -> str:
    """``HH:MM:SS.ss ±DD:MM:SS.s``."""
    minutes, centiseconds = divmod(round(ra * 24000.0) % (24 * 360000), 6000)
    arcmin, decisec = divmod(round(abs(dec) * 36000.0), 600)
    right = f"{minutes // 60:02d}:{minutes % 60:02d}:{centiseconds / 100:05.2f}"
    return f"{right} {'-' if dec < 0 else '+'}{arcmin // 60:02d}:{arcmin % 60:02d}:{decisec / 10:04.1f}"
