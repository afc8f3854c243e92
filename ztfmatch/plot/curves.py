"""Lightcurves to plot: epochs by object, style, and magnitude range."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Arrays, Ints
from ztfmatch.core.kernels.calibration import BAD_EXPOSURE
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import FILTER_CODES
from ztfmatch.plot.axes import GREY

BAND_COLOURS: Final = {1: "#009E73", 2: "#B2182B", 3: "#E69F00"}
"""By fid; told apart with normal and with colour-deficient vision (CIELAB distance > 30 in each)."""

MAX_LEGEND_CURVES: Final = 8

_MARKERS: Final = "osD^vPph"
_MIN_SPAN_MAG = 0.2
_LONGEST_BAR_MAG = 2.0
"""Longer error bars do not set the axis."""
_ENOUGH_CLEAN = 5


@dataclass(frozen=True)
class Curve:
    """Epochs of one object that have a magnitude, by time."""

    objectid: int
    unit: tuple[int, int, int]
    hmjd: Floats
    mag: Floats
    magerr: Floats
    kind: Ints

    @property
    def fid(self) -> int:
        """Filter id."""
        return self.unit[0]

    @property
    def colour(self) -> str:
        """Of its band."""
        return BAND_COLOURS.get(self.fid, GREY)

    @property
    def label(self) -> str:
        """Band, field and channel; of a star, whose epochs are of several, the band."""
        fid, field, rcid = self.unit
        if not field:
            return band(fid)
        return f"{band(fid)} {field} c{rcid // 4 + 1:02d} q{rcid % 4 + 1}"


def curves_of(epochs: pa.Table) -> list[Curve]:
    """One curve per object, by band, field, channel and objectid; of epochs with ``starid`` one per star and band."""
    if "starid" in epochs.column_names:
        epochs = _by_star(epochs)
    columns = {name: epochs[name].to_numpy() for name in ("objectid", "fid", "field", "rcid", "hmjd", "catflags")}
    for name in ("mag", "magerr"):
        columns[name] = epochs[name].cast(pa.float64()).to_numpy().copy()
    columns["magerr"][np.isinf(columns["magerr"])] = np.nan
    usable = np.isfinite(columns["mag"]) & np.isfinite(columns["hmjd"])
    columns = {name: values[usable] for name, values in columns.items()}
    order = np.lexsort([columns[name] for name in ("hmjd", "objectid", "rcid", "field", "fid")])
    columns = {name: values[order] for name, values in columns.items()}
    starts = np.flatnonzero((np.diff(columns["objectid"]) != 0) | (np.diff(columns["fid"]) != 0)) + 1
    parts = np.split(np.arange(len(order)), starts)
    return [_curve({name: values[part] for name, values in columns.items()}) for part in parts if len(part)]


def _by_star(epochs: pa.Table) -> pa.Table:
    """Epochs as if a star were an object, of no field and channel."""
    nowhere = pa.array(np.zeros(epochs.num_rows, np.int16))
    for name, values in (("objectid", epochs["starid"]), ("field", nowhere), ("rcid", nowhere)):
        epochs = epochs.set_column(epochs.schema.get_field_index(name), name, values)
    return epochs


def _curve(rows: Arrays) -> Curve:
    flags = rows["catflags"].astype(np.int64)
    # 65535 is an edge source: all bits set, so it counts as a flag on pixels.
    kind = np.where(flags == 0, 0, np.where(flags == BAD_EXPOSURE, 1, 2))
    unit = (int(rows["fid"][0]), int(rows["field"][0]), int(rows["rcid"][0]))
    return Curve(int(rows["objectid"][0]), unit, rows["hmjd"], rows["mag"], rows["magerr"], kind)


def band(fid: int) -> str:
    """Name of a filter's band."""
    return FILTER_CODES[fid][1:] if fid in FILTER_CODES else f"fid {fid}"


def magnitude_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Bright and faint end of the axis: what is clean and not wildly off, with a margin.

    The percentiles 0.5 and 99.5 of each curve, so that a curve of few epochs counts as much as one of many, widened by
    their own span to keep outbursts and eclipses, then cut to the epochs there are, flagged ones if they are near.
    """
    good = [trusted(curve) for curve in curves]
    ends = np.array([np.percentile(mags, [0.5, 99.5]) for mags in good])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    reach = max(high - low, 0.5)
    inside = np.concatenate(good)
    inside = inside[(inside >= low - reach) & (inside <= high + reach)]
    low, high = inside.min(), inside.max()
    reach = max(0.25 * (high - low), _MIN_SPAN_MAG / 2)
    every = np.concatenate([curve.mag for curve in curves])
    inside = every[(every >= low - reach) & (every <= high + reach)]
    bright, faint = _error_ends(curves, float(inside.min()), float(inside.max()))
    middle, half = (bright + faint) / 2, max(0.54 * (faint - bright), _MIN_SPAN_MAG / 2)
    return middle - half, middle + half


def _error_ends(curves: Sequence[Curve], low: float, high: float) -> tuple[float, float]:
    """Bright and faint end of what is between two magnitudes, with the error bars of the epochs that set the axis."""
    for curve in curves:
        shown = (curve.mag >= low) & (curve.mag <= high)
        clean = shown & (curve.kind == 0)
        shown = clean if clean.any() else shown
        if shown.any():
            error = np.minimum(np.nan_to_num(curve.magerr[shown]), _LONGEST_BAR_MAG)
            low = min(low, float((curve.mag[shown] - error).min()))
            high = max(high, float((curve.mag[shown] + error).max()))
    return low, high


def trusted(curve: Curve) -> Floats:
    """Magnitudes that set the axis: the clean ones, if there are enough."""
    clean = curve.kind == 0
    return curve.mag[clean] if clean.sum() >= _ENOUGH_CLEAN else curve.mag


def marker_shapes(curves: Sequence[Curve]) -> dict[int, str]:
    """Marker by objectid: of its band, or where a band has several curves of its field and channel, or a circle."""
    if len(curves) > MAX_LEGEND_CURVES:
        return {curve.objectid: "o" for curve in curves}
    seen: Counter[tuple[int, int, int]] = Counter()
    keys: dict[int, tuple[int, ...]] = {}
    stars = {curve.objectid: number for number, curve in enumerate(curves) if not curve.unit[1]}
    for curve in curves:
        keys[curve.objectid] = (*curve.unit[1:], stars.get(curve.objectid, seen[curve.unit]))
        seen[curve.unit] += 1
    if len({curve.objectid for curve in curves}) == 1:
        return {curves[0].objectid: _MARKERS[0]}
    if len({curve.fid for curve in curves}) == len(curves):
        keys = {curve.objectid: (curve.fid,) for curve in curves}
    shape = dict(zip(sorted(set(keys.values())), _MARKERS, strict=False))
    return {objectid: shape[key] for objectid, key in keys.items()}


def marker_size(curves: Sequence[Curve]) -> float:
    """In points: smaller the more epochs there are."""
    return float(np.clip(10.8 - 2.0 * math.log10(sum(len(curve.hmjd) for curve in curves)), 3.2, 7.0))


def counted(count: int, word: str) -> str:
    """Number and noun."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
