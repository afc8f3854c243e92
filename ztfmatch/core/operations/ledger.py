"""Which of the inspected catalogs are new, known, or to be refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.parquet import read_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import Row, unit_of
from ztfmatch.core.operations.quarantine import quarantine_change
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.survey import Unit

SAME_TIME_DAY: Final = 1e-5
"""Two catalogs of one unit that begin within 0.9 s are of the same exposure: the camera needs 30."""

_COLUMNS: Final = ["exposureid", "field", "rcid", "fid", "obsmjd", "programid", "filename", "sha256"]


@dataclass(frozen=True)
class Sorted:
    """Inspected catalogs, sorted out."""

    new: list[Row]
    """Ledger rows to ingest, in order of exposureid."""
    known: int
    other_program: list[str]
    """Sources of those of the known whose program is told now, and is another than before."""
    quarantined: list[Row]
    """Refused in this run, whether or not they were before."""
    quarantine_rows: list[Row]
    """Rows to write to the quarantine; those that were there before have their ``commit``."""
    removed_files: frozenset[str]
    """Quarantine files that these rows replace."""

    @property
    def changes_quarantine(self) -> bool:
        """Whether the quarantine table changes."""
        return bool(self.quarantine_rows or self.removed_files)


class _Seen:
    """Exposures in the store or ingested before in this run."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._by_id: dict[int, Row] = {}
        self._by_time: dict[tuple[int, int, int, int], Row] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        self._by_id[row["exposureid"]] = row
        self._by_time[self._slot(row, 0)] = row

    @staticmethod
    def _slot(row: Row, shift: int) -> tuple[int, int, int, int]:
        return row["field"], row["rcid"], row["fid"], int(row["obsmjd"] / SAME_TIME_DAY) + shift

    def same_exposure(self, row: Row) -> Row | None:
        """The exposure of that key."""
        return self._by_id.get(row["exposureid"])

    def same_time(self, row: Row) -> Row | None:
        """An exposure of the unit that began at the same time."""
        near = (self._by_time.get(self._slot(row, shift)) for shift in (-1, 0, 1))
        return next((r for r in near if r is not None and abs(r["obsmjd"] - row["obsmjd"]) < SAME_TIME_DAY), None)


def sort_out(snapshot: SnapshotFiles, found: Sequence[Row], refused: Sequence[Row]) -> Sorted:
    """Tell new exposures from known ones and from duplicates under other names.

    Parameters
    ----------
    snapshot : SnapshotFiles
    found : sequence of Row
        Ledger rows of usable catalogs.
    refused : sequence of Row
        Quarantine rows of the others.
    """
    seen = _Seen(_ledger_near(snapshot, found))
    new: list[Row] = []
    known = 0
    other_program: list[str] = []
    quarantined = list(refused)
    for row in sorted(found, key=lambda row: (row["exposureid"], row["source"])):
        same = seen.same_exposure(row)
        if same is not None and same["sha256"] == row["sha256"]:
            known += 1
            if row["programid"] not in (None, same["programid"]):
                other_program.append(row["source"])
        elif same is not None:
            quarantined.append(
                _refusal(row, "conflict", f"the exposure is known from {same['filename']}, other content")
            )
        elif (twin := seen.same_time(row)) is not None:
            quarantined.append(
                _refusal(row, "duplicate", f"it is the exposure of {twin['filename']}, under another name")
            )
        else:
            seen.add(row)
            new.append(row)
    rows, removed = quarantine_change(snapshot, quarantined, found)
    return Sorted(new, known, other_program, quarantined, rows, removed)


class KnownExposures:
    """What the store has of some exposures, whatever it was taken from; the ledger is read once.

    Parameters
    ----------
    snapshot : SnapshotFiles
    rows : sequence of Row
        Ledger rows of all that will be asked for.
    """

    def __init__(self, snapshot: SnapshotFiles, rows: Sequence[Row]) -> None:
        self._seen = _Seen(_ledger_near(snapshot, rows))

    def has_any(self, rows: Sequence[Row]) -> bool:
        """Whether the store has any of them, or an exposure of the same key, of another unit."""
        return any(self._seen.same_exposure(row) or self._seen.same_time(row) for row in rows)

    def split(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Rows of exposures that the store has not, and of those that it has.

        Raises
        ------
        CatalogError
            If the store has an exposure of the same key, of another unit.
        """
        new: list[Row] = []
        known: list[Row] = []
        for row in rows:
            same = self._seen.same_exposure(row)
            if same is not None and unit_of(same) != unit_of(row):
                reason = (
                    f"exposure {row['exposureid']} is known as one of unit {unit_of(same)}, from {same['filename']}"
                )
                raise CatalogError("conflict", reason)
            (new if same is None and self._seen.same_time(row) is None else known).append(row)
        return new, known


def units_since(before: SnapshotFiles, head: SnapshotFiles) -> set[Unit]:
    """Units of the exposures that are in files of the ledger which an older snapshot has not."""
    known = set(before.files.paths(EXPOSURES.name))
    fresh = [file for file in head.of_table(EXPOSURES.name) if file.path not in known]
    rows = read_rows(head.storage, fresh, ["field", "rcid", "fid"])
    return set() if rows is None else {unit_of(row) for row in rows.to_pylist()}


def _refusal(row: Row, code: str, reason: str) -> Row:
    kept = {name: row[name] for name in ("filename", "source", "size", "sha256")}
    return {"code": code, "reason": reason, **kept}


def _ledger_near(snapshot: SnapshotFiles, found: Sequence[Row]) -> list[Row]:
    """Ledger rows that can be of the same exposures: only files of those nights or keys are read."""
    if not found:
        return []
    times = [row["obsmjd"] for row in found]
    ids = [row["exposureid"] for row in found]
    first, last = min(times) - SAME_TIME_DAY, max(times) + SAME_TIME_DAY
    files = [
        file
        for file in snapshot.of_table(EXPOSURES.name)
        if file.holds_time(first, last) or file.holds_id([(min(ids), max(ids))])
    ]
    table = read_rows(snapshot.storage, files, _COLUMNS)
    if table is None:
        return []
    same_time = pc.and_(pc.greater_equal(table["obsmjd"], first), pc.less_equal(table["obsmjd"], last))
    same_key = pc.is_in(table["exposureid"], pa.array(ids, pa.int64()))
    rows: list[Row] = table.filter(pc.or_(same_time, same_key)).to_pylist()
    return rows
