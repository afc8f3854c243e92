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

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.residuals import Bins

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ROUNDS: Final = 3
_WEAK_ROUNDS: Final = 1
"""Of these, the rounds in which cells hardly lean on each other, before it is known how much they should."""
_WEAK_STEP_MAG: Final = 0.1
_LEAST_STEP_MAG: Final = (0.0015, 0.005)
"""Least difference of neighbouring cells, inside and at the rim. Few stars may look as if there were no structure where
there is some: without these bounds such maps had errors too small by factors."""
_LARGEST_STEP_MAG: Final = 0.05
_STEP_FACTORS: Final = (2.0, 1.3)
_GAUGE_MAG: Final = 1.0
"""Loose bound of the constant that map and offsets share, until it is fixed by convention."""
_MIN_RANGE_MAG: Final = 1.5


@dataclass(frozen=True)
class BinSums:
    """Sums over bins of one channel, shape (N,) each; see :data:`ztfmatch.photometry.kernels.residuals.COLUMNS`."""

    unit: Ids
    """Row of the unit."""
    magnitude: Ids
    """Bin of magnitude."""
    cell: Ids
    n: Floats
    total: Floats
    squares: Floats
    stars: Floats
    groups: Floats
    between: Floats
    pairs: Floats

    def less(self, offset: Floats) -> BinSums:
        """The same sums of residuals less an offset, shape (N,) in mag."""
        shift = offset * (offset * self.n - 2.0 * self.total)
        return replace(
            self,
            total=self.total - offset * self.n,
            squares=self.squares + shift,
            between=self.between + shift,
        )


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
class KnownOffsets:
    """Offsets of an older fit, all relative to one offset of its sums, which are those of the last unit."""

    unit: Ids
    value: Floats
    error: Floats


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
    steps: tuple[float, float]
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
    stars = _sums(sums.magnitude, sums.stars, bins.levels)
    valid = _valid_range(stars, bins, settings)
    problem = _Problem(sums, units, bins, valid, known)
    model = problem.offsets_alone()
    step = (_WEAK_STEP_MAG, _WEAK_STEP_MAG)
    effective = 0.0
    for turn in range(_ROUNDS):
        scatters = _scatters(sums, model, bins, effective)
        weight = scatters.weights(sums, problem.ring)
        if turn == _WEAK_ROUNDS:
            step = problem.steps(weight)
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
        return _sums(sums.magnitude, values, bins.levels)

    within = by_bin(sums.squares - sums.between)
    freedom = by_bin(sums.n - sums.groups)
    epoch = _filled(np.where(freedom > 10, within / np.maximum(freedom, 1.0), np.nan), 1e-4)
    stars = sums.stars.sum()
    spent = stars / max(stars - effective, 0.2 * stars)
    apart = spent * (sums.between - 2.0 * model * sums.total + model**2 * sums.n) - sums.groups * epoch[sums.magnitude]
    inside = ~_ring(bins)[sums.cell]
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


@dataclass(frozen=True)
class _Solution:
    parameters: Floats
    covariance: Floats
    effective: float
    """Number of parameters that the data determine."""
    chi2: float
    """Reduced."""


class _Problem:
    """The normal equations: parameters are slope, curvature, cells, offsets."""

    def __init__(
        self, sums: BinSums, units: int, bins: Bins, valid: tuple[int, int] | None, known: KnownOffsets | None
    ) -> None:
        self.sums, self.units, self.bins, self.valid, self.known = sums, units, bins, valid, known
        self.cells = bins.nx * bins.ny
        self.mean = sums.total / sums.n
        first, last = valid or (0, bins.levels - 1)
        self.bright, self.faint = bins.bright + first * bins.step, bins.bright + (last + 1) * bins.step
        t = bins.bright + (sums.magnitude + 0.5) * bins.step - self.faint
        t = np.clip(t, self.bright - self.faint, 0.0)  # beyond its range the term stays as at the end
        self.basis = np.stack([t, t * t])
        self.ring = _ring(bins)
        self.inner, self.rim = _neighbours(bins)

    def offsets_alone(self) -> Floats:
        """First model: the mean residual of each unit."""
        s = self.sums
        n = _sums(s.unit, s.n, self.units)
        return np.asarray((_sums(s.unit, s.total, self.units) / np.maximum(n, 1.0))[s.unit])

    def predict(self, parameters: Floats) -> Floats:
        """Model of each bin."""
        cells = parameters[2 : 2 + self.cells]
        terms = parameters[:2] @ self.basis + cells[self.sums.cell] + parameters[2 + self.cells :][self.sums.unit]
        return np.asarray(terms)

    def solve(self, weight: Floats, step: tuple[float, float]) -> _Solution:
        data, right = self._data(weight)
        normal = data + self._priors(step)
        right += self._known_right()
        covariance = np.linalg.inv(normal)
        covariance = 0.5 * (covariance + covariance.T)
        parameters = covariance @ right
        effective = float(np.sum(covariance * data))
        left = self.mean - self.predict(parameters)
        chi2 = float(weight @ left**2) / max(len(left) - effective, 1.0)
        return _Solution(parameters, covariance, effective, chi2)

    def _data(self, weight: Floats) -> tuple[Floats, Floats]:
        s, cells, units = self.sums, self.cells, self.units
        size = 2 + cells + units
        a, right = np.zeros((size, size)), np.zeros(size)
        of_cell, of_unit = slice(2, 2 + cells), slice(2 + cells, size)
        for i in range(2):
            weighted = weight * self.basis[i]
            for j in range(2):
                a[i, j] = weighted @ self.basis[j]
            a[i, of_cell] = a[of_cell, i] = _sums(s.cell, weighted, cells)
            a[i, of_unit] = a[of_unit, i] = _sums(s.unit, weighted, units)
            right[i] = weighted @ self.mean
        a[np.arange(2, size), np.arange(2, size)] = np.concatenate(
            [_sums(s.cell, weight, cells), _sums(s.unit, weight, units)]
        )
        a[of_cell, of_unit] = _sums(s.cell * units + s.unit, weight, cells * units).reshape(cells, units)
        a[of_unit, of_cell] = a[of_cell, of_unit].T
        right[of_cell] = _sums(s.cell, weight * self.mean, cells)
        right[of_unit] = _sums(s.unit, weight * self.mean, units)
        return a, right

    def _smoothness(self, step: tuple[float, float]) -> Floats:
        """Inverse covariance of the cells before there are data."""
        a = np.zeros((self.cells, self.cells))
        for pairs, size in zip((self.inner, self.rim), step, strict=True):
            i, j = pairs.T
            np.add.at(a, (np.concatenate([i, j]), np.concatenate([i, j])), 1.0 / size**2)
            np.add.at(a, (np.concatenate([i, j]), np.concatenate([j, i])), -1.0 / size**2)
        return a + 1.0 / (self.cells * _GAUGE_MAG) ** 2

    def _priors(self, step: tuple[float, float]) -> Floats:
        cells = self.cells
        a = np.zeros((2 + cells + self.units,) * 2)
        a[2 : 2 + cells, 2 : 2 + cells] = self._smoothness(step)
        a[0, 0] = a[1, 1] = 1.0 if self.valid else 1e12  # without a valid range the term is held at zero
        diagonal = np.arange(2 + cells, len(a))
        a[diagonal, diagonal] += 1e-4  # units without data
        if self.known is not None:
            last, at = len(a) - 1, 2 + cells + self.known.unit
            weight = 1.0 / self.known.error**2
            a[at, at] += weight
            a[at, last] -= weight
            a[last, at] -= weight
            a[last, last] += weight.sum()
        return a

    def _known_right(self) -> Floats:
        right = np.zeros(2 + self.cells + self.units)
        if self.known is not None:
            pull = self.known.value / self.known.error**2
            right[2 + self.cells + self.known.unit] += pull
            right[-1] -= pull.sum()
        return right

    def steps(self, weight: Floats) -> tuple[float, float]:
        """How much neighbouring cells differ: the values under which the data are most probable.

        The evidence of a linear model with normal priors (Rasmussen and Williams 2006, 5.4.1), slopes and offsets
        eliminated first, is climbed along each of the two in turn.
        """
        data, right = self._data(weight)
        right += self._known_right()
        normal = data + self._priors((np.inf, np.inf))
        of_cell = slice(2, 2 + self.cells)
        others = np.r_[0:2, 2 + self.cells : len(normal)]
        back = np.linalg.solve(
            normal[np.ix_(others, others)], np.column_stack([normal[others, of_cell], right[others]])
        )
        reduced = normal[of_cell, of_cell] - normal[of_cell, others] @ back[:, :-1]
        pull = right[of_cell] - normal[of_cell, others] @ back[:, -1]

        bordered = np.zeros((self.cells + 1,) * 2)
        bordered[:-1, -1] = bordered[-1, :-1] = pull
        loosest = reduced + self._smoothness((_LARGEST_STEP_MAG, _LARGEST_STEP_MAG))
        bordered[-1, -1] = 1.0 + 1.01 * float(pull @ np.linalg.solve(loosest, pull))

        def evidence(step: tuple[float, float]) -> float:
            prior = self._smoothness(step)
            bordered[:-1, :-1] = reduced + prior
            corner = np.diag(np.linalg.cholesky(bordered))
            fitted = bordered[-1, -1] - corner[-1] ** 2  # pull @ inverse(reduced + prior) @ pull
            likely = 0.5 * fitted - np.log(corner[:-1]).sum() + np.log(np.diag(np.linalg.cholesky(prior))).sum()
            return float(likely)

        step = _LEAST_STEP_MAG
        for factor in _STEP_FACTORS:
            for which in (0, 1):
                step = _climbed(evidence, step, which, factor)
        return step


def _climbed(
    evidence: Callable[[tuple[float, float]], float], step: tuple[float, float], which: int, factor: float
) -> tuple[float, float]:
    """Multiply or divide one of the steps as long as that raises the evidence."""
    best, highest = step, evidence(step)
    for direction in (factor, 1.0 / factor):
        while True:
            tried = (best[0] * direction, best[1]) if which == 0 else (best[0], best[1] * direction)
            allowed = _LEAST_STEP_MAG[which] <= tried[which] <= _LARGEST_STEP_MAG
            if not allowed or (value := evidence(tried)) <= highest:
                break
            best, highest = tried, value
        if best != step:
            break
    return best


def _sums(group: Ids, values: Floats, groups: int) -> Floats:
    """Sum of the values of each group."""
    return np.bincount(group, values, groups).astype(np.float64)


def _ring(bins: Bins) -> Mask:
    """Whether each cell is of the outermost ring, shape (cells,)."""
    ring = np.ones((bins.ny, bins.nx), bool)
    ring[1:-1, 1:-1] = False
    return ring.ravel()


def _neighbours(bins: Bins) -> tuple[Ids, Ids]:
    """Pairs of neighbouring cells, shape (K, 2): inside and along the rim; from the rim inwards and from corners."""
    cell = np.arange(bins.nx * bins.ny).reshape(bins.ny, bins.nx)
    across = np.stack([cell[:, :-1].ravel(), cell[:, 1:].ravel()], axis=1)
    along = np.stack([cell[:-1].ravel(), cell[1:].ravel()], axis=1)
    pairs = np.concatenate([across, along]).astype(np.int64)
    ring = _ring(bins)
    steep = ring[pairs[:, 0]] != ring[pairs[:, 1]]
    steep |= np.isin(pairs, cell[[0, 0, -1, -1], [0, -1, 0, -1]]).any(axis=1)
    return pairs[~steep], pairs[steep]


def _result(
    problem: _Problem,
    solution: _Solution,
    settings: FitSettings,
    step: tuple[float, float],
    scatters: _Scatters,
) -> ChannelFit:
    s, bins, cells = problem.sums, problem.bins, problem.cells
    of_cell, of_unit = slice(2, 2 + cells), slice(2 + cells, None)
    inflation = max(solution.chi2, 1.0)
    stars = _sums(s.cell, s.stars, cells)
    near = _window_sums(stars.reshape(bins.ny, bins.nx)).ravel()
    covariance, diagonal = solution.covariance, np.diag(solution.covariance)
    enough = near >= settings.min_cell_stars
    good_cell = enough & (_in_gauge(solution, of_cell, enough, inflation)[1][of_cell] <= settings.max_error)
    parameters, errors = _in_gauge(solution, of_cell, good_cell, inflation)
    offset_stars = _sums(s.unit, s.stars, problem.units)
    known = np.zeros(problem.units, bool)
    if problem.known is not None:
        known[problem.known.unit] = True
    good_unit = ((offset_stars >= settings.min_stars) | known) & (errors[of_unit] <= settings.max_error)
    trusted = problem.valid is not None
    slopes = solution.parameters[:2] if trusted else np.full(2, np.nan)
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
        _sums(s.cell, s.n, cells),
        np.where(good_unit, parameters[of_unit], np.nan),
        errors[of_unit],
        offset_stars,
        _sums(s.unit, s.n, problem.units),
        parameters[of_unit],
        step,
        np.sqrt(scatters.star),
        np.sqrt(scatters.epoch),
    )


def _in_gauge(solution: _Solution, of_cell: slice, valid: Mask, inflation: float) -> tuple[Floats, Floats]:
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
