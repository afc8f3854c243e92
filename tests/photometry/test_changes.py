"""What changes in time and from exposure to exposure: steps, drifts, gradients, of maps with known ones."""

from __future__ import annotations

import numpy as np
import pytest

from ztfmatch.photometry.kernels.eras import find_steps
from ztfmatch.photometry.kernels.exposuremaps import (
    CELLS,
    HALVES,
    SIDE,
    SUMS,
    ExposureMaps,
    add_exposure_maps,
    place_centres,
)
from ztfmatch.photometry.kernels.gradients import ExposuresOfSums, fit_gradients, mean_gradients, relative_changes
from ztfmatch.photometry.kernels.grid import fine_centres
from ztfmatch.photometry.kernels.normalequations import BinSums
from ztfmatch.photometry.kernels.residuals import Bins, Summary
from ztfmatch.photometry.kernels.sums import (
    COLUMNS,
    FITTED,
    OTHER_EXPOSURES,
    OTHER_STARS,
    PARTS,
    held_out,
)
from ztfmatch.photometry.kernels.timeline import MOST_NODES, Timeline

SIGMA = 0.014
STARS = 20.0
"""Of a half, in a cell."""
U, V = place_centres()


def maps_of(off: np.ndarray, time: np.ndarray, seed: int = 1) -> ExposureMaps:
    """Maps of exposures that are off by so much, shape (E, CELLS), with the noise of their stars."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(STARS, (len(time), HALVES, CELLS)).astype(float)
    total = n * off[:, None] + rng.normal(0.0, SIGMA, n.shape) * np.sqrt(n)
    ids = np.arange(len(time))
    return ExposureMaps(ids, np.full(len(time), 679), time, np.stack([n, total], axis=-1))


def nights(n: int, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sort(58_300.3 + rng.choice(365, n, replace=False) + rng.uniform(0.0, 0.3, n))


PATTERN = 0.007 * (U - 0.5 * V + U * V)


def test_find_steps_of_a_step_is_the_gap_in_which_it_is() -> None:
    time = nights(80)
    for at in (10, 35, 47, 70):
        (found,) = find_steps(maps_of(np.where(np.arange(80) >= at, 1.0, 0.0)[:, None] * PATTERN, time))
        assert time[at - 1] < found < time[at]


def test_find_steps_tells_two_steps_from_a_drift_and_clouds() -> None:
    time, rng = nights(100), np.random.default_rng(3)
    era = np.searchsorted([30, 60], np.arange(100), side="right")
    sizes = np.array([0.0, 1.0, -0.6])[era]
    drift = 0.01 * (time - time[0])[:, None] / 365.0 * (U**2)
    clouds = np.where(rng.random(100) < 0.2, rng.uniform(0.01, 0.03, 100), 0.0)[:, None] * (U + V)
    found = find_steps(maps_of(sizes[:, None] * PATTERN + drift + clouds, time))
    assert len(found) == 2
    for step, at in zip(found, (30, 60), strict=True):
        assert time[at - 3] < step < time[at + 2]  # of cloudy nights beside it nothing can be told


@pytest.mark.parametrize("seed", range(10))
def test_find_steps_of_no_step_finds_none(seed: int) -> None:
    """Noise alone, a season, and a fifth of the exposures with clouds."""
    time, rng = nights(90, seed), np.random.default_rng(seed)
    season = 0.005 * np.sin(2.0 * np.pi * time / 365.0)[:, None] * (U * V + 0.5)
    clouds = np.where(rng.random(90) < 0.2, rng.uniform(0.0, 0.03, 90), 0.0)[:, None] * (np.cos(seed) * U + V)
    for off in (0.0 * season, season, season + clouds):
        assert find_steps(maps_of(off, time, seed)) == ()


def test_find_steps_of_a_handful_of_nights_finds_none() -> None:
    time = nights(7)
    assert find_steps(maps_of(np.where(np.arange(7) >= 4, 1.0, 0.0)[:, None] * PATTERN, time)) == ()


def test_timeline_weights_add_up_and_rows_step_at_steps() -> None:
    time = nights(60)
    steps = (float(time[20]), float(time[40]) - 0.5)
    line = Timeline.of(time, steps)
    weights = line.weights(time)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert line.size <= MOST_NODES
    times, node = line.rows()
    assert (np.diff(times) >= 0.0).all()
    for step in steps:
        before, after = np.searchsorted(times, step, side="left"), np.searchsorted(times, step, side="right")
        assert after - before >= 2
        assert node[before] != node[after - 1]
    assert Timeline.of(time, (1.0, 99_999.0)).steps == ()


def test_fit_gradients_are_those_of_clouds_and_of_no_other_exposure() -> None:
    rng = np.random.default_rng(5)
    time, n = nights(100), 100
    kind = np.arange(n) % 5
    zero, gx, gy, curved = (np.where(kind == k, 1.0, 0.0) for k in (1, 2, 2, 3))
    sizes = 0.02 * rng.choice([-1.0, 1.0], (4, n))
    off = (sizes * [zero, gx, gy, curved]).T @ np.stack([np.ones(CELLS), U, V, U * V])
    found = fit_gradients(maps_of(off, time), np.zeros((n, CELLS)))
    assert not found.applied[(kind == 0) | (kind == 4)].any()
    assert found.applied[(kind > 0) & (kind < 4)].all()
    want = np.stack([sizes[0] * zero, sizes[1] * gx, sizes[2] * gy, 0 * zero, sizes[3] * curved, 0 * zero], axis=1)
    assert np.abs(found.numbers - want).max() < 0.006
    assert found.photometric.all()
    patchy = off + np.where(kind == 4, 0.02, 0.0)[:, None] * np.where(np.arange(CELLS) % 2, 1.0, -1.0)
    flagged = fit_gradients(maps_of(patchy, time), np.zeros((n, CELLS)))
    np.testing.assert_array_equal(flagged.photometric, kind != 4)
    np.testing.assert_allclose(flagged.scatter[kind == 4], 0.02, rtol=0.15)


def test_fit_gradients_of_what_the_camera_changed_by_are_none() -> None:
    time = nights(60)
    changes = np.where(np.arange(60) >= 25, 1.0, 0.0)[:, None] * 3.0 * PATTERN
    relative = changes - changes.mean(axis=0)
    assert fit_gradients(maps_of(relative, time), 0.0 * changes).applied.mean() > 0.5
    assert not fit_gradients(maps_of(relative, time), changes).applied.any()


def test_fit_gradients_of_clouds_of_one_direction_are_held_to_the_clear_exposures() -> None:
    """A third of the exposures have it: lightcurves, to which all are relative, are shifted by half of the mean."""
    time, n = nights(90), 90
    off = np.where(np.arange(n) % 3 == 0, 0.02, 0.0)[:, None] * U
    found = fit_gradients(maps_of(off - 0.5 * off.mean(axis=0), time), np.zeros((n, CELLS)))
    np.testing.assert_array_equal(found.applied, np.arange(n) % 3 == 0)
    assert found.numbers[found.applied, 1].mean() == pytest.approx(0.02, abs=0.0003)  # else 0.0167
    assert np.abs(found.numbers[:, [0, 2]]).mean() < 0.0005


def test_mean_gradients_are_those_of_a_loop() -> None:
    rng, bins = np.random.default_rng(8), Bins(12.5, 0.25, 27, 5, 4)
    n, slices, units = 40, 3, 2
    maps = maps_of(np.zeros((n, CELLS)), nights(n))
    exposures = ExposuresOfSums(maps, rng.integers(0, units, n), rng.integers(0, slices, n))
    numbers = rng.normal(0.0, 0.01, (n, 6))
    x, y = fine_centres(bins.nx, bins.ny)
    rows = 500
    places = [rng.integers(0, most, rows) for most in (units + 1, slices, PARTS, bins.levels, len(x) * len(y))]
    got = mean_gradients(numbers, exposures, BinSums(*places, *[np.ones(rows)] * len(COLUMNS)), bins)
    detections, held = maps.sums[..., 0].sum(axis=(1, 2)), held_out(maps.exposureid // 100)
    for i, (unit, now, part, _, cell) in enumerate(zip(*places, strict=True)):
        u, v = 2.0 * x[cell % len(x)] / 3072 - 1.0, 2.0 * y[cell // len(x)] / 3080 - 1.0
        mine = (exposures.unit == unit) & (exposures.slice == now)
        mine &= {FITTED: ~held, OTHER_EXPOSURES: held, OTHER_STARS: held | ~held}[part]
        surface = numbers @ [1.0, u, v, u * u - 1 / 3, u * v, v * v - 1 / 3]
        want = np.average(surface[mine], weights=detections[mine]) if mine.any() else 0.0
        assert got[i] == pytest.approx(want, abs=1e-12)


def test_fit_gradients_of_a_corner_that_has_stars_are_zero_points_alone() -> None:
    """Of a field at the edge of the sky that is stored: 9 of 36 places."""
    rng, time, n = np.random.default_rng(6), nights(80), 80
    zero = np.where(np.arange(n) % 2, 0.02 * rng.choice([-1.0, 1.0], n), 0.0)
    maps = maps_of(zero[:, None] + 0.0 * U, time)
    corner = (np.arange(CELLS) % SIDE < 3) & (np.arange(CELLS) // SIDE < 3)
    found = fit_gradients(maps._replace(sums=maps.sums * corner[:, None]), np.zeros((n, CELLS)))
    np.testing.assert_array_equal(found.applied, np.arange(n) % 2 == 1)
    np.testing.assert_allclose(found.numbers[:, 0], zero, atol=0.004)
    assert not found.numbers[:, 1:].any()
    assert np.isnan(found.scatter).all()


def test_exposure_maps_chance_is_the_scatter_of_zero_points_and_slopes_beside_a_drift() -> None:
    rng, time = np.random.default_rng(7), nights(300)
    drift = 0.03 * (time - time[0]) / 365.0
    weights = Timeline.of(time, ()).weights(time)
    for size in (0.0, 0.01):
        zero, slope = rng.normal(0.0, size, (2, len(time), 1))
        chance = maps_of(drift[:, None] * (1.0 + U) + zero + 0.5 * slope * V, time).chance(weights)
        np.testing.assert_allclose(np.sqrt(chance), [size, 0.0, 0.5 * size], rtol=0.15, atol=0.0007)


@pytest.mark.parametrize("seen", ["by one half alone", "by both alike"])
def test_exposure_maps_whose_noise_is_unknown_say_nothing_of_single_exposures(seen: str) -> None:
    time = nights(6)
    maps = maps_of(np.zeros((len(time), 1)) * U, time)
    one = maps.sums.copy()
    one[:, 1] = 0.0 if seen == "by one half alone" else one[:, 0]
    maps = maps._replace(sums=one)
    assert np.isnan(maps.variance())
    assert not maps.chance(Timeline.of(time, ()).weights(time)).any()
    assert find_steps(maps) == ()


def test_relative_changes_of_no_exposures_are_none() -> None:
    """As of a channel whose stars are all at its rims."""
    assert relative_changes(maps_of(np.zeros((0, CELLS)), np.zeros(0)), np.zeros((0, CELLS))).shape == (0, CELLS)


def test_add_exposure_maps_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(8)
    n = 400
    residual = rng.normal(0.0, 0.02, n)
    residual[::37], residual[5] = np.nan, 3.0
    x, y = rng.uniform(1, 3072, n).astype("f4"), rng.uniform(1, 3080, n).astype("f4")
    exposure, offsets = rng.integers(0, 3, n), np.arange(0, n + 1, 40)
    curves = len(offsets) - 1
    summary = Summary(np.full(curves, 40), np.full(curves, 0.001), np.full(curves, 0.02))
    chosen = (np.arange(curves) != 4, np.arange(curves) % 2 == 1)
    sums = np.zeros((3, HALVES, CELLS, SUMS), np.float32)
    add_exposure_maps(residual, (x, y), exposure, offsets, summary, chosen, sums)
    want = np.zeros((3, HALVES, CELLS, SUMS))
    for i in range(n):
        k = i // 40
        inside = 150 <= x[i] < 2922 and 150 <= y[i] < 2930
        if k != 4 and inside and abs(residual[i] - 0.001) < 0.16:
            cell = int((y[i] - 150) / 2780 * SIDE) * SIDE + int((x[i] - 150) / 2772 * SIDE)
            want[exposure[i], k % 2, cell] += [1.0, residual[i] - 0.001]
    np.testing.assert_allclose(sums, want, atol=1e-6)
