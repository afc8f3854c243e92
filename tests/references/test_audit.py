"""Audits of catalogs and stores: what is known by construction is found, and bad input is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers import UNIT, make_store, reference_file, rows_at, runner
from reference_scene import Quadrant, quadrant, write_ps1, write_reference
from test_flatness import plain_flatness

from ztfmatch import api
from ztfmatch.cli import main
from ztfmatch.core.errors import BadInputError, ConfigError, MetadataError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.survey import Unit
from ztfmatch.references.audit import AuditInputs, AuditReport, audit_files, audit_store
from ztfmatch.references.judge import judged
from ztfmatch.references.kernels.flatness import bin_of
from ztfmatch.references.schema import AUDIT
from ztfmatch.references.schema.settings import Flat, ReferenceSettings, read_settings

SETTINGS = ReferenceSettings()
OTHER = Unit(500, 40, 1)


def audited(place: Path, *quadrants: Quadrant, settings: ReferenceSettings = SETTINGS) -> AuditReport:
    for one in quadrants:
        write_reference(place / "references", one)
    ps1 = write_ps1(place / "ps1.parquet", *quadrants)
    return audit_files([str(place / "references")], AuditInputs(ps1), settings, runner())


def only(report: AuditReport) -> dict:
    (row,) = report.table.to_pylist()
    return row


@pytest.mark.parametrize("fid", [1, 2, 3])
def test_audit_of_catalog_has_the_metrics_of_plain_numpy(fid: int, tmp_path: Path) -> None:
    scene = quadrant(Unit(500, 20, fid), tilt=0.06)
    row = only(audited(tmp_path, scene))
    delta, rms, offset = plain_flatness(scene.difference, bin_of(scene.x, scene.y), SETTINGS.flatness.min_bin)
    assert (row["delta"], row["rms"], row["offset"]) == pytest.approx((delta, rms, offset), abs=1e-6)
    assert (row["nsources"], row["nps1"], row["nflat"]) == (1600, 1600, 1600)
    assert row["nbin"] == np.bincount(bin_of(scene.x, scene.y)).tolist()


@pytest.mark.parametrize(("tilt", "noise", "suspect"), [(0.0, 0.01, False), (0.09, 0.01, True), (0.0, 0.05, True)])
def test_reference_is_suspect_if_it_is_tilted_or_noisy(
    tilt: float, noise: float, suspect: bool, tmp_path: Path
) -> None:
    row = only(audited(tmp_path, quadrant(tilt=tilt, noise=noise)))
    assert (row["suspect"], row["suspect_ps1"], row["suspect_lightcurves"]) == (suspect, suspect, None)
    assert not row["unknown"]


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("metric", ["delta", "rms"])
@pytest.mark.parametrize("fid", [1, 2, 3])
def test_thresholds_are_inclusive(fid: int, metric: str, beyond: bool) -> None:
    limit = dict(zip(("rms", "delta"), SETTINGS.flatness.limits_of(500, fid), strict=True))[metric]
    value = np.nextafter(limit, 1.0) if beyond else limit
    values = {"delta": 0.0, "rms": 0.0, metric: float(value)}
    base = {"field": 500, "rcid": 20, "fid": fid, "neighbour": 9.0, "depth": 22.0, "nbin": [10] * 9}
    (row,) = judged([{**base, **values}], SETTINGS)
    assert row["suspect"] == beyond


def test_reference_with_too_few_matches_in_a_bin_is_unknown(tmp_path: Path) -> None:
    """PS1 covers half of it."""
    scene = quadrant(tilt=0.09)
    half = scene.x < 1500
    write_reference(tmp_path, scene)
    parts = {name: getattr(scene, name)[half] for name in ("x", "y", "ra", "dec", "mag", "colour", "difference")}
    ps1 = write_ps1(tmp_path / "ps1.parquet", replace(scene, **parts))
    row = only(audit_files([str(tmp_path)], AuditInputs(ps1), SETTINGS, runner()))
    assert (row["unknown"], row["suspect"], row["suspect_ps1"]) == (True, False, None)
    assert (row["nps1"], row["nbin"][2]) == (half.sum(), 0)
    assert row["delta"] is not None


def test_confused_reference_is_not_suspect_for_its_scatter_alone(tmp_path: Path) -> None:
    settings = replace(SETTINGS, audit=replace(SETTINGS.audit, confused=100.0))
    row = only(audited(tmp_path, quadrant(noise=0.05), settings=settings))
    assert (row["confused"], row["suspect"]) == (True, False)
    tilted = only(audited(tmp_path / "tilted", quadrant(tilt=0.2), settings=settings))
    assert (tilted["confused"], tilted["suspect"]) == (True, True)


def test_reference_is_shallow_by_its_depth() -> None:
    base = {"field": 500, "rcid": 20, "fid": 1, "neighbour": 9.0}
    assert [judged([{**base, "depth": depth}], SETTINGS)[0]["shallow"] for depth in (21.19, 21.2, None)] == [
        *(True, False, False)
    ]


def test_override_of_a_field_goes_before_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[[flatness.overrides]]\nfields = [500]\nfilter = "r"\nrms = 0.1\ndelta = 0.2\n')
    flat = read_settings(path).flatness
    assert flat.limits_of(500, 2) == (0.1, 0.2)
    assert (flat.limits_of(501, 2), flat.limits_of(500, 1)) == ((0.030, 0.045), (0.035, 0.047))


def test_rank_has_the_suspect_first_and_of_them_the_worst(tmp_path: Path) -> None:
    report = audited(
        tmp_path, *(quadrant(Unit(500, rcid, 2), tilt=tilt) for rcid, tilt in ((1, 0.0), (2, 0.08), (3, 0.2)))
    )
    assert [row["rank"] for row in report.table.to_pylist()] == [3, 2, 1]
    assert (report.references, report.suspect) == (3, 2)


def test_not_finite_magnitudes_and_errors_are_left_out(tmp_path: Path) -> None:
    scene = quadrant()
    rows = scene.rows()
    rows["mag"][:100] = np.nan
    rows["sigmag"][100:200] = np.inf
    path = reference_file(tmp_path, rows, UNIT, MAGZP=26.325, CLRCOEFF=0.1)
    row = only(audit_files([str(path)], AuditInputs(write_ps1(tmp_path / "p.parquet", scene)), SETTINGS, runner()))
    assert (row["nsources"], row["nflat"]) == (1600, 1500)


def test_audit_of_store_is_that_of_its_catalogs(tmp_path: Path) -> None:
    scenes = [quadrant(tilt=0.08), quadrant(OTHER, seed=2)]
    of_files = audited(tmp_path, *scenes).table
    storage = make_store(tmp_path / "store", [tmp_path / "references"], seeds_per_tile=400)
    report = audit_store(open_snapshot(storage), AuditInputs(tmp_path / "ps1.parquet"), SETTINGS, runner())
    of_store = report.table
    assert of_store["generation"].to_pylist() == [0, 0]
    exact = ["field", "rcid", "fid", "rank", "nsources", "nps1", "nflat", "nbin", "suspect", "shallow", "confused"]
    assert of_store.select(exact).equals(of_files.select(exact))
    for name in ("delta", "rms", "offset"):  # refmag of a store is of single precision
        assert of_store[name].to_numpy() == pytest.approx(of_files[name].to_numpy(), abs=2e-6)


def test_depth_is_told_beside_that_of_the_images(tmp_path: Path) -> None:
    write_reference(tmp_path, quadrant(n_side=5))
    table = pa.table({"field": [500], "rcid": [20], "fid": [2], "nimages": [100], "maglimit": [20.5]})
    pq.write_table(table, tmp_path / "images.parquet")
    row = only(audit_files([str(tmp_path)], AuditInputs(images=tmp_path / "images.parquet"), SETTINGS, runner()))
    assert (row["nimages"], row["predicted"]) == (100, 23.0)
    pq.write_table(table.drop_columns(["nimages"]), tmp_path / "images.parquet")
    with pytest.raises(MetadataError, match="has no column nimages"):
        audit_files([str(tmp_path)], AuditInputs(images=tmp_path / "images.parquet"), SETTINGS, runner())


class TestBadInput:
    def test_ps1_of_elsewhere(self, tmp_path: Path) -> None:
        scene = quadrant()
        write_reference(tmp_path, scene)
        ps1 = write_ps1(tmp_path / "ps1.parquet", replace(scene, dec=scene.dec + 5.0))
        with pytest.raises(MetadataError, match=r"ps1\.parquet: has no star at any seed of the 1 references"):
            audit_files([str(tmp_path)], AuditInputs(ps1), SETTINGS, runner())

    def test_no_catalog(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="refpsfcat"):
            audit_files([str(tmp_path)], AuditInputs(), SETTINGS, runner())

    def test_misnamed_catalog_is_noted(self, tmp_path: Path) -> None:
        whole = write_reference(tmp_path, quadrant(n_side=5))
        (tmp_path / "ztf_000500_zg_c06_q1_refpsfcat (1).fits").write_bytes(whole.read_bytes())
        report = audit_files([str(tmp_path)], AuditInputs(), SETTINGS, runner())
        assert report.references == 1
        assert report.notes == ["1 file looks like a catalog but is not named as such"]

    def test_catalog_that_cannot_be_used(self, tmp_path: Path) -> None:
        whole = write_reference(tmp_path, quadrant(n_side=5))
        cut = tmp_path / "ztf_000500_zg_c06_q1_refpsfcat.fits"
        cut.write_bytes(whole.read_bytes()[:9000])
        report = audit_files([str(tmp_path)], AuditInputs(), SETTINGS, runner())
        assert [(Path(row.source).name, row.code) for row in report.refused] == [(cut.name, "truncated")]
        assert report.references == 1
        with pytest.raises(BadInputError, match=cut.name):
            audit_files([str(tmp_path)], AuditInputs(), SETTINGS, runner(), strict=True)
        whole.unlink()
        with pytest.raises(BadInputError, match=cut.name):
            audit_files([str(tmp_path)], AuditInputs(), SETTINGS, runner())

    def test_filters_that_settings_do_not_name_have_the_defaults(self, tmp_path: Path) -> None:
        (tmp_path / "s.toml").write_text("[flatness.limits]\ng = {rms = 0.1}\n[select]\nfwhm = {r = [1.8, 5.0]}\n")
        given, usual = read_settings(tmp_path / "s.toml"), ReferenceSettings()
        assert given.flatness.limits == replace(usual.flatness.limits, g=Flat(0.1, usual.flatness.limits.g.delta))
        assert given.select.fwhm == replace(usual.select.fwhm, r=(1.8, 5.0))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[audit]\nshalow = 21.0\n", "unknown key 'shalow' in \\[audit\\]"),
            ("[flatness]\nmin_bin = 1\n", "min_bin in \\[flatness\\] is 1; expected at least 2"),
            ("[flatness.limits]\ng = {rsm = 0.1}\n", "unknown key 'rsm' in \\[g\\]; there are: rms, delta"),
            ("[flatness.limits]\nu = {rms = 0.1}\n", "unknown key 'u' in \\[limits\\]; there are: g, r, i"),
            ("[select]\nfwhm = {g = [5.0, 1.7]}\n", "fwhm of g is \\[5.0, 1.7\\]; expected the smaller bound first"),
            ("[select]\nfwhm = {g = 5.0}\n", "g in \\[fwhm\\] is 5.0; expected a list"),
            ("[select]\nnmin = 41\n", "nmin is 41; expected at most nmax, 40"),
            ("[select]\nfirst_night = 'May'\n", "first_night in \\[select\\] is 'May'; expected a date such as"),
            ("[[flatness.overrides]]\nfields = [1]\nfilter = 'z'\nrms = 1.0\ndelta = 1.0\n", "expected g, r or i"),
        ],
    )
    def test_settings(self, text: str, said: str, tmp_path: Path) -> None:
        (tmp_path / "s.toml").write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_settings(tmp_path / "s.toml")


class TestCommand:
    def test_audit_writes_a_row_a_reference(self, tmp_path: Path) -> None:
        audited(tmp_path, quadrant(tilt=0.1), quadrant(OTHER))
        output = tmp_path / "audit.parquet"
        options = ["--ps1", str(tmp_path / "ps1.parquet"), "--output", str(output)]
        done = CliRunner().invoke(main, ["references", "audit", "-r", str(tmp_path / "references"), *options])
        assert done.exit_code == 0, done.output
        assert pq.read_table(output).schema.equals(AUDIT.schema)
        assert "2 references: 1 suspect, 0 shallow, 0 confused, 0 unknown" in done.stderr

    def test_audit_of_store_as_json_and_as_table(self, tmp_path: Path) -> None:
        audited(tmp_path, quadrant(tilt=0.1))
        make_store(tmp_path / "store", [tmp_path / "references"])
        command = ["references", "audit", str(tmp_path / "store"), "--ps1", str(tmp_path / "ps1.parquet")]
        done = CliRunner().invoke(main, [*command, "--json"])
        assert [row["suspect"] for row in json.loads(done.stdout)] == [True]
        assert "suspect" in CliRunner().invoke(main, command).stdout
        csv = CliRunner().invoke(main, [*command, "--format", "csv"])
        assert csv.exit_code == 0, csv.output
        assert len(csv.stdout.splitlines()) == 2

    @pytest.mark.parametrize("words", [["audit"], ["audit", "store", "-r", "x"]])
    def test_audit_takes_a_store_or_catalogs(self, words: list[str]) -> None:
        done = CliRunner().invoke(main, ["references", *words])
        assert done.exit_code == 2
        assert "either a STORE or --references" in done.output


def test_store_audits_its_references(tmp_path: Path) -> None:
    audited(tmp_path, quadrant(tilt=0.1))
    store = api.init_store(tmp_path / "store", str(tmp_path / "references"))
    report = store.audit_references(AuditInputs(tmp_path / "ps1.parquet"))
    assert report.suspect == 1
    assert "suspect" in repr(report)
    assert "table" not in repr(report)


def test_reference_of_a_field_off_the_grid_is_unknown_and_the_others_are_audited(tmp_path: Path) -> None:
    audited(tmp_path, quadrant(tilt=0.1))
    reference_file(tmp_path / "references", quadrant().rows(), Unit(1999, 20, 2))
    store = api.init_store(tmp_path / "store", str(tmp_path / "references"))
    against = AuditInputs(tmp_path / "ps1.parquet", against="both")
    for report in (audited(tmp_path, quadrant(tilt=0.1)), store.audit_references(against)):
        rows = [(row["field"], row["suspect"], row["unknown"]) for row in report.table.to_pylist()]
        assert sorted(rows) == [(500, True, False), (1999, False, True)]
        assert report.notes[-1].endswith("are compared with nothing: field 1999")


def test_real_reference_is_deep_and_not_confused(data_dir: Path) -> None:
    report = audit_files([str(data_dir / "refpsfcat")], AuditInputs(), SETTINGS, runner())
    row = only(report)
    assert (row["field"], row["rcid"], row["fid"], row["nsources"]) == (202, 36, 1, 18_833)
    assert (row["shallow"], row["confused"], row["unknown"]) == (False, False, True)
    assert row["neighbour"] == pytest.approx(10.4, abs=0.1)
    assert 21.2 < row["depth"] < 21.5


def test_reference_without_sources_is_unknown(tmp_path: Path) -> None:
    path = reference_file(tmp_path, rows_at(np.zeros(0), np.zeros(0)), UNIT)
    row = only(audit_files([str(path)], AuditInputs(), SETTINGS, runner()))
    assert (row["nsources"], row["unknown"], row["depth"], row["neighbour"]) == (0, True, None, None)
