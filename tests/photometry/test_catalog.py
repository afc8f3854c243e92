"""A catalog corrected as a file: magnitudes as a store has them, all else as it was, and its picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from click.testing import CliRunner
from corrected import write_set
from helpers import append, epochal_file, make_store, reference_file, rows_at, runner

from ztfmatch.cli import main
from ztfmatch.core.errors import CatalogError, CorrectionsError, MetadataError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.surveytables import Spline, SurveyTables, write_survey_tables
from ztfmatch.core.operations.correct import correct
from ztfmatch.core.survey import Unit
from ztfmatch.photometry.catalog import CatalogInputs, correct_catalog
from ztfmatch.photometry.catalogresiduals import CatalogResiduals
from ztfmatch.photometry.report.pictures.catalog import draw_catalog

UNIT = Unit(500, 20, 2)
N = 400


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference and a catalog of one unit whose stars are too faint by a slope along x, and PS1."""
    place = tmp_path_factory.mktemp("catalog")
    rng = np.random.default_rng(4)
    at = np.arange(N)
    ra, dec = 150.0 + 0.006 * (at % 20), 2.0 + 0.006 * (at // 20)
    x, y = rng.uniform(1.0, 3072.0, N), rng.uniform(1.0, 3080.0, N)
    mag = rng.uniform(13.8, 17.2, N)
    off = 0.02 * (x / 1536.0 - 1.0) + rng.normal(0.0, 0.003, N)
    flux = 10.0 ** (-0.4 * (mag - 0.04 + off - 26.0))
    rows = rows_at(ra, dec, flux=flux, sigflux=flux / 200.0, xpos=x, ypos=y)
    rows["flux"][3] = -5.0
    reference_file(place, rows_at(ra, dec), UNIT)
    epochal_file(place, rows, 0, UNIT, CLRCOEFF=0.08, PCOLOR="g-R")
    pq.write_table(pa.table({"ra": ra, "dec": dec, "g": mag + 0.5, "r": mag, "i": mag - 0.1}), place / "ps1.parquet")
    return place


@pytest.fixture
def catalog(place: Path, tmp_path: Path) -> Path:
    (path,) = place.glob("*_psfcat.fits")
    return Path(shutil.copy(path, tmp_path))


@pytest.fixture(scope="module")
def slope(place: Path) -> Path:
    """The survey's tables with that slope: a spline whose coefficients are linear in x is so itself."""
    knots = [np.concatenate([[0.5] * 3, np.linspace(150.0, 2900.0, 18), [n + 0.5] * 3]) for n in (3072, 3080)]
    greville = 0.5 * (knots[0][1:-2] + knots[0][2:-1])
    coefficients = np.repeat(-0.02 * (greville / 1536.0 - 1.0), 21)
    channel = (UNIT.rcid, UNIT.fid)
    tables = SurveyTables({channel: (0.0, 0.0, 0.0)}, {channel: Spline(*knots, coefficients)}, {UNIT: 0.0})
    write_survey_tables(place / "slope", tables)
    return place / "slope"


def test_correct_catalog_has_magnitudes_of_a_store_and_all_else_as_it_was(place: Path, catalog: Path) -> None:
    write_set(catalog.parent / "set", [UNIT])
    report = correct_catalog(catalog, CatalogInputs(catalog.parent / "set"))
    assert report.output == str(catalog.parent / catalog.name.replace("_psfcat", "_psfcatscorr"))
    storage = make_store(catalog.parent / "store", sorted(place.glob("*refpsfcat.fits")))
    append(storage, [catalog])
    correct(storage, catalog.parent / "set", runner())
    stored = {}
    for table in ("detections", "orphans"):
        rows = open_snapshot(storage).read(table, ["sourceid", "mag", "corrflags"]).to_pylist()
        stored |= {row["sourceid"]: row for row in rows}
    with fits.open(catalog) as old, fits.open(report.output) as new:
        assert new[0].header["CORRSET"] == report.corrections
        assert {c: new[0].header[c] for c in old[0].header} == dict(old[0].header)
        assert new[1].columns.names == old[1].columns.names
        for name in old[1].columns.names:
            if name != "mag":
                np.testing.assert_array_equal(new[1].data[name], old[1].data[name])
        mags = new[1].data["mag"].astype(float) + new[0].header["MAGZP"]
        for sourceid, mag, old_mag in zip(new[1].data["sourceid"], mags, old[1].data["mag"], strict=True):
            want = stored[sourceid]["mag"]
            assert mag == pytest.approx(old_mag + new[0].header["MAGZP"] if want is None else want, abs=2e-6)
    flags = np.array([row["corrflags"] for row in stored.values()])
    assert report.terms["position"] == (flags & 2 > 0).sum() < N
    assert report.terms["no position"] == (flags & 16 > 0).sum() > 0


def test_correct_catalog_with_ps1_shows_what_corrections_take_away(place: Path, catalog: Path, slope: Path) -> None:
    output = catalog.parent / "out"
    report = correct_catalog(catalog, CatalogInputs(slope, output, place / "ps1.parquet"))
    assert report.picture == str(output / catalog.name.replace("_psfcat.fits", "_psfcatscorr.png"))
    assert Path(report.picture).read_bytes().startswith(b"\x89PNG")
    assert report.stars > 0.9 * N
    assert report.before_mmag is not None
    assert report.before_mmag > 11.0  # uniform over 40 mmag: 13.7 within the central 68.27 %
    assert report.after_mmag == pytest.approx(3.0, rel=0.15)
    assert not list(catalog.parent.glob("*psfcatscorr*"))


def test_correct_catalog_with_checksums_keeps_them_true(catalog: Path, slope: Path) -> None:
    with fits.open(catalog) as hdus:
        hdus.writeto(catalog, overwrite=True, checksum=True)
    report = correct_catalog(catalog, CatalogInputs(slope))
    with fits.open(report.output, checksum=True) as hdus:  # a warning is an error
        assert "CHECKSUM" in hdus[1].header
        hdus.verify("exception")


def test_append_of_a_directory_passes_corrected_catalogs_over(place: Path, catalog: Path, slope: Path) -> None:
    correct_catalog(catalog, CatalogInputs(slope))
    storage = make_store(catalog.parent / "store", sorted(place.glob("*refpsfcat.fits")))
    report = append(storage, [catalog.parent])
    assert (report.exposures, list(report.warnings)) == (1, [])


def test_correct_catalog_of_another_channel_is_refused(tmp_path: Path, slope: Path) -> None:
    other = epochal_file(tmp_path, rows_at([10.0], [20.0]), 0, Unit(500, 21, 2))
    with pytest.raises(CorrectionsError, match=r"of CCD 6, quadrant 1, filter r; expected CCD 6, quadrant 2"):
        correct_catalog(other, CatalogInputs(slope))


def test_correct_catalog_that_is_none_is_refused(catalog: Path, slope: Path) -> None:
    with pytest.raises(CatalogError, match=r"expected the name of an epochal catalog"):
        correct_catalog(catalog.rename(catalog.with_name("x.fits")), CatalogInputs(slope))
    broken = catalog.with_name("ztf_20190201250000_000500_zr_c06_o_q1_psfcat.fits")
    broken.write_bytes(b"nothing")
    with pytest.raises(CatalogError, match=r"_psfcat.fits: the file starts with"):
        correct_catalog(broken, CatalogInputs(slope))


def test_correct_catalog_with_ps1_elsewhere_is_refused_and_writes_nothing(catalog: Path, slope: Path) -> None:
    table = {"ra": [1.0], "dec": [-10.0], "g": [15.0], "r": [15.0], "i": [15.0]}
    pq.write_table(pa.table(table), catalog.parent / "far.parquet")
    with pytest.raises(MetadataError, match=r"far.parquet: has 0 isolated stars"):
        correct_catalog(catalog, CatalogInputs(slope, ps1=catalog.parent / "far.parquet"))
    assert not list(catalog.parent.glob("*psfcatscorr*"))


def test_correct_catalog_with_ps1_that_lacks_a_band_is_refused(place: Path, catalog: Path, slope: Path) -> None:
    table = pq.read_table(place / "ps1.parquet")
    table = table.set_column(2, "g", pa.nulls(N, pa.float64()))
    pq.write_table(table, catalog.parent / "ps1.parquet")
    with pytest.raises(MetadataError, match=r"ps1.parquet: none of its sources about .* has a magnitude in g"):
        correct_catalog(catalog, CatalogInputs(slope, ps1=catalog.parent / "ps1.parquet"))


def test_picture_of_a_catalog_shows_medians() -> None:
    """One star of each cell varies."""
    x = np.tile(np.linspace(10.0, 3000.0, 30), 9)
    y = np.repeat(np.linspace(10.0, 3000.0, 9), 30)
    off = np.where(np.arange(270) % 10 == 3, 1.0, 0.002)
    figure = draw_catalog(CatalogResiduals(x, y, off, off), "a catalog")
    for axes in figure.axes[:2]:
        shown = np.ma.filled(axes.images[0].get_array(), np.nan)
        assert np.nanmax(np.abs(shown - 2.0)) < 1e-9


def test_correct_command_with_a_catalog_says_what_it_wrote(place: Path, catalog: Path, slope: Path) -> None:
    arguments = ["correct", "--catalog", str(catalog), "--corrections", str(slope)]
    done = CliRunner().invoke(main, [*arguments, "--ps1", str(place / "ps1.parquet")])
    assert done.exit_code == 0, done.output
    assert "_psfcatscorr.fits: 400 rows" in done.output
    assert "robust RMS 1" in done.output
    as_json = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(as_json.stdout)["terms"]["position"] == N - 1
    for wrong in (["store", *arguments[1:]], [*arguments[1:3]], ["store", "set", "--ps1", str(catalog)]):
        assert CliRunner().invoke(main, ["correct", *wrong]).exit_code == 2
