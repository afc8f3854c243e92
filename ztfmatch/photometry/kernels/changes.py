"""Changes with time of the map and the magnitude term of a channel, from lightcurves relative to their means.

A star is its own standard: what PS1 has wrong of it is the same in all its epochs. So the changes are fitted to the
means, in bins of time, magnitude and place, of what epochs are off from the mean of their star, apart from all that
does not change. The mean of a bin (time t, unit, magnitude m, cell k) is modelled as

    sum over nodes i of w_i(t) (P_i(k) + a_i (m - faint) + b_i (m - faint)^2) + e(t, k) + a constant of (unit, m, k)

with w_i the weights of the nodes (:mod:`ztfmatch.photometry.kernels.timeline`), P_i splines of degree 2, and e(t, k) a
plane that the exposures of a slice of time are off by in the mean. e is chance, with variances that single exposures
tell; it is not corrected for, and may not pass for a change. The constants are eliminated: a group, bins of one unit, m
and k, with weights v and functions of time T leaves sum(v T T') - sum(v T) sum(v T)' / sum(v) of the normal matrix.

Before there are data, the nodes are alike over a year. A camera changes by much the same pattern for long, dust or a
coating, say, more or less of it: so the course in time of the strongest pattern is found, in turns with the pattern,
and where that is more probable the course of all places is shrunk towards it, as closely as the data say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.photometry.kernels.curve import QUADRATIC, Curve
from ztfmatch.photometry.kernels.exposuremaps import PLANE
from ztfmatch.photometry.kernels.grid import fine_areas, fine_centres
from ztfmatch.photometry.kernels.heldout import BRIGHT_MAG, HELD, LEAST_BINS
from ztfmatch.photometry.kernels.normalequations import BinSums, Ids, Mask, sums_by
from ztfmatch.photometry.kernels.priors import Sizes, change_processes, covariance
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.kernels.scatters import trust_of
from ztfmatch.photometry.kernels.smoothness import log_evidence, without_others
from ztfmatch.photometry.kernels.splines import change_basis, map_basis
from ztfmatch.photometry.kernels.sums import FITTED
from ztfmatch.photometry.kernels.timeline import Timeline

_SIZES_MAG: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)
_RIMS: Final = (1.0, 2.0, 4.0, 8.0)
"""Size of the change of the rims relative to that of the rest."""
_USUAL_RIM: Final = 4.0
_BEND_OF_CURVE: Final = (0.2, 0.05)
"""Of slope and curvature, relative to the change of the map, 1/mag and 1/mag^2."""
_NO_CURVE: Final = 1e-6
_LEAST_EVIDENCE: Final = 5.0
"""Logarithm: changes that are less probable are taken for chance."""
_OWN_COURSE: Final = (0.1, 0.02)
"""Variance of what a place changes by beside the course that all share, relative to that of the course: usual, less."""
_BEFORE: Final = 2.0
"""Usual size of what the map has of the pattern from before, relative to what it changes by."""
_TURNS: Final = 3
"""In which the course and its pattern are solved for, each given the other."""
_HARM: Final = 0.25
"""What held-out exposures may lose of what held-out stars gain: some are extrapolated to. Chance loses all of it."""
_LEAST_CHANCE_MAG: Final = 1e-5
_SEEN_AGAIN: Final = 1.2
"""Epochs that a star has at one place and time in the mean; else their noise cannot be distinguished from changes."""


@dataclass(frozen=True)
class TimeModel:
    """How corrections may change in time."""

    timeline: Timeline
    weights: Floats
    """Mean weight of each node in each slice of time, shape (slices, K)."""
    chance: Floats
    """Variances of the zero points and slopes that exposures of each slice have in the mean, mag^2; (slices, 3)."""


@dataclass(frozen=True)
class Changes:
    """What a channel changes by."""

    time: TimeModel
    map: Floats
    """Coefficients of the change at each node, shape (K, D)."""
    curve: Floats
    """Change of slope and curvature at each node, shape (K, QUADRATIC)."""
    held: Floats
    """By how much mean squares of what was held out are larger without them, in order of HELD, mag^2; NaN for none."""
    pattern: Floats
    """Mean product of each two coefficients of the strongest pattern, given the data; mag^2, shape (D, D)."""

    def at_bins(self, sums: BinSums, functions: Floats, cells: Floats) -> Floats:
        """Change of each bin, for its functions of magnitude, shape (QUADRATIC, N), and the splines at cells (C, D)."""
        maps = self.time.weights @ self.map @ cells.T
        bent = self.time.weights @ self.curve
        return np.asarray(maps[sums.slice, sums.cell] + (bent[sums.slice].T * functions).sum(axis=0))

    def before(self, bins: Bins) -> Floats:
        """What the map may have of the pattern from before, coefficients of shape (B, D): a sum of normal numbers."""
        finer = change_basis(bins.nx, bins.ny).refined(map_basis(bins.nx, bins.ny))
        return np.asarray(_BEFORE * finer @ np.linalg.cholesky(self.pattern))


def find_changes(sums: BinSums, epoch: Floats, curve: Curve, bins: Bins, time: TimeModel) -> Changes | None:
    """Changes of a channel; None if none are significant.

    Parameters
    ----------
    sums : BinSums
    epoch : float64 ndarray, shape (levels,)
        Variance of epochs about their star by bin of magnitude, mag^2.
    curve : Curve
    bins : Bins
    time : TimeModel
    """
    if sums.n.sum() < _SEEN_AGAIN * sums.groups.sum():
        return None
    problem = _Problem(sums, epoch, curve, bins, time)
    every = np.ones(len(sums.n), bool)
    equations = problem.equations(every)
    sizes, evidence = problem.most_probable(equations)
    if evidence <= _LEAST_EVIDENCE:
        return None
    sizes = problem.shrink_to_course(equations, sizes, evidence)
    problem.trust_by(problem.solved(equations, sizes))
    held = problem.held_out(sizes)
    exposures, stars = (held[list(HELD).index(name)] for name in ("exposures", "stars"))
    if exposures < -_HARM * max(float(np.nan_to_num(stars)), 0.0):
        return None
    found = problem.solved(problem.equations(every), sizes)  # with the weights that bins are trusted with
    return Changes(time, *problem.parts(found), held, problem.pattern)


@dataclass(frozen=True)
class _Equations:
    """Normal matrix and right side of the data alone; parameters are changes node by node, curves, slices."""

    data: Floats
    right: Floats
    weight: float
    """Sum over all bins, mag^-2."""


class _Problem:
    """Changes of one channel."""

    def __init__(self, sums: BinSums, epoch: Floats, curve: Curve, bins: Bins, time: TimeModel) -> None:
        self.sums, self.time, self._bins = sums, time, bins
        self._cells = change_basis(bins.nx, bins.ny).at_cells(bins.nx, bins.ny)
        self._planes = _planes(bins)
        middles = np.asarray(bins.bright + (np.arange(bins.levels) + 0.5) * bins.step)
        self._bright = middles < BRIGHT_MAG
        self._functions = curve.basis(middles)[:QUADRATIC]
        self._known_curve = curve.known
        self._mean = sums.off / sums.n
        self._weight = sums.n / epoch[sums.magnitude]
        self._trust = np.ones(len(sums.n))
        self.nodes, self.size = time.weights.shape[1], self._cells.shape[1]
        self.slices = len(time.weights)
        self.pattern = np.zeros((self.size, self.size))
        self._in_time = time.timeline.covariance()
        self._of_maps = slice(0, self.nodes * self.size)
        self._of_curves = slice(self._of_maps.stop, self._of_maps.stop + self.nodes * QUADRATIC)

    def parts(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Changes of the map and of the curve at each node."""
        curves = parameters[self._of_curves].reshape(self.nodes, QUADRATIC)
        return parameters[self._of_maps].reshape(self.nodes, self.size), curves

    def trust_by(self, parameters: Floats) -> None:
        """Let bins that are far off count less."""
        slices = parameters[self._of_curves.stop :].reshape(PLANE, -1)
        at = Changes(self.time, *self.parts(parameters), np.zeros(0), np.zeros(0))
        model = at.at_bins(self.sums, self._functions[:, self.sums.magnitude], self._cells)
        model += (slices[:, self.sums.slice] * self._planes[:, self.sums.cell]).sum(axis=0)
        self._trust = trust_of(self._mean - model, self._weight)

    def equations(self, rows: Mask) -> _Equations:
        """Of some of the bins."""
        total = _Sums(len(self._cells), self.nodes, self.slices)
        weight = float((self._weight * self._trust)[rows].sum())
        for unit in _runs(self.sums.unit, rows):
            total.add(*self._groups(unit), self.time.weights)
        return _Equations(*self._assembled(total), weight)

    def _groups(self, rows: Ids) -> tuple[Ids, Floats, Floats, Floats]:
        """Cell, functions of magnitude, and by slice of time the weight and pull of the groups of a unit's bins."""
        s, cells = self.sums, len(self._cells)
        names, group = np.unique(s.magnitude[rows] * cells + s.cell[rows], return_inverse=True)
        place, size = group * self.slices + s.slice[rows], len(names) * self.slices
        weight = (self._weight * self._trust)[rows]
        by_slice = [
            sums_by(place, values, size).reshape(-1, self.slices) for values in (weight, weight * self._mean[rows])
        ]
        return names % cells, self._functions[:, names // cells], by_slice[0], by_slice[1]

    def _assembled(self, total: _Sums) -> tuple[Floats, Floats]:
        cells, size = self._cells, self.size
        n = self._of_curves.stop + PLANE * self.slices
        a, right = np.zeros((n, n)), np.zeros(n)
        maps = [slice(i * size, (i + 1) * size) for i in range(self.nodes)]
        curves = [
            slice(self._of_maps.stop + i * QUADRATIC, self._of_maps.stop + (i + 1) * QUADRATIC)
            for i in range(self.nodes)
        ]
        slices = [
            slice(stop - self.slices, stop) for stop in range(self._of_curves.stop + self.slices, n + 1, self.slices)
        ]
        for i in range(self.nodes):
            right[maps[i]] = cells.T @ total.pull[i]
            right[curves[i]] = total.pull_of_curve[:, i]
            for place, plane in zip(slices, self._planes, strict=True):
                a[maps[i], place] = cells.T @ (total.with_slices[0, i] * plane[:, None])
                a[curves[i], place] = np.einsum("qcs,c->qs", total.with_slices[1:, i], plane)
            for j in range(i, self.nodes):
                a[maps[i], maps[j]] = cells.T @ (cells * total.both[0, i, j][:, None])
                a[curves[i], curves[j]] = total.of_curves[:, :, i, j]
            for j in range(self.nodes):
                a[maps[i], curves[j]] = cells.T @ total.both[1:, min(i, j), max(i, j)].T
        for place, plane in zip(slices, self._planes, strict=True):
            right[place] = plane @ total.pull_of_slices
            for other, beside in zip(slices, self._planes, strict=True):
                a[place, other] = np.tensordot(plane * beside, total.of_slices, 1)
        upper = np.triu(a)
        return upper + np.triu(a, 1).T, right

    def _prior(self, sizes: Sizes) -> Floats:
        """Inverse covariance of all parameters before there are data; of the map's changes none."""
        bend = np.array(_BEND_OF_CURVE) * (sizes[0] if self._known_curve else _NO_CURVE)
        chance = 1.0 / np.maximum(self.time.chance, _LEAST_CHANCE_MAG**2)
        free = np.zeros(self._of_maps.stop)
        return np.diag(np.concatenate([free, np.tile(bend**-2.0, self.nodes), chance.T.ravel()]))

    def most_probable(self, equations: _Equations) -> tuple[Sizes, float]:
        """The most probable sizes, and the logarithm of their evidence relative to no changes."""
        best = self._best(equations, [_sizes(size, _USUAL_RIM) for size in _SIZES_MAG])
        other = self._best(equations, [_sizes(best[0][0], rim) for rim in _RIMS if rim != _USUAL_RIM])
        return max(best, other, key=lambda found: found[1])

    def _best(self, equations: _Equations, tried: Sequence[Sizes]) -> tuple[Sizes, float]:
        found = {sizes: self._evidence(equations, sizes) for sizes in tried}
        best = max(found, key=lambda sizes: found[sizes])
        return best, found[best]

    def _evidence(self, equations: _Equations, sizes: Sizes) -> float:
        in_time = np.linalg.cholesky(self._in_time)
        reduced, pull = without_others(equations.data, equations.right, self._prior(sizes), self._of_maps)
        in_place = np.linalg.cholesky(covariance(change_processes(self._bins.nx, self._bins.ny), sizes))
        # L is the product in_time x in_place of Kronecker: its factors are applied one after the other.
        shape = (self.nodes, self.size)
        for _ in range(2):
            placed = (reduced.reshape(-1, self.size) @ in_place).reshape(-1, *shape)
            reduced = np.tensordot(placed, in_time, (1, 0)).transpose(0, 2, 1).reshape(pull.size, -1).T
        return log_evidence(np.array(reduced), (in_time.T @ pull.reshape(shape) @ in_place).ravel())

    def shrink_to_course(self, equations: _Equations, sizes: Sizes, evidence: float) -> Sizes:
        """Shrink all places towards the course of the strongest pattern in time, if more probable; the sizes then.

        Each number of the course must be worth itself: its evidence is raised by one by chance (Akaike). Places have as
        much of their own beside it as is more probable.
        """
        course, self.pattern = self._course(equations, sizes)
        own = self._in_time
        usual, less = (np.outer(course, course) + part * own for part in _OWN_COURSE)
        rim = sizes[2] / sizes[0]
        self._in_time = usual
        shared, more = self._best(equations, [_sizes(sizes[0], rim * factor) for factor in (0.25, 0.5, 1.0)])
        if more <= evidence + self.nodes:
            self._in_time = own
            return sizes
        self._in_time = less
        if self._evidence(equations, shared) <= more:
            self._in_time = usual
        return shared

    def _course(self, equations: _Equations, sizes: Sizes) -> tuple[Floats, Floats]:
        """Course in time of the strongest pattern, shape (K,), of size 1, and mean products of the pattern, (D, D).

        That of a solution in which each place has its own is drawn towards zero where epochs are few, at the ends most;
        all places together tell it better.
        """
        pattern_of = np.linalg.inv(covariance(change_processes(self._bins.nx, self._bins.ny), sizes))
        free = np.linalg.inv(self._in_time)
        reduced, pull = without_others(equations.data, equations.right, self._prior(sizes), self._of_maps)
        shape = (self.nodes, self.size)
        both, pulls = reduced.reshape(*shape, *shape), pull.reshape(shape)
        maps = self.parts(self.solved(equations, sizes))[0]
        apart = (maps - maps.mean(axis=0)) @ self._cells.T * np.sqrt(fine_areas(self._bins.nx, self._bins.ny))
        course = np.linalg.svd(apart, full_matrices=False)[0][:, 0] * np.sqrt(self.nodes)
        for _ in range(_TURNS):
            given = np.tensordot(course, np.tensordot(course, both, (0, 0)), (0, 1))
            spread = np.linalg.inv(given + pattern_of)
            pattern = spread @ (course @ pulls)
            normal = np.tensordot(both, pattern, (3, 0)).transpose(0, 2, 1) @ pattern
            course = np.linalg.solve(normal + free, pulls @ pattern)
            course *= np.sqrt(self.nodes) / np.linalg.norm(course)
        return np.asarray(course), np.asarray(np.outer(pattern, pattern) + spread)

    def solved(self, equations: _Equations, sizes: Sizes) -> Floats:
        """Most probable parameters."""
        in_time = np.linalg.inv(self._in_time)
        in_place = np.linalg.inv(covariance(change_processes(self._bins.nx, self._bins.ny), sizes))
        normal = equations.data + self._prior(sizes)
        normal[self._of_maps, self._of_maps] += np.kron(in_time, in_place)
        return np.asarray(np.linalg.solve(normal, equations.right))

    def held_out(self, sizes: Sizes) -> Floats:
        """By how much squares are larger without changes that were fitted to the rest; bright stars, as HELD."""
        fitted = self.solved(self.equations(self.sums.part == FITTED), sizes)
        fitted[self._of_curves.stop :] = 0.0  # what these exposures are off by says nothing of others
        gains: list[float] = []
        for part in HELD.values():
            rows = (self.sums.part == part) & self._bright[self.sums.magnitude]
            if rows.sum() < LEAST_BINS:
                gains.append(np.nan)
                continue
            other = self.equations(rows)
            gains.append(float(2.0 * other.right @ fitted - fitted @ other.data @ fitted) / other.weight)
        return np.array(gains)


class _Sums:
    """What groups of bins add up to, by cell or over all; C cells, K nodes, S slices."""

    def __init__(self, cells: int, nodes: int, slices: int) -> None:
        self.both = np.zeros((1 + QUADRATIC, nodes, nodes, cells))
        """Of two nodes, times 1 and the functions of magnitude; the upper triangle."""
        self.of_curves = np.zeros((QUADRATIC, QUADRATIC, nodes, nodes))
        self.with_slices = np.zeros((1 + QUADRATIC, nodes, cells, slices))
        """Of a node and a slice, times 1 and the functions of magnitude."""
        self.of_slices = np.zeros((cells, slices, slices))
        self.pull = np.zeros((nodes, cells))
        self.pull_of_curve = np.zeros((QUADRATIC, nodes))
        self.pull_of_slices = np.zeros((cells, slices))

    def add(self, cell: Ids, functions: Floats, weight: Floats, pull: Floats, time: Floats) -> None:
        """Add groups: their cells (G,), functions of magnitude (QUADRATIC, G), weights and pulls by slice (G, S)."""
        cells = self.pull.shape[1]
        whole = weight.sum(axis=1)
        mean, pulled = weight @ time, pull.sum(axis=1) / whole
        left = pull - weight * pulled[:, None]
        for i in range(time.shape[1]):
            mine = left @ time[:, i]
            self.pull[i] += sums_by(cell, mine, cells)
            self.pull_of_curve[:, i] += functions @ mine
            for j in range(i, time.shape[1]):
                both = weight @ (time[:, i] * time[:, j]) - mean[:, i] * mean[:, j] / whole
                for k, one in enumerate((both, *(functions * both))):
                    self.both[k, i, j] += sums_by(cell, one, cells)
                self.of_curves[:, :, i, j] += (functions * both) @ functions.T
            beside = weight * time[:, i] - weight * (mean[:, i] / whole)[:, None]
            for s in range(weight.shape[1]):
                for k, one in enumerate((beside[:, s], *(functions * beside[:, s]))):
                    self.with_slices[k, i, :, s] += sums_by(cell, one, cells)
        for s in range(weight.shape[1]):
            self.pull_of_slices[:, s] += sums_by(cell, left[:, s], cells)
            for t in range(s + 1):
                both = (s == t) * weight[:, s] - weight[:, s] * weight[:, t] / whole
                self.of_slices[:, t, s] += sums_by(cell, both, cells)
                self.of_slices[:, s, t] = self.of_slices[:, t, s]


def _planes(bins: Bins) -> Floats:
    """1, u and v, from -1 to 1 over the quadrant, at the centres of the fine cells; shape (3, C)."""
    x, y = fine_centres(bins.nx, bins.ny)
    u, v = (2.0 * w / pixels - 1.0 for w, pixels in zip((x, y), QUADRANT_SHAPE_PIX, strict=True))
    v, u = (values.ravel() for values in np.meshgrid(v, u, indexing="ij"))
    return np.stack([np.ones(len(u)), u, v])


def _runs(unit: Ids, rows: Mask) -> Iterator[Ids]:
    """Rows of each unit."""
    chosen = np.flatnonzero(rows)
    chosen = chosen[np.argsort(unit[chosen], kind="stable")]
    yield from np.split(chosen, np.flatnonzero(np.diff(unit[chosen])) + 1) if len(chosen) else ()


def _sizes(size: float, rim: float) -> Sizes:
    """Of the processes of what a map changes by."""
    return size, 0.1 * size, rim * size
