"""What a command says beside its answer, on the terminal and to a file: the same options for every command."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from ztfmatch.cli.paramtypes import LogFile
from ztfmatch.cli.tasklog import logged

_TOLD: Final = "ztfmatch.telling"
"""Key of a context's ``meta``: the values of the options."""


def telling_options() -> list[click.Option]:
    """Options of every command."""
    return [
        click.Option(["--quiet", "-q"], is_flag=True, help="No progress; only warnings and errors."),
        click.Option(["--verbose", "-v"], is_flag=True, help="Say each task as it ends; with an error where it arose."),
        click.Option(["--log-file"], type=LogFile(), metavar="FILE",
                     help="Append a line of JSON for each task (key, seconds, peak memory, worker, outcome), message "
                     "and error, and the end."),
        click.Option(["--log-level"], type=click.Choice(["info", "warning", "error"]), default="info",
                     show_default=True, help="What goes to --log-file: with error only what failed."),
    ]  # fmt: skip


def _asked(name: str) -> Any:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_TOLD, {}).get(name)


def is_quiet() -> bool:
    """Whether the command that runs is to say no more than warnings and errors."""
    return bool(_asked("quiet"))


def tell_where(error: BaseException) -> None:
    """Say where an error arose, if that was asked for."""
    if _asked("verbose"):
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)


@contextmanager
def telling(ctx: click.Context) -> Iterator[None]:
    """A block in which what there is to say goes to the terminal, a line each, and to the file of --log-file."""
    said = {str(option.name): ctx.params.pop(str(option.name), None) for option in telling_options()}
    logger = logging.getLogger("ztfmatch")
    if any(isinstance(other, _Lines) for other in logger.handlers):
        yield  # a command that runs another
        return
    ctx.meta[_TOLD] = said
    lines, before = _Lines(said["verbose"], logging.WARNING if said["quiet"] else logging.INFO), logger.level
    logger.setLevel(logging.INFO)
    with logged(said["log_file"], said["log_level"]) as file:
        logger.addHandler(lines)
        try:
            with _ended(file, ctx.command_path):
                yield
        finally:
            logger.removeHandler(lines)
            logger.setLevel(before)


@contextmanager
def _ended(file: logging.Handler | None, command: str) -> Iterator[None]:
    """A block whose end, and the error that ended it, go to a file."""
    began = time.monotonic()

    def note(level: int, text: str) -> None:
        if file is not None and level >= file.level:
            file.handle(
                logging.makeLogRecord({"levelno": level, "levelname": logging.getLevelName(level), "msg": text})
            )

    try:
        yield
    except (click.exceptions.Exit, SystemExit) as ended:
        code = ended.exit_code if isinstance(ended, click.exceptions.Exit) else ended.code
        note(logging.ERROR if code else logging.INFO, f"{command} ended with exit code {code or 0}")
        raise
    except BaseException as error:
        note(logging.ERROR, f"{command}: {type(error).__name__}: {error}")
        raise
    note(logging.INFO, f"{command} ended after {time.monotonic() - began:.1f} s")


class _Lines(logging.Handler):
    def __init__(self, tasks: bool, level: int) -> None:
        super().__init__(level)
        self._tasks = tasks

    def filter(self, record: logging.LogRecord) -> bool:
        """What becomes of each task is for others, unless it was asked for."""
        return self._tasks or not hasattr(record, "task")

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        told = getattr(record, "task", None)
        more = "" if told is None else f", {told['seconds']:.2f} s, peak {told['peak_memory_bytes'] >> 20:,} MiB"
        click.echo(f"ztfmatch: {record.getMessage()}{more}", err=True)
