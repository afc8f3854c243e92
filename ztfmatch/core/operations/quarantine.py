"""The quarantine: one entry for each refused file, until it is repaired or replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.common import write_rows
from ztfmatch.core.schema import QUARANTINE
from ztfmatch.core.schema.rows import QuarantineRow
from ztfmatch.core.survey import plain_name

_OTHER_CONTENT: Final = ("conflict", "duplicate")
"""Refused for what else is in the store, not for what the file is."""

_NAMED: Final = 5


@dataclass(frozen=True)
class QuarantineChange:
    """What a commit makes of the quarantine."""

    kept: list[QuarantineRow]
    """Of the files that are removed."""
    refused: list[Refused]
    removed: frozenset[str]
    """Paths of files."""

    def __bool__(self) -> bool:
        return bool(self.kept or self.refused or self.removed)

    def rows(self, commit: int) -> list[Mapping[str, Any]]:
        """To be written."""
        return [*self.kept, *({**asdict(file), "commit": commit} for file in self.refused)]

    def write(self, storage: Storage, commit: int, part: str) -> list[DataFile]:
        """Write them; nothing if there are none."""
        return write_rows(storage, QUARANTINE, self.rows(commit), commit, part)


def check_usable(noun: str, files: int, refused: Sequence[Refused], strict: bool) -> None:
    """Refuse files of which none can be used: nothing is committed, not even a snapshot of their quarantine.

    Parameters
    ----------
    noun : str
        What they should be, in the plural.
    files : int
        Their number.
    refused : sequence of Refused
        Those that cannot be used.
    strict : bool
        Refuse all for one that cannot be used.

    Raises
    ------
    BadInputError
    """
    if strict and refused:
        first = refused[0]
        raise BadInputError(f"--strict: {len(refused)} bad {noun}; {first.source}: {first.reason}")
    if not files or len(refused) < files:
        return
    named = "; ".join(f"{file.source}: {file.code}: {file.reason}" for file in refused[:_NAMED])
    more = f"; and {len(refused) - _NAMED:,} more" if len(refused) > _NAMED else ""
    raise BadInputError(f"none of {files:,} {noun} can be used, nothing was ingested. {named}{more}", refused)


def quarantine_change(
    snapshot: SnapshotFiles, refused: Sequence[Refused], found: Sequence[Mapping[str, Any]]
) -> QuarantineChange:
    """What to write and drop, so that the table holds each refused source once, as last seen.

    Parameters
    ----------
    snapshot : SnapshotFiles
    refused : sequence of Refused
        Now.
    found : sequence of mapping
        Usable: with ``source`` and ``filename``. A usable catalog clears the entry of its source, and that of an
        unusable file of the same name elsewhere, or gzipped, which it replaces.
    """
    stored: list[QuarantineRow] = snapshot.read(QUARANTINE.name).to_pylist()
    before = {row["source"]: (row["code"], row["reason"], row["sha256"]) for row in stored}
    again = {file.source for file in refused}
    accepted = [row for row in found if row["source"] not in again]
    sources, names = {row["source"] for row in accepted}, {plain_name(row["filename"]) for row in accepted}
    mended = {
        row["source"]
        for row in stored
        if row["source"] in sources or (plain_name(row["filename"]) in names and row["code"] not in _OTHER_CONTENT)
    }
    fresh = {one.source: one for one in refused if before.get(one.source) != (one.code, one.reason, one.sha256)}
    stale = (mended - again) | (before.keys() & fresh.keys())
    if not stale:
        return QuarantineChange([], list(fresh.values()), frozenset())
    kept = [row for row in stored if row["source"] not in stale]
    return QuarantineChange(kept, list(fresh.values()), frozenset(snapshot.files.paths(QUARANTINE.name)))
