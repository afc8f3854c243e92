"""Partitions of a release: HEALPix pixels of mixed orders up to a size, only where there are objects."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Ints, Mask
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.tiling import FINE_ORDER, Pixels, Tile, in_sky_order, margin_ring

MAX_PARTITION_ORDER: Final = FINE_ORDER - 1


@dataclass(frozen=True)
class Limits:
    """How large a partition may be."""

    rows: int
    size: int
    """Most rows, most bytes in memory; a pixel of the largest order may have more."""
    min_order: int = 0
    """HEALPix order of the largest pixel."""

    def hold(self, rows: int, size: int) -> bool:
        """Whether so much fits into one partition."""
        return rows <= self.rows and size <= self.size


@dataclass(frozen=True)
class Piece:
    """A pixel and what is in it."""

    tile: Tile
    rows: int
    size: int


def pieces_of_tile(tile: Tile, fine: Pixels, size: Ints, limits: Limits) -> list[Piece]:
    """Divide a tile until every piece fits; empty ones are left out.

    Parameters
    ----------
    fine : int64 ndarray, shape (N,)
        Fine pixel of each row, all in the tile.
    size : int64 ndarray, shape (N,)
        Bytes of each row.
    """
    order = np.argsort(fine, kind="stable")
    pixels, total = fine[order], np.concatenate([[0], np.cumsum(size[order])])
    done: list[Piece] = []
    pending = [tile]
    while pending:
        pixel = pending.pop()
        low, high = (int(edge) for edge in np.searchsorted(pixels, pixel.fine_range))
        rows, held = high - low, int(total[high] - total[low])
        if rows and _to_be_split(pixel, rows, held, limits):
            pending.extend(reversed(pixel.children()))
        elif rows:
            done.append(Piece(pixel, rows, held))
    return done


def _to_be_split(pixel: Tile, rows: int, size: int, limits: Limits) -> bool:
    return pixel.order < limits.min_order or (pixel.order < MAX_PARTITION_ORDER and not limits.hold(rows, size))


def joined(pieces: Iterable[Piece], limits: Limits) -> list[Piece]:
    """Join pieces to the largest pixels that fit, in order of the sky."""
    ordered = sorted(pieces, key=lambda piece: piece.tile.fine_range)
    starts = [piece.tile.fine_range[0] for piece in ordered]
    done: list[Piece] = []
    pending = [Tile(0, npix) for npix in reversed(range(12))]
    while pending:
        pixel = pending.pop()
        low, high = (bisect.bisect_left(starts, edge) for edge in pixel.fine_range)
        inside = ordered[low:high]
        rows, size = sum(piece.rows for piece in inside), sum(piece.size for piece in inside)
        if [piece.tile for piece in inside] == [pixel]:
            done.append(inside[0])
        elif inside and pixel.order >= limits.min_order and limits.hold(rows, size):
            done.append(Piece(pixel, rows, size))
        elif inside:
            pending.extend(reversed(pixel.children()))
    return done


class Alignment:
    """Partitions in order of the sky, which do not overlap and do not cover it."""

    def __init__(self, tiles: Sequence[Tile]) -> None:
        self.tiles = in_sky_order(tiles)
        edges = np.array([tile.fine_range for tile in self.tiles], np.int64).reshape(-1, 2)
        self._starts, self._stops = np.ascontiguousarray(edges[:, 0]), np.ascontiguousarray(edges[:, 1])
        if np.any(self._stops[:-1] > self._starts[1:]):
            raise ValueError("partitions overlap")

    def index_of_fine(self, fine: Pixels) -> Pixels:
        """Row in ``tiles`` of each fine pixel, or -1, shape (N,)."""
        if not self.tiles:
            return np.full(len(fine), -1)
        place = np.searchsorted(self._starts, fine, side="right") - 1
        return np.where((place >= 0) & (fine < self._stops[np.maximum(place, 0)]), place, -1)

    def neighbours(self, tile: Tile) -> Iterator[Tile]:
        """Partitions that the ring of fine pixels around a partition reaches into."""
        rows = np.unique(self.index_of_fine(margin_ring(tile)))
        for row in rows[rows >= 0].tolist():
            yield self.tiles[row]


def in_ring(fine: Pixels, tile: Tile) -> Mask:
    """Whether each fine pixel is in the ring around a tile, which holds all within MARGIN_ARCSEC of it, shape (N,)."""
    return find_sorted(margin_ring(tile), fine) >= 0
