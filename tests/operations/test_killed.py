"""SIGKILL at every step of every operation: the old or the new snapshot is whole, and a rerun finishes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import OPERATIONS, Judge, Sky, Zygote, copy, files_named, make_sky, prepare

from ztfmatch.errors import StoreDamagedError, StoreFormatError, StoreNotFoundError
from ztfmatch.io.log import commit_numbers
from ztfmatch.io.snapshot import open_snapshot
from ztfmatch.io.storage import Storage

LONGER = ("import of a new store",)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with contextlib.closing(Zygote()) as process:
        yield process


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return make_sky(tmp_path_factory.mktemp("sky"))


@dataclass(frozen=True)
class Undisturbed:
    """What an operation makes of a store when nothing happens."""

    numbers: list[int]
    content: dict[str, str]
    files: set[str]
    steps: int


def undisturbed(zygote: Zygote, judge: Judge, before: Path, place: Path, sky: Sky) -> Undisturbed:
    store = copy(before, place / before.name)
    code, steps = zygote.run(before.name, store, sky)
    assert code == 0
    return Undisturbed(commit_numbers(Storage.at(store)), judge.content(store), files_named(store), steps)


@pytest.mark.parametrize(
    "operation", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONGER)) for name in OPERATIONS]
)
def test_killed_at_every_step_leaves_a_whole_snapshot_and_a_rerun_finishes(
    zygote: Zygote, sky: Sky, tmp_path: Path, operation: str
) -> None:
    judge, before = Judge(), prepare(tmp_path / "before", sky, operation)
    expected = undisturbed(zygote, judge, before, tmp_path / "undisturbed", sky)
    old = judge.content(before) if before.exists() else None
    numbers = commit_numbers(Storage.at(before))
    outcomes: set[bool] = set()
    for step in range(expected.steps):
        store = copy(before, tmp_path / "killed")
        assert zygote.run(operation, store, sky, step) == (-signal.SIGKILL, step)
        committed = commit_numbers(Storage.at(store)) != numbers
        outcomes.add(committed)
        if committed or old is not None:
            assert judge.content(store) == (expected.content if committed else old), step
        else:
            assert_no_snapshot(store)
        OPERATIONS[operation][0](store, sky)
        assert commit_numbers(Storage.at(store)) == expected.numbers, step
        assert judge.content(store) == expected.content, step
        assert files_named(store) == expected.files, step
    assert outcomes == ({False} if operation == "vacuum" else {False, True})


def assert_no_snapshot(store: Path) -> None:
    with pytest.raises((StoreNotFoundError, StoreFormatError, StoreDamagedError)):
        open_snapshot(Storage.at(store))
