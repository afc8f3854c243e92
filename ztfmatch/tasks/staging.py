"""Keep what finished tasks returned until the commit, so that a rerun repeats none of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from ztfmatch.errors import StoreDamagedError
from ztfmatch.io import paths
from ztfmatch.io.storage import Storage
from ztfmatch.tasks.heap import keep_freed_memory


class Task(Protocol):
    """What a runner needs to know of a task: picklable, with a name unique in its operation."""

    @property
    def key(self) -> str:
        """Name of the task, fit for a file name and for an error message."""
        ...


Function = Callable[[Any], dict[str, Any]]
"""A task function: top-level, idempotent, plain values out."""


def run_staged(function: Function, task: Task, storage: Storage | None, operation_id: str) -> dict[str, Any]:
    """Result of a task: the staged one if an earlier run of the same operation finished it, else computed now.

    Without storage (an operation that writes nothing) nothing is staged. A staged result is not used where a vacuum
    took a file that it names.
    """
    keep_freed_memory()
    if storage is None:
        return function(task)
    path = paths.staged_result(operation_id, task.key)
    try:
        staged: dict[str, Any] = json.loads(storage.read(path))
    except FileNotFoundError:
        pass
    else:
        if _is_whole(storage, staged):
            return staged
    result = function(task)
    storage.put(path, json.dumps(result).encode())
    return result


def _is_whole(storage: Storage, result: dict[str, Any]) -> bool:
    """Whether all files of a staged result are there."""
    try:
        for file in result.get("files", []):
            storage.open_input(file["path"]).close()
    except StoreDamagedError:
        return False
    return True


def clear(storage: Storage, operation_id: str) -> None:
    """Forget what is staged for an operation that has been committed."""
    storage.delete([path for path, _ in storage.list(paths.staging_of(operation_id))])
