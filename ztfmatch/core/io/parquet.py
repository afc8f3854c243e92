"""Write and read the store's Parquet files: checksums, rows of an id range."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Array, Ids
from ztfmatch.core.errors import StorageError, StoreDamagedError, first_line
from ztfmatch.core.io import paths
from ztfmatch.core.io.encoding import encode
from ztfmatch.core.io.sealed import Named, Run, Sealed, SealedFile, Tail, leaf_paths, seal
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import in_ranges
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import TABLES, Table

_VALUES_OF_A_THREAD: Final = 1 << 21
"""With fewer, as four row groups of detections have, two threads take longer than one."""
_LITTLE_BYTES: Final = 1 << 21
"""So much of a file of this machine is read at once; of more each column by itself, when it is decoded."""
_FEW: Final = 4
"""Rows are few where they are less than this part of all."""
IdRange = tuple[int, int]
"""Smallest and largest id, both inclusive."""
Columns = dict[str, Array | pa.Array]
"""Of a table, by name; of NumPy or of Arrow."""
Bounds = tuple[Any, Any]
"""Smallest and largest value of a column; None, None where there is none."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One live Parquet file: a row of the manifest."""

    table: str
    order: int
    npix: int
    path: str
    rows: int
    size: int
    min_id: int | None
    max_id: int | None
    min_hmjd: float | None
    max_hmjd: float | None
    sha256: str
    commit: int
    tail: int
    """Bytes of its tail, see :mod:`ztfmatch.core.io.sealed`."""
    seal: str
    """Digest of its tail."""

    @property
    def described(self) -> str:
        """Path, table, tile and the snapshot that added it, for people."""
        where = f", tile {self.tile}" if self.tile else ""
        return f"{self.path} (table {self.table}{where}, snapshot {self.commit})"

    @property
    def tile(self) -> Tile | None:
        """Tile that it belongs to; None in a table that is not divided over the sky."""
        return None if self.order < 0 else Tile(self.order, self.npix)

    def holds_id(self, ranges: Sequence[IdRange]) -> bool:
        """Whether any id of the ranges can be in it."""
        if self.min_id is None or self.max_id is None:
            return True
        return any(low <= self.max_id and high >= self.min_id for low, high in ranges)

    def holds_time(self, first: float, last: float) -> bool:
        """Whether any hmjd, or obsmjd, of the range can be in it."""
        if self.min_hmjd is None or self.max_hmjd is None:
            return True
        return self.min_hmjd <= last and self.max_hmjd >= first


_IDS: Final = ("objectid", "transientid", "legacyid", "starid", "exposureid")

ID_COLUMN: Final = {
    name: next((column for column in _IDS if column in table.names), None) for name, table in TABLES.items()
}
"""Column whose bounds the manifest keeps as min_id and max_id."""

TIME_COLUMN: Final = {
    name: next((column for column in ("hmjd", "obsmjd") if column in table.names), None)
    for name, table in TABLES.items()
}


@dataclass(frozen=True)
class Destination:
    """Where a file goes."""

    storage: Storage
    table: Table
    tile: Tile | None
    commit: int
    part: str
    """What tells it from the other files of the commit."""


class WriteVerifier(Protocol):
    """Is shown what was encoded, as a reader will have it."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns that it wants to see."""
        ...

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """See some rows."""
        ...


def write_file(to: Destination, data: pa.Table, verifier: WriteVerifier | None = None) -> DataFile:
    """Write one immutable file of a table and return its manifest row.

    Its name ends in its checksum: a task that is run again writes the same bytes to the same place, and other bytes
    never take the place of a file that a snapshot may name.
    """
    encoded = encode(to.table, data)
    if verifier is not None:
        decoded = pq.ParquetFile(pa.BufferReader(encoded))
        for batch in decoded.iter_batches(to.table.row_group_rows, columns=list(verifier.columns), use_threads=False):
            verifier.add_batch(batch)
    ids, times = ID_COLUMN[to.table.name], TIME_COLUMN[to.table.name]
    return put_sealed(to, seal(encoded), _bounds(data, ids), _bounds(data, times))


def put_sealed(to: Destination, sealed: Sealed, ids: Bounds, times: Bounds) -> DataFile:
    """Put a file where it goes and return its manifest row; bounds are those of the id column and of times."""
    checksum = hashlib.sha256(usedforsecurity=False)
    for part in sealed.parts:
        checksum.update(part)
    sha256 = checksum.hexdigest()
    path = paths.data_file(to.table.name, to.tile, to.commit, f"{to.part}-{sha256[:8]}")
    to.storage.put(path, *sealed.parts)
    return DataFile(
        to.table.name,
        -1 if to.tile is None else to.tile.order,
        -1 if to.tile is None else to.tile.npix,
        path,
        sealed.rows,
        sealed.size,
        *ids,
        *times,
        sha256,
        to.commit,
        sealed.tail,
        sealed.seal,
    )


def _bounds(data: pa.Table, column: str | None) -> Bounds:
    if column is None or data.num_rows == 0:
        return None, None
    bounds = pc.min_max(data[column])
    return bounds["min"].as_py(), bounds["max"].as_py()


def table_from_columns(table: Table, columns: Mapping[str, Array | pa.Array]) -> pa.Table:
    """Arrow table of the schema; NaN becomes null in nullable float columns, and nowhere else."""
    arrays = []
    for column in table.columns:
        values = columns[column.name]
        if column.nullable and isinstance(values, np.ndarray) and values.dtype.kind == "f":
            missing = np.isnan(values)
            values = pa.array(values, column.type, mask=missing if missing.any() else None)
        arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=table.schema)


@dataclass(frozen=True)
class RowGroup:
    """What a footer says of a row group."""

    ids: IdRange
    """Smallest and largest id."""
    rows: int


class OpenFile:
    """A sealed file, open to be read; all of its bytes are verified as they are read.

    Arrow decodes in the thread that asks, or in threads of ours that are joined before the answer is given, never in
    its own: one of those may free what it read, which is Python's, only when the answer is long there, and where
    Python has begun to end by then, that aborts the process. So Arrow may neither use its threads nor buffer ahead.

    Parameters
    ----------
    storage : Storage
    file : Named
        A live file, or a manifest.
    tail : Tail, optional
        Where it is known, it isn't read again.

    Raises
    ------
    StoreDamagedError
        Also from every read, if it is missing or no longer the file that was written.
    """

    def __init__(self, storage: Storage, file: Named, tail: Tail | None = None) -> None:
        self.file: Any = file
        self.tail = tail or Tail(storage, file)
        self._storage = storage

    @property
    def metadata(self) -> pq.FileMetaData:
        """What the footer says."""
        return self.tail.metadata

    @functools.cached_property
    def groups(self) -> tuple[RowGroup, ...]:
        """Row groups of a data file whose table has ids."""
        whole = (self.file.min_id or 0, self.file.max_id or 0)
        bounds = enumerate(_group_bounds(self.metadata, ID_COLUMN[self.file.table]))
        return tuple(RowGroup(known or whole, self.metadata.row_group(g).num_rows) for g, known in bounds)

    @functools.cached_property
    def ids(self) -> Ids:
        """Smallest and largest id of each of these, shape (G, 2)."""
        return np.array([group.ids for group in self.groups], np.int64).reshape(-1, 2)

    def read(self, groups: Sequence[int], columns: Sequence[str], threads: bool = False) -> pa.Table:
        """Some columns of some row groups, decoded side by side if there is enough of them."""
        if lacking := self._lacking(columns):
            held = [name for name in columns if name not in lacking] or leaf_paths(self.metadata)[:1]
            return _completed(self.read(groups, held, threads), self.file, columns)
        ahead = self._ahead(groups, columns)
        values = len(columns) * sum(self.metadata.row_group(group).num_rows for group in groups)
        number = min(pa.cpu_count(), len(columns), values // _VALUES_OF_A_THREAD)
        if not threads or number < 2:
            return self._decoded(groups, columns, ahead)
        with ThreadPoolExecutor(number) as pool:
            table, *others = pool.map(lambda at: self._decoded(groups, columns[at::number], ahead), range(number))
        for field, column in ((field, part[field.name]) for part in others for field in part.schema):
            table = table.append_column(field, column)
        return table.select(list(columns))

    def groups_with(self, key: str | None, ranges: Sequence[IdRange]) -> list[int]:
        """Row groups that may have a value of some ranges in a column, by what the footer says of it."""
        return [g for g, bounds in enumerate(_group_bounds(self.metadata, key)) if overlaps(bounds, ranges)]

    def batches(
        self, columns: Sequence[str], rows: int, groups: Iterable[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of all or some row groups in order, at most so many at a time."""
        if lacking := self._lacking(columns):
            held = [name for name in columns if name not in lacking] or leaf_paths(self.metadata)[:1]
            for batch in self.batches(held, rows, groups):
                yield from _completed(pa.Table.from_batches([batch]), self.file, columns).to_batches()
            return
        names = list(columns)
        for group in range(self.metadata.num_row_groups) if groups is None else groups:
            parquet = self._parquet(self._ahead([group], names))
            batches = parquet.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)
            while (batch := self._guarded(functools.partial(next, batches, None))) is not None:
                yield batch

    def _lacking(self, columns: Sequence[str]) -> set[str]:
        """Columns that came after the file was written."""
        table = TABLES.get(getattr(self.file, "table", ""))
        later = {name for name in columns if name in table.later} if table is not None and table.later else set()
        return later - set(leaf_paths(self.metadata)) if later else later

    def _decoded(self, groups: Sequence[int], columns: Sequence[str], ahead: Sequence[Run]) -> pa.Table:
        read = functools.partial(self._parquet(ahead).read_row_groups, use_threads=False)
        table = self._guarded(lambda: read(list(groups), columns=list(columns)))
        return table.select(list(columns))  # releases of Arrow differ in the order

    def _ahead(self, groups: Sequence[int], columns: Sequence[str]) -> Sequence[Run]:
        """What is read with one request for all columns: better where it is far, or not much."""
        runs = self.tail.runs(groups, columns)
        if self._storage.local_root is not None and sum(stop - start for start, stop in runs) > _LITTLE_BYTES:
            return ()
        return SealedFile(self._storage, self.file, self.tail).read_ahead(runs)

    def _parquet(self, ahead: Sequence[Run]) -> pq.ParquetFile:
        source = SealedFile(self._storage, self.file, self.tail, ahead)
        return pq.ParquetFile(pa.PythonFile(source, mode="r"), metadata=self.metadata, pre_buffer=False)

    def _guarded(self, read: Callable[[], Any]) -> Any:
        """What a read gives; what is not Parquet is an error that names the file."""
        try:
            return read()
        except (StoreDamagedError, StorageError):
            raise
        except (pa.ArrowException, OSError) as error:
            raise StoreDamagedError(f"{self.file.described} is damaged: {first_line(error)}") from error


def _completed(rows: pa.Table, file: Any, columns: Sequence[str]) -> pa.Table:
    """Rows with nulls in columns that the file lacks."""
    schema = TABLES[file.table].schema
    for name in columns:
        if name not in rows.column_names:
            rows = rows.append_column(schema.field(name), pa.nulls(rows.num_rows, schema.field(name).type))
    return rows.select(list(columns))


def read_file_rows(
    storage: Storage,
    file: DataFile,
    columns: Sequence[str],
    ranges: Sequence[IdRange] | None = None,
    key: str | None = None,
    threads: bool = False,
) -> pa.Table:
    """Rows of one file, of all ids or of some ranges of its id column; only the row groups needed are read.

    Parameters
    ----------
    storage : Storage
    file : DataFile
    columns : sequence of str
    ranges : sequence of IdRange, optional
        They may not overlap.
    key : str, optional
        The column of integers that the ranges are of, by default the table's ids.
    threads : bool
        Decode columns side by side. Tasks don't: a worker has one core.
    """
    parquet = OpenFile(storage, file)
    if ranges is None:
        return parquet.read(range(parquet.metadata.num_row_groups), columns, threads)
    key = key or ID_COLUMN[file.table]
    wanted = [*columns, *([key] if key and key not in columns else [])]
    table = parquet.read(parquet.groups_with(key, ranges), wanted, threads)
    return _within(table, str(key), ranges, TABLES[file.table].sorted_by[0] == key).select(list(columns))


def _within(table: pa.Table, key: str, ranges: Sequence[IdRange], ordered: bool) -> pa.Table:
    """Rows whose key lies in any of the ranges: slices of what is sorted by it, copies of few, as slices hold all."""
    keys = table[key].to_numpy()
    if not ordered:
        return table.take(pa.array(np.flatnonzero(in_ranges(keys, ranges))))
    edges = np.searchsorted(keys, np.add(np.reshape(sorted(ranges), (-1, 2)), (0, 1))).tolist()
    parts = [table.slice(low, high - low) for low, high in edges if low < high]
    rows = pa.concat_tables(parts) if parts else table.slice(0, 0)
    return rows.take(np.arange(rows.num_rows)) if _FEW * rows.num_rows < table.num_rows else rows


def overlaps(bounds: IdRange | None, ranges: Sequence[IdRange]) -> bool:
    """Whether an id within some bounds, None if these are not known, can be in any of some ranges."""
    return bounds is None or any(low <= bounds[1] and high >= bounds[0] for low, high in ranges)


def _group_bounds(metadata: pq.FileMetaData, key: str | None) -> list[IdRange | None]:
    """Bounds of the id column in each row group; None where the file does not say."""
    names = leaf_paths(metadata)
    at = names.index(key) if key in names else -1
    bounds: list[IdRange | None] = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(at).statistics if at >= 0 else None
        if statistics is None or not statistics.has_min_max:
            bounds.append(None)
        else:
            bounds.append((statistics.min, statistics.max))
    return bounds


def read_rows(
    storage: Storage,
    files: Iterable[DataFile],
    columns: Sequence[str],
    ranges: Sequence[IdRange] | None = None,
    key: str | None = None,
    threads: bool = False,
) -> pa.Table | None:
    """Rows of several files of one table, file after file, as :func:`read_file_rows`; None where none fits."""
    parts = [
        read_file_rows(storage, file, columns, ranges, key, threads)
        for file in files
        if file.rows and (ranges is None or key is not None or file.holds_id(ranges))
    ]
    return pa.concat_tables(parts) if parts else None


def read_table(
    storage: Storage,
    files: Iterable[DataFile],
    table: Table,
    columns: Sequence[str] | None = None,
    ranges: Sequence[IdRange] | None = None,
    key: str | None = None,
) -> pa.Table:
    """The same of a table, all columns by default; without rows where no file fits."""
    names = list(columns or table.names)
    rows = read_rows(storage, files, names, ranges, key)
    return table.empty.select(names) if rows is None else rows
