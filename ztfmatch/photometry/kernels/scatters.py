"""Weights of bins of residuals: from the noise of epochs and of stars, and robust against outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.normalequations import BinSums, sums_by
from ztfmatch.photometry.kernels.residuals import Bins

_TRUSTED_SIGMAS: Final = 2.5
_AROUND: Final = 2
_LEAST_FREEDOM: Final = 10.0
_FREEDOM_OF_CURVES: Final = 50.0
"""What lightcurves say counts as so many epochs beside one of the same star, place and time."""
_LEAST_STAR_MAG: Final = 0.002
"""Scatter of stars: no catalog is better."""


@dataclass(frozen=True)
class Scatters:
    """Variances by bin of magnitude, mag^2."""

    epoch: Floats
    """Of epochs about their star."""
    star: Floats
    """Of stars about the model."""

    def weights(self, sums: BinSums) -> Floats:
        """Inverse variance of the mean residual of each bin."""
        noise = self.star[sums.magnitude] * sums.pairs + self.epoch[sums.magnitude] * sums.n
        return np.asarray(sums.n**2 / noise)


def trust_of(off: Floats, weight: Floats) -> Floats:
    """Part of its weight that each bin keeps (Huber): some variable stars and errors of PS1 are still there."""
    return np.asarray(np.minimum(1.0, _TRUSTED_SIGMAS / np.maximum(np.abs(off) * np.sqrt(weight), 1e-9)))


def scatters_of(
    sums: BinSums, model: Floats, bins: Bins, known: tuple[float, Floats], curves: Floats | None = None
) -> Scatters:
    """Variances, given a model of each bin, the number of its parameters, and how far each bin is trusted.

    That of epochs is determined by those that a star has at one place and time; if few stars have more than one
    there, by whole lightcurves: these are many, but they have dithers and changes in them. That of stars is what they
    are apart beyond the noise of their epochs: a small difference of large numbers, so bins of magnitude are joined
    with those around.

    Parameters
    ----------
    sums : BinSums
    model : float64 ndarray, shape (N,)
    bins : Bins
    known : tuple of float and float64 ndarray, shape (N,)
        Number of parameters, trust.
    curves : float64 ndarray, shape (levels,), optional
        Variance of the epochs of a lightcurve by bin of magnitude, mag^2; NaN where it is not known.
    """
    effective, trust = known

    def by_bin(values: Floats) -> Floats:
        return sums_by(sums.magnitude, values, bins.levels)

    within = by_bin(sums.squares - sums.between)
    freedom = by_bin(sums.n - sums.groups)
    whole = np.full(bins.levels, np.nan) if curves is None else curves
    told = np.where(np.isfinite(whole), _FREEDOM_OF_CURVES, 0.0)
    both = (within + told * np.nan_to_num(whole)) / np.maximum(freedom + told, 1.0)
    epoch = _filled(np.where(freedom + told > _LEAST_FREEDOM, both, np.nan), 1e-4)
    stars = sums.stars.sum()
    spent = stars / max(stars - effective, 0.2 * stars)
    apart = spent * (sums.between - 2.0 * model * sums.total + model**2 * sums.n) - sums.groups * epoch[sums.magnitude]
    n, apart, stars = (_around(by_bin(values)) for values in (trust * sums.n, trust * apart, sums.stars))
    star = np.where(stars > 10, apart / np.maximum(n, 1.0), np.nan)
    return Scatters(epoch, np.maximum(_filled(star, 2.5e-5), _LEAST_STAR_MAG**2))


def _around(values: Floats) -> Floats:
    """Sum of each bin and those around it."""
    return np.convolve(values, np.ones(2 * _AROUND + 1), "same")


def _filled(values: Floats, otherwise: float) -> Floats:
    """Values with gaps filled from the nearest."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.full(len(values), otherwise)
    return np.maximum(np.interp(np.arange(len(values)), known, values[known]), 1e-8)
