"""The survey's error model, A + B m + C 10^(0.4 m) + D 10^(0.8 m), from the scatter of constant lightcurves."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.calibration import ERROR_MODEL_BREAK_MAG, model_errors
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.residuals import (
    CLIP_SIGMAS,
    SCATTER_BINS,
    SCATTER_FIRST_DEX,
    SCATTER_FLOOR_MAG,
    SCATTER_STEP_DEX,
    SIGMA_OF_MAD,
    Summary,
    group_medians,
    histogram_quantiles,
)

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SCATTER_BRIGHT_MAG: Final = 12.0
SCATTER_MAG_STEP: Final = 0.25
SCATTER_MAG_BINS: Final = 44
"""Bins of magnitude of lightcurves, 12 to 23."""

MIN_LIGHTCURVES: Final = 10
"""Fewest of a bin."""
_MIN_BINS: Final = 8
_MIN_SPAN_MAG: Final = 4.0
_LEAST_RELATIVE_ERROR: Final = 0.01
_MIN_FREEDOM: Final = 10.0
_APART: Final = 3
"""Epochs are compared with so many before them."""
_STEADY_SIGMAS: Final = (2.5, 2.5, 2.0)
"""Of turns one after the other: only few of those that count are left out before the last."""
_WEIGHINGS: Final = 3
_LEAST_LEFT: Final = 0.3
"""Of the scatter, whatever is known to be taken off."""
_SURELY: Final = 3.0
"""Standard deviations."""
_KNOWN_STEP_MAG: Final = 0.0005
_HALVINGS: Final = 12
_SIGMAS: Final = np.linspace(-5.0, 5.0, 1001)
_BELOW: Final = np.array([NormalDist().cdf(sigmas) for sigmas in _SIGMAS.tolist()])
SCATTER_MAGNITUDES: Final = SCATTER_BRIGHT_MAG + (np.arange(SCATTER_MAG_BINS) + 0.5) * SCATTER_MAG_STEP
"""Their middles."""

Known = tuple[Floats, Floats]
"""Values, and how many have them."""
NOTHING_KNOWN: Final[Known] = (np.zeros(0), np.zeros(0))
Noise = tuple[Floats, Floats, Floats]
"""Middle of bins of magnitude, scatter of epochs and its error."""
NO_NOISE: Final[Noise] = (np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class ErrorModelFit:
    """Coefficients of a unit, and what they are from."""

    coefficients: tuple[float, float, float, float]
    """A, B, C, D."""
    lightcurves: int
    bright: float
    """Range of magnitudes that they are fitted on."""
    faint: float
    rms: float
    """Of the scatter relative to the model, over the bins of magnitude."""


def typical_scatter(counts: Ids) -> tuple[Floats, Floats]:
    """Median scatter of the lightcurves of each bin of magnitude, and its error.

    Parameters
    ----------
    counts : int64 ndarray, shape (B, SCATTER_BINS)

    Returns
    -------
    scatter, error : float64 ndarray, shape (B,)
        mag; NaN where there are fewer than MIN_LIGHTCURVES.
    """
    centres = (SCATTER_FIRST_DEX + (np.arange(SCATTER_BINS) + 0.5) * SCATTER_STEP_DEX).astype(np.float64)
    low, middle, high = (histogram_quantiles(counts, centres, SCATTER_STEP_DEX, q) for q in (0.1587, 0.5, 0.8413))
    n = counts.sum(axis=1)
    scatter = np.where(n >= MIN_LIGHTCURVES, 10.0**middle, np.nan)
    dex = 1.2533 * 0.5 * (high - low) / np.sqrt(np.maximum(n, 1))  # sqrt(pi/2): a median's error over a mean's
    relative = np.maximum(np.log(10.0) * dex, _LEAST_RELATIVE_ERROR)
    return scatter, scatter * relative


def typical_scatter_at(mag: Floats, counts: Ids) -> Floats:
    """Median scatter of lightcurves of some magnitudes, between bins that have enough; NaN outside of these."""
    return _at(mag, np.asarray(SCATTER_MAGNITUDES), typical_scatter(counts)[0])


def scatter_without(scatter: Floats, known: Floats, weight: Floats) -> Floats:
    """Scatter that lightcurves have when something known is taken off their epochs.

    Median absolute deviations do not add in squares where what is known has tails, as clouds have. So the normal noise
    is found, by halving an interval, with which half of the epochs, noise and what is known together, are as near to
    their median as half of them are.

    Parameters
    ----------
    scatter : float64 ndarray, shape (B,)
        1.4826 times the median absolute deviation of lightcurves; NaN for none. mag.
    known : float64 ndarray, shape (K,)
        What is taken off epochs, mag.
    weight : float64 ndarray, shape (K,)
        How many epochs have it.
    """
    if not len(known):
        return scatter
    order = np.argsort(known)
    middle = known[order[np.searchsorted(np.cumsum(weight[order]), 0.5 * weight.sum())]]
    step, place = np.unique(np.round((known - middle) / _KNOWN_STEP_MAG), return_inverse=True)
    off, share = step * _KNOWN_STEP_MAG, np.bincount(place, weight) / weight.sum()
    half = scatter / SIGMA_OF_MAD
    low, high = _LEAST_LEFT * scatter, np.array(scatter)
    for _ in range(_HALVINGS):
        noise = 0.5 * (low + high)
        inside = _normal((half[:, None] - off) / noise[:, None]) - _normal((-half[:, None] - off) / noise[:, None])
        wide = inside @ share < 0.5
        low, high = np.where(wide, low, noise), np.where(wide, noise, high)
    return np.asarray(0.5 * (low + high))


@njit(cache=True, nogil=True)
def differences(values: Floats, offsets: Ids, summary: Summary) -> tuple[Floats, Floats]:
    """Sum of squares of the noise of each lightcurve, by its epochs that are at most three apart, and its freedom.

    Such epochs have next to nothing of what changes slowly in their differences. Half the mean square of the
    differences of p pairs is a quadratic form of the epochs, about chi-square of 2 mean^2 / variance degrees of freedom
    (Satterthwaite 1946): 4 p^2 / (2 p + sum of squares of the number of pairs that each epoch is in). Of epochs that
    follow each other alone these are 2/3 of those of a variance (von Neumann 1941), of up to three apart 6/7, and all
    where there are no more than four epochs. Epochs farther than four times the scatter from the median are left out.

    Parameters
    ----------
    values : float64 ndarray, shape (N,)
        Magnitudes in order of time; NaN for epochs that do not count.
    offsets : int64 ndarray, shape (M + 1,)
    summary : Summary
        Of the values.

    Returns
    -------
    freedom : float64 ndarray, shape (M,)
        0 below two epochs.
    squares : float64 ndarray, shape (M,)
        As often the variance of an epoch in the mean, mag^2.
    """
    freedom, squares = np.zeros(len(offsets) - 1), np.zeros(len(offsets) - 1)
    before = np.empty(_APART)
    for k in range(len(freedom)):
        limit, n, total = CLIP_SIGMAS * max(summary.scatter[k], SCATTER_FLOOR_MAG), 0, 0.0
        for i in range(offsets[k], offsets[k + 1]):
            if not abs(values[i] - summary.median[k]) <= limit:
                continue
            for j in range(max(n - _APART, 0), n):
                total += 0.5 * (values[i] - before[j % _APART]) ** 2
            before[n % _APART] = values[i]
            n += 1
        pairs, both = 0.0, 0.0  # twice the number of pairs
        for j in range(n):
            mine = min(j, _APART) + min(n - 1 - j, _APART)
            pairs += mine
            both += mine * mine
        if n > 1:
            freedom[k] = pairs * pairs / (pairs + both)
            squares[k] = freedom[k] * total / (0.5 * pairs)
    return freedom, squares


def steady(freedom: Floats, squares: Floats, group: Ids) -> tuple[Mask, Floats]:
    """Lightcurves whose differences are no larger than usual in their group, by two standard deviations of chance.

    Eclipses and flares, of which a median absolute deviation knows little, make them larger. The cube root of the mean
    of chi-square of k degrees of freedom is about normal with the mean 1 - 2/(9k) and the variance 2/(9k) (Wilson and
    Hilferty 1931).

    Returns
    -------
    found : bool ndarray, shape (N,)
    expected : float64 ndarray, shape (N,)
        Mean of the squares of such lightcurves over that of all, none of which vary.
    """
    found = freedom > 0.0
    mean = squares / np.where(found, freedom, 1.0)
    variance = 2.0 / (9.0 * np.where(found, freedom, 1.0))
    sigma, middle = np.sqrt(variance), 1.0 - variance
    for sigmas in _STEADY_SIGMAS:  # the first median is of those that are not steady, too
        usual = group_medians(np.where(found, mean, np.nan), group)
        found = (freedom > 0.0) & (mean <= usual * (1.0 + sigmas * sigma / middle) ** 3)
    # Moments of a normal distribution below so many standard deviations.
    cut = NormalDist().pdf(sigmas) / NormalDist().cdf(sigmas)
    one, two, three = -cut, 1.0 - sigmas * cut, -(sigmas**2 + 2.0) * cut
    below = middle**3 + 3.0 * middle**2 * sigma * one + 3.0 * middle * variance * two + sigma**3 * three
    return found, below / (middle**3 + 3.0 * middle * variance)


def noise_of_epochs(within: Floats, freedom: Floats, known: Known) -> tuple[Floats, Floats]:
    """Scatter of epochs by which those close in time differ, where the map and its changes make none.

    Parameters
    ----------
    within : float64 ndarray, shape (levels,)
        By magnitude, sum of their squares, mag^2; without outliers of more than four standard deviations.
    freedom : float64 ndarray, shape (levels,)
        Degrees of freedom, see :func:`differences`.
    known : tuple of two float64 ndarray, shape (K,)
        What is taken off single exposures, mag, and how many epochs have it.

    Returns
    -------
    scatter, error : float64 ndarray, shape (levels,)
        mag; NaN where there are too few.
    """
    variance = within / np.maximum(freedom, 1.0)
    off, weight = known
    # Exposures that are off by more are outliers.
    share = weight * (np.abs(off) < CLIP_SIGMAS * np.sqrt(np.maximum(variance, 0.0))[:, None])
    taken = share @ off**2 / np.maximum(share.sum(axis=1), 1e-9)
    noise = np.sqrt(np.maximum(variance - taken, _LEAST_LEFT**2 * variance))
    noise *= 1.0 + 0.25 / np.maximum(freedom, 1.0)  # the root of chi-square is too small by so much in the mean
    relative = np.maximum(1.0 / np.sqrt(2.0 * np.maximum(freedom, 1.0)), _LEAST_RELATIVE_ERROR)
    enough = freedom >= _MIN_FREEDOM
    return np.where(enough, noise, np.nan), np.where(enough, noise * relative, np.nan)


def _normal(sigmas: Floats) -> Floats:
    """Normal distribution function, within 1e-5."""
    return np.asarray(np.interp(sigmas, _SIGMAS, _BELOW))


def fit_error_model(
    counts: Ids, known: Known = NOTHING_KNOWN, noise: Noise = NO_NOISE, uncertain: float = 0.0
) -> ErrorModelFit | None:
    """Fit the coefficients of one unit up to magnitude 20.5, beyond which the model is a line.

    The scatter of whole lightcurves holds what the map makes of dithers, and that of epochs close in time follows
    tails. Both are upper limits of what corrected epochs have: the latter, which is the more certain, is taken
    unless the former is surely lower.

    Parameters
    ----------
    counts : int64 ndarray, shape (SCATTER_MAG_BINS, SCATTER_BINS)
        Lightcurves by magnitude and scatter.
    known : tuple of two float64 ndarray, shape (K,)
        What corrections take off epochs, mag, and how many have it; see :func:`scatter_without`.
    noise : tuple of three float64 ndarray, shape (levels,)
        Middles of bins of magnitude, and what :func:`noise_of_epochs` says of them.
    uncertain : float
        Variance of what they leave, mag^2.

    Returns
    -------
    ErrorModelFit or None
        None where too few bins have lightcurves enough, or the model, with D or without, would not be positive or fall
        towards the faint.
    """
    scatter, error = typical_scatter(counts)
    mag = np.asarray(SCATTER_MAGNITUDES, np.float64)
    curves = scatter_without(scatter, *known)
    epochs, epochs_error = (_at(mag, noise[0], values) for values in noise[1:])
    chosen = np.isfinite(epochs) & (not _surely_lower(curves, epochs, error / scatter))
    relative = np.where(chosen, epochs_error / epochs, error / scatter)
    scatter = np.sqrt(np.where(chosen, epochs, curves) ** 2 + uncertain)
    used = np.flatnonzero(np.isfinite(scatter) & (mag < ERROR_MODEL_BREAK_MAG))
    if len(used) < _MIN_BINS or mag[used[-1]] - mag[used[0]] < _MIN_SPAN_MAG:
        return None
    m = mag[used]
    bright = 10.0 ** (0.4 * (m - 20.0))  # scaled, so that the columns are of like size
    design = np.stack([np.ones(len(m)), m - 17.0, bright, bright**2], axis=1)
    for terms in (4, 3):  # where the last one would let the model fall towards the faint, it is left out
        solved, fitted = _solved(design[:, :terms], scatter[used], relative[used])
        coefficients = _coefficients(*solved, *[0.0] * (4 - terms))
        if _is_sound(coefficients, m[0]):
            break
    else:
        return None
    rms = float(np.sqrt(np.mean((fitted / scatter[used] - 1.0) ** 2)))
    half = 0.5 * SCATTER_MAG_STEP
    return ErrorModelFit(coefficients, int(counts[used].sum()), float(m[0] - half), float(m[-1] + half), rms)


def _solved(design: Floats, scatter: Floats, relative: Floats) -> tuple[Floats, Floats]:
    """Factors of the columns, and the scatter that they make, weighed by what the model has.

    Weighed by itself, what is too low by chance would count too much.
    """
    fitted: Floats = scatter
    solved: Floats = np.zeros(design.shape[1])
    for _ in range(_WEIGHINGS):
        error = relative * np.maximum(fitted, _LEAST_LEFT * scatter)
        solved = np.asarray(np.linalg.lstsq(design / error[:, None], scatter / error, rcond=None)[0], np.float64)
        fitted = np.asarray(design @ solved, np.float64)
    return solved, fitted


def _coefficients(level: float, slope: float, bright: float, square: float) -> tuple[float, float, float, float]:
    """A, B, C, D of factors of columns that are scaled."""
    return float(level - 17.0 * slope), float(slope), float(bright * 1e-8), float(square * 1e-16)


def _surely_lower(one: Floats, other: Floats, error: Floats) -> bool:
    """Whether a scatter, whose relative errors are given, is lower than another over all bins."""
    both = np.isfinite(one) & np.isfinite(other)
    weight = error[both] ** -2.0
    return bool(weight @ np.log(one[both] / other[both]) < -_SURELY * np.sqrt(weight.sum()))


def _at(mag: Floats, middle: Floats, values: Floats) -> Floats:
    """Values between those that are known; NaN outside."""
    known = np.isfinite(values)
    if known.sum() < 2:
        return np.full(len(mag), np.nan)
    return np.asarray(np.interp(mag, middle[known], values[known], left=np.nan, right=np.nan))


def _is_sound(coefficients: tuple[float, float, float, float], bright: float) -> bool:
    """Whether the model is positive everywhere from the brightest bin on, and rises beyond the break."""
    grid = np.arange(bright, 24.0, 0.125).astype(np.float32)
    values = model_errors(grid, np.array(coefficients))
    return bool((values > 0.0).all() and values[-1] > values[grid <= ERROR_MODEL_BREAK_MAG][-1])
