"""Residuals against NumPy, and fits against what was put in."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.kernels.corrections import CorrectionTables, ExposureTerms, cell_of, corrected_magnitudes
from ztfmatch.photometry.kernels.channelfit import ChannelFit
from ztfmatch.photometry.kernels.curve import FitSettings
from ztfmatch.photometry.kernels.errorfit import (
    SCATTER_BRIGHT_MAG,
    SCATTER_MAG_BINS,
    SCATTER_MAG_STEP,
    differences,
    fit_error_model,
    noise_of_epochs,
    scatter_without,
    steady,
    typical_scatter,
)
from ztfmatch.photometry.kernels.fit import solve_channel
from ztfmatch.photometry.kernels.grid import coarse_cells
from ztfmatch.photometry.kernels.heldout import ALL, HELD, MAGNITUDES, NAMES
from ztfmatch.photometry.kernels.normalequations import BinSums
from ztfmatch.photometry.kernels.residuals import (
    OFFSET_BINS,
    RESIDUAL_BINS,
    SCATTER_BINS,
    SCATTER_FIRST_DEX,
    SCATTER_STEP_DEX,
    Bins,
    Summary,
    add_offsets,
    alike,
    clipped_sums,
    constants,
    group_medians,
    histogram_quantiles,
    summarise,
    unbiased_scatter,
)
from ztfmatch.photometry.kernels.scatters import scatters_of
from ztfmatch.photometry.kernels.sums import COLUMNS, PARTS, Curves, Epochs, Layout, add_residuals, held_out
from ztfmatch.photometry.tasks.channelsums import bin_sums, layout_of
from ztfmatch.photometry.tasks.residuals import leave_out_unlike

BINS = Bins(12.5, 0.25, 27, 30, 30)
LAYOUT = layout_of(BINS, 1)
values = st.lists(st.one_of(st.floats(-30, 30, width=32), st.just(float("nan"))), max_size=12)


@given(st.lists(values, min_size=1, max_size=6))
def test_summarise_any_lightcurves_agree_with_numpy(curves: list[list[float]]) -> None:
    offsets = np.concatenate([[0], np.cumsum([len(curve) for curve in curves])]).astype(np.int64)
    got = summarise(np.array([v for curve in curves for v in curve], np.float64), offsets)
    for i, curve in enumerate(curves):
        known = np.array([v for v in curve if not np.isnan(v)], np.float64)
        assert got.n[i] == len(known)
        if len(known):
            assert got.median[i] == np.median(known)
        if len(known) >= 3:
            mad = np.median(np.abs(known - np.median(known)))
            assert got.scatter[i] == pytest.approx(1.4826 * mad * len(known) / (len(known) - 0.8))
        else:
            assert np.isnan(got.scatter[i])


@given(st.lists(st.tuples(st.integers(-1, 3), st.floats(-5, 5)), max_size=30))
def test_group_medians_any_rows_agree_with_numpy(rows: list[tuple[int, float]]) -> None:
    group = np.array([g for g, _ in rows], np.int64)
    value = np.array([v for _, v in rows], np.float64)
    got = group_medians(value, group)
    for i, g in enumerate(group):
        assert np.isnan(got[i]) if g < 0 else got[i] == np.median(value[group == g])


@pytest.mark.parametrize("n", [5, 8, 15, 40, 200])
def test_unbiased_scatter_median_over_many_lightcurves_is_the_standard_deviation(n: int) -> None:
    rng = np.random.default_rng(n)
    curves = 20_000
    summary = summarise(rng.normal(17.0, 0.02, curves * n), np.arange(curves + 1) * n)
    assert np.median(unbiased_scatter(summary)) == pytest.approx(0.02, rel=0.05 if n < 8 else 0.025)


def test_constants_variables_are_told_and_constants_kept() -> None:
    rng = np.random.default_rng(2)
    n, curves = 30, 3000
    mag = rng.normal(0.0, 0.015, (curves, n))
    mag[:100] += 0.1 * np.sin(rng.uniform(0, 6.28, (100, n)))
    summary = summarise(mag.ravel(), np.arange(curves + 1) * n)
    found = constants(summary, np.zeros(curves, np.int64), 5)
    assert found[:100].mean() < 0.05
    assert found[100:].mean() > 0.995
    assert not constants(summary, np.zeros(curves, np.int64), 31).any()


def added(
    residual: np.ndarray, place: tuple[np.ndarray, np.ndarray], curves: Curves, layout: Layout,
    when: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> tuple[int, np.ndarray, np.ndarray]:  # fmt: skip
    """Number, table and histogram; ``when`` is exposure of each epoch, slice and part of each exposure."""
    when = when or (np.zeros(len(residual), np.int64), np.zeros(1, np.int64), np.zeros(1, bool))
    table, histogram = np.zeros((layout.size, len(COLUMNS))), np.zeros((layout.levels, RESIDUAL_BINS), np.int64)
    epochs = Epochs(residual, *place, *when)
    n = add_residuals(epochs, curves, summarise(residual, curves.offsets), layout, table, histogram)
    return n, table, histogram


def test_alike_tells_hidden_variables_from_what_stars_of_a_place_and_a_colour_share() -> None:
    rng = np.random.default_rng(3)
    n = 2000
    brightness, place, colour = (rng.integers(0, k, n) for k in (4, 12, 8))
    noise = np.array([0.005, 0.006, 0.009, 0.014])[brightness]
    shared = np.linspace(0.0, 0.06, 12)[place] + 0.04 * (colour / 8.0) ** 2
    star = rng.normal(0.0, 1.0, n) * noise
    hidden = rng.random(n) < 0.15
    values = shared + star + np.where(hidden, 0.06, 0.0)
    kept = alike(values, [brightness, place + 100, colour + 200])
    assert kept[~hidden].mean() > 0.98
    assert kept[hidden].mean() < 0.25
    assert abs((values - shared)[kept].mean()) < 0.25 * abs((values - shared).mean())


def test_alike_few_values_lose_only_those_far_off() -> None:
    values = np.array([0.0, 0.004, -0.004, 0.002, -0.002, 0.3])
    kept = alike(values, [np.zeros(6, np.int64), np.arange(6)])
    assert kept.tolist() == [True] * 5 + [False]


def test_leave_out_unlike_drops_an_eclipsing_star_by_its_mean_though_its_median_is_at_rest() -> None:
    rng = np.random.default_rng(8)
    stars, epochs = 200, 40
    offsets = np.arange(stars + 1) * epochs
    residual = rng.normal(0.0, 0.05, stars * epochs)
    residual[: epochs // 5] += 0.4  # the first is eclipsed in a fifth of its epochs
    x, y = (rng.uniform(300.0, 2700.0, stars).repeat(epochs).astype(np.float32) for _ in range(2))
    chunk = Lightcurves(679 * 10**12 + np.arange(stars), offsets, {"xpos": x, "ypos": y})
    bin_of = np.full(stars, 3, np.int64)
    bin_of[1] = -1
    residual[offsets[2] : offsets[2] + 5] = np.nan  # epochs that do not count
    leave_out_unlike(bin_of, (chunk, residual, np.full(stars, 0.7)), np.zeros(stars, np.int64))
    assert bin_of[:3].tolist() == [-1, -1, 3]
    assert (bin_of[2:] == 3).mean() > 0.98


def test_add_residuals_sums_are_those_of_a_loop() -> None:
    """Over slices of time, parts that are held out, magnitudes and fine cells."""
    rng = np.random.default_rng(3)
    bins, offsets = Bins(14.0, 0.5, 4, 3, 2), np.array([0, 7, 7, 20, 32], np.int64)
    layout = layout_of(bins, 2)
    residual = rng.normal(0.0, 0.02, 32)
    residual[[3, 11]] = np.nan
    residual[15] = 2.0
    x, y = rng.uniform(0.5, 3072.5, 32).astype("f4"), rng.uniform(0.5, 3080.5, 32).astype("f4")
    curves = Curves(offsets, np.array([0, 1, 3, -1]), np.array([0.2, 0.0, -0.3, 0.0]), np.array([1, 0, 0, 0], bool))
    when = (rng.integers(0, 3, 32), np.array([0, 1, 1]), np.array([False, True, False]))
    n, table, histogram = added(residual, (x, y), curves, layout, when)
    summary = summarise(residual, offsets)
    edges = [np.array([0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 2.25, 2.5, 2.75, 3.0]), np.arange(9) / 4.0]
    want = np.zeros((2, PARTS, 4, 8, 9, len(COLUMNS)))
    for k in (0, 2):
        rows = [i for i in range(offsets[k], offsets[k + 1]) if abs(residual[i] - summary.median[k])
                <= 4.0 * summary.scatter[k]]  # fmt: skip
        assert 15 not in rows
        groups: dict[tuple[int, ...], list[float]] = {}
        for i in rows:
            part = 2 if k == 0 else int(when[2][when[0][i]])
            column = np.searchsorted(edges[0], (x[i] - 0.5) * 3 / 3072, side="right") - 1
            line = np.searchsorted(edges[1], (y[i] - 0.5) * 2 / 3080, side="right") - 1
            groups.setdefault((when[1][when[0][i]], part, curves.bin_of[k], line, column), []).append(residual[i])
        for at, r in groups.items():
            c = curves.colour[k]
            want[at] += [len(r), sum(r), sum(v * v for v in r), len(r) / len(rows), 1, sum(r) ** 2 / len(r),
                         len(r) * len(rows), len(r) * c, len(r) * c * c,
                         sum(r) - len(r) * np.mean(residual[rows])]  # fmt: skip
    np.testing.assert_allclose(table, want.reshape(-1, len(COLUMNS)), rtol=1e-12, atol=1e-16)
    assert n == want[..., 0].sum()
    mean = np.nanmean(residual[:7])
    assert histogram[0, round(mean * 1000) + RESIDUAL_BINS // 2] == 1
    assert histogram.sum() == 2


def test_add_residuals_star_seen_in_every_cell_loses_no_epoch() -> None:
    bins = Bins(14.0, 0.5, 2, 12, 10)
    x, y = (values.ravel() for values in np.meshgrid(np.arange(12) * 256.0 + 100.0, np.arange(10) * 308.0 + 100.0))
    residual = np.tile([0.001, -0.001], len(x))
    place = (np.repeat(x, 2).astype("f4"), np.repeat(y, 2).astype("f4"))
    curves = Curves(np.array([0, 120, 240]), np.array([1, 1]), np.zeros(2), np.zeros(2, bool))
    n, table, _ = added(residual, place, curves, layout_of(bins, 1))
    assert n == 240
    seen = table[table[:, 0] > 0]
    assert len(seen) == 120
    np.testing.assert_array_equal(seen[:, 0], 2.0)
    np.testing.assert_allclose(seen[:, 3], 2.0 / 120)


def test_held_out_is_a_fifth_of_any_numbers() -> None:
    for numbers in (np.arange(10_000), 679 * 10**12 + np.arange(10_000), 20180704 * 10**6 + 37 * np.arange(10_000)):
        assert held_out(numbers).mean() == pytest.approx(0.2, abs=0.02)


def test_clipped_sums_are_those_without_outliers() -> None:
    rng = np.random.default_rng(4)
    exposure = np.repeat(np.arange(3), 2000)
    mag = rng.normal(0.0, 0.02, 6000) + 0.01 * exposure
    mag[::50] += 0.2
    histogram = np.zeros((4, OFFSET_BINS), np.int32)
    add_offsets(mag, exposure, np.arange(6001), np.zeros(6000), np.ones(6000, bool), histogram)
    n, total, squares = clipped_sums(histogram)
    np.testing.assert_allclose(total[:3] / n[:3], [0.0, 0.01, 0.02], atol=0.002)
    np.testing.assert_allclose(np.sqrt(squares[:3] / n[:3] - (total[:3] / n[:3]) ** 2), 0.02, rtol=0.05)
    assert n[3] == 0


def test_histogram_quantiles_agree_with_numpy() -> None:
    sample = np.random.default_rng(5).normal(0.0, 1.0, 50_000)
    edges = np.arange(-5.0, 5.01, 0.01)
    counts = np.histogram(sample, edges)[0][None]
    for q in (0.1587, 0.5, 0.8413):
        got = histogram_quantiles(counts, 0.5 * (edges[1:] + edges[:-1]), 0.01, q)
        assert got[0] == pytest.approx(np.quantile(sample, q), abs=0.002)


@pytest.mark.parametrize(
    ("x", "y", "cell"),
    [(0.5, 0.5, 0), (3072.5, 0.5, 29), (0.5, 3080.5, 870), (-9.0, 9999.0, 870), (102.8, 1.0, 0), (103.0, 1.0, 1),
     (float("nan"), 1.0, -1)],
)  # fmt: skip
def test_cell_of_positions(x: float, y: float, cell: int) -> None:
    assert cell_of(x, y, 30, 30) == cell


def test_corrected_magnitudes_terms_and_flags_by_hand() -> None:
    tables = CorrectionTables(
        np.array([[14.0, 19.0, 0.002, -0.001], [np.nan] * 4]), np.array([[0.01, np.nan]] * 2), (2, 1)
    )
    terms = ExposureTerms(np.array([0, 0, 1, -1], np.int32), np.array([0.005, np.nan, 0.005, 0.005]))
    mag = np.array([17.0, 13.9, 19.0, np.nan, 17.0, 17.0])
    x = np.array([10, 10, 2000, 10, 10, 10], np.float32)
    got, flags = corrected_magnitudes(mag, x, x, np.array([0, 1, 0, 0, 2, 3]), terms, tables)
    magnitude = -2.0 * (0.002 + 0.002)
    np.testing.assert_array_equal(
        got, np.array([17.0 - magnitude - 0.015, 13.89, 18.995, np.nan, 16.985, 17.0]).astype(np.float32)
    )
    assert flags.tolist() == [1 | 2 | 4, 8 | 2 | 32, 1 | 16 | 4, 0, 8 | 2 | 4, 0]


def channel(
    seed: int, size: float, units: int = 2, stars: int = 900, epochs: int = 20
) -> tuple[BinSums, dict[str, np.ndarray]]:
    """Sums of simulated stars with a quadratic in magnitude, a smooth map with edges, and offsets, times a size."""
    rng = np.random.default_rng(seed)
    truth = {"offset": rng.normal(0.0, 0.005, units) * size, "quadratic": np.array([0.002, -0.0003]) * size}
    parts = []
    for unit in range(units):
        mag = 19.25 - rng.exponential(1.6, stars)
        mag = mag[mag > 12.5]
        n = len(mag)
        x = np.clip(rng.uniform(0.5, 3072.5, n)[:, None] + rng.normal(0.0, 40.0, (1, epochs)), 0.5, 3072.5)
        y = np.clip(rng.uniform(0.5, 3080.5, n)[:, None] + rng.normal(0.0, 40.0, (1, epochs)), 0.5, 3080.5)
        t = mag - 19.25
        off = t * (truth["quadratic"][0] + t * truth["quadratic"][1]) + truth["offset"][unit]
        residual = off[:, None] + size * _surface(x, y) + rng.normal(0.0, 0.005, n)[:, None]
        residual = (residual + rng.normal(0.0, 0.015, x.shape)).ravel()
        place = (x.ravel().astype("f4"), y.ravel().astype("f4"))
        bin_of = ((mag - 12.5) / 0.25).astype(np.int64)
        curves = Curves(np.arange(n + 1) * epochs, bin_of, np.zeros(n), held_out(np.arange(n)))
        _, table, _ = added(residual, place, curves, LAYOUT)
        rows = np.flatnonzero(table[:, 0])
        parts.append((unit * LAYOUT.size + rows, table[rows]))
    fine = (np.arange(300) + 0.5) / 300.0
    gx, gy = np.meshgrid(0.5 + fine * 3072, 0.5 + fine * 3080)
    truth["map"] = size * _surface(gx, gy).reshape(30, 10, 30, 10).mean(axis=(1, 3)).ravel()
    return bin_sums(*(np.concatenate(columns) for columns in zip(*parts, strict=True)), LAYOUT), truth


def _surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    u, v = 2 * x / 3072 - 1, 2 * y / 3080 - 1
    smooth = 0.004 * u + 0.003 * v * v + 0.004 * u * v
    return np.asarray(smooth + 0.025 * np.exp(-x / 60) + 0.02 * np.exp(-(3080.5 - y) / 60) - 0.003)


def pulls(fit: ChannelFit, truth: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors over stated errors: of the magnitude term, of offsets, of the map."""
    known = np.isfinite(fit.map)
    level = truth["map"][known].mean()
    value, error = fit.levels[:, 6:-2:4]
    t = (12.625 + 0.25 * np.arange(27))[6:-2:4] - 19.25
    return (
        (value - t * (truth["quadratic"][0] + t * truth["quadratic"][1])) / error,
        (fit.offset - truth["offset"] - level) / fit.offset_error,
        (fit.map - truth["map"] + level)[known] / fit.map_error[known],
    )


def test_solve_channel_errors_are_honest_over_many_channels() -> None:
    found = []
    for seed in range(4):
        sums, truth = channel(seed, 1.0)
        fit = solve_channel(sums, 2, BINS, FitSettings()).fit()
        assert np.isfinite(fit.map).mean() > 0.9
        assert np.nanmean(fit.map) == pytest.approx(0.0, abs=1e-12)
        found.append(pulls(fit, truth))
        assert fit.epoch_scatter[-4:].mean() == pytest.approx(0.015, rel=0.05)
        assert fit.star_scatter[-8:].mean() == pytest.approx(0.005, rel=0.25)
    for which, (low, high) in enumerate(((0.5, 1.6), (0.5, 1.7), (0.5, 1.15))):
        spread = np.sqrt(np.mean(np.concatenate([pull[which] for pull in found]) ** 2))
        assert low < spread < high, which


def test_solve_channel_without_systematics_finds_none() -> None:
    sums, truth = channel(11, 0.0)
    fit = solve_channel(sums, 2, BINS, FitSettings()).fit()
    assert (fit.sizes < [0.0012, 0.0006, 0.006]).all()  # well below the usual ones
    assert np.nanstd(fit.map) < 0.0012
    for pull in pulls(fit, truth):
        assert np.abs(pull).max() < 4.0


def test_solve_channel_held_out_stars_say_which_terms_are_worth_something() -> None:
    """On stars that were not fitted: a map of 5 millimag and a bias take something away, what is not there nothing."""
    fit = solve_channel(channel(2, 1.0, stars=3000)[0], 2, BINS, FitSettings()).fit()
    worth = dict(zip(NAMES, fit.held[list(HELD).index("stars")], strict=True))
    map_square = float(np.nanmean(fit.map**2))
    assert worth["position"] == pytest.approx(map_square, rel=0.6)
    assert worth[ALL] > worth["position"] > 0.0
    assert worth["time"] == worth["colour"] == 0.0
    assert np.isnan(fit.held[list(HELD).index("exposures")]).all()  # all are of one exposure, which is fitted
    assert all(worth[f"all at {mag} mag"] > 0.0 for mag in MAGNITUDES if mag > 13)


def test_solve_channel_term_that_harms_what_is_held_out_is_left_out_when_terms_are_judged() -> None:
    """Held-out exposures and stars have a bias of the other sign than the rest."""
    sums, _ = channel(2, 1.0, units=1, stars=1500)
    parts = (np.arange(len(sums.n)) % 5) % 3
    sums = replace(sums, part=parts)
    mag = 12.5 + (sums.magnitude + 0.5) * 0.25
    bent = sums.less(np.where(parts == 0, -1.0, 1.0) * 0.02 * (mag - 19.25))
    judged = solve_channel(bent, 1, BINS, FitSettings(judged=True)).fit()
    assert (judged.held[:, NAMES.index("magnitude")] < 0.0).all()
    assert np.isnan([judged.bright, judged.slope]).all()
    assert np.isnan(judged.curve).all()
    assert np.isfinite(judged.map).mean() > 0.9
    flat = sums.less(np.where(parts == 0, -1.0, 1.0) * 0.02 * np.sin(coarse_cells(30, 30)[sums.cell] % 30 / 5.0))
    judged = solve_channel(flat, 1, BINS, FitSettings(judged=True)).fit()
    assert np.isnan(judged.map).all()
    assert np.abs(judged.coefficients).max() < 1e-6
    assert np.isfinite(judged.slope)
    assert np.isfinite(judged.offset).all()


def test_solve_channel_map_error_shrinks_with_stars_and_detections_alone_do_not_help() -> None:
    few, many, often = (
        solve_channel(channel(1, 1.0, stars=stars, epochs=epochs)[0], 2, BINS, FitSettings()).fit()
        for stars, epochs in ((900, 20), (3600, 20), (900, 80))
    )
    assert np.nanmedian(many.map_error) < 0.9 * np.nanmedian(few.map_error)
    assert np.nanmedian(often.map_error) > 0.8 * np.nanmedian(few.map_error)
    assert (often.offset_error > 0.7 * few.offset_error).all()


def test_scatters_of_epochs_that_no_star_has_twice_at_a_place_are_those_of_lightcurves() -> None:
    """Dithers that take each star to another cell with each epoch; else what epochs at one place say stays."""
    bins = BINS._replace(nx=2, ny=2)
    curves = np.where(np.arange(BINS.levels) < 20, 0.02**2, np.nan)

    def epochs(sums: BinSums) -> np.ndarray:
        model = sums.total / sums.n
        return scatters_of(sums, model, bins, (1.0, np.ones(len(model))), curves).epoch

    often, _ = channel(3, 1.0, stars=2000)
    assert epochs(often)[10:] == pytest.approx(0.015**2, rel=0.1)
    once = often.where(often.n == often.groups)
    assert epochs(once)[:20] == pytest.approx(0.02**2, rel=1e-6)
    assert epochs(once)[20:] == pytest.approx(0.02**2, rel=1e-6)  # of the nearest that is known
    assert scatters_of(once, once.total, bins, (1.0, np.ones(len(once.n)))).epoch == pytest.approx(1e-4)


def test_solve_channel_too_few_stars_has_no_terms() -> None:
    sums, _ = channel(1, 1.0, units=1, stars=10)
    fit = solve_channel(sums, 1, BINS, FitSettings()).fit()
    assert np.isnan([fit.bright, fit.faint, fit.slope, fit.curvature]).all()
    assert np.isnan(fit.map).all()
    assert np.isnan(fit.offset).all()


def test_bin_sums_less_offset_are_those_of_shifted_residuals() -> None:
    rng = np.random.default_rng(7)
    r = rng.normal(0.0, 0.02, 40)
    one = np.ones(1)
    zero = np.zeros(1, np.int64)

    def sums(v: np.ndarray) -> BinSums:
        groups = v.reshape(4, 10)
        between = (groups.sum(axis=1) ** 2 / 10).sum()
        numbers = (40 * one, v.sum() * one, (v**2).sum() * one, 4 * one, 4 * one, between * one, *[one] * 4)
        return BinSums(*[zero] * 5, *numbers)

    got, want = sums(r).less(0.3 * one), sums(r - 0.3)
    for name in ("total", "squares", "between"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-12)


MODEL = (0.0310, -0.0012, 2.4743e-9, -8.3245e-18)


def scatter_counts(lightcurves: int, epochs: int = 40, extra: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(9)
    mag = SCATTER_BRIGHT_MAG + 2.0 + rng.uniform(0.0, 7.0, lightcurves)
    bright = 10.0 ** (0.4 * mag)
    sigma = MODEL[0] + MODEL[1] * mag + MODEL[2] * bright + MODEL[3] * bright**2
    curves = mag[:, None] + np.hypot(sigma, extra)[:, None] * rng.standard_normal((lightcurves, epochs))
    summary = summarise(curves.ravel(), np.arange(lightcurves + 1) * epochs)
    scatter = unbiased_scatter(Summary(summary.n, summary.median, summary.scatter))
    counts = np.zeros((SCATTER_MAG_BINS, SCATTER_BINS), np.int64)
    at = ((summary.median - SCATTER_BRIGHT_MAG) / SCATTER_MAG_STEP).astype(int)
    np.add.at(counts, (at, ((np.log10(scatter) - SCATTER_FIRST_DEX) / SCATTER_STEP_DEX).astype(int)), 1)
    return counts


def test_fit_error_model_recovers_the_injected_scatter() -> None:
    fit = fit_error_model(scatter_counts(6000))
    assert fit is not None
    mag = np.arange(14.25, 20.5, 0.25)
    bright = 10.0 ** (0.4 * mag)
    design = np.stack([np.ones(len(mag)), mag, bright, bright**2], axis=1)
    np.testing.assert_allclose(design @ np.array(fit.coefficients), design @ np.array(MODEL), rtol=0.05)
    assert fit.lightcurves > 5000


def offsets_of_exposures(kind: str, exposures: int) -> np.ndarray:
    """What exposures are off by: a fifth by clouds, all by some and a few by much, or by a season."""
    rng = np.random.default_rng(4)
    if kind == "clouds":
        return np.asarray(np.where(rng.random(exposures) < 0.2, rng.uniform(-0.06, 0.06, exposures), 0.0))
    if kind == "tails":
        return np.asarray(0.012 * rng.standard_t(3, exposures))
    return np.asarray(0.02 * np.sin(rng.uniform(0.0, 2.0 * np.pi, exposures)))


@pytest.mark.parametrize("kind", ["clouds", "tails", "season"])
def test_scatter_without_what_is_known_is_the_noise(kind: str) -> None:
    """Of many lightcurves of the same exposures, by medians: squares would be off by half."""
    rng = np.random.default_rng(12)
    sigma, off = np.array([0.012, 0.02, 0.06]), offsets_of_exposures(kind, 400)
    epochs = off + sigma[:, None, None] * rng.standard_normal((3, 300, 400))
    scatter = np.median(scipy_stats.median_abs_deviation(epochs, axis=2, scale="normal"), axis=1)
    assert scatter[0] > 1.05 * sigma[0]
    np.testing.assert_allclose(scatter_without(scatter, off, np.ones(400)), sigma, rtol=0.02)
    halved = scatter_without(scatter, np.tile(off, 2), np.full(800, 0.5))
    np.testing.assert_allclose(halved, scatter_without(scatter, off, np.ones(400)), rtol=1e-6)
    assert np.isnan(scatter_without(np.array([np.nan]), off, np.ones(400))).all()
    np.testing.assert_array_equal(scatter_without(scatter, np.zeros(0), np.zeros(0)), scatter)


def test_noise_of_epochs_is_theirs_without_gradients_and_those_that_are_clipped() -> None:
    """Sums of squares about the means of five epochs, a tenth of which are of exposures that are off."""
    rng = np.random.default_rng(12)
    sigma, off = np.array([0.012, 0.03]), np.concatenate([np.zeros(900), np.full(80, 0.02), np.full(20, 0.3)])
    chosen = rng.choice(off, (2, 4000, 5))
    epochs = chosen + sigma[:, None, None] * rng.standard_normal((2, 4000, 5))
    counted = chosen < 0.25
    n = counted.sum(axis=2)
    total = (epochs * counted).sum(axis=2)
    within = (epochs**2 * counted).sum(axis=(1, 2)) - (total**2 / np.maximum(n, 1)).sum(axis=1)
    freedom = (n - (n > 0)).sum(axis=1).astype(float)
    got, error = noise_of_epochs(within, freedom, (off - off[:980].mean(), np.ones(1000)))
    np.testing.assert_allclose(got, sigma, rtol=0.03)
    assert (np.abs(got - sigma) < 4.0 * error).all()
    assert np.isnan(noise_of_epochs(within, np.full(2, 9.0), (off, np.ones(1000)))[0]).all()


def test_differences_are_those_of_epochs_that_count_at_most_three_apart() -> None:
    """With v' A v the mean square, the degrees of freedom are those of Satterthwaite, (tr A)^2 / tr A^2."""
    rng = np.random.default_rng(3)
    lengths = np.array([0, 1, 2, 4, 9, 40])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    epochs = 17.0 + rng.normal(0.0, 0.02, offsets[-1])
    epochs[7:][rng.random(len(epochs) - 7) < 0.2] = np.nan
    epochs[20] = 17.5
    summary = summarise(epochs, offsets)
    summary = summary._replace(scatter=np.fmax(summary.scatter, 0.02))
    freedom, squares = differences(epochs, offsets, summary)
    assert freedom[3] == pytest.approx(3.0)  # all pairs of four epochs: their variance
    assert squares[3] == pytest.approx(3.0 * epochs[3:7].var(ddof=1))
    for k, (first, stop) in enumerate(itertools.pairwise(offsets.tolist())):
        known = epochs[first:stop][~np.isnan(epochs[first:stop])]
        known = known[np.abs(known - summary.median[k]) <= 4.0 * summary.scatter[k]]
        pairs = [(i, j) for j in range(len(known)) for i in range(max(j - 3, 0), j)]
        unit = np.eye(len(known))
        form = sum(0.5 * np.outer(unit[j] - unit[i], unit[j] - unit[i]) for i, j in pairs) / max(len(pairs), 1)
        want = np.trace(form) ** 2 / np.trace(form @ form) if pairs else 0.0
        assert freedom[k] == pytest.approx(want)
        assert squares[k] == pytest.approx(want * known @ form @ known if pairs else 0.0)


@pytest.mark.parametrize("n", [8, 20, 64])
@pytest.mark.parametrize("varying", [0.0, 0.2])
def test_steady_tells_the_noise_of_epochs_though_others_vary(n: int, varying: float) -> None:
    """Those that vary are eclipsed by two to six sigmas a fifth of the time."""
    rng = np.random.default_rng(n)
    curves = 20_000
    epochs = rng.normal(0.0, 0.02, (curves, n))
    some = slice(0, int(varying * curves))
    depth = rng.uniform(0.04, 0.12, (curves, 1))[some]
    epochs[some] += depth * (rng.random((curves, n))[some] < 0.2)
    offsets = np.arange(curves + 1) * n
    limits = Summary(np.full(curves, n), np.zeros(curves), np.full(curves, 0.03))
    freedom, squares = differences(epochs.ravel(), offsets, limits)
    found, expected = steady(freedom, squares, np.zeros(curves, np.int64))
    noise = np.sqrt((squares / expected)[found].sum() / freedom[found].sum())
    assert noise == pytest.approx(0.02, rel=0.02 if varying == 0.0 or n > 8 else 0.08)
    naive = np.sqrt(squares.sum() / freedom.sum())
    assert varying == 0.0 or abs(noise - 0.02) < 0.4 * abs(naive - 0.02)
    assert not steady(np.zeros(3), np.zeros(3), np.zeros(3, np.int64))[0].any()


def noise_told(epochs: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Noise of the epochs of the lightcurves of each group."""
    curves, n = epochs.shape
    limits = Summary(np.full(curves, n), np.zeros(curves), np.full(curves, 0.03))
    freedom, squares = differences(epochs.ravel(), np.arange(curves + 1) * n, limits)
    found, expected = steady(freedom, squares, group)
    sums = [np.bincount(group[found], values[found]) for values in (squares / expected, freedom)]
    return noise_of_epochs(*sums, (np.zeros(1), np.ones(1)))[0]


def test_noise_of_few_epochs_of_few_stars_scatters_little_more_than_their_number_allows() -> None:
    """Groups of 15 stars with eight epochs: 105 degrees of freedom, by which a scatter has an error of 6.9 %."""
    epochs = np.random.default_rng(15).normal(0.0, 0.02, (2000 * 15, 8))
    noise = noise_told(epochs, np.repeat(np.arange(2000), 15)) / 0.02
    assert noise.mean() == pytest.approx(1.0, abs=0.01)
    assert noise.std() < 1.3 / np.sqrt(2.0 * 105)


def test_fit_error_model_is_of_epochs_without_what_is_taken_off_them_and_with_what_is_left() -> None:
    off = np.random.default_rng(5).normal(0.0, 0.010, 4000)
    counts = scatter_counts(6000, extra=0.010)
    fit = fit_error_model(counts, (off, np.ones(4000)), uncertain=4e-6)
    assert fit is not None
    a, b, c, d = fit.coefficients
    mag = np.arange(14.625, 18.75, 0.25)
    bright = 10.0 ** (0.4 * mag)
    sigma = MODEL[0] + MODEL[1] * mag + MODEL[2] * bright + MODEL[3] * bright**2
    np.testing.assert_allclose(a + b * mag + c * bright + d * bright**2, np.hypot(sigma, 0.002), rtol=0.04)
    every = np.arange(12.125, 20.5, 0.25)
    bright = 10.0 ** (0.4 * every)
    single = MODEL[0] + MODEL[1] * every + MODEL[2] * bright + MODEL[3] * bright**2
    noise = every, single, 0.01 * single
    lower = fit_error_model(counts, noise=noise, uncertain=4e-6)
    assert lower is not None
    a, b, c, d = lower.coefficients
    bright = 10.0 ** (0.4 * mag)
    np.testing.assert_allclose(a + b * mag + c * bright + d * bright**2, np.hypot(sigma, 0.002), rtol=0.04)


@pytest.mark.parametrize("lightcurves", [0, 60])
def test_fit_error_model_of_few_lightcurves_is_none(lightcurves: int) -> None:
    assert fit_error_model(scatter_counts(lightcurves)) is None


def test_fit_error_model_that_would_fall_towards_the_faint_is_none() -> None:
    counts = np.zeros((SCATTER_MAG_BINS, SCATTER_BINS), np.int64)
    for level in range(30):
        counts[level + 4, 120 - level] = 100
    assert fit_error_model(counts) is None


def test_fit_error_model_whose_square_term_would_let_it_fall_does_without_it() -> None:
    """As where few stars of the faintest magnitudes scatter too little by chance."""
    mag = np.arange(14.125, 20.0, 0.25)
    scatter = 0.01 * 10.0 ** (0.2 * (mag - 16.0)) * np.where(mag > 19.5, 0.85, 1.0)
    fit = fit_error_model(np.zeros((SCATTER_MAG_BINS, SCATTER_BINS), np.int64), noise=(mag, scatter, 0.05 * scatter))
    assert fit is not None
    a, b, c, d = fit.coefficients
    assert c > 0.0
    assert d == 0.0
    sigma = a + b * mag + c * 10.0 ** (0.4 * mag)
    np.testing.assert_allclose(sigma[mag < 19.5], scatter[mag < 19.5], rtol=0.25)


def test_typical_scatter_is_the_median_of_each_bin() -> None:
    counts = scatter_counts(6000)
    scatter, error = typical_scatter(counts)
    level = 20
    sample = np.repeat(SCATTER_FIRST_DEX + (np.arange(SCATTER_BINS) + 0.5) * SCATTER_STEP_DEX, counts[level])
    assert np.log10(scatter[level]) == pytest.approx(np.median(sample), abs=SCATTER_STEP_DEX)
    spread = scipy_stats.median_abs_deviation(10.0**sample, scale="normal")
    assert error[level] == pytest.approx(1.2533 * spread / np.sqrt(len(sample)), rel=0.4)
