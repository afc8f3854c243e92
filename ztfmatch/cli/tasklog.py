"""Handlers for the log records of tasks: JSON lines for ``--log-file``, and a tally for the end of a command."""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ztfmatch.core.errors import ConfigError

if TYPE_CHECKING:
    from ztfmatch.core.runner.outcomes import TaskRecord

_SLOWEST: Final = 5


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """A task with its facts, or a message."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        task = getattr(record, "task", None)
        what = {"event": "message", "message": record.getMessage()} if task is None else {"event": "task", **task}
        return json.dumps({"time": moment, "level": record.levelname.lower(), **what})


class Tally(logging.Handler):
    """Counts tasks, and keeps the slowest and the largest memory."""

    def __init__(self) -> None:
        super().__init__()
        self.done = self.failed = self.peak_bytes = 0
        self.slowest: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        task: TaskRecord = record.__dict__["task"]
        self.done += 1
        self.failed += task["outcome"] == "failed"
        self.peak_bytes = max(self.peak_bytes, task["peak_memory_bytes"])
        keep = heapq.heappush if len(self.slowest) < _SLOWEST else heapq.heappushpop
        keep(self.slowest, (task["seconds"], f"{task['job']} {task['key']}"))


@contextlib.contextmanager
def tallied() -> Iterator[Tally]:
    """Tally the tasks of the block."""
    from ztfmatch.core.runner.outcomes import TASKS

    tally, logger = Tally(), logging.getLogger(TASKS)
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(tally)
    try:
        yield tally
    finally:
        logger.removeHandler(tally)
        logger.setLevel(before)


@contextlib.contextmanager
def logged(path: Path | None, level: str) -> Iterator[logging.Handler | None]:
    """Append tasks and messages of the block to a file as lines of JSON.

    Raises
    ------
    ConfigError
        If it cannot be written to.
    """
    if path is None:
        yield None
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--log-file {path} cannot be written: {error.strerror}") from error
    handler.setFormatter(JsonLines())
    handler.setLevel(level.upper())
    logger = logging.getLogger("ztfmatch")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        handler.close()
