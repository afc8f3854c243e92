"""Residuals of lightcurves from PS1 and from their own medians, summed in bins.

What is kept of any number of detections are sums over bins of magnitude and cells of the quadrant; from these the
corrections are fitted and reports are drawn. Outliers and variables are identified by medians before anything is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats

Singles = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SIGMA_OF_MAD: Final = 1.4826
MAD_EFFICIENCY: Final = 0.37
"""Of the median absolute deviation relative to the standard deviation, for a normal distribution (Huber 1981)."""

_FEW_EPOCHS: Final = 0.8
"""Scatter of n epochs is too small by (n - 0.8) / n in the mean (Croux and Rousseeuw 1992)."""
_LEAST_EPOCHS: Final = 3
"""Fewer do not determine a scatter."""
_ONE_SIGMA: Final = (0.1587, 0.5, 0.8413)
"""Quantiles of a normal distribution at -1, 0 and 1 standard deviation."""
_PART_ROWS: Final = 4096
_ALIKE_SIGMAS: Final = 3.0
_ALIKE_FLOOR_MAG: Final = 0.03
_LEAST_OF_GROUP: Final = 10

CLIP_SIGMAS: Final = 4.0
SCATTER_FLOOR_MAG: Final = 0.005

RESIDUAL_STEP_MAG: Final = 0.001
RESIDUAL_BINS: Final = 601
"""Histogram of the mean residuals of stars: +-0.3 mag around zero."""

SCATTER_STEP_DEX: Final = 0.02
SCATTER_FIRST_DEX: Final = -3.5
SCATTER_BINS: Final = 200
"""Histogram of the scatter of lightcurves, 0.0003 to 3 mag."""

OFFSET_STEP_MAG: Final = 0.002
OFFSET_BINS: Final = 301
"""Histogram of an exposure's detections relative to the medians of their lightcurves: +-0.3 mag."""


class Bins(NamedTuple):
    """How residuals are binned."""

    bright: float
    """Magnitude at which the first bin begins."""
    step: float
    levels: int
    """Number of bins of magnitude."""
    nx: int
    """Cells of the quadrant along x."""
    ny: int

    @property
    def size(self) -> int:
        """Number of bins: magnitude, then cell."""
        return self.levels * self.nx * self.ny


class Summary(NamedTuple):
    """Lightcurves in brief, shape (N,) each."""

    n: Ids
    """Epochs that count."""
    median: Floats
    """NaN without any."""
    scatter: Floats
    """Standard deviation of a single epoch, from the median absolute deviation; NaN below three epochs."""


@njit(cache=True, nogil=True)
def _median_of_sorted(values: Floats, n: int) -> float:
    return float(0.5 * (values[(n - 1) // 2] + values[n // 2]))


@njit(cache=True, nogil=True)
def summarise(values: Floats, offsets: Ids) -> Summary:
    """Median and robust scatter of each lightcurve.

    The scatter is 1.4826 MAD, times n / (n - 0.8) for its bias in small samples (Croux and Rousseeuw 1992).

    Parameters
    ----------
    values : float64 ndarray, shape (N,)
        NaN for epochs that do not count.
    offsets : int64 ndarray, shape (M + 1,)
        First epoch of each lightcurve, and one past the last.
    """
    m = offsets.shape[0] - 1
    count = np.zeros(m, np.int64)
    median, scatter = np.full(m, np.nan), np.full(m, np.nan)
    longest = 0
    for k in range(m):
        longest = max(longest, offsets[k + 1] - offsets[k])
    held = np.empty(longest)
    for k in range(m):
        n = 0
        for i in range(offsets[k], offsets[k + 1]):
            if not np.isnan(values[i]):
                held[n] = values[i]
                n += 1
        count[k] = n
        if n == 0:
            continue
        # Median, then, in place, median of the distances from it.
        held[:n].sort()
        centre = _median_of_sorted(held, n)
        median[k] = centre
        if n < _LEAST_EPOCHS:
            continue
        for i in range(n):
            held[i] = abs(held[i] - centre)
        held[:n].sort()
        scatter[k] = SIGMA_OF_MAD * _median_of_sorted(held, n) * n / (n - _FEW_EPOCHS)
    return Summary(count, median, scatter)


def group_medians(values: Floats, group: Ids) -> Floats:
    """Median of each row's group, NaN values left out; NaN for rows with a negative group or in a group without values.

    Parameters
    ----------
    values : float64 ndarray, shape (N,)
    group : int64 ndarray, shape (N,)
    """
    out = np.full(len(values), np.nan)
    rows = np.flatnonzero((group >= 0) & ~np.isnan(values))
    if not len(rows):
        return out
    # By group, then value, the median of each group is in the middle of its run.
    rows = rows[np.lexsort((values[rows], group[rows]))]
    names, starts, counts = np.unique(group[rows], return_index=True, return_counts=True)
    ordered = values[rows]
    middle = 0.5 * (ordered[starts + (counts - 1) // 2] + ordered[starts + counts // 2])
    # Rows without a value of their own have their group's median too, if it has one.
    place = np.minimum(np.searchsorted(names, group), len(names) - 1)
    known = names[place] == group
    out[known] = middle[place[known]]
    return out


def alike(values: Floats, groups: Sequence[Ids]) -> Mask:
    """Which values are like others, when what each kind of groups has in common is taken off.

    Medians of the groups of each kind are taken off in turn, twice (Tukey's median polish), where a group has enough
    for its median not to be that of its outliers. Values that are then off by more than three times the robust scatter
    of their group of the first kind are unlike.

    Parameters
    ----------
    values : float64 ndarray, shape (N,)
        Not NaN.
    groups : sequence of int64 ndarray, shape (N,)
        Numbers of groups, of one kind each.
    """
    left = values
    for group in (*groups, *groups):
        _, place, counts = np.unique(group, return_inverse=True, return_counts=True)
        left = left - np.where(counts[place] >= _LEAST_OF_GROUP, group_medians(left, group), 0.0)
    usual = SIGMA_OF_MAD * group_medians(np.abs(left), groups[0])
    return np.abs(left) <= np.maximum(_ALIKE_SIGMAS * usual, _ALIKE_FLOOR_MAG)


def constants(summary: Summary, group: Ids, min_epochs: int) -> Mask:
    """Lightcurves that scatter no more than others of their group: not variable, not blended now and then.

    The limit is the group's median scatter times 1 + 4 / sqrt(2 * 0.37 n): four times the error of the estimate.

    Parameters
    ----------
    summary : Summary
    group : int64 ndarray, shape (N,)
        Unit and magnitude; negative for none.
    min_epochs : int
    """
    usual = group_medians(summary.scatter, np.where(summary.n >= min_epochs, group, -1))
    error = CLIP_SIGMAS / np.sqrt(2.0 * MAD_EFFICIENCY * np.maximum(summary.n, 1))
    return (summary.n >= min_epochs) & (summary.scatter <= usual * (1.0 + error))


def unbiased_scatter(summary: Summary) -> Floats:
    """Scatter whose median over many equal lightcurves is their standard deviation.

    Its square is distributed about as chi-square with k = 2 * 0.37 (n - 1) degrees of freedom over k, whose median is
    (1 - 2/(9k))^3 (Wilson and Hilferty 1931).
    """
    k = np.maximum(2.0 * MAD_EFFICIENCY * (summary.n - 1.0), 0.7)
    return np.asarray(summary.scatter / (1.0 - 2.0 / (9.0 * k)) ** 1.5)


@njit(cache=True, nogil=True)
def add_offsets(
    values: Floats, exposure: Ids, offsets: Ids, median: Floats, chosen: Mask, histogram: npt.NDArray[np.int32]
) -> None:
    """Add the epochs of chosen lightcurves, relative to their medians, to the histograms of their exposures.

    Parameters
    ----------
    values : float64 ndarray, shape (N,)
        Magnitudes or residuals; NaN for epochs that do not count.
    exposure : int64 ndarray, shape (N,)
        Row of the exposure.
    offsets : int64 ndarray, shape (M + 1,)
    median : float64 ndarray, shape (M,)
    chosen : bool ndarray, shape (M,)
    histogram : int32 ndarray, shape (exposures, OFFSET_BINS)
    """
    for k in range(offsets.shape[0] - 1):
        if not chosen[k]:
            continue
        for i in range(offsets[k], offsets[k + 1]):
            if not np.isnan(values[i]):
                position = int(np.floor((values[i] - median[k]) / OFFSET_STEP_MAG + 0.5)) + OFFSET_BINS // 2
                if 0 <= position < OFFSET_BINS:
                    histogram[exposure[i], position] += 1


def clipped_sums(histogram: npt.NDArray[np.int32]) -> tuple[Ids, Floats, Floats]:
    """Number, sum and sum of squares of what lies within four robust standard deviations of each histogram's median.

    Parameters
    ----------
    histogram : int32 ndarray, shape (E, OFFSET_BINS)

    Returns
    -------
    n : int64 ndarray, shape (E,)
    total, squares : float64 ndarray, shape (E,)
        mag, mag^2.
    """
    centres: Floats = np.asarray((np.arange(OFFSET_BINS) - OFFSET_BINS // 2) * OFFSET_STEP_MAG)
    n, total, squares = np.zeros(len(histogram), np.int64), np.zeros(len(histogram)), np.zeros(len(histogram))
    for start in range(0, len(histogram), _PART_ROWS):  # not all in int64 at once
        part = slice(start, start + _PART_ROWS)
        counts = histogram[part].astype(np.int64)
        low, middle, high = (histogram_quantiles(counts, centres, OFFSET_STEP_MAG, q) for q in _ONE_SIGMA)
        sigma = np.maximum(0.5 * (high - low), OFFSET_STEP_MAG)
        inside = np.abs(centres - middle[:, None]) <= CLIP_SIGMAS * sigma[:, None]
        counts = np.where(inside, counts, 0)
        n[part], total[part], squares[part] = counts.sum(axis=1), counts @ centres, counts @ centres**2
    return n, total, squares


def histogram_quantiles(counts: Ids, centres: Floats, step: float, fraction: float) -> Floats:
    """Quantile of each histogram, linear within its bin; NaN of an empty one.

    Parameters
    ----------
    counts : int64 ndarray, shape (E, B)
    centres : float64 ndarray, shape (B,)
    step : float
        Width of a bin.
    fraction : float
        0 to 1.
    """
    running = np.cumsum(counts, axis=1)
    total = running[:, -1]
    wanted = fraction * total
    # The first bin up to which there are as many as wanted, and how far into it.
    at = np.minimum((running < wanted[:, None]).sum(axis=1), counts.shape[1] - 1)
    rows = np.arange(len(counts))
    held = counts[rows, at]
    below = running[rows, at] - held
    within = (wanted - below) / np.maximum(held, 1)
    return np.where(total > 0, centres[at] + (within - 0.5) * step, np.nan)
