"""Fit the corrections of one readout channel and filter, from sums over bins.

The mean residual of a bin (time t, unit u, magnitude m, cell k) is modelled as

    M(m, t) + P(k, t) + F_u + C(colour)

and all terms but the changes in time are solved for at once, by least squares; the changes are found before, from
lightcurves relative to their own means (:mod:`ztfmatch.photometry.kernels.changes`), and taken off, and so is what
single exposures are off by (:mod:`ztfmatch.photometry.kernels.gradients`). M is a quadratic in
m - faint with more of it below some knots, P a spline of degree 2 over the quadrant, C of second order in the mean
colour of the bin. Degeneracies are fixed by convention: the magnitude term has no constant and is zero at the faint
end, the valid cells of the map have mean zero, the offsets carry the constant.

What was before. A camera has changed before the data much as it changes in their time, so its map has that pattern
times an unknown number. Lightcurves tell the pattern, free of what PS1 has wrong: before there are data the map is a
sum of its processes and of that, and the sizes of the processes are those of the rest.

Weights. A detection has its own noise (variance s^2, from its scatter about the mean of its star) and shares that of
its star (t^2, from the scatter of stars about the model: PS1's errors, colours, blends), so a mean over n detections
has the variance (t^2 sum(n_i^2) + s^2 n) / n^2, n_i those of star i. Both are estimated in each bin of magnitude, and
errors follow: they count stars, not detections.

Smoothness. See :mod:`ztfmatch.photometry.kernels.priors` and :mod:`ztfmatch.photometry.kernels.smoothness`: where stars
are few the map is determined by its surroundings and by the maps of other channels
(:mod:`ztfmatch.photometry.kernels.pooling`), where they are many by its stars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.changes import Changes, TimeModel, find_changes
from ztfmatch.photometry.kernels.channelfit import FitResult
from ztfmatch.photometry.kernels.curve import COLOUR_TERMS, HELD_AT_ZERO, QUADRATIC, Curve, FitSettings
from ztfmatch.photometry.kernels.heldout import NO_CHANGES, TERMS, held_out_squares
from ztfmatch.photometry.kernels.modes import map_modes, precision_with, told_by
from ztfmatch.photometry.kernels.normalequations import (
    BinSums,
    Design,
    KnownOffsets,
    NormalEquations,
    Solution,
    prior_of,
    sums_by,
)
from ztfmatch.photometry.kernels.pooling import MapData, MapPrior
from ztfmatch.photometry.kernels.priors import USUAL_SIZES, Sizes, map_precision
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.kernels.scatters import Scatters, scatters_of, trust_of
from ztfmatch.photometry.kernels.smoothness import most_probable_sizes, with_any_of, without_others
from ztfmatch.photometry.kernels.splines import change_basis, map_basis

_ROUNDS: Final = 3
_FIRST_ROUNDS: Final = 1
"""Of these, the rounds with a usual map, before it is known how smooth it is."""


@dataclass(frozen=True)
class Beside:
    """What is known of a channel beside its sums."""

    offsets: KnownOffsets | None = None
    """From an older fit; needs the last unit to be the one that its sums have been given."""
    time: TimeModel | None = None
    """Without it corrections are constant."""
    curves: Floats | None = None
    """Variance of the epochs of lightcurves, see :func:`ztfmatch.photometry.kernels.scatters.scatters_of`."""
    gradients: Callable[[Changes | None], Floats] | None = None
    """What exposures are off by in the mean of each bin, mag, given what the channel changes by."""
    map: MapPrior | None = None
    """What other channels say of the map; its sizes are not fitted then."""


NOTHING: Final = Beside()


def solve_channel(sums: BinSums, units: int, bins: Bins, settings: FitSettings, beside: Beside = NOTHING) -> FitResult:
    """Fit all terms.

    Parameters
    ----------
    sums : BinSums
        At least one row.
    units : int
        Number of units.
    bins : Bins
    settings : FitSettings
    beside : Beside
    """
    known, time = beside.offsets, beside.time
    curve = Curve.of(sums, bins, settings)
    basis = curve.basis(np.asarray(bins.bright + (sums.magnitude + 0.5) * bins.step))
    design = Design(
        np.concatenate([basis, [sums.colour / sums.n, sums.colour2 / sums.n]]),
        map_basis(bins.nx, bins.ny).on_cells(bins.nx, bins.ny),
        units,
    )
    # First a fit as if nothing changed: it gives the scatter of epochs, and whether there is a colour term.
    fitter = _Fitter(sums, design, bins, curve, beside)
    if not settings.colour:
        fitter.without_colour()
    fitted = fitter.fitted(_ROUNDS - _FIRST_ROUNDS * (beside.map is not None))
    if settings.colour and not fitter.has_colour(fitted[0]):
        fitter.without_colour()
        fitted = fitter.fitted(1)
    # Then what changes, in time and by exposure, is found from lightcurves; an older fit, the last unit, has none.
    changes, off = None, np.zeros(len(sums.n))
    if time is not None and time.timeline.size > 1:
        newer = sums.unit < (units if known is None else units - 1)
        changes = find_changes(sums.where(newer), fitted[1].epoch, curve, bins, time)
        if changes is not None:
            cells = change_basis(bins.nx, bins.ny).at_cells(bins.nx, bins.ny)
            off[newer] = changes.at_bins(sums.where(newer), basis[:QUADRATIC, newer], cells)
    if beside.gradients is not None:
        off += beside.gradients(changes)
    if off.any():
        # It is taken off, and what is constant fitted again to the rest, from where the first fit ended.
        steady = _Fitter(sums.less(off), design, bins, curve, beside, None if changes is None else changes.before(bins))
        steady.start_from(fitter, off)
        fitter, fitted = steady, steady.fitted(1 if changes is None else _ROUNDS)
    # At last each term has to make what was held out better.
    worth = NO_CHANGES if changes is None else changes.held
    held, harmful = fitter.held_out(worth)
    if harmful and settings.judged:
        fitter.without(harmful)
        fitted = fitter.fitted(1)
        dropped = [TERMS.index(term) for term in harmful]  # why they are left out
        held = np.where(np.isin(np.arange(held.shape[1]), dropped), held, fitter.held_out(worth)[0])
    solution, scatters = fitted
    pooled_with = () if beside.map is None else beside.map.pooled_with
    return FitResult(fitter.problem, solution, bins, settings, fitter.curve, fitter.sizes, scatters, changes, held,
                     not fitter.flat, fitter.map_data(), pooled_with)  # fmt: skip


class _Fitter:
    """Fits of one design, each a little better than the one before."""

    def __init__(
        self, sums: BinSums, design: Design, bins: Bins, curve: Curve, beside: Beside, before: Floats | None = None
    ) -> None:
        known = beside.map
        self._before = np.zeros((design.map.size, 0)) if before is None else before
        prior = None if known is None else with_any_of(*_pooled_prior(known, bins), self._before)
        self._map_prior: Floats | None = None if prior is None else prior[0]
        pull = None if prior is None else prior[1]
        self.problem = problem = NormalEquations(sums, design, beside.offsets, pull)
        self._beside = beside
        self.sizes: Sizes = USUAL_SIZES if known is None else known.sizes
        self._bins, self.curve = bins, curve
        self.colour_weight = _COLOUR_MAG**-2
        self.flat = False
        """Whether the map is held at zero."""
        self._effective = 0.0
        self._trust = np.ones(len(problem.mean))
        self._model = _offsets_alone(problem.sums, problem.design.units)

    def start_from(self, other: _Fitter, off: Floats) -> None:
        """Take over what another fit of the same sums has found, from which something was taken off since."""
        self.sizes, self._effective, self._model = other.sizes, other._effective, other._model - off
        self._trust = other._trust
        self.colour_weight = other.colour_weight

    def has_colour(self, solution: Solution) -> bool:
        """Whether the colour term is more than chance."""
        at = slice(self.curve.size, self.curve.size + COLOUR_TERMS)
        found = solution.parameters[at]
        spread = max(solution.chi2, 1.0) * solution.covariance[at, at]
        return bool(found @ np.linalg.solve(spread, found) > _SURE_COLOUR)

    def without_colour(self) -> None:
        """Hold the colour term at zero."""
        self.colour_weight = HELD_AT_ZERO

    def without(self, terms: Sequence[str]) -> None:
        """Hold terms of magnitude and position at zero."""
        if "magnitude" in terms:
            self.curve = replace(self.curve, known=False)
        self.flat = "position" in terms

    def fitted(self, rounds: int) -> tuple[Solution, Scatters]:
        """Solution and scatters after some rounds.

        Weights need a model, and the model weights: a few rounds settle both. The smoothness is found once, as soon as
        the weights are those of a model with a map.
        """
        for turn in range(rounds):
            scatters, weight = self._weighed()
            if turn == _FIRST_ROUNDS and self._beside.map is None:
                normal, pull = self._told(weight)
                processes = map_modes(self._bins.nx, self._bins.ny).first(len(pull)).processes
                self.sizes = most_probable_sizes(normal, pull, processes)
            solution = self.problem.solve(weight, self._prior())
            self._model, self._effective = self.problem.predict(solution.parameters), solution.effective
            self._trust = trust_of(self.problem.mean - self._model, scatters.weights(self.problem.sums))
        return solution, scatters

    def held_out(self, changes: Floats) -> tuple[Floats, tuple[str, ...]]:
        """See :func:`ztfmatch.photometry.kernels.heldout.held_out_squares`."""
        scatters = self._scatters()
        weighed = (scatters.weights(self.problem.sums), self._trust)
        return held_out_squares(self.problem, weighed, self._prior(), self.curve, self._bins, changes)

    def map_data(self) -> MapData:
        """What the data say of the map, by the weights that were found."""
        return MapData(*self._told(self._weighed()[1]), self.sizes)

    def _told(self, weight: Floats) -> tuple[Floats, Floats]:
        """Normal matrix and right side of those modes of the map that the data tell, all else eliminated."""
        problem, of_map = self.problem, self.problem.blocks.of_map
        prior = self._prior(free=True) + problem.known_matrix()
        alone = without_others(*problem.data(weight), prior, of_map)
        return told_by(*with_any_of(*alone, self._before), map_modes(self._bins.nx, self._bins.ny))

    def _weighed(self) -> tuple[Scatters, Floats]:
        """Scatters about the model so far, and the weight of each bin; bins that are far off count less."""
        scatters = self._scatters()
        return scatters, scatters.weights(self.problem.sums) * self._trust

    def _scatters(self) -> Scatters:
        known = (self._effective, self._trust)
        return scatters_of(self.problem.sums, self._model, self._bins, known, self._beside.curves)

    def _prior(self, free: bool = False) -> Floats:
        """Inverse covariance of all parameters before there are data; of the map none if free."""
        bins = self._bins
        known = self._map_prior
        if known is None:
            own = map_precision(bins.nx, bins.ny, self.sizes)
            known = with_any_of(own, np.zeros(len(own)), self._before)[0]
        of_map = np.eye(len(known)) * HELD_AT_ZERO if self.flat else known
        terms = np.append(self.curve.weights, [self.colour_weight] * COLOUR_TERMS)
        return prior_of(self.problem.design, terms, np.asarray(of_map * 0.0 if free else of_map))


_COLOUR_MAG: Final = 0.05
"""Usual size of their factors."""
_SURE_COLOUR: Final = 20.0
"""Chi-square of the two factors beyond which they are more than chance (1 in 20,000)."""


def _pooled_prior(known: MapPrior, bins: Bins) -> tuple[Floats, Floats]:
    """Inverse covariance of the coefficients of a map, and that times their mean."""
    own = map_precision(bins.nx, bins.ny, known.sizes)
    return precision_with(own, (known.mean, known.covariance), known.sizes, map_modes(bins.nx, bins.ny))


def _offsets_alone(sums: BinSums, units: int) -> Floats:
    """First model: the mean residual of each unit."""
    n = sums_by(sums.unit, sums.n, units)
    return np.asarray((sums_by(sums.unit, sums.total, units) / np.maximum(n, 1.0))[sums.unit])
