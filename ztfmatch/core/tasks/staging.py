"""Keep the results of finished tasks until the commit, so that a rerun repeats none of them."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import inspect
import os
import resource
import sys
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io import paths
from ztfmatch.core.io.records import decode, encode
from ztfmatch.core.io.storage import Storage


class Task(Protocol):
    """What a runner needs to know of a task: picklable, with a name unique in its operation."""

    @property
    def key(self) -> str:
        """Name of the task, fit for a file name and for an error message."""
        ...


_MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024

Result = TypeVar("Result")

Function = Callable[[Any], Result]
"""A task function: top-level, idempotent. It returns plain values, or a dataclass of them that its annotation names."""


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """Result of one task, or the error of its last try; how long that took, and where it was."""

    key: str
    result: Result | None
    error: BaseException | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    """Most memory of its process so far."""
    worker: str = ""
    """Machine and process."""


def attempt(function: Function[Result], task: Task, storage: Storage | None, operation_id: str) -> Outcome[Result]:
    """What came of one try of a task, as :func:`run_staged` does it."""
    started = time.perf_counter()
    result, failure = None, None
    try:
        result = run_staged(function, task, storage, operation_id)
    except Exception as error:  # noqa: BLE001  (collected, chained and raised by the runner)
        failure = error
    gc.collect(1)  # Arrow's footers of files refer to themselves: some 40 MB of a task that would stay for a while
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
    where = f"{os.uname().nodename}:{os.getpid()}"
    return Outcome(task.key, result, failure, time.perf_counter() - started, peak_bytes, where)


def is_final(result: Any) -> bool:  # noqa: ARG001
    """Of most functions every result is worth keeping."""
    return True


def run_staged(
    function: Function[Result],
    task: Task,
    storage: Storage | None,
    operation_id: str,
    final: Callable[[Result], bool] = is_final,
) -> Result:
    """Result of a task: the staged one if an earlier run of the same operation finished it, else computed now.

    Without storage (an operation that writes nothing) nothing is staged. What is staged counts only if it is whole,
    and if the files that it names (``files``, ``outputs``, and those that :func:`keep` wrote, ``kept``) have the bytes
    that were written: a power cut may have taken some. A result that is not ``final`` is computed again by a rerun.
    """
    if storage is None:
        return function(task)
    path = paths.staged_result(operation_id, task.key)
    staged = _staged(storage, path, function)
    if staged is not None:
        return staged
    result = function(task)
    if final(result):
        storage.put(path, encode(msgspec.to_builtins(result)))
    return result


def _staged(storage: Storage, path: str, function: Function[Result]) -> Result | None:
    kind = _result_type(function)
    try:
        staged = decode(storage.read(path), dict)
        written = [file for name in ("files", "outputs", "kept") for file in staged.get(name, ())]
        if not all(_as_written(storage, file["path"], file["sha256"]) for file in written):
            return None
        result: Result = msgspec.convert(staged, kind, str_keys=True)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return result


def _result_type(function: Function[Result]) -> Any:
    """What a task function, or an object that is called as one, says that it returns."""
    said = function if inspect.isroutine(function) else type(function).__call__
    return typing.get_type_hints(said).get("return", Any)


def _as_written(storage: Storage, path: str, sha256: str) -> bool:
    return _sha256(storage.read(path)) == sha256


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content, usedforsecurity=False).hexdigest()


def keep(storage: Storage, path: str, content: bytes) -> dict[str, str]:
    """Leave a file for other tasks of the operation; what is returned belongs to the result's ``kept``."""
    storage.put(path, content)
    return {"path": path, "sha256": _sha256(content)}


def read_kept(storage: Storage, path: str, sha256: str) -> bytes:
    """Content of a file that :func:`keep` wrote.

    Raises
    ------
    StoreDamagedError
        If it is gone, or another.
    """
    try:
        content = storage.read(path)
    except FileNotFoundError:
        raise StoreDamagedError(f"{storage.root}/{path} is gone") from None
    if _sha256(content) != sha256:
        raise StoreDamagedError(f"{storage.root}/{path} is not what was written")
    return content


def clear(storage: Storage, operation_id: str) -> None:
    """Forget what is staged for an operation that has been committed; if that fails, a vacuum does it later."""
    with contextlib.suppress(OSError):
        storage.delete([path for path, _ in storage.list(paths.staging_of(operation_id))])
