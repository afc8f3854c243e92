"""Which footprints touch which groups of neighbouring tiles.

A group is a HEALPix pixel: a tile, or a coarser pixel with all tiles within. The larger it is, the fewer catalogs lie
in two, and are read twice; so a group is divided only while it holds more rows than fit in memory at a time, and no
further than to MAX_GROUP_ORDER: beyond that what it holds is divided by unit and time. Then each task writes a file in
each tile of the group; so one that holds so much that it would be many tasks is divided once more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Rows
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.kernels.tiling import CAP_ORDER, FINE_ORDER, Pixels, Tile, Tiling, adaptive_tiling, margin_ring

MAX_GROUP_ORDER: Final = 4
"""Pixels of 3.7 degrees: a quadrant of 0.86 degrees falls into 1.5 of them, into 2.2 of the next order, 3.7 of the one
after. At most CAP_ORDER."""

BATCHES_TO_DIVIDE: Final = 12
"""Times what fits in memory, at which a group is divided once more: by its plan (tests/benchmarks/surveylist.py) a year
of the survey makes 193,000 files so and takes 49 core-hours, without it 313,000 and 46."""

_TOGETHER_RAD: Final = math.radians(0.1)
"""Exposures of a unit share a cap that is so much larger at most; pointings scatter by some arcsec."""

_ROUNDING_RAD: Final = 1e-9

_FINE_BITS: Final = 2 * (FINE_ORDER - CAP_ORDER)
_ORDER_BITS: Final = 40


@dataclass(frozen=True)
class Members:
    """Footprints that touch a group."""

    group: Tile
    footprint: Rows
    """Their numbers, ascending, shape (M,)."""
    share: Floats
    """Part of the area of each that lies in the group, shape (M,)."""


@dataclass(frozen=True)
class Coverage:
    """Pixels of CAP_ORDER that footprints touch."""

    tiling: Tiling
    pixels: Pixels
    """Those of the first footprint, then of the second ...; shape (P,)."""
    counts: Rows
    """How many each footprint has, shape (F,)."""
    rows: Rows
    """Rows of each footprint, or what else a task is measured by, taken to be spread evenly over its pixels; shape
    (F,)."""

    def members(self, rows_per_task: int) -> list[Members]:
        """Groups in order of the sky, and what touches each."""
        footprint = np.repeat(np.arange(len(self.counts)), self.counts)
        keys, group = np.unique(self._group_keys(rows_per_task), return_inverse=True)
        pairs, at = np.unique(group * len(self.counts) + footprint, return_inverse=True)
        of_group, footprint = np.divmod(pairs, len(self.counts))
        share = np.bincount(at) / self.counts[footprint]
        edges = np.searchsorted(of_group, np.arange(len(keys) + 1)).tolist()
        made = [
            Members(Tile(*divmod(key, 1 << _ORDER_BITS)), footprint[low:high], share[low:high])
            for key, (low, high) in zip(keys.tolist(), itertools.pairwise(edges), strict=True)
        ]
        return sorted(made, key=lambda one: one.group.fine_range)

    def _group_keys(self, rows_per_task: int) -> Rows:
        """Number of the group of each pixel: order, then pixel."""
        pixels, at = np.unique(self.pixels, return_inverse=True)
        fine = pixels << _FINE_BITS
        held = np.bincount(at, np.repeat(self.rows / self.counts, self.counts)).astype(np.int64)
        coarse = adaptive_tiling(fine, held, rows_per_task, MAX_GROUP_ORDER)
        deeper = adaptive_tiling(fine, held, BATCHES_TO_DIVIDE * rows_per_task, MAX_GROUP_ORDER + 1)
        order = np.maximum(_orders_at(coarse, fine), _orders_at(deeper, fine))
        # A group is never smaller than a tile: where tiles are coarser than the groups would be, they are the groups.
        order = np.minimum(order, _orders_at(self.tiling, fine))
        return np.asarray(((order << _ORDER_BITS) + (pixels >> 2 * (CAP_ORDER - order)))[at])

    def tiles(self, group: Tile, footprints: Rows) -> Iterator[tuple[Tile, bool]]:
        """Tiles in a group and its margin that some footprints touch, and whether each is in the group.

        Parameters
        ----------
        group : Tile
        footprints : int64 ndarray
        """
        starts = np.cumsum(self.counts) - self.counts
        pixels = np.unique(self.pixels[runs(starts[footprints], self.counts[footprints])])
        touched = self.tiling.overlapping(pixels)
        start, stop = group.fine_range
        first, last = self.tiling.index_of_fine(np.array([start, stop - 1])).tolist()
        margin = np.unique(self.tiling.index_of_fine(margin_ring(group)))
        for row in touched.tolist():
            if first <= row <= last:
                yield self.tiling.tiles[row], True
            elif margin[min(np.searchsorted(margin, row), len(margin) - 1)] == row:
                yield self.tiling.tiles[row], False


def runs(starts: Rows, counts: Rows) -> Rows:
    """Whole numbers from each start on, as many as its count, one run after the other."""
    return np.asarray(np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts))


def _orders_at(tiling: Tiling, fine: Pixels) -> Rows:
    """Order of the tile that holds each fine pixel."""
    orders = np.array([tile.order for tile in tiling.tiles])
    return np.asarray(orders[tiling.index_of_fine(fine)])


def shared_caps(unit: Rows, xyz: Floats, radius: Floats) -> tuple[Rows, Floats, Floats]:
    """Caps that hold the caps of exposures: one for all of a unit that are about at the same place.

    Parameters
    ----------
    unit : int64 ndarray, shape (E,)
        Ascending.
    xyz : float64 ndarray, shape (E, 3)
        Centres, unit vectors.
    radius : float64 ndarray, shape (E,)
        Radians.

    Returns
    -------
    footprint : int64 ndarray, shape (E,)
        Number of the cap that holds that of each exposure, ascending where all of a unit share one.
    xyz, radius : float64 ndarray, shape (F, 3), (F,)
    """
    first = np.flatnonzero(np.diff(unit, prepend=unit[0] - 1))
    # The first exposure of a unit leads those about it, and its cap grows to hold theirs; the others lead themselves.
    leader = np.repeat(first, np.diff(np.append(first, len(unit))))
    apart = 2.0 * np.arcsin(np.minimum(0.5 * np.linalg.norm(xyz - xyz[leader], axis=1), 1.0))
    extent = apart + radius + _ROUNDING_RAD
    alone = np.flatnonzero(extent > radius[leader] + _TOGETHER_RAD)
    leader[alone] = alone
    extent[alone] = radius[alone]
    leaders, footprint = np.unique(leader, return_inverse=True)
    largest = radius[leaders].copy()
    np.maximum.at(largest, footprint, extent)
    return footprint, xyz[leaders], largest
