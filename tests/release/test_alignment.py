"""Partitions: no larger than asked for, nothing lost, and neighbours that see each other."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.kernels.tiling import Tile, fine_pixels
from ztfmatch.release.kernels.alignment import Alignment, Limits, Piece, in_ring, joined, pieces_of_tile


def positions(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Half of them in a dense spot."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    ra[: n // 2], dec[: n // 2] = 44.8 + rng.normal(0, 0.4, n // 2), 0.1 + rng.normal(0, 0.4, n // 2)
    return ra, dec


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 3000), st.integers(0, 4), st.integers(0, 5))
def test_pieces_and_joined_hold_every_row_once_within_limits(
    n: int, rows: int, size: int, min_order: int, seed: int
) -> None:
    ra, dec = positions(n, seed)
    fine = fine_pixels(ra, dec)
    sizes = np.random.default_rng(seed).integers(1, 200, n)
    limits = Limits(rows, size, min_order)
    pieces = [
        piece
        for tile in (Tile(1, npix) for npix in range(48))
        for inside in [(fine >= tile.fine_range[0]) & (fine < tile.fine_range[1])]
        for piece in pieces_of_tile(tile, fine[inside], sizes[inside], limits)
    ]
    partitions = joined(pieces, limits)
    for made in (pieces, partitions):
        assert sum(piece.rows for piece in made) == n
        for piece in made:
            inside = healpy.ang2pix(1 << piece.tile.order, ra, dec, nest=True, lonlat=True) == piece.tile.npix
            assert (piece.rows, piece.size) == (inside.sum(), sizes[inside].sum())
            assert piece.tile.order >= min_order
            assert limits.hold(piece.rows, piece.size) or piece.tile.order == 12
    assert len(partitions) <= len(pieces)
    held = {piece.tile: piece for piece in partitions}
    for piece in partitions:  # none could have been joined with its siblings
        if piece.tile.order > min_order:
            parent = Tile(piece.tile.order - 1, piece.tile.npix // 4)
            low, high = parent.fine_range
            within = [p for p in held.values() if low <= p.tile.fine_range[0] < high]
            assert not limits.hold(sum(p.rows for p in within), sum(p.size for p in within))


def test_joined_keeps_a_piece_that_cannot_be_split() -> None:
    huge = Piece(Tile(12, 5), 10, 10)
    assert joined([huge, Piece(Tile(12, 6), 1, 1)], Limits(5, 5)) == [huge, Piece(Tile(12, 6), 1, 1)]


def test_alignment_that_overlaps_is_refused() -> None:
    with pytest.raises(ValueError, match="partitions overlap"):
        Alignment([Tile(3, 4), Tile(4, 17)])


def test_alignment_index_of_fine_is_minus_one_outside() -> None:
    alignment = Alignment([Tile(2, 7), Tile(3, 40)])
    low, high = Tile(3, 40).fine_range
    fine = np.array([low, high - 1, high, Tile(2, 7).fine_range[0], 0])
    assert alignment.index_of_fine(fine).tolist() == [1, 1, -1, 0, -1]
    assert Alignment([]).index_of_fine(fine).tolist() == [-1] * 5


@pytest.mark.parametrize("seed", range(3))
def test_in_ring_holds_all_within_the_margin_of_a_neighbour(seed: int) -> None:
    """Judged by healpy: a position from which a step of the margin's length leads into another partition."""
    rng = np.random.default_rng(seed)
    centre = [(44.9, 0.2), (0.01, 41.8), (123.0, 89.0)][seed]
    ra = centre[0] + rng.uniform(-0.6, 0.6, 40_000) / np.cos(np.radians(centre[1]))
    dec = np.clip(centre[1] + rng.uniform(-0.6, 0.6, 40_000), -90, 90)
    ra %= 360.0
    fine = fine_pixels(ra, dec)
    pieces = [
        piece
        for npix in range(12)
        for tile in [Tile(0, npix)]
        for inside in [(fine >= tile.fine_range[0]) & (fine < tile.fine_range[1])]
        for piece in pieces_of_tile(tile, fine[inside], np.ones(inside.sum(), np.int64), Limits(6000, 6000))
    ]
    alignment = Alignment([piece.tile for piece in pieces])
    owner = alignment.index_of_fine(fine)
    margins = {
        (row, tile)
        for i, own in enumerate(alignment.tiles)
        for tile in alignment.neighbours(own)
        for row in np.flatnonzero((owner == i) & in_ring(fine, tile)).tolist()
    }
    checked = 0
    for angle in np.radians(np.arange(0, 360, 15)):
        step = 0.999 * MARGIN_ARCSEC / 3600.0
        north = dec + step * np.cos(angle)
        east = (ra + step * np.sin(angle) / np.cos(np.radians(dec))) % 360.0
        reached = alignment.index_of_fine(fine_pixels(east, np.clip(north, -90, 90)))
        rows = np.flatnonzero((reached != owner) & (reached >= 0))
        checked += len(rows)
        assert {(row, alignment.tiles[reached[row]]) for row in rows.tolist()} <= margins
    assert checked > 20
