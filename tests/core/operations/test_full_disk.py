"""A disk that is full from any write on, or loses one: one clear line, nothing committed, and a rerun finishes."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from faults import Judge, Sky, command, copy, init, make_sky, prepare

from ztfmatch.core.io import paths
from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage

COMMANDS: dict[str, Callable[[Path, Sky], tuple[object, ...]]] = {
    "init": lambda store, sky: ("init", store, "--references", *sky.references),
    "append": lambda store, sky: ("append", store, *sky.catalogs),
    "compact": lambda store, sky: ("compact", store, "--full", "--min-files", 2),
    "statistics": lambda store, sky: ("statistics", store),
    "rollback": lambda store, sky: ("rollback", store, 1),
    "vacuum": lambda store, sky: ("vacuum", store, "--keep", 1, "--grace-hours", 0),
}


class Disk:
    """The files that are written below a place, and a fault from some call of the system on."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._place, self._handles = str(place), set[int]()
        self._open, self._real = os.open, {"write": os.write, "fsync": os.fsync}
        self._calls: Iterator[int] = itertools.count()
        self._fault, self._from, self.calls = "", 0, 0
        monkeypatch.setattr(os, "open", self._opening)
        monkeypatch.setattr(os, "write", lambda handle, data: self._call("write", handle, data))
        monkeypatch.setattr(os, "fsync", lambda handle: self._call("fsync", handle))

    def fail(self, fault: str, number: int) -> None:
        """From this call on it fails; the first time half of the bytes are taken."""
        self._fault, self._from, self._calls = fault, number, itertools.count()

    def mend(self) -> None:
        """Nothing fails any more."""
        self._fault = ""

    def _opening(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        handle = self._open(path, flags, *args, **options)
        (self._handles.add if str(path).startswith(self._place) else self._handles.discard)(handle)
        return handle

    def _call(self, name: str, handle: int, *data: Any) -> Any:
        if name != self._fault or handle not in self._handles:
            return self._real[name](handle, *data)
        self.calls = next(self._calls)
        if self.calls == self._from and data and len(data[0]) > 1:
            return self._real[name](handle, data[0][: len(data[0]) // 2])
        if self.calls >= self._from:
            code = errno.ENOSPC if name == "write" else errno.EIO
            raise OSError(code, os.strerror(code))
        return self._real[name](handle, *data)


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return make_sky(tmp_path_factory.mktemp("sky"))


def numbers(store: Path) -> list[int]:
    return commit_numbers(Storage.at(store))


def assert_told(done: Result, name: str, reason: str) -> None:
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("ztfmatch: ")
    assert reason in done.stderr
    assert name in done.stderr


def faults_of(disk: Disk, fault: str, before: Path, store: Path, run: Callable[[], Result]) -> Iterator[Result]:
    """What a command does with the fault from its first call on, from its second on, until there are no more."""
    for number in itertools.count():
        copy(before, store)
        disk.fail(fault, number)
        done = run()
        disk.mend()
        if disk.calls < number:
            assert done.exit_code == 0
            return
        yield done


@pytest.mark.parametrize("operation", COMMANDS)
def test_disk_full_from_any_write_on_commits_nothing_and_a_rerun_finishes(
    sky: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    before, store, judge = prepare(tmp_path / "before", sky, operation), tmp_path / "store", Judge()
    disk = Disk(tmp_path, monkeypatch)

    def run() -> Result:
        return command(*COMMANDS[operation](store, sky))

    copy(before, store)
    assert run().exit_code == 0
    expected, after = judge.content(store), numbers(store)
    tried = 0
    for done in faults_of(disk, "write", before, store, run):
        tried += 1
        assert_told(done, f"in {store}: ", "No space left on device")
        assert "cannot write " in done.stderr
        assert numbers(store) == numbers(before)
        assert list(Storage.at(store).unfinished()) == []
        assert all(path.stat().st_size for path in store.rglob("*.*"))
        assert not before.exists() or judge.content(store) == judge.content(before)
        assert run().exit_code == 0
        assert (numbers(store), judge.content(store)) == (after, expected)
    assert tried == {"rollback": 1, "vacuum": 1}.get(operation, tried)
    assert tried >= 1


@pytest.mark.parametrize("operation", ["init", "append", "rollback"])
def test_disk_that_loses_what_was_written_is_told_and_a_rerun_finishes(
    sky: Sky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    before, store, judge = prepare(tmp_path / "before", sky, operation), tmp_path / "store", Judge()
    disk = Disk(tmp_path, monkeypatch)

    def run() -> Result:
        return command(*COMMANDS[operation](store, sky))

    copy(before, store)
    assert run().exit_code == 0
    expected, after = judge.content(store), numbers(store)
    outcomes = set()
    for done in faults_of(disk, "fsync", before, store, run):
        assert_told(done, str(store), "Input/output error")
        outcomes.add(numbers(store) == after)
        assert numbers(store) in (numbers(before), after)
        assert run().exit_code == 0
        assert (numbers(store), judge.content(store)) == (after, expected)
    assert False in outcomes


def test_program_under_a_limit_of_file_size_says_which_file_is_too_large(sky: Sky, tmp_path: Path) -> None:
    store = tmp_path / "store"
    init(store, sky)
    words = [sys.executable, "-m", "ztfmatch", "append", str(store), *sky.catalogs]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limited)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"cannot write {paths.DATA}detections/" in done.stderr
    assert "File too large" in done.stderr
    assert "nothing was committed; a rerun resumes" in done.stderr
    assert numbers(store) == [0]
    assert command("append", store, *sky.catalogs).exit_code == 0
    assert numbers(store) == [0, 1]
