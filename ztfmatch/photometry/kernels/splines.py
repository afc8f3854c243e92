"""Bases of splines of degree 2 over the quadrant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np

from ztfmatch.core.kernels.smoothcorrections import DEGREE
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.photometry.kernels.grid import FIRST_EDGE_PIX, fine_centres

_RIM_KNOTS: Final = (0.25, 0.5, 1.0, 2.0)
"""Distances from the edge, in cells, of the knots of a map near it."""
_COARSE_RIM_KNOTS: Final = (0.5, 1.0, 2.0)
_CELLS_PER_KNOT, _COARSE_CELLS_PER_KNOT = 2, 6


@dataclass(frozen=True)
class SplineBasis:
    """A bivariate spline over nx by ny cells: denser knots where maps are steep, at the rims."""

    knots_x: Floats
    knots_y: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Coefficients along x and y."""
        return len(self.knots_x) - DEGREE - 1, len(self.knots_y) - DEGREE - 1

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return self.shape[0] * self.shape[1]

    @cached_property
    def places(self) -> tuple[Floats, Floats]:
        """Pixels x and y that each coefficient is nearest to (Greville's abscissae), shape (size,)."""
        x, y = (0.5 * (knots[1:-2] + knots[2:-1]) for knots in (self.knots_x, self.knots_y))
        at_y, at_x = np.meshgrid(y, x, indexing="ij")
        return at_x.ravel(), at_y.ravel()

    def at_cells(self, nx: int, ny: int) -> Floats:
        """Values of all splines at the centres of the fine cells, shape (fine cells, size)."""
        x, y = fine_centres(nx, ny)
        along, up = basis_values(self.knots_x, x), basis_values(self.knots_y, y)
        return np.asarray(np.einsum("jb,ia->jiba", up, along).reshape(len(y) * len(x), self.size))

    def on_cells(self, nx: int, ny: int) -> CellSplines:
        """The same as products, not multiplied out."""
        x, y = fine_centres(nx, ny)
        return CellSplines(basis_values(self.knots_x, x), basis_values(self.knots_y, y))

    def refined(self, finer: SplineBasis) -> Floats:
        """Matrix from coefficients to those of a basis with more knots, shape (finer.size, size).

        Exact, since the finer basis can be any spline of the coarser: the coefficients are those that agree at as many
        points as there are.
        """
        one, other = (
            np.linalg.lstsq(basis_values(fine, u), basis_values(coarse, u), rcond=None)[0]
            for fine, coarse in ((finer.knots_x, self.knots_x), (finer.knots_y, self.knots_y))
            for u in [np.linspace(fine[0], fine[-1], 40 * len(fine))]
        )
        return np.asarray(np.kron(other, one))


@dataclass(frozen=True)
class CellSplines:
    """Values of all splines at the centres of fine cells: each is a product of one along x and one along y."""

    along: Floats
    """Shape (columns, splines along x)."""
    up: Floats
    """Shape (rows, splines along y)."""

    @property
    def cells(self) -> int:
        """Number of fine cells, C."""
        return len(self.along) * len(self.up)

    @property
    def size(self) -> int:
        """Number of splines, B."""
        return int(self.along.shape[1] * self.up.shape[1])

    def sums(self, coefficients: Floats) -> Floats:
        """Values at cells, shape (C,), of coefficients of shape (B,)."""
        return np.asarray((self.up @ coefficients.reshape(self.up.shape[1], -1) @ self.along.T).ravel())

    def pulls(self, values: Floats) -> Floats:
        """Sums over cells of values times those of each spline: (K, C) to (K, B)."""
        placed = self.up.T @ values.reshape(-1, len(self.up), len(self.along)) @ self.along
        return np.asarray(placed.reshape(len(values), self.size))

    def normal(self, weight: Floats) -> Floats:
        """Sums over cells of a weight times the product of each two splines: (C,) to (B, B)."""
        along, up = (
            (one[:, :, None] * one[:, None, :]).reshape(len(one), one.shape[1] ** 2) for one in (self.along, self.up)
        )
        pairs = up.T @ (weight.reshape(len(up), len(along)) @ along)
        j, i = self.up.shape[1], self.along.shape[1]
        return np.asarray(pairs.reshape(j, j, i, i).transpose(0, 2, 1, 3).reshape(self.size, self.size))


@cache
def map_basis(nx: int, ny: int) -> SplineBasis:
    """Of a map."""
    return _basis(nx, ny, _RIM_KNOTS, _CELLS_PER_KNOT)


@cache
def change_basis(nx: int, ny: int) -> SplineBasis:
    """Of what a map changes by in time; its knots are among those of the map."""
    return _basis(nx, ny, _COARSE_RIM_KNOTS, _COARSE_CELLS_PER_KNOT)


def _basis(nx: int, ny: int, rim: tuple[float, ...], spacing: int) -> SplineBasis:
    along, up = (_knots(n, pixels, rim, spacing) for n, pixels in zip((nx, ny), QUADRANT_SHAPE_PIX, strict=True))
    return SplineBasis(along, up)


def _knots(cells: int, pixels: int, rim: tuple[float, ...], spacing: int) -> Floats:
    """Knots over an axis, those at the ends three times."""
    near = [d for d in rim if d < 0.5 * cells]
    inner = range(spacing, cells, spacing) if spacing < 0.5 * cells else ()
    # Knots inside keep away from those at the rims, so that no interval is tiny.
    far = [float(k) for k in inner if max(rim) < k < cells - max(rim)]
    places = np.array(sorted({0.0, *near, *far, *(cells - d for d in near), float(cells)}))
    pixel = FIRST_EDGE_PIX + places * pixels / cells
    return np.concatenate([np.full(DEGREE, pixel[0]), pixel, np.full(DEGREE, pixel[-1])])


def basis_values(knots: Floats, u: Floats) -> Floats:
    """Values of the splines of degree 2 on knots at positions within them, shape (N, len(knots) - 3).

    By the recurrence of Cox and de Boor, all splines at once.
    """
    last = np.searchsorted(knots, knots[-1]) - 1
    place = np.clip(np.searchsorted(knots, u, side="right") - 1, DEGREE, last)
    values = (np.arange(len(knots) - 1) == place[:, None]).astype(np.float64)
    for degree in range(1, DEGREE + 1):
        n = len(knots) - 1 - degree
        rise, fall = knots[degree : degree + n] - knots[:n], knots[degree + 1 : degree + 1 + n] - knots[1 : 1 + n]
        up = np.divide(u[:, None] - knots[:n], rise, out=np.zeros((len(u), n)), where=rise > 0)
        down = np.divide(
            knots[degree + 1 : degree + 1 + n] - u[:, None], fall, out=np.zeros((len(u), n)), where=fall > 0
        )
        values = up * values[:, :n] + down * values[:, 1 : n + 1]
    return np.asarray(values)
