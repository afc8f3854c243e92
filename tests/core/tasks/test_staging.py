"""What a task returned is the same value whether it was computed now or read back."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ztfmatch
from ztfmatch.core.io import paths
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.records import decode, encode
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.tasks import staging
from ztfmatch.core.tasks.staging import keep, run_staged

PACKAGE = Path(ztfmatch.__file__).parent
OPERATION = "operation"
FILE = DataFile("detections", 2, 5, "data/x", 3, 99, 7, 8, 58000.0, None, "c0ffee", 1, 40, "5ea1")


@dataclass(frozen=True)
class Counted:
    """Nested in :class:`Answer`."""

    file: DataFile
    rows: dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class Answer:
    """As results of tasks are."""

    name: str
    counted: tuple[Counted, ...]
    mean: float
    limits: tuple[float, float]
    units: dict[int, str]
    nothing: DataFile | None = None


@dataclass(frozen=True)
class Asked:
    """A task that counts how often it is computed, by the bytes of a file."""

    key: str
    storage: Storage

    def count(self) -> int:
        """Note a try, and say how many there were."""
        with Path(self.storage.root, "tries").open("ab") as file:
            file.write(b".")
            return file.tell()


@pytest.fixture
def task(tmp_path: Path) -> Asked:
    (tmp_path / "store").mkdir()
    return Asked("task", Storage.at(tmp_path / "store"))


def answer(task: Asked) -> Answer:
    """A result with everything that JSON has no word for."""
    task.count()
    counted = (Counted(FILE, {7: (1, 2), -8: ()}), Counted(FILE, {}))
    return Answer("é", counted, math.nan, (-math.inf, 0.1), {3: "three"})


def plain(task: Asked) -> dict[str, Any]:
    """A result of plain values."""
    return {"tries": task.count()}


def run(function: Callable[[Asked], Any], task: Asked) -> Any:
    return run_staged(function, task, task.storage, OPERATION)


def tries(task: Asked) -> int:
    return len(Path(task.storage.root, "tries").read_bytes())


def test_run_staged_dataclass_is_read_back_as_it_was(task: Asked) -> None:
    first, again = run(answer, task), run(answer, task)
    assert tries(task) == 1
    assert repr(again) == repr(first)  # which tells tuples from lists, int keys from text, and knows NaN
    assert type(again.counted[0].file) is DataFile
    assert again.counted == first.counted
    assert math.isnan(again.mean)


def test_run_staged_plain_values_are_read_back(task: Asked) -> None:
    assert [run(plain, task), run(plain, task)] == [{"tries": 1}] * 2


def test_run_staged_without_storage_computes_each_time(task: Asked) -> None:
    assert [run_staged(plain, task, None, OPERATION)["tries"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("counted"),
        lambda record: record.update(mean="1.0"),
        lambda record: record.update(limits=[0.0]),
        lambda record: record["units"].update(x="no number"),
        lambda record: record["counted"][0]["file"].pop("sha256"),
    ],
    ids=["missing", "type", "length", "key", "nested"],
)
def test_run_staged_record_of_another_shape_is_computed_anew(change: Callable[[Any], Any], task: Asked) -> None:
    """As one that another version of the program staged for the same operation."""
    first, path = run(answer, task), paths.staged_result(OPERATION, task.key)
    record = decode(task.storage.read(path), dict)
    change(record)
    task.storage.put(path, encode(record))
    assert repr(run(answer, task)) == repr(first)
    assert tries(task) == 2
    assert repr(run(answer, task)) == repr(first)
    assert tries(task) == 2


def test_run_staged_record_that_is_damaged_is_computed_anew(task: Asked) -> None:
    run(plain, task)
    path = paths.staged_result(OPERATION, task.key)
    task.storage.put(path, task.storage.read(path).replace(b"1", b"2", 1))
    assert run(plain, task) == {"tries": 2}


@dataclass(frozen=True)
class Kept:
    """A result that names a file."""

    kept: tuple[dict[str, str], ...]


def leave(task: Asked) -> Kept:
    """Leave a file for others."""
    task.count()
    return Kept((keep(task.storage, "staging/left", b"bytes"),))


@pytest.mark.parametrize("content", [None, b"other"])
def test_run_staged_dataclass_whose_file_is_not_as_written_is_computed_anew(content: bytes | None, task: Asked) -> None:
    first = run(leave, task)
    assert run(leave, task) == first
    assert tries(task) == 1
    if content is None:
        task.storage.delete(["staging/left"])
    else:
        task.storage.put("staging/left", content)
    assert run(leave, task) == first
    assert (tries(task), task.storage.read("staging/left")) == (2, b"bytes")


def task_functions() -> list[Callable[[Any], Any]]:
    """All functions of the package that take a task alone."""
    found = []
    for source in sorted(PACKAGE.glob("*/tasks/*.py")):
        module = importlib.import_module(".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts))
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                kinds = [str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()]
                if len(kinds) == 1 and kinds[0].endswith("Task") and not function.__name__.startswith("_"):
                    found.append(function)
    return found


@pytest.mark.parametrize(
    "function", task_functions(), ids=lambda function: f"{function.__module__}.{function.__name__}"
)
def test_result_type_of_every_task_function_can_be_told(function: Callable[[Any], Any]) -> None:
    """Else what it staged could not be read back, which only a rerun would tell."""
    assert staging._result_type(function) is not Any


def test_task_functions_are_found() -> None:
    assert {"match_group", "verify_tile", "compact_tile"} <= {function.__name__ for function in task_functions()}
