from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.kernels.targets import Noted, note_targets


def empty(rows: int) -> Noted:
    return Noted(np.empty(rows, np.int64), np.empty(rows, np.int16), np.empty(rows, np.int64))


def test_note_targets_literals() -> None:
    # Matched to a seed of tile 3, to one around, without a seed, and lost to another detection of seed 1.
    target = np.array([0, 2, -1, -3], np.int32)
    noted = empty(4)
    free = note_targets(target, np.array([3, 0, -1], np.int16), np.array([70, 71, 72]), 100, noted)
    assert free.tolist() == [2, 3]
    assert noted.group.tolist() == [100, -1, -1, -1]
    assert noted.tile.tolist() == [3, -1, -1, -1]
    assert noted.nearest.tolist() == [0, 0, 0, 71]


@given(st.integers(0, 2**31), st.integers(0, 200), st.integers(1, 50))
def test_note_targets_equals_numpy(seed: int, detections: int, seeds: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.integers(-1 - seeds, seeds, detections).astype(np.int32)
    tile, ids = rng.integers(-1, 4, seeds).astype(np.int16), rng.permutation(10**12 + np.arange(seeds))
    noted = empty(detections)
    free = note_targets(target, tile, ids, 7, noted)
    of_seed = np.append(tile, -1)[np.maximum(target, -1)]
    np.testing.assert_array_equal(free, np.flatnonzero(target < 0))
    np.testing.assert_array_equal(noted.tile, of_seed)
    np.testing.assert_array_equal(noted.group, np.where(of_seed < 0, -1, 7 + target))
    np.testing.assert_array_equal(noted.nearest, np.where(target < -1, ids[np.clip(-2 - target, 0, seeds - 1)], 0))
