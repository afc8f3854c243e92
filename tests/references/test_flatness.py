"""Flatness, depth and neighbours against plain NumPy."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_scene import quadrant

from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.references.kernels.depth import combined_limit, limit_of_errors, neighbour_distances, turnover
from ztfmatch.references.kernels.flatness import CELLS, bin_of, flatness, pixels_of


def plain_flatness(difference: np.ndarray, cell: np.ndarray, min_bin: int) -> tuple[float, float, float]:
    """Delta, RMS and median of one group, as one would write them down."""
    known = ~np.isnan(difference)
    difference, cell = difference[known], cell[known]
    if not len(difference):
        return np.nan, np.nan, np.nan
    medians = [np.median(difference[cell == k]) for k in range(9) if (cell == k).sum() >= min_bin]
    middle = np.median(difference)
    delta = max(medians) - min(medians) if len(medians) > 1 else np.nan
    return delta, 1.4826022185056018 * np.median(np.abs(difference - middle)), middle


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 400),
    groups=st.integers(1, 5),
    min_bin=st.integers(2, 12),
    gaps=st.floats(0.0, 0.5),
)
def test_flatness_of_groups_is_that_of_plain_numpy(seed: int, n: int, groups: int, min_bin: int, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    difference = rng.normal(0.02, 0.03, n)
    difference[rng.random(n) < gaps] = np.nan
    cell, group = rng.integers(0, CELLS, n), rng.integers(0, groups, n)
    got = flatness(difference, cell, group, groups, min_bin)
    for g in range(groups):
        own = group == g
        expected = plain_flatness(difference[own], cell[own], min_bin)
        assert (got.delta[g], got.rms[g], got.median[g]) == pytest.approx(expected, abs=1e-6, nan_ok=True)
        known = own & ~np.isnan(difference)
        assert got.counts[g].tolist() == np.bincount(cell[known], minlength=CELLS).tolist()


@pytest.mark.parametrize(("counts", "decided"), [([3] * 9, True), ([3] * 8 + [2], False), ([9] * 8 + [0], False)])
def test_flatness_is_decided_where_every_bin_has_enough(counts: list[int], decided: bool) -> None:
    cell = np.repeat(np.arange(CELLS), counts)
    got = flatness(np.zeros(len(cell)), cell, np.zeros(len(cell), np.int64), 1, 3)
    assert got.decided(3).tolist() == [decided]


@pytest.mark.parametrize(
    ("x", "y", "cell"),
    [
        (0.5, 0.5, 0),
        (1024.49, 1.0, 0),
        (1024.5, 1.0, 1),
        (3072.4, 1.0, 2),
        (-50.0, 1.0, 0),
        (1e5, 1e5, 8),
        (1, 1100, 3),
    ],
)
def test_bin_of_pixel(x: float, y: float, cell: int) -> None:
    assert bin_of(np.array([x]), np.array([y])).tolist() == [cell]


def test_pixels_of_positions_are_those_of_the_image() -> None:
    """To the small part of a pixel that seeds at the edge of a plane are off."""
    scene = quadrant()
    x, y = pixels_of(unit_vectors(scene.ra, scene.dec), scene.unit.field, scene.unit.rcid)
    assert np.abs(x - scene.x).max() < 1e-6
    assert np.abs(y - scene.y).max() < 1e-6
    assert sorted(set(bin_of(x, y).tolist())) == list(range(CELLS))
    assert QUADRANT_SHAPE_PIX == (3072, 3080)


class TestDepth:
    def test_limit_is_where_the_errors_reach_five_sigma(self) -> None:
        mag = np.random.default_rng(1).uniform(15.0, 23.0, 20_000)
        error = 0.217 * 10 ** (0.4 * (mag - 21.5))
        assert limit_of_errors(mag, error) == pytest.approx(21.5, abs=0.02)

    def test_limit_of_catalog_that_ends_before_is_unknown(self) -> None:
        mag = np.linspace(15.0, 20.0, 1000)
        assert np.isnan(limit_of_errors(mag, np.full(1000, 0.05)))
        assert np.isnan(limit_of_errors(np.full(9, 20.0), np.full(9, 0.3)))

    def test_limit_leaves_out_what_is_not_finite(self) -> None:
        mag = np.random.default_rng(1).uniform(15.0, 23.0, 20_000)
        error = 0.217 * 10 ** (0.4 * (mag - 21.5))
        mag[::3], error[1::3] = np.nan, np.inf
        assert limit_of_errors(mag, error) == pytest.approx(21.5, abs=0.02)

    def test_turnover_is_the_fullest_quarter_magnitude(self) -> None:
        mag = np.concatenate([np.full(5, 18.0), np.full(9, 20.3), np.full(3, 21.0), [np.nan]])
        assert turnover(mag) == 20.375
        assert np.isnan(turnover(np.array([np.nan])))

    def test_combined_limit_grows_with_the_root_of_images(self) -> None:
        assert combined_limit(20.0, 100) == pytest.approx(22.5)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 200))
def test_neighbour_distances_are_those_of_brute_force(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(10.0, 10.2, n), rng.uniform(-0.1, 0.1, n)
    xyz = unit_vectors(ra, dec)
    between = np.array([healpy.rotator.angdist([ra[i], dec[i]], [ra, dec], lonlat=True) for i in range(n)])
    np.fill_diagonal(between, np.inf)
    expected = np.degrees(between.min(axis=1)) * 3600.0
    assert neighbour_distances(xyz) == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_neighbour_of_a_single_source_is_infinitely_far() -> None:
    assert neighbour_distances(unit_vectors(np.array([1.0]), np.array([1.0]))).tolist() == [np.inf]
