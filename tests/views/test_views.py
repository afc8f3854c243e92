"""Views of a snapshot's own files, read by the tools that they are for, after everything that can change a store."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from releases import CONFIG, digests, hidden, make_survey

import ztfmatch
from ztfmatch.core.config import CompactConfig
from ztfmatch.core.errors import CommitConflictError, ConfigError, OutputExistsError, StorageError
from ztfmatch.core.io import localfiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.simulate import regenerate_references
from ztfmatch.views import delta
from ztfmatch.views.io import links

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:pandas.errors.Pandas4Warning"),
    # LSDB's word for a catalog that has no margin, which a join by objectid within tiles does not need.
    pytest.mark.filterwarnings("ignore:Right catalog does not have a margin cache:RuntimeWarning"),
]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    place = tmp_path_factory.mktemp("survey")
    store = make_survey(place)
    regenerate_references(place / "sky", CONFIG)
    return store


@pytest.fixture
def store(survey: ztfmatch.Store, tmp_path: Path) -> ztfmatch.Store:
    """A copy, to be changed."""
    return ztfmatch.open_store(shutil.copytree(survey.path, tmp_path / "store"))


def references(survey: ztfmatch.Store) -> str:
    return str(Path(survey.path).parent / "sky" / "references_1")


@pytest.fixture(scope="module")
def deltalake() -> Any:
    return pytest.importorskip("deltalake", reason="deltalake is not installed: pip install 'ztfmatch[test]'")


def plain(table: pa.Table) -> pa.Table:
    """Rows without dictionaries and unsigned numbers, as Delta has them."""
    kinds = {pa.uint16(): pa.int32(), pa.uint8(): pa.int16(), pa.uint32(): pa.int64()}
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if kind != pa.uint64():
            columns[name] = column.cast(kind).cast(kinds.get(kind, kind))
    return pa.table(columns)


def assert_viewed(snapshot: ztfmatch.Snapshot, place: Path, deltalake: Any) -> None:
    """Every table as deltalake reads it is the snapshot's, but for retired objects."""
    for name in ("detections", "objects", "exposures", "orphans", "lineage"):
        mine = plain(snapshot.table(name))
        if name == "objects":
            mine = mine.filter(pa.compute.equal(mine["status"], "active"))
        theirs = deltalake.DeltaTable(place / name).to_pyarrow_table()
        theirs = pa.table({column: theirs[column].cast(mine[column].type) for column in mine.column_names})
        keys = [(key, "ascending") for key in mine.column_names if not pa.types.is_floating(mine[key].type)]
        assert theirs.sort_by(keys).equals(mine.sort_by(keys)), name


def test_delta_view_is_read_by_deltalake_polars_and_duckdb(
    survey: ztfmatch.Store, tmp_path: Path, deltalake: Any
) -> None:
    snapshot = survey.snapshot()
    report = snapshot.view_delta(tmp_path / "view")
    assert (report.copied, report.tables["detections"]) == (0, len(snapshot.paths("detections")))
    assert_viewed(snapshot, tmp_path / "view", deltalake)
    detections = snapshot.table("detections").sort_by([("objectid", "ascending"), ("hmjd", "ascending")])
    objectid = detections["objectid"][500].as_py()
    ours = detections.filter(pa.compute.equal(detections["objectid"], objectid))["mag"].to_pylist()
    table = deltalake.DeltaTable(tmp_path / "view" / "detections")
    by_arrow = table.to_pyarrow_table(filters=[("objectid", "=", objectid)]).sort_by("hmjd")
    assert by_arrow["mag"].to_pylist() == ours
    lazily = pl.scan_delta(str(tmp_path / "view" / "detections")).filter(pl.col("objectid") == objectid).sort("hmjd")
    assert lazily.collect()["mag"].to_list() == ours
    dataset = table.to_pyarrow_dataset()  # noqa: F841 (DuckDB finds it by its name)
    found = duckdb.sql(f"SELECT mag FROM dataset WHERE objectid = {objectid} ORDER BY hmjd").fetchall()
    assert [row[0] for row in found] == ours
    files = duckdb.sql(
        f"SELECT mag FROM read_parquet({snapshot.paths('detections')}) WHERE objectid = {objectid} ORDER BY hmjd"
    )
    assert [row[0] for row in files.fetchall()] == ours


def test_delta_view_takes_no_space_and_documents_its_columns(
    survey: ztfmatch.Store, tmp_path: Path, deltalake: Any
) -> None:
    snapshot = survey.snapshot()
    snapshot.view_delta(tmp_path / "view")
    assert all(path.stat().st_nlink > 1 for path in (tmp_path / "view").rglob("*.parquet"))
    table = deltalake.DeltaTable(tmp_path / "view" / "detections")
    field = next(field for field in table.schema().fields if field.name == "hmjd")
    assert field.metadata["unit"] == "day"
    adds = pa.table(table.get_add_actions(flatten=True))
    assert pa.compute.sum(adds["num_records"]).as_py() == snapshot.status.detections
    assert {"partition.Norder", "partition.Npix", "min.objectid", "max.hmjd"} <= set(adds.column_names)


def test_delta_view_after_append_rematch_compact_rollback_is_the_snapshot(
    survey: ztfmatch.Store, store: ztfmatch.Store, tmp_path: Path, deltalake: Any
) -> None:
    place = tmp_path / "view"
    store.snapshot(1).view_delta(place)
    assert_viewed(store.snapshot(1), place, deltalake)
    store.snapshot().view_delta(place)
    assert_viewed(store.snapshot(), place, deltalake)
    store.rematch(references(survey))
    report = store.snapshot().view_delta(place)
    assert report.copied > 0
    assert "retired" in store.snapshot().table("objects")["status"].to_pylist()
    statuses = deltalake.DeltaTable(place / "objects").to_pyarrow_table(columns=["status"])["status"]
    assert set(statuses.to_pylist()) == {"active"}
    assert_viewed(store.snapshot(), place, deltalake)
    store.compact(CompactConfig(2, full=True))
    store.snapshot().view_delta(place)
    assert_viewed(store.snapshot(), place, deltalake)
    store.rollback(3)
    store.snapshot().view_delta(place)
    assert_viewed(store.snapshot(), place, deltalake)
    table = deltalake.DeltaTable(place / "detections")
    assert table.version() == 4
    table.load_as_version(0)
    assert table.to_pyarrow_table().num_rows == store.snapshot(1).status.detections
    before = len(list((place / "detections").glob("*.parquet")))
    newest = deltalake.DeltaTable(place / "detections")
    newest.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert len(list((place / "detections").glob("*.parquet"))) == len(newest.file_uris()) < before
    assert store.snapshot().view_delta(place).changed == []
    assert_viewed(store.snapshot(), place, deltalake)


def test_delta_view_again_changes_nothing(survey: ztfmatch.Store, tmp_path: Path) -> None:
    survey.snapshot().view_delta(tmp_path / "view")
    logs = sorted((tmp_path / "view").rglob("*.json"))
    report = survey.snapshot().view_delta(tmp_path / "view")
    assert report.changed == []
    assert sorted((tmp_path / "view").rglob("*.json")) == logs


def test_delta_view_of_an_earlier_version_is_told_anew_of_its_columns_and_bounds(
    survey: ztfmatch.Store, tmp_path: Path, deltalake: Any
) -> None:
    snapshot = survey.snapshot()
    snapshot.view_delta(tmp_path / "view")
    record = tmp_path / "view" / "detections" / "_delta_log" / f"{0:020d}.json"
    record.write_text(record.read_text().replace("delta.dataSkippingStatsColumns", "of.another.time"))
    faint = [("mag", ">", 18.0)]
    assert deltalake.DeltaTable(record.parents[1]).to_pandas(filters=faint).empty  # as such a view is read
    assert snapshot.view_delta(tmp_path / "view").changed == ["detections"]
    table = deltalake.DeltaTable(record.parents[1])
    assert (table.version(), len(table.file_uris())) == (1, len(snapshot.paths("detections")))
    expected = snapshot.table("detections", filter=pc.field("mag") > 18.0).num_rows
    assert len(table.to_pandas(filters=faint)) == expected > 0
    assert snapshot.view_delta(tmp_path / "view").changed == []


def test_delta_view_outlives_a_vacuum(store: ztfmatch.Store, tmp_path: Path, deltalake: Any) -> None:
    snapshot = store.snapshot()
    rows, stored = snapshot.status.detections, Path(snapshot.paths("detections")[0])
    snapshot.view_delta(tmp_path / "view")
    store.compact(CompactConfig(2, full=True))
    store.vacuum(keep=1, grace_hours=0.0)
    assert not stored.exists()
    assert deltalake.DeltaTable(tmp_path / "view" / "detections").to_pyarrow_table().num_rows == rows


def test_delta_view_leaves_out_statistics_of_another_snapshot(
    survey: ztfmatch.Store, store: ztfmatch.Store, tmp_path: Path, deltalake: Any
) -> None:
    store.update_statistics()
    fresh = store.snapshot().view_delta(tmp_path / "view")
    assert (fresh.stale_statistics, fresh.tables["statistics"] > 0) == (0, True)
    store.rematch(references(survey))
    stale = store.snapshot().view_delta(tmp_path / "view")
    assert stale.stale_statistics > 0
    table = deltalake.DeltaTable(tmp_path / "view" / "statistics").to_pyarrow_table(columns=["objectid"])
    active = store.snapshot().table("objects")
    active = active.filter(pa.compute.equal(active["status"].cast(pa.string()), "active"))
    assert set(table["objectid"].to_pylist()) <= set(active["objectid"].to_pylist())


def test_link_without_hard_links_is_a_symbolic_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")

    def elsewhere(self: Path, target: Path) -> None:
        raise OSError(18, os.strerror(18))

    monkeypatch.setattr(Path, "hardlink_to", elsewhere)
    for _ in range(2):
        links.link(tmp_path / "file", tmp_path / "deep" / "link")
    assert (tmp_path / "deep" / "link").is_symlink()
    assert (tmp_path / "deep" / "link").read_text() == "x"


def test_view_of_a_store_in_an_object_store_is_refused(survey: ztfmatch.Store, tmp_path: Path) -> None:
    snapshot = survey.snapshot()
    remote = ztfmatch.Snapshot(type(snapshot.files)(Storage("s3://bucket/store"), snapshot.files.config,
                                                    snapshot.files.commit))  # fmt: skip
    with pytest.raises(ConfigError, match="s3://bucket/store: a view links the files of a store in a local directory"):
        remote.view_delta(tmp_path / "view")


def test_delta_view_of_something_else_is_refused(
    survey: ztfmatch.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = survey.snapshot()
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputExistsError, match="mine exists already and is no Delta view"):
        snapshot.view_delta(tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []
    snapshot.view_delta(tmp_path / "view")
    record = json.loads((tmp_path / "view" / "view.json").read_text())
    (tmp_path / "view" / "view.json").write_text("[1]")
    with pytest.raises(OutputExistsError, match="view exists already and is no"):
        snapshot.view_delta(tmp_path / "view")
    (tmp_path / "view" / "view.json").write_text(json.dumps(record | {"store": "another"}))
    with pytest.raises(OutputExistsError, match="view is a view of another store"):
        snapshot.view_delta(tmp_path / "view")
    (tmp_path / "view" / "view.json").write_text(json.dumps(record))
    monkeypatch.setattr(delta.deltalog, "write_version", lambda *_: False)
    with pytest.raises(CommitConflictError, match="another process wrote version 1; run it again"):
        survey.snapshot(1).view_delta(tmp_path / "view")


# LSDB


def lightcurves_by_lsdb(lsdb: Any, place: Path) -> Any:
    objects, detections = lsdb.open_catalog(place / "objects"), lsdb.open_catalog(place / "detections")
    joined = objects.join_nested(
        detections, left_on="objectid", right_on="objectid", nested_column_name="lightcurve", how="inner"
    )
    return joined.compute(progress_bar=False)


def assert_same_lightcurves(rows: Any, snapshot: ztfmatch.Snapshot) -> None:
    ours = snapshot.table("detections").to_pandas().sort_values(["objectid", "exposureid"], ignore_index=True)
    flat = rows.set_index("objectid")["lightcurve"].explode().reset_index()
    flat = flat.sort_values(["objectid", "exposureid"], ignore_index=True)
    assert len(flat) == len(ours)
    for name in ("objectid", "exposureid", "hmjd", "mag"):
        np.testing.assert_array_equal(flat[name].to_numpy(float), ours[name].to_numpy(float), err_msg=name)


def test_hats_view_serves_a_compacted_snapshot_to_lsdb(
    survey: ztfmatch.Store, store: ztfmatch.Store, tmp_path: Path, lsdb: Any
) -> None:
    store.compact(CompactConfig(2, full=True))
    compacted = store.snapshot()
    report = compacted.view_hats(tmp_path / "view")
    assert report.linked == len(compacted.paths("detections"))
    validation = pytest.importorskip("hats.io.validation")
    for name in ("objects", "detections"):
        assert validation.is_valid_catalog(tmp_path / "view" / name, strict=True)
    assert_same_lightcurves(lightcurves_by_lsdb(lsdb, tmp_path / "view"), compacted)
    star = compacted.table("objects").to_pandas().iloc[100]
    found = lsdb.open_catalog(tmp_path / "view" / "objects").cone_search(star.ra, star.dec, 120.0)
    assert (
        sorted(found.compute(progress_bar=False).objectid)
        == compacted.objects(cone=(star.ra, star.dec, 120.0))["objectid"].to_pylist()
    )
    store.rematch(references(survey))
    store.compact(CompactConfig(2, full=True))
    assert_same_lightcurves(lightcurves_by_lsdb(lsdb, tmp_path / "view"), compacted)
    again = store.snapshot()
    again.view_hats(tmp_path / "again")
    assert_same_lightcurves(lightcurves_by_lsdb(lsdb, tmp_path / "again"), again)
    objects = lsdb.open_catalog(tmp_path / "again" / "objects").compute(progress_bar=False)
    active = again.table("objects").to_pandas().query("status == 'active'")
    assert sorted(objects.objectid) == sorted(active.objectid)


@pytest.mark.parametrize("content", [b"half", b""])
def test_hats_view_resumed_after_a_power_cut_is_as_if_there_had_been_none(
    store: ztfmatch.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    store.compact(CompactConfig(2, full=True))
    snapshot = store.snapshot()
    snapshot.view_hats(tmp_path / "whole")

    def cut_off(made: Path, place: Path) -> None:
        raise OSError(5, "no power")

    for kind in ("results", "objects", "detections", "others"):
        out = tmp_path / kind / "view"
        out.parent.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(localfiles, "give_name", cut_off)
            patch.setattr(shutil, "rmtree", lambda *arguments, **options: None)
            with pytest.raises(StorageError, match="no power"):
                snapshot.view_hats(out)
        partial = out.parent / hidden(out.parent)[0]
        damaged = [path for path in partial.rglob("*") if path.is_file() and kind_of(path.relative_to(partial)) == kind]
        for path in damaged:
            path.unlink()  # not through a link into the store
            path.write_bytes(content)
        assert damaged
        snapshot.view_hats(out)
        assert digests(out) == digests(tmp_path / "whole")
        assert list(out.parent.iterdir()) == [out]


def kind_of(path: Path) -> str:
    """What a file in a view is."""
    if path.parts[0] == "staging":
        return "results"
    return path.parts[0] if "Npix" in str(path) else "others"


def test_link_where_a_copy_is_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").write_text("")
    links.link(tmp_path / "file", tmp_path / "link")
    assert (tmp_path / "link").samefile(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_hats_view_of_a_snapshot_that_is_not_compact_is_refused(survey: ztfmatch.Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has \d files with the same objects: .*compact --full --min-files 2"):
        survey.snapshot().view_hats(tmp_path / "view")
    with pytest.raises(ConfigError, match=r"snapshot 0 of .* has no detections to view"):
        survey.snapshot(0).view_hats(tmp_path / "view")
    (tmp_path / "view").mkdir()
    with pytest.raises(OutputExistsError, match="view exists already"):
        survey.snapshot().view_hats(tmp_path / "view")
    assert hidden(tmp_path) == []
