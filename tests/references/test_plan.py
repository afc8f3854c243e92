"""Plans: every action with its reason, the loss of sky coverage against brute force, updates against new plans."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv
from test_selection import exposureids, metadata

from ztfmatch.cli import main
from ztfmatch.core.errors import ConfigError, MetadataError
from ztfmatch.references.io.images import ImageSource
from ztfmatch.references.loss import coverage_loss, retune
from ztfmatch.references.plan import ACTIONS, Known, PlanReport, about_plan, make_plan, update_plan
from ztfmatch.references.schema import AUDIT, PLAN
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.selection import judge, select_images, with_limits
from ztfmatch.simulate.metadata import FAULTS, MetadataConfig, simulate_metadata

SETTINGS = ReferenceSettings()


def audit_rows(*rows: dict[str, Any]) -> pa.Table:
    """Rows of an audit of good references but for some columns."""
    good = {
        "rank": 1,
        "nsources": 1,
        "suspect": False,
        "shallow": False,
        "confused": False,
        "unknown": False,
        "depth": 23.0,
    }
    return pa.Table.from_pylist([{**good, **row} for row in rows], schema=AUDIT.schema)


def unit(field: int) -> dict[str, int]:
    return {"field": field, "rcid": 3, "fid": 1}


def images(counts: dict[int, int], night: int = 20180601, **columns: Any) -> pa.Table:
    """Good images of some fields."""
    start, parts = 0, []
    for field, n in counts.items():
        ids = exposureids(start + n, night)[start:]
        parts.append(metadata(n, exposureid=ids, field=field, **columns))
        start += n
    return pa.concat_tables(parts)


def planned(place: Path, table: pa.Table, audit: pa.Table | None, limits: ReferenceSettings = SETTINGS) -> PlanReport:
    pq.write_table(table, place / "images.parquet")
    return make_plan(ImageSource(table=place / "images.parquet"), audit, limits)


def action_of(report: PlanReport) -> dict[int, tuple[str, str]]:
    return {row["field"]: (row["action"], row["reason"]) for row in report.table.to_pylist()}


@pytest.mark.parametrize(
    ("n", "audit", "action", "reason"),
    [
        (15, None, "make", "no reference, and enough images"),
        (14, None, "wait", "no reference, and too few images"),
        (15, {"suspect": True}, "regenerate", "suspect, and enough images"),
        (14, {"suspect": True}, "potentially updatable", "suspect, and too few images"),
        (0, {"suspect": True}, "potentially updatable", "suspect, and too few images"),
        (15, {"depth": 20.5 + 1.25 * np.log10(15) - 0.251}, "deepen", "good, and a new one would be deeper"),
        (15, {"depth": 20.5 + 1.25 * np.log10(15) - 0.249}, "keep", "good, and as deep as a new one"),
        (14, {"depth": 19.0}, "keep", "good, and no fewer images than it takes would make a new one"),
        (15, {"unknown": True}, "keep", "not known whether it is good"),
        (15, {"depth": None}, "keep", "good, and as deep as a new one"),
    ],
)
def test_action_and_reason(n: int, audit: dict | None, action: str, reason: str, tmp_path: Path) -> None:
    rows = None if audit is None else audit_rows({**unit(500), **audit})
    report = planned(tmp_path, images({500: n, 501: 1}), rows)
    assert action_of(report)[500] == (action, reason)
    assert report.table.schema.equals(PLAN.schema)


def test_plan_lists_the_best_images_and_predicts_the_depth(tmp_path: Path) -> None:
    fwhm, limit = np.linspace(3.0, 2.0, 60), np.linspace(20.0, 21.0, 60)
    row = planned(tmp_path, images({500: 60}, fwhm=fwhm, maglimit=limit), None).table.to_pylist()[0]
    assert row["exposures"] == exposureids(60)[::-1][:50].tolist()
    assert row["predicted"] == pytest.approx(np.median(limit[10:]) + 1.25 * np.log10(50), abs=1e-5)
    assert (row["nimages"], row["npassed"]) == (60, 60)


def test_plan_says_what_would_be_won(tmp_path: Path) -> None:
    audit = audit_rows(
        {**unit(500), "suspect": True, "nwon": 700},
        {**unit(501), "suspect": True, "nwon": 30},
        {**unit(502), "nwon": 5},
    )
    report = planned(tmp_path, images({500: 20, 501: 3, 502: 20}), audit)
    assert report.won == 700
    assert report.actions == [
        {"filter": "zg", **dict.fromkeys(ACTIONS, 0), "regenerate": 1, "potentially updatable": 1, "keep": 1}
    ]


def test_loss_counts_units_with_a_reference_by_filter_and_fewest_images(tmp_path: Path) -> None:
    audit = audit_rows(*(unit(field) for field in (500, 501, 502)))
    pq.write_table(images({500: 15, 501: 12, 502: 9, 503: 20}), tmp_path / "m.parquet")
    rows = coverage_loss(judge(ImageSource(table=tmp_path / "m.parquet"), SETTINGS), Known.of(audit))
    assert [(row["nmin"], row["now"], row["new"], row["gained"]) for row in rows] == [(15, 3, 1, 1), (10, 3, 2, 1)]
    assert [row["lost_percent"] for row in rows] == pytest.approx([200 / 3, 100 / 3])


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), bad=st.floats(0.0, 0.9))
def test_selection_of_a_simulated_survey_finds_what_was_made_bad(seed: int, bad: float, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("m") / "m.parquet"
    table, fault = simulate_metadata(MetadataConfig(4_000, 40, bad, seed=seed))
    pq.write_table(table, place)
    selection = select_images(ImageSource(table=place), with_limits(SETTINGS, nmin=1, nmax=10**6))
    assert selection.image_table()["outcome"].to_pylist() == [
        "selected" if name == "good" else name for name in np.array(FAULTS)[fault].tolist()
    ]


def test_retune_is_what_a_selection_with_that_threshold_loses(tmp_path: Path) -> None:
    table, _ = simulate_metadata(MetadataConfig(6_000, 120, 0.2, seed=3))
    pq.write_table(table, tmp_path / "m.parquet")
    source = ImageSource(table=tmp_path / "m.parquet")
    units = table.group_by(["field", "rcid", "fid"]).aggregate([])
    known = Known.of(audit_rows(*units.to_pylist()))
    rows = retune(source, known, SETTINGS)
    assert {(row["criterion"], row["column"], row["bound"]) for row in rows} == {
        *(("fwhm", "fwhm", b) for b in ("low", "high")), *(("magzp", "magzp", b) for b in ("low", "high")),
        *(("clrcoeff", "clrcoeff", b) for b in ("low", "high")), ("maglimit", "maglimit", "low"),
        ("median", "median", "high"), ("rms", "rms", "high"),
        ("flatness", "flatdelta", "high"), ("flatness", "flatrms", "high"),
    }  # fmt: skip
    now = {(row["filter"], row["nmin"]): row for row in coverage_loss(judge(source, SETTINGS), known)}
    for row in rows:
        if row["current"]:
            assert (row["now"], row["new"]) == (now[row["filter"], 15]["now"], now[row["filter"], 15]["new"])
    for row in [row for row in rows if row["criterion"] == "maglimit" and row["filter"] == "zr"]:
        limits = replace(SETTINGS.select.maglimit, r=row["value"])
        other = coverage_loss(judge(source, with_limits(SETTINGS, maglimit=limits)), known)
        assert row["new"] == next(one["new"] for one in other if (one["filter"], one["nmin"]) == ("zr", 15))


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), cut=st.floats(0.1, 0.95))
def test_update_with_the_newest_images_is_the_plan_of_all(seed: int, cut: float, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("plans")
    table, _ = simulate_metadata(MetadataConfig(3_000, 60, 0.3, seed=seed))
    ids = table["exposureid"].to_numpy()
    edge = np.quantile(ids, cut, method="nearest")
    units = table.slice(0, 1500).group_by(["field", "rcid", "fid"]).aggregate([]).to_pylist()
    audit = audit_rows(*({**row, "suspect": n % 3 == 0, "nwon": n} for n, row in enumerate(units)))
    whole = planned(place, table, audit).table
    early = planned(place, table.filter(pa.array(ids <= edge)), audit).table
    pq.write_table(table.filter(pa.array(ids > edge)), place / "new.parquet")
    report = update_plan(early, ImageSource(table=place / "new.parquet"), SETTINGS)
    assert report.table.equals(whole)
    again = update_plan(report.table, ImageSource(table=place / "new.parquet"), SETTINGS)
    assert again.table.equals(whole)
    assert again.passed_over == (ids > edge).sum()
    possible = {(row["field"], row["rcid"], row["fid"]) for row in report.possible}
    before = {(r["field"], r["rcid"], r["fid"]): r["action"] for r in early.to_pylist()}
    assert possible == {
        key for r in whole.to_pylist() if r["action"] in ("make", "regenerate")
        and before.get(key := (r["field"], r["rcid"], r["fid"]), "wait") in ("wait", "potentially updatable")
    }  # fmt: skip


class TestBadInput:
    def test_plan_of_other_settings(self, tmp_path: Path) -> None:
        plan = planned(tmp_path, images({500: 20}), None).table
        with pytest.raises(ConfigError, match="made with other settings"):
            update_plan(plan, ImageSource(table=tmp_path / "images.parquet"), with_limits(SETTINGS, nmin=3))

    def test_what_is_no_plan(self, tmp_path: Path) -> None:
        with pytest.raises(MetadataError, match="not a plan"):
            about_plan(audit_rows(unit(500)))

    def test_what_is_no_audit(self, tmp_path: Path) -> None:
        with pytest.raises(MetadataError, match="the audit has no column suspect"):
            planned(tmp_path, images({500: 20}), pa.table({"field": [1], "rcid": [1], "fid": [1]}))

    def test_audit_with_a_unit_twice(self, tmp_path: Path) -> None:
        with pytest.raises(MetadataError, match="a unit more than once"):
            planned(tmp_path, images({500: 20}), audit_rows(unit(500), unit(500)))

    def test_no_images(self, tmp_path: Path) -> None:
        with pytest.raises(MetadataError, match="has no images"):
            planned(tmp_path, images({500: 1}).slice(0, 0), audit_rows(unit(500)))


class TestCommand:
    def test_plan_then_update_every_morning(self, tmp_path: Path) -> None:
        pq.write_table(images({500: 14, 501: 30, 502: 14}), tmp_path / "m.parquet")
        pq.write_table(images({500: 1}, 20190101), tmp_path / "new.parquet")
        pq.write_table(audit_rows({**unit(501)}, {**unit(502), "suspect": True}), tmp_path / "audit.parquet")
        plan, retuned = tmp_path / "plan.parquet", tmp_path / "loss.csv"
        options = ["--audit", str(tmp_path / "audit.parquet"), "--output", str(plan), "--retune", str(retuned)]
        command = ["references", "plan", "--metadata"]
        done = CliRunner().invoke(main, [*command, str(tmp_path / "m.parquet"), *options])
        assert done.exit_code == 0, done.output
        assert "lost percent" in done.stdout
        assert retuned.read_text().startswith('"criterion"')
        update = ["--update", str(plan), "--output", str(tmp_path / "plan-2.parquet"), "--json"]
        done = CliRunner().invoke(main, [*command, str(tmp_path / "new.parquet"), *update])
        assert done.exit_code == 0, done.output
        possible = json.loads(done.stdout)["possible"]
        assert [(row["field"], row["action"]) for row in possible] == [(500, "make")]
        assert pq.read_table(tmp_path / "plan-2.parquet").num_rows == 3

    def test_update_takes_no_audit(self, tmp_path: Path) -> None:
        (tmp_path / "x").touch()
        words = ["--metadata", str(tmp_path), "--update", str(tmp_path / "x"), "--audit", str(tmp_path / "x")]
        assert CliRunner().invoke(main, ["references", "plan", *words]).exit_code == 2

    def test_file_that_is_no_plan(self, tmp_path: Path) -> None:
        pq.write_table(images({500: 14}), tmp_path / "m.parquet")
        (tmp_path / "x").write_text("no")
        words = ["--metadata", str(tmp_path / "m.parquet"), "--update", str(tmp_path / "x")]
        done = CliRunner().invoke(main, ["references", "plan", *words])
        assert (done.exit_code, "is not a plan" in done.stderr) == (2, True)

    def test_files_of_another_kind_are_named(self, tmp_path: Path) -> None:
        """An audit for a plan, and a plan for an audit."""
        made = planned(tmp_path, images({500: 14}), audit_rows(unit(501))).table
        for name, table in (("m", images({500: 14})), ("plan", made), ("audit", audit_rows(unit(501)))):
            pq.write_table(table, tmp_path / f"{name}.parquet")
        command = ["references", "plan", "--metadata", str(tmp_path / "m.parquet")]
        for option, name, kind in (("--audit", "plan", "an audit"), ("--update", "audit", "a plan")):
            file = str(tmp_path / f"{name}.parquet")
            done = CliRunner().invoke(main, [*command, option, file])
            assert done.exit_code == 2
            assert done.stderr.startswith(f"ztfmatch: {file} is not {kind}: it has no column ")

    def test_plan_as_csv_has_its_lists_as_text(self, tmp_path: Path) -> None:
        pq.write_table(images({500: 20}), tmp_path / "m.parquet")
        words = ["--metadata", str(tmp_path / "m.parquet"), "--output", str(tmp_path / "plan.csv")]
        done = CliRunner().invoke(main, ["references", "plan", *words])
        assert done.exit_code == 0, done.output
        (row,) = csv.read_csv(tmp_path / "plan.csv").to_pylist()
        assert len(row["exposures"].split()) == row["npassed"] == 20
