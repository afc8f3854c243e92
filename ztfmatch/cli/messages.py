"""Messages and logging of commands, on the terminal and to a file, with the options that every command has."""

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

_META_KEY: Final = "ztfmatch.messages"
"""Key in the ``meta`` of a click context with the values of these options."""


def message_options() -> list[click.Option]:
    """Options of every command."""
    return [
        click.Option(["--quiet", "-q"], is_flag=True, help="Show no progress, only warnings and errors."),
        click.Option(["--verbose", "-v"], is_flag=True, help="Report each finished task, and tracebacks of errors."),
        click.Option(["--log-file"], type=LogFile(), metavar="FILE",
                     help="Append a line of JSON for each task (key, seconds, peak memory, worker, outcome), message "
                     "and error, and the end."),
        click.Option(["--log-level"], type=click.Choice(["info", "warning", "error"]), default="info",
                     show_default=True, help="Minimum level for --log-file; error logs only failures."),
    ]  # fmt: skip


def _option(name: str) -> Any:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_META_KEY, {}).get(name)


def is_quiet() -> bool:
    """Whether the running command has ``--quiet``."""
    return bool(_option("quiet"))


def show_traceback(error: BaseException) -> None:
    """Print the traceback of an error if the command has ``--verbose``."""
    if _option("verbose"):
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)


@contextmanager
def messages(ctx: click.Context) -> Iterator[None]:
    """Send log messages of the block to the terminal, one per line, and to the file of ``--log-file``."""
    given = {str(option.name): ctx.params.pop(str(option.name), None) for option in message_options()}
    logger = logging.getLogger("ztfmatch")
    if any(isinstance(other, _Lines) for other in logger.handlers):
        yield  # a command that runs another
        return
    ctx.meta[_META_KEY] = given
    lines, before = _Lines(given["verbose"], logging.WARNING if given["quiet"] else logging.INFO), logger.level
    logger.setLevel(logging.INFO)
    with logged(given["log_file"], given["log_level"]) as file:
        logger.addHandler(lines)
        try:
            with _ended(file, ctx.command_path):
                yield
        finally:
            logger.removeHandler(lines)
            logger.setLevel(before)


@contextmanager
def _ended(file: logging.Handler | None, command: str) -> Iterator[None]:
    """Log the end of the block, and the error that ended it, to a file."""
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
        """Drop records of tasks unless they were requested."""
        return self._tasks or not hasattr(record, "task")

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        task = getattr(record, "task", None)
        more = "" if task is None else f", {task['seconds']:.2f} s, peak {task['peak_memory_bytes'] >> 20:,} MiB"
        click.echo(f"ztfmatch: {record.getMessage()}{more}", err=True)
