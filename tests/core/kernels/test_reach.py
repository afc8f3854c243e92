from __future__ import annotations

import hpgeom
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.kernels.reach import inside, planes_around
from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile, in_tile_or_margin


def points_about(tile: Tile, rng: np.random.Generator, factor: float, number: int = 4000) -> np.ndarray:
    """Unit vectors around the middle of a tile, up to so many times as far as its corners."""
    reach = np.radians(hpgeom.max_pixel_radius(1 << tile.order)) * factor
    away = rng.normal(0.0, 0.5 * reach, (number, 3))
    xyz = np.array(hpgeom.pixel_to_vector(1 << tile.order, tile.npix)) + away
    return np.ascontiguousarray(xyz / np.linalg.norm(xyz, axis=1)[:, None])


def lonlat(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])) % 360.0, np.degrees(np.arcsin(np.clip(xyz[:, 2], -1, 1)))


@given(order=st.integers(0, 11), data=st.data(), seed=st.integers(0, 2**31))
def test_inside_holds_all_of_the_pixel_and_its_margin(order: int, data: st.DataObject, seed: int) -> None:
    side = 1 << order
    places = st.one_of(st.integers(0, 12 * side * side - 1), st.sampled_from([side * side - 1, 5 * side * side, 0]))
    tile = Tile(order, data.draw(places))
    rng = np.random.default_rng(seed)
    # Places about the border, where they are hardest to tell, and about the corners.
    border = np.stack(hpgeom.boundaries(side, tile.npix, 300), axis=-1)
    ra, dec = border[rng.integers(0, len(border), 2000)].T
    xyz = unit_vectors(ra, dec) + rng.normal(0.0, np.radians(9.0 / 3600.0), (2000, 3))
    xyz = np.concatenate([xyz / np.linalg.norm(xyz, axis=1)[:, None], points_about(tile, rng, 1.0)])
    ra, dec = lonlat(xyz)
    fine = fine_pixels(ra, dec)
    apart = 2.0 * np.arcsin(
        0.5 * np.min([np.linalg.norm(xyz - one, axis=1) for one in unit_vectors(*border.T)], axis=0)
    )
    near = in_tile(fine, tile) | (apart < np.radians(9.0 / 3600.0))
    assert near.any()
    assert inside(planes_around(tile), unit_vectors(ra, dec))[near].all()


@pytest.mark.parametrize(
    "tile", [Tile(4, 100), Tile(4, 255), Tile(6, 40000), Tile(10, 123456), Tile(3, 0), Tile(5, 11000)]
)
def test_inside_leaves_out_most_of_the_rest(tile: Tile) -> None:
    xyz = points_about(tile, np.random.default_rng(1), 4.0, 200_000)
    let_in, near = inside(planes_around(tile), xyz), in_tile_or_margin(fine_pixels(*lonlat(xyz)), tile)
    assert let_in.sum() < 1.25 * near.sum() + 10


def test_planes_of_a_base_pixel_leave_out_nothing() -> None:
    assert inside(planes_around(Tile(0, 3)), np.eye(3)).all()
