"""Matching against brute force over all pairs, ties and borders included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from ztfmatch.core.kernels.crossmatch import NO_SEED, build_grid, match_exposure, match_exposures
from ztfmatch.core.kernels.sphere import arcsec_of_chord2, chord2_of_arcsec, unit_vectors

ARCSEC = 1.0 / 3600.0
RADIUS = 1.5


def brute_force(seeds: np.ndarray, points: np.ndarray, sourceid: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """Definition of the match, by all pairs."""
    target = np.full(len(points), NO_SEED)
    best: dict[int, tuple[float, int, int]] = {}
    for i in range(len(points)):
        d = seeds - points[i]
        square = d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1] + d[:, 2] * d[:, 2]
        if not len(square) or square.min() > chord2_of_arcsec(radius):
            continue
        seed = int(square.argmin())
        target[i] = -2 - seed
        rank = (float(square[seed]), int(sourceid[i]), i)
        best[seed] = min(best.get(seed, rank), rank)
    for seed, (_, _, i) in best.items():
        target[i] = seed
    return target


def check(
    seeds: np.ndarray, points: np.ndarray, sourceid: np.ndarray | None = None, radius: float = RADIUS
) -> np.ndarray:
    sourceid = np.arange(len(points), dtype=np.int32) if sourceid is None else sourceid
    got = match_exposure(build_grid(seeds, radius), points, sourceid)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, brute_force(seeds, points, sourceid, radius))
    return got


def at(*degrees: tuple[float, float]) -> np.ndarray:
    ra, dec = np.array(degrees, float).reshape(-1, 2).T
    return unit_vectors(np.ascontiguousarray(ra), np.ascontiguousarray(dec))


def scattered(rng: np.random.Generator, ra: float, dec: float, n: int, size_arcsec: float) -> np.ndarray:
    """Points in a square around a place, laid in its tangent plane, poles and RA 0 no exception."""
    centre = at((ra, dec))[0]
    east = at((ra + 90.0, 0.0))[0]
    north = np.cross(centre, east)
    x, y = np.radians(rng.uniform(-size_arcsec, size_arcsec, (2, n)) / 7200.0)
    points = centre + x[:, None] * east + y[:, None] * north
    return np.ascontiguousarray(points / np.linalg.norm(points, axis=1)[:, None])


PLACES = [(150.0, 30.0), (0.0, -10.0), (359.9999, 45.0), (12.0, 90.0), (0.0, -90.0), (45.0, 41.8), (180.0, 89.9)]


def test_match_exposure_seeds_in_another_order_with_their_numbers_gives_the_same_seeds() -> None:
    rng = np.random.default_rng(9)
    seeds = np.repeat(scattered(rng, 150.0, 30.0, 300, 60.0), 3, axis=0)  # each of three is as near as the others
    points = seeds[::2].copy()
    sourceid = np.arange(len(points), dtype=np.int32)
    order = rng.permutation(len(seeds))
    number = order.astype(np.int64) * 10 + 7
    got = match_exposure(build_grid(seeds[order], RADIUS, number), points, sourceid)
    expected = brute_force(seeds, points, sourceid)
    rows = np.where(got >= 0, got, -2 - got)
    np.testing.assert_array_equal(np.where(got >= 0, order[rows], -2 - order[rows]), expected)


@pytest.mark.parametrize(("ra", "dec"), PLACES)
@pytest.mark.parametrize("size", [10.0, 120.0, 3600.0])
def test_match_exposure_anywhere_equals_brute_force(ra: float, dec: float, size: float) -> None:
    rng = np.random.default_rng(int(ra + size))
    seeds = scattered(rng, ra, dec, 300, size)
    near = seeds[rng.integers(0, 300, 200)] + rng.normal(0.0, math.radians(ARCSEC), (200, 3))
    points = np.concatenate([near / np.linalg.norm(near, axis=1)[:, None], scattered(rng, ra, dec, 200, size * 1.2)])
    got = check(seeds, points)
    assert (got >= 0).any()
    assert (got == NO_SEED).any()


@pytest.mark.parametrize("spacing", [2.0, 1.0, 0.3])
def test_match_exposure_dense_seeds_equals_brute_force(spacing: float) -> None:
    rng = np.random.default_rng(5)
    steps = np.arange(20) * spacing * ARCSEC
    seeds = at(*[(150.0 + x / math.cos(math.radians(30)), 30.0 + y) for x in steps for y in steps])
    points = scattered(rng, 150.0 + steps.mean(), 30.0 + steps.mean(), 800, 24 * spacing)
    got = check(seeds, points)
    assert (got < NO_SEED).any()


def test_match_exposure_seeds_all_over_the_sky_equals_brute_force() -> None:
    rng = np.random.default_rng(6)
    seeds = rng.normal(size=(1500, 3))
    seeds /= np.linalg.norm(seeds, axis=1)[:, None]
    seeds[:300] = -seeds[300:600]
    points = seeds[rng.integers(0, 1500, 1500)] + rng.normal(0.0, math.radians(0.6 * ARCSEC), (1500, 3))
    points = np.concatenate([points / np.linalg.norm(points, axis=1)[:, None], -seeds[600:900]])
    got = check(seeds, points)
    assert (got[:1500] >= 0).sum() > 600
    assert (got[1500:] == NO_SEED).all()


def test_match_exposure_seeds_on_a_great_circle_equals_brute_force() -> None:
    ra = np.arange(0.0, 360.0, 0.7)
    seeds = unit_vectors(ra, np.zeros(len(ra)))
    check(seeds, unit_vectors(ra + 0.9 * ARCSEC, np.full(len(ra), ARCSEC)))


def test_match_exposure_large_field_agrees_with_kdtree() -> None:
    rng = np.random.default_rng(7)
    seeds = scattered(rng, 210.0, -31.0, 20_000, 3150.0)
    points = np.concatenate(
        [
            seeds[::2] + rng.normal(0.0, math.radians(0.5 * ARCSEC), (10_000, 3)),
            scattered(rng, 210.0, -31.0, 10_000, 3200.0),
        ]
    )
    points /= np.linalg.norm(points, axis=1)[:, None]
    got = match_exposure(build_grid(seeds, RADIUS), points, np.arange(20_000, dtype=np.int32))
    away, nearest = cKDTree(seeds).query(points)
    within = away <= math.sqrt(chord2_of_arcsec(RADIUS))
    np.testing.assert_array_equal(got != NO_SEED, within)
    np.testing.assert_array_equal(np.where(got >= 0, got, -2 - got)[within], nearest[within])
    order = np.lexsort([np.arange(20_000), away])
    _, first = np.unique(nearest[order][within[order]], return_index=True)
    winners = order[within[order]][first]
    np.testing.assert_array_equal(np.sort(np.flatnonzero(got >= 0)), np.sort(winners))


# Places on a lattice whose arithmetic is exact, so that ties are ties to the bit. One step is 0.79 arcsec.
_STEP = 2.0**-18
lattice_points = st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=0, max_size=40)


def lattice(points: list[tuple[int, int]], axis: int, sign: int) -> np.ndarray:
    across = np.array(points, float).reshape(-1, 2) * _STEP
    xyz = np.insert(across, axis, float(sign), axis=1)
    return np.ascontiguousarray(xyz)


@settings(max_examples=300)
@given(
    lattice_points,
    lattice_points,
    st.sampled_from([0, 1, 2]),
    st.sampled_from([-1, 1]),
    st.sampled_from([0.5, 0.8, 1.2, 1.5, 3.0]),
    st.randoms(use_true_random=False),
)
def test_match_exposure_ties_equals_brute_force(seeds, points, axis, sign, radius, random) -> None:  # type: ignore[no-untyped-def]
    sourceid = list(range(-3, len(points) - 3))
    random.shuffle(sourceid)
    check(lattice(seeds, axis, sign), lattice(points, axis, sign), np.array(sourceid, np.int32), radius)


@settings(max_examples=100)
@given(lattice_points, lattice_points, st.randoms(use_true_random=False))
def test_match_exposure_order_of_rows_changes_nothing(seeds, points, random) -> None:  # type: ignore[no-untyped-def]
    grid = build_grid(lattice(seeds, 2, 1), RADIUS)
    xyz, ids = lattice(points, 2, 1), np.arange(len(points), dtype=np.int32)
    order = list(range(len(points)))
    random.shuffle(order)
    straight = match_exposure(grid, xyz, ids)
    shuffled = match_exposure(grid, np.ascontiguousarray(xyz[order]), ids[order])
    np.testing.assert_array_equal(shuffled, straight[order])


@given(lattice_points, st.lists(lattice_points, max_size=4), st.randoms(use_true_random=False))
def test_match_exposures_in_any_order_equals_brute_force_on_each(seeds, parts, random) -> None:  # type: ignore[no-untyped-def]
    seeds, parts = lattice(seeds, 2, 1), [lattice(part, 2, 1) for part in parts]
    order = random.sample(range(sum(map(len, parts))), sum(map(len, parts)))
    points = np.concatenate([np.zeros((0, 3)), *parts])[order]
    exposure = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])[order]
    sourceid = np.array(random.sample(range(1000), len(order)), np.int32)
    got = match_exposures(build_grid(seeds, RADIUS), points, exposure, sourceid, len(parts))
    assert got.dtype == np.int32
    for number in range(len(parts)):
        mine = exposure == number
        expected = brute_force(seeds, points[mine], sourceid[mine])
        np.testing.assert_array_equal(got[mine], expected)


def test_match_exposure_nearest_wins_the_other_names_the_seed() -> None:
    seeds = at((10.0, 20.0), (10.0, 20.01))
    points = at((10.0, 20.0 + 0.4 * ARCSEC), (10.0, 20.0 + 0.2 * ARCSEC), (10.0, 20.01), (10.0, 20.005))
    assert check(seeds, points).tolist() == [-2, 0, 1, NO_SEED]


def test_match_exposure_loser_does_not_take_its_second_nearest_seed() -> None:
    seeds = at((10.0, 20.0), (10.0, 20.0 + 1.2 * ARCSEC))
    points = at((10.0, 20.0), (10.0, 20.0 + 0.5 * ARCSEC))
    assert check(seeds, points).tolist() == [0, -2]


@pytest.mark.parametrize(("sourceid", "expected"), [([7, 3], [-2, 0]), ([3, 7], [0, -2]), ([-1, 0], [0, -2])])
def test_match_exposure_same_position_twice_lower_sourceid_wins(sourceid: list[int], expected: list[int]) -> None:
    point = (10.0, 20.0 + 0.3 * ARCSEC)
    assert check(at((10.0, 20.0)), at(point, point), np.array(sourceid, np.int32)).tolist() == expected


def test_match_exposure_two_seeds_at_one_place_lower_row_wins() -> None:
    assert check(at((50.0, 5.0), (10.0, 20.0), (10.0, 20.0)), at((10.0, 20.0))).tolist() == [1]


@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_match_exposure_ra_means_nothing_at_a_pole(pole: float) -> None:
    seeds = at((0.0, pole), (0.0, pole - math.copysign(10 * ARCSEC, pole)))
    points = at((17.0, pole), (251.0, pole), (90.0, pole - math.copysign(1.4 * ARCSEC, pole)))
    assert check(seeds, points).tolist() == [0, -2, -2]


def test_match_exposure_across_ra_0() -> None:
    seeds = at((0.0, 0.0), (359.999, 0.0))
    points = at((360.0, 0.0), (360.0 - ARCSEC, 0.0), (359.999 + ARCSEC, 0.0), (0.0 + ARCSEC, 0.0))
    assert check(seeds, points).tolist() == [0, -2, 1, -2]


@pytest.mark.parametrize(("away", "expected"), [(1.49999, 0), (1.50001, NO_SEED)])
def test_match_exposure_radius_literals(away: float, expected: int) -> None:
    assert check(at((10.0, 20.0)), at((10.0, 20.0 + away * ARCSEC))).tolist() == [expected]


def test_match_exposure_exactly_at_the_radius_is_matched_and_one_bit_beyond_is_not() -> None:
    seed, found = lattice([(0, 0)], 2, 1), 0
    for step in range(1, 400):
        point = lattice([(0, 0)], 2, 1)
        point[0, 0] = 2.0**-17 + step * 2.0**-30
        square = float(point[0, 0] ** 2)
        radius = float(arcsec_of_chord2(np.array([square]))[0])
        for _ in range(8):
            radius = np.nextafter(radius, 0.0)
        ladder = [radius]
        for _ in range(16):
            ladder.append(np.nextafter(ladder[-1], 10.0))
        exact = [r for r in ladder if chord2_of_arcsec(r) == square]
        below = [r for r in ladder if chord2_of_arcsec(r) < square]
        if exact and below:
            found += 1
            assert check(seed, point, radius=exact[0]).tolist() == [0]
            assert check(seed, point, radius=below[-1]).tolist() == [NO_SEED]
    assert found > 50


@pytest.mark.parametrize("seeds", [[], [(10.0, 20.0)]])
def test_match_exposure_nothing_to_match_gives_nothing(seeds: list[tuple[float, float]]) -> None:
    assert check(at(*seeds), at()).shape == (0,)
    assert check(at(*seeds), at((190.0, -20.0), (10.0, 20.01))).tolist() == [NO_SEED, NO_SEED]


def test_build_grid_does_not_change_its_input() -> None:
    seeds = scattered(np.random.default_rng(8), 10.0, 20.0, 50, 60.0)
    before = seeds.copy()
    seeds.setflags(write=False)
    build_grid(seeds, RADIUS)
    np.testing.assert_array_equal(seeds, before)


@pytest.mark.parametrize("radius", [0.0, -1.0, 3600.1, math.nan, math.inf])
def test_build_grid_radius_out_of_range_raises(radius: float) -> None:
    with pytest.raises(ValueError, match=rf"match radius {radius} arcsec is outside \(0, 3600\]"):
        build_grid(at((0.0, 0.0)), radius)


def test_build_grid_two_seeds_at_antipodes_takes_little_memory() -> None:
    grid = build_grid(at((0.0, 0.0), (180.0, 0.0), (90.0, 0.0), (0.0, 90.0)), RADIUS)
    assert grid.start.nbytes < 1 << 27
