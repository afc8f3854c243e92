"""What was refused: one entry a file, until it is mended or replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import Row
from ztfmatch.core.schema import QUARANTINE
from ztfmatch.core.survey import plain_name

_OTHER_CONTENT: Final = ("conflict", "duplicate")
"""Refused for what else is in the store, not for what the file is."""

_NAMED: Final = 5


def check_usable(noun: str, files: int, refused: Sequence[Row], strict: bool) -> None:
    """Refuse files of which none can be used: nothing is committed, not even a snapshot of their quarantine.

    Parameters
    ----------
    noun : str
        What they should be, in the plural.
    files : int
        Their number.
    refused : sequence of Row
        Those that cannot be used.
    strict : bool
        Refuse all for one that cannot be used.

    Raises
    ------
    BadInputError
    """
    if strict and refused:
        first = refused[0]
        raise BadInputError(f"--strict: {len(refused)} bad {noun}; {first['source']}: {first['reason']}")
    if not files or len(refused) < files:
        return
    named = "; ".join(f"{row['source']}: {row['code']}: {row['reason']}" for row in refused[:_NAMED])
    more = f"; and {len(refused) - _NAMED:,} more" if len(refused) > _NAMED else ""
    raise BadInputError(f"none of {files:,} {noun} can be used, nothing was ingested. {named}{more}", refused)


def quarantine_change(
    snapshot: SnapshotFiles, quarantined: Sequence[Row], found: Sequence[Row]
) -> tuple[list[Row], frozenset[str]]:
    """Rows to write and files to drop, so that the table holds each refused source once, as last seen.

    Parameters
    ----------
    snapshot : SnapshotFiles
    quarantined : sequence of Row
        Refused now.
    found : sequence of Row
        Usable: with ``source`` and ``filename``. A usable catalog clears the entry of its source, and that of an
        unusable file of the same name elsewhere, or gzipped, which it replaces.
    """
    stored: list[Row] = snapshot.read(QUARANTINE.name).to_pylist()
    before = {row["source"]: _content(row) for row in stored}
    refused = {row["source"] for row in quarantined}
    accepted = [row for row in found if row["source"] not in refused]
    sources, names = {row["source"] for row in accepted}, {plain_name(row["filename"]) for row in accepted}
    mended = {
        row["source"]
        for row in stored
        if row["source"] in sources or (plain_name(row["filename"]) in names and row["code"] not in _OTHER_CONTENT)
    }
    fresh = {row["source"]: row for row in quarantined if before.get(row["source"]) != _content(row)}
    stale = (mended - refused) | (set(before) & set(fresh))
    if not stale:
        return list(fresh.values()), frozenset()
    kept = [row for row in stored if row["source"] not in stale]
    return kept + list(fresh.values()), frozenset(snapshot.files.paths(QUARANTINE.name))


def _content(row: Row) -> tuple[Any, ...]:
    return row["code"], row["reason"], row["sha256"]
