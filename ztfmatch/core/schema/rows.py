"""Rows of tables about files, as Arrow's ``to_pylist`` gives them: the columns that are read off one, and their types.

The schema declares the columns; a test holds what is said here against it. What tasks take and give is decoded by its
type, and would lose the columns that are not here: there a row is a :data:`~ztfmatch.core.plain.Row`.
"""

from __future__ import annotations

from typing import TypedDict


class _OfFile(TypedDict):
    filename: str
    source: str


class ReferenceRow(_OfFile):
    """A row of ``references``."""

    field: int
    rcid: int
    fid: int
    generation: int
    """Not in what a catalog tells of itself."""
    magzp: float
    ra: float | None
    dec: float | None
    nseeds: int
    digest: int
    sha256: str


class QuarantineRow(_OfFile):
    """A row of ``quarantine``."""

    code: str
    reason: str
    size: int | None
    sha256: str | None
    commit: int
