"""What the commands share: options, output, progress, errors and exit codes."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ztfmatch.config import Resources
from ztfmatch.errors import (
    CommitConflictError,
    JobFailedError,
    StoreDamagedError,
    ZtfmatchError,
)
from ztfmatch.io.storage import StorageError

Command = TypeVar("Command", bound=Callable[..., Any])

_FAILURES = (JobFailedError, CommitConflictError, StoreDamagedError, StorageError)
"""Errors of the work rather than of the command: exit code 1, and a rerun may do."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


class Size(click.ParamType[int]):
    """A number of bytes, as in 2GiB or 800MB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes of the text."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*([0-9.]+)\s*([kmg]i?)?b?\s*", str(value), re.IGNORECASE)
        try:
            if match is None:
                raise ValueError
            return int(float(match[1]) * _UNITS[(match[2] or "").lower()])
        except ValueError:
            self.fail(f"{value!r} is no size; expected something like 2GiB or 800MB", param, ctx)


def json_option(command: Command) -> Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for machines.")(command)


def resource_options(command: Command) -> Command:
    """Add the options that say where tasks run; the command gets one ``resources``."""

    @functools.wraps(command)
    def gather(*args: Any, workers: int, scheduler: str | None, cluster: str | None, memory: int, **rest: Any) -> Any:
        resources = Resources(workers, scheduler, cluster, memory)
        resources.validate()
        return command(*args, resources=resources, **rest)

    options = [
        click.option("--workers", "-w", type=click.IntRange(0), default=0, show_default=True,
                     help="Processes of a cluster started for this command; 0 works in this process alone."),
        click.option("--scheduler", metavar="ADDRESS", help="Use the Dask scheduler that runs there (tcp://host:8786)."),
        click.option("--cluster", type=click.Choice(["local", "slurm"]),
                     help="Start a cluster of this kind, with --workers; slurm needs 'pip install ztfmatch\\[slurm]'."),
        click.option("--memory", type=Size(), default="2GiB", show_default=True,
                     help="Memory budget of a worker; a task that would need more is refused before the start."),
    ]  # fmt: skip
    for option in reversed(options):
        gather = option(gather)
    return gather  # type: ignore[return-value]


def handle_errors(command: Command) -> Command:
    """Turn our errors into one line and an exit code."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ZtfmatchError as error:
            code = 1 if isinstance(error, _FAILURES) else 2
            if kwargs.get("as_json"):
                click.echo(json.dumps({"error": type(error).__name__, "message": str(error), "exit": code}))
            click.echo(f"ztfmatch: {error}", err=True)
            sys.exit(code)

    return guarded  # type: ignore[return-value]


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Progress on a terminal; nothing where nobody looks."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda what, done, total: None  # noqa: ARG005
        return
    columns = (
        TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        running: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in running:
                running[what] = bars.add_task(what, total=total)
            bars.update(running[what], completed=done, total=total)

        yield show


def as_plain(value: Any) -> Any:
    """Dataclasses as plain values."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def emit(report: Any, as_json: bool, lines: Sequence[str]) -> None:
    """Print a report as JSON, or as lines for people."""
    if as_json:
        click.echo(json.dumps(as_plain(report), default=str, indent=1))
        return
    for line in lines:
        click.echo(line)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print rows in columns; numbers to the right."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for i, heading in enumerate(headings):
        numeric = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def size_text(size: int) -> str:
    """Bytes for people."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000.0:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000.0
    return f"{amount:.2f} TB"
