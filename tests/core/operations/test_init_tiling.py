"""The tiling of references whose seeds are added up by blocks, against one of all seeds at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.kernels.seedcounts import GRID_ORDER, SeedCounts
from ztfmatch.core.kernels.tiling import FINE_ORDER, adaptive_tiling
from ztfmatch.core.tasks.inspect import grid_of, read_grid

SHIFT = 2 * (FINE_ORDER - GRID_ORDER)
SKY = 12 << 2 * FINE_ORDER
near = st.builds(
    lambda start, steps: [(start + step) % SKY for step in steps],
    st.integers(0, SKY - 1),
    st.lists(st.integers(0, 400), max_size=60),
)
"""Seeds of a reference: some at one place, many in the same pixel."""


@given(st.lists(near, max_size=6), st.integers(1, 12), st.integers(0, 11))
def test_tiling_of_is_that_of_all_seeds_at_once(references: list[list[int]], budget: int, order: int) -> None:
    counted = SeedCounts()
    for seeds in references:
        counted.add(*read_grid(grid_of(np.array(seeds, np.int64))))
    for seeds in references[1:2]:  # twice, and taken off again
        pixels, counts = read_grid(grid_of(np.array(seeds, np.int64)))
        counted.add(pixels, counts)
        counted.add(pixels, -counts)
    every = np.array([seed for seeds in references for seed in seeds], np.int64)
    pixels, counts = np.unique(every >> SHIFT, return_counts=True)
    expected = adaptive_tiling(pixels << SHIFT, counts, budget, order)
    assert counted.tiling(budget, order) == expected


def test_tiling_counts_more_seeds_in_a_pixel_than_sixteen_bits_hold() -> None:
    counted, pixels = SeedCounts(), np.array([70_000, 70_001, 90_000])
    for counts in ([60_000, 5, 1], [60_000, 5, 1], [-20_000, 0, 0]):
        counted.add(pixels, np.array(counts))
    expected = np.array([100_000, 10, 2])
    for budget in (99_999, 100_000, 100_010, 100_011, 100_012):
        assert counted.tiling(budget) == adaptive_tiling(pixels << SHIFT, expected, budget), budget


def test_seed_counts_of_the_whole_sky_take_a_hundred_megabytes() -> None:
    counted, pixels = SeedCounts(), np.arange(12 << 2 * GRID_ORDER)
    for part in np.split(pixels, 48):
        counted.add(part, np.full(len(part), 4_000))
    assert sum(block.nbytes for block in counted._blocks.values()) == 2 * len(pixels) < 101e6


@given(near)
def test_read_grid_has_what_grid_of_was_given(seeds: list[int]) -> None:
    pixels, counts = read_grid(grid_of(np.array(seeds, np.int64)))
    assert np.repeat(pixels, counts).tolist() == sorted(seed >> SHIFT for seed in seeds)
