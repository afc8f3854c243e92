"""SIGKILL at every step of every operation: the old or the new snapshot is whole, and a rerun finishes."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import (
    OPERATIONS,
    PRODUCTS,
    Judge,
    Sky,
    Zygote,
    bring_back,
    copy,
    files_named,
    make_sky,
    prepare,
    product_of,
)
from helpers import runner

from ztfmatch.core.errors import StoreDamagedError, StoreFormatError, StoreNotFoundError
from ztfmatch.core.io import paths
from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.repair import repair
from ztfmatch.core.operations.verify import Found, _check_newest

EVERY = {"append": 1, **dict.fromkeys(("init", "rematch", "rematch without stars", "replace"), 12)}
"""Append is killed at each step, those of hundreds of steps at each twelfth, others at each fourth, counted from the
last; the longer run kills all at each step."""
AT_EACH_STEP = [pytest.mark.slow, pytest.mark.timeout(0)]


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
    ("operation", "every"),
    [(name, EVERY.get(name, 4)) for name in OPERATIONS]
    + [pytest.param(name, 1, marks=AT_EACH_STEP) for name in OPERATIONS if name != "append"],
)
def test_killed_at_every_step_leaves_a_whole_snapshot_and_a_rerun_finishes(
    zygote: Zygote, sky: Sky, tmp_path: Path, operation: str, every: int
) -> None:
    judge, before = Judge(), prepare(tmp_path / "before", sky, operation)
    expected = undisturbed(zygote, judge, before, tmp_path / "undisturbed", sky)
    old = judge.content(before) if before.exists() else None
    numbers = commit_numbers(Storage.at(before))
    outcomes: set[bool] = set()
    for step in range(expected.steps - 1, -1, -every):
        store = copy(before, tmp_path / "killed")
        assert zygote.run(operation, store, sky, step) == (-signal.SIGKILL, step)
        committed = commit_numbers(Storage.at(store)) != numbers
        outcomes.add(committed)
        assert not committed_in_vain(store), step
        if committed or old is not None:
            assert judge.content(store) == (expected.content if committed else old), step
        else:
            assert_no_snapshot(store)
        OPERATIONS[operation][0](store, sky)
        assert commit_numbers(Storage.at(store)) == expected.numbers, step
        assert judge.content(store) == expected.content, step
        assert files_named(store) == expected.files, step
    assert outcomes == ({False} if operation == "vacuum" else {False, True})


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=AT_EACH_STEP)])
def test_repair_killed_at_every_step_brings_all_back_or_nothing_and_a_rerun_finishes(
    zygote: Zygote, sky: Sky, tmp_path: Path, every: int
) -> None:
    judge, before = Judge(), prepare(tmp_path / "before", sky, "repair")
    whole = judge.content(prepare(tmp_path / "whole", sky, "compact"))
    expected = undisturbed(zygote, judge, before, tmp_path / "undisturbed", sky)
    assert expected.content == whole
    lost = repair(Storage.at(copy(before, tmp_path / "looked at")), [], runner())
    assert (lost.whole, len(lost.lost)) == (False, 1)
    outcomes: set[bool] = set()
    for step in range(expected.steps - 1, -1, -every):
        store = copy(before, tmp_path / "killed")
        assert zygote.run("repair", store, sky, step) == (-signal.SIGKILL, step)
        outcomes.add(committed := commit_numbers(Storage.at(store)) == expected.numbers)
        if committed:
            assert judge.content(store) == whole, step
        else:
            left = repair(Storage.at(store), [], runner())
            assert (left.snapshot, left.exposures, left.rows) == (lost.snapshot, lost.exposures, lost.rows), step
        bring_back(store, sky)
        assert commit_numbers(Storage.at(store)) == expected.numbers, step
        assert judge.content(store) == whole, step
        assert files_named(store) == expected.files, step
    assert outcomes == {False, True}


@pytest.mark.parametrize("content", [b"", b"PK half"])
def test_rematch_resumed_after_a_power_cut_counts_the_epochs_again(
    zygote: Zygote, sky: Sky, tmp_path: Path, content: bytes
) -> None:
    """What a task left for another may be cut, though the task was done."""
    judge, before = Judge(), prepare(tmp_path / "before", sky, "rematch")
    expected = undisturbed(zygote, judge, before, tmp_path / "undisturbed", sky)
    for step in range(expected.steps, 0, -1):
        store = copy(before, tmp_path / "killed")
        zygote.run("rematch", store, sky, step - 1)
        if commit_numbers(Storage.at(store)) == commit_numbers(Storage.at(before)):
            break
    left = list((store / paths.STAGING).rglob("*.npz"))
    assert left
    for path in left:
        path.write_bytes(content)
    for result in (store / paths.STAGING).rglob("lineage-*.json"):
        result.unlink()  # what read them is to be done again
    OPERATIONS["rematch"][0](store, sky)
    assert judge.content(store) == expected.content


def committed_in_vain(store: Path) -> int:
    """How many files verify takes for those of a snapshot whose record was lost: of a killed job there are none."""
    if not commit_numbers(Storage.at(store)):
        return 0
    found = Found()
    _check_newest(open_snapshot(Storage.at(store)), found)
    return found.results()[0].violations


def assert_no_snapshot(store: Path) -> None:
    with pytest.raises((StoreNotFoundError, StoreFormatError, StoreDamagedError)):
        open_snapshot(Storage.at(store))


def content_of(product: Path) -> dict[str, bytes]:
    """Bytes of a file, or of each file of a directory."""
    files = [path for path in product.rglob("*") if path.is_file()] if product.is_dir() else [product]
    return {str(path.relative_to(product)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("product", "every"),
    [(name, 4 if name == "delta view" else 1) for name in PRODUCTS]
    + [pytest.param("delta view", 1, marks=AT_EACH_STEP)],
)
def test_product_killed_at_every_step_is_whole_or_not_there_and_a_rerun_leaves_nothing_else(
    zygote: Zygote, sky: Sky, tmp_path: Path, product: str, every: int
) -> None:
    store = prepare(tmp_path, sky, product)
    made = product_of(store)
    code, steps = zygote.run(product, store, sky)
    assert code == 0
    expected = content_of(made)
    outcomes = set()
    for step in range(steps - 1, -1, -every):
        shutil.rmtree(made.parent)
        made.parent.mkdir()
        assert zygote.run(product, store, sky, step) == (-signal.SIGKILL, step)
        outcomes.add(made.exists())
        if not made.exists():
            assert zygote.run(product, store, sky)[0] == 0, step
        assert content_of(made) == expected, step
        assert list(made.parent.iterdir()) == [made], step
    assert False in outcomes
