"""Medians of groups of magnitudes, and tests of whether they disagree."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Floats, Ids, Mask, Singles
from ztfmatch.core.kernelcache import njit

SCALE: Final = 1.4826
"""Standard deviation over the median absolute deviation of a normal distribution."""
MEDIAN_ERROR: Final = 1.2533
"""Error of a median over that of a mean, sqrt(pi / 2), for normal errors."""
ERROR_FLOOR_MAG: Final = 0.015
DISCORDANT_SIGMAS: Final = 5.0
FEWEST: Final = 3


@njit(cache=True, nogil=True)
def group_medians(values: Singles, offsets: Ids) -> tuple[Any, Any]:
    """Median and median absolute deviation of each group; NaN of one without values.

    Parameters
    ----------
    values : float32 ndarray, shape (N,)
        Finite, group after group.
    offsets : int64 ndarray, shape (G + 1,)
        Where each group begins, and the end.

    Returns
    -------
    median, deviation : float32 ndarray, shape (G,)
        Of an even number the mean of the middle two.
    """
    groups = offsets.shape[0] - 1
    median, deviation = np.full(groups, np.nan, np.float32), np.full(groups, np.nan, np.float32)
    for g in range(groups):
        if offsets[g + 1] > offsets[g]:
            part = np.sort(values[offsets[g] : offsets[g + 1]])
            middle = _middle(part)
            median[g] = middle
            deviation[g] = _middle(np.sort(np.abs(part.astype(np.float64) - middle)))
    return median, deviation


@njit(cache=True, nogil=True)
def _middle(ordered: Any) -> float:
    n = ordered.shape[0]
    return 0.5 * (float(ordered[(n - 1) // 2]) + float(ordered[n // 2]))


def median_errors(deviation: Singles, n: Ids) -> Floats:
    """Errors of medians of n magnitudes with this median absolute deviation, the floor added in square, mag."""
    noise = MEDIAN_ERROR * SCALE * deviation.astype(np.float64) / np.sqrt(np.maximum(n, 1))
    return np.hypot(noise, ERROR_FLOOR_MAG)


def discordant_groups(group: Ids, median: Singles, error: Floats, groups: int) -> Mask:
    """Whether any median of a group is farther from their weighted mean than its error allows, shape (groups,).

    Parameters
    ----------
    group : int64 ndarray, shape (N,)
        Of each median, 0..groups-1.
    median : float32 ndarray, shape (N,)
    error : float64 ndarray, shape (N,)
    """
    weight = error**-2
    total = np.maximum(np.bincount(group, weight, groups), 1e-300)
    mean = np.bincount(group, weight * median, groups) / total
    off = np.abs(median - mean[group]) > DISCORDANT_SIGMAS * error
    return np.bincount(group[off], minlength=groups) > 0
