"""Reports: their numbers against NumPy's on a scene of known residuals, their page, and what they refuse."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from corrected import write_set
from helpers import append, epochal_file, make_store, reference_file, rows_at, runner, table
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from report_scene import (
    DEVIATIONS,
    ERRORS,
    NIGHTS,
    UNITS,
    Scene,
    apply_known_corrections,
    make_scene,
    make_scene_store,
    write_known_corrections,
    write_scene,
)
from widths import check_fits, on_terminal

from ztfmatch import api
from ztfmatch.cli import main
from ztfmatch.core.camera import Pixels, QuadrantMap, field_grid
from ztfmatch.core.config import CalibrateConfig, Resources
from ztfmatch.core.errors import ConfigError, CorrectionsError, MemoryBudgetError, MetadataError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.io.surveytables import Spline, SurveyTables, write_survey_tables
from ztfmatch.core.runner import LoopExecutor, Runner
from ztfmatch.core.survey import FILTER_CODES, QUADRANT_SHAPE_PIX, Unit
from ztfmatch.photometry.io.ps1 import open_ps1
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.report import NUMBERS, PAGE, ReportInputs, make_report
from ztfmatch.photometry.report.content import _off_grid
from ztfmatch.photometry.report.exposures import Exposures, binned_days, count_exposures, plain
from ztfmatch.photometry.report.measure import Sums, Times, What, measure
from ztfmatch.photometry.report.numbers import (
    OFFSET_CENTRES,
    RESIDUAL_CENTRES,
    RMS_MAGS,
    SCATTER_DEX,
    bright_scatter,
    channel_rows,
    coarse_factor,
    epoch_histogram,
    field_rows,
    filter_rows,
    gain_rows,
    mean_map,
    robust_rms,
    spread_of,
    star_histogram,
    stored_errors,
    unit_means,
)
from ztfmatch.photometry.report.page import Grid, Judged, Page, Picture, Section, number, render
from ztfmatch.photometry.report.pictures import draw_sky, map_limit, png
from ztfmatch.photometry.report.pictures.maps import draw_channels, draw_focal_plane
from ztfmatch.photometry.report.pictures.sky import _quadrants, _View
from ztfmatch.photometry.report.pictures.style import NO_DATA, nice_limit
from ztfmatch.photometry.report.times import course_of, eras_of, time_rows

CONFIG = CalibrateConfig()
SECTIONS = (
    *("Key figures", "against magnitude", "Distribution of residuals", "over the focal plane", "by readout channel"),
    *("by field on the sky", "over time", "by era", "Scatter of lightcurves", "Exposures by quality"),
)
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(unit) for unit in UNITS]


@pytest.fixture(scope="module")
def catalogs(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scene") / "catalogs"
    write_scene(place, scenes)
    return place


@pytest.fixture(scope="module")
def store(catalogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """Of the scene, corrected."""
    place = tmp_path_factory.mktemp("corrected")
    storage = make_scene_store(place / "store", catalogs)
    apply_known_corrections(storage, place / "corrections")
    return storage


@pytest.fixture(scope="module")
def sums(store: Storage, catalogs: Path) -> Sums:
    ps1 = open_ps1(catalogs / "ps1.parquet")
    return measure(open_snapshot(store), What(ps1, CONFIG), runner())


def residuals(scene: Scene, phase: int) -> np.ndarray:
    """Mean residual of each star in mmag, by construction."""
    return 1000.0 * (scene.residual - phase * scene.correction)


def test_measure_of_scene_counts_every_star_and_clean_epoch(sums: Sums, scenes: list[Scene]) -> None:
    stars = sum(len(scene.ra) for scene in scenes)
    assert (sums.phases, sums.against_ps1, sums.compared) == (2, True, stars)
    assert sums.detections == stars * (NIGHTS + 1)
    assert sums.used == stars * NIGHTS  # those of the bad exposure do not count
    assert {u: held[0, 2] for u, held in sums.units.items()} == pytest.approx({s.unit: len(s.ra) for s in scenes})


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("which", [0, 1])
def test_star_histogram_of_scene_is_that_of_numpy(sums: Sums, scenes: list[Scene], which: int, phase: int) -> None:
    scene = scenes[which]
    got = star_histogram(sums, phase, scene.unit.fid)
    edges = np.append(RESIDUAL_CENTRES - 0.5, RESIDUAL_CENTRES[-1] + 0.5)
    # Magnitudes are stored in single precision: a star at the edge of a bin may fall on either side.
    assert np.abs(got - np.histogram(residuals(scene, phase), edges)[0]).sum() <= 2
    assert np.array_equal(got, star_histogram(sums, phase, scene.unit.fid, scene.unit.rcid))


@pytest.mark.parametrize("phase", [0, 1])
def test_filter_rows_of_scene_are_medians_and_spreads_of_numpy(sums: Sums, scenes: list[Scene], phase: int) -> None:
    rows = {(row["filter"], row["phase"]): row for row in filter_rows(sums)}
    for scene in scenes:
        row = rows[FILTER_CODES[scene.unit.fid], ("uncorrected", "as stored")[phase]]
        values = residuals(scene, phase)
        low, middle, high = np.quantile(values, [0.158655, 0.5, 0.841345])
        assert row["stars"] == len(values)
        assert row["median_mmag"] == pytest.approx(middle, abs=1.0)
        assert row["rms_mmag"] == pytest.approx((high - low) / 2, abs=1.0)


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("which", [0, 1])
def test_mean_map_of_scene_is_mean_of_its_cells(sums: Sums, scenes: list[Scene], which: int, phase: int) -> None:
    scene = scenes[which]
    width, height = QUADRANT_SHAPE_PIX
    for factor in (1, 5, 10):
        n = 30 // factor
        edges = (np.linspace(0.5, height + 0.5, n + 1), np.linspace(0.5, width + 0.5, n + 1))
        count, _, _ = np.histogram2d(scene.y, scene.x, edges)
        total, _, _ = np.histogram2d(scene.y, scene.x, edges, weights=residuals(scene, phase))
        with np.errstate(invalid="ignore"):
            expected = total / count
        got = mean_map(sums.maps[scene.unit.rcid, scene.unit.fid][phase], sums.bins, factor)
        np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize("phase", [0, 1])
def test_unit_means_of_scene_are_means_of_its_stars(sums: Sums, scenes: list[Scene], phase: int) -> None:
    for scene in scenes:
        mean = residuals(scene, phase).mean()
        assert unit_means(sums, phase, scene.unit.fid) == {
            (scene.unit.field, scene.unit.rcid): pytest.approx(mean, abs=1e-3)
        }
        (row,) = (row for row in field_rows(sums) if row["filter"] == FILTER_CODES[scene.unit.fid])
        assert row[f"mean_{('before', 'after')[phase]}_mmag"] == pytest.approx(mean, abs=1e-3)


def test_epochs_of_scene_are_about_their_medians_what_was_put_in(sums: Sums, scenes: list[Scene]) -> None:
    expected = np.histogram(1000.0 * DEVIATIONS, np.append(OFFSET_CENTRES - 1.0, OFFSET_CENTRES[-1] + 1.0))[0]
    for scene in scenes:
        for phase in range(2):
            assert np.array_equal(epoch_histogram(sums, phase, scene.unit.fid), len(scene.ra) * expected)


def test_scatter_of_scene_is_that_of_its_deviations(sums: Sums, scenes: list[Scene]) -> None:
    scatter = 1.4826 * np.median(np.abs(DEVIATIONS)) * NIGHTS / (NIGHTS - 0.8)
    for scene in scenes:
        counts = sums.scatter[0, scene.unit.fid - 1]
        assert counts.sum() == len(scene.ra)
        assert np.abs(SCATTER_DEX[counts.sum(axis=0) > 0] - np.log10(scatter)).max() <= 0.01 + 1e-9
        by_mag = np.histogram(scene.expected + scene.residual, np.append(RMS_MAGS - 0.05, RMS_MAGS[-1] + 0.05))[0]
        assert np.abs(counts.sum(axis=1) - by_mag).sum() <= 2
        assert bright_scatter(sums, 0, scene.unit.fid) == pytest.approx(1000.0 * scatter, rel=0.03)
        errors = stored_errors(sums, 1, scene.unit.fid)
        assert errors[np.isfinite(errors)] == pytest.approx(ERRORS["a"], rel=1e-6)


def test_measure_of_uncorrected_snapshot_has_one_phase(store: Storage, catalogs: Path, sums: Sums) -> None:
    ps1 = open_ps1(catalogs / "ps1.parquet")
    before = measure(open_snapshot(store, 1), What(ps1, CONFIG), runner())
    assert before.phases == 1
    for channel, held in before.stars.items():
        assert np.array_equal(held[0], sums.stars[channel][0])


def test_measure_without_ps1_tells_scatter_alone(store: Storage, sums: Sums) -> None:
    alone = measure(open_snapshot(store), What(None, CONFIG), runner())
    assert not alone.against_ps1
    assert np.array_equal(alone.epochs, sums.epochs)
    assert np.array_equal(alone.scatter, sums.scatter)
    assert (channel_rows(alone), field_rows(alone)) == ([], [])
    assert "rms_mmag" not in filter_rows(alone)[0]


def test_measure_of_many_tiles_gives_the_sums_of_one(catalogs: Path, sums: Sums, tmp_path: Path) -> None:
    storage = make_store(tmp_path / "store", sorted(catalogs.glob("*refpsfcat.fits")), seeds_per_tile=40)
    append(storage, sorted(catalogs.glob("*_psfcat.fits")))
    apply_known_corrections(storage, tmp_path / "corrections")
    snapshot = open_snapshot(storage)
    assert len(snapshot.tiles_with("detections")) > 4
    got = measure(snapshot, What(open_ps1(catalogs / "ps1.parquet"), CONFIG), runner())
    assert (got.detections, got.compared) == (sums.detections, sums.compared)
    assert np.array_equal(got.scatter, sums.scatter)
    for unit, held in got.units.items():
        # Where few stars are in a tile the rules of what is constant and complete see others: some may differ.
        assert held[:, 2] == pytest.approx(sums.units[unit][:, 2], abs=3)


def test_measure_clears_what_it_staged(store: Storage, sums: Sums) -> None:
    assert not list(store.list("staging/"))


def test_measure_beyond_memory_is_refused_before_the_start(store: Storage) -> None:
    with pytest.raises(MemoryBudgetError, match="raise --memory"):
        measure(open_snapshot(store), What(None, CONFIG), Runner(LoopExecutor(), 512 << 20))


def test_count_exposures_of_scene_counts_quality_days_and_zero_points(store: Storage) -> None:
    found = count_exposures(open_snapshot(store))
    ledger = table(store, "exposures")
    for fid in (1, 2):
        expected = dict.fromkeys(("good", "unknown", "bad"), 0)
        for quality, of in zip(ledger["quality"].to_pylist(), ledger["fid"].to_pylist(), strict=True):
            expected[quality] += of == fid
        assert plain(found)[FILTER_CODES[fid]] == expected
        assert expected["bad"] >= 1
    assert found.total == ledger.num_rows == len(UNITS) * (NIGHTS + 1)
    assert sorted(found.days) == sorted({int(t) for t in ledger["obsmjd"].to_pylist()})
    known = 1000.0 * np.array([v for v in ledger["relzp"].to_pylist() if v is not None])
    assert len(known) == found.relzp.sum() == len(UNITS) * NIGHTS
    assert (found.relzp.sum(axis=0) @ OFFSET_CENTRES) / len(known) == pytest.approx(known.mean(), abs=1.0)


@pytest.mark.parametrize(("span", "step"), [(1, 1), (60, 1), (61, 2), (400, 10), (1500, 30), (5000, 90), (9000, 365)])
def test_binned_days_of_any_span_keeps_counts_in_few_runs(span: int, step: int) -> None:
    one = np.zeros((3, 3), np.int64)
    one[1, 0] = 2
    found = Exposures(days={58300: one, 58300 + span - 1: 2 * one} if span > 1 else {58300: 3 * one})
    first, counts, got = binned_days(found)
    assert got == step
    assert len(first) <= 60
    assert counts.sum() == 6
    assert counts[0, 1, 0] >= 2
    assert first[-1] <= 58300 + span - 1 < first[-1] + step


# Numbers


@given(st.integers(10, 4000), st.floats(-50.0, 50.0), st.floats(2.0, 40.0))
def test_spread_of_any_sample_agrees_with_quantiles(n: int, middle: float, width: float) -> None:
    sample = np.random.default_rng(n).normal(middle, width, n)
    edges = np.append(RESIDUAL_CENTRES - 0.5, RESIDUAL_CENTRES[-1] + 0.5)
    counts = np.histogram(sample, edges)[0]
    got = spread_of(counts, RESIDUAL_CENTRES)
    low, high = np.quantile(sample, [0.158655, 0.841345])
    gaps = 1.0 + np.diff(np.sort(sample)).max()
    assert got.n == counts.sum()
    assert got.median == pytest.approx(np.median(sample), abs=gaps)
    assert got.rms == pytest.approx((high - low) / 2, abs=gaps)


def test_spread_of_nothing_is_nan() -> None:
    got = spread_of(np.zeros(601, np.int64), RESIDUAL_CENTRES)
    assert got.n == 0
    assert np.isnan([got.median, got.rms]).all()


@pytest.mark.parametrize("values", [[], [3.0], [np.nan, 3.0]])
def test_robust_rms_of_too_few_is_nan(values: list[float]) -> None:
    assert np.isnan(robust_rms(np.array(values)))


@given(st.floats(1e-3, 1e6))
def test_nice_limit_of_any_value_is_just_above(value: float) -> None:
    limit = nice_limit(np.array([value]), 1e-4, 1.0)
    assert value <= limit * (1.0 + 1e-6)
    assert limit <= 1.7 * value


def sums_of(units: list[Unit], mean: float = 0.01, stars: float = 40.0, phases: int = 2) -> Sums:
    """Sums of units that all have one mean residual, uniform over the quadrant."""
    bins = Bins(12.5, 0.25, 27, 6, 6)
    channels = sorted({(unit.rcid, unit.fid) for unit in units})
    cells = np.zeros((phases, 36, 3))
    cells[:, :, 0], cells[:, :, 1], cells[:, :, 2] = stars * 10, stars * 10 * mean, stars
    histogram = np.zeros((phases, bins.levels, 601), np.int64)
    histogram[:, :, 310] = 5
    scatter = np.zeros((phases, 3, 110, 200), np.int64)
    scatter[:, sorted({u.fid - 1 for u in units})] = 1
    return Sums(
        bins,
        dict.fromkeys(channels, cells),
        dict.fromkeys(channels, histogram),
        dict.fromkeys(units, cells.sum(axis=1)),
        np.zeros((phases, 3, bins.levels, 301), np.int64),
        scatter,
        np.ones((phases, 3, 110, 2)),
        True,
        1,
        1,
        1,
    )


@pytest.mark.parametrize(("stars", "factor"), [(40.0, 1), (3.0, 2), (0.9, 3), (0.3, 6), (0.0, 6)])
def test_coarse_factor_joins_cells_until_stars_suffice(stars: float, factor: int) -> None:
    assert coarse_factor(sums_of([Unit(500, 3, 2)], stars=stars)) == factor


# Time


def test_measure_of_scene_by_slice_of_time_has_the_epochs_of_its_nights(sums: Sums, scenes: list[Scene]) -> None:
    for scene in scenes:
        channel = (scene.unit.rcid, scene.unit.fid)
        edges = sums.times[channel].edges
        assert len(edges) == 3  # nine nights, four or five in a slice
        nights = 58515.25 + np.arange(NIGHTS)
        for part in range(2):
            inside = np.flatnonzero((nights > edges[part] - 0.2) & (nights < edges[part + 1] - 0.2))
            turn = (np.arange(len(scene.ra))[:, None] + inside) % NIGHTS
            for phase in range(2):
                off = residuals(scene, phase)[:, None] / 1000.0 + DEVIATIONS[turn]
                n, total, squares = sums.slices[channel][phase, part].sum(axis=0)
                assert n == off.size
                assert total == pytest.approx(off.sum(), abs=1e-6 * n)
                assert squares == pytest.approx((DEVIATIONS[turn] ** 2).sum(), rel=1e-3)


def in_time(maps: np.ndarray, steps: tuple[float, ...] = (), sigma: float = 0.01, seed: int = 1) -> Sums:
    """Sums of one channel whose map, of 12 x 12 places, is given for each slice of time, mag; 400 epochs a place."""
    n, rng = 400, np.random.default_rng(seed)
    noisy = maps + rng.normal(0.0, sigma / np.sqrt(n), maps.shape)
    held = np.stack([np.full(maps.shape, float(n)), n * noisy, np.full(maps.shape, n * sigma**2)], axis=-1)
    dates = tuple(58500.0 + 10.0 * np.arange(1, len(maps)))
    span = (58500.0, 58500.0 + 10.0 * len(maps))
    one = sums_of([Unit(500, 3, 2)], phases=1, stars=5000.0)
    return replace(one, slices={(3, 2): held.reshape(1, len(maps), 144, 3)}, times={(3, 2): Times(span, dates, steps)})


@pytest.mark.parametrize("size", [0.0, 0.004])
def test_course_of_a_step_is_its_level_and_half_its_map(size: float) -> None:
    y, x = np.divmod(np.arange(144), 12)
    pattern = np.where((x // 3 + y // 3) % 2, 1.0, -1.0)
    maps = np.stack([size * pattern * (k >= 4) + 0.001 * k for k in range(8)])
    course = course_of(in_time(maps), (3, 2))
    np.testing.assert_allclose(course.time, 58505.0 + 10.0 * np.arange(8))
    np.testing.assert_allclose(course.level[0], np.arange(8.0), atol=0.2)
    np.testing.assert_allclose(course.change[0], 500.0 * size, atol=0.35)


def test_eras_lie_between_steps_and_have_their_maps() -> None:
    maps = np.stack([np.full(144, 0.001 * k) for k in range(8)])
    sums = in_time(maps, steps=(58530.0, 58560.0), sigma=1e-6)
    eras = eras_of(sums, (3, 2))
    assert [(era.begin, era.end) for era in eras] == [(58500, 58530), (58530, 58560), (58560, 58580)]
    for era, mean in zip(eras, (1.0, 4.0, 6.5), strict=True):
        assert era.maps.shape == (1, 3, 3)  # 80 stars, at least 8 in a place
        np.testing.assert_allclose(era.maps, mean, atol=1e-3)
    assert len(eras_of(in_time(maps), (3, 2))) == 3  # parts of the time where there are no steps
    assert len(time_rows(sums)) == 8


# Pictures


def colours_in(figure_png: bytes) -> set[tuple[int, ...]]:
    import io

    from PIL import Image

    image = np.asarray(Image.open(io.BytesIO(figure_png)).convert("RGB"))
    return {tuple(colour) for colour in np.unique(image.reshape(-1, 3), axis=0).tolist()}


def test_focal_plane_draws_each_cell_where_its_pixels_are_on_the_sky() -> None:
    """One bright cell in a corner of a channel lies where the camera's mapping of pixels to the sky puts it."""
    rcid, (width, height) = 17, QUADRANT_SHAPE_PIX
    made = sums_of([Unit(500, rcid, 2)], mean=0.0, phases=1)
    cells = made.maps[rcid, 2].copy()
    column, row = 5, 0
    cells[0, row * 6 + column, 1] = 0.02 * cells[0, 0, 0]
    figure = draw_focal_plane(Sums(**{**made.__dict__, "maps": {(rcid, 2): cells}}), 2)
    (mesh,) = (c for axes in figure.axes[:1] for c in axes.collections if c.get_array() is not None)
    values = np.ma.getdata(mesh.get_array()).reshape(6, 6)
    corners = mesh.get_coordinates()
    (at,) = np.argwhere(values > 15.0)
    middle = corners[at[0] : at[0] + 2, at[1] : at[1] + 2].mean(axis=(0, 1))
    pixel = Pixels(np.array([(column + 0.5) * width / 6]), np.array([(row + 0.5) * height / 6]))
    plane = QuadrantMap.of_rcid(rcid).to_plane(pixel)
    assert middle.tolist() == pytest.approx([plane.east[0], plane.north[0]], abs=0.002)


def test_focal_plane_channels_without_data_are_grey_as_the_bar_says() -> None:
    figure = draw_focal_plane(sums_of([Unit(500, 17, 2), Unit(500, 18, 2)]), 2)
    for axes in figure.axes[:2]:
        grey = [
            patch for patch in axes.patches if to_hex(patch.get_facecolor()) == NO_DATA.lower() and patch.get_fill()
        ]
        assert len(grey) == 62
        assert not any(patch.get_hatch() for patch in axes.patches)
        left, right = axes.get_xlim()
        assert left > right  # east is left
    assert figure.axes[2].get_xlabel() == "mean of observed \N{MINUS SIGN} PS1 (mmag); grey: no data"


def test_maps_before_and_after_have_one_symmetric_scale() -> None:
    made = sums_of([Unit(500, rcid, 2) for rcid in range(9)], mean=-0.013)
    for figure in (draw_focal_plane(made, 2), draw_channels(made, 2)):
        limits = {c.get_clim() for axes in figure.axes for c in [*axes.collections, *axes.images]
                  if c.get_array() is not None}  # fmt: skip
        assert len(limits) >= 1
        assert {limit for limit in limits if limit != (None, None)} >= {(-map_limit(made), map_limit(made))}
    assert map_limit(made) == pytest.approx(15.0)


@pytest.mark.parametrize("fields", [[679, 680], [1], [245, 600, 880], list(field_grid())])
def test_view_of_fields_shows_every_quadrant_whole(fields: list[int]) -> None:
    centres = {field: field_grid()[field] for field in fields}
    view = _View.of(np.array(list(centres.values())))
    for field in fields[:: max(1, len(fields) // 50)]:
        for shape in view.project(_quadrants(centres[field])):
            # A degree wide, more of right ascension near a pole, and never torn in two at the seam.
            widest = 1.3 if not view.near else 2.0 / np.cos(np.radians(view.declinations[1] + 5))
            assert np.ptp(shape[:, 0]) < widest


def test_view_of_fields_on_both_sides_of_zero_is_near() -> None:
    view = _View.of(np.array([[358.0, 10.0], [2.0, 10.0]]))
    assert view.near
    assert view.middle == pytest.approx(0.0)
    first, second = view.project(np.array([[358.0, 10.0], [2.0, 10.0]]))[:, 0]
    assert (first, second) == (pytest.approx(-2.0), pytest.approx(2.0))


@pytest.mark.parametrize("fields", [[679, 680], sorted(field_grid())[::9]])
def test_draw_sky_colours_units_by_their_mean(fields: list[int]) -> None:
    made = sums_of([Unit(field, rcid, 2) for field in fields for rcid in (0, 30)], mean=0.01)
    figure = draw_sky(made)
    for axes in figure.axes[:2]:
        (filled,) = (c for c in axes.collections if c.get_array() is not None)
        assert len(filled.get_paths()) == 2 * len(fields)
        assert np.asarray(filled.get_array()).tolist() == pytest.approx([10.0] * 2 * len(fields))
    assert png(figure).startswith(PNG_HEAD)


# The page


class Reader(HTMLParser):
    """Checks that elements are closed in order, and gathers what the page refers to."""

    VOID = frozenset({"meta", "img", "link", "br", "hr", "input"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def made(store: Storage, catalogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report."""
    place = tmp_path_factory.mktemp("report") / "report"
    make_report(open_snapshot(store), ReportInputs(place, catalogs / "ps1.parquet"), CONFIG, runner())
    return place


def test_page_needs_nothing_but_itself(made: Path) -> None:
    text = (made / PAGE).read_text()
    reader = read(text)
    assert {"link", "script", "iframe", "object"} & set(reader.seen) == set()
    assert reader.references
    for reference in reader.references:
        head, _, data = reference.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(PNG_HEAD)
    rest = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//|@import|url\(|file:", rest.replace(str(made), ""))
    assert len(text) < 3_000_000


def test_page_shows_every_picture_before_and_after(made: Path) -> None:
    reader = read((made / PAGE).read_text())
    words = " ".join(reader.words)
    for head in SECTIONS:
        assert head in words
    assert reader.seen.count("img") == 3 + 2 * len(UNITS) + 4
    assert "uncorrected" in words
    assert "as stored" in words


def test_page_says_of_colours_and_counts_what_its_pictures_show(made: Path) -> None:
    words = " ".join(read((made / PAGE).read_text()).words)
    assert "These maps and those by channel have one scale of colours. Grey: no data." in words
    assert "The colours have a scale of their own." in words
    assert "hatched" not in words.lower()
    assert re.search(r"\d stars", words) is None  # they are objects, of one field, channel and filter each
    assert "300 objects with an isolated star" in words


def test_page_names_store_snapshot_corrections_and_cuts(made: Path, store: Storage) -> None:
    words = " ".join(read((made / PAGE).read_text()).words)
    snapshot = open_snapshot(store)
    name = table(store, "exposures")["corrections"][0].as_py()
    for expected in (store.root, snapshot.commit.time, f"{name} (20 exposures)", "12.5 to 19.25 mag", "S/N at least 5"):
        assert expected in words
    assert "have no corrections" not in words


def test_numbers_beside_the_page_are_those_of_the_store(made: Path, sums: Sums, store: Storage) -> None:
    held = json.loads((made / NUMBERS).read_text())
    assert held["snapshot"] == open_snapshot(store).number
    assert [row["rms_mmag"] for row in held["filters"]] == [row["rms_mmag"] for row in filter_rows(sums)]
    assert held["filters"][0]["units_mmag"] is None  # of one unit there is no spread
    assert len(held["channels"]) == len(UNITS)
    assert held["exposures"]["zr"] == {"good": NIGHTS, "unknown": 0, "bad": 1}


def test_report_made_twice_has_the_same_bytes(made: Path, store: Storage, catalogs: Path, tmp_path: Path) -> None:
    inputs = ReportInputs(tmp_path / "again", catalogs / "ps1.parquet")
    report = make_report(open_snapshot(store), inputs, CONFIG, runner())
    for name in (PAGE, NUMBERS):
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes()
    assert report.bytes == (made / PAGE).stat().st_size


def test_report_by_two_workers_has_the_same_bytes(made: Path, store: Storage, catalogs: Path, tmp_path: Path) -> None:
    inputs = ReportInputs(tmp_path / "again", catalogs / "ps1.parquet")
    api.Store(store).report(inputs, resources=Resources(workers=2))
    assert (tmp_path / "again" / PAGE).read_bytes() == (made / PAGE).read_bytes()


def flat_tables(place: Path) -> Path:
    """The survey's tables that make all stars brighter by 4 mmag, and those of one unit by 3 more."""
    knots = [np.concatenate([[0.5] * 3, np.linspace(150.0, 2900.0, 18), [n + 0.5] * 3]) for n in (3072, 3080)]
    channels = [(unit.rcid, unit.fid) for unit in UNITS]
    splines = {channel: Spline(*knots, np.full(441, -0.004)) for channel in channels}
    write_survey_tables(place, SurveyTables(dict.fromkeys(channels, (0.0, 0.0, 0.0)), splines, {UNITS[0]: -0.003}))
    return place


def test_report_compares_corrections_of_the_store_with_the_surveys_tables(
    store: Storage, catalogs: Path, scenes: list[Scene], tmp_path: Path
) -> None:
    tables = flat_tables(tmp_path / "tables")
    inputs = ReportInputs(tmp_path / "report", catalogs / "ps1.parquet", other=tables)
    made = make_report(open_snapshot(store), inputs, CONFIG, runner())
    assert [row["phase"] for row in made.figures] == ["uncorrected", "as stored", "with tables"] * 2
    held = json.loads((tmp_path / "report" / NUMBERS).read_text())
    by_channel = {(row["rcid"], row["filter"]): row for row in held["compared"]["channels"]}
    for scene, added in zip(scenes, (-7.0, -4.0), strict=True):
        row = by_channel[scene.unit.rcid, "zr" if scene.unit.fid == 2 else "zg"]
        assert row["median_other_mmag"] == pytest.approx(np.median(residuals(scene, 0)) + added, abs=0.6)
        assert row["median_stored_mmag"] == pytest.approx(np.median(residuals(scene, 1)), abs=0.6)
    phases = [row["phase"] for row in held["compared"]["filters"]]
    assert phases == ["as stored", "with tables"] * 2
    words = " ".join(read((tmp_path / "report" / PAGE).read_text()).words)
    assert "Corrections compared: as stored, and with tables" in words


def test_gain_rows_are_signed_roots_of_mean_squares_over_channels() -> None:
    squares = [4e-6, 16e-6, -9e-6, -9e-6, None]
    terms = ["all", "all", "colour", "colour", "time"]
    heldout = pa.table({"held": ["stars"] * 5, "term": terms, "square": pa.array(squares, pa.float64())})
    rows = {row["term"]: row["taken_mmag"] for row in gain_rows(heldout)}
    assert rows == {"all": pytest.approx(10**0.5), "colour": pytest.approx(-3.0), "time": None}
    assert gain_rows(None) == []


def test_report_compared_with_its_own_corrections_shows_no_difference(
    store: Storage, catalogs: Path, made: Path, tmp_path: Path
) -> None:
    own = write_known_corrections(tmp_path / "own")
    inputs = ReportInputs(tmp_path / "report", catalogs / "ps1.parquet", other=own)
    make_report(open_snapshot(store), inputs, CONFIG, runner())
    held = json.loads((tmp_path / "report" / NUMBERS).read_text())
    for row in held["compared"]["channels"]:
        assert (row["median_stored_mmag"], row["rms_stored_mmag"]) == (row["median_other_mmag"], row["rms_other_mmag"])
    assert held["filters"] == json.loads((made / NUMBERS).read_text())["filters"]


def test_report_compared_with_corrections_of_other_channels_is_refused(store: Storage, tmp_path: Path) -> None:
    write_set(tmp_path / "other", [Unit(500, 3, 3)])
    inputs = ReportInputs(tmp_path / "report", other=tmp_path / "other")
    refused(store, inputs, CorrectionsError, "has corrections of CCD 1, quadrant 4, filter i; expected channels of")


def test_report_without_ps1_says_so_and_what_it_can(store: Storage, tmp_path: Path) -> None:
    report = make_report(open_snapshot(store), ReportInputs(tmp_path / "report"), CONFIG, runner())
    reader = read((tmp_path / "report" / PAGE).read_text())
    words = " ".join(reader.words)
    assert not report.against_ps1
    assert "Made without a PS1 catalog" in words
    assert "of epochs about their lightcurves" in words
    assert "focal plane" not in words
    assert reader.seen.count("img") == 6


def test_report_of_uncorrected_snapshot_says_so(store: Storage, catalogs: Path, tmp_path: Path) -> None:
    inputs = ReportInputs(tmp_path / "report", catalogs / "ps1.parquet")
    report = make_report(open_snapshot(store, 1), inputs, CONFIG, runner())
    words = " ".join(read((tmp_path / "report" / PAGE).read_text()).words)
    assert report.corrections == []
    assert "no corrections: all magnitudes are as measured" in words
    assert "as stored" not in words.replace("as stored, which it should follow", "")


def test_report_of_too_few_epochs_has_empty_pictures(tmp_path: Path) -> None:
    unit = Unit(900, 3, 1)
    rows = rows_at([10.0, 10.1], [5.0, 5.0], flux=np.array([900.0, 30_000.0]))
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, rows, unit)])
    append(storage, [epochal_file(tmp_path, rows, night, unit) for night in (0, 1)])
    report = make_report(open_snapshot(storage), ReportInputs(tmp_path / "report"), CONFIG, runner())
    assert (report.used, report.detections) == (0, 4)
    assert report.figures[0]["epochs_mmag"] is None
    reader = read((tmp_path / "report" / PAGE).read_text())
    assert reader.seen.count("img") == 4
    assert "\N{EN DASH}" in reader.words


def test_page_names_fields_that_are_not_in_the_grid() -> None:
    assert _off_grid(sums_of([Unit(679, 3, 1)])) == ""
    assert _off_grid(sums_of([Unit(679, 3, 1), Unit(900, 3, 1)])).endswith("field 900.")


def test_render_of_hostile_text_escapes_it() -> None:
    evil = "<script>alert(\"x\")</script> & 'y'"
    grid = Grid([evil, "n"], [[evil, 3], [evil, float("nan")]], evil, evil)
    page = Page(evil, evil, {evil: evil}, [Section(evil, evil, [grid], [Picture(b"x", evil, evil)])], [evil])
    text = render(page)
    assert "<script" not in text
    assert read(text).words.count(evil) == 14


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.04, "0.0"),
        (1234, "1,234"),
        (-0.25, "\N{MINUS SIGN}0.2"),
        (float("nan"), "\N{EN DASH}"),
        (None, "\N{EN DASH}"),
        ("a", "a"),
    ],
)
def test_number_of_value_is_for_people(value: object, text: str) -> None:
    assert number(value) == text


def test_render_of_judged_number_tells_good_from_poor() -> None:
    text = render(Page("t", "s", {}, [Section("a", "", [Grid(["x"], [[Judged(6.9, True)], [Judged(7.1, False)]])])]))
    assert '<td class="good">6.9</td>' in text
    assert '<td class="poor">7.1</td>' in text


# What is refused


def refused(storage: Storage, inputs: ReportInputs, error: type[Exception], match: str) -> None:
    """Refused with one clear error, and nothing is left behind."""
    before = sorted(inputs.output.parent.rglob("*"))
    with pytest.raises(error, match=match):
        make_report(open_snapshot(storage), inputs, CONFIG, runner())
    assert sorted(inputs.output.parent.rglob("*")) == before
    assert not list(storage.list("staging/"))


def test_report_into_directory_with_files_is_refused(store: Storage, tmp_path: Path) -> None:
    place = tmp_path / "report"
    place.mkdir()
    (place / "mine.txt").write_text("x")
    refused(store, ReportInputs(place), ConfigError, r"report is there already; give a new place")


def test_report_into_file_is_refused(store: Storage, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("x")
    refused(store, ReportInputs(tmp_path / "report"), ConfigError, "is there already")


def test_report_into_empty_directory_is_made(store: Storage, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    make_report(open_snapshot(store), ReportInputs(tmp_path / "report"), CONFIG, runner())
    assert {path.name for path in (tmp_path / "report").iterdir()} == {PAGE, NUMBERS}


def test_report_with_ps1_that_lacks_columns_is_refused(store: Storage, tmp_path: Path) -> None:
    path = tmp_path / "ps1.parquet"
    pq.write_table(pa.table({"ra": [150.0], "dec": [20.0], "g": [15.0]}), path)
    refused(store, ReportInputs(tmp_path / "report", path), MetadataError, "needs a column r ")


def test_report_with_ps1_elsewhere_is_refused(store: Storage, tmp_path: Path) -> None:
    path = tmp_path / "ps1.parquet"
    pq.write_table(pa.table({name: [12.0] for name in ("ra", "dec", "g", "r", "i")}), path)
    refused(store, ReportInputs(tmp_path / "report", path), MetadataError, "covers none of the sky")


def test_report_with_ps1_that_is_none_is_refused(store: Storage, tmp_path: Path) -> None:
    refused(store, ReportInputs(tmp_path / "report", tmp_path / "no.parquet"), MetadataError, "no such PS1 catalog")


def test_report_of_store_without_detections_is_refused(tmp_path: Path) -> None:
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, rows_at([10.0, 10.1], [5.0, 5.0]))])
    refused(storage, ReportInputs(tmp_path / "out" / "report"), MetadataError, "no detections to report on")


# The command


def test_command_writes_page_and_prints_figures(
    store: Storage, catalogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_terminal(monkeypatch, 80)
    place = tmp_path / "report"
    words = ["report", store.root, "-o", str(place), "--ps1", str(catalogs / "ps1.parquet"), "--ps1-column", "star=i"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "relative to PS1, 300 objects with a PS1 star" in done.output
    assert "as stored" in done.output
    check_fits(done.stdout, 80)
    assert (place / PAGE).is_file()


def test_command_as_json_is_json(store: Storage, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", store.root, "-o", str(tmp_path / "report"), "--snapshot", "1", "--json"])
    assert done.exit_code == 0, done.output
    held = json.loads(done.stdout)
    assert (held["snapshot"], held["against_ps1"]) == (1, False)
    assert held["exposures"]["zg"] == {"good": NIGHTS, "unknown": 0, "bad": 1}


def test_command_with_cuts_applies_them(store: Storage, catalogs: Path, scenes: list[Scene], tmp_path: Path) -> None:
    place = tmp_path / "report"
    cuts = ["--bright", "14.5", "--faint", "16.5", "--cells", "10", "--min-epochs", "4"]
    words = ["report", store.root, "-o", str(place), "--ps1", str(catalogs / "ps1.parquet"), "--json", *cuts]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    inside = sum(((scene.expected >= 14.5) & (scene.expected < 16.5)).sum() for scene in scenes)
    assert json.loads(done.stdout)["used"] == NIGHTS * inside
    page = " ".join(read((place / PAGE).read_text()).words)
    assert "at least 4 such epochs" in page
    assert "14.5 to 16.5 mag" in page


def test_command_with_impossible_cuts_is_wrong(store: Storage, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", store.root, "-o", str(tmp_path / "r"), "--min-epochs", "1"])
    assert done.exit_code == 2
    assert "--min-epochs is 1; expected at least 3" in done.output
    assert not (tmp_path / "r").exists()


def test_command_with_columns_of_no_catalog_is_wrong(store: Storage, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", store.root, "-o", str(tmp_path / "r"), "--ps1-column", "ra=RA"])
    assert done.exit_code == 2
    assert "give that too" in done.output
    assert not (tmp_path / "r").exists()
