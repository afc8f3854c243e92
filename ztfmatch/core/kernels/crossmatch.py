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

from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats, chord2_of_arcsec

Targets = npt.NDArray[np.int32]

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
    xyz: Floats
    """Unit vectors in grid order, shape (M, 3)."""
    radius: float
    """Match radius as a chord."""
    radius2: float
    """Its square, inclusive."""


def build_grid(seed_xyz: Floats, radius_arcsec: float) -> SeedGrid:
    """Lay seeds on a grid.

    Parameters
    ----------
    seed_xyz : float64 ndarray, shape (M, 3)
        ICRS unit vectors. Of seeds at equal distance the one with the lower row wins.
    radius_arcsec : float
        Inclusive; must be in (0, 3600].

    Raises
    ------
    ValueError
        If the radius is out of range.
    """
    if not 0.0 < radius_arcsec <= 3600.0:
        raise ValueError(f"match radius {radius_arcsec} arcsec is outside (0, 3600]")
    radius2 = chord2_of_arcsec(radius_arcsec)
    radius = math.sqrt(radius2)
    # Seeds in the plane, and the rectangle that they fill.
    plane = _plane_of(seed_xyz)
    flat = plane @ seed_xyz.T
    low = flat.min(axis=1) if len(seed_xyz) else np.zeros(2)
    extent = (flat.max(axis=1) if len(seed_xyz) else np.zeros(2)) - low
    area = float(max(extent[0], radius) * max(extent[1], radius))
    # Cells of at least a diameter, so that four hold all that is near; larger where seeds are few.
    cell = max(2.0 * radius, math.sqrt(area / max(_CELLS_PER_SEED * len(seed_xyz), 1.0)))
    cell = max(cell, math.sqrt(area / _MAX_CELLS))
    shape = (int(extent[0] / cell) + 1, int(extent[1] / cell) + 1)
    origin: tuple[float, float] = tuple(low.tolist())
    start, order, xyz = _lay(seed_xyz, flat, origin, cell, shape)
    across, along = (tuple(vector) for vector in plane.tolist())
    return SeedGrid(across, along, origin, cell, shape, start, order, xyz, radius, radius2)


@njit(cache=True, nogil=True)
def _lay(xyz, flat, origin, cell, shape):  # type: ignore[no-untyped-def]
    """Sort seeds by cell, row by row, and within a cell as they come: a counting sort.

    Neighbouring cells of a row are one run of seeds; ``start`` says where each begins.
    """
    seeds = xyz.shape[0]
    start = np.zeros(shape[0] * shape[1] + 1, np.int32)
    cells = np.empty(seeds, np.int32)
    for i in range(seeds):
        cells[i] = int((flat[1, i] - origin[1]) / cell) * shape[0] + int((flat[0, i] - origin[0]) / cell)
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
    return start, order, laid


def _plane_of(xyz: Floats) -> Floats:
    """Two orthonormal vectors orthogonal to the mean direction of some, shape (2, 3)."""
    normal = xyz[:: max(len(xyz) // 256, 1)].mean(axis=0) if len(xyz) else np.array([0.0, 0.0, 1.0])
    length = float(np.linalg.norm(normal))
    normal = normal / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])
    # Any vector that is not along the normal will do; of the axes the one that is least so is the safest.
    helper = np.eye(3)[int(np.argmin(np.abs(normal)))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    return np.ascontiguousarray(np.stack([first, np.cross(normal, first)]))


def match_exposure(
    grid: SeedGrid, xyz: Floats, sourceid: npt.NDArray[np.int32], eligible: npt.NDArray[np.bool_]
) -> Targets:
    """Assign each detection of one exposure to its nearest seed, at most one detection a seed.

    A detection is matched if the nearest seed lies within the radius (inclusive) and no other detection of the
    exposure with the same nearest seed is nearer; of equally near detections the lower sourceid wins, of equally
    near seeds the lower row.

    Parameters
    ----------
    grid : SeedGrid
    xyz : float64 ndarray, shape (N, 3)
        ICRS unit vectors of the detections.
    sourceid : int32 ndarray, shape (N,)
        Unique in the exposure.
    eligible : bool ndarray, shape (N,)
        Rows to consider; the others get NO_SEED and compete with none.

    Returns
    -------
    int32 ndarray, shape (N,)
        Row of the seed; or NO_SEED (-1); or -2 - s where another detection won seed s.
    """
    return _match(grid, xyz, sourceid, eligible)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _nearest(grid: SeedGrid, x: float, y: float, z: float) -> tuple[int, float]:
    """Grid position and squared chord of the nearest seed within the radius; (-1, inf) if none."""
    # The square around the place in the plane, in cells, which may lie in part or as a whole beyond the grid.
    u = x * grid.across[0] + y * grid.across[1] + z * grid.across[2] - grid.origin[0]
    v = x * grid.along[0] + y * grid.along[1] + z * grid.along[2] - grid.origin[1]
    reach = grid.radius * _REACH_SLACK + _REACH_FLOOR
    columns, rows = grid.shape
    inverse = 1.0 / grid.cell
    u_low, u_high = (u - reach) * inverse, (u + reach) * inverse
    v_low, v_high = (v - reach) * inverse, (v + reach) * inverse
    best, best2 = -1, np.inf
    if u_high < 0.0 or v_high < 0.0 or u_low >= columns or v_low >= rows:
        return best, best2
    first, last = int(max(u_low, 0.0)), min(int(u_high), columns - 1)
    for row in range(int(max(v_low, 0.0)), min(int(v_high), rows - 1) + 1):
        # Seeds on the other side of the sky are projected into these cells too: the chord tells them apart.
        for k in range(grid.start[row * columns + first], grid.start[row * columns + last + 1]):
            dx, dy, dz = grid.xyz[k, 0] - x, grid.xyz[k, 1] - y, grid.xyz[k, 2] - z
            d2 = dx * dx + dy * dy + dz * dz
            nearer = d2 < best2 or (d2 == best2 and grid.row[k] < grid.row[best])
            if nearer and d2 <= grid.radius2:
                best, best2 = k, d2
    return best, best2


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
        Squared chord to it; infinite where there is none.
    """
    seed = np.full(xyz.shape[0], NO_SEED, np.int32)
    chord2 = np.full(xyz.shape[0], np.inf)
    for i in range(xyz.shape[0]):
        k, d2 = _nearest(grid, xyz[i, 0], xyz[i, 1], xyz[i, 2])
        if k >= 0:
            seed[i], chord2[i] = grid.row[k], d2
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
    out = np.zeros(xyz.shape[0], np.int32)
    columns, rows = grid.shape
    inverse = 1.0 / grid.cell
    reach = grid.radius * _REACH_SLACK + _REACH_FLOOR
    for i in range(xyz.shape[0]):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        u = x * grid.across[0] + y * grid.across[1] + z * grid.across[2] - grid.origin[0]
        v = x * grid.along[0] + y * grid.along[1] + z * grid.along[2] - grid.origin[1]
        u_low, u_high = (u - reach) * inverse, (u + reach) * inverse
        v_low, v_high = (v - reach) * inverse, (v + reach) * inverse
        if u_high < 0.0 or v_high < 0.0 or u_low >= columns or v_low >= rows:
            continue
        first, last = int(max(u_low, 0.0)), min(int(u_high), columns - 1)
        for row in range(int(max(v_low, 0.0)), min(int(v_high), rows - 1) + 1):
            for k in range(grid.start[row * columns + first], grid.start[row * columns + last + 1]):
                dx, dy, dz = grid.xyz[k, 0] - x, grid.xyz[k, 1] - y, grid.xyz[k, 2] - z
                if dx * dx + dy * dy + dz * dz <= grid.radius2:
                    out[i] += 1
    return out


@njit(cache=True, nogil=True)
def _wins(row, rival, distance2, sourceid):  # type: ignore[no-untyped-def]
    """Whether a detection wins the seed that both have nearest: it is nearer or, as near, has the lower sourceid."""
    nearer = distance2[row] < distance2[rival]
    return nearer or (distance2[row] == distance2[rival] and sourceid[row] < sourceid[rival])


@njit(cache=True, nogil=True)
def _match(grid: SeedGrid, xyz: Floats, sourceid: npt.NDArray[np.int32], eligible: npt.NDArray[np.bool_]) -> Targets:
    n = xyz.shape[0]
    target = np.full(n, NO_SEED, np.int32)
    distance2 = np.empty(n)
    winner = np.full(grid.row.shape[0], -1, np.int32)  # of each seed, among the detections so far
    for i in range(n):
        if not eligible[i]:
            continue
        k, d2 = _nearest(grid, xyz[i, 0], xyz[i, 1], xyz[i, 2])
        if k < 0:
            continue
        seed = grid.row[k]
        target[i] = seed
        distance2[i] = d2
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
    target = np.full(n, NO_SEED, np.int32)
    distance2 = np.empty(n)
    # Nearest seed of each, and how many have each seed nearest.
    place = np.zeros(seeds + 1, np.int64)
    for i in range(n):
        k, d2 = _nearest(grid, xyz[i, 0], xyz[i, 1], xyz[i, 2])
        if k >= 0:
            target[i], distance2[i] = grid.row[k], d2
            place[grid.row[k] + 1] += 1
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
