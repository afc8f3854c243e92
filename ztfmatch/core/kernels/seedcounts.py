"""Count the seeds of a survey on a grid, catalog after catalog, and divide the sky into tiles by them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.config import MAX_TILE_ORDER
from ztfmatch.core.kernels.tiling import FINE_ORDER, Pixels, Tile, Tiling, adaptive_tiling

GRID_ORDER: Final = FINE_ORDER - 2
"""HEALPix order of the pixels on which seeds are counted."""

_BLOCK_BITS: Final = 12
"""Counts are kept in blocks of so many bits of the pixels' numbers: of what is not covered there is none."""


class SeedCounts:
    """Seeds of each pixel of GRID_ORDER: 200 MB if they are everywhere on the sky, whatever the number of catalogs."""

    def __init__(self) -> None:
        self._blocks: dict[int, npt.NDArray[np.int32]] = {}

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
                self._blocks[number] = np.zeros(1 << _BLOCK_BITS, np.int32)
            block = self._blocks[number]
            block[pixels[low:high] & (len(block) - 1)] += counts[low:high].astype(np.int32)

    def tiling(self, seeds_per_tile: int, max_order: int = MAX_TILE_ORDER) -> Tiling:
        """Tiles of at most so many seeds, as :func:`~ztfmatch.core.kernels.tiling.adaptive_tiling` makes them.

        One base pixel after the other, since no tile is of two: of the whole sky at once a gigabyte would be needed.
        """
        bases = (Tile(0, npix) for npix in range(12))
        return Tiling(tuple(tile for base in bases for tile in self._tiles_of(base, seeds_per_tile, max_order)))

    def _tiles_of(self, base: Tile, seeds_per_tile: int, max_order: int) -> list[Tile]:
        within = sorted(number for number in self._blocks if number >> 2 * GRID_ORDER - _BLOCK_BITS == base.npix)
        held = [(number, np.flatnonzero(self._blocks[number] > 0)) for number in within]
        none = np.zeros(0, np.int64)
        pixels = np.concatenate([none, *((number << _BLOCK_BITS) + at for number, at in held)])
        counts = np.concatenate([none.astype(np.int32), *(self._blocks[number][at] for number, at in held)])
        held.clear()
        pixels <<= 2 * (FINE_ORDER - GRID_ORDER)
        tiles = adaptive_tiling(pixels, counts, seeds_per_tile, max_order).tiles
        return [tile for tile in tiles if tile.npix >> 2 * tile.order == base.npix]
