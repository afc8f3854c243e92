"""Order of rows by object, then time: sort them, and find those that are out of it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Floats, Ids, Mask
from ztfmatch.core.kernelcache import njit

Ranks = npt.NDArray[np.int32]

_RANK_STEPS: Final = 4
"""Steps of an insertion sort that cost about as much as one rank of :func:`_order_by_rank`."""


@njit(cache=True, nogil=True)
def order_by_group(group: Ids, time: Floats, tie: Ids, groups: int, rank: Ranks | None = None, ranks: int = 0) -> Ids:
    """Order of rows by group, then time, then tie.

    A counting sort by group; then each is brought into order, which is linear where it is about in order already, or
    where ranks say what that is and are not many more than its rows.

    Parameters
    ----------
    group : int64 ndarray, shape (N,)
        0..groups-1; rows with a negative group are left out.
    time : float64 ndarray, shape (N,)
    tie : int64 ndarray, shape (N,)
    groups : int
    rank : int32 ndarray, shape (N,), optional
        Numbers 0..ranks-1 in whose order times about ascend, as those of exposures.
    ranks : int, optional

    Returns
    -------
    int64 ndarray, shape (K,)
        Row numbers.
    """
    # Count the rows of each group; the running sum is where each begins.
    place = np.zeros(groups + 1, np.int64)
    for i in range(group.shape[0]):
        if group[i] >= 0:
            place[group[i] + 1] += 1
    for g in range(groups):  # a sum of NumPy's would have every process import all that numba has of arrays
        place[g + 1] += place[g]
    # Put each row into the next free place of its group: afterwards place[g] is where group g ends.
    order = np.empty(place[groups], np.int64)
    for i in range(group.shape[0]):
        g = group[i]
        if g >= 0:
            order[place[g]] = i
            place[g] += 1
    # Bring each group into order. Insertion takes steps in the square of the rows where they come in no order at all;
    # where that is dearer than a walk over all ranks, one by rank goes before it and leaves it next to nothing to do.
    of_rank = np.full(ranks, -1, np.int64)
    first = 0
    for g in range(groups):
        if place[g] - first < 2:
            first = place[g]
            continue
        rows = order[first : place[g]]
        if not _in_order(rows, time, tie):
            if rank is not None and rows.shape[0] * rows.shape[0] > _RANK_STEPS * ranks:
                _order_by_rank(rows, rank, of_rank)
            _insertion_sort(rows, time, tie)
        first = place[g]
    return order


@njit(cache=True, nogil=True)
def _before(i, j, time, tie):  # type: ignore[no-untyped-def]
    return time[i] < time[j] or (time[i] == time[j] and tie[i] < tie[j])


@njit(cache=True, nogil=True)
def _in_order(rows, time, tie):  # type: ignore[no-untyped-def]
    k = 1
    while k < rows.shape[0] and not _before(rows[k], rows[k - 1], time, tie):
        k += 1
    return k >= rows.shape[0]


@njit(cache=True, nogil=True)
def _order_by_rank(rows, rank, of_rank):  # type: ignore[no-untyped-def]
    """Order rows by rank, but where two have the same leave them as they are; ``of_rank`` is -1 before and after."""
    # Each row notes itself at its rank. A rank that is taken belongs to two rows: such a group is left to insertion.
    twice = False
    for i in rows:
        twice |= of_rank[rank[i]] >= 0
        of_rank[rank[i]] = i
    if twice:
        for i in rows:
            of_rank[rank[i]] = -1
        return
    # The ranks in order then name the rows in order.
    k = 0
    for r in range(of_rank.shape[0]):
        if of_rank[r] >= 0:
            rows[k] = of_rank[r]
            of_rank[r] = -1
            k += 1


@njit(cache=True, nogil=True)
def _insertion_sort(rows, time, tie):  # type: ignore[no-untyped-def]
    for n in range(1, rows.shape[0]):
        i, k = rows[n], n
        while k > 0 and _before(i, rows[k - 1], time, tie):
            rows[k] = rows[k - 1]
            k -= 1
        rows[k] = i


@njit(cache=True, nogil=True)
def out_of_order(first: Ids, second: Floats, third: Ids) -> Mask:
    """Rows that do not come after the one before, by the first, then the second, then the third; shape (N,).

    The first row comes after none. What is equal in all three, or NaN, is not in order.
    """
    out = np.zeros(first.shape[0], np.bool_)
    for i in range(1, first.shape[0]):
        tied = first[i] == first[i - 1]
        later = second[i] > second[i - 1] or (second[i] == second[i - 1] and third[i] > third[i - 1])
        out[i] = not (first[i] > first[i - 1] or (tied and later))
    return out
