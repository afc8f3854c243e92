"""Progress: bars on a terminal, elsewhere lines, the first after a second, at last one a minute; what took longest."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import click

from ztfmatch.cli.tasklog import Tally, tallied
from ztfmatch.core.config import STARTING
from ztfmatch.core.display import duration_text
from ztfmatch.core.progress import listening

Show = Callable[[str, int, int], None]

FIRST_S: Final = 1.0
"""When there is the first line where nobody looks; a command that takes less says nothing."""
FIRST_VARIABLE: Final = "ZTFMATCH_PROGRESS_S"
"""Of the environment: other seconds to the first line."""
LINE_S: Final = 60.0
"""How often there is one at last."""


@contextmanager
def progress_shown(quiet: bool) -> Iterator[Show]:
    """Progress of all tasks of the block."""
    if quiet:
        yield lambda what, done, total: None  # noqa: ARG005
        return
    started = time.monotonic()
    with tallied() as tally:
        with _bars() if sys.stderr.isatty() else _lines(tally) as show:
            yield show
        if time.monotonic() - started >= LINE_S and tally.done:
            for line in summary(tally):
                click.echo(line, err=True)


@contextmanager
def lines_shown(quiet: bool) -> Iterator[None]:
    """Progress of a command without tasks, which may print rows meanwhile: never more than lines."""
    if quiet:
        yield
        return
    with _lines(Tally()) as show, listening(show):
        yield


def _first_s() -> float:
    given = os.environ.get(FIRST_VARIABLE, "")
    try:
        return float(given or FIRST_S)
    except ValueError as error:
        raise click.UsageError(f"{FIRST_VARIABLE} is {given!r}; expected a number of seconds.") from error


@contextmanager
def _bars() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        running: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in running:
                running[what] = bars.add_task(what, total=total)
            bars.update(running[what], completed=done, total=total)

        yield show


@contextmanager
def _lines(tally: Tally) -> Iterator[Show]:
    """A thread that says how far the work is, also while one long task runs."""
    current = _Current(tally)
    stop = threading.Event()
    first = _first_s()

    def say() -> None:
        wait = min(first, LINE_S)
        while not stop.wait(wait):
            wait = min(2.0 * wait, LINE_S)
            if line := current.line():
                click.echo(line, err=True)

    thread = threading.Thread(target=say, name="progress", daemon=True)
    thread.start()
    try:
        yield current.show
    finally:
        stop.set()
        thread.join()


class _Current:
    """What is being done, and since when."""

    def __init__(self, tally: Tally) -> None:
        self._tally, self._what, self._done, self._total, self._since = tally, "", 0, 0, 0.0

    def show(self, what: str, done: int, total: int) -> None:
        """Take what the work says of itself."""
        if what != self._what:
            self._since = time.monotonic()
        self._what, self._done, self._total = what, done, total

    def line(self) -> str:
        """How far it is; empty before it has begun, and while it waits for workers, of which those who wait tell."""
        if self._what in ("", STARTING):
            return ""
        return progress_line(self._what, (self._done, self._total), time.monotonic() - self._since, self._tally.failed)


def progress_line(what: str, done: tuple[int, int], seconds: float, failed: int) -> str:
    """A line such as ``2026-01-31T23:59:00Z matching: 1,204 of 18,400, 2 failed, 12.3/s, 23 min left``."""
    moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"{moment} {how_far(what, done, seconds, failed)}"


def how_far(what: str, done: tuple[int, int], seconds: float, failed: int) -> str:
    """What is being done: tasks that have ended of how many, how many failed, how fast, and how long the rest takes."""
    rate = done[0] / max(seconds, 1e-9)
    said = [f"{what}: {done[0]:,} of {done[1]:,}"]
    if failed:
        said.append(f"{failed:,} failed")
    if done[0]:
        said.append(f"{rate:.3g}/s" if rate >= 0.1 else f"{duration_text(round(1 / rate))} each")
        if done[1] > done[0]:
            said.append(f"{duration_text(round((done[1] - done[0]) / rate))} left")
    return ", ".join(said)


def summary(tally: Tally) -> list[str]:
    """What took longest, and the most memory."""
    failed = f", {tally.failed:,} failed" if tally.failed else ""
    return [
        f"{tally.done:,} tasks{failed}; most memory of a process {tally.peak_bytes / 2**20:,.0f} MiB; slowest:",
        *(f"  {duration_text(round(seconds, 1)):>8}  {name}" for seconds, name in sorted(tally.slowest, reverse=True)),
    ]
