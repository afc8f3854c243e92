"""Findings of an operation recorded when it is planned, for the process that finishes it later.

The newest snapshot, the catalogs of a directory: others commit, and files arrive, while units of work are done. Where
nobody notes anything, whoever asks looks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final, TypeVar

import msgspec

from ztfmatch.core.plain import Json

Found = TypeVar("Found")

_NOTES: Final[ContextVar[Json | None]] = ContextVar("notes", default=None)


def noted(name: str, kind: type[Found], find: Callable[[], Found]) -> Found:
    """What ``find`` gives, or gave when the operation was planned.

    Parameters
    ----------
    name : str
        Of what is asked for, and where.
    kind : type
        Plain, or a dataclass of plain values.
    """
    notes = _NOTES.get()
    if notes is None:
        return find()
    if name not in notes:
        notes[name] = msgspec.to_builtins(find())
    return msgspec.convert(notes[name], kind)


@contextlib.contextmanager
def noting(notes: Json) -> Iterator[None]:
    """A block in which what is found is noted, and what is noted is not looked for."""
    token = _NOTES.set(notes)
    try:
        yield
    finally:
        _NOTES.reset(token)


def notes() -> Json | None:
    """All notes; None where nobody notes anything."""
    return _NOTES.get()
