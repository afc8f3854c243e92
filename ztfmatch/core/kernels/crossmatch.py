"""Nearest-seed matching of the detections of one exposure, one to one.

The seeds of a unit are laid once on a grid over the plane orthogonal to their mean direction. An orthographic
projection never enlarges a distance, so all seeds within a chord r of a detection lie in the cells that the square
of half-width r around its projection touches: this holds on the whole sphere, whatever the extent of the seeds. The
distances compared are chords in three dimensions; the grid only chooses whom to compare.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ints
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats, chord2_of_arcsec

Targets = npt.NDArray[np.int32]
Vector = tuple[float, float, float]

NO_SEED: Final = -1
"""Target of a detection without a seed within the radius."""
_LOST: Final = -2
"""Less the seed: target of a detection that lost that seed to another."""

_CELLS_PER_SEED: Final = 2.0
"""More cells leave fewer seeds to compare with, and take more memory to look them up."""
_MAX_CELLS: Final = 1 << 24
_REACH_SLACK: Final = 1.0 + 1e-9
_REACH_FLOOR: Final = 1e-15
"""How much farther than the radius cells are looked at, relative and at least: more than u and v are rounded."""
_CELL_SLACK: Final = 1.0 + 1e-6
"""How much wider than twice the reach a cell is at least: more than places in units of cells are rounded."""
_BLOCK: Final = 256
"""Positions whose runs of seeds are looked up together: without a branch between, these reads from memory overlap."""


class SeedGrid(NamedTuple):
    """Seeds of one unit, laid on a grid; made by :func:`build_grid`."""

    across: tuple[float, float, float]
    """First of two orthonormal vectors that span the plane."""
    along: tuple[float, float, float]
    """The second."""
    origin: tuple[float, float]
    """Lower corner of the grid in the plane."""
    cell: float
    """Side of a cell, in chord units."""
    shape: tuple[int, int]
    """Cells along the first and second vector."""
    start: npt.NDArray[np.int32]
    """First seed of each cell, row by row, shape (cells + 1,)."""
    row: npt.NDArray[np.int32]
    """Original row of each seed, in grid order."""
    number: Ints
    """Of each seed by its original row: of seeds at equal distance the one with the lower number wins."""
    xyz: Floats
    """Unit vectors in grid order, shape (M, 3)."""
    radius: float
    """Match radius as a chord."""
    radius2: float
    """Its square, inclusive."""


def build_grid(seed_xyz: Floats, radius_arcsec: float, number: Ints | None = None) -> SeedGrid:
    """Lay seeds on a grid.

    Parameters
    ----------
    seed_xyz : float64 ndarray, shape (M, 3)
        ICRS unit vectors.
    radius_arcsec : float
        Inclusive; must be in (0, 3600].
    number : int64 ndarray, shape (M,), optional
        Of seeds at equal distance the one with the lower number wins; by default that with the lower row.

    Raises
    ------
    ValueError
        If the radius is out of range.
    """
    if not 0.0 < radius_arcsec <= 3600.0:
        raise ValueError(f"match radius {radius_arcsec} arcsec is outside (0, 3600]")
    radius2 = chord2_of_arcsec(radius_arcsec)
    radius = math.sqrt(radius2)
    across, along = _plane_of(seed_xyz)
    number = np.arange(len(seed_xyz)) if number is None else number
    origin, cell, shape, start, row, xyz = _lay(seed_xyz, across, along, radius)
    return SeedGrid(across, along, origin, cell, shape, start, row, number, xyz, radius, radius2)


@njit(cache=True, nogil=True)
def _extremes(values):  # type: ignore[no-untyped-def]
    """Smallest and largest of some numbers; 0 and 0 of none."""
    low, high = (values[0], values[0]) if values.shape[0] else (0.0, 0.0)
    for i in range(values.shape[0]):
        low, high = min(low, values[i]), max(high, values[i])
    return low, high


@njit(cache=True, nogil=True)
def _lay(xyz, across, along, radius):  # type: ignore[no-untyped-def]
    """Sort seeds by cell, row by row, and within a cell as they come: a counting sort.

    Neighbouring cells of a row are one run of seeds; ``start`` says where each begins.
    """
    # Seeds in the plane, and the rectangle that they fill.
    seeds = xyz.shape[0]
    u, v = np.empty(seeds), np.empty(seeds)
    for i in range(seeds):
        u[i] = xyz[i, 0] * across[0] + xyz[i, 1] * across[1] + xyz[i, 2] * across[2]
        v[i] = xyz[i, 0] * along[0] + xyz[i, 1] * along[1] + xyz[i, 2] * along[2]
    (first_u, last_u), (first_v, last_v) = _extremes(u), _extremes(v)
    width, height = last_u - first_u, last_v - first_v
    area = max(width, radius) * max(height, radius)
    # Cells of at least a diameter, so that four hold all that is near; larger where seeds are few.
    diameter = 2.0 * _CELL_SLACK * (radius * _REACH_SLACK + _REACH_FLOOR)
    cell = max(diameter, math.sqrt(area / max(_CELLS_PER_SEED * seeds, 1.0)), math.sqrt(area / _MAX_CELLS))
    inverse = 1.0 / cell
    columns, rows = int(width * inverse) + 1, int(height * inverse) + 1
    start = np.zeros(columns * rows + 1, np.int32)
    cells = np.empty(seeds, np.int32)
    for i in range(seeds):
        cells[i] = int((v[i] - first_v) * inverse) * columns + int((u[i] - first_u) * inverse)
        start[cells[i] + 1] += 1
    for c in range(1, start.shape[0]):
        start[c] += start[c - 1]
    place = start.copy()
    order, laid = np.empty(seeds, np.int32), np.empty((seeds, 3))
    for i in range(seeds):
        k = place[cells[i]]
        place[cells[i]] += 1
        order[k] = i
        laid[k, 0], laid[k, 1], laid[k, 2] = xyz[i, 0], xyz[i, 1], xyz[i, 2]
    return (first_u, first_v), cell, (columns, rows), start, order, laid


def _plane_of(xyz: Floats) -> tuple[Vector, Vector]:
    """Two orthonormal vectors orthogonal to the mean direction of some."""
    # In plain numbers: what NumPy does for three takes longer than to lay a thousand seeds.
    x, y, z = xyz[:: max(len(xyz) // 256, 1)].mean(axis=0).tolist() if len(xyz) else (0.0, 0.0, 1.0)
    length = math.sqrt(x * x + y * y + z * z)
    x, y, z = (x / length, y / length, z / length) if length > 1e-6 else (0.0, 0.0, 1.0)
    # The cross product with the axis that is least along the normal; any that is not along it would do.
    if abs(x) <= abs(y) and abs(x) <= abs(z):
        a, b, c = 0.0, z, -y
    elif abs(y) <= abs(z):
        a, b, c = -z, 0.0, x
    else:
        a, b, c = y, -x, 0.0
    length = math.sqrt(a * a + b * b + c * c)
    a, b, c = a / length, b / length, c / length
    return (a, b, c), (y * c - z * b, z * a - x * c, x * b - y * a)


def match_exposure(grid: SeedGrid, xyz: Floats, sourceid: npt.NDArray[np.int32]) -> Targets:
    """Assign each detection of one exposure to its nearest seed, at most one detection a seed.

    A detection is matched if the nearest seed lies within the radius (inclusive) and no other detection of the
    exposure with the same nearest seed is nearer; of equally near detections the lower sourceid wins, of equally
    near seeds the lower number.

    Parameters
    ----------
    grid : SeedGrid
    xyz : float64 ndarray, shape (N, 3)
        ICRS unit vectors of the detections.
    sourceid : int32 ndarray, shape (N,)
        Unique in the exposure.

    Returns
    -------
    int32 ndarray, shape (N,)
        Row of the seed; or NO_SEED (-1); or -2 - s where another detection won seed s.
    """
    return _match(grid, xyz, sourceid)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _look_up(grid, xyz, runs):  # type: ignore[no-untyped-def]
    """Find the seeds in the cells around each position: from a to before b, and from c to before d, of ``runs``.

    The square around a position is no wider than a cell, so that it touches two rows of cells at most. A position
    beyond the grid gets cells at its border, and one on the other side of the sky those of its projection: the chord
    excludes their seeds.
    """
    columns, rows = grid.shape
    inverse = 1.0 / grid.cell
    reach = grid.radius * _REACH_SLACK + _REACH_FLOOR
    for i in range(xyz.shape[0]):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        u = x * grid.across[0] + y * grid.across[1] + z * grid.across[2] - grid.origin[0]
        v = x * grid.along[0] + y * grid.along[1] + z * grid.along[2] - grid.origin[1]
        left = int(min(max((u - reach) * inverse, 0.0), columns - 1.0))
        right = int(min(max((u + reach) * inverse, 0.0), columns - 1.0))
        low = int(min(max((v - reach) * inverse, 0.0), rows - 1.0))
        high = int(min(max((v + reach) * inverse, 0.0), rows - 1.0))
        runs[i, 0], runs[i, 1] = grid.start[low * columns + left], grid.start[low * columns + right + 1]
        upper = grid.start[high * columns + left]
        runs[i, 2], runs[i, 3] = upper, grid.start[high * columns + right + 1] if high > low else upper


@njit(cache=True, nogil=True)
def nearest_seeds(grid: SeedGrid, xyz: Floats) -> tuple[Targets, Floats]:
    """Nearest seed of each position, whoever else is near.

    Parameters
    ----------
    grid : SeedGrid
    xyz : float64 ndarray, shape (N, 3)
        ICRS unit vectors.

    Returns
    -------
    seed : int32 ndarray, shape (N,)
        Row of the seed, or NO_SEED (-1) where none is within the radius.
    chord2 : float64 ndarray, shape (N,)
        Squared chord to it; infinite without one.
    """
    n = xyz.shape[0]
    seed = np.full(n, NO_SEED, np.int32)
    chord2 = np.full(n, np.inf)
    runs = np.empty((_BLOCK, 4), np.int32)
    for first in range(0, n, _BLOCK):
        stop = min(first + _BLOCK, n)
        _look_up(grid, xyz[first:stop], runs)
        for i in range(first, stop):
            x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
            best, best2 = -1, grid.radius2
            for run in range(0, 4, 2):
                for k in range(runs[i - first, run], runs[i - first, run + 1]):
                    dx, dy, dz = grid.xyz[k, 0] - x, grid.xyz[k, 1] - y, grid.xyz[k, 2] - z
                    d2 = dx * dx + dy * dy + dz * dz
                    if d2 > best2 or (
                        d2 == best2 and best >= 0 and grid.number[grid.row[k]] > grid.number[grid.row[best]]
                    ):
                        continue
                    best, best2 = k, d2
            if best >= 0:
                seed[i], chord2[i] = grid.row[best], best2
    return seed, chord2


@njit(cache=True, nogil=True)
def count_seeds(grid: SeedGrid, xyz: Floats) -> npt.NDArray[np.int32]:
    """How many seeds lie within the radius of each position, shape (N,).

    Parameters
    ----------
    grid : SeedGrid
    xyz : float64 ndarray, shape (N, 3)
        ICRS unit vectors.
    """
    n = xyz.shape[0]
    out = np.zeros(n, np.int32)
    runs = np.empty((_BLOCK, 4), np.int32)
    for first in range(0, n, _BLOCK):
        stop = min(first + _BLOCK, n)
        _look_up(grid, xyz[first:stop], runs)
        for i in range(first, stop):
            for run in range(0, 4, 2):
                for k in range(runs[i - first, run], runs[i - first, run + 1]):
                    dx, dy, dz = grid.xyz[k, 0] - xyz[i, 0], grid.xyz[k, 1] - xyz[i, 1], grid.xyz[k, 2] - xyz[i, 2]
                    if dx * dx + dy * dy + dz * dz <= grid.radius2:
                        out[i] += 1
    return out


@njit(cache=True, nogil=True)
def _wins(row, rival, distance2, sourceid):  # type: ignore[no-untyped-def]
    """Whether a detection wins the seed that both have nearest: it is nearer or, as near, has the lower sourceid."""
    nearer = distance2[row] < distance2[rival]
    return nearer or (distance2[row] == distance2[rival] and sourceid[row] < sourceid[rival])


@njit(cache=True, nogil=True)
def _match(grid, xyz, sourceid):  # type: ignore[no-untyped-def]
    target, distance2 = nearest_seeds(grid, xyz)
    winner = np.full(grid.row.shape[0], -1, np.int32)  # of each seed, among the detections so far
    for i in range(xyz.shape[0]):
        seed = target[i]
        if seed < 0:
            continue
        # Winning is transitive, so that it is enough to compare with the winner so far, in whatever order they come.
        rival = winner[seed]
        if rival < 0:
            winner[seed] = i
        elif _wins(i, rival, distance2, sourceid):
            winner[seed] = i
            target[rival] = _LOST - seed
        else:
            target[i] = _LOST - seed
    return target


def match_exposures(
    grid: SeedGrid, xyz: Floats, exposure: npt.NDArray[np.int32], sourceid: npt.NDArray[np.int32], exposures: int
) -> Targets:
    """Assign the detections of many exposures as :func:`match_exposure` does those of each.

    Rows may come in any order; it is fastest where detections of a source come together, as they do in lightcurves.

    Parameters
    ----------
    grid : SeedGrid
    xyz : float64 ndarray, shape (N, 3)
        ICRS unit vectors of the detections.
    exposure : int32 ndarray, shape (N,)
        Which exposure, 0..exposures-1.
    sourceid : int32 ndarray, shape (N,)
        Unique in each exposure.
    exposures : int

    Returns
    -------
    int32 ndarray, shape (N,)
        As of :func:`match_exposure`.
    """
    return _match_exposures(grid, xyz, exposure, sourceid, exposures)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _match_exposures(grid, xyz, exposure, sourceid, exposures):  # type: ignore[no-untyped-def]
    n, seeds = xyz.shape[0], grid.row.shape[0]
    target, distance2 = nearest_seeds(grid, xyz)
    # How many have each seed nearest.
    place = np.zeros(seeds + 1, np.int64)
    for i in range(n):
        if target[i] >= 0:
            place[target[i] + 1] += 1
    # A counting sort by seed brings the detections together that can compete.
    place = np.cumsum(place)
    rows = np.empty(place[seeds], np.int64)
    for i in range(n):
        if target[i] >= 0:
            rows[place[target[i]]] = i
            place[target[i]] += 1
    # One winner an exposure is kept, for the seed at hand: what is noted of another seed, of_seed tells, is over. So
    # memory goes with the exposures, not with exposures times seeds.
    winner = np.empty(exposures, np.int64)
    of_seed = np.full(exposures, -1, np.int32)
    for i in rows:
        seed, e = target[i], exposure[i]
        if of_seed[e] != seed:
            of_seed[e], winner[e] = seed, i
            continue
        rival = winner[e]
        if _wins(i, rival, distance2, sourceid):
            winner[e] = i
            target[rival] = _LOST - seed
        else:
            target[i] = _LOST - seed
    return target
