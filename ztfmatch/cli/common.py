"""Base of all commands: output, progress, errors and exit codes."""

from __future__ import annotations

import dataclasses
import errno
import json
import signal
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ztfmatch.cli.dividing import GIVEN, dividing
from ztfmatch.cli.interrupts import Interrupted, interruptible
from ztfmatch.cli.messages import is_quiet, message_options, messages, show_traceback
from ztfmatch.core.errors import (
    BadInputError,
    CommitConflictError,
    JobFailedError,
    ServiceError,
    StorageError,
    StoreDamagedError,
    WorkDividedError,
    ZtfmatchError,
)
from ztfmatch.core.io.urls import check_text
from ztfmatch.core.tasks.ownprocess import make_own

if TYPE_CHECKING:
    from ztfmatch.api import Store
    from ztfmatch.core.io.refused import Refused
    from ztfmatch.core.operations.notices import Notice

_FAILURES = (BadInputError, JobFailedError, CommitConflictError, ServiceError, StoreDamagedError, StorageError)
"""Errors of the work rather than of the command: exit code 1, and a rerun may do. So are those of the system."""

_SHOWN = 20
_SETTINGS = {"memory_bytes": "memory", "wait_s": "wait", "cells_x": "cells", "partition_bytes": "partition_size"}
"""Settings whose options are called otherwise."""


class Command(click.Command):
    """A command with the options for messages, whose errors become one line, or JSON with --json, and an exit code.

    ``stray`` is the option to suggest where there is an unexpected extra argument.
    """

    def __init__(self, *args: Any, stray: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += message_options()
        self._stray = stray

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; errors name the values of an option that has too few, and the option for a stray argument."""
        try:
            return super().parse_args(ctx, args)
        except click.BadOptionUsage as error:
            name = error.option_name
            (form,) = [param.metavar for param in self.params if name in param.opts] or [None]
            if form is None:
                raise
            raise click.BadOptionUsage(name, f"{error.message} Expected: {name} {form}.", error.ctx) from None
        except click.BadParameter as error:
            whence = _whence(ctx, error.param)
            if not whence:
                raise
            raise click.BadParameter(error.message + whence, error.ctx, error.param, error.param_hint) from None
        except click.UsageError as error:
            if not self._stray or "unexpected extra argument" not in error.message:
                raise
            raise click.UsageError(f"{error.message}. Did you mean {self._stray}?", error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            make_own()
            with interruptible(), messages(ctx), _progress(ctx), _dividing(ctx):
                _check_texts(ctx.params.values())
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            _end(ctx, error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT))
        except WorkDividedError as ended:
            emit(ended.facts, ctx.params.get("as_json", False), [str(ended)])
        except ZtfmatchError as error:
            _fail(ctx, error, 1 if isinstance(error, _FAILURES) else 2, _by_option(ctx.command, str(error)))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            _fail(ctx, error, 1, _of_system(error))


def _of_system(error: OSError) -> str:
    """An error of the system, such as ``/data/x.csv: No space left on device``."""
    named = None if error.filename is None else str(error.filename)
    return ": ".join(filter(None, (named, error.strerror))) or str(error)


def _by_option(command: click.Command, message: str) -> str:
    """An error message about a setting, with the name of its option."""
    setting, _, rest = message.partition(" is ")
    option = _SETTINGS.get(setting, setting)
    named = [param.opts[0] for param in command.params if isinstance(param, click.Option) and param.name == option]
    return f"{named[0]} is {rest}" if named else message


def _whence(ctx: click.Context, param: click.Parameter | None) -> str:
    """Origin of a value that was not given on the command line."""
    source = None if param is None or param.name is None else ctx.get_parameter_source(param.name)
    if source == ParameterSource.ENVIRONMENT and param is not None:
        return f" It comes from {param.envvar}."
    return " It comes from the file of defaults." if source == ParameterSource.DEFAULT_MAP else ""


def _progress(ctx: click.Context) -> AbstractContextManager[None]:
    """Report progress of the block, unless the command runs tasks, which report their own."""
    if _runs_tasks(ctx.command):
        return nullcontext()
    from ztfmatch.cli.progress import lines_shown

    return lines_shown(is_quiet())


def _runs_tasks(command: click.Command) -> bool:
    return "workers" in {param.name for param in command.params}


def _dividing(ctx: click.Context) -> AbstractContextManager[None]:
    """Record a command whose work is divided (--units), and what it finds."""
    place = ctx.params.get("units")
    if place is None:
        return nullcontext()
    return dividing(ctx, place)


def _check_texts(values: Iterable[Any]) -> None:
    """Refuse names that are not UTF-8."""
    for value in values:
        if isinstance(value, str | Path):
            check_text(value)
        elif isinstance(value, tuple):
            _check_texts(value)


class InOrder(click.Group):
    """Group that lists its commands in the order of their definition."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and keep the arguments for ``finish``, which repeats the command."""
        ctx.meta.setdefault(GIVEN, tuple(args))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an interrupt before it begins has the same exit code as later."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("ztfmatch: interrupted by SIGINT", err=True)
            ctx.exit(128 + signal.SIGINT)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names of the commands."""
        return list(self.commands)


def _fail(ctx: click.Context, error: BaseException, code: int, message: str = "") -> None:
    message = " ".join((message or str(error)).splitlines())
    if ctx.params.get("as_json"):
        click.echo(json.dumps({"error": type(error).__name__, "message": message, "exit": code}))
    show_traceback(error)
    click.echo(f"ztfmatch: {message}", err=True)
    ctx.exit(code)


def _end(ctx: click.Context, interrupted: Interrupted) -> None:
    """Report the newest snapshot, and whether a rerun resumes."""
    what = "the same command again resumes" if _runs_tasks(ctx.command) else ""
    said = "; ".join(filter(None, (_standing(ctx.params.get("store")), what)))
    message = ": ".join(filter(None, (f"interrupted by {interrupted.name}", said)))
    _fail(ctx, interrupted, interrupted.exit_code, message)


def _standing(store: str | None) -> str:
    """The newest snapshot of a store as text, if it can be read."""
    if store is None:
        return ""
    from ztfmatch.core.io import log
    from ztfmatch.core.io.storage import Storage

    try:
        storage = Storage.at(store)
        numbers = log.commit_numbers(storage) if storage.exists() else []
    except (ZtfmatchError, OSError):
        return ""
    return f"snapshot {numbers[-1]} of {store} stands" if numbers else f"{store} has no snapshot yet"


def open_store(place: str) -> Store:
    """Open a store; imports the API lazily, so that help is fast."""
    from ztfmatch import api

    return api.open_store(place)


def as_plain(value: Any) -> Any:
    """Dataclasses, and lists of them, as plain values."""
    if isinstance(value, list):
        return [as_plain(one) for one in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def emit(report: Any, as_json: bool, lines: Sequence[str]) -> None:
    """Print a report as JSON, or as lines."""
    if as_json:
        emit_json(report)
        return
    for line in lines:
        click.echo(line)


def emit_json(report: Any) -> None:
    """Print a report as JSON."""
    click.echo(json.dumps(as_plain(report), default=str, indent=1))


def first_lines(texts: Sequence[str], indent: str = "  ", rest: str = "") -> list[str]:
    """The first of some texts, one per line, and the number of the others."""
    more = len(texts) - _SHOWN
    return [f"{indent}{text}" for text in [*texts[:_SHOWN], *([f"... and {more:,} more{rest}"] if more > 0 else [])]]


def bad_files(files: Sequence[Refused]) -> list[str]:
    """Lines that list refused files."""
    listed = first_lines([f"{file.source}\n    {file.code}: {file.reason}" for file in files])
    return [f"Quarantined: {counted(len(files), 'file')}", *listed] if files else []


def warning_lines(warnings: Sequence[Notice]) -> list[str]:
    """Lines for warnings, with the first files of each."""
    lines = []
    for warning in warnings:
        lines += [f"Warning: {warning.message}", *first_lines(warning.files)]
    return lines


def unchanged(why: str, snapshot: int) -> str:
    """Message where nothing was committed."""
    return f"{why}; the store stays at snapshot {snapshot}."


def changed_meanwhile(tiles: int) -> list[str]:
    """Message about tiles that others changed meanwhile."""
    return [f"{counted(tiles, 'tile')} changed meanwhile: run it again."] if tiles else []


def counted(number: int, noun: str) -> str:
    """A number of things: ``1 tile``, ``2,000 tiles``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_text(size: int) -> str:
    """A size as text."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000.0:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000.0
    return f"{amount:.2f} TB"
