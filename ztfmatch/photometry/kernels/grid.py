"""The grid of cells on the quadrant in which residuals are summed; finer at the rims, where maps are steep."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX

Ids = npt.NDArray[np.int64]

FIRST_EDGE_PIX: Final = 0.5
"""Pixel positions count from the centre of the first pixel, 1."""
RIM_PARTS: Final = 4
"""Parts along an axis into which the first and the last cell of it are divided."""


class FineGrid(NamedTuple):
    """Cells of the quadrant with those at the rims divided; small arrays, so that compiled loops can have it."""

    column: Ids
    """Fine column of each quarter of a column of cells, shape (4 nx,)."""
    row: Ids
    columns: int
    rows: int


@cache
def fine_grid(nx: int, ny: int) -> FineGrid:
    """The fine grid of cells, nx along x and ny along y."""
    column, row = _quarters(nx), _quarters(ny)
    return FineGrid(column, row, int(column[-1]) + 1, int(row[-1]) + 1)


@cache
def even_grid(nx: int, ny: int) -> FineGrid:
    """The grid of the cells themselves, none divided."""
    return FineGrid(np.repeat(np.arange(nx), RIM_PARTS), np.repeat(np.arange(ny), RIM_PARTS), nx, ny)


def _quarters(n: int) -> Ids:
    """Fine number of each quarter of n cells."""
    edge = np.zeros(RIM_PARTS * n, bool)
    edge[::RIM_PARTS] = True
    edge[:RIM_PARTS] = edge[-RIM_PARTS:] = True
    return np.asarray(np.cumsum(edge) - 1, np.int64)


@cache
def fine_edges(n: int, pixels: int) -> Floats:
    """Edges of the fine columns of n cells, pixels; shape (fine + 1,)."""
    quarters = _quarters(n)
    first = np.flatnonzero(np.diff(quarters, prepend=-1))
    return np.asarray(FIRST_EDGE_PIX + np.append(first, RIM_PARTS * n) * pixels / (RIM_PARTS * n))


@cache
def fine_centres(nx: int, ny: int) -> tuple[Floats, Floats]:
    """Pixels x and y of the centres of the fine columns and of the fine rows."""
    x, y = fine_edges(nx, QUADRANT_SHAPE_PIX[0]), fine_edges(ny, QUADRANT_SHAPE_PIX[1])
    return 0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])


@cache
def coarse_cells(nx: int, ny: int) -> Ids:
    """Cell of each fine cell, both with x running fastest."""
    column, row = (np.zeros(int(quarters[-1]) + 1, np.int64) for quarters in (_quarters(nx), _quarters(ny)))
    column[_quarters(nx)] = np.arange(RIM_PARTS * nx) // RIM_PARTS
    row[_quarters(ny)] = np.arange(RIM_PARTS * ny) // RIM_PARTS
    return np.asarray((row[:, None] * nx + column).ravel())


@cache
def fine_areas(nx: int, ny: int) -> Floats:
    """Area of each fine cell relative to its cell's."""
    wide = np.diff(fine_edges(nx, QUADRANT_SHAPE_PIX[0])) * nx / QUADRANT_SHAPE_PIX[0]
    high = np.diff(fine_edges(ny, QUADRANT_SHAPE_PIX[1])) * ny / QUADRANT_SHAPE_PIX[1]
    return np.asarray((high[:, None] * wide).ravel())


@cache
def cell_means(n: int, pixels: int) -> Floats:
    """Along an axis, the part that each fine column has of each of n cells, shape (n, fine)."""
    fine = np.unique(_quarters(n), return_index=True)[1] // RIM_PARTS
    wide = np.diff(fine_edges(n, pixels)) * n / pixels
    return np.asarray((fine == np.arange(n)[:, None]) * wide)


@njit(cache=True, nogil=True)
def fine_cell_of(x: float, y: float, grid: FineGrid) -> int:
    """Fine cell of a pixel position; positions beyond the quadrant belong to the nearest; -1 if not finite."""
    u = (x - FIRST_EDGE_PIX) * grid.column.shape[0] / QUADRANT_SHAPE_PIX[0]
    v = (y - FIRST_EDGE_PIX) * grid.row.shape[0] / QUADRANT_SHAPE_PIX[1]
    if not (np.isfinite(u) and np.isfinite(v)):
        return -1
    i = int(min(max(u, 0.0), grid.column.shape[0] - 1.0))
    j = int(min(max(v, 0.0), grid.row.shape[0] - 1.0))
    return int(grid.row[j] * grid.columns + grid.column[i])
