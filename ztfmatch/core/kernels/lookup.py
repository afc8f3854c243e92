"""Find the rows of ids: with a small open-addressing hash table for very many, or by bisection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Array, Ids, Mask
from ztfmatch.core.kernelcache import njit

_EMPTY: Final = -1
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, multiplicative hashing)


class IdMap(NamedTuple):
    """Rows by id; made by :func:`build_map`."""

    keys: Ids
    rows: npt.NDArray[np.int32]
    shift: int


def build_map(ids: Ids) -> IdMap:
    """Table of the row of each id.

    Parameters
    ----------
    ids : int64 ndarray, shape (N,)
        Not negative; of equal ones the last counts.
    """
    bits = max(int(2 * len(ids) + 1).bit_length() + 1, 4)
    keys = np.full(1 << bits, _EMPTY, np.int64)
    rows = np.full(1 << bits, -1, np.int32)
    _fill(keys, rows, 64 - bits, np.ascontiguousarray(ids))
    return IdMap(keys, rows, 64 - bits)


@njit(cache=True, nogil=True)
def _fill(keys: Ids, rows: npt.NDArray[np.int32], shift: int, ids: Ids) -> None:
    mask = keys.shape[0] - 1
    for row in range(ids.shape[0]):
        at = np.int64((np.uint64(ids[row]) * _MULTIPLIER) >> np.uint64(shift))
        while keys[at] != _EMPTY and keys[at] != ids[row]:
            at = (at + 1) & mask
        keys[at] = ids[row]
        rows[at] = row


@njit(cache=True, nogil=True)
def find_rows(table: IdMap, ids: Ids) -> npt.NDArray[np.int32]:
    """Row of each id, or -1 where the map has none, shape (N,)."""
    out = np.empty(ids.shape[0], np.int32)
    mask = table.keys.shape[0] - 1
    for i in range(ids.shape[0]):
        at = np.int64((np.uint64(ids[i]) * _MULTIPLIER) >> np.uint64(table.shift))
        while table.keys[at] != _EMPTY and table.keys[at] != ids[i]:
            at = (at + 1) & mask
        out[i] = table.rows[at]
    return out


def find_sorted(known: Array, values: Array) -> Ids:
    """Row of each value in ascending ones without repeats, or -1 if absent, shape (N,)."""
    if not len(known):
        return np.full(len(values), -1)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[place] == values, place, -1)


def is_among(values: Ids, ids: Ids) -> Mask:
    """Whether each value is one of some ids, which are ascending: a tenth of the time of :func:`numpy.isin`."""
    if not len(ids):
        return np.zeros(len(values), bool)
    among: Mask = ids[np.minimum(np.searchsorted(ids, values), len(ids) - 1)] == values
    return among


def in_ranges(ids: Array, ranges: Sequence[tuple[int, int]]) -> Mask:
    """Whether each id lies in any of the ranges, which may not overlap."""
    ordered = sorted(ranges)
    lows = np.array([low for low, _ in ordered], np.int64)
    highs = np.array([high for _, high in ordered], np.int64)
    at = np.searchsorted(lows, ids, side="right") - 1
    inside: Mask = (at >= 0) & (ids <= highs[np.maximum(at, 0)])
    return inside
