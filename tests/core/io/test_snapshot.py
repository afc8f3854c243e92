"""A snapshot that tasks hold: small to send, opened once by a process that is sent many."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io import log, snapshot, storefile
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, before_first, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, whole_sky

TILE = Tile(1, 7)


def files(count: int) -> list[DataFile]:
    one = DataFile("detections", TILE.order, TILE.npix, "", 1, 10, 1, None, None, 58300.25, "ab" * 32, 0, 99, "cd" * 8)
    return [replace(one, path=f"data/{number:05d}") for number in range(count)]


def make_store(place: Path, count: int) -> Storage:
    storage = Storage.at(place)
    storefile.create_store(storage, StoreConfig())
    listed = files(count)
    for file in listed:
        storage.put(file.path, b"data")
    catalogs = {"catalogs": [f"/archive/night/{number}.fits" for number in range(1000)]}
    log.commit(storage, None, log.Change("append", "f" * 32, catalogs, {}, listed, tiling=whole_sky()))
    return storage


@pytest.fixture
def opened(tmp_path: Path) -> SnapshotFiles:
    snapshot._opened.cache_clear()
    return open_snapshot(make_store(tmp_path / "s", 300))


def test_snapshot_read_and_pickled_is_small_whatever_its_files_and_arguments(opened: SnapshotFiles) -> None:
    assert len(opened.of_tile("detections", TILE)) == 300
    assert len(pickle.dumps(opened)) < 500


def test_snapshots_unpickled_are_one_and_list_the_same_files(opened: SnapshotFiles) -> None:
    sent = pickle.dumps(opened)
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert first is second
    assert first == opened
    assert first.of_tile("detections", TILE) == opened.of_tile("detections", TILE)


def test_snapshot_before_the_first_unpickled_is_equal(tmp_path: Path) -> None:
    nothing = before_first(Storage.at(tmp_path / "s"), StoreConfig())
    assert pickle.loads(pickle.dumps(nothing)).number == -1


def test_snapshot_sent_to_where_another_store_is_raises(opened: SnapshotFiles, tmp_path: Path) -> None:
    make_store(tmp_path / "other", 2)
    sent = pickle.dumps(opened)
    (tmp_path / "s").rename(tmp_path / "away")
    (tmp_path / "other").rename(tmp_path / "s")
    with pytest.raises(StoreDamagedError, match="not the store that this task is of"):
        pickle.loads(sent)
