"""Compaction, rollback and vacuum: content stays, history can be gone back to, nothing needed is deleted."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers import Interrupted, append, epochal_file, make_store, reference_file, rows_at, table

import ztfmatch
from ztfmatch.core.errors import (
    CommitConflictError,
    ConfigError,
    JobFailedError,
    SnapshotNotFoundError,
    StoreDamagedError,
)
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.operations.compact import CompactConfig, CompactReport, compact
from ztfmatch.core.operations.history import compare, rollback
from ztfmatch.core.operations.vacuum import vacuum
from ztfmatch.core.runner import LoopExecutor, Runner
from ztfmatch.core.survey import Unit
from ztfmatch.simulate import SimulationConfig, simulate

N_APPENDS = 4


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("compact") / "sky"
    simulate(place, SimulationConfig(n_exposures=N_APPENDS, stars_per_quadrant=500, fields=(679,)))
    return place


@pytest.fixture(scope="module")
def nights(sky: Path) -> list[list[str]]:
    catalogs = sorted(str(path) for path in (sky / "catalogs").rglob("*.fits"))
    return [catalogs[i::N_APPENDS] for i in range(N_APPENDS)]


@pytest.fixture
def store(sky: Path, nights: list[list[str]], tmp_path: Path) -> ztfmatch.Store:
    made = ztfmatch.init_store(tmp_path / "store", str(sky / "references"), ztfmatch.StoreConfig(seeds_per_tile=900))
    for night in nights:
        made.append(night)
    return made


def runner(executor: Any = None) -> Runner:
    return Runner(executor or LoopExecutor(), 2 << 30)


def run(store: ztfmatch.Store, min_files: int = 2, executor: Any = None, **options: Any) -> CompactReport:
    """Compact in full, unless something else is asked for."""
    return compact(store.storage, CompactConfig(min_files, **{"full": True, **options}), runner(executor))


def content(store: ztfmatch.Store, number: int | None = None) -> dict[str, pa.Table]:
    snapshot = store.snapshot(number)
    keys = [("exposureid", "ascending"), ("sourceid", "ascending")]
    tables = {name: snapshot.table(name).sort_by(keys) for name in ("detections", "orphans")}
    return tables | {"objects": snapshot.table("objects").sort_by("objectid")}


def test_compact_many_files_keeps_content_and_brings_them_into_one(store: ztfmatch.Store) -> None:
    before = content(store)
    old = store.snapshot()
    report = run(store)
    assert report.committed
    assert report.files_after < report.files_before
    assert content(store) == before
    assert store.verify(deep=True).passed
    files = store.snapshot().files.of_table("detections")
    assert len(files) == len({file.tile for file in files})
    assert old.table("detections").num_rows == before["detections"].num_rows


def test_compact_refreshes_statistics_to_the_same_bits_as_computed_alone(store: ztfmatch.Store) -> None:
    store.update_statistics()
    alone = store.snapshot().table("statistics").sort_by("objectid").drop_columns(["snapshot"])
    run(store)
    assert store.snapshot().status.statistics == "up to date"
    assert store.snapshot().table("statistics").sort_by("objectid").drop_columns(["snapshot"]) == alone


def test_compact_twice_does_nothing_the_second_time(store: ztfmatch.Store) -> None:
    number = run(store).snapshot
    again = run(store)
    assert (again.committed, again.snapshot, again.tiles) == (False, number, [])


def test_compact_dry_run_names_the_tiles_and_changes_nothing(store: ztfmatch.Store) -> None:
    report = compact(store.storage, CompactConfig(2, full=True), runner(), dry_run=True)
    assert report.tiles
    assert not report.committed
    assert store.snapshot().number == N_APPENDS


def test_compact_tile_that_outgrew_its_budget_is_split_and_appends_go_on(
    store: ztfmatch.Store, sky: Path, nights: list[list[str]], tmp_path: Path
) -> None:
    before = content(store)
    tiles = len(store.snapshot().files.tiling.tiles)
    report = run(store, max_rows_per_tile=200)
    assert report.split
    assert len(store.snapshot().files.tiling.tiles) == tiles + 3 * len(report.split)
    assert content(store) == before
    assert store.verify(deep=True).passed
    fewer = ztfmatch.init_store(tmp_path / "fewer", str(sky / "references"))
    for night in nights[:2]:
        fewer.append(night)
    run(fewer, max_rows_per_tile=500)
    for night in nights[2:]:
        fewer.append(night)
    assert fewer.verify().passed
    assert content(fewer) == before


def test_compact_while_an_append_commits_lands_on_top(sky: Path, nights: list[list[str]], tmp_path: Path) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    for night in nights[:3]:
        store.append(night)
    report = run(store, executor=Interrupted(lambda: store.append(nights[3])))
    assert report.snapshot == 5
    assert store.verify(deep=True).passed
    assert store.snapshot().status.exposures == sum(map(len, nights))


def test_compact_while_an_append_commits_leaves_the_statistics_of_its_tiles_stale(
    sky: Path, nights: list[list[str]], tmp_path: Path
) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    for night in nights[:3]:
        store.append(night)
    run(store, executor=Interrupted(lambda: store.append(nights[3])))
    assert "stale" in store.snapshot().status.statistics
    assert store.update_statistics().committed
    assert store.snapshot().table("statistics")["nobs"].to_numpy().sum() == store.snapshot().status.detections


def test_compact_while_statistics_are_committed_has_each_object_once(store: ztfmatch.Store) -> None:
    report = run(store, executor=Interrupted(store.update_statistics))
    assert (report.committed, [commit.operation for commit in store.commits()][-2:]) == (
        True,
        ["statistics", "compact"],
    )
    ids = store.snapshot().table("statistics")["objectid"].to_pylist()
    assert len(ids) == len(set(ids))
    assert store.snapshot().status.statistics == "up to date"


def test_compact_split_while_an_append_commits_to_the_tile_stops(
    sky: Path, nights: list[list[str]], tmp_path: Path
) -> None:
    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))
    for night in nights[:3]:
        store.append(night)
    with pytest.raises(CommitConflictError):
        run(store, executor=Interrupted(lambda: store.append(nights[3])), max_rows_per_tile=100)
    assert store.snapshot().number == 4
    assert store.verify().passed


def test_compact_damaged_file_is_named_and_nothing_is_committed(store: ztfmatch.Store) -> None:
    file: DataFile = store.snapshot().files.of_table("detections")[0]
    path = Path(store.path) / file.path
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(JobFailedError, match="detections"):
        run(store)
    assert store.snapshot().number == N_APPENDS


def test_rollback_makes_an_older_state_the_newest_and_the_night_can_be_appended_again(
    store: ztfmatch.Store, nights: list[list[str]]
) -> None:
    whole = content(store)
    report = rollback(store.storage, 2)
    assert (report.snapshot, report.restored, report.committed) == (5, 2, True)
    assert content(store) == content(store, 2)
    assert store.snapshot().status.exposures == len(nights[0]) + len(nights[1])
    for night in nights[2:]:
        assert store.append(night).exposures == len(night)
    assert content(store) == whole
    assert store.verify(deep=True).passed


def test_rollback_to_the_newest_state_commits_nothing(store: ztfmatch.Store) -> None:
    assert not rollback(store.storage, N_APPENDS).committed
    assert not rollback(store.storage, 1, dry_run=True).committed
    assert store.snapshot().number == N_APPENDS


def test_rollback_to_a_snapshot_that_is_not_there_is_a_clear_error(store: ztfmatch.Store) -> None:
    with pytest.raises(SnapshotNotFoundError, match="no snapshot 99; the newest is 4"):
        rollback(store.storage, 99)


def test_compare_two_snapshots_counts_rows_by_table_and_tile(store: ztfmatch.Store) -> None:
    differences = compare(store.storage, 1, 3)
    added = sum(d.rows_after - d.rows_before for d in differences if d.table == "detections")
    assert added == store.snapshot(3).files.rows("detections") - store.snapshot(1).files.rows("detections")
    assert {d.table for d in differences} >= {"detections", "exposures"}
    assert "objects" not in {d.table for d in differences}
    assert compare(store.storage, 2, 2) == []


def age(store: ztfmatch.Store) -> None:
    """Make every file of the store two days old."""
    for path in Path(store.path).rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_mtime - 2 * 86400,) * 2)


def test_vacuum_keeps_what_retained_snapshots_name_and_deletes_the_rest(store: ztfmatch.Store) -> None:
    run(store)
    age(store)
    rehearsed = vacuum(store.storage, keep=1, dry_run=True)
    assert not rehearsed.deleted
    assert store.snapshot(1).table("detections").num_rows
    report = vacuum(store.storage, keep=1)
    assert (report.files, report.bytes) == (rehearsed.files, rehearsed.bytes)
    assert report.files > N_APPENDS
    assert store.verify(deep=True).passed
    with pytest.raises(SnapshotNotFoundError, match="removed by a vacuum; the oldest is 5"):
        store.snapshot(3)
    assert [commit.number for commit in store.commits()] == list(range(6))
    assert vacuum(store.storage, keep=1).files == 0


def test_vacuum_keeping_all_deletes_only_what_no_snapshot_names(store: ztfmatch.Store) -> None:
    stray = Path(store.path) / "data" / "detections" / "stray.parquet"
    stray.write_bytes(b"left by a job that failed for good")
    assert vacuum(store.storage, keep=100).files == 0
    assert vacuum(store.storage, keep=100).spared == 1
    age(store)
    assert vacuum(store.storage, keep=100).files == 1
    assert not stray.exists()
    assert all(store.snapshot(number).table("objects").num_rows for number in range(N_APPENDS + 1))


@pytest.mark.parametrize("days", [-30, 30])
def test_vacuum_goes_by_the_clock_that_dates_the_files(
    store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    def stray(name: str) -> Path:
        path = Path(store.path) / "data" / "detections" / name
        path.write_bytes(b"of a job that runs, or of one that failed")
        return path

    old = stray("old.parquet")
    age(store)
    young, now = stray("young.parquet"), time.time
    monkeypatch.setattr(time, "time", lambda: now() + days * 86400.0)
    report = vacuum(store.storage, keep=100)
    assert (report.files, report.spared, old.exists(), young.exists()) == (1, 1, False, True)
    assert list(store.storage.list("staging/")) == []


def test_vacuum_without_grace_takes_files_of_the_future(store: ztfmatch.Store) -> None:
    stray = Path(store.path) / "data" / "detections" / "stray.parquet"
    stray.write_bytes(b"copied from a machine whose clock was ahead")
    os.utime(stray, (time.time() + 86400.0,) * 2)
    assert (vacuum(store.storage, keep=100, grace_hours=0.0).files, stray.exists()) == (1, False)


def test_vacuum_before_a_running_append_commits_spares_its_files(
    sky: Path, nights: list[list[str]], tmp_path: Path
) -> None:
    from ztfmatch.core.config import AppendConfig
    from ztfmatch.core.operations.append import append_catalogs

    store = ztfmatch.init_store(tmp_path / "store", str(sky / "references"))

    def clean() -> None:
        vacuum(store.storage, keep=1)

    append_catalogs(store.storage, nights[0], AppendConfig(), runner(Interrupted(clean)))
    assert store.verify(deep=True).passed


def test_vacuum_while_a_rollback_commits_spares_what_it_names(
    store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store)
    age(store)
    restore = log.restore

    def late(*arguments: Any) -> log.Commit:
        assert vacuum(store.storage, keep=1).files > 0
        return restore(*arguments)

    monkeypatch.setattr(log, "restore", late)
    assert rollback(store.storage, 2).snapshot == 6
    assert content(store)["detections"].num_rows
    assert store.verify(deep=True).passed
    assert list(store.storage.list("staging/")) == []


def test_rollback_to_a_snapshot_that_a_vacuum_takes_meanwhile_changes_nothing(
    store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(store)

    def late(*arguments: Any) -> list[Any]:
        vacuum(store.storage, keep=1)
        return []

    monkeypatch.setattr("ztfmatch.core.operations.history.compare", late)
    with pytest.raises(SnapshotNotFoundError, match="snapshot 2 was removed by a vacuum"):
        rollback(store.storage, 2)
    assert store.snapshot().number == N_APPENDS
    assert list(store.storage.list("staging/")) == []


def test_vacuum_after_a_rollback_was_killed_goes_on(store: ztfmatch.Store) -> None:
    """What it held is spared for a while if it is there, and missed by nobody if it is not."""
    age(store)
    vacuum(store.storage, keep=1)
    store.storage.put(paths.held_snapshot("0" * 32, 1), b"")
    assert vacuum(store.storage, keep=1).spared == 1
    age(store)
    assert vacuum(store.storage, keep=1).files == 1


@pytest.mark.parametrize(("keep", "grace"), [(0, 1.0), (1, -1.0), (1, float("nan"))])
def test_vacuum_impossible_settings_are_refused(store: ztfmatch.Store, keep: int, grace: float) -> None:
    with pytest.raises(ConfigError):
        vacuum(store.storage, keep, grace)


def test_open_snapshot_whose_file_is_missing_says_which(store: ztfmatch.Store) -> None:
    file = store.snapshot().files.of_table("objects")[0]
    (Path(store.path) / file.path).unlink()
    with pytest.raises(StoreDamagedError, match=file.path.rsplit("/", 1)[-1]):
        store.snapshot().files.read("objects")


def test_compact_ledger_becomes_one_sorted_file_of_the_same_rows(
    store: ztfmatch.Store, nights: list[list[str]]
) -> None:
    before = store.snapshot()
    epochs = before.lightcurves(objectid=before.table("objects")["objectid"].to_pylist()[:40])
    report = run(store)
    after = store.snapshot()
    files = after.files.of_table("exposures")
    assert (len(before.files.of_table("exposures")), report.ledger_files, len(files)) == (N_APPENDS, N_APPENDS, 1)
    rows = after.table("exposures")
    assert rows.equals(rows.sort_by([("field", "ascending"), ("exposureid", "ascending")]))
    assert rows.sort_by("exposureid").equals(before.table("exposures").sort_by("exposureid"))
    assert after.lightcurves(objectid=after.table("objects")["objectid"].to_pylist()[:40]).equals(epochs)
    assert store.append([*nights[0], *nights[3]]).known == len(nights[0]) + len(nights[3])


def test_compact_ledger_of_mixed_quality_is_the_same_whatever_the_order_of_its_labels(tmp_path: Path) -> None:
    rows = rows_at([10.0, 10.1], [20.0, 20.0])
    storage = make_store(tmp_path / "s", [reference_file(tmp_path, rows)])
    append(storage, [epochal_file(tmp_path, rows, 0, Unit(1550, 20, 2), NMATCHES=3)])
    append(storage, [epochal_file(tmp_path, rows, 1, Unit(500, 20, 2))])
    before = table(storage, "exposures")
    assert compact(storage, CompactConfig(2, full=True), runner()).ledger_files == 2
    assert table(storage, "exposures").equals(before)
    assert before.sort_by("field")["quality"].to_pylist() == ["good", "bad"]


def test_compact_large_ledger_files_are_left_alone(store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    small = sorted(store.snapshot().files.of_table("exposures"), key=lambda file: file.min_hmjd or 0.0)
    rows = small[0].rows
    monkeypatch.setattr("ztfmatch.core.operations.compact.LEDGER_ROWS", 2 * rows + 2)
    run(store)
    files = store.snapshot().files.of_table("exposures")
    assert [file.rows for file in files] == [2 * rows] * 2
    assert {(file.min_hmjd, file.rows) for file in files} == {(file.min_hmjd, 2 * rows) for file in small[::2]}
    assert run(store).ledger_files == 0


def test_compact_tile_of_many_full_files_is_not_compacted_again(
    store: ztfmatch.Store, nights: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ztfmatch.core.operations.compact", "ztfmatch.core.tasks.compact"):
        monkeypatch.setattr(f"{module}.ROWS_PER_FILE", 40)
    monkeypatch.setattr("ztfmatch.core.tasks.compact._ROWS_TO_WRITE", 30)
    before = content(store)
    run(store)
    files = store.snapshot().files.of_table("detections")
    assert max(Counter(file.tile for file in files).values()) >= 6, "the test needs a tile of many files"
    assert content(store) == before
    assert run(store, min_files=6).tiles == []
