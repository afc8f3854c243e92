"""Object, tile and rival of detections from their match targets, in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ints
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.crossmatch import NO_SEED, Targets


class Noted(NamedTuple):
    """Where it is noted; of each detection, shape (N,) each."""

    group: Ints
    """Number of the object that it is an epoch of; -1 for none that has a tile."""
    tile: npt.NDArray[np.int16]
    """Tile of that object; -1 for none."""
    nearest: Ints
    """Id of the object that it lost to another detection; 0 for none."""


def note_targets(target: Targets, seed_tile: npt.NDArray[np.int16], seed_id: Ints, first: int, noted: Noted) -> Ints:
    """Note what is known of detections by their targets.

    Parameters
    ----------
    target : int32 ndarray, shape (N,)
        From :func:`ztfmatch.core.kernels.crossmatch.match_exposure`.
    seed_tile : int16 ndarray, shape (M,)
        Number of each seed's tile; negative for none of those that matter.
    seed_id : int64 ndarray, shape (M,)
        Objectid of each seed.
    first : int
        Number of the first seed's object; the others follow.
    noted : Noted
        Written to.

    Returns
    -------
    int64 ndarray, shape (K,)
        Detections that have no seed or lost it, ascending.
    """
    free = np.empty(len(target), np.int64)
    found: Any = _note_targets(target, seed_tile, seed_id, first, *noted, free)
    return free[:found]


@njit(cache=True, nogil=True)
def _note_targets(target, seed_tile, seed_id, first, group, tile, nearest, free):  # type: ignore[no-untyped-def]
    found = 0
    for i in range(target.shape[0]):
        seed = target[i]
        group[i], tile[i], nearest[i] = -1, -1, 0
        if seed >= 0:
            if seed_tile[seed] >= 0:
                group[i], tile[i] = first + seed, seed_tile[seed]
        else:
            if seed < NO_SEED:
                nearest[i] = seed_id[-2 - seed]
            free[found] = i
            found += 1
    return found
