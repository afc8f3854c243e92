"""Link unmatched detections of one unit that recur at a position into transients.

The exposures are taken one after the other. A detection joins the nearest *founder* of an earlier exposure within the
radius, at most one detection of an exposure each, the nearest (ties: the lower row); what joins none is a founder
itself. So what later exposures bring never changes a link that was made, and a transient keeps its founder. A founder
that anything joined is a transient.

What becomes of a detection depends on earlier ones near it, on what became of these, and so on. Of a part of the sky
that is complete but for its edge, all is *decided* that no such chain connects with the edge: it is what the whole sky
would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats, chord2_of_arcsec

INFLUENCE_RADII: Final = 3.0
"""What becomes of a detection depends on earlier ones up to this many radii away: on the founders near it, and on those
near its rivals for them, which are up to two radii away."""

_CELL_SLACK: Final = 1.0 + 1e-6
"""Cells are larger than the radius by more than coordinates are rounded: nothing near is two cells away."""
_LEAST_SLOTS: Final = 16
# Odd factors with many bits, 2^64 over the golden ratio and two of xxHash's: neighbouring cells go to slots far apart.
_X, _Y, _Z = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)


@dataclass(frozen=True)
class Groups:
    """Transients and their detections."""

    founder: Ids
    """Row of the founder of each transient, ascending, shape (G,)."""
    row: Ids
    """Rows of all detections of transients, transient after transient, ascending in each, shape (K,)."""
    offsets: Ids
    """Where each transient begins in ``row``, and its end, shape (G + 1,)."""
    undecided: Ids
    """Rows of the founders of transients left out, since what lies beyond the edge may have a part in them."""


def link_detections(xyz: Floats, exposure: npt.NDArray[np.int32], edge: Mask, radius_arcsec: float) -> Groups:
    """Group the detections of one unit.

    Parameters
    ----------
    xyz : float64 ndarray, shape (N, 3)
        ICRS unit vectors.
    exposure : int32 ndarray, shape (N,)
        Number of the exposure, ascending: the order in which they are taken.
    edge : bool ndarray, shape (N,)
        Whether detections that are not given may be within INFLUENCE_RADII radii of it.
    radius_arcsec : float
        Inclusive; > 0.

    Raises
    ------
    ValueError
        If the radius is not positive.
    """
    if not radius_arcsec > 0.0:
        raise ValueError(f"radius {radius_arcsec} arcsec must be positive")
    radius2, influence2 = chord2_of_arcsec(radius_arcsec), chord2_of_arcsec(INFLUENCE_RADII * radius_arcsec)
    founder, undecided = _link(np.ascontiguousarray(xyz), exposure, edge, radius2, influence2)
    return _groups(founder.astype(np.int64), undecided)


def _groups(founder: Ids, undecided: Mask) -> Groups:
    size = np.bincount(founder, minlength=len(founder))
    grouped = size[founder] > 1
    decided = ~undecided[founder]
    row = np.flatnonzero(grouped & decided)
    row = row[np.argsort(founder[row], kind="stable")]
    founders, counts = np.unique(founder[row], return_counts=True)
    left_out = np.flatnonzero((size > 1) & undecided)
    return Groups(founders, row, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), left_out)


def most_frequent(group: Ids, ids: Ids, groups: int) -> tuple[Ids, Ids]:
    """The id that most rows of each group have, the lowest of equally frequent ones, and how many have any.

    Parameters
    ----------
    group : int64 ndarray, shape (N,)
        Number of the group, 0..groups-1.
    ids : int64 ndarray, shape (N,)
        0 for none.
    groups : int

    Returns
    -------
    ids, counts : int64 ndarray, shape (groups,)
        0 for groups without any.
    """
    some = np.flatnonzero(ids)
    order = some[np.lexsort((ids[some], group[some]))]
    of, value = group[order], ids[order]
    first = np.flatnonzero(
        np.concatenate([np.ones(min(len(of), 1), bool), (of[1:] != of[:-1]) | (value[1:] != value[:-1])])
    )
    times = np.diff(np.append(first, len(of)))
    best = first[np.lexsort((-value[first], times, of[first]))]  # the last of each group wins
    found = np.zeros(groups, np.int64)
    found[of[best]] = value[best]
    return found, np.bincount(of, minlength=groups)


@njit(cache=True, nogil=True)
def _link(xyz: Floats, exposure: Any, edge: Mask, radius2: float, influence2: float) -> tuple[Any, Mask]:
    """Row of the founder of each row, its own if it is one; and which founders are not decided."""
    n = xyz.shape[0]
    founder = np.empty(n, np.int32)
    away2 = np.empty(n)
    uncertain = np.zeros(n, np.bool_)
    winner = np.full(n, -1, np.int32)
    # Two grids of cubic cells in a hash table each: of all founders so far, and of all rows so far whose fate is not
    # certain. Cells are as large as the search radius, so that the 27 around a place hold all that is near.
    radius, influence = np.sqrt(radius2) * _CELL_SLACK, np.sqrt(influence2) * _CELL_SLACK
    size = _LEAST_SLOTS
    while size < 2 * n:  # a power of two, at most half full
        size *= 2
    heads, chain = np.full(size, -1, np.int32), np.full(n, -1, np.int32)
    doubt_heads, doubt_chain = np.full(size, -1, np.int32), np.full(n, -1, np.int32)
    doubts = 0
    start = 0
    while start < n:
        stop = start
        while stop < n and exposure[stop] == exposure[start]:
            stop += 1
        # Rows start to stop are one exposure. Each looks for the nearest founder among earlier exposures, and takes
        # over the doubt of any row within the influence: that one's fate may have decided what founders there are.
        for i in range(start, stop):
            founder[i], away2[i] = _nearest(xyz, i, heads, chain, radius, radius2)
            uncertain[i] = edge[i]
            if doubts > 0 and not edge[i]:
                uncertain[i] = _nearest(xyz, i, doubt_heads, doubt_chain, influence, influence2)[0] >= 0
        # Of the rows that have one founder nearest, the nearest wins it. A winner below start is of an earlier
        # exposure, and so nobody's rival; rows come in order, so that the lower of equally near ones stays.
        for i in range(start, stop):
            f = founder[i]
            if f >= 0 and (winner[f] < start or away2[i] < away2[winner[f]]):
                winner[f] = i
        # Who joins nobody is a founder. Both grids are added to only now: rows of one exposure never see each other.
        for i in range(start, stop):
            if founder[i] < 0 or winner[founder[i]] != i:
                founder[i] = i
                _insert(xyz, i, heads, chain, radius)
            if uncertain[i]:
                doubts += 1
                _insert(xyz, i, doubt_heads, doubt_chain, influence)
        start = stop
    # A founder is decided if no doubtful row is so near that it joined it, or would have if its fate were another.
    # Doubts of exposures after the founder count too, which is why this waits for the end.
    undecided = np.zeros(n, np.bool_)
    if doubts > 0:
        for i in range(n):
            if founder[i] == i:
                undecided[i] = _nearest(xyz, i, doubt_heads, doubt_chain, influence, radius2)[0] >= 0
    return founder, undecided


@njit(cache=True, nogil=True)
def _slot(x: int, y: int, z: int, size: int) -> Any:
    """Slot of a cell in a hash table; ``size`` is a power of two."""
    mixed = np.uint64(x) * _X ^ np.uint64(y) * _Y ^ np.uint64(z) * _Z
    mixed ^= mixed >> np.uint64(29)
    mixed *= _X
    return np.int64(mixed >> np.uint64(32)) & (size - 1)


@njit(cache=True, nogil=True)
def _insert(xyz: Floats, i: int, heads: Any, chain: Any, cell: float) -> None:
    """Put a row before those of its slot: ``heads`` has the first of each, ``chain`` the next of each row."""
    at = _slot(
        np.int64(np.floor(xyz[i, 0] / cell)),
        np.int64(np.floor(xyz[i, 1] / cell)),
        np.int64(np.floor(xyz[i, 2] / cell)),
        heads.shape[0],
    )
    chain[i] = heads[at]
    heads[at] = i


@njit(cache=True, nogil=True)
def _nearest(xyz: Floats, i: int, heads: Any, chain: Any, cell: float, within2: float) -> tuple[int, float]:
    """Row of the nearest one in the grid, the lower of equally near ones; -1 if none is near enough.

    Cells that share a slot of the hash table are distinguished by distance alone.
    """
    best, best2 = -1, np.inf
    x0 = np.int64(np.floor(xyz[i, 0] / cell))
    y0 = np.int64(np.floor(xyz[i, 1] / cell))
    z0 = np.int64(np.floor(xyz[i, 2] / cell))
    for x in range(x0 - 1, x0 + 2):
        for y in range(y0 - 1, y0 + 2):
            for z in range(z0 - 1, z0 + 2):
                k = heads[_slot(x, y, z, heads.shape[0])]
                while k >= 0:
                    dx, dy, dz = xyz[k, 0] - xyz[i, 0], xyz[k, 1] - xyz[i, 1], xyz[k, 2] - xyz[i, 2]
                    d2 = dx * dx + dy * dy + dz * dz
                    if d2 <= within2 and (d2 < best2 or (d2 == best2 and k < best)):
                        best, best2 = k, d2
                    k = chain[k]
    return best, best2
