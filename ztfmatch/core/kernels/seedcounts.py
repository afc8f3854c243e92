"""Count the seeds of a survey on a grid, catalog by catalog, and divide the sky into tiles accordingly."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.config import MAX_TILE_ORDER
from ztfmatch.core.kernels.tiling import FINE_ORDER, Pixels, Tile, Tiling, adaptive_tiling, split_tiles

GRID_ORDER: Final = FINE_ORDER - 2
"""HEALPix order of the pixels on which seeds are counted."""

_BLOCK_ORDER: Final = 5
"""Counts are kept in blocks, which are pixels of this order; uncovered sky has none."""
_BLOCK_BITS: Final = 2 * (GRID_ORDER - _BLOCK_ORDER)
_NARROW: Final = np.dtype(np.uint16)
"""Of a count: densest fields have some thousand seeds in a pixel."""
_WIDE: Final = np.dtype(np.uint32)
"""Of a count in a block in which another would be too narrow."""


class SeedCounts:
    """Seeds of each pixel of GRID_ORDER: 100 MB if they are everywhere on the sky, whatever the number of catalogs."""

    def __init__(self) -> None:
        self._blocks: dict[int, npt.NDArray[np.uint16] | npt.NDArray[np.uint32]] = {}

    def add(self, pixels: Pixels, counts: Pixels) -> None:
        """Add some.

        Parameters
        ----------
        pixels : int64 ndarray, shape (N,)
            Of GRID_ORDER, ascending, each once.
        counts : int64 ndarray, shape (N,)
            Negative to take off what was added before.
        """
        numbers, starts = np.unique(pixels >> _BLOCK_BITS, return_index=True)
        edges = [*starts.tolist(), len(pixels)]
        for number, low, high in zip(numbers.tolist(), edges[:-1], edges[1:], strict=True):
            if number not in self._blocks:
                self._blocks[number] = np.zeros(1 << _BLOCK_BITS, _NARROW)
            block, at = self._blocks[number], pixels[low:high] & ((1 << _BLOCK_BITS) - 1)
            held = block[at] + counts[low:high]
            if block.dtype == _NARROW and held.max() > np.iinfo(_NARROW).max:
                block = self._blocks[number] = block.astype(_WIDE)
            block[at] = held

    def tiling(self, seeds_per_tile: int, max_order: int = MAX_TILE_ORDER) -> Tiling:
        """Tiles of at most so many seeds, as :func:`~ztfmatch.core.kernels.tiling.adaptive_tiling` makes them.

        Down to blocks by their sums, then one block after the other: of the whole sky at once a gigabyte would be
        needed.
        """
        numbers = np.array(sorted(self._blocks), np.int64)
        sums = np.array([self._blocks[number].sum(dtype=np.int64) for number in numbers.tolist()], np.int64)
        first = numbers << 2 * (FINE_ORDER - _BLOCK_ORDER)
        coarse = adaptive_tiling(first, sums, seeds_per_tile, min(max_order, _BLOCK_ORDER)).tiles
        split = (self._split(tile, seeds_per_tile, max_order) for tile in coarse)
        return Tiling(tuple(itertools.chain.from_iterable(split)))

    def _split(self, tile: Tile, seeds_per_tile: int, max_order: int) -> list[Tile]:
        block = self._blocks.get(tile.npix) if tile.order == _BLOCK_ORDER else None
        if block is None:
            return [tile]
        pixels = np.flatnonzero(block)
        fine = ((tile.npix << _BLOCK_BITS) + pixels) << 2 * (FINE_ORDER - GRID_ORDER)
        return split_tiles([tile], fine, block[pixels].astype(np.int64), seeds_per_tile, max_order)
