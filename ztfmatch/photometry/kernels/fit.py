"""Fit the three corrections of one readout channel and filter, from sums over bins.

The mean residual of a bin (unit u, magnitude m, cell k) is modelled as

    a (m - faint) + b (m - faint)^2 + P_k + F_u

and all terms are solved for at once, by least squares. Degeneracies are fixed by convention: the magnitude term has no
constant and is zero at the faint end, the valid cells of the map have mean zero, the offsets carry the constant.

Weights. A detection has its own noise (variance s^2, from its scatter about the mean of its star) and shares that of
its star (t^2, from the scatter of stars about the model: PS1's errors, colours, blends), so a mean over n detections
has the variance (t^2 sum(n_i^2) + s^2 n) / n^2, n_i those of star i. Both are estimated in each bin of magnitude, and
errors follow: they count stars, not detections.

Smoothness. Neighbouring cells are taken to differ by a normal deviate of size d, the one under which the data are most
probable (one d for the step from the outermost ring of cells inwards, where real maps are steepest, one for all
others). So cells with few stars lean on their neighbours, and cells with many do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.normalequations import (
    TERMS,
    BinSums,
    KnownOffsets,
    Mask,
    NormalEquations,
    Solution,
    Steps,
    ring_of,
    sums_by,
)
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.kernels.smoothness import most_probable_steps

_ROUNDS: Final = 3
_WEAK_ROUNDS: Final = 1
"""Of these, the rounds in which cells hardly lean on each other, before it is known how much they should."""
_WEAK_STEP_MAG: Final = 0.1
_MIN_RANGE_MAG: Final = 1.5


@dataclass(frozen=True)
class FitSettings:
    """What is asked of a fit."""

    min_stars: int = 20
    """Fewest stars of a unit, and of a bin of magnitude with the two before and after it."""
    min_cell_stars: int = 5
    """Fewest stars of a cell with its eight neighbours."""
    max_error: float = 0.01
    """Largest error of a cell's value and of an offset, mag; beyond it there is none."""


@dataclass(frozen=True)
class ChannelFit:
    """Corrections of a channel; NaN where a term has no value."""

    bright: float
    faint: float
    """Valid range of the magnitude term."""
    slope: float
    curvature: float
    """Coefficients of (mag - faint) and of its square."""
    slope_error: float
    curvature_error: float
    covariance: float
    """Of the two."""
    map: Floats
    map_error: Floats
    map_stars: Floats
    map_n: Floats
    offset: Floats
    """Of each unit."""
    offset_error: Floats
    offset_stars: Floats
    offset_n: Floats
    raw_offset: Floats
    """Of each unit, also where it is not good enough to be applied."""
    steps: Steps
    """Difference of neighbouring cells, inside and at the rim, mag."""
    star_scatter: Floats
    """Scatter of stars about the model by bin of magnitude, mag."""
    epoch_scatter: Floats
    """Scatter of epochs about their star, mag."""


def fit_channel(sums: BinSums, units: int, bins: Bins, settings: FitSettings,
                known: KnownOffsets | None = None) -> ChannelFit:  # fmt: skip
    """Fit all terms.

    Parameters
    ----------
    sums : BinSums
        At least one row.
    units : int
        Number of units.
    bins : Bins
    settings : FitSettings
    known : KnownOffsets, optional
        From an older fit; needs the last unit to be the one that its sums have been given.
    """
    stars = sums_by(sums.magnitude, sums.stars, bins.levels)
    valid = _valid_range(stars, bins, settings)
    problem = NormalEquations(sums, units, bins, valid, known)
    model = problem.offsets_alone()
    step = (_WEAK_STEP_MAG, _WEAK_STEP_MAG)
    effective = 0.0
    # Weights need a model, and the model weights: a few rounds settle both. The smoothness is found once, as soon as
    # the weights are those of a model with a map.
    for turn in range(_ROUNDS):
        scatters = _scatters(sums, model, bins, effective)
        weight = scatters.weights(sums, problem.ring)
        if turn == _WEAK_ROUNDS:
            step = most_probable_steps(problem, weight)
        solution = problem.solve(weight, step)
        model, effective = problem.predict(solution.parameters), solution.effective
    return _result(problem, solution, settings, step, scatters)


def _valid_range(stars: Floats, bins: Bins, settings: FitSettings) -> tuple[int, int] | None:
    """First and last bin of the run of bins with stars enough that holds the most; None where it is too short."""
    near = np.convolve(stars, np.ones(5), "same")
    good = np.concatenate([[False], (near >= settings.min_stars) & (stars > 0), [False]])
    edges = np.flatnonzero(good[1:] != good[:-1]).reshape(-1, 2)
    if not len(edges):
        return None
    first, stop = max(edges.tolist(), key=lambda run: stars[run[0] : run[1]].sum())
    return (first, stop - 1) if (stop - first) * bins.step >= _MIN_RANGE_MAG else None


@dataclass(frozen=True)
class _Scatters:
    """Variances by bin of magnitude, mag^2."""

    epoch: Floats
    """Of epochs about their star."""
    star: Floats
    """Of stars about the model."""
    rim: float
    """More of it in the outermost ring of cells, within which the maps are steep."""

    def weights(self, sums: BinSums, ring: Mask) -> Floats:
        """Inverse variance of the mean residual of each bin."""
        star = self.star[sums.magnitude] + self.rim * ring[sums.cell]
        return np.asarray(sums.n**2 / (star * sums.pairs + self.epoch[sums.magnitude] * sums.n))


def _scatters(sums: BinSums, model: Floats, bins: Bins, effective: float) -> _Scatters:
    """Variances, given a model of each bin and the number of its parameters."""

    def by_bin(values: Floats) -> Floats:
        return sums_by(sums.magnitude, values, bins.levels)

    within = by_bin(sums.squares - sums.between)
    freedom = by_bin(sums.n - sums.groups)
    epoch = _filled(np.where(freedom > 10, within / np.maximum(freedom, 1.0), np.nan), 1e-4)
    stars = sums.stars.sum()
    spent = stars / max(stars - effective, 0.2 * stars)
    apart = spent * (sums.between - 2.0 * model * sums.total + model**2 * sums.n) - sums.groups * epoch[sums.magnitude]
    inside = ~ring_of(bins)[sums.cell]
    n = by_bin(inside * sums.n)
    star = np.where(by_bin(inside * sums.stars) > 10, by_bin(inside * apart) / np.maximum(n, 1.0), np.nan)
    star = np.maximum(_filled(star, 2.5e-5), 1e-6)
    more = (apart - star[sums.magnitude] * sums.n)[~inside].sum() / max(sums.n[~inside].sum(), 1.0)
    return _Scatters(epoch, star, max(float(more), 0.0))


def _filled(values: Floats, otherwise: float) -> Floats:
    """Values with gaps filled from the nearest."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.full(len(values), otherwise)
    return np.maximum(np.interp(np.arange(len(values)), known, values[known]), 1e-8)


def _result(
    problem: NormalEquations,
    solution: Solution,
    settings: FitSettings,
    step: Steps,
    scatters: _Scatters,
) -> ChannelFit:
    s, bins, cells = problem.sums, problem.bins, problem.blocks.cells
    of_cell, of_unit = problem.blocks.cell, problem.blocks.unit
    inflation = max(solution.chi2, 1.0)
    stars = sums_by(s.cell, s.stars, cells)
    near = _window_sums(stars.reshape(bins.ny, bins.nx)).ravel()
    covariance, diagonal = solution.covariance, np.diag(solution.covariance)
    enough = near >= settings.min_cell_stars
    # The gauge depends on which cells are valid, and that on errors in a gauge: those in the gauge of all with stars.
    good_cell = enough & (_in_gauge(solution, of_cell, enough, inflation)[1][of_cell] <= settings.max_error)
    parameters, errors = _in_gauge(solution, of_cell, good_cell, inflation)
    offset_stars = sums_by(s.unit, s.stars, problem.units)
    known = np.zeros(problem.units, bool)
    if problem.known is not None:
        known[problem.known.unit] = True
    good_unit = ((offset_stars >= settings.min_stars) | known) & (errors[of_unit] <= settings.max_error)
    trusted = problem.valid is not None
    slopes = solution.parameters[:TERMS] if trusted else np.full(TERMS, np.nan)
    return ChannelFit(
        problem.bright if trusted else np.nan,
        problem.faint if trusted else np.nan,
        float(slopes[0]),
        float(slopes[1]),
        float(np.sqrt(inflation * diagonal[0])) if trusted else np.nan,
        float(np.sqrt(inflation * diagonal[1])) if trusted else np.nan,
        float(inflation * covariance[0, 1]) if trusted else np.nan,
        np.where(good_cell, parameters[of_cell], np.nan),
        errors[of_cell],
        stars,
        sums_by(s.cell, s.n, cells),
        np.where(good_unit, parameters[of_unit], np.nan),
        errors[of_unit],
        offset_stars,
        sums_by(s.unit, s.n, problem.units),
        parameters[of_unit],
        step,
        np.sqrt(scatters.star),
        np.sqrt(scatters.epoch),
    )


def _in_gauge(solution: Solution, of_cell: slice, valid: Mask, inflation: float) -> tuple[Floats, Floats]:
    """Parameters and errors where the valid cells have mean zero: that mean moves to the offsets."""
    share = np.zeros(len(solution.parameters))
    share[of_cell] = valid / max(valid.sum(), 1)
    sign = np.zeros(len(share))
    sign[of_cell], sign[of_cell.stop :] = -1.0, 1.0
    crossed = solution.covariance @ share
    variance = np.diag(solution.covariance) + 2.0 * sign * crossed + np.abs(sign) * float(share @ crossed)
    parameters = solution.parameters + sign * float(share @ solution.parameters)
    return parameters, np.sqrt(inflation * np.maximum(variance, 0.0))


def _window_sums(values: Floats) -> Floats:
    """Sum over each cell and its neighbours."""
    padded = np.pad(values, 1)
    rows, columns = values.shape
    return np.asarray(sum(padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)))
