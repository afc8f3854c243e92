"""What is told of tasks: a record of each for whoever listens, and failures by their reasons."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict

from ztfmatch.core.tasks.staging import Outcome

TASKS: Final = "ztfmatch.tasks"
"""Logger with a record for each task that has ended, whose ``task`` says what became of it."""

_NAMED_REASONS: Final = 5
_LONGEST_REASON: Final = 500
_VARIABLE: Final = re.compile(r"(?:[\w.:-]*/)+[\w.#=-]+|0x[0-9a-f]+|\d+")
"""In what two errors of one reason differ: paths and numbers."""

_logger = logging.getLogger(TASKS)


class ToldTask(TypedDict):
    """What a record tells of a task."""

    job: str
    key: str
    outcome: Literal["done", "failed"]
    seconds: float
    peak_memory_bytes: int
    worker: str
    error: NotRequired[str]


def tell(title: str, outcome: Outcome[Any]) -> None:
    """Tell what became of a task."""
    level = logging.INFO if outcome.error is None else logging.ERROR
    if not _logger.isEnabledFor(level):
        return
    told: ToldTask = {
        "job": title,
        "key": outcome.key,
        "outcome": "done" if outcome.error is None else "failed",
        "seconds": round(outcome.seconds, 3),
        "peak_memory_bytes": outcome.peak_bytes,
        "worker": outcome.worker,
    }
    if outcome.error is not None:
        told["error"] = _said(outcome.error)
    _logger.log(level, "%s %s: %s", title, outcome.key, told["outcome"], extra={"task": told})


def reasons(failures: Sequence[Outcome[Any]]) -> str:
    """Failed tasks by what their errors have in common, the most frequent first; each with one that it befell."""
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
