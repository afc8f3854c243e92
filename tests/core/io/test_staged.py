"""A store that is only read, with its staging area at another place; a file in its place refuses even root."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ztfmatch.core.errors import StorageError
from ztfmatch.core.io.staged import StagedElsewhere, staged_beside
from ztfmatch.core.io.storage import Storage


@pytest.fixture
def read_only(tmp_path: Path) -> Storage:
    storage = Storage.at(tmp_path / "store")
    storage.put("data/x", b"rows")
    Path(storage.root, "staging").touch()
    return storage


def test_staged_beside_of_a_store_that_can_be_written_is_itself(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path / "store")
    storage.put("data/x", b"rows")
    with staged_beside(storage, tmp_path / "out") as staged:
        assert staged is storage
    assert [path for path, _ in storage.list("")] == ["data/x"]


def test_staged_beside_of_a_read_only_store_stages_beside_the_output(read_only: Storage, tmp_path: Path) -> None:
    with staged_beside(read_only, tmp_path / "out") as staged:
        there = pickle.loads(pickle.dumps(staged))
        there.put("staging/a/1.json", b"done")
        assert staged.read("staging/a/1.json") == b"done"
        assert staged.read("data/x") == b"rows"
        assert [path for path, _ in staged.list("staging/a/")] == ["staging/a/1.json"]
        assert (tmp_path / ".out.staging" / "staging" / "a" / "1.json").is_file()
        staged.delete(["staging/a/1.json"])
    assert not (tmp_path / ".out.staging").exists()


def test_staged_beside_keeps_what_an_interrupted_command_staged(read_only: Storage, tmp_path: Path) -> None:
    interrupted = staged_beside(read_only, tmp_path / "out")
    interrupted.__enter__().put("staging/a/1.json", b"done")
    assert not interrupted.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with staged_beside(read_only, tmp_path / "out") as staged:
        assert staged.read("staging/a/1.json") == b"done"


def test_staged_elsewhere_writes_nothing_into_the_store(read_only: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write data/y in .*store, which is only read"):
        StagedElsewhere(read_only.root, Storage.at(tmp_path / "beside")).put("data/y", b"")
