"""Whether newer exposures differ from older ones by position or magnitude beyond noise and clouds."""

from __future__ import annotations

import warnings
from typing import Final, NamedTuple

import numpy as np

from ztfmatch.core.kernels.sphere import Floats

LEAST_EXPOSURES: Final = 5
"""That a bin must have stars in."""
_LEAST_BINS: Final = 4
_SURELY: Final = 6.0
"""Standard deviations by which the chi-square exceeds its mean."""
_CHI2_MEDIAN: Final = 0.4549
"""Of chi-square with one degree of freedom."""
_MEDIAN_VARIANCE: Final = np.pi / 2.0
"""Of a median, over that of a mean."""


class Change(NamedTuple):
    """By what bins differ from their mean."""

    size: float
    """Root mean square beyond noise, mag; NaN where too little is known."""
    certain: bool
    """Whether chance does not make it."""


def change_of(n: Floats, total: Floats, own: Floats) -> Change:
    """Change of the medians over exposures, so that clouds in fewer than half of them do not count.

    What an exposure is off by as a whole is taken off first: that is its zero point's.

    Parameters
    ----------
    n, total : float64 ndarray, shape (E, B)
        Weights of the detections of each newer exposure in each bin, inverse to their variance, and the weighted sum of
        what they are off by from the means of the older epochs of their lightcurves, mag.
    own : float64 ndarray, shape (B,)
        Variance of the weighted mean of these means, mag^2.
    """
    kept = n.sum(axis=1) > 0
    n, total = n[kept], total[kept]
    enough = (n > 0).sum(axis=0) >= LEAST_EXPOSURES
    if enough.sum() < _LEAST_BINS:
        return Change(np.nan, False)
    n, total, own = n[:, enough], total[:, enough], own[enough]
    level = total.sum(axis=1) / np.maximum(n.sum(axis=1), 1e-9)
    mean = np.where(n > 0, total / np.maximum(n, 1e-9) - level[:, None], np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an exposure without stars in these bins
        value = np.nanmedian(mean, axis=0)
        # Of a weight of one, by how much exposures one after the other differ.
        both = 1.0 / np.maximum(n[1:], 1e-9) + 1.0 / np.maximum(n[:-1], 1e-9)
        variance = np.nanmedian(np.diff(mean, axis=0) ** 2 / both) / _CHI2_MEDIAN
    noise = _MEDIAN_VARIANCE * variance / n.sum(axis=0) + own
    value = value - np.average(value, weights=1.0 / noise)
    bins = len(value)
    chi2 = float((value**2 / noise).sum())
    size = float(np.sqrt(max(float(np.mean(value**2 - noise)), 0.0)))
    return Change(size, chi2 > bins + _SURELY * np.sqrt(2.0 * bins))
