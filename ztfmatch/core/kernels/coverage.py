"""Which exposures touch which groups of neighbouring tiles, from the caps around their detections.

A group is a HEALPix pixel: a tile, or a coarser pixel with all tiles within. The larger it is, the fewer catalogs lie
in two, and are read twice; so a group is divided only while it holds more rows than a task takes, and no further than
to MAX_GROUP_ORDER: beyond that what it holds is divided by unit and time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.kernels.tiling import CAP_ORDER, FINE_ORDER, Pixels, Tile, Tiling, adaptive_tiling, margin_ring

MAX_GROUP_ORDER: Final = 4
"""Pixels of 3.7 degrees: a quadrant of 0.86 degrees falls into 1.5 of them, into 2.2 of the next order, 3.7 of the one
after. At most CAP_ORDER."""

_FINE_BITS: Final = 2 * (FINE_ORDER - CAP_ORDER)
_ORDER_BITS: Final = 40

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Members:
    """Exposures that touch a group."""

    group: Tile
    exposure: Rows
    """Their numbers, ascending, shape (M,)."""
    rows: Floats
    """How many rows of each lie in the group, by the areas; shape (M,)."""


@dataclass(frozen=True)
class Coverage:
    """Pixels of CAP_ORDER that exposures touch.

    Parameters
    ----------
    tiling : Tiling
    pixels : int64 ndarray, shape (P,)
        Those of the first exposure, then of the second ...
    counts : int64 ndarray, shape (E,)
        How many each exposure has.
    rows : int64 ndarray, shape (E,)
        Rows of each exposure, which are taken to be spread evenly over its pixels.
    """

    tiling: Tiling
    pixels: Pixels
    counts: Rows
    rows: Rows

    def members(self, rows_per_task: int) -> list[Members]:
        """Groups in order of the sky, and what touches each."""
        exposure = np.repeat(np.arange(len(self.counts)), self.counts)
        keys, group = np.unique(self._group_keys(rows_per_task), return_inverse=True)
        pairs, at = np.unique(group * len(self.counts) + exposure, return_inverse=True)
        rows = np.bincount(at, (self.rows / self.counts)[exposure]).astype(np.float64)
        of_group, exposure = np.divmod(pairs, len(self.counts))
        edges = np.searchsorted(of_group, np.arange(len(keys) + 1)).tolist()
        made = [
            Members(Tile(*divmod(key, 1 << _ORDER_BITS)), exposure[low:high], rows[low:high])
            for key, low, high in zip(keys.tolist(), edges, edges[1:], strict=False)
        ]
        return sorted(made, key=lambda one: one.group.fine_range)

    def _group_keys(self, rows_per_task: int) -> Rows:
        """Number of the group of each pixel: order, then pixel."""
        pixels, at = np.unique(self.pixels, return_inverse=True)
        fine = pixels << _FINE_BITS
        held = np.bincount(at, np.repeat(self.rows / self.counts, self.counts)).astype(np.int64)
        coarse = adaptive_tiling(fine, held, rows_per_task, MAX_GROUP_ORDER)
        order = np.minimum(_orders_at(coarse, fine), _orders_at(self.tiling, fine))
        return np.asarray(((order << _ORDER_BITS) + (pixels >> 2 * (CAP_ORDER - order)))[at])

    def tiles(self, group: Tile, exposures: Rows) -> Iterator[tuple[Tile, bool]]:
        """Tiles in a group and its margin that some exposures touch, and whether each is in the group.

        Parameters
        ----------
        group : Tile
        exposures : int64 ndarray
        """
        starts = (np.cumsum(self.counts) - self.counts)[exposures]
        counts = self.counts[exposures]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        pixels = np.unique(self.pixels[np.repeat(starts, counts) + within])
        touched = self.tiling.overlapping(pixels, CAP_ORDER)
        start, stop = group.fine_range
        first, last = self.tiling.index_of_fine(np.array([start, stop - 1])).tolist()
        margin = np.unique(self.tiling.index_of_fine(margin_ring(group)))
        for row in touched.tolist():
            if first <= row <= last:
                yield self.tiling.tiles[row], True
            elif margin[min(np.searchsorted(margin, row), len(margin) - 1)] == row:
                yield self.tiling.tiles[row], False


def _orders_at(tiling: Tiling, fine: Pixels) -> Rows:
    """Order of the tile that holds each fine pixel."""
    orders = np.array([tile.order for tile in tiling.tiles])
    return np.asarray(orders[tiling.index_of_fine(fine)])
