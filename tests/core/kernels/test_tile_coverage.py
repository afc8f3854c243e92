from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.kernels.coverage import BATCHES_TO_DIVIDE, MAX_GROUP_ORDER, Coverage, shared_caps
from ztfmatch.core.kernels.sphere import unit_vector, unit_vectors
from ztfmatch.core.kernels.tiling import CAP_ORDER, FINE_ORDER, Tile, Tiling, adaptive_tiling, cap_pixels, neighbours


def coverage(tiling: Tiling, caps: list[tuple[float, float, float]], rows: list[int]) -> Coverage:
    pixels = [cap_pixels(unit_vector(ra, dec), np.radians(radius)) for ra, dec, radius in caps]
    counts = np.array([len(one) for one in pixels])
    return Coverage(tiling, np.concatenate(pixels), counts, np.array(rows))


def tiling_about(ra: float, dec: float, order: int) -> Tiling:
    """Tiles of an order about a place, of lower ones elsewhere."""
    pixels = np.sort(cap_pixels(unit_vector(ra, dec), np.radians(4.0))) << 2 * (FINE_ORDER - CAP_ORDER)
    return adaptive_tiling(pixels, np.full(len(pixels), 100), 1, order)


_CAPS = st.lists(
    st.tuples(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0), st.floats(0.01, 1.2), st.integers(1, 50_000)),
    min_size=1,
    max_size=12,
)


@given(_CAPS, st.sampled_from([(10.0, 41.8), (0.0, 89.0), (359.9, -3.0), (45.0, 0.0)]), st.sampled_from([0, 2, 5, 7]),
       st.sampled_from([1, 10_000, 10**9]))  # fmt: skip
def test_members_every_tile_of_a_footprint_is_in_one_of_its_groups_and_shares_add_up(
    caps, middle, order, limit
) -> None:  # type: ignore[no-untyped-def]
    tiling = tiling_about(*middle, order)
    placed = [((middle[0] + x) % 360.0, float(np.clip(middle[1] + y, -90, 90)), r) for x, y, r, _ in caps]
    cover = coverage(tiling, placed, [n for *_, n in caps])
    members = cover.members(limit)
    shares = np.zeros(len(caps))
    touched: list[set[Tile]] = [set() for _ in caps]
    ranges = sorted(one.group.fine_range for one in members)
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ranges))
    for one in members:
        assert (np.diff(one.footprint) > 0).all()
        shares[one.footprint] += one.share
        for footprint in one.footprint.tolist():
            own = {tile for tile, within in cover.tiles(one.group, np.array([footprint])) if within}
            assert own
            assert not own & touched[footprint]
            touched[footprint] |= own
    np.testing.assert_allclose(shares, 1.0)
    expected = [tiling.touched_by_cap(unit_vector(ra, dec), np.radians(r)) for ra, dec, r in placed]
    assert touched == [set(tiles) for tiles in expected]


def test_members_a_group_is_divided_only_while_it_holds_more_than_a_task_takes() -> None:
    tiling = tiling_about(10.0, 41.8, 7)
    cover = coverage(tiling, [(9.0, 41.0, 0.4), (11.0, 42.5, 0.4)], [1000, 1000])
    assert [one.group.order for one in cover.members(2000)] == [0]
    assert {one.group.order for one in cover.members(1)} == {MAX_GROUP_ORDER + 1}
    most = 1 + 1000 // BATCHES_TO_DIVIDE
    assert {one.group.order for one in cover.members(most)} == {MAX_GROUP_ORDER, MAX_GROUP_ORDER + 1}
    assert {one.group.order for one in cover.members(100)} == {MAX_GROUP_ORDER}


def test_members_a_tile_larger_than_a_group_is_one() -> None:
    cover = coverage(tiling_about(200.0, -30.0, 6), [(10.0, 41.8, 0.4)], [1000])
    assert {one.group for one in cover.members(1)} <= {tile for tile in cover.tiling.tiles if tile.order < 3}


@pytest.mark.parametrize("order", [3, 6])
def test_tiles_are_those_of_the_group_and_its_margin_that_the_footprints_touch(order: int) -> None:
    tiling = tiling_about(10.0, 41.8, order)
    cover = coverage(tiling, [(10.0, 41.8, 0.6), (11.5, 41.8, 0.6), (12.4, 43.1, 0.6)], [5, 5, 5])
    for one in cover.members(1):
        touched = set(cover.tiles(one.group, one.footprint))
        around = set(neighbours(tiling, one.group))
        start, stop = one.group.fine_range
        inner = {tile for tile in tiling.tiles if start <= tile.fine_range[0] < stop}
        of_cap = {tile for e in one.footprint for tile in tiling.touched_by_cap(
            unit_vector(*[(10.0, 41.8), (11.5, 41.8), (12.4, 43.1)][e]), np.radians(0.6))}  # fmt: skip
        assert touched == {(tile, tile in inner) for tile in of_cap & (inner | around)}
        assert set(cover.tiles(one.group, one.footprint[:1])) <= touched


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(0.0, 1.0)),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([(10.0, 41.8), (0.0, 90.0), (0.0, -12.0)]),
)
def test_shared_caps_hold_the_caps_of_their_exposures(drawn, middle) -> None:  # type: ignore[no-untyped-def]
    drawn = sorted(drawn, key=lambda one: one[0])
    unit = np.array([one[0] for one in drawn])
    ra = (middle[0] + np.array([one[1] for one in drawn])) % 360.0
    dec = np.clip(middle[1] + np.array([one[2] for one in drawn]), -90, 90)
    xyz, radius = unit_vectors(ra, dec), np.radians([one[3] for one in drawn])
    footprint, centres, radii = shared_caps(unit, xyz, radius)
    assert len(centres) == len(radii) == footprint.max() + 1
    for i, number in enumerate(footprint.tolist()):
        apart = 2.0 * np.arcsin(min(0.5 * np.linalg.norm(xyz[i] - centres[number]), 1.0))
        assert apart + radius[i] <= radii[number] + 1e-12
        assert radii[number] <= radius[footprint == number].max() + np.radians(0.1) + 1e-8
        assert len(set(unit[footprint == number].tolist())) == 1


def test_shared_caps_exposures_of_a_unit_that_scatter_little_share_one_and_a_stray_has_its_own() -> None:
    ra, dec = np.array([10.0, 10.01, 40.0, 10.005]), np.full(4, 30.0)
    footprint, _, radii = shared_caps(np.zeros(4, np.int64), unit_vectors(ra, dec), np.radians([0.6, 0.6, 0.6, 0.65]))
    assert footprint.tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(np.degrees(radii), [0.65 + 0.005 * np.cos(np.pi / 6), 0.6], atol=1e-6)
