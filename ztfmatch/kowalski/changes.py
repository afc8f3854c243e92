"""Changes between two snapshots, from the ledger and the references.

Data files cannot tell it: compaction rewrites them without changing their content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Mask
from ztfmatch.core.io.parquet import DataFile, read_table
from ztfmatch.core.io.rows import unit_of, units_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import references_by_unit, same_files
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import EXPOSURES, REFERENCES
from ztfmatch.core.schema.types import plain_type
from ztfmatch.core.survey import Unit
from ztfmatch.kowalski.schema import EPOCH_COLUMNS, EXPOSURE_COLUMNS, SCOPE_COLUMNS
from ztfmatch.kowalski.tasks.exposures import ids_of_exposures
from ztfmatch.kowalski.tasks.scope import Scope

_COLUMNS: Final = tuple(dict.fromkeys(("exposureid", "expid", "rcid", "ra", "dec", "radius", "sha256", *SCOPE_COLUMNS)))

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LedgerChanges:
    """Exposures in the scope, by what became of them; rows of the ledger with ``exposureid``, unit and footprint."""

    new: list[Row]
    """Not there before, or with another content."""
    changed: list[Row]
    """With other calibration, flags or program: their epochs have other values."""
    removed: list[Row]
    """No longer there, or with another content; rows of the older ledger."""
    documents: tuple[int, ...]
    """Exposureids whose own document is new or another."""
    gone: tuple[int, ...]
    """``_id`` of documents of exposures that are no more."""

    @property
    def units_with_removed(self) -> set[Unit]:
        """Units that lost epochs."""
        return {unit_of(row) for row in self.removed}


def ledger_changes(before: SnapshotFiles, after: SnapshotFiles, scope: Scope) -> LedgerChanges:
    """Compare the ledgers of two snapshots; of files that both have nothing is read."""
    old = _Ledger(before, _of(before.files.not_in(after.files)), scope)
    new = _Ledger(after, _of(after.files.not_in(before.files)), scope)
    _, in_old, in_new = np.intersect1d(old.ids, new.ids, return_indices=True)
    same = _same(old, new, in_old, in_new, ("sha256", "field", "rcid", "fid"))
    in_old, in_new = in_old[same], in_new[same]
    kept = old.exported[in_old] & new.exported[in_new]
    in_old, in_new = in_old[kept], in_new[kept]
    epochs = ~_same(old, new, in_old, in_new, EPOCH_COLUMNS)
    documents = ~_same(old, new, in_old, in_new, EXPOSURE_COLUMNS)
    fresh, lost = new.but(in_new), old.but(in_old)
    written = np.concatenate([fresh, in_new[documents]])
    gone = np.setdiff1d(old.documents(np.concatenate([lost, in_old[documents]])), new.documents(written))
    return LedgerChanges(
        new.described(fresh),
        new.described(in_new[epochs]),
        old.described(lost),
        tuple(np.sort(new.ids[written]).tolist()),
        tuple(gone.tolist()),
    )


def _of(files: Iterable[DataFile]) -> list[DataFile]:
    return [file for file in files if file.table == EXPOSURES.name]


class _Ledger:
    """Rows of some files of a ledger."""

    def __init__(self, snapshot: SnapshotFiles, files: Sequence[DataFile], scope: Scope) -> None:
        self._snapshot, self._files = snapshot, files
        self._rows = self.read(_COLUMNS)
        self.ids = self._rows["exposureid"].to_numpy()
        self.exported = scope.mask(self._rows)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Columns of all rows, in one order."""
        return read_table(self._snapshot.storage, self._files, EXPOSURES, columns)

    def but(self, kept: Numbers) -> Numbers:
        """Rows in the scope but for some."""
        left = self.exported.copy()
        left[kept] = False
        return np.flatnonzero(left)

    def described(self, rows: Numbers) -> list[Row]:
        """Some rows, by exposureid."""
        names = ["exposureid", "field", "rcid", "fid", "ra", "dec", "radius"]
        found: list[Row] = self._rows.select(names).take(pa.array(rows)).sort_by("exposureid").to_pylist()
        return found

    def documents(self, rows: Numbers) -> Numbers:
        """``_id`` of some rows."""
        return ids_of_exposures(self._rows.take(pa.array(rows)).combine_chunks())


def _same(old: _Ledger, new: _Ledger, in_old: Numbers, in_new: Numbers, columns: Sequence[str]) -> Mask:
    """Whether rows that belong together have the same values; one column at a time is read."""
    same = np.ones(len(in_old), bool)
    for name in columns if len(in_old) else ():
        sides = [ledger.read([name])[name].take(pa.array(at)) for ledger, at in ((old, in_old), (new, in_new))]
        values = [side.cast(plain_type(side.type)) for side in sides]
        neither = pc.and_(pc.is_null(values[0]), pc.is_null(values[1]))
        equal = pc.fill_null(pc.equal(values[0], values[1]), False)
        same &= pc.or_(equal, neither).to_numpy()
    return same


def changed_references(before: SnapshotFiles, after: SnapshotFiles) -> set[Unit]:
    """Units whose newest reference is another, or there in only one of the snapshots."""
    if same_files(before, after, REFERENCES):
        return set()
    rows = pa.concat_tables([references_by_unit(snapshot, ["sha256"]) for snapshot in (before, after)])
    counted = rows.group_by(rows.column_names).aggregate([([], "count_all")])
    return set(units_of_rows(counted.filter(pc.equal(counted["count_all"], 1))))
