from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.kernels.coverage import MAX_GROUP_ORDER, Coverage
from ztfmatch.core.kernels.sphere import unit_vector
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
def test_members_every_tile_of_an_exposure_is_in_one_of_its_groups_and_rows_add_up(caps, middle, order, limit) -> None:  # type: ignore[no-untyped-def]
    tiling = tiling_about(*middle, order)
    placed = [((middle[0] + x) % 360.0, float(np.clip(middle[1] + y, -90, 90)), r) for x, y, r, _ in caps]
    cover = coverage(tiling, placed, [n for *_, n in caps])
    members = cover.members(limit)
    rows = np.zeros(len(caps))
    touched: list[set[Tile]] = [set() for _ in caps]
    ranges = sorted(one.group.fine_range for one in members)
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ranges))
    for one in members:
        assert (np.diff(one.exposure) > 0).all()
        rows[one.exposure] += one.rows
        for exposure in one.exposure.tolist():
            own = {tile for tile, within in cover.tiles(one.group, np.array([exposure])) if within}
            assert own
            assert not own & touched[exposure]
            touched[exposure] |= own
    np.testing.assert_allclose(rows, [n for *_, n in caps])
    expected = [tiling.touched_by_cap(unit_vector(ra, dec), np.radians(r)) for ra, dec, r in placed]
    assert touched == [set(tiles) for tiles in expected]


def test_members_a_group_is_divided_only_while_it_holds_more_than_a_task_takes() -> None:
    tiling = tiling_about(10.0, 41.8, 7)
    cover = coverage(tiling, [(9.0, 41.0, 0.4), (11.0, 42.5, 0.4)], [1000, 1000])
    assert [one.group.order for one in cover.members(2000)] == [0]
    assert {one.group.order for one in cover.members(1)} == {MAX_GROUP_ORDER}


def test_members_a_tile_larger_than_a_group_is_one() -> None:
    cover = coverage(tiling_about(200.0, -30.0, 6), [(10.0, 41.8, 0.4)], [1000])
    assert {one.group for one in cover.members(1)} <= {tile for tile in cover.tiling.tiles if tile.order < 3}


@pytest.mark.parametrize("order", [3, 6])
def test_tiles_are_those_of_the_group_and_its_margin_that_the_exposures_touch(order: int) -> None:
    tiling = tiling_about(10.0, 41.8, order)
    cover = coverage(tiling, [(10.0, 41.8, 0.6), (11.5, 41.8, 0.6), (12.4, 43.1, 0.6)], [5, 5, 5])
    for one in cover.members(1):
        exposures = one.exposure[:1]
        touched = set(cover.tiles(one.group, one.exposure))
        around = set(neighbours(tiling, one.group))
        start, stop = one.group.fine_range
        inner = {tile for tile in tiling.tiles if start <= tile.fine_range[0] < stop}
        of_cap = {tile for e in one.exposure for tile in tiling.touched_by_cap(
            unit_vector(*[(10.0, 41.8), (11.5, 41.8), (12.4, 43.1)][e]), np.radians(0.6))}  # fmt: skip
        assert touched == {(tile, tile in inner) for tile in of_cap & (inner | around)}
        assert set(cover.tiles(one.group, exposures)) <= touched
