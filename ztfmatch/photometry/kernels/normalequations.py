"""Normal equations of the corrections of one channel: what the data say, what is known before, and their solution.

Parameters are blocks of one vector: the two terms in magnitude, the cells of the map, the offsets of units. Each bin
of data (unit u, magnitude m, cell k) is a row of the design matrix with four entries, (t, t^2, 1 at k, 1 at u), so the
normal matrix is sums over bins and is added up block by block, without the design matrix itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.residuals import Bins

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Steps = tuple[float, float]
"""Difference of neighbouring cells, mag: inside, and from the outermost ring of cells inwards."""

_GAUGE_MAG: Final = 1.0
"""Loose bound of the constant that map and offsets share, until it is fixed by convention."""
_TERM_WEIGHT: Final = 1.0
"""Of the prior of slope and curvature: 1 mag/mag, 1 mag/mag^2, far wider than any camera."""
_HELD_AT_ZERO: Final = 1e12
_UNIT_WEIGHT: Final = 1e-4
"""Of the prior of an offset, 100 mag: it makes units without data solvable, and moves no other."""


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
class KnownOffsets:
    """Offsets of an older fit, all relative to one offset of its sums, which are those of the last unit."""

    unit: Ids
    value: Floats
    error: Floats


@dataclass(frozen=True)
class Blocks:
    """Where the kinds of parameters are in their vector."""

    cells: int
    units: int

    @property
    def size(self) -> int:
        """Number of parameters."""
        return TERMS + self.cells + self.units

    @property
    def cell(self) -> slice:
        """Values of the map."""
        return slice(TERMS, TERMS + self.cells)

    @property
    def unit(self) -> slice:
        """Offsets of units."""
        return slice(TERMS + self.cells, self.size)

    @property
    def not_cell(self) -> Ids:
        """All others than the map."""
        return np.concatenate([np.arange(TERMS), np.arange(TERMS + self.cells, self.size)])


TERMS: Final = 2
"""Slope and curvature, the first parameters."""
_SLOPE: Final = slice(0, TERMS)


@dataclass(frozen=True)
class Solution:
    """Most probable parameters, and how well they are known."""

    parameters: Floats
    covariance: Floats
    effective: float
    """Number of parameters that the data determine."""
    chi2: float
    """Reduced."""


class NormalEquations:
    """Of one channel, for any weights of the data and any smoothness of the map."""

    def __init__(
        self, sums: BinSums, units: int, bins: Bins, valid: tuple[int, int] | None, known: KnownOffsets | None
    ) -> None:
        self.sums, self.units, self.bins, self.valid, self.known = sums, units, bins, valid, known
        self.blocks = Blocks(bins.nx * bins.ny, units)
        self.mean = sums.total / sums.n
        first, last = valid or (0, bins.levels - 1)
        self.bright, self.faint = bins.bright + first * bins.step, bins.bright + (last + 1) * bins.step
        t = bins.bright + (sums.magnitude + 0.5) * bins.step - self.faint
        t = np.clip(t, self.bright - self.faint, 0.0)  # beyond its range the term stays as at the end
        self.basis = np.stack([t, t * t])
        self.ring = ring_of(bins)
        self.inner, self.rim = _neighbours(bins)

    def offsets_alone(self) -> Floats:
        """First model: the mean residual of each unit."""
        s = self.sums
        n = sums_by(s.unit, s.n, self.units)
        return np.asarray((sums_by(s.unit, s.total, self.units) / np.maximum(n, 1.0))[s.unit])

    def predict(self, parameters: Floats) -> Floats:
        """Model of each bin."""
        cells, units = parameters[self.blocks.cell], parameters[self.blocks.unit]
        return np.asarray(parameters[_SLOPE] @ self.basis + cells[self.sums.cell] + units[self.sums.unit])

    def solve(self, weight: Floats, step: Steps) -> Solution:
        """Solution for a weight of each bin, mag^-2, and the smoothness of the map."""
        data, right = self.data(weight)
        normal = data + self.priors(step)
        covariance = np.linalg.inv(normal)
        covariance = 0.5 * (covariance + covariance.T)
        parameters = covariance @ right
        effective = float(np.sum(covariance * data))  # trace(covariance @ data), both symmetric
        left = self.mean - self.predict(parameters)
        chi2 = float(weight @ left**2) / max(len(left) - effective, 1.0)
        return Solution(parameters, covariance, effective, chi2)

    def data(self, weight: Floats) -> tuple[Floats, Floats]:
        """Normal matrix of the data alone, and right side with what is known of offsets."""
        s, at = self.sums, self.blocks
        cells, units = at.cells, at.units
        a, right = np.zeros((at.size, at.size)), np.zeros(at.size)
        for i in range(TERMS):
            weighted = weight * self.basis[i]
            for j in range(TERMS):
                a[i, j] = weighted @ self.basis[j]
            a[i, at.cell] = a[at.cell, i] = sums_by(s.cell, weighted, cells)
            a[i, at.unit] = a[at.unit, i] = sums_by(s.unit, weighted, units)
            right[i] = weighted @ self.mean
        # Cells do not meet cells, nor units units: those blocks are diagonal.
        diagonal = np.arange(TERMS, at.size)
        a[diagonal, diagonal] = np.concatenate([sums_by(s.cell, weight, cells), sums_by(s.unit, weight, units)])
        a[at.cell, at.unit] = sums_by(s.cell * units + s.unit, weight, cells * units).reshape(cells, units)
        a[at.unit, at.cell] = a[at.cell, at.unit].T
        right[at.cell] = sums_by(s.cell, weight * self.mean, cells)
        right[at.unit] = sums_by(s.unit, weight * self.mean, units)
        return a, right + self._known_right()

    def smoothness(self, step: Steps) -> Floats:
        """Inverse covariance of the cells before there are data: a Laplacian, of weight 1 / step^2 a pair."""
        cells = self.blocks.cells
        a = np.zeros((cells, cells))
        for pairs, size in zip((self.inner, self.rim), step, strict=True):
            i, j = pairs.T
            np.add.at(a, (np.concatenate([i, j]), np.concatenate([i, j])), 1.0 / size**2)
            np.add.at(a, (np.concatenate([i, j]), np.concatenate([j, i])), -1.0 / size**2)
        return a + 1.0 / (cells * _GAUGE_MAG) ** 2  # their mean, else free, is of the order of the gauge

    def priors(self, step: Steps) -> Floats:
        """Inverse covariance of all parameters before there are data."""
        at = self.blocks
        a = np.zeros((at.size, at.size))
        a[at.cell, at.cell] = self.smoothness(step)
        a[0, 0] = a[1, 1] = _TERM_WEIGHT if self.valid else _HELD_AT_ZERO  # without a valid range there is no term
        diagonal = np.arange(at.unit.start, at.size)
        a[diagonal, diagonal] += _UNIT_WEIGHT
        if self.known is not None:
            # Each known value is a measurement of its unit's offset less that of the last unit, which the older sums
            # were given.
            last, unit = at.size - 1, at.unit.start + self.known.unit
            weight = 1.0 / self.known.error**2
            a[unit, unit] += weight
            a[unit, last] -= weight
            a[last, unit] -= weight
            a[last, last] += weight.sum()
        return a

    def _known_right(self) -> Floats:
        right = np.zeros(self.blocks.size)
        if self.known is not None:
            pull = self.known.value / self.known.error**2
            right[self.blocks.unit.start + self.known.unit] += pull
            right[-1] -= pull.sum()
        return right


def sums_by(group: Ids, values: Floats, groups: int) -> Floats:
    """Sum of the values of each group."""
    return np.bincount(group, values, groups).astype(np.float64)


def ring_of(bins: Bins) -> Mask:
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
    ring = ring_of(bins)
    steep = ring[pairs[:, 0]] != ring[pairs[:, 1]]
    steep |= np.isin(pairs, cell[[0, 0, -1, -1], [0, -1, 0, -1]]).any(axis=1)
    return pairs[~steep], pairs[steep]
