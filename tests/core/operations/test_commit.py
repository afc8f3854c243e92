"""The loop that commits on top of others: what it commits, what it refuses, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import CommitConflictError
from ztfmatch.core.io import log, paths, storefile
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, before_first, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import whole_sky
from ztfmatch.core.operations.commit import commit_on_top

OURS, THEIRS = "a" * 32, "b" * 32


def change(storage: Storage, name: str, operation_id: str, first: bool = False) -> log.Change:
    """A change that adds one file, which is put in place as a task would."""
    storage.put(f"data/{name}", b"data")
    file = DataFile("detections", 1, 7, f"data/{name}", 1, 10, 1, None, None, 58300.25, "ab" * 32, 0, 99, "cd" * 8)
    return log.Change("append", operation_id, {}, {}, [file], tiling=whole_sky() if first else None)


@pytest.fixture
def empty(tmp_path: Path) -> SnapshotFiles:
    storage = Storage.at(tmp_path / "s")
    storefile.create_store(storage, StoreConfig())
    storage.put(paths.staged_result(OURS, "task"), b"{}")
    return before_first(storage, StoreConfig())


@pytest.fixture
def first(empty: SnapshotFiles) -> SnapshotFiles:
    log.commit(empty.storage, None, change(empty.storage, "first", "0" * 32, first=True))
    return open_snapshot(empty.storage)


def staged(storage: Storage) -> list[str]:
    return [path for path, _ in storage.list(paths.STAGING)]


def test_before_first_has_nothing_and_is_numbered_below_the_first(empty: SnapshotFiles) -> None:
    assert (empty.number, list(empty.files), empty.read("references").num_rows) == (-1, [], 0)


def test_commit_on_top_of_nothing_is_the_first_snapshot(empty: SnapshotFiles) -> None:
    made = change(empty.storage, "ours", OURS, first=True)
    committed = commit_on_top(empty, lambda _: made, lambda _: None)
    assert (committed.done, committed.number, committed.size, committed.tiles) == (True, 0, 10, 1)
    assert open_snapshot(empty.storage).commit.parent is None
    assert staged(empty.storage) == []


def test_commit_on_top_of_nothing_where_another_made_the_store_raises(empty: SnapshotFiles) -> None:
    def build(head: SnapshotFiles) -> log.Change:
        log.commit(head.storage, None, change(head.storage, "theirs", THEIRS, first=True))
        return change(head.storage, "ours", OURS, first=True)

    with pytest.raises(CommitConflictError, match=r"another writer made the store \(snapshot 0, append\) during this"):
        commit_on_top(empty, build, lambda _: "made the store")
    assert open_snapshot(empty.storage).files.paths() == ["data/theirs"]


def test_commit_on_top_of_two_others_builds_anew_on_each(first: SnapshotFiles) -> None:
    asked: list[tuple[str, int]] = []

    def build(head: SnapshotFiles) -> log.Change:
        asked.append(("build", head.number))
        if head.number < 2:
            log.commit(head.storage, head.commit, change(head.storage, f"theirs{head.number}", THEIRS))
        return change(head.storage, f"ours{head.number}", OURS)

    def still_valid(head: SnapshotFiles) -> None:
        asked.append(("valid", head.number))

    committed = commit_on_top(first, build, still_valid)
    assert asked == [("build", 0), ("valid", 1), ("build", 1), ("valid", 2), ("build", 2)]
    assert (committed.head.number, committed.number) == (2, 3)
    live = {"data/first", "data/theirs0", "data/theirs1", "data/ours2"}
    assert set(open_snapshot(first.storage).files.paths()) == live
    assert staged(first.storage) == []


def test_commit_on_top_of_what_it_does_not_hold_on_raises_and_keeps_what_is_staged(first: SnapshotFiles) -> None:
    def build(head: SnapshotFiles) -> log.Change:
        log.commit(head.storage, head.commit, change(head.storage, "theirs", THEIRS))
        return change(head.storage, "ours", OURS)

    message = (
        r"/s: another writer changed the tiles \(snapshot 1, append\) during this append; nothing of it is visible"
    )
    with pytest.raises(CommitConflictError, match=message):
        commit_on_top(first, build, lambda _: "changed the tiles")
    assert set(open_snapshot(first.storage).files.paths()) == {"data/first", "data/theirs"}
    assert len(staged(first.storage)) == 1


def test_commit_on_top_of_one_that_left_nothing_to_commit_commits_nothing(first: SnapshotFiles) -> None:
    def build(head: SnapshotFiles) -> log.Change | None:
        if head.number:
            return None
        log.commit(head.storage, head.commit, change(head.storage, "theirs", THEIRS))
        return change(head.storage, "ours", OURS)

    committed = commit_on_top(first, build, lambda _: None)
    assert (committed.done, committed.number, committed.size, committed.tiles) == (False, 1, 0, 0)
    assert open_snapshot(first.storage).number == 1
    assert staged(first.storage) == []


def test_commit_on_top_with_nothing_to_commit_keeps_what_is_staged(first: SnapshotFiles) -> None:
    assert commit_on_top(first, lambda _: None, lambda _: None).number == 0
    assert len(staged(first.storage)) == 1
