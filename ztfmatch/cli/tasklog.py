"""What becomes of tasks, for machines and for the end of a command: each is one record of the logger of tasks."""

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
    from ztfmatch.core.runner.telling import ToldTask

_SLOWEST: Final = 5


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """A task with what is known of it, or a message."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = getattr(record, "task", None)
        what = {"event": "message", "message": record.getMessage()} if told is None else {"event": "task", **told}
        return json.dumps({"time": moment, "level": record.levelname.lower(), **what})


class Tally(logging.Handler):
    """Counts tasks, and keeps the slowest and the largest memory."""

    def __init__(self) -> None:
        super().__init__()
        self.done = self.failed = self.peak_bytes = 0
        self.slowest: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        told: ToldTask = record.__dict__["task"]
        self.done += 1
        self.failed += told["outcome"] == "failed"
        self.peak_bytes = max(self.peak_bytes, told["peak_memory_bytes"])
        keep = heapq.heappush if len(self.slowest) < _SLOWEST else heapq.heappushpop
        keep(self.slowest, (told["seconds"], f"{told['job']} {told['key']}"))


@contextlib.contextmanager
def tallied() -> Iterator[Tally]:
    """A block whose tasks are counted."""
    from ztfmatch.core.runner.telling import TASKS

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
    """A block whose tasks and messages go to a file, a line of JSON each, behind what is there.

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
