"""Read the wanted rows of a table's files, and as little as possible of the others.

What cannot hold a wanted row, by the bounds in the manifest and in the footers, is not read. Of each row group that
can, the columns that decide are read first, and the others only where a row is wanted: a row group has one page of each
column, so that less than a row group cannot be left out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.io.parquet import DataFile, IdRange, OpenFile
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.schema import TABLES, Table
from ztfmatch.core.survey import unit_columns

_Known = dict[str, list[tuple[Any, Any]]]

_ID: Final = "objectid"
_UNIT: Final = ("rcid", "field", "fid")
_LAST: Final = np.iinfo(np.int64).max


class Sieve(Protocol):
    """Says which rows are wanted."""

    @property
    def columns(self) -> Collection[str]:
        """Columns that decide."""
        ...

    @property
    def bounded(self) -> Collection[str]:
        """Columns whose bounds :meth:`may_hold` looks at."""
        ...

    def may_hold(self, bounds: pa.Table) -> Mask:
        """Whether rows within some bounds can be wanted; ``min_x`` and ``max_x`` are null where they are unknown."""
        ...

    def mask(self, rows: pa.Table) -> Mask:
        """Whether each row is wanted."""
        ...


@dataclass(frozen=True)
class Wanted:
    """Rows that are wanted of a table with objectids; by default all."""

    ids: Ids | None = None
    """Only of these objects, ascending, each once."""
    sieve: Sieve | None = None
    """Only those that it lets through."""
    span: IdRange | None = None
    """No file or row group without objectids of this range; rows of others may come with them."""

    @property
    def columns(self) -> list[str]:
        """Columns that decide; one at least where anything does."""
        if self.sieve is None:
            return [] if self.ids is None else [_ID]
        return sorted({*([] if self.ids is None else [_ID]), *self.sieve.columns}) or [_ID]

    @property
    def bounded(self) -> set[str]:
        """Columns whose bounds tell something."""
        by_id = self.ids is not None or self.span is not None
        return {*([_ID] if by_id else []), *(() if self.sieve is None else self.sieve.bounded)}

    def may_hold(self, bounds: pa.Table) -> Mask:
        """Whether rows within some bounds can be wanted."""
        kept = np.ones(bounds.num_rows, bool) if self.sieve is None else self.sieve.may_hold(bounds)
        if self.ids is None and self.span is None:
            return kept
        first, last = bounds[f"min_{_ID}"].fill_null(0).to_numpy(), bounds[f"max_{_ID}"].fill_null(_LAST).to_numpy()
        if self.span is not None:
            kept = kept & (first <= self.span[1]) & (last >= self.span[0])
        if self.ids is not None:
            kept = kept & (np.searchsorted(self.ids, first, "left") < np.searchsorted(self.ids, last, "right"))
        return kept

    def mask(self, rows: pa.Table) -> Mask:
        """Whether each row is wanted."""
        kept = np.ones(rows.num_rows, bool) if self.sieve is None else self.sieve.mask(rows)
        return kept if self.ids is None else kept & is_among(rows[_ID].to_numpy(), self.ids)

    def files(self, files: Sequence[DataFile]) -> list[DataFile]:
        """Files that may hold a wanted row, by what the manifest says of them."""
        held = [file for file in files if file.rows]
        if not held or not self.bounded:
            return held
        kept = self.may_hold(_bounds_of_files(TABLES[held[0].table], held, self.bounded))
        return [file for file, may in zip(held, kept.tolist(), strict=True) if may]

    def groups(self, file: DataFile, metadata: pq.FileMetaData) -> list[int]:
        """Row groups of a file that may hold a wanted row, by what its footer says of them."""
        if not self.bounded:
            return list(range(metadata.num_row_groups))
        bounds = _bounds_of_groups(TABLES[file.table], metadata, self.bounded)
        return [int(group) for group in np.flatnonzero(self.may_hold(bounds))]


def scan(storage: Storage, files: Sequence[DataFile], table: Table, columns: Sequence[str], wanted: Wanted) -> pa.Table:
    """Wanted rows of files of a table, file after file; what has no wanted row is not read."""
    parts = []
    for file in wanted.files(files):
        parquet = OpenFile(storage, file)
        parts.append(RowGroups(parquet, threads=True).read(wanted.groups(file, parquet.metadata), columns, wanted))
    return pa.concat_tables(parts) if parts else table.schema.empty_table().select(list(columns))


@dataclass(frozen=True)
class RowGroups:
    """Row groups of an open file."""

    parquet: OpenFile
    threads: bool = False
    """Decode columns side by side. Tasks don't: a worker has one core."""

    def read(self, groups: Sequence[int], columns: Sequence[str], wanted: Wanted) -> pa.Table:
        """Wanted rows of some row groups; columns that decide nothing are read only of those that have one."""
        first = wanted.columns
        if not first:
            return self._columns(groups, columns)
        rows = self._columns(groups, first)
        kept = wanted.mask(rows)
        sizes = np.array([self.parquet.metadata.row_group(group).num_rows for group in groups], np.int64)
        of_group = np.repeat(np.arange(len(sizes)), sizes)
        hit = np.bincount(of_group[kept], minlength=len(sizes)) > 0
        found = dict(zip(first, rows.filter(pa.array(kept)).columns, strict=True))
        others = [name for name in columns if name not in first]
        if others:
            more = self._columns(np.array(groups, np.int64)[hit].tolist(), others)
            found |= dict(zip(others, more.filter(pa.array(kept[hit[of_group]])).columns, strict=True))
        return pa.table({name: found[name] for name in columns})

    def _columns(self, groups: Sequence[int], names: Sequence[str]) -> pa.Table:
        return self.parquet.read(groups, names, self.threads)


def _bounds_of_files(table: Table, files: Sequence[DataFile], names: Collection[str]) -> pa.Table:
    """Bounds of columns in each file, as the manifest has those of ids and times."""
    known: _Known = {_ID: [(f.min_id, f.max_id) for f in files], "hmjd": [(f.min_hmjd, f.max_hmjd) for f in files]}
    return _bounds_table(table, known, names, len(files))


def _bounds_of_groups(table: Table, metadata: pq.FileMetaData, names: Collection[str]) -> pa.Table:
    """Bounds of columns in each row group, as the footer has those that are kept."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    places = {name: at for at, name in enumerate(metadata.schema.names) if name in (*names, _ID)}
    known = {name: [_bounds(group.column(at).statistics) for group in groups] for name, at in places.items()}
    return _bounds_table(table, known, names, len(groups))


def _bounds(statistics: Any) -> tuple[Any, Any]:
    """Smallest and largest value that is no null nor NaN; None, None where the file does not say."""
    known = statistics is not None and statistics.has_min_max
    return (statistics.min, statistics.max) if known else (None, None)


def _bounds_table(table: Table, known: dict[str, list[tuple[Any, Any]]], names: Collection[str], rows: int) -> pa.Table:
    """``min_x`` and ``max_x`` of each column; those of a unit follow from the objectids, which begin with it."""
    unknown = [(None, None)] * rows
    known = {name: known.get(name, unknown) for name in {*names, _ID}}
    if not set(_UNIT).isdisjoint(names):
        known |= {name: bounds for name, bounds in _unit_bounds(known[_ID]).items() if name in names}
    columns = {}
    for name in sorted(names):
        for side, prefix in enumerate(("min", "max")):
            values = [pair[side] for pair in known[name]]
            columns[f"{prefix}_{name}"] = pa.array(values, plain_type(table, name), from_pandas=True)  # NaN is no bound
    return pa.table(columns)


def _unit_bounds(ids: Sequence[tuple[int | None, int | None]]) -> _Known:
    """Bounds of the columns of a unit: exact where all of them are of one; of fields always."""
    bounds: _Known = {name: [] for name in _UNIT}
    for low, high in ids:
        if low is None or high is None:
            first = last = dict.fromkeys(_UNIT)
        else:
            first, last = (dict(zip(_UNIT, unit_columns(one), strict=True)) for one in (low, high))
        same = first["field"] == last["field"]
        bounds["field"].append((first["field"], last["field"]))
        bounds["fid"].append((first["fid"], last["fid"]) if same else (None, None))
        same = same and first["fid"] == last["fid"]
        bounds["rcid"].append((first["rcid"], last["rcid"]) if same else (None, None))
    return bounds


def plain_type(table: Table, name: str) -> pa.DataType:
    """Type of a column, a dictionary's values'."""
    kind = table[name].type
    return getattr(kind, "value_type", kind)
