"""Sort inspected catalogs into new, known and refused ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ints, Mask
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.parquet import read_file_rows, read_table
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.rows import UNIT, unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import units_of
from ztfmatch.core.operations.quarantine import QuarantineChange, quarantine_change
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import EXPOSURES, QUARANTINE
from ztfmatch.core.schema.ledger import CATALOG
from ztfmatch.core.survey import Unit

SAME_TIME_DAY: Final = 1e-5
"""Two catalogs of one unit that begin within 0.9 s are of the same exposure: the camera needs 30."""

_SLOT: Final = [*UNIT, "obsmjd"]
_ASKED: Final = pa.schema(EXPOSURES.schema.field(name) for name in ("exposureid", "obsmjd", "field"))
_COLUMNS: Final = ["exposureid", "field", "rcid", "fid", "obsmjd", "programid", "filename", "sha256", "origin"]
_OF_REPLACED: Final = ["ra", "dec", "radius", "nmatched", "norphans"]


@dataclass(frozen=True)
class Sorted:
    """Inspected catalogs, sorted out."""

    new: pa.Table
    """Those to ingest, as they were found, in order of exposureid."""
    known: int
    other_program: list[str]
    """Sources of those of the known whose program is given now, and differs from the stored one."""
    refused: list[Refused]
    """In this run, whether or not they were before."""
    quarantine: QuarantineChange
    replaced: pa.Table
    """Ledger rows of those of the new that the store has with another content, ascending by exposureid."""


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


def sort_out(snapshot: SnapshotFiles, found: pa.Table, refused: Sequence[Refused], replace: bool = False) -> Sorted:
    """Tell new exposures from known ones and from duplicates under other names.

    What is plain is told for all catalogs together. Those that share their key or their time with another, or
    contradict the store, are looked at one by one, in order of exposureid and source: the first is taken.

    Parameters
    ----------
    snapshot : SnapshotFiles
    found : pa.Table
        Usable catalogs, with the columns of FOUND.
    refused : sequence of Refused
        The others.
    replace : bool
        Whether catalogs of other content than the store has of their exposures are new, and replace it.
    """
    found = found.sort_by([("exposureid", "ascending"), ("source", "ascending")])
    stored = _ledger_near(snapshot, found, _COLUMNS + _OF_REPLACED if replace else _COLUMNS)
    where = pc.index_in(found["exposureid"], stored["exposureid"])
    there = where.is_valid().to_numpy()
    same = _is_true(pc.equal(found["sha256"], stored["sha256"].take(where)))
    known = _is_true(pc.is_valid(found["programid"]))
    other = there & same & known & ~_is_true(pc.equal(found["programid"], stored["programid"].take(where)))
    repeated = _repeated(found["exposureid"].to_numpy())
    doubtful, near = _doubtful(found, stored, there, repeated)
    contrary = there & ~same & _replaceable(stored.take(where), found)
    replaceable = replace & contrary
    seen = _Seen(stored.filter(near).to_pylist())
    new, known, others = ~there | (replaceable & ~repeated), there & same, other
    contradicting: list[Refused] = []
    replaced: dict[int, Row] = {}
    for i in np.flatnonzero((there & ~same & ~new) | doubtful).tolist():
        row = found.slice(i, 1).to_pylist()[0]
        first = replaced.get(row["exposureid"]) or (
            stored.slice(where[i].as_py(), 1).to_pylist()[0] if there[i] else seen.same_exposure(row)
        )
        new[i] = False
        if first is not None and first["sha256"] == row["sha256"]:
            known[i] = True
            others[i] = row["programid"] not in (None, first["programid"])
        elif replaceable[i] and row["exposureid"] not in replaced:
            new[i] = True
            replaced[row["exposureid"]] = row
        elif first is not None:
            way = " ('append --replace' takes it)" if contrary[i] and not replace else ""
            reason = f"the exposure is known from {first['filename']}, other content{way}"
            contradicting.append(Refused.read(row, "conflict", reason))
        elif (twin := seen.same_time(row)) is not None:
            reason = f"it is the exposure of {twin['filename']}, under another name"
            contradicting.append(Refused.read(row, "duplicate", reason))
        else:
            new[i] = True
            seen.add(row)
    every = [*refused, *contradicting]
    names = found.select(["source", "filename"]).to_pylist() if snapshot.of_table(QUARANTINE.name) else []
    quarantine = quarantine_change(snapshot, every, names)
    known_elsewhere = found["source"].filter(pa.array(others)).to_pylist()
    leaving = stored.take(where.filter(pa.array(new & there)))
    return Sorted(found.filter(pa.array(new)), int(known.sum()), known_elsewhere, every, quarantine, leaving)


def _replaceable(stored: pa.Table, found: pa.Table) -> Mask:
    """Whether each catalog is of the unit of the stored exposure beside it, which a catalog brought too."""
    kept = _is_true(pc.equal(stored["origin"].cast(pa.string()), CATALOG))
    for name in UNIT:
        kept &= _is_true(pc.equal(stored[name], found[name]))
    return kept


def _repeated(ids: Ints) -> Mask:
    """Whether each id, ascending, is there more than once."""
    repeated = np.zeros(len(ids), np.bool_)
    repeated[1:] |= ids[1:] == ids[:-1]
    repeated[:-1] |= ids[1:] == ids[:-1]
    return repeated


def _is_true(values: pa.ChunkedArray) -> Mask:
    return np.asarray(values.fill_null(False).to_numpy(), np.bool_)


def _doubtful(found: pa.Table, stored: pa.Table, there: Mask, repeated: Mask) -> tuple[Mask, Mask]:
    """Catalogs, not in the store by their key, that share key or time with another; stored exposures of those times."""
    both = pa.concat_tables([found.filter(pa.array(~there)).select(_SLOT), stored.select(_SLOT)])
    times, (_, unit) = both["obsmjd"].to_numpy(), units_of(both)
    order = np.lexsort((times, unit))
    close = (np.diff(unit[order]) == 0) & (np.diff(times[order]) < SAME_TIME_DAY)
    near = np.zeros(len(times), np.bool_)
    near[order[1:][close]] = near[order[:-1][close]] = True
    n_free = int((~there).sum())
    doubtful = repeated & ~there
    doubtful[~there] |= near[:n_free]
    return doubtful, near[n_free:]


class KnownExposures:
    """What the store has of some exposures, whatever it was taken from; the ledger is read once.

    Parameters
    ----------
    snapshot : SnapshotFiles
    rows : sequence of Row
        Ledger rows of all that will be asked for.
    """

    def __init__(self, snapshot: SnapshotFiles, rows: Sequence[Row]) -> None:
        asked = {name: [row[name] for row in rows] for name in ("exposureid", "obsmjd", "field")}
        self._seen = _Seen(_ledger_near(snapshot, pa.table(asked, schema=_ASKED), _COLUMNS).to_pylist())

    def has_any(self, rows: Sequence[Row]) -> bool:
        """Whether the store has any of them, or an exposure of the same key, of another unit."""
        return any(self._seen.same_exposure(row) or self._seen.same_time(row) for row in rows)

    def split(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Rows of exposures that are not in the store, and of those that are.

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
    """Units of the exposures in files of the ledger that an older snapshot lacks."""
    known = set(before.files.paths(EXPOSURES.name))
    fresh = [file for file in head.ledger if file.path not in known]
    return set(units_of(read_table(head.storage, fresh, EXPOSURES, UNIT))[0])


def _ledger_near(snapshot: SnapshotFiles, found: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Ledger rows that can be of the same exposures: only files of those nights or keys are read, one at a time."""
    parts = [EXPOSURES.empty.select(list(columns))]
    if not found.num_rows:
        return parts[0]
    (first, last), (low, high) = (pc.min_max(found[name]).as_py().values() for name in ("obsmjd", "exposureid"))
    first, last = first - SAME_TIME_DAY, last + SAME_TIME_DAY
    fields = pc.unique(found["field"])
    for file in snapshot.ledger:
        if file.holds_time(first, last) or file.holds_id([(low, high)]):
            rows = read_file_rows(snapshot.storage, file, columns)
            at_time = pc.and_(pc.greater_equal(rows["obsmjd"], first), pc.less_equal(rows["obsmjd"], last))
            same_time = pc.and_(at_time, pc.is_in(rows["field"], fields))
            same_key = pc.is_in(rows["exposureid"], found["exposureid"].combine_chunks())
            parts.append(rows.filter(pc.or_(same_time, same_key)).select(list(columns)))
    return pa.concat_tables(parts)
