"""Which objects of different units are one star: mutual nearest neighbours of the best connected of them.

The definition, for objects of any part of the sky:

1. *Reach.* Two objects of different units are in reach of each other if they are no farther apart than SIGMAS times the
   error of their separation, sqrt(s_i^2 + s_j^2), and than MAX_LINK_ARCSEC; s is :func:`position_errors`.
2. *Partners.* Of each other unit an object's nearest is the nearest of those in reach (ties: the lower objectid). Two
   objects are partners if each is the other's nearest of its unit.
3. *Star.* Every object follows one of itself and its partners: that with the most partners, of equal ones that with
   the smallest sum of squared distances to them, then the lowest objectid. Those that follow the same one are a star.

Whatever follows an object is its partner, of which there is one a unit: a star has at most one object of each unit, no
object is farther than the reach from the one in its midst, and nothing chains. What becomes of an object is told by
objects within INFLUENCE_RADII times MAX_LINK_ARCSEC, and by no order of work. Of clean stars all objects are partners
of all, and so follow the same one; where one partnership is missing, the others still do.

Most of the sky is clean, and there it takes one look at each star, not at each object: objects within the radius of one
of them, of different units, all in reach of each other, and with nothing else within the radius of any, are partners of
all, and so a star. What else is within the radius of any of them is, of the one, within the radius and the distance of
the farthest of them. The others are told by the definition, among themselves, since nothing else is near them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Array, Ids, Mask
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.crossmatch import SeedGrid, build_grid
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, Floats

MAX_LINK_ARCSEC: Final = 1.5
"""Farther apart no two objects are partners, however faint: the survey's own match radius."""
SIGMAS: Final = 5.0
"""Of a Rayleigh distribution so many leave out 4 in a million."""
FLOOR_ARCSEC: Final = 0.1
"""Error of a bright position in one axis: the survey's astrometry against Gaia, 0.05 to 0.08, refraction by colour, and
some years of proper motion."""
FWHM_ARCSEC: Final = 2.0
"""Of a reference's stars; their photon noise is FWHM / (2.355 S/N) in one axis (King 1983, PASP 95, 163)."""
LEAST_SNR: Final = 3.0
"""Fainter seeds, and such without a known S/N, have the error of this one."""
_MOST_CLEAN: Final = 64
"""A clean star has no more objects than this."""
INFLUENCE_RADII: Final = 5.0
"""Members of one star are up to two radii apart, whom they follow is told two radii around, and whether two of these
are partners by the rivals of one of them, another radius away."""

_SCALE: Final = 2.0**86
"""Squared chords as integers, whose sums depend on no order: (1.5 arcsec)^2 is 4e15, which leaves room for 2000."""


@dataclass(frozen=True)
class Stars:
    """Stars of some objects, in order of the object that each follows."""

    offsets: Ids
    """Where each star begins in ``row``, and its end, shape (S + 1,)."""
    row: npt.NDArray[np.int32]
    """Rows of the objects, star after star, ascending in each, shape (N,)."""
    star: npt.NDArray[np.int32]
    """Star of each object, shape (N,)."""
    crowded: Mask
    """Whether an object of another star, of any unit, is within MAX_LINK_ARCSEC of one of the star's, shape (S,)."""


def position_errors(snr: Array) -> Floats:
    """Error of positions in one axis, in arcsec: sqrt(FLOOR_ARCSEC^2 + (FWHM_ARCSEC / (2.355 S/N))^2), shape (N,)."""
    known = np.where(np.isfinite(snr), snr, LEAST_SNR).astype(np.float64)
    noise = FWHM_ARCSEC / 2.355 / np.maximum(known, LEAST_SNR)
    return np.sqrt(FLOOR_ARCSEC * FLOOR_ARCSEC + noise * noise)


def link_objects(xyz: Floats, unit: npt.NDArray[np.int32], error_arcsec: Floats) -> Stars:
    """Find the stars that some objects are of.

    Parameters
    ----------
    xyz : float64 ndarray, shape (N, 3)
        ICRS unit vectors, in order of objectid.
    unit : int32 ndarray, shape (N,)
        Number of the unit of each.
    error_arcsec : float64 ndarray, shape (N,)
        Error of each position in one axis, > 0.
    """
    if not len(xyz):
        return Stars(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, bool))
    grid = build_grid(xyz, MAX_LINK_ARCSEC)
    reach2 = (SIGMAS / ARCSEC_PER_RADIAN * np.ascontiguousarray(error_arcsec)[grid.row]) ** 2
    return Stars(*_link(grid, np.ascontiguousarray(unit[grid.row], np.int32), reach2))


@njit(cache=True, nogil=True)
def _link(grid: SeedGrid, unit: Any, reach2: Floats) -> Any:
    """One function, which is loaded in the time of one."""
    leader = _clean(grid, unit, reach2)
    clear = leader >= 0
    start, partner, chord2 = _nearest_of_units(grid, unit, reach2, clear)
    _lead(grid.row, start, partner, chord2, leader)
    return _stars(grid, leader, clear)


@njit(cache=True, nogil=True)
def _cells(grid: SeedGrid, i: int, radii: float) -> tuple[int, int, int, int]:
    """First and last column and row of the cells that hold all within so many radii; a cell is two radii wide."""
    x, y, z = grid.xyz[i, 0], grid.xyz[i, 1], grid.xyz[i, 2]
    u = x * grid.across[0] + y * grid.across[1] + z * grid.across[2] - grid.origin[0]
    v = x * grid.along[0] + y * grid.along[1] + z * grid.along[2] - grid.origin[1]
    reach = radii * grid.radius * (1.0 + 1e-9) + 1e-15  # u and v are rounded
    inverse = 1.0 / grid.cell
    left, right = int(max((u - reach) * inverse, 0.0)), int(max((u + reach) * inverse, 0.0))
    low, high = int(max((v - reach) * inverse, 0.0)), int(max((v + reach) * inverse, 0.0))
    return left, min(right, grid.shape[0] - 1), low, min(high, grid.shape[1] - 1)


@njit(cache=True, nogil=True)
def _chord2(grid: SeedGrid, i: int, k: int) -> Any:
    """Squared chord between two objects."""
    dx, dy = grid.xyz[k, 0] - grid.xyz[i, 0], grid.xyz[k, 1] - grid.xyz[i, 1]
    dz = grid.xyz[k, 2] - grid.xyz[i, 2]
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True)
def _clean(grid: SeedGrid, unit: Any, reach2: Floats) -> Any:
    """An object of each one's star where that is clean, else -1; in order of the grid."""
    n = unit.shape[0]
    leader = np.full(n, -1, np.int32)
    near = np.empty(_MOST_CLEAN, np.int32)
    for i in range(n):
        if leader[i] < 0:
            number = _alone(grid, i, near)
            if _all_partners(grid, unit, reach2, near[:number]):
                for at in range(number):
                    leader[near[at]] = i
    return leader


@njit(cache=True, nogil=True)
def _alone(grid: SeedGrid, i: int, near: Any) -> int:
    """Find the objects within the radius of one; 0 if others may be within the radius of some of these."""
    left, right, low, high = _cells(grid, i, 2.0)
    number, farthest2, next2 = 0, 0.0, np.inf
    for line in range(low, high + 1):
        begin, end = grid.start[line * grid.shape[0] + left], grid.start[line * grid.shape[0] + right + 1]
        for k in range(begin, end):
            d2 = _chord2(grid, i, k)
            if d2 > grid.radius2:
                next2 = min(next2, d2)
                continue
            if number == near.shape[0]:
                return 0
            near[number] = k
            number += 1
            farthest2 = max(farthest2, d2)
    # What is within the radius of one of them is no farther from object i than the radius and that one's distance.
    far = (grid.radius + np.sqrt(farthest2)) * (1.0 + 1e-9)
    return number if next2 > far * far else 0


@njit(cache=True, nogil=True)
def _all_partners(grid: SeedGrid, unit: Any, reach2: Floats, near: Any) -> bool:
    """Whether some objects are of different units, and all in reach of each other."""
    for one in range(near.shape[0]):
        i = near[one]
        for other in range(one):
            k = near[other]
            d2 = _chord2(grid, i, k)
            if unit[i] == unit[k] or d2 > grid.radius2 or d2 > reach2[i] + reach2[k]:
                return False
    return True


@njit(cache=True, nogil=True)
def _nearest_of_units(grid: SeedGrid, unit: Any, reach2: Floats, clear: Mask) -> tuple[Any, Any, Floats]:
    """Nearest object in reach of each other unit, for each object that is not clear, all in order of the grid.

    Those of object i are partner[start[i]:start[i + 1]], with their squared chords. How many there will be is not known
    before, so the arrays grow.
    """
    n = unit.shape[0]
    start = np.zeros(n + 1, np.int64)
    size = 4 * (n - np.sum(clear)) + 64
    partner, chord2 = np.empty(size, np.int32), np.empty(size)
    at = 0
    for i in range(n):
        start[i + 1] = at
        if clear[i]:
            continue
        first = at
        left, right, low, high = _cells(grid, i, 1.0)
        for line in range(low, high + 1):
            begin, end = grid.start[line * grid.shape[0] + left], grid.start[line * grid.shape[0] + right + 1]
            for k in range(begin, end):
                if unit[k] == unit[i]:
                    continue
                d2 = _chord2(grid, i, k)
                if d2 > grid.radius2 or d2 > reach2[i] + reach2[k]:
                    continue
                # The few units found so far are looked through: a place on the sky is in some two dozen at most.
                slot = first
                while slot < at and unit[partner[slot]] != unit[k]:
                    slot += 1
                if slot == at:
                    if at == partner.shape[0]:
                        partner, chord2 = _grown(partner, chord2)
                    at += 1
                elif d2 > chord2[slot] or (d2 == chord2[slot] and grid.row[k] > grid.row[partner[slot]]):
                    continue
                partner[slot], chord2[slot] = k, d2
        start[i + 1] = at
    return start, partner[:at], chord2[:at]


@njit(cache=True, nogil=True)
def _grown(partner: Any, chord2: Floats) -> tuple[Any, Floats]:
    """Twice as long, with what was there."""
    n = partner.shape[0]
    more, longer = np.empty(2 * n, np.int32), np.empty(2 * n)
    for at in range(n):  # numba compiles assignments of slices, whose errors have texts, for three seconds
        more[at], longer[at] = partner[at], chord2[at]
    return more, longer


@njit(cache=True, nogil=True)
def _lead(row: Any, start: Any, partner: Any, chord2: Floats, leader: Any) -> None:
    """Set the object that each follows whose star is not clean, in order of the grid."""
    n = row.shape[0]
    # Partners: each is the other's nearest of its unit. Sums of their squared chords are whole numbers, which depend on
    # no order.
    mutual = np.zeros(partner.shape[0], np.bool_)
    number, total = np.zeros(n, np.int32), np.zeros(n, np.int64)
    for i in range(n):
        for slot in range(start[i], start[i + 1]):
            k = partner[slot]
            for back in range(start[k], start[k + 1]):
                if partner[back] == i:
                    mutual[slot] = True
                    number[i] += 1
                    total[i] += np.int64(chord2[slot] * _SCALE)
                    break
    for i in range(n):
        if leader[i] >= 0:
            continue
        # Of itself and its partners the one with most partners, then the nearest to these, then the lowest objectid.
        best = i
        for slot in range(start[i], start[i + 1]):
            k = partner[slot]
            if not mutual[slot] or number[k] < number[best]:
                continue
            nearer = total[k] < total[best] or (total[k] == total[best] and row[k] < row[best])
            if number[k] > number[best] or nearer:
                best = k
        leader[i] = best


@njit(cache=True, nogil=True)
def _stars(grid: SeedGrid, leader: Any, clear: Mask) -> tuple[Any, Any, Any, Mask]:
    """Objects by star, in order of their rows: a counting sort by the row of the leader."""
    n = leader.shape[0]
    of_row = np.empty(n, np.int32)
    size = np.zeros(n + 1, np.int64)
    for i in range(n):
        of_row[grid.row[i]] = grid.row[leader[i]]
        size[grid.row[leader[i]]] += 1
    number = np.full(n, -1, np.int32)
    stars = 0
    for r in range(n):
        if size[r]:
            number[r] = stars
            stars += 1
    offsets = np.zeros(stars + 1, np.int64)
    for r in range(n):
        if size[r]:
            offsets[number[r] + 1] = size[r]
    for s in range(stars):
        offsets[s + 1] += offsets[s]
    place, rows, star = offsets.copy(), np.empty(n, np.int32), np.empty(n, np.int32)
    for r in range(n):
        star[r] = number[of_row[r]]
        rows[place[star[r]]] = r
        place[star[r]] += 1
    crowded = np.zeros(stars, np.bool_)
    for i in range(n):
        s = star[grid.row[i]]
        if not (clear[i] or crowded[s]):
            crowded[s] = _beside_another(grid, i, leader)
    return offsets, rows, star, crowded


@njit(cache=True, nogil=True)
def _beside_another(grid: SeedGrid, i: int, leader: Any) -> bool:
    """Whether an object of another star is within the radius."""
    left, right, low, high = _cells(grid, i, 1.0)
    for line in range(low, high + 1):
        begin, end = grid.start[line * grid.shape[0] + left], grid.start[line * grid.shape[0] + right + 1]
        for k in range(begin, end):
            if leader[k] != leader[i] and _chord2(grid, i, k) <= grid.radius2:
                return True
    return False


@dataclass(frozen=True)
class Positions:
    """Where stars are."""

    xyz: Floats
    """Mean of the objects' positions, each by its inverse squared error, shape (S, 3); of length 1."""
    error_arcsec: Floats
    """Error of that in one axis, shape (S,)."""
    scatter_arcsec: Floats
    """Root mean square distance of the objects from it, shape (S,)."""
    chord2: Floats
    """Squared chord of each object from the position of its star, shape (N,)."""


def star_positions(xyz: Floats, error_arcsec: Floats, stars: Stars) -> Positions:
    """Positions of stars, summed in order of objectid: the same to the last bit whatever else is given.

    Parameters
    ----------
    xyz : float64 ndarray, shape (N, 3)
    error_arcsec : float64 ndarray, shape (N,)
    stars : Stars
        Of these objects.
    """
    weight = 1.0 / (error_arcsec * error_arcsec)
    mean, error, scatter2, chord2 = _positions(np.ascontiguousarray(xyz), weight, stars.offsets, stars.row)
    return Positions(mean, error, np.sqrt(scatter2) * ARCSEC_PER_RADIAN, chord2)


@njit(cache=True, nogil=True)
def _positions(xyz: Floats, weight: Floats, offsets: Any, row: Any) -> tuple[Floats, Floats, Floats, Floats]:
    stars = offsets.shape[0] - 1
    mean, error, scatter2, chord2 = np.empty((stars, 3)), np.empty(stars), np.empty(stars), np.empty(xyz.shape[0])
    for s in range(stars):
        x = y = z = total = 0.0
        for at in range(offsets[s], offsets[s + 1]):
            k = row[at]
            x += weight[k] * xyz[k, 0]
            y += weight[k] * xyz[k, 1]
            z += weight[k] * xyz[k, 2]
            total += weight[k]
        length = np.sqrt(x * x + y * y + z * z)
        mean[s, 0], mean[s, 1], mean[s, 2] = x / length, y / length, z / length
        error[s] = np.sqrt(1.0 / total)
        away2 = 0.0
        for at in range(offsets[s], offsets[s + 1]):
            k = row[at]
            dx, dy, dz = xyz[k, 0] - mean[s, 0], xyz[k, 1] - mean[s, 1], xyz[k, 2] - mean[s, 2]
            chord2[k] = dx * dx + dy * dy + dz * dz
            away2 += chord2[k]
        scatter2[s] = away2 / (offsets[s + 1] - offsets[s])
    return mean, error, scatter2, chord2
