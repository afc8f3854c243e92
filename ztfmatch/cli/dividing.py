"""Commands whose work is divided into units: what they are is kept beside these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztfmatch.core.errors import ConfigError, WorkDividedError
from ztfmatch.core.io import paths
from ztfmatch.core.io.records import decode, encode

if TYPE_CHECKING:
    from ztfmatch.core.io.storage import Storage

GIVEN = "ztfmatch.given"
"""Key of a context's ``meta``: the words after the program's name."""

FINISHED = {"finished": True}


@contextmanager
def dividing(ctx: click.Context, place: str) -> Iterator[None]:
    """A block in which a command whose work is divided finds again what it found when it was."""
    from ztfmatch.core.io.noted import noting
    from ztfmatch.core.runner.units import Units

    if ctx.obj is None:  # else it is repeated to be finished
        begin(place, ctx.meta[GIVEN])
    with noting(Units.at(place).notes()):
        yield


def begin(place: str, given: Sequence[str]) -> None:
    """Keep what the command is, for ``finish``; a command whose units are written ends here.

    Raises
    ------
    ConfigError
        If the units of another command are there.
    WorkDividedError
        If those of this one are.
    """
    from ztfmatch.core.io.storage import Storage
    from ztfmatch.core.runner.units import Units, planned

    storage = Storage.at(place)
    command = {"words": [word for word in given if word != "--json"], "directory": str(Path.cwd())}
    before = read_record(storage, paths.COMMAND_FILE)
    if before not in (None, command):
        raise ConfigError(f"{storage.root} holds units of another command: {before}. Choose another directory")
    end_if_finished(storage)
    units = Units(storage)
    if units.is_planned:
        raise planned(units)
    storage.put(paths.COMMAND_FILE, encode(command))


def read_record(storage: Storage, path: str) -> dict[str, object] | None:
    """What a file says of a command; None if it is not there."""
    try:
        return decode(storage.read(path), dict)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{storage.root}/{path} is not a record of a command: {error}") from None


def end_if_finished(storage: Storage) -> None:
    """End where the command was finished before."""
    if read_record(storage, paths.FINISHED_FILE) is not None:
        raise WorkDividedError(f"The work in {storage.root} was finished before; nothing to do.", dict(FINISHED))
