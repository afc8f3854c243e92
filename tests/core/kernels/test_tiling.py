"""Tiles and margins against healpy and against points laid just outside borders."""

from __future__ import annotations

import itertools
import math

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.kernels.tiling import (
    CAP_ORDER,
    FINE_ORDER,
    MAX_TILE_ORDER,
    REACH_ORDER,
    Boxes,
    Tile,
    Tiling,
    adaptive_tiling,
    border,
    boxes_touch_tile,
    caps_touch_any,
    fine_pixels,
    in_tile,
    in_tile_or_margin,
    margin_ring,
    neighbours,
    ring,
    whole_sky,
)

N_FINE = 12 << (2 * FINE_ORDER)
tiles = st.integers(0, MAX_TILE_ORDER).flatmap(
    lambda order: st.builds(Tile, st.just(order), st.integers(0, (12 << (2 * order)) - 1))
)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    """Tilings refined towards a few places."""
    pending, done = [Tile(0, npix) for npix in range(12)], []
    goals = draw(st.lists(st.integers(0, N_FINE - 1), max_size=3))
    depth = draw(st.integers(1, MAX_TILE_ORDER))
    while pending:
        tile = pending.pop(0)
        low, high = tile.fine_range
        if tile.order < depth and any(low <= goal < high for goal in goals):
            pending[:0] = tile.children()
        else:
            done.append(tile)
    return Tiling(tuple(done))


def places_near_borders(tile: Tile, away_arcsec: float, per_side: int, turns: int) -> np.ndarray:
    """Vectors at a distance from points of the tile's border, in all directions."""
    border = healpy.boundaries(1 << tile.order, tile.npix, step=per_side, nest=True).T
    helper = np.where(np.abs(border[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    east = np.cross(helper, border)
    east /= np.linalg.norm(east, axis=1)[:, None]
    north = np.cross(border, east)
    angle = np.linspace(0.0, 2.0 * np.pi, turns, endpoint=False)[:, None, None]
    away = math.radians(away_arcsec / 3600.0)
    return (border * np.cos(away) + np.sin(away) * (np.cos(angle) * east + np.sin(angle) * north)).reshape(-1, 3)


def fine_of(xyz: np.ndarray) -> np.ndarray:
    return healpy.vec2pix(1 << FINE_ORDER, *xyz.T, nest=True)


# Coverage


@settings(max_examples=50)
@given(tilings(), st.integers(0, 2**32))
def test_index_of_fine_every_place_lies_in_just_the_tile_it_names(tiling: Tiling, seed: int) -> None:
    fine = np.random.default_rng(seed).integers(0, N_FINE, 200)
    rows = tiling.index_of_fine(fine)
    for pixel, row in zip(fine, rows, strict=True):
        holders = [i for i, t in enumerate(tiling.tiles) if pixel >> (2 * (FINE_ORDER - t.order)) == t.npix]
        assert holders == [row]


def test_whole_sky_is_the_twelve_base_pixels() -> None:
    assert whole_sky().tiles == tuple(Tile(0, npix) for npix in range(12))


@pytest.mark.parametrize(
    ("tiles", "why"),
    [
        ([], "does not cover the sky"),
        ([Tile(0, n) for n in range(11)], "does not cover the sky"),
        ([Tile(0, n) for n in (0, 2, 1, *range(3, 12))], "gap or an overlap before Norder=0/Npix=2"),
        ([Tile(0, 0), Tile(1, 3), *(Tile(0, n) for n in range(1, 12))], "gap or an overlap before Norder=1/Npix=3"),
        ([Tile(0, n) for n in range(13)], "does not cover the sky"),
    ],
)
def test_tiling_not_a_partition_raises(tiles: list[Tile], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Tiling(tuple(tiles))


@given(tiles)
def test_children_divide_the_tile(tile: Tile) -> None:
    ranges = [child.fine_range for child in tile.children()]
    assert ranges[0][0] == tile.fine_range[0]
    assert ranges[3][1] == tile.fine_range[1]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(ranges))


def test_tile_name_is_that_of_hats() -> None:
    assert str(Tile(3, 210)) == "Norder=3/Npix=210"


@settings(max_examples=100)
@given(tiles, st.integers(0, 2**32))
def test_in_tile_is_healpys_pixel_of_that_order(tile: Tile, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.integers(*tile.fine_range, 20)
    xyz = np.stack(healpy.pix2vec(1 << FINE_ORDER, np.concatenate([inside, rng.integers(0, N_FINE, 20)]), nest=True), 1)
    theirs = healpy.vec2pix(1 << tile.order, *xyz.T, nest=True) == tile.npix
    np.testing.assert_array_equal(in_tile(fine_of(xyz), tile), theirs)
    assert theirs[:20].all()


@pytest.mark.parametrize(
    ("ra", "dec", "same_as"),
    [(360.0, 10.0, (0.0, 10.0)), (0.0, 90.0, (0.0, 90.0)), (0.0, -90.0, (360.0, -90.0)), (-0.0, 0.0, (0.0, 0.0))],
)
def test_fine_pixels_limits_of_the_ranges_are_places(ra: float, dec: float, same_as: tuple[float, float]) -> None:
    got = fine_pixels(np.array([ra, same_as[0]]), np.array([dec, same_as[1]]))
    assert 0 <= got[0] < N_FINE
    assert got[0] == got[1]


# Margins

SPECIAL = [
    *(Tile(order, npix) for order in (0, 1) for npix in range(12 << (2 * order))),
    *(Tile(order, base * 4**order + last) for order in (3, 7, 11) for base in range(12) for last in (0, 4**order - 1)),
    *(Tile(order, base * 4**order + sum(2 * 4**k for k in range(order))) for order in (5, 11) for base in range(12)),
]


def assert_margin_holds(tile: Tile, per_side: int) -> None:
    for away in (0.01, 4.5, MARGIN_ARCSEC):
        fine = fine_of(places_near_borders(tile, away, per_side, 12))
        assert in_tile_or_margin(fine, tile).all(), (tile, away)


@pytest.mark.parametrize("tile", SPECIAL, ids=str)
def test_in_tile_or_margin_holds_all_within_the_margin_of_poles_and_base_corners(tile: Tile) -> None:
    assert_margin_holds(tile, 64)


@settings(max_examples=60)
@given(tiles)
def test_in_tile_or_margin_holds_all_within_the_margin_anywhere(tile: Tile) -> None:
    assert_margin_holds(tile, 16)


def test_margin_fine_pixels_are_wider_than_the_margin_everywhere() -> None:
    """The ring is one fine pixel wide: no two fine pixels that do not touch are closer than the margin."""
    rng = np.random.default_rng(4)
    edge = np.concatenate([np.arange(3000), np.arange(0, 12) * 4**FINE_ORDER, np.arange(1, 13) * 4**FINE_ORDER - 1])
    pixels = np.unique(np.concatenate([rng.integers(0, N_FINE, 3000), edge]))
    for pixel in pixels[:: max(1, len(pixels) // 800)]:
        around = {int(pixel), *healpy.get_all_neighbours(1 << FINE_ORDER, int(pixel), nest=True).tolist()}
        for corner in healpy.boundaries(1 << FINE_ORDER, int(pixel), step=4, nest=True).T:
            met = healpy.query_disc(1 << 16, corner, math.radians(MARGIN_ARCSEC / 3600.0), nest=True) >> 6
            assert set(met.tolist()) <= around


@settings(max_examples=60)
@given(tiles)
def test_margin_ring_is_outside_sorted_and_touches_the_tile(tile: Tile) -> None:
    ring = margin_ring(tile)
    assert (np.diff(ring) > 0).all()
    assert not in_tile(ring, tile).any()
    touching = healpy.get_all_neighbours(1 << FINE_ORDER, ring[:: max(1, len(ring) // 200)], nest=True)
    assert in_tile(touching, tile).any(axis=0).all()
    assert not ring.flags.writeable


@settings(max_examples=60)
@given(tiles)
def test_border_is_what_touches_the_outside(tile: Tile) -> None:
    """Of each pixel of the ring a neighbour is in the border, and all neighbours in the tile are."""
    outermost = border(tile, REACH_ORDER)
    assert (np.diff(outermost) > 0).all()
    around = healpy.get_all_neighbours(1 << REACH_ORDER, outermost, nest=True)
    outside = around >> 2 * (REACH_ORDER - tile.order) != tile.npix
    assert outside.any(axis=0).all()
    met = healpy.get_all_neighbours(1 << REACH_ORDER, ring(tile, REACH_ORDER), nest=True)
    met = met[met >> 2 * (REACH_ORDER - tile.order) == tile.npix]
    assert set(met.tolist()) == set(outermost.tolist())


def test_margin_ring_of_an_inner_tile_is_a_frame() -> None:
    side = 1 << (FINE_ORDER - MAX_TILE_ORDER)
    assert len(margin_ring(Tile(MAX_TILE_ORDER, 4 * 4**MAX_TILE_ORDER + 4**10))) == 4 * side + 4


def test_in_tile_or_margin_far_points_are_out() -> None:
    tile = Tile(5, 4000)
    points = places_near_borders(tile, 150.0, 16, 16)
    away, _ = cKDTree(healpy.boundaries(1 << tile.order, tile.npix, step=4096, nest=True).T).query(points)
    fine = fine_of(points[away > math.radians(75.0 / 3600.0)])
    np.testing.assert_array_equal(in_tile_or_margin(fine, tile), in_tile(fine, tile))
    assert 100 < in_tile(fine, tile).sum() < len(fine) - 100


@settings(max_examples=60)
@given(tilings(), st.data())
def test_neighbours_are_just_the_tiles_that_the_ring_meets(tiling: Tiling, data: st.DataObject) -> None:
    tile = data.draw(st.sampled_from(tiling.tiles))
    first, *others = neighbours(tiling, tile)
    assert first == tile
    assert tile not in others
    ring = margin_ring(tile)
    assert all(in_tile(ring, other).any() for other in others)
    assert sum(int(in_tile(ring, other).sum()) for other in others) == len(ring)


def test_neighbours_of_a_base_pixel_are_six_or_seven_others() -> None:
    """Of the 12 base pixels the polar ones touch 7 others, those of the equator 6."""
    counts = [len(neighbours(whole_sky(), tile)) - 1 for tile in whole_sky().tiles]
    theirs = [len(set(healpy.get_all_neighbours(1, npix, nest=True).tolist()) - {-1}) for npix in range(12)]
    assert counts == theirs


# Caps


@settings(max_examples=150)
@given(
    tilings(),
    st.floats(0.0, 360.0),
    st.sampled_from([-90.0, -89.9, -41.81, 0.0, 41.81, 66.44, 90.0]) | st.floats(-90.0, 90.0),
    st.sampled_from([1e-9, 1e-5, 1e-3, 0.01, 0.3, 1.5, math.pi]) | st.floats(1.5, math.pi),
    st.integers(0, 2**32),
)
def test_touched_by_cap_holds_every_place_of_the_cap(
    tiling: Tiling, ra: float, dec: float, radius: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    centre = unit_vectors(np.array([ra]), np.array([dec]))[0]
    away = radius * np.sqrt(rng.random(200))
    away[:50] = radius
    turn = rng.uniform(0.0, 2.0 * np.pi, 200)
    east = np.array([-math.sin(math.radians(ra)), math.cos(math.radians(ra)), 0.0])
    north = np.cross(centre, east)
    points = np.cos(away)[:, None] * centre + np.sin(away)[:, None] * (
        np.cos(turn)[:, None] * east + np.sin(turn)[:, None] * north
    )
    touched = tiling.touched_by_cap(centre, radius)
    wanted = {tiling.tiles[row] for row in np.unique(tiling.index_of_fine(fine_of(points))).tolist()}
    assert wanted <= set(touched)
    assert touched == sorted(touched, key=lambda tile: tile.fine_range)


@pytest.mark.parametrize("radius", [1.6, 2.3, 2.4, 2.6, 2.75, 2.9, 3.1, math.pi])
def test_touched_by_cap_larger_than_half_the_sky_holds_every_place_of_the_cap(radius: float) -> None:
    """Beyond 2.3 rad healpy's inclusive discs lack pixels; the sky is tiled finely enough to miss them."""
    tiling = Tiling(tuple(Tile(4, npix) for npix in range(12 * 4**4)))
    centres = np.stack(healpy.pix2vec(16, np.arange(12 * 4**4), nest=True), axis=1)
    inside = {Tile(4, npix) for npix in np.flatnonzero(centres[:, 0] >= math.cos(radius)).tolist()}
    assert inside <= set(tiling.touched_by_cap(np.array([1.0, 0.0, 0.0]), radius))


def test_touched_by_caps_are_those_of_each_cap() -> None:
    tiling = adaptive_tiling(np.arange(0, 12 << 26, 1 << 14), np.arange(12 << 12), 2_000_000, 5)
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(60, 3))
    centres /= np.linalg.norm(centres, axis=1)[:, None]
    radii = np.append(rng.uniform(1e-6, 0.2, 58), [1.0, math.pi])
    caps, rows = tiling.touched_by_caps(centres, radii)
    assert [(cap, tiling.tiles[row]) for cap, row in zip(caps.tolist(), rows.tolist(), strict=True)] == [
        (i, tile) for i in range(60) for tile in tiling.touched_by_cap(centres[i], float(radii[i]))
    ]
    assert [len(of) for of in tiling.touched_by_caps(np.zeros((0, 3)), np.zeros(0))] == [0, 0]


def test_touched_by_cap_small_cap_touches_few_tiles() -> None:
    tiling = Tiling(tuple(Tile(5, npix) for npix in range(12 * 4**5)))
    centre = np.array(healpy.pix2vec(32, 1234, nest=True))
    assert tiling.touched_by_cap(centre, 1e-4) == [Tile(5, 1234)]


@settings(max_examples=100)
@given(tiles, st.sampled_from([0.0, 1e-6, 0.01, 0.6, 30.0, 179.0]), st.integers(0, 2**32))
def test_caps_touch_any_lets_through_every_cap_that_comes_within_the_margin(
    tile: Tile, radius: float, seed: int
) -> None:
    """Centres just within the cap's radius and the margin of places on the tile's border, and within the tile."""
    edge = places_near_borders(tile, min(radius * 3600.0 + MARGIN_ARCSEC, 648_000.0) * 0.9999, 4, 6)
    inside = np.stack(
        healpy.pix2vec(1 << FINE_ORDER, np.random.default_rng(seed).integers(*tile.fine_range, 20), nest=True), axis=1
    )
    ra, dec = healpy.vec2ang(np.concatenate([edge, inside]), lonlat=True)
    assert caps_touch_any([tile], ra, dec, np.full(len(ra), radius)).all()


def test_caps_touch_any_far_caps_and_empty_ones_do_not() -> None:
    tile = Tile(5, 4000)
    far = healpy.vec2ang(-np.array(healpy.pix2vec(32, 4000, nest=True)), lonlat=True)
    ra, dec = np.array([far[0][0], np.nan]), np.array([far[1][0], np.nan])
    assert caps_touch_any([tile], ra, dec, np.array([1.0, np.nan])).tolist() == [False, False]


@settings(max_examples=100)
@given(
    tiles,
    st.sampled_from([0.0, 0.01, 0.6, 30.0]),
    st.sampled_from([0.0, 0.3, 5.0, 100.0, 360.0]),
    st.integers(0, 2**32),
)
def test_boxes_touch_tile_lets_through_every_box_with_a_cap_that_does(
    tile: Tile, radius: float, width: float, seed: int
) -> None:
    """A centre just within reach of the tile is a corner of each box, which lies away from the tile or about it."""
    ra, dec = healpy.vec2ang(places_near_borders(tile, radius * 3600.0 + MARGIN_ARCSEC * 0.9999, 4, 6), lonlat=True)
    assert caps_touch_any([tile], ra, dec, np.full(len(ra), radius)).all()
    rng = np.random.default_rng(seed)
    other_ra, other_dec = (place + width * rng.choice([-1.0, 1.0], len(ra)) for place in (ra, dec))
    corners = np.clip([ra, other_ra], 0.0, 360.0), np.clip([dec, other_dec], -90.0, 90.0)
    boxes = Boxes(*np.sort(corners[0], axis=0), *np.sort(corners[1], axis=0), np.full(len(ra), radius))
    assert boxes_touch_tile(tile, boxes).all()


@pytest.mark.parametrize("tile", [Tile(5, 0), Tile(5, 4000), Tile(5, 1023), Tile(5, 12 * 4**5 - 1)])
def test_boxes_touch_tile_of_a_grid_few_do(tile: Tile) -> None:
    ra, dec = (edges.ravel() for edges in np.meshgrid(np.arange(0.0, 360.0, 5.0), np.arange(-90.0, 90.0, 5.0)))
    touched = boxes_touch_tile(tile, Boxes(ra, ra + 5.0, dec, dec + 5.0, np.full(len(ra), 0.6)))
    polar = 72  # boxes meet at a pole
    assert 1 <= np.count_nonzero(touched) <= 12 + polar * (tile.npix == 1023)


# Budgets


@st.composite
def sky_counts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    fine = draw(st.lists(st.integers(0, N_FINE - 1), max_size=30, unique=True))
    clump = draw(st.integers(0, N_FINE - 500))
    fine = np.unique(np.array([*fine, *range(clump, clump + draw(st.integers(0, 400)))], np.int64))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return fine, rng.integers(1, 50, len(fine))


@settings(max_examples=100)
@given(sky_counts(), st.integers(1, 3000), st.integers(0, MAX_TILE_ORDER))
def test_adaptive_tiling_honours_its_budget_and_splits_no_more(counts, budget, max_order) -> None:  # type: ignore[no-untyped-def]
    fine, held = counts
    tiling = adaptive_tiling(fine, held, budget, max_order)

    def total(tile: Tile) -> int:
        return int(held[in_tile(fine, tile)].sum())

    for tile in tiling.tiles:
        assert tile.order <= max_order
        assert total(tile) <= budget or tile.order == max_order
        assert tile.order == 0 or total(Tile(tile.order - 1, tile.npix // 4)) > budget
    assert sum(total(tile) for tile in tiling.tiles) == held.sum()


@pytest.mark.parametrize("budget", [0, -1])
def test_adaptive_tiling_no_budget_raises(budget: int) -> None:
    with pytest.raises(ValueError, match=f"max_per_tile {budget} must be at least 1"):
        adaptive_tiling(np.zeros(0, np.int64), np.zeros(0, np.int64), budget)


@pytest.mark.parametrize("order", [-1, MAX_TILE_ORDER + 1])
def test_adaptive_tiling_order_out_of_range_raises(order: int) -> None:
    with pytest.raises(ValueError, match=rf"max_order {order} is outside 0\.\.{MAX_TILE_ORDER}"):
        adaptive_tiling(np.zeros(0, np.int64), np.zeros(0, np.int64), 1, order)


@given(st.lists(st.integers(0, 12 * 4**7 - 1), max_size=20), st.lists(st.integers(0, N_FINE - 1), max_size=60))
def test_parts_are_all_pairs_of_a_pixel_and_a_tile_that_overlap(pixels: list[int], dense: list[int]) -> None:
    fine = np.sort(np.array(dense + [pixel << 12 for pixel in pixels], np.int64))
    tiling = adaptive_tiling(fine, np.ones(len(fine), np.int64), 1, 9)
    shift = 2 * (FINE_ORDER - CAP_ORDER)
    pairs = [
        (row, i)
        for row, pixel in enumerate(pixels)
        for i, (low, high) in enumerate(tile.fine_range for tile in tiling.tiles)
        if low < (pixel + 1) << shift and high > pixel << shift
    ]
    got = tiling.parts(np.array(pixels, np.int64))
    assert list(zip(*(values.tolist() for values in got), strict=True)) == pairs
    assert tiling.overlapping(np.array(pixels, np.int64)).tolist() == sorted({tile for _, tile in pairs})
