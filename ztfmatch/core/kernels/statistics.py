"""Statistics of many lightcurves in one call; every formula is in :mod:`ztfmatch.core.schema.statistics`.

An object's results depend on its own epochs in their order and on nothing else: sums are made in float64 from
the first epoch to the last, so that they are the same to the last bit however objects are divided into calls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Array, Floats, Ints, Mask, Singles
from ztfmatch.core.kernels import lightcurve, ranks
from ztfmatch.core.kernels.ranks import jit
from ztfmatch.core.schema.statistics import PERCENTILES, STANDARD_DEVIATIONS

Int32s = npt.NDArray[np.int32]
UInt16s = npt.NDArray[np.uint16]

COUNTS: Final = (
    *("nobs", "nobsrel", "ngoodobs", "ngoodobsrel", "nmedianbufferrange", "npairposslope"),
    *(
        f"n{name}meanbystd_{k}"
        for k in STANDARD_DEVIATIONS
        for name in ("above", "below", "consecabove", "consecbelow", "consecfrom")
    ),
)
"""Rows of the count output, int32, in the order in which they are computed."""

VALUES: Final = (
    *("astrometricrms", "uncalibmeanmag", "meanmag", "weightedmeanmag"),
    *("magrms", "skewness", "smallkurtosis"),
    *("lineartrend", "maxslope", "vonneumannratio"),
    *("chisq", "weightedmagrms", "stetsonj", "stetsonk"),
    *("medmagerr", "minmag", "maxmag", "medianmag", "medianabsdev", "con"),
    *(f"percentiles_{suffix}" for suffix, _ in PERCENTILES),
)
"""Rows of the value output, float32, in the order in which they are computed."""

EPOCH_COUNTS: Final = ("nobs", "ngoodobs")
"""Counts that need no kernel."""

# Rows at which blocks begin that one function gives together, in this order.
_EPOCHS: Final = COUNTS.index("nobs")
_BUFFER: Final = COUNTS.index("nmedianbufferrange")
_SLOPES: Final = COUNTS.index("npairposslope")
_BY_STD: Final = COUNTS.index("nabovemeanbystd_1")
_MEANS: Final = VALUES.index("astrometricrms")
_MOMENTS: Final = VALUES.index("magrms")
_SERIES: Final = VALUES.index("lineartrend")
_WEIGHTED: Final = VALUES.index("chisq")
_ORDER: Final = VALUES.index("medmagerr")
_PERCENTILES: Final = VALUES.index(f"percentiles_{PERCENTILES[0][0]}")

_PERCENTAGES: Final = tuple(percentage for _, percentage in PERCENTILES)
_BUFFER_RANGE: Final = 0.1
"""Part of the amplitude within which of the median points are not counted in nmedianbufferrange."""


@dataclass(frozen=True)
class Epochs:
    """Epochs of lightcurves, one lightcurve after the other, each in order of time; all of shape (N,)."""

    hmjd: Floats
    """Time in days."""
    mag: Singles
    magerr: Singles
    """Calibrated magnitude and its error; NaN where null."""
    catflags: UInt16s
    """0 is clean."""
    ra: Floats
    dec: Floats
    """Position in degrees."""
    psfflux: Singles
    """Flux in DN."""
    released: Mask
    """Whether the epoch belongs to the released lightcurve."""


_DTYPES: Final[dict[str, type[np.generic]]] = {
    "hmjd": np.float64,
    "mag": np.float32,
    "magerr": np.float32,
    "catflags": np.uint16,
    "ra": np.float64,
    "dec": np.float64,
    "psfflux": np.float32,
    "released": np.bool_,
}


def lightcurve_statistics(epochs: Epochs, offsets: Ints) -> dict[str, Array]:
    """Compute the statistics of each lightcurve.

    Parameters
    ----------
    epochs : Epochs
        Epochs of all objects; not modified. Arrays of another dtype or layout are copied first.
    offsets : int64 ndarray, shape (n_objects + 1,)
        The epochs of object k are ``offsets[k]:offsets[k + 1]``; they must be in order of hmjd.

    Returns
    -------
    dict of str to ndarray, shape (n_objects,)
        One array for each column of the ``statistics`` table but objectid and snapshot: float32 with NaN
        where the statistic is undefined, int32 for counts.

    Raises
    ------
    ValueError
        If the arrays differ in length, or offsets decrease or go beyond the epochs.
    """
    _check(epochs, offsets)
    counts = np.empty((len(COUNTS), len(offsets) - 1), np.int32)
    values = np.empty((len(VALUES), len(offsets) - 1), np.float32)
    columns = [_read_only(getattr(epochs, name), dtype) for name, dtype in _DTYPES.items()]
    _statistics(*columns, _read_only(offsets, np.int64), counts, values)
    return dict(zip(COUNTS, counts, strict=True)) | dict(zip(VALUES, values, strict=True))


def epoch_counts(mag: Singles, magerr: Singles, catflags: UInt16s, offsets: Ints) -> dict[str, Int32s]:
    """Only EPOCH_COUNTS of each lightcurve, as :func:`lightcurve_statistics` gives them; nothing is compiled.

    Parameters
    ----------
    mag, magerr, catflags : ndarray, shape (N,)
        As of Epochs.
    offsets : int64 ndarray, shape (n_objects + 1,)
    """
    good = (catflags == 0) & np.isfinite(mag) & np.isfinite(magerr)
    before = np.concatenate([[0], np.cumsum(good)])[offsets]
    return {name: np.diff(edges).astype(np.int32) for name, edges in zip(EPOCH_COUNTS, (offsets, before), strict=True)}


def _check(epochs: Epochs, offsets: Ints) -> None:
    """Raise ValueError unless the arrays fit together."""
    shapes = {name: np.shape(getattr(epochs, name)) for name in _DTYPES}
    if len(set(shapes.values())) != 1 or len(shapes["hmjd"]) != 1:
        raise ValueError(f"epochs must be 1-D arrays of one length, got shapes {shapes}")
    if np.ndim(offsets) != 1 or len(offsets) == 0:
        raise ValueError(f"offsets must be 1-D with n_objects + 1 numbers, got shape {np.shape(offsets)}")
    if offsets[0] < 0 or offsets[-1] > shapes["hmjd"][0] or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(
            f"offsets must not decrease and must stay within 0..{shapes['hmjd'][0]}, the number of epochs; "
            f"got {offsets[0]}..{offsets[-1]}"
        )


def _read_only(array: Array, dtype: type[np.generic]) -> Array:
    """Return a read-only view, as Arrow's arrays are: the kernel is compiled for one kind alone."""
    view = np.require(array, dtype, ["C", "A"]).view()
    view.setflags(write=False)
    return view


@jit(cache=True)  # what it calls is compiled into it and needs no cache of its own
def _statistics(
    hmjd: Floats,
    mag: Singles,
    magerr: Singles,
    catflags: UInt16s,
    ra: Floats,
    dec: Floats,
    psfflux: Singles,
    released: Mask,
    offsets: Ints,
    counts: Int32s,
    values: Singles,
) -> None:
    """Fill one column of counts and values for each object; scratch arrays are made once."""
    # Compiled loops over thousands of short lightcurves spend their time on memory if each asks for its own.
    longest = _longest(offsets)
    good = np.empty(longest, np.int64)
    t, m = np.empty(longest, np.float64), np.empty(longest, np.float64)
    inverse, ordered = np.empty(longest, np.float64), np.empty(longest, np.float64)
    keys, spare = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    histogram = np.empty(ranks.MAX_BUCKETS, np.int64)
    mag_bits, magerr_bits = mag.view(np.uint32), magerr.view(np.uint32)

    for k in range(len(offsets) - 1):
        count, value = counts[:, k], values[:, k]
        # The good epochs, dense and in float64: what everything below is made of.
        n = _find_good(mag, magerr, catflags, released, offsets[k], offsets[k + 1], good, count)
        if n == 0:
            _write_undefined(count, value)
            continue
        _gather(hmjd, mag, magerr, good, n, t, m, inverse)
        # What needs the order in time: means, moments about them, trends, sums weighted by the errors.
        mean, weighted_mean, weight = lightcurve.means(m, inverse, n)
        std, skewness, kurtosis = lightcurve.moments(m, n, mean)
        position_rms = lightcurve.position_rms(ra, dec, good, n)
        _write(value, _MEANS, (position_rms, lightcurve.mean_uncalibrated(psfflux, good, n), mean, weighted_mean))
        _write(value, _MOMENTS, (std, skewness, kurtosis))
        _write(value, _SERIES, lightcurve.series(t, m, n, std))
        _write(value, _WEIGHTED, lightcurve.weighted(m, inverse, n, weighted_mean, weight))

        # What needs the order in magnitude: one selection for the median error, one sort for all the rest.
        ranks.load_keys(magerr_bits, good, n, keys)
        median_error = ranks.key_to_float(ranks.select(keys, n, (n - 1) // 2, histogram))
        ranks.load_keys(mag_bits, good, n, keys)
        ranks.keys_to_floats(ranks.sort(keys, spare, n, histogram), n, ordered)
        median = _write_ordered(ordered, m, n, std, median_error, value)
        _write_by_std(ordered, m, n, mean, std, count)
        count[_BUFFER] = lightcurve.outside(m, n, median, _BUFFER_RANGE * (ordered[n - 1] - ordered[0]))
        count[_SLOPES] = lightcurve.brightenings(t, m, n)


@jit
def _longest(offsets: Ints) -> int:
    longest = 1
    for k in range(len(offsets) - 1):
        longest = max(longest, offsets[k + 1] - offsets[k])
    return longest


@jit
def _find_good(
    mag: Singles,
    magerr: Singles,
    catflags: UInt16s,
    released: Mask,
    start: int,
    stop: int,
    good: Ints,
    count: Int32s,
) -> int:
    """List the good epochs, write the four numbers of epochs, return the number of good ones."""
    n, n_released, n_good_released = 0, 0, 0
    for i in range(start, stop):
        # Written whether it is good or not, and overwritten by the next if it is not: no branch to mispredict.
        is_good = catflags[i] == 0 and math.isfinite(mag[i]) and math.isfinite(magerr[i])
        good[n] = i
        n += is_good
        n_released += released[i]
        n_good_released += is_good and released[i]
    count[_EPOCHS] = stop - start
    count[_EPOCHS + 1] = n_released
    count[_EPOCHS + 2] = n
    count[_EPOCHS + 3] = n_good_released
    return n


@jit
def _gather(
    hmjd: Floats, mag: Singles, magerr: Singles, good: Ints, n: int, t: Floats, m: Floats, inverse: Floats
) -> None:
    """Copy the good epochs: time since the first, magnitude, 1/magerr (NaN where not positive)."""
    first = hmjd[good[0]]
    for j in range(n):
        i = good[j]
        t[j] = hmjd[i] - first
        m[j] = mag[i]
        inverse[j] = 1.0 / magerr[i] if magerr[i] > 0.0 else np.nan


@jit
def _write_undefined(count: Int32s, value: Singles) -> None:
    for row in range(_BUFFER, len(count)):
        count[row] = 0
    for row in range(len(value)):
        value[row] = np.nan


@jit
def _write(value: Singles, row: int, results: tuple[float, ...]) -> None:
    """Write results from a row on as float32; NaN for what it cannot hold, so that none is infinite."""
    for i in range(len(results)):
        rounded = np.float32(results[i])
        value[row + i] = rounded if math.isfinite(rounded) else np.float32(np.nan)


@jit
def _write_ordered(ordered: Floats, m: Floats, n: int, std: float, median_error: float, value: Singles) -> float:
    """Write what the sorted magnitudes give; return the median."""
    median: float = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2.0
    deviation = ranks.median_deviation(ordered, n, median)
    con = lightcurve.con(m, n, median, 2.0 * std)
    _write(value, _ORDER, (median_error, ordered[0], ordered[n - 1], median, deviation, con))
    for p in range(len(_PERCENTAGES)):
        value[_PERCENTILES + p] = ranks.percentile(ordered, n, _PERCENTAGES[p])
    return median


@jit
def _write_by_std(ordered: Floats, m: Floats, n: int, mean: float, std: float, count: Int32s) -> None:
    """Write the counts of points beyond some standard deviations; most lightcurves have none, which extremes tell."""
    farthest = max(ordered[n - 1] - mean, mean - ordered[0])
    for i in range(len(STANDARD_DEVIATIONS)):
        distance = STANDARD_DEVIATIONS[i] * std
        results = (0, 0, 0, 0, 0)
        if farthest > distance:
            results = lightcurve.beyond(m, n, mean, distance)
        for j in range(len(results)):
            count[_BY_STD + len(results) * i + j] = results[j]
