"""Fit the corrections of one readout channel and filter, from sums over bins.

The mean residual of a bin (time t, unit u, magnitude m, cell k) is modelled as

    M(m, t) + P(k, t) + F_u + C(colour)

and all terms are solved for at once, by least squares. M is a quadratic in m - faint with more of it below some knots,
P a spline of degree 2 over the quadrant, C of second order in the mean colour of the bin. Degeneracies are fixed by
convention: the magnitude term has no constant and is zero at the faint end, the valid cells of the map have mean zero,
the offsets carry the constant.

Weights. A detection has its own noise (variance s^2, from its scatter about the mean of its star) and shares that of
its star (t^2, from the scatter of stars about the model: PS1's errors, colours, blends), so a mean over n detections
has the variance (t^2 sum(n_i^2) + s^2 n) / n^2, n_i those of star i. Both are estimated in each bin of magnitude, and
errors follow: they count stars, not detections.

Smoothness. See :mod:`ztfmatch.photometry.kernels.priors` and :mod:`ztfmatch.photometry.kernels.smoothness`: where stars
are few the map leans on what is around, and where they are many it does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.channelfit import COLOUR_TERMS, ChannelFit, FitResult
from ztfmatch.photometry.kernels.curve import HELD_AT_ZERO, QUADRATIC, Curve, FitSettings
from ztfmatch.photometry.kernels.heldout import held_out_squares
from ztfmatch.photometry.kernels.normalequations import (
    BinSums,
    Design,
    KnownOffsets,
    NormalEquations,
    Solution,
    prior_of,
    sums_by,
)
from ztfmatch.photometry.kernels.priors import Sizes, change_processes, covariance, map_precision, map_processes
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.kernels.scatters import Scatters, scatters_of, trust_of
from ztfmatch.photometry.kernels.smoothness import USUAL_SIZES, log_evidence, most_probable_sizes, without_others
from ztfmatch.photometry.kernels.splines import change_basis, map_basis
from ztfmatch.photometry.kernels.timeline import Timeline

_ROUNDS: Final = 3
_FIRST_ROUNDS: Final = 1
"""Of these, the rounds with a usual map, before it is known how smooth it is."""


@dataclass(frozen=True)
class TimeModel:
    """How corrections may change in time."""

    timeline: Timeline
    weights: Floats
    """Mean weight of each node in each slice of time, shape (slices, K)."""


def fit_channel(sums: BinSums, units: int, bins: Bins, settings: FitSettings,
                known: KnownOffsets | None = None, time: TimeModel | None = None) -> ChannelFit:  # fmt: skip
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
    time : TimeModel, optional
        Without it corrections are constant.
    """
    curve = Curve.of(sums, bins, settings)
    basis = curve.basis(np.asarray(bins.bright + (sums.magnitude + 0.5) * bins.step))
    design = Design(
        np.concatenate([basis, [sums.colour / sums.n, sums.colour2 / sums.n]]),
        map_basis(bins.nx, bins.ny).at_cells(bins.nx, bins.ny),
        change_basis(bins.nx, bins.ny).at_cells(bins.nx, bins.ny),
        np.zeros((int(sums.slice.max()) + 1, 0)),
        units,
    )
    steady = _Fitter(NormalEquations(sums, design, known), bins, curve)
    if not settings.colour:
        steady.without_colour()
    fitted = steady.fitted(_ROUNDS)
    if settings.colour and not steady.has_colour(fitted[0]):
        steady.without_colour()
        fitted = steady.fitted(1)
    if time is not None and time.timeline.size > 1:
        changing = _Fitter(NormalEquations(sums, _changing(design, sums, time), known), bins, curve, time.timeline)
        changing.start_from(steady)
        if changing.choose_change():
            steady, fitted = changing, changing.fitted(1)
    solution, scatters = fitted
    held = steady.held_out()
    return FitResult(
        steady.problem, solution, bins, settings, curve, steady.sizes, scatters, steady.timeline, held
    ).fit()


def _changing(design: Design, sums: BinSums, time: TimeModel) -> Design:
    """A design with changes: of the map, and of slope and curvature, at each node."""
    weights = time.weights[: len(design.time)]
    bent = [design.terms[k] * weights[sums.slice, node] for node in range(weights.shape[1]) for k in range(QUADRATIC)]
    return replace(design, terms=np.concatenate([design.terms, bent]), time=weights)


class _Fitter:
    """Fits of one design, each a little better than the one before."""

    def __init__(self, problem: NormalEquations, bins: Bins, curve: Curve, timeline: Timeline | None = None) -> None:
        self.problem, self.timeline = problem, timeline
        self.sizes: Sizes = USUAL_SIZES
        self._bins, self._curve = bins, curve
        self._change = 0.0
        self.colour_weight = _COLOUR_MAG**-2
        self._effective = 0.0
        self._trust = np.ones(len(problem.mean))
        self._model = _offsets_alone(problem.sums, problem.design.units)

    def start_from(self, other: _Fitter) -> None:
        """Take over what another fit of the same sums has found."""
        self.sizes, self._effective, self._model = other.sizes, other._effective, other._model
        self._trust = other._trust
        self.colour_weight = other.colour_weight

    def has_colour(self, solution: Solution) -> bool:
        """Whether the colour term is more than chance."""
        at = slice(self._curve.size, self._curve.size + COLOUR_TERMS)
        found = solution.parameters[at]
        spread = max(solution.chi2, 1.0) * solution.covariance[at, at]
        return bool(found @ np.linalg.solve(spread, found) > _SURE_COLOUR)

    def without_colour(self) -> None:
        """Hold the colour term at zero."""
        self.colour_weight = HELD_AT_ZERO

    def fitted(self, rounds: int) -> tuple[Solution, Scatters]:
        """Solution and scatters after some rounds.

        Weights need a model, and the model weights: a few rounds settle both. The smoothness is found once, as soon as
        the weights are those of a model with a map.
        """
        for turn in range(rounds):
            scatters, weight = self._weighed()
            if turn == _FIRST_ROUNDS:
                processes = map_processes(self._bins.nx, self._bins.ny)
                self.sizes = most_probable_sizes(self.problem, weight, self._prior(free=True), processes)
            solution = self.problem.solve(weight, self._prior())
            self._model, self._effective = self.problem.predict(solution.parameters), solution.effective
            self._trust = trust_of(self.problem.mean - self._model, scatters.weights(self.problem.sums))
        return solution, scatters

    def held_out(self) -> Floats:
        """See :func:`ztfmatch.photometry.kernels.heldout.held_out_squares`."""
        scatters = scatters_of(self.problem.sums, self._model, self._bins, (self._effective, self._trust))
        weighed = (scatters.weights(self.problem.sums), self._trust)
        return held_out_squares(self.problem, weighed, self._prior(), self._curve, self._bins)

    def _weighed(self) -> tuple[Scatters, Floats]:
        """Scatters about the model so far, and the weight of each bin; bins that are far off count less."""
        scatters = scatters_of(self.problem.sums, self._model, self._bins, (self._effective, self._trust))
        return scatters, scatters.weights(self.problem.sums) * self._trust

    def _prior(self, free: bool = False) -> Floats:
        """Inverse covariance of all parameters before there are data; of the map, and its changes, none if free."""
        design, bins = self.problem.design, self._bins
        of_map = map_precision(bins.nx, bins.ny, self.sizes)
        terms, of_change = np.append(self._curve.weights, [self.colour_weight] * COLOUR_TERMS), np.zeros((0, 0))
        if self.timeline is not None:
            in_time = np.linalg.inv(self.timeline.covariance())
            size = max(self._change, _LEAST_CHANGE_MAG)
            in_place = np.linalg.inv(covariance(change_processes(bins.nx, bins.ny), _change_sizes(size)))
            of_change = np.kron(in_time, in_place)
            bend = np.array(_CHANGE_OF_CURVE) * (size if self._curve.known else 1e-6)
            terms = np.concatenate([terms, np.tile(bend**-2.0, self.timeline.size)])
        if free:
            of_map = of_map * 0.0
        return prior_of(design, terms, np.asarray(of_map), np.asarray(of_change))

    def choose_change(self) -> bool:
        """Find the most probable size of changes; whether there are any.

        The evidence, as in :mod:`ztfmatch.photometry.kernels.smoothness`, of the changes with all other parameters
        eliminated; its value for no changes is 0.
        """
        if self.timeline is None:
            return False
        bins, (_, weight) = self._bins, self._weighed()
        reduced, pull = without_others(self.problem, weight, self._prior(), self.problem.blocks.of_change)
        in_time = np.linalg.cholesky(self.timeline.covariance())
        best, highest = 0.0, 0.0
        for size in _CHANGE_SIZES_MAG:
            in_place = np.linalg.cholesky(covariance(change_processes(bins.nx, bins.ny), _change_sizes(size)))
            value = log_evidence(reduced, pull, np.asarray(np.kron(in_time, in_place)))
            if value > highest:
                best, highest = size, value
        self._change = best
        return highest > _EVIDENCE_OF_CHANGE


_COLOUR_MAG: Final = 0.05
"""Usual size of their factors."""
_SURE_COLOUR: Final = 20.0
"""Chi-square of the two factors beyond which they are more than chance (1 in 20,000)."""
_CHANGE_SIZES_MAG: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)
_LEAST_CHANGE_MAG: Final = 0.001
_RIM_OF_CHANGE: Final = 4.0
"""Size of the change of the rims relative to that of the rest."""
_CHANGE_OF_CURVE: Final = (0.2, 0.05)
"""Of slope and curvature, relative to the change of the map, 1/mag and 1/mag^2."""
_EVIDENCE_OF_CHANGE: Final = 5.0
"""Logarithm: changes that are less probable are taken for chance."""


def _change_sizes(size: float) -> Sizes:
    """Of the processes of what a map changes by."""
    return size, 0.1 * size, _RIM_OF_CHANGE * size


def _offsets_alone(sums: BinSums, units: int) -> Floats:
    """First model: the mean residual of each unit."""
    n = sums_by(sums.unit, sums.n, units)
    return np.asarray((sums_by(sums.unit, sums.total, units) / np.maximum(n, 1.0))[sums.unit])
