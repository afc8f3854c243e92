"""Read the wanted rows of a table's files, and as little as possible of the others.

What cannot hold a wanted row, by the bounds in the manifest and in the footers, is not read. Of each row group that
can, the columns that decide are read first, and the others only where a row is wanted: a row group has one page of each
column, so that less than a row group cannot be left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Ids, Mask, Rows
from ztfmatch.core.io.parquet import DataFile, IdRange, OpenFile
from ztfmatch.core.io.sealed import leaf_paths
from ztfmatch.core.kernels.coverage import runs
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.recent import Recent
from ztfmatch.core.schema import TABLES, Table
from ztfmatch.core.survey import unit_columns

_Known = dict[str, list[tuple[Any, Any]]]

_ID: Final = "objectid"
_UNIT: Final = ("rcid", "field", "fid")
_LAST: Final = np.iinfo(np.int64).max

IdRuns = Recent[tuple[str, int], tuple[Ids, Rows]]
"""Of row groups, by the path of the file and their number: each objectid once, ascending, and where the rows of each
begin; in the end how many rows there are."""


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

    def _may_hold(self, ids: Ids, bounds: Callable[[Collection[str]], pa.Table]) -> list[int]:
        """Which files or row groups can have wanted rows.

        Parameters
        ----------
        ids : int64 ndarray, shape (N, 2)
            Smallest and largest objectid of each.
        bounds : callable
            Makes the table of the bounds of some columns in each.
        """
        (first, last), kept = ids.T, np.ones(len(ids), bool)
        if self.span is not None:
            kept &= (first <= self.span[1]) & (last >= self.span[0])
        if self.ids is not None:
            kept &= np.searchsorted(self.ids, first, "left") < np.searchsorted(self.ids, last, "right")
        if self.sieve is not None and self.sieve.bounded:
            kept &= self.sieve.may_hold(bounds(self.sieve.bounded))
        return [int(at) for at in np.flatnonzero(kept)]

    def mask(self, rows: pa.Table) -> Mask:
        """Whether each row is wanted."""
        kept = np.ones(rows.num_rows, bool) if self.sieve is None else self.sieve.mask(rows)
        return kept if self.ids is None else kept & is_among(rows[_ID].to_numpy(), self.ids)

    def files(self, files: Sequence[DataFile]) -> list[DataFile]:
        """Files that may hold a wanted row, by what the manifest says of them."""
        if not (held := [file for file in files if file.rows]):
            return held
        ids = [(file.min_id or 0, _LAST if file.max_id is None else file.max_id) for file in held]
        return [held[at] for at in self._may_hold(np.reshape(ids, (-1, 2)), functools.partial(_bounds_of_files, held))]

    def groups(self, parquet: OpenFile) -> list[int]:
        """Row groups of a file that may hold a wanted row, by what its footer says of them."""
        return self._may_hold(parquet.ids, functools.partial(_bounds_of_groups, parquet))


def scan(
    files: Iterable[OpenFile], table: Table, columns: Sequence[str], wanted: Wanted, kept: IdRuns | None = None
) -> pa.Table:
    """Wanted rows of files that may hold any, file after file; row groups without a wanted row are not read.

    Objectids of row groups that are ``kept`` are not read either.
    """
    parts = [RowGroups(parquet, True, kept).read(wanted.groups(parquet), columns, wanted) for parquet in files]
    return pa.concat_tables(parts) if parts else table.empty.select(list(columns))


@dataclass(frozen=True)
class RowGroups:
    """Row groups of an open file."""

    parquet: OpenFile
    threads: bool = False
    """Decode columns side by side. Tasks don't: a worker has one core."""
    kept: IdRuns | None = None

    def read(self, groups: Sequence[int], columns: Sequence[str], wanted: Wanted) -> pa.Table:
        """Wanted rows of some row groups; columns that decide nothing are read only of those that have one."""
        first = wanted.columns
        if not first:
            return self._columns(groups, columns)
        if wanted.ids is not None and wanted.sieve is None:
            kept, ids = self._rows_of_ids(groups, wanted.ids)
            found = pa.table([ids], pa.schema([TABLES[self.parquet.file.table].schema.field(_ID)]))
        else:
            rows = self._columns(groups, first)
            kept = np.flatnonzero(wanted.mask(rows))
            found = rows.take(kept)
        if others := [name for name in columns if name not in first]:
            starts = np.cumsum([0, *(self.parquet.metadata.row_group(group).num_rows for group in groups)])
            counts = np.diff(np.searchsorted(kept, starts))
            hit = np.flatnonzero(counts)
            sizes = np.diff(starts)[hit]
            kept += np.repeat(np.cumsum(sizes) - sizes - starts[hit], counts[hit])
            more = self._columns([groups[at] for at in hit.tolist()], others).take(kept)
            for field in found.schema:
                more = more.append_column(field, found[field.name])
            found = more
        return found.select(list(columns))

    def _rows_of_ids(self, groups: Sequence[int], ids: Ids) -> tuple[Rows, Ids]:
        """Rows of some objects in row groups, and the objectid of each: files are in order of these."""

        @functools.cache
        def read() -> Ids:
            every: Ids = self._columns(groups, [_ID])[_ID].to_numpy()
            return every

        rows, found, start = [ids[:0]], [ids[:0]], 0
        for group in groups:
            stop = start + self.parquet.groups[group].rows
            make = functools.partial(lambda part: _runs(read()[part]), slice(start, stop))
            known, edges = make() if self.kept is None else self.kept.get((self.parquet.file.path, group), make)
            mine = ids[slice(*np.searchsorted(ids, (known[0], known[-1] + 1)))]
            first, last = (edges[np.searchsorted(known, mine, side)] for side in ("left", "right"))
            rows.append(start + runs(first, last - first))
            found.append(np.repeat(mine, last - first))
            start = stop
        return np.concatenate(rows), np.concatenate(found)

    def _columns(self, groups: Sequence[int], names: Sequence[str]) -> pa.Table:
        return self.parquet.read(groups, names, self.threads)


def _runs(ids: Ids) -> tuple[Ids, Rows]:
    """Each id of ascending ones once, and the first row of each, with the number of rows after them."""
    edges = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1], [True]]))
    return ids[edges[:-1]], edges


def _bounds_of_files(files: Sequence[DataFile], names: Collection[str]) -> pa.Table:
    """Bounds of columns in each file, as the manifest has those of ids and times."""
    known: _Known = {_ID: [(f.min_id, f.max_id) for f in files], "hmjd": [(f.min_hmjd, f.max_hmjd) for f in files]}
    return _bounds_table(TABLES[files[0].table], known, names, len(files))


def _bounds_of_groups(parquet: OpenFile, names: Collection[str]) -> pa.Table:
    """Bounds of columns in each row group, as the footer has those that are kept."""
    metadata = parquet.metadata
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    places = {name: at for at, name in enumerate(leaf_paths(metadata)) if name in (*names, _ID)}
    known = {name: [_bounds(group.column(at).statistics) for group in groups] for name, at in places.items()}
    return _bounds_table(TABLES[parquet.file.table], known, names, len(groups))


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
            columns[f"{prefix}_{name}"] = pa.array(values, plain_type(table, name), from_pandas=True)  # NaN: unknown
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
