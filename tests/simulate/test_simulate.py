"""The simulator against the survey's own files, and against its own truth."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from ztfmatch.core.camera import (
    Pixels,
    Plane,
    Pointing,
    QuadrantMap,
    field_centre,
    field_grid,
    quadrant_corners,
    sky_positions,
    unit_vectors,
)
from ztfmatch.core.errors import CatalogError, ConfigError
from ztfmatch.core.survey import Unit, exposureid_of, parse_catalog_name, psfcat_name
from ztfmatch.simulate import SimulationConfig, Simulator, benchmark_unit, dataset, regenerate_references, simulate
from ztfmatch.simulate.catalogs import UnitSky, position_scatter_arcsec
from ztfmatch.simulate.exposures import schedule
from ztfmatch.simulate.fitsout import ROW, card, catalog_bytes
from ztfmatch.simulate.layout import EXPOSURE_COLUMNS, catalog_path, reference_path
from ztfmatch.simulate.sky import Sky, cells_near, close_pairs
from ztfmatch.simulate.systematics import ChannelSystematics, cell_centres, field_offset, model_error
from ztfmatch.simulate.variability import (
    CONSTANT,
    ECLIPSING,
    FLARE,
    GONE_MAG,
    KINDS,
    MIRA,
    RR_LYRAE,
    TRANSIENT,
    Variation,
    magnitude_change,
)

TINY = SimulationConfig(
    seed=7,
    fields=(679, 680),
    rcids=(16, 29),
    filters=(1, 2),
    n_exposures=6,
    stars_per_quadrant=1_500,
    epoch_depth=0.6,
    n_nights=20,
    variable_fraction=0.05,
    bad_fraction=0.3,
    spurious_fraction=0.03,
    nonpositive_fraction=1e-3,
)
REAL_REFERENCE = "refpsfcat/ztf_000202_zg_c10_q1_refpsfcat.fits"


@pytest.fixture(scope="module")
def real_data() -> Path:
    """Real data products; tests that need them are skipped where they are absent."""
    fallback = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("ZTFMATCH_DATA", fallback))
    if not (root / REAL_REFERENCE).is_file():
        pytest.skip(f"no real data products at {root}; set ZTFMATCH_DATA to their directory")
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set with everything in it."""
    directory = tmp_path_factory.mktemp("simulated") / "tiny"
    simulate(directory, TINY)
    return directory


def catalogs_of(directory: Path) -> list[Path]:
    return sorted((directory / "catalogs").rglob("*.fits"))


def references_of(directory: Path) -> list[Path]:
    return sorted((directory / "references").rglob("*.fits"))


def truth(directory: Path, table: str) -> dict[str, np.ndarray]:
    read = pq.read_table(directory / "truth" / f"{table}.parquet")
    return {name: np.asarray(read[name].to_pylist()) for name in read.column_names}


def plane_of(path: Path, field: int) -> tuple[Plane, np.ndarray]:
    rows = fits.getdata(path, 1)
    xyz = unit_vectors(rows["ra"].astype(float), rows["dec"].astype(float))
    return Pointing(*field_centre(field)).project(xyz), rows


# Geometry


def test_field_grid_all_fields_present() -> None:
    grid = field_grid()
    assert len(grid) == 1_778
    assert all(1 <= field <= 881 or 1001 <= field <= 1897 for field in grid)
    assert grid[202] == (23.87318, -31.45)


def test_field_centre_unknown_field_raises() -> None:
    with pytest.raises(ConfigError, match="field 950 is not in the survey's grid"):
        field_centre(950)


def test_quadrant_corners_ccd_is_seamless_and_ccds_do_not_overlap() -> None:
    boxes = np.array([[*quadrant_corners(r).min(axis=0), *quadrant_corners(r).max(axis=0)] for r in range(64)])
    assert np.allclose(boxes[:, 2:] - boxes[:, :2], 0.8635, atol=0.003)
    for ccd in range(16):
        q1, q2, q3, q4 = boxes[4 * ccd : 4 * ccd + 4]
        assert q1[0] == pytest.approx(q2[2], abs=5e-4)
        assert q1[1] == pytest.approx(q4[3], abs=2e-3)
        assert q2[1] == pytest.approx(q3[3], abs=2e-3)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    assert shared[~np.eye(64, dtype=bool)].max() < 0.003


@pytest.mark.parametrize("rcid", [0, 13, 36, 63])
def test_quadrant_map_corners_are_image_corners(rcid: int) -> None:
    quadrant = QuadrantMap.of_rcid(rcid)
    pixels = quadrant.to_pixels(Plane(*quadrant_corners(rcid).T))
    expected = [[3072.5, 3072.5, 0.5, 0.5], [3080.5, 0.5, 0.5, 3080.5]]
    assert np.abs(np.array(pixels) - expected).max() < 2.0
    assert np.hypot(quadrant.matrix[0], quadrant.matrix[2]) * 3600 == pytest.approx(1.0123, abs=0.004)
    assert np.hypot(quadrant.matrix[1], quadrant.matrix[3]) * 3600 == pytest.approx(1.0123, abs=0.004)


@given(rcid=st.integers(0, 63), x=st.floats(-100, 3200), y=st.floats(-100, 3200))
def test_quadrant_map_round_trip(rcid: int, x: float, y: float) -> None:
    quadrant = QuadrantMap.of_rcid(rcid)
    back = quadrant.to_pixels(quadrant.to_plane(Pixels(np.array([x]), np.array([y]))))
    assert back.x[0] == pytest.approx(x, abs=1e-8)
    assert back.y[0] == pytest.approx(y, abs=1e-8)


@pytest.mark.parametrize("field", [1, 202, 679, 881, 1001])
def test_pointing_project_agrees_with_astropy(field: int) -> None:
    ra, dec = field_centre(field)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [0.0, 0.0]
    wcs.wcs.cdelt = [1.0, 1.0]
    rng = np.random.default_rng(field)
    east, north = rng.uniform(-4, 4, (2, 500))
    xyz = Pointing(ra, dec).deproject(Plane(east, north))
    got_ra, got_dec = sky_positions(xyz)
    pixels = wcs.wcs_world2pix(np.stack([got_ra, got_dec], axis=1), 1)
    assert np.abs(pixels - np.stack([east, north], axis=1)).max() < 1e-10
    again = Pointing(ra, dec).project(unit_vectors(got_ra, got_dec))
    assert np.abs(np.array(again) - [east, north]).max() < 1e-9


def test_pointing_dither_moves_stars_against_it() -> None:
    ra, dec = field_centre(679)
    star = Pointing(ra, dec).deproject(Plane(np.array([1.0]), np.array([-2.0])))
    moved = Pointing(ra, dec, dither_deg=(0.01, -0.02)).project(star)
    assert moved.east[0] == pytest.approx(0.99, abs=1e-3)
    assert moved.north[0] == pytest.approx(-1.98, abs=1e-3)
    turned = Pointing(ra, dec, rotation_deg=90.0).project(star)
    assert (turned.east[0], turned.north[0]) == pytest.approx((2.0, 1.0), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "field", "rcid"),
    [
        (REAL_REFERENCE, 202, 36),
        ("replay/dr5_250/ztf_000250_zg_c01_q1_refpsfcat.fits", 250, 0),
        ("replay/matchfile_245/ztf_000245_zr_c10_q1_refpsfcat.fits", 245, 36),
    ],
)
def test_quadrant_footprint_holds_real_sources(real_data: Path, name: str, field: int, rcid: int) -> None:
    plane, rows = plane_of(real_data / name, field)
    low, high = quadrant_corners(rcid).min(axis=0), quadrant_corners(rcid).max(axis=0)
    two_arcmin = 2.0 / 60.0
    for values, west, east in zip(plane, low, high, strict=True):
        assert values.min() > west - two_arcmin
        assert values.max() < east + two_arcmin
    if len(rows) > 1_000:
        span = np.array([np.ptp(values) for values in plane])
        assert np.abs(span - (high - low)).max() < two_arcmin


def test_reference_pixels_follow_real_reference(real_data: Path) -> None:
    plane, rows = plane_of(real_data / REAL_REFERENCE, 202)
    pixels = QuadrantMap.of_rcid(36).reference_pixels(plane)
    for got, real in zip(pixels, (rows["xpos"], rows["ypos"]), strict=True):
        difference = got - real
        assert abs(np.median(difference)) < 120.0
        assert np.abs(difference - np.median(difference)).max() < 5.0


def test_quadrant_map_follows_real_epochs(real_data: Path) -> None:
    quadrant = QuadrantMap.of_rcid(36)
    offsets = []
    for path in sorted((real_data / "replay/matchfile_245").glob("*_o_q1_psfcat.fits")):
        plane, rows = plane_of(path, 245)
        if len(rows) < 4:
            continue
        pixels = quadrant.to_pixels(plane)
        shift = np.stack([pixels.x - rows["xpos"], pixels.y - rows["ypos"]])
        offsets.append(np.median(shift, axis=1))
        assert np.abs(shift - np.median(shift, axis=1)[:, None]).max() < 8.0
    assert len(offsets) > 50
    dithers = np.std(offsets, axis=0) * 1.0123
    assert (dithers > 15.0).all()
    assert (dithers < 90.0).all()
    assert np.abs(np.median(offsets, axis=0)).max() < 120.0


# Sky


@settings(deadline=None, max_examples=30)
@given(n=st.integers(0, 400), seed=st.integers(0, 10**6), radius=st.floats(0.5, 30.0))
def test_close_pairs_equals_tree(n: int, seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    pointing = Pointing(10.0, 80.0)
    xyz = pointing.deproject(Plane(*rng.uniform(-0.02, 0.02, (2, n))))
    one, other = close_pairs(xyz, pointing.project(xyz), radius)
    got = {tuple(sorted(p)) for p in zip(one.tolist(), other.tolist(), strict=True)}
    assert len(got) == len(one)
    chord = 2 * np.sin(np.radians(radius / 7200))
    assert got == (set(cKDTree(xyz.T).query_pairs(chord)) if n else set())


@pytest.mark.parametrize(("ra", "dec"), [(10.0, 40.0), (0.05, -0.1), (200.0, 89.9), (30.0, -90.0)])
def test_cells_near_cover_the_cap(ra: float, dec: float) -> None:
    centre = unit_vectors(np.array([ra]), np.array([dec]))
    cells = cells_near(centre[:, 0], 0.6)
    rng = np.random.default_rng(1)
    radius = np.radians(0.6) * np.sqrt(rng.random(3_000))
    angle = rng.uniform(0, 2 * np.pi, 3_000)
    plane = Plane(np.degrees(np.tan(radius) * np.cos(angle)), np.degrees(np.tan(radius) * np.sin(angle)))
    point_ra, point_dec = sky_positions(Pointing(ra, dec).deproject(plane))
    held = np.zeros(3_000, dtype=int)
    for cell in cells:
        in_ra = (point_ra >= cell.ra[0]) & (point_ra < cell.ra[1])
        held += in_ra & (point_dec >= cell.dec[0]) & (point_dec < cell.dec[1])
    assert (held == 1).all()
    assert len({cell.number for cell in cells}) == len(cells)


def test_region_star_count_and_magnitudes_follow_the_reference() -> None:
    config = SimulationConfig(stars_per_quadrant=18_833, variable_fraction=0.0)
    sky = UnitSky(config, Sky(config).region(679, 16), 1)
    rows, _ = sky.reference()
    assert len(rows) == pytest.approx(18_833 * 0.98, rel=0.03)
    rest = sky.magnitudes[sky.stars.kind != TRANSIENT]
    assert np.percentile(rest, [5, 25, 50, 75, 95]) == pytest.approx([20.13, 21.65, 21.86, 22.00, 22.19], abs=0.1)
    assert rest.min() >= 11.8
    assert rest.max() <= 22.61


def test_magnitudes_follow_real_reference(real_data: Path) -> None:
    real = fits.getdata(real_data / REAL_REFERENCE, 1)["mag"] + 26.325
    config = SimulationConfig(stars_per_quadrant=18_833)
    sky = UnitSky(config, Sky(config).region(679, 16), 1)
    rest = sky.magnitudes[sky.stars.kind == CONSTANT]
    q = [2, 10, 30, 50, 70, 90, 99]
    assert np.percentile(rest, q) == pytest.approx(np.percentile(real, q), abs=0.15)


@pytest.mark.parametrize("stars", [2_000, 60_000])
def test_reference_sources_never_closer_than_resolution(stars: int) -> None:
    config = SimulationConfig(stars_per_quadrant=stars)
    rows, _ = UnitSky(config, Sky(config).region(679, 16), 2).reference()
    assert len(rows) == pytest.approx(stars * 0.98, rel=0.05)
    xyz = unit_vectors(rows["ra"].astype(float), rows["dec"].astype(float)).T
    nearest = cKDTree(xyz).query(xyz, k=2)[0][:, 1]
    assert np.degrees(nearest.min()) * 3600 > 1.94


def test_region_dense_field_has_more_stars() -> None:
    config = SimulationConfig(stars_per_quadrant=1_000, dense_field=679, dense_factor=8.0)
    dense = len(Sky(config).region(679, 36).stars)
    assert dense > 6 * len(Sky(config).region(650, 36).stars)


def test_region_same_stars_whichever_field_looks() -> None:
    config = SimulationConfig(stars_per_quadrant=5_000)
    east, west = Sky(config).region(679, 16), Sky(config).region(680, 29)
    shared, a, b = np.intersect1d(east.stars.star_id, west.stars.star_id, return_indices=True)
    assert len(shared) > 200
    assert np.array_equal(east.stars.xyz[:, a], west.stars.xyz[:, b])
    assert np.array_equal(east.stars.g[a], west.stars.g[b])
    # Where both look, neither has a star that the other lacks.
    plane = west.pointing.project(east.stars.xyz)
    low, high = quadrant_corners(29).min(axis=0), quadrant_corners(29).max(axis=0)
    seen = (plane.east > low[0]) & (plane.east < high[0]) & (plane.north > low[1]) & (plane.north < high[1])
    assert np.isin(east.stars.star_id[seen], west.stars.star_id).all()


@pytest.mark.parametrize("field", [1, 876])
def test_region_near_the_poles_has_its_stars(field: int) -> None:
    config = SimulationConfig(stars_per_quadrant=3_000)
    rows, _ = UnitSky(config, Sky(config).region(field, 36), 1).reference()
    assert len(rows) == pytest.approx(3_000, rel=0.08)


# Files


def test_simulate_catalogs_are_valid_fits(tiny: Path) -> None:
    for path in [*catalogs_of(tiny)[::10], *references_of(tiny)]:
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert len(hdus) == 2
            assert hdus[0].header["NAXIS"] == 0
            assert hdus[0].header["NSOURCES"] == len(hdus[1].data) > 100
        assert path.stat().st_size % 2880 == 0


def test_simulate_layout_equals_real_reference(tiny: Path, real_data: Path) -> None:
    with fits.open(real_data / REAL_REFERENCE) as real, fits.open(references_of(tiny)[0]) as ours:
        assert [key for key in real[0].header if key != "COMMENT"] == list(ours[0].header)
        assert real[1].columns.names == ours[1].columns.names
        assert real[1].columns.formats == ours[1].columns.formats
        assert real[1].columns.units == ours[1].columns.units
        assert real[1].header["EXTNAME"] == ours[1].header["EXTNAME"]
        assert real[1].header["NAXIS1"] == ours[1].header["NAXIS1"] == 58
        assert list(real[1].header) == list(ours[1].header)


def test_simulate_names_and_headers_agree(tiny: Path) -> None:
    for path in catalogs_of(tiny):
        name = parse_catalog_name(path.name)
        header = fits.getheader(path, 0)
        assert name is not None
        assert name.fracday is not None
        unit = Unit(header["FIELDID"], header["RCID"], header["FILTERID"])
        assert name.unit == unit
        assert (header["CCDID"], header["QID"]) == (unit.ccdid, unit.qid)
        assert path.relative_to(tiny / "catalogs") == catalog_path(unit, name.fracday)
        assert {"MAGZP", "MAGZPUNC", "MAGZPRMS", "CLRCOEFF", "CLRCOUNC", "PCOLOR", "INFOBITS"} <= set(header)
        assert "EXPTIME" not in header
    for path in references_of(tiny):
        name = parse_catalog_name(path.name)
        assert name is not None
        assert path.relative_to(tiny / "references") == reference_path(name.unit)


def test_simulate_rows_are_rounded_and_ordered_as_the_survey_does(tiny: Path) -> None:
    for path in [catalogs_of(tiny)[3], references_of(tiny)[1]]:
        rows = fits.getdata(path, 1)
        assert np.array_equal(rows["sourceid"], np.arange(len(rows)))
        assert (np.diff(rows["ypos"]) >= 0).all()
        for name in ("ra", "dec"):
            assert np.array_equal(np.round(rows[name], 7), rows[name])
        for name in ("xpos", "ypos", "mag", "sigmag", "chi", "sharp"):
            exact = rows[name].astype(np.float64)
            assert np.array_equal(np.round(exact, 3).astype(np.float32), rows[name], equal_nan=True), name
        bright = rows["flux"] > 0
        assert bright.mean() > 0.99
        flux, sigma = (rows[name][bright].astype(np.float64) for name in ("flux", "sigflux"))
        assert np.abs(rows["mag"][bright] + 2.5 * np.log10(flux)).max() < 6e-4
        assert np.abs(rows["sigmag"][bright] - 1.0857 * sigma / flux).max() < 6e-4
        assert np.abs(rows["snr"][bright] - flux / sigma).max() < 6e-3
        assert (rows["ra"] >= 0).all()
        assert (rows["ra"] < 360).all()


def test_simulate_nonpositive_rows_have_no_magnitude(tiny: Path) -> None:
    rows = np.concatenate([np.asarray(fits.getdata(path, 1)) for path in catalogs_of(tiny)])
    below = rows["flux"] <= 0
    assert 5 < below.sum() < 0.003 * len(rows)
    assert np.isnan(rows["mag"][below]).all()
    assert np.isfinite(rows["mag"][~below]).all()


def test_simulate_flags_are_realistic(tiny: Path) -> None:
    rows = np.concatenate([np.asarray(fits.getdata(path, 1)) for path in catalogs_of(tiny)])
    edge = rows["flags"] == -1
    at_edge = (rows["xpos"] < 2.5) | (rows["ypos"] < 2.5) | (rows["xpos"] > 3070.5) | (rows["ypos"] > 3078.5)
    assert np.array_equal(edge, at_edge)
    assert edge.any()
    flags = rows["flags"][~edge]
    assert (flags & 2).all()
    assert ((flags & 2048) > 0).mean() > 0.95
    clean = (flags & ~(2 + 2048)) == 0
    assert 0.9 < clean.mean() < 0.995


def test_simulate_equal_settings_write_equal_bytes(tiny: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again", TINY)
    files = {p.relative_to(tiny) for p in tiny.rglob("*") if p.is_file()}
    assert files == {p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()}
    for name in files:
        assert (tiny / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_detect_any_order_gives_the_same_catalog(tiny: Path) -> None:
    simulator = Simulator(TINY)
    sky = UnitSky(TINY, simulator.region(680, 29), 2)
    exposure = simulator.exposures_of(sky.unit)[-1]
    catalog, _ = sky.detect(exposure)
    on_disk = fits.getdata(tiny / "catalogs" / catalog_path(sky.unit, exposure.fracday), 1)
    assert on_disk.tobytes() == catalog.rows.tobytes()


def test_simulate_another_seed_gives_another_sky() -> None:
    one, two = (Sky(SimulationConfig(seed=s, stars_per_quadrant=300)).region(679, 16) for s in (1, 2))
    assert not np.isin(one.stars.ra, two.stars.ra).any()


def test_simulate_summary_counts_what_is_on_disk(tiny: Path) -> None:
    about = json.loads((tiny / "simulation.json").read_text())
    summary = about["summary"]
    files = catalogs_of(tiny)
    assert summary["catalogs"] == len(files) == 2 * 2 * 2 * 6
    assert summary["exposures"] == 24
    assert summary["references"] == len(references_of(tiny)) == 8
    assert summary["rows"] == sum(fits.getheader(p, 1)["NAXIS2"] for p in files)
    assert summary["seeds"] == sum(fits.getheader(p, 1)["NAXIS2"] for p in references_of(tiny))
    assert summary["bytes"] == sum(p.stat().st_size for p in [*files, *references_of(tiny)])
    assert about["config"]["seed"] == 7


def test_simulate_reports_progress(tmp_path: Path) -> None:
    config = SimulationConfig(
        fields=(679,), rcids=(16,), filters=(3,), n_exposures=3, stars_per_quadrant=50, full_headers=True
    )
    seen: list[tuple[int, int]] = []
    simulate(tmp_path / "out", config, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    header = fits.getheader(catalogs_of(tmp_path / "out")[0], 0)
    assert header["EXPTIME"] == 30.0
    assert {"EXPID", "PROGRMID", "AIRMASS", "SEEING", "MAGLIM"} <= set(header)
    assert header["PCOLOR"] == "R-i"


def test_simulate_again_after_a_killed_run_gives_the_whole_data_set(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = dataset.write_catalog, []

    def killed(path: Path, *arguments: Any) -> int:
        if len(written) == 10:
            written[-1].write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path)
        return real(path, *arguments)

    place = tmp_path / "out"
    monkeypatch.setattr(dataset, "write_catalog", killed)
    with pytest.raises(KeyboardInterrupt):
        simulate(place, TINY)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="is not empty"):
        simulate(place, replace(TINY, seed=TINY.seed + 1))
    simulate(place, TINY)
    files = {path.relative_to(tiny) for path in tiny.rglob("*") if path.is_file()}
    assert {path.relative_to(place) for path in place.rglob("*") if path.is_file()} == files
    assert all((place / path).read_bytes() == (tiny / path).read_bytes() for path in files)


def test_simulate_directory_not_empty_raises(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        simulate(tmp_path, TINY)


@pytest.mark.parametrize(
    ("key", "value"), [("MAGZP", 26.325), ("SMALL", 1.05e-05), ("N", -3), ("T", True), ("S", "it's")]
)
def test_card_read_back_by_astropy(key: str, value: object) -> None:
    text = card(key, value, "a comment")
    assert len(text) == 80
    got = fits.Card.fromstring(text)
    got.verify("exception")
    assert (got.keyword, got.value, got.comment) == (key, value, "a comment")


def test_card_not_finite_raises() -> None:
    with pytest.raises(ValueError, match="card X is nan"):
        card("X", float("nan"))


def test_catalog_bytes_no_rows_is_valid() -> None:
    content = catalog_bytes({"MAGZP": 26.0}, np.zeros(0, dtype=ROW))
    with fits.HDUList.fromstring(content) as hdus:
        hdus.verify("exception")
        assert len(hdus[1].data) == 0


# Exposures


def test_schedule_exposures_never_overlap_and_names_precede_starts() -> None:
    exposures = schedule(SimulationConfig(n_exposures=300, n_nights=10))
    starts = np.array([e.obsmjd for e in exposures])
    assert (np.diff(starts) * 86_400 > 30.0).all()
    assert len({e.fracday for e in exposures}) == len({e.expid for e in exposures}) == len(exposures)
    names = [f"{e.fracday}" for e in exposures]
    days = np.array([f"{name[:4]}-{name[4:6]}-{name[6:8]}" for name in names], dtype="datetime64[D]")
    named = (days - np.datetime64("1858-11-17")).astype(float) + [int(name[8:]) / 1e6 for name in names]
    lag = (starts - named) * 86_400
    assert lag.min() > -0.1
    assert lag.max() < 119.0
    assert np.std(lag) > 20.0


def test_schedule_programs_and_bad_exposures_have_their_parts() -> None:
    exposures = schedule(SimulationConfig(n_exposures=1_000, n_nights=100))
    programs = np.bincount([e.programid for e in exposures], minlength=4)[1:] / len(exposures)
    assert programs == pytest.approx([0.4, 0.4, 0.2], abs=0.03)
    assert np.mean([e.bad != "good" for e in exposures]) == pytest.approx(0.1, abs=0.02)
    assert {e.bad for e in exposures} == {"good", "cloud", "scatter", "few matches"}


def test_schedule_too_many_exposures_raises() -> None:
    with pytest.raises(ConfigError, match="do not fit in n_nights=1"):
        SimulationConfig(n_exposures=500, n_nights=1).validate()


def test_exposure_table_has_what_headers_lack(tiny: Path) -> None:
    with (tiny / "exposures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == EXPOSURE_COLUMNS
    assert len(rows) == len(catalogs_of(tiny))
    for row in rows:
        unit = Unit(int(row["field"]), int(row["rcid"]), int(row["fid"]))
        path = tiny / "catalogs" / catalog_path(unit, int(row["filefracday"]))
        header = fits.getheader(path, 0)
        assert float(row["obsmjd"]) == header["OBSMJD"]
        assert int(row["expid"]) == int((header["OBSMJD"] - 57_754) * 1e5)
        assert row["programid"] in {"1", "2", "3"}
        assert float(row["exptime"]) == 30.0
    shared = {}
    for row in rows:
        key = (row["obsmjd"], row["expid"], row["programid"], row["field"], row["fid"])
        assert shared.setdefault(row["filefracday"], key) == key


def test_bad_exposures_break_the_survey_rule_and_good_ones_keep_it(tmp_path: Path) -> None:
    config = SimulationConfig(filters=(1, 2, 3), n_exposures=60, stars_per_quadrant=20, bad_fraction=0.4, rcids=(0, 36))
    simulate(tmp_path / "out", config)
    upper, slope = {1: 26.7, 2: 26.65, 3: 26.0}, {1: 0.20, 2: 0.15, 3: 0.07}
    # Lowest and highest threshold of any channel.
    lower = {1: (25.6712, 25.9225), 2: (25.6199, 25.9759), 3: (25.0073, 25.4924)}
    most_rms, fewest = {1: 0.06, 2: 0.05, 3: 0.06}, {1: 80, 2: 120, 3: 100}
    exposures = truth(tmp_path / "out", "exposures")
    for i in range(len(exposures["fid"])):
        fid = int(exposures["fid"][i])
        zero = exposures["magzp"][i] + slope[fid] * exposures["airmass"][i]
        unclear = zero > upper[fid] or exposures["magzprms"][i] > most_rms[fid]
        unclear |= bool(exposures["nmatches"][i] < fewest[fid])
        if exposures["bad"][i]:
            assert unclear or zero < lower[fid][0]
        else:
            assert not unclear
            assert zero > lower[fid][1]


# Truth


def test_truth_every_row_has_its_star_and_position(tiny: Path) -> None:
    stars = truth(tiny, "stars")
    detections = truth(tiny, "detections")
    exposures = truth(tiny, "exposures")
    assert len(np.unique(stars["star_id"])) == len(stars["star_id"])
    order = np.argsort(stars["star_id"])
    per_exposure = {int(e): np.flatnonzero(detections["exposureid"] == e) for e in exposures["exposureid"]}
    assert sum(map(len, per_exposure.values())) == len(detections["star_id"])
    worst = []
    for path in catalogs_of(tiny):
        name = parse_catalog_name(path.name)
        assert name is not None
        assert name.fracday is not None
        rows = fits.getdata(path, 1)
        mine = per_exposure[exposureid_of(name.fracday, name.unit.rcid)]
        assert np.array_equal(detections["sourceid"][mine], rows["sourceid"])
        real = detections["star_id"][mine] >= 0
        assert np.array_equal(real, detections["kind"][mine] != "spurious")
        at = order[np.searchsorted(stars["star_id"][order], detections["star_id"][mine][real])]
        assert np.array_equal(stars["star_id"][at], detections["star_id"][mine][real])
        here = unit_vectors(rows["ra"][real].astype(float), rows["dec"][real].astype(float))
        there = unit_vectors(stars["ra"][at], stars["dec"][at])
        separation = np.degrees(np.linalg.norm(here - there, axis=0)) * 3600
        sigma = position_scatter_arcsec(detections["true_mag"][mine][real].astype(float))
        worst.append(separation / sigma)
    scaled = np.concatenate(worst)
    assert scaled.max() < 6.5
    assert np.sqrt(np.mean(scaled**2) / 2) == pytest.approx(1.0, abs=0.02)


def test_truth_pixels_follow_positions_dithers_included(tiny: Path) -> None:
    exposures = truth(tiny, "exposures")
    for path in catalogs_of(tiny)[::5]:
        name = parse_catalog_name(path.name)
        assert name is not None
        assert name.fracday is not None
        row = int(np.flatnonzero(exposures["exposureid"] == exposureid_of(name.fracday, name.unit.rcid))[0])
        dither = (exposures["dither_east_arcsec"][row] / 3600, exposures["dither_north_arcsec"][row] / 3600)
        pointing = Pointing(*field_centre(name.unit.field), dither, exposures["rotation_deg"][row])
        rows = fits.getdata(path, 1)
        xyz = unit_vectors(rows["ra"].astype(float), rows["dec"].astype(float))
        pixels = QuadrantMap.of_rcid(name.unit.rcid).to_pixels(pointing.project(xyz))
        assert np.abs(pixels.x - rows["xpos"]).max() < 2e-3
        assert np.abs(pixels.y - rows["ypos"]).max() < 2e-3
    assert np.std(exposures["dither_east_arcsec"]) > 15.0


def test_truth_noise_follows_error_model_once_systematics_are_off(tiny: Path) -> None:
    detections, exposures, stars = (truth(tiny, t) for t in ("detections", "exposures", "stars"))
    order = np.argsort(stars["star_id"])
    pulls = []
    for path in catalogs_of(tiny):
        header, rows = fits.getheader(path, 0), fits.getdata(path, 1)
        name = parse_catalog_name(path.name)
        assert name is not None
        assert name.fracday is not None
        eid = exposureid_of(name.fracday, name.unit.rcid)
        mine = np.flatnonzero(detections["exposureid"] == eid)
        keep = (detections["kind"][mine] == "star") & (rows["flux"] > 0)
        at = order[np.searchsorted(stars["star_id"][order], detections["star_id"][mine][keep])]
        colour = stars["g"][at] - stars["r"][at]
        calibrated = rows["mag"][keep].astype(float) + header["MAGZP"] + header["CLRCOEFF"] * colour
        true = detections["true_mag"][mine][keep].astype(float)
        error = model_error(true, name.unit.fid)
        pulls.append((calibrated - true - detections["systematic"][mine][keep]) / error)
    pull = np.concatenate(pulls)
    assert len(exposures["bad"]) == len(pulls)
    assert np.mean(pull) == pytest.approx(0.0, abs=0.02)
    assert np.std(pull) == pytest.approx(1.0, abs=0.02)


def test_truth_seeds_name_the_star_of_each_source(tiny: Path) -> None:
    seeds, stars = truth(tiny, "seeds"), truth(tiny, "stars")
    order = np.argsort(stars["star_id"])
    transients = stars["star_id"][stars["kind"] == "transient"]
    assert len(transients) > 0
    assert not np.isin(seeds["star_id"], transients).any()
    for path in references_of(tiny):
        name = parse_catalog_name(path.name)
        assert name is not None
        unit, rows = name.unit, fits.getdata(path, 1)
        mine = (seeds["field"] == unit.field) & (seeds["rcid"] == unit.rcid) & (seeds["fid"] == unit.fid)
        at = order[np.searchsorted(stars["star_id"][order], seeds["star_id"][mine])]
        assert np.abs(rows["dec"] - stars["dec"][at]).max() * 3600 < 0.05
        assert mine.sum() == len(rows)


def test_truth_same_star_is_a_seed_of_several_units(tiny: Path) -> None:
    seeds = truth(tiny, "seeds")
    east = seeds["star_id"][(seeds["field"] == 679) & (seeds["rcid"] == 16) & (seeds["fid"] == 1)]
    west = seeds["star_id"][(seeds["field"] == 680) & (seeds["rcid"] == 29) & (seeds["fid"] == 1)]
    red = seeds["star_id"][(seeds["field"] == 679) & (seeds["rcid"] == 16) & (seeds["fid"] == 2)]
    assert np.isin(east, west).sum() > 50
    assert np.isin(east, red).mean() > 0.95


def test_truth_spurious_some_within_match_radius_of_a_star(tiny: Path) -> None:
    detections = truth(tiny, "detections")
    spurious = detections["kind"] == "spurious"
    assert spurious.mean() == pytest.approx(0.03, abs=0.005)
    near = 0
    for path in catalogs_of(tiny):
        name = parse_catalog_name(path.name)
        assert name is not None
        assert name.fracday is not None
        mine = detections["exposureid"] == exposureid_of(name.fracday, name.unit.rcid)
        rows = fits.getdata(path, 1)
        xyz = unit_vectors(rows["ra"].astype(float), rows["dec"].astype(float)).T
        false = spurious[mine]
        distance = cKDTree(xyz[~false]).query(xyz[false])[0]
        near += int((np.degrees(distance) * 3600 < 1.5).sum())
    assert 0.2 < near / spurious.sum() < 0.4


def test_truth_ps1_measures_the_stars(tiny: Path) -> None:
    stars, ps1 = truth(tiny, "stars"), truth(tiny, "ps1")
    known = {int(s): i for i, s in enumerate(stars["star_id"])}
    at = np.array([known[int(s)] for s in ps1["star_id"]])
    assert len(at) > 0.95 * (stars["kind"] != "transient").sum()
    star = ps1["star"].astype(bool)
    assert 0.01 < np.mean(~star) < 0.06
    for band in "gri":
        pull = (ps1[band].astype(float) - stars[band][at]) / ps1[f"{band}_err"].astype(float)
        assert 0.0 < np.mean(np.isnan(pull)) < 0.03
        usual = star & (np.abs(pull) < 5.0)  # a few stars are bad, and nothing tells
        assert 0.95 < np.mean(usual[star]) < 1.0
        assert np.std(pull[usual]) == pytest.approx(1.0, abs=0.05)
        assert np.median(pull[~star & ~np.isnan(pull)]) > 5.0


def test_truth_switched_off_writes_none(tmp_path: Path) -> None:
    config = SimulationConfig(
        fields=(679,), rcids=(16,), filters=(1,), n_exposures=1, stars_per_quadrant=20, truth=False
    )
    simulate(tmp_path / "out", config)
    assert not (tmp_path / "out" / "truth").exists()


def test_regenerate_references_numbers_and_positions_change(tiny: Path, tmp_path: Path) -> None:
    assert regenerate_references(tmp_path, TINY) == 8
    old, new = references_of(tiny)[0], min((tmp_path / "references_1").rglob("*.fits"))
    assert old.name == new.name
    before, after = fits.getdata(old, 1), fits.getdata(new, 1)
    tree = cKDTree(unit_vectors(before["ra"].astype(float), before["dec"].astype(float)).T)
    distance, match = tree.query(unit_vectors(after["ra"].astype(float), after["dec"].astype(float)).T)
    same = np.degrees(distance) * 3600 < 0.2
    assert 0.96 < same.mean() < 1.0
    assert (distance[same] > 0).mean() > 0.99
    assert (match[same] != after["sourceid"][same]).mean() > 0.5
    seeds = pq.read_table(tmp_path / "truth_1" / "seeds.parquet")
    assert set(seeds["generation"].to_pylist()) == {1}


# Photometry


def test_model_error_is_the_survey_polynomial_then_a_line() -> None:
    m = np.array([14.0, 17.0, 20.0])
    a, b, c, d = 0.0310, -0.0012, 2.4743e-9, -8.3245e-18
    expected = a + b * m + c * 10 ** (0.4 * m) + d * 10 ** (0.8 * m)
    assert model_error(m, 2) == pytest.approx(expected, rel=1e-12)
    beyond = model_error(np.array([20.5, 20.500001, 21.5, 22.5]), 2)
    assert beyond[1] == pytest.approx(beyond[0], abs=1e-4)
    assert beyond[3] - beyond[2] == pytest.approx(beyond[2] - beyond[0], rel=1e-9)


@pytest.mark.parametrize("fid", [1, 2, 3])
def test_model_error_is_positive_and_grows(fid: int) -> None:
    error = model_error(np.linspace(11.0, 23.5, 500), fid)
    assert error.min() > 0.005
    assert error.max() < 0.6
    # The polynomial turns over just before the line takes over, as the survey's own does.
    for low, high in ((17.0, 20.3), (20.6, 23.5)):
        assert (np.diff(model_error(np.linspace(low, high, 100), fid)) > 0).all()


@pytest.mark.parametrize("fid", [1, 2, 3])
def test_systematics_have_the_sizes_found_in_real_data(fid: int) -> None:
    for rcid in range(0, 64, 9):
        one = ChannelSystematics.draw(5, rcid, fid)
        bias = one.magnitude(np.array([13.25, 19.25, 21.0]))
        assert -0.021 < bias[0] < -0.007
        assert bias[1] == bias[2] == 0.0
        offsets = one.position(*cell_centres(100))
        assert abs(offsets.mean()) < 1e-4
        assert 0.01 < offsets.max() < 0.08
        assert np.percentile(np.abs(offsets), 50) < 0.012
        assert one == ChannelSystematics.draw(5, rcid, fid)
        assert one != ChannelSystematics.draw(5, rcid + 1, fid)
    offsets = [field_offset(5, Unit(f, 36, fid)) for f in range(200, 500)]
    assert np.std(offsets) == pytest.approx(0.005, rel=0.15)


def test_truth_systematics_equal_what_the_maps_say(tiny: Path) -> None:
    maps, channels, exposures = (truth(tiny, t) for t in ("maps", "systematics", "exposures"))
    assert len(maps["offset"]) == 2 * 2 * 32 * 32
    assert len(channels["field"]) == 8
    assert len(exposures["fid"]) == 48
    one = ChannelSystematics.draw(TINY.seed, 16, 1)
    mine = (maps["rcid"] == 16) & (maps["fid"] == 1)
    assert maps["offset"][mine] == pytest.approx(one.position(*cell_centres(32)), abs=1e-6)


def test_unsteady_systematics_change_nothing_else_and_are_in_the_truth(tmp_path: Path) -> None:
    """A step, a drift, a colour term and clouds move magnitudes by what the truth says, and nothing else."""
    steady = SimulationConfig(
        fields=(679,), rcids=(16,), filters=(2,), n_exposures=6, stars_per_quadrant=300, spurious_fraction=0.0
    )
    changed = replace(steady, flat_step=1.0, flat_drift=0.01, colour_bias=0.05, cloudy_fraction=0.5)
    for name, config in (("steady", steady), ("changed", changed)):
        simulate(tmp_path / name, config)
    was, now = (truth(tmp_path / name, "detections") for name in ("steady", "changed"))
    np.testing.assert_array_equal(was["star_id"], now["star_id"])
    more = now["systematic"] - was["systematic"]
    assert 0.001 < np.std(more) < 0.05
    files = [sorted((tmp_path / name / "catalogs").rglob("*.fits")) for name in ("steady", "changed")]
    mags = [np.concatenate([fits.getdata(path, 1)["mag"] for path in paths]) for paths in files]
    bright = was["true_mag"] < 18
    assert np.corrcoef((mags[1] - mags[0])[bright], more[bright])[0, 1] > 0.9


def test_systematics_scale_zero_turns_them_off(tmp_path: Path) -> None:
    config = SimulationConfig(
        fields=(679,), rcids=(16,), filters=(1,), n_exposures=1, stars_per_quadrant=200, systematics=0.0
    )
    simulate(tmp_path / "out", config)
    assert not truth(tmp_path / "out", "detections")["systematic"].any()


def variation_of(kind: int, period: float, amplitude: float, shape: float) -> Variation:
    arrays = (np.array([value], dtype=float) for value in (period, amplitude, 58_300.0, shape))
    return Variation(np.array([kind], dtype=np.int8), *arrays)


@pytest.mark.parametrize(
    ("kind", "period", "shape"), [(RR_LYRAE, 0.5, 0.2), (ECLIPSING, 2.0, 0.06), (MIRA, 300.0, 0.5), (FLARE, 3.0, 0.04)]
)
def test_magnitude_change_is_periodic_with_its_amplitude(kind: int, period: float, shape: float) -> None:
    star = variation_of(kind, period, 1.0, shape)
    times = 58_300.0 + np.linspace(0, period, 2_000, endpoint=False)
    curve = np.array([magnitude_change(star, t, 1)[0] for t in times])
    assert np.ptp(curve) == pytest.approx(1.0, abs=0.05)
    again = np.array([magnitude_change(star, t + 2 * period, 1)[0] for t in times[1::50]])
    assert again == pytest.approx(curve[1::50], abs=0.01)
    assert np.ptp([magnitude_change(star, t, 3)[0] for t in times]) == pytest.approx(0.6 * np.ptp(curve), rel=0.01)


def test_magnitude_change_transient_comes_and_goes() -> None:
    supernova = variation_of(TRANSIENT, 20.0, 0.0, 19.0)
    at = [float(magnitude_change(supernova, 58_300.0 + d, 1)[0]) for d in (-30, -10, 0, 20, 60)]
    assert at[0] == GONE_MAG
    assert 0 < at[1] < 3
    assert at[2] == 0
    assert 0 < at[3] < at[4]


def test_stars_kinds_have_their_share() -> None:
    config = SimulationConfig(stars_per_quadrant=20_000, variable_fraction=0.1, transients_per_quadrant=40)
    kind = Sky(config).region(679, 16).stars.kind
    share = np.bincount(kind, minlength=len(KINDS)) / len(kind)
    assert share[1:5].sum() == pytest.approx(0.1, abs=0.01)
    assert (share > 0).all()


# A real reference as sky


def test_simulate_real_reference_is_the_sky(real_data: Path, tmp_path: Path) -> None:
    source = real_data / REAL_REFERENCE
    config = SimulationConfig(reference=source, n_exposures=3, epoch_depth=0.9, bad_fraction=0.0)
    summary = simulate(tmp_path / "out", config)
    assert summary.references == 1
    assert summary.catalogs == 3
    assert summary.seeds == 18_833
    (copy,) = references_of(tmp_path / "out")
    assert copy.read_bytes() == source.read_bytes()
    real = fits.getdata(source, 1)
    stars, detections = truth(tmp_path / "out", "stars"), truth(tmp_path / "out", "detections")
    sky = stars["kind"] != "transient"
    assert np.array_equal(np.sort(stars["star_id"][sky]), real["sourceid"])
    tree = cKDTree(unit_vectors(real["ra"].astype(float), real["dec"].astype(float)).T)
    for path in catalogs_of(tmp_path / "out"):
        name = parse_catalog_name(path.name)
        assert name is not None
        assert name.fracday is not None
        assert name.unit == Unit(202, 36, 1)
        assert path.name == psfcat_name(name.unit, name.fracday)
        rows = fits.getdata(path, 1)
        assert 13_000 < len(rows) < 18_000
        mine = detections["exposureid"] == exposureid_of(name.fracday, 36)
        star = detections["kind"][mine] == "star"
        distance, nearest = tree.query(unit_vectors(rows["ra"].astype(float), rows["dec"].astype(float)).T)
        assert np.degrees(np.median(distance[star])) * 3600 < 0.5
        assert (nearest[star] == detections["star_id"][mine][star]).mean() > 0.99
        header = fits.getheader(path, 0)
        calibrated = rows["mag"][star] + header["MAGZP"]
        expected = real["mag"][detections["star_id"][mine][star]] + 26.325
        assert np.nanmedian(calibrated - expected) == pytest.approx(0.0, abs=0.05)


def test_simulate_reference_not_fits_raises(tmp_path: Path) -> None:
    path = tmp_path / "broken.fits"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CatalogError, match="cannot serve as reference"):
        simulate(tmp_path / "out", SimulationConfig(reference=path))


# Settings


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"fields": ()}, "fields is"),
        ({"fields": (679, 679)}, "each once"),
        ({"fields": (950,)}, "field 950"),
        ({"rcids": (64,)}, r"rcids\[0\] is 64; expected 0 to 63"),
        ({"filters": (1, 4)}, r"filters\[1\] is 4; expected 1 \(g\)"),
        ({"stars_per_quadrant": 0}, "stars_per_quadrant is 0"),
        ({"stars_per_quadrant": 10**6}, "at most 300000"),
        ({"stars_per_quadrant": 10**5, "dense_field": 679}, "where densest"),
        ({"epoch_depth": 1.2}, "epoch_depth is 1.2"),
        ({"seed": -1}, "seed is -1"),
        ({"dither_arcsec": 900.0}, "at most 300"),
        ({"rotation_deg": 5.0}, "at most 0.1"),
        ({"start_mjd": 2_458_000.5}, "start_mjd is"),
        ({"n_exposures": 0}, "n_exposures is 0"),
        ({"reference": Path("nowhere.fits")}, "existing refpsfcat"),
        ({"lost_fraction": float("nan")}, "lost_fraction is nan"),
    ],
)
def test_config_setting_out_of_range_raises(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SimulationConfig(**settings_).validate()


def test_config_making_it_touches_no_disk() -> None:
    SimulationConfig(reference=Path("nowhere.fits"))


def test_benchmark_unit_has_the_rows_it_was_asked_for(tmp_path: Path) -> None:
    summary = benchmark_unit(tmp_path / "out", 3)
    assert summary.catalogs == 3
    assert summary.references == 1
    assert summary.rows / 3 == pytest.approx(17_000, rel=0.04)
