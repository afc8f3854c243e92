"""Changes in time from lightcurves relative to their own means: the equations by brute force, and known changes."""

from __future__ import annotations

import numpy as np
import pytest

from ztfmatch.photometry.kernels.changes import Changes, TimeModel, _Problem, find_changes
from ztfmatch.photometry.kernels.curve import QUADRATIC, Curve, FitSettings
from ztfmatch.photometry.kernels.fit import Beside, solve_channel
from ztfmatch.photometry.kernels.grid import fine_areas, fine_centres, fine_grid
from ztfmatch.photometry.kernels.heldout import HELD
from ztfmatch.photometry.kernels.normalequations import BinSums
from ztfmatch.photometry.kernels.residuals import RESIDUAL_BINS, Bins, summarise
from ztfmatch.photometry.kernels.splines import change_basis
from ztfmatch.photometry.kernels.sums import COLUMNS, Curves, Epochs, Layout, add_residuals, held_out
from ztfmatch.photometry.kernels.timeline import Timeline
from ztfmatch.photometry.tasks.channelsums import bin_sums

BINS = Bins(12.5, 0.25, 27, 12, 12)
CURVE = Curve(12.5, 19.25, True)
SLICES = 8
NOISE, STAR = 0.012, 0.005
TIME = np.linspace(58_300.0, 58_900.0, 48)
"""Of the exposures."""


def time_model(*chance: float) -> TimeModel:
    line = Timeline.of(TIME, ())
    each = line.weights(TIME).reshape(SLICES, -1, line.size)
    return TimeModel(
        line, each.mean(axis=1), np.tile(np.array([*chance, 0.0, 0.0, 0.0])[:3] / each.shape[1], (SLICES, 1))
    )


def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = 2.0 * x / 3072 - 1.0, 2.0 * y / 3080 - 1.0
    return np.asarray(0.6 * u - 0.5 * v * v + 0.4 * u * v)


def drift(time: np.ndarray) -> np.ndarray:
    years = (time - TIME.mean()) / 365.0
    return np.asarray(0.010 * years + 0.003 * np.sin(2.0 * np.pi * years))


def season(time: np.ndarray) -> np.ndarray:
    """A course that has nothing in common with that of the drift."""
    return np.asarray(0.004 * np.cos(2.0 * np.pi * (time - TIME.mean()) / 365.0))


def other_pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = 2.0 * x / 3072 - 1.0, 2.0 * y / 3080 - 1.0
    return np.asarray(0.8 * v + 0.4 * u * u)


def channel(
    size: float, jitter: float, stars: int = 500, units: int = 2, slope: float = 0.0, seasonal: float = 0.0
) -> BinSums:
    """Sums of stars that PS1 has wrong by STAR each, of exposures that drift and are each off by a plane."""
    rng = np.random.default_rng(3)
    parts, layout = [], Layout(BINS.levels, fine_grid(BINS.nx, BINS.ny), SLICES)
    for unit in range(units):
        x = rng.uniform(1.0, 3071.0, stars)[:, None] + rng.normal(0.0, 30.0, len(TIME))
        y = rng.uniform(1.0, 3079.0, stars)[:, None] + rng.normal(0.0, 30.0, len(TIME))
        level = rng.integers(0, BINS.levels, stars)
        off = size * drift(TIME) * pattern(x, y) + rng.normal(0.0, jitter, len(TIME))
        off = off + rng.normal(0.0, slope, len(TIME)) * (2.0 * x / 3072 - 1.0)
        off = off + seasonal * season(TIME) * other_pattern(x, y)
        residual = off + rng.normal(0.0, STAR, stars)[:, None] + rng.normal(0.0, NOISE, x.shape)
        offsets = np.arange(stars + 1) * len(TIME)
        exposure = np.tile(np.arange(len(TIME)), stars)
        slices = np.arange(len(TIME)) * SLICES // len(TIME)
        epochs = Epochs(residual.ravel(), x.ravel().astype("f4"), y.ravel().astype("f4"), exposure, slices,
                        held_out(np.arange(len(TIME))))  # fmt: skip
        curves = Curves(offsets, level, np.zeros(stars), held_out(np.arange(stars)))
        table, histogram = np.zeros((layout.size, len(COLUMNS))), np.zeros((BINS.levels, RESIDUAL_BINS), np.int64)
        add_residuals(epochs, curves, summarise(epochs.residual, offsets), layout, table, histogram)
        rows = np.flatnonzero(table[:, 0])
        parts.append((unit * layout.size + rows, table[rows]))
    return bin_sums(*(np.concatenate(columns) for columns in zip(*parts, strict=True)), layout)


EPOCH = np.full(BINS.levels, NOISE**2)


def test_equations_are_those_with_a_constant_for_each_group_eliminated() -> None:
    """All columns written out, and each group's weighted mean taken off them."""
    sums = channel(1.0, 0.0, stars=60)
    time = time_model()
    problem = _Problem(sums, EPOCH, CURVE, BINS, time)
    rows = np.ones(len(sums.n), bool)
    got = problem.equations(rows)
    cells = change_basis(BINS.nx, BINS.ny).at_cells(BINS.nx, BINS.ny)
    mag = BINS.bright + (np.arange(BINS.levels) + 0.5) * BINS.step - CURVE.faint
    weights = time.weights[sums.slice]
    maps = weights[:, :, None] * cells[sums.cell][:, None, :]
    bends = weights[:, :, None] * np.stack([mag, mag**2], axis=1)[sums.magnitude][:, None, :]
    columns = np.concatenate([maps.reshape(len(rows), -1), bends.reshape(len(rows), -1),
                              *(np.eye(SLICES)[sums.slice] * of_cell[sums.cell][:, None] for of_cell in planes())],
                             axis=1)  # fmt: skip
    values, weight = sums.off / sums.n, sums.n / NOISE**2
    _, group = np.unique(np.stack([sums.unit, sums.magnitude, sums.cell]), axis=1, return_inverse=True)
    whole = np.bincount(group.ravel(), weight)
    for k in range(columns.shape[1]):
        columns[:, k] -= (np.bincount(group.ravel(), weight * columns[:, k]) / whole)[group.ravel()]
    values = values - (np.bincount(group.ravel(), weight * values) / whole)[group.ravel()]
    np.testing.assert_allclose(got.data, (columns * weight[:, None]).T @ columns, rtol=1e-7, atol=1e-3)
    np.testing.assert_allclose(got.right, (columns * weight[:, None]).T @ values, rtol=1e-7, atol=1e-5)
    assert np.isclose(got.weight, weight.sum())


def planes() -> np.ndarray:
    """1, u and v at the centres of the fine cells."""
    x, y = fine_centres(BINS.nx, BINS.ny)
    return np.stack([np.ones(len(x) * len(y)), np.tile(2 * x / 3072 - 1, len(y)), np.repeat(2 * y / 3080 - 1, len(x))])


def left_of(found: Changes, size: float, seasonal: float = 0.0) -> tuple[float, float]:
    """Root mean square of the change in the middle of slices, relative to its mean in time: true, and what is left."""
    cells = change_basis(BINS.nx, BINS.ny).at_cells(BINS.nx, BINS.ny)
    along, up = fine_centres(BINS.nx, BINS.ny)
    x, y = np.tile(along, len(up)), np.repeat(up, len(along))
    middle = TIME.reshape(SLICES, -1)
    true = size * drift(middle).mean(axis=1)[:, None] * pattern(x, y)
    true = true + seasonal * season(middle).mean(axis=1)[:, None] * other_pattern(x, y)
    got = found.time.weights @ found.map @ cells.T
    true, got = true - true.mean(axis=0), got - got.mean(axis=0)
    area = fine_areas(BINS.nx, BINS.ny)
    return float(np.sqrt((true**2).mean(axis=0) @ area / area.sum())), float(
        np.sqrt(((got - true) ** 2).mean(axis=0) @ area / area.sum())
    )


def test_find_changes_follows_a_drift_that_catalog_errors_would_hide() -> None:
    found = find_changes(channel(2.0, 0.0), EPOCH, CURVE, BINS, time_model())
    assert found is not None
    true, left = left_of(found, 2.0)
    assert true > 0.0035
    # 0.069 if places always have as much of their own, 0.10 if they do not lean on a course.
    assert left < 0.066 * true
    assert (found.held > 0.5 * true**2).all()
    assert found.curve.shape == (found.time.timeline.size, QUADRATIC)
    assert len(found.held) == len(HELD)


def test_find_changes_of_two_patterns_lets_places_have_more_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weak second pattern with a course of its own: the data ask for what one course alone does not."""
    sums = channel(2.0, 0.0, seasonal=0.4)

    def left() -> float:
        found = find_changes(sums, EPOCH, CURVE, BINS, time_model())
        assert found is not None
        true, off = left_of(found, 2.0, 0.4)
        return off / true

    chosen = left()
    assert chosen < 0.092
    monkeypatch.setattr("ztfmatch.photometry.kernels.changes._OWN_COURSE", (0.02, 0.02))
    assert chosen < 0.85 * left()


def test_solve_channel_takes_what_a_map_has_of_the_drift_from_before_from_lightcurves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dust that began to settle long before: the map is the pattern of the drift, times any number."""
    along, up = fine_centres(BINS.nx, BINS.ny)
    x, y = np.tile(along, len(up)), np.repeat(up, len(along))
    true, area = 0.020 * pattern(x, y), fine_areas(BINS.nx, BINS.ny)
    sums = channel(2.0, 0.0)
    sums = sums.less(-true[sums.cell])

    def left() -> float:
        solved = solve_channel(sums, 2, BINS, FitSettings(), Beside(time=time_model()))
        off = solved.problem.design.map.sums(solved.solution.parameters[solved.problem.blocks.of_map]) - true
        return float(np.sqrt(np.average((off - np.average(off, weights=area)) ** 2, weights=area)))

    found = left()
    assert found < 0.00063
    monkeypatch.setattr("ztfmatch.photometry.kernels.changes._BEFORE", 1e-9)
    assert found < 0.75 * left()


@pytest.mark.parametrize(("exposures", "found"), [(1.0, True), (-0.2, True), (-0.3, False), (-1.0, False)])
def test_find_changes_that_held_out_exposures_lose_more_by_than_chance_are_none(
    exposures: float, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = np.array([{"exposures": exposures, "stars": 1.0}[name] for name in HELD])
    monkeypatch.setattr(_Problem, "held_out", lambda self, sizes: held)
    assert (find_changes(channel(2.0, 0.0), EPOCH, CURVE, BINS, time_model()) is not None) == found


def test_find_changes_of_exposures_that_are_each_off_finds_none() -> None:
    """Means of six exposures differ by 4 millimag: chance, if it is known how far single ones are off."""
    sums = channel(0.0, 0.010)
    assert find_changes(sums, EPOCH, CURVE, BINS, time_model(0.010**2)) is None
    clouds = channel(0.0, 0.0, slope=0.010)
    assert find_changes(clouds, EPOCH, CURVE, BINS, time_model(0.0, 0.010**2)) is None
    assert find_changes(channel(0.0, 0.0), EPOCH, CURVE, BINS, time_model()) is None


def test_find_changes_of_stars_seen_once_in_each_slice_finds_none() -> None:
    """Nothing tells noise from changes there."""
    sums = channel(1.0, 0.0)
    once = BinSums(**{**vars(sums), "groups": sums.n})
    assert find_changes(once, EPOCH, CURVE, BINS, time_model()) is None
