"""Log records of finished tasks, and a summary of failures by reason."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict

from ztfmatch.core.tasks.staging import Outcome

TASKS: Final = "ztfmatch.tasks"
"""Logger with a record for each finished task, whose ``task`` is a :class:`TaskRecord`."""

_NAMED_REASONS: Final = 5
_LONGEST_REASON: Final = 500
_VARIABLE: Final = re.compile(r"(?:[\w.:-]*/)+[\w.#=-]+|0x[0-9a-f]+|\d+")
"""Parts in which errors with the same reason differ: paths and numbers."""

_logger = logging.getLogger(TASKS)


class TaskRecord(TypedDict):
    """Facts about a finished task."""

    job: str
    key: str
    outcome: Literal["done", "failed"]
    seconds: float
    peak_memory_bytes: int
    worker: str
    error: NotRequired[str]


def log_outcome(title: str, outcome: Outcome[Any]) -> None:
    """Log the outcome of a task."""
    level = logging.INFO if outcome.error is None else logging.ERROR
    if not _logger.isEnabledFor(level):
        return
    record: TaskRecord = {
        "job": title,
        "key": outcome.key,
        "outcome": "done" if outcome.error is None else "failed",
        "seconds": round(outcome.seconds, 3),
        "peak_memory_bytes": outcome.peak_bytes,
        "worker": outcome.worker,
    }
    if outcome.error is not None:
        record["error"] = _said(outcome.error)
    _logger.log(level, "%s %s: %s", title, outcome.key, record["outcome"], extra={"task": record})


def reasons(failures: Sequence[Outcome[Any]]) -> str:
    """Failed tasks grouped by the reason of their errors, the most frequent first, each with an example."""
    groups: dict[str, list[Outcome[Any]]] = {}
    for one in failures:
        groups.setdefault(_VARIABLE.sub("*", _said(one.error)), []).append(one)
    ordered = sorted(groups.values(), key=len, reverse=True)
    named = [_reason(group) for group in ordered[:_NAMED_REASONS]]
    left = ordered[_NAMED_REASONS:]
    more = f"; and {sum(map(len, left))} for {len(left)} other reasons" if left else ""
    return "; ".join(named) + more


def _reason(group: Sequence[Outcome[Any]]) -> str:
    said = _said(group[0].error)
    return f"{group[0].key}{f' and {len(group) - 1} like it' if len(group) > 1 else ''}: {said}"


def _said(error: BaseException | None) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + " ..."
