"""Normal equations of the corrections of one channel: data, priors, and the solution.

Parameters are blocks of one vector:

- terms: factors of functions of a bin alone (of its magnitude and colour),
- the coefficients of the map, a spline of degree 2,
- offsets of units.

A bin of data (time, unit, magnitude, fine cell) has the mean of its detections, modelled at the centre of its cell. The
normal matrix is sums over bins and is added up block by block: what depends on cells is first summed by cell, and only
then multiplied with the values of splines there, so that its cost does not follow the number of bins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.splines import CellSplines

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_UNIT_WEIGHT = 1e-4
"""Of the prior of an offset, 100 mag: it makes units without data solvable, and moves no other."""


@dataclass(frozen=True)
class BinSums:
    """Sums over bins of one channel, shape (N,) each; see :data:`ztfmatch.photometry.kernels.sums.COLUMNS`."""

    unit: Ids
    """Row of the unit."""
    slice: Ids
    """Of time."""
    part: Ids
    """What is held out, see :data:`ztfmatch.photometry.kernels.sums.PARTS`."""
    magnitude: Ids
    """Bin of magnitude."""
    cell: Ids
    """Fine cell."""
    n: Floats
    total: Floats
    squares: Floats
    stars: Floats
    groups: Floats
    between: Floats
    pairs: Floats
    colour: Floats
    colour2: Floats
    off: Floats

    def less(self, offset: Floats) -> BinSums:
        """The same sums of residuals less an offset, shape (N,) in mag."""
        shift = offset * (offset * self.n - 2.0 * self.total)
        return replace(
            self,
            total=self.total - offset * self.n,
            squares=self.squares + shift,
            between=self.between + shift,
        )

    def where(self, rows: Mask) -> BinSums:
        """Some of the bins."""
        return BinSums(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class KnownOffsets:
    """Offsets of an older fit, all relative to one offset of its sums, which are those of the last unit."""

    unit: Ids
    value: Floats
    error: Floats


@dataclass(frozen=True)
class Design:
    """How bins depend on parameters."""

    terms: Floats
    """Functions of a bin, shape (T, N)."""
    map: CellSplines
    """Splines of a map at the centres of the C fine cells."""
    units: int


@dataclass(frozen=True)
class Blocks:
    """Where the kinds of parameters are in their vector."""

    terms: int
    map: int
    units: int

    @classmethod
    def of(cls, design: Design) -> Blocks:
        """Blocks of a design."""
        return cls(len(design.terms), design.map.size, design.units)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.terms + self.map + self.units

    @property
    def of_terms(self) -> slice:
        """Factors of the terms."""
        return slice(0, self.terms)

    @property
    def of_map(self) -> slice:
        """Coefficients of the map."""
        return slice(self.terms, self.terms + self.map)

    @property
    def of_units(self) -> slice:
        """Offsets of units."""
        return slice(self.of_map.stop, self.size)


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
    """Of some bins of one channel, for any weights of the data and any prior."""

    def __init__(
        self, sums: BinSums, design: Design, known: KnownOffsets | None = None, pull: Floats | None = None
    ) -> None:
        self.sums, self.design, self.known = sums, design, known
        self.pull = pull
        """Of what is known of the map before: its inverse covariance times its mean."""
        self.blocks = Blocks.of(design)
        self.mean = sums.total / sums.n

    def predict(self, parameters: Floats) -> Floats:
        """Model of each bin."""
        at, s = self.blocks, self.sums
        total = parameters[at.of_terms] @ self.design.terms
        total += self.design.map.sums(parameters[at.of_map])[s.cell] + parameters[at.of_units][s.unit]
        return np.asarray(total)

    def solve(self, weight: Floats, prior: Floats) -> Solution:
        """Solution for a weight of each bin, mag^-2, and the inverse covariance of parameters before there are data."""
        data, right = self.data(weight)
        covariance = np.linalg.inv(data + prior + self.known_matrix())
        covariance = 0.5 * (covariance + covariance.T)
        parameters = covariance @ right
        effective = float(np.sum(covariance * data))  # trace(covariance @ data), both symmetric
        left = self.mean - self.predict(parameters)
        chi2 = float(weight @ left**2) / max(len(left) - effective, 1.0)
        return Solution(parameters, covariance, effective, chi2)

    def data(self, weight: Floats) -> tuple[Floats, Floats]:
        """Normal matrix of the data alone, and right side with what is known of offsets and of the map."""
        at, design = self.blocks, self.design
        # Blocks on the diagonal and above it: terms, map, units; those below are their mirror images.
        a, right = np.zeros((at.size, at.size)), np.zeros(at.size)
        self._add_terms(a, right, weight)
        a[at.of_map, at.of_map] = design.map.normal(self._by_cell(weight))
        right[at.of_map] = design.map.pulls(self._by_cell(weight * self.mean)[None])[0]
        right[at.of_units] = sums_by(self.sums.unit, weight * self.mean, at.units)
        units = np.arange(at.of_units.start, at.size)
        a[units, units] = sums_by(self.sums.unit, weight, at.units)  # no unit meets another
        # Of a map and a unit: the weight of the unit in each cell, spread over the coefficients that reach there.
        cells = design.map.cells
        both = sums_by(self.sums.unit * cells + self.sums.cell, weight, cells * at.units).reshape(at.units, cells)
        a[at.of_map, at.of_units] = design.map.pulls(both).T
        upper = np.triu(a)
        return upper + np.triu(a, 1).T, right + self._known_right()

    def _by_cell(self, values: Floats) -> Floats:
        return sums_by(self.sums.cell, values, self.design.map.cells)

    def _add_terms(self, a: Floats, right: Floats, weight: Floats) -> None:
        at, design = self.blocks, self.design
        weighted = design.terms * weight
        a[at.of_terms, at.of_terms] = weighted @ design.terms.T
        right[at.of_terms] = weighted @ self.mean
        for i, values in enumerate(weighted):
            a[i, at.of_map] = design.map.pulls(self._by_cell(values)[None])[0]
            a[i, at.of_units] = sums_by(self.sums.unit, values, at.units)

    def known_matrix(self) -> Floats:
        """Each known value is a measurement of its unit's offset less that of the last, which the older sums have."""
        at = self.blocks
        a = np.zeros((at.size, at.size))
        diagonal = np.arange(at.of_units.start, at.size)
        a[diagonal, diagonal] = _UNIT_WEIGHT
        if self.known is not None:
            last, unit = at.size - 1, at.of_units.start + self.known.unit
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
            right[self.blocks.of_units.start + self.known.unit] += pull
            right[-1] -= pull.sum()
        if self.pull is not None:
            right[self.blocks.of_map] += self.pull
        return right


def sums_by(group: Ids, values: Floats, groups: int) -> Floats:
    """Sum of the values of each group."""
    return np.bincount(group, values, groups).astype(np.float64)


def prior_of(design: Design, terms: Floats, of_map: Floats) -> Floats:
    """Inverse covariance of all parameters before there are data, from those of the blocks; terms are independent."""
    at = Blocks.of(design)
    a = np.zeros((at.size, at.size))
    diagonal = np.arange(at.terms)
    a[diagonal, diagonal] = terms
    a[at.of_map, at.of_map] = of_map
    return a
