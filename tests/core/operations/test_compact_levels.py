"""Compaction in levels: content, order and what is derived stay as they are, and little is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import ztfmatch
from ztfmatch.core.errors import CommitConflictError, JobFailedError, StoreDamagedError
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.operations import mergeplan
from ztfmatch.core.operations.compact import CompactConfig, CompactReport, compact
from ztfmatch.core.runner import Job, LoopExecutor, Runner
from ztfmatch.core.tasks import levels
from ztfmatch.core.tasks.results import Written
from ztfmatch.simulate import SimulationConfig, simulate

NIGHTS = 8
COUNTED = 4
"""Nights after which statistics and transients were made."""


@dataclass(frozen=True)
class Made:
    store: Path
    nights: list[list[str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("levels")
    simulate(place / "sky", SimulationConfig(n_exposures=NIGHTS, stars_per_quadrant=400, fields=(679,)))
    catalogs = sorted(str(path) for path in (place / "sky" / "catalogs").rglob("*.fits"))
    nights = [catalogs[i::NIGHTS] for i in range(NIGHTS)]
    store = ztfmatch.init_store(
        place / "store", str(place / "sky" / "references"), ztfmatch.StoreConfig(seeds_per_tile=900)
    )
    for number, night in enumerate(nights[:-1], start=1):
        store.append(night)
        if number == COUNTED:
            store.update_statistics()
            store.update_transients()
    return Made(place / "store", nights)


@pytest.fixture
def store(made: Made, tmp_path: Path) -> ztfmatch.Store:
    return ztfmatch.open_store(shutil.copytree(made.store, tmp_path / "store"))


def run(store: ztfmatch.Store, min_files: int = 2, executor: Any = None, **options: Any) -> CompactReport:
    runner = Runner(executor or LoopExecutor(), 2 << 30)
    return compact(store.storage, CompactConfig(min_files), runner, **options)


def run_in_full(store: ztfmatch.Store) -> CompactReport:
    return compact(store.storage, CompactConfig(2, full=True), Runner(LoopExecutor(), 2 << 30))


def content(store: ztfmatch.Store) -> dict[str, pa.Table]:
    snapshot = store.snapshot()
    keys = [("exposureid", "ascending"), ("sourceid", "ascending")]
    tables = {name: snapshot.table(name).sort_by(keys) for name in ("detections", "orphans")}
    ids = {name: snapshot.table(name).sort_by(f"{name[:-1]}id") for name in ("objects", "transients")}
    return tables | ids | {"statistics": snapshot.table("statistics").sort_by("objectid")}


def files_by_tile(store: ztfmatch.Store, table: str) -> dict[Any, list[DataFile]]:
    files: dict[Any, list[DataFile]] = {}
    for file in store.snapshot().files.of_table(table):
        files.setdefault(file.tile, []).append(file)
    return files


def test_compact_in_levels_keeps_content_and_what_is_derived(store: ztfmatch.Store) -> None:
    before, status = content(store), store.snapshot().status
    old = files_by_tile(store, "detections")
    report = run(store)
    assert (report.committed, report.split, report.waiting) == (True, [], 0)
    assert report.files_after < report.files_before
    assert content(store) == before
    after = store.snapshot().status
    assert (after.statistics, after.transients) == (status.statistics, status.transients)
    assert "stale" in after.statistics
    new = files_by_tile(store, "detections")
    assert sum(map(len, new.values())) < sum(map(len, old.values()))
    for tile, files in new.items():
        assert levels.runs_due(sorted(file.rows for file in files if file.commit <= COUNTED), levels.Rule(2)) == 0
        assert {file.commit for file in files} <= {file.commit for file in old[tile]}
    assert store.verify(deep=True).passed
    again = run(store)
    assert (again.committed, again.tiles) == (False, [])


def test_compact_in_levels_never_mixes_what_statistics_counted_with_what_they_did_not(store: ztfmatch.Store) -> None:
    counted = store.snapshot().files.of_table("statistics")[0].commit
    rows = [
        sum(file.rows for file in store.snapshot().files.of_table("detections") if file.commit > counted)
        for _ in (run(store, dry_run=True), run(store))
    ]
    assert rows[0] == rows[1] > 0
    store.update_statistics()
    statistics = store.snapshot().table("statistics").sort_by("objectid").drop_columns(["snapshot"])
    run_in_full(store)
    whole = store.snapshot().table("statistics").sort_by("objectid").drop_columns(["snapshot"])
    assert whole == statistics


def test_compact_in_levels_divided_among_tasks_is_the_same(
    store: ztfmatch.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ztfmatch.open_store(shutil.copytree(store.path, tmp_path / "other"))
    run(other)
    monkeypatch.setattr(mergeplan, "ROWS_PER_TASK", 150)
    jobs: list[Job] = []
    before = content(store)
    run(store, executor=Seen(jobs.append))
    tasks = [task for job in jobs if job.title == "merging" for task in job.tasks]
    assert any(task.span is not None for task in tasks)
    assert content(store) == before == content(other)
    assert store.verify().passed
    assert not run(store).committed, "the files that several tasks made are one run"


@dataclass
class Seen:
    """Runs tasks in a loop, shows the job before, and does something after."""

    before: Callable[[Job], Any] = lambda _: None
    after: Callable[[Job], Any] = lambda _: None

    def outcomes(self, job: Job) -> Iterator[Any]:
        self.before(job)
        yield from LoopExecutor().outcomes(job)
        self.after(job)


def on_merging(do: Callable[[], Any]) -> Callable[[Job], Any]:
    return lambda job: do() if job.title == "merging" else None


def test_compact_in_levels_while_an_append_commits_lands_on_top(store: ztfmatch.Store, made: Made) -> None:
    number = store.snapshot().number
    report = run(store, executor=Seen(after=on_merging(lambda: store.append(made.nights[-1]))))
    assert (report.committed, report.snapshot) == (True, number + 2)
    assert store.snapshot().status.exposures == sum(map(len, made.nights))
    assert "stale" in store.snapshot().status.statistics
    assert store.update_statistics().committed
    assert store.snapshot().table("statistics")["nobs"].to_numpy().sum() == store.snapshot().status.detections
    assert store.verify(deep=True).passed


def test_compact_in_levels_while_statistics_commit_leaves_them_up_to_date(store: ztfmatch.Store) -> None:
    run(store, executor=Seen(after=on_merging(store.update_statistics)))
    assert store.snapshot().status.statistics == "up to date"
    assert store.snapshot().table("statistics")["nobs"].to_numpy().sum() == store.snapshot().status.detections


def test_compact_in_levels_while_another_does_so_stops(store: ztfmatch.Store) -> None:
    with pytest.raises(CommitConflictError, match="changed the same tiles"):
        run(store, executor=Seen(after=on_merging(lambda: run_in_full(store))))
    assert store.verify().passed


def test_compact_in_levels_damaged_file_is_named_and_nothing_is_committed(store: ztfmatch.Store) -> None:
    number = store.snapshot().number
    file = max(files_by_tile(store, "detections").values(), key=len)[0]
    path = Path(store.path) / file.path
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(JobFailedError, match="detections"):
        run(store)
    assert store.snapshot().number == number


def test_compact_in_levels_that_lost_rows_commits_nothing(
    store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = store.snapshot().number
    monkeypatch.setattr("ztfmatch.core.operations.compact.merge_files", nothing)
    with pytest.raises(StoreDamagedError, match=r"compaction of \w+ in tile .*: 0 rows written; \d+ were there"):
        run(store)
    assert store.snapshot().number == number


def nothing(task: Any) -> Written:
    return Written([])


def test_compact_in_levels_leaves_large_merges_for_the_next_time(
    store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mergeplan, "ROWS_PER_FILE", 10)
    before = content(store)
    rehearsed = run(store, dry_run=True)
    assert rehearsed.waiting > 0
    reports = [rehearsed]
    while reports[-1].waiting:
        reports.append(run(store))
        assert reports[-1].bytes_before < rehearsed.bytes_before + reports[0].waiting * 10**6
    assert len(reports) > 2
    assert content(store) == before
    assert not run(store).committed
