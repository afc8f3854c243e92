"""One manifest: files added and removed by some commits, in columns, sorted by table and tile.

Row groups are small and have the bounds of their keys, so that the files of one tile are found without the others. A
manifest is sealed like any file of the store (:mod:`ztfmatch.core.io.sealed`): what is read of it is verified, what is
not needed is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io import paths
from ztfmatch.core.io.parquet import DataFile, OpenFile
from ztfmatch.core.io.sealed import Named, Sealed, seal
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import TABLES

SCHEMA: Final = pa.schema(
    [
        pa.field("table", pa.string(), False),
        pa.field("order", pa.int8(), False),
        pa.field("npix", pa.int64(), False),
        pa.field("path", pa.string(), False),
        pa.field("rows", pa.int64(), False),
        pa.field("size", pa.int64(), False),
        pa.field("min_id", pa.int64()),
        pa.field("max_id", pa.int64()),
        pa.field("min_hmjd", pa.float64()),
        pa.field("max_hmjd", pa.float64()),
        pa.field("sha256", pa.string(), False),
        pa.field("commit", pa.int64(), False),
        pa.field("tail", pa.int64(), False),
        pa.field("seal", pa.string(), False),
        pa.field("removed", pa.bool_(), False),
        pa.field("key", pa.int64(), False),
    ]
)
"""A file as :class:`~ztfmatch.core.io.parquet.DataFile` has it, whether it was removed, and what it is sorted by."""

FILE_COLUMNS: Final = [field.name for field in fields(DataFile)]
ROWS_PER_GROUP: Final = 8192
_DICTIONARY: Final = ["table", "order", "npix", "commit"]
_CODES: Final = {name: code for code, name in enumerate(TABLES)}
_PATH: Final = "path"
_REMOVED: Final = "removed"
_KEY: Final = "key"

Keys = npt.NDArray[np.int64]
KeyRange = tuple[int, int]
"""Smallest and largest key, both inclusive."""
EVERYTHING: Final[KeyRange] = (0, 2**62)


def key_of(table: str, order: int, npix: int) -> int:
    """Number that sorts by table, order, pixel; an untiled table has order -1 and pixel -1."""
    return ((_CODES.get(table, len(_CODES)) * 16 + order + 1) << 40) + npix + 1


def keys_of_table(table: str) -> KeyRange:
    """Keys that the files of a table can have."""
    first = key_of(table, -1, -1)
    return first, first + (1 << 44) - 1


@dataclass(frozen=True)
class Part:
    """The rows of one manifest, ascending by key."""

    first: Keys
    """Smallest key of each row group."""
    last: Keys
    removes: bool
    """Whether any row says that a file was removed."""
    read: Callable[[Sequence[int], Sequence[str]], pa.Table]
    """Gives some columns of some row groups."""

    def rows(self, keys: KeyRange, names: Sequence[str]) -> pa.Table:
        """Rows with keys of a range."""
        groups = range(np.searchsorted(self.last, keys[0], "left"), np.searchsorted(self.first, keys[1], "right"))
        if not groups:
            return _empty(names)
        table = self.read(groups, list(dict.fromkeys([*names, _KEY])))
        low, high = np.searchsorted(table[_KEY].to_numpy(), [keys[0], keys[1] + 1])
        return table.slice(low, high - low).select(names)


def part_of(files: Iterable[DataFile], removed: Iterable[str] = ()) -> Part:
    """Part, in memory, of files that are added and paths of files that are removed."""
    gone = (DataFile(*paths.place_of(path), path, 0, 0, None, None, None, None, "", 0, 0, "") for path in removed)
    rows = [(*astuple(file), says) for files_of, says in ((files, False), (gone, True)) for file in files_of]
    keyed = sorted(((*row, key_of(*row[:3])) for row in rows), key=lambda row: (row[-1], row[3], row[-2]))
    columns = zip(*keyed, strict=True) if keyed else [()] * len(SCHEMA)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    keys = table[_KEY].to_numpy()
    return Part(keys[:1], keys[-1:], any(row[-2] for row in keyed), lambda _, names: table.select(names))


def open_part(storage: Storage, file: Named, removes: bool) -> Part:
    """Part that a manifest in a store is; of it no more than the tail is read yet.

    Raises
    ------
    StoreDamagedError
        Also when it is read, if it is missing, not what was written, or names files that are not the store's data.
    """
    parquet = OpenFile(storage, file)
    metadata = parquet.metadata
    if not metadata.schema.to_arrow_schema().equals(SCHEMA):
        raise StoreDamagedError(f"{file.described} is damaged: its columns are not those of a manifest")
    column = SCHEMA.get_field_index(_KEY)
    bounds = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    first, last = (np.array([getattr(bound, side) for bound in bounds], np.int64) for side in ("min", "max"))

    def read(groups: Sequence[int], names: Sequence[str]) -> pa.Table:
        rows = parquet.read(groups, names)
        _check_paths(file, rows)
        return rows

    return Part(first, last, removes, read)


def _check_paths(file: Named, rows: pa.Table) -> None:
    """A store may come from elsewhere, and its files are linked to and read by their names."""
    if _PATH not in rows.schema.names:
        return
    inside = pc.and_(pc.starts_with(rows[_PATH], paths.DATA), pc.invert(pc.match_substring(rows[_PATH], "..")))
    if not pc.all(inside, min_count=0).as_py():
        outside = rows[_PATH].filter(pc.invert(inside))[0].as_py()
        raise StoreDamagedError(f"{file.described} is damaged: it names {outside!r}; expected files in {paths.DATA}")


def surviving(parts: Sequence[Part], keys: KeyRange, names: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Put parts, the oldest first, upon each other.

    Parameters
    ----------
    parts : sequence of Part
    keys : KeyRange
        Which of their rows.
    names : sequence of str
        Columns wanted; those that decide are always there.

    Returns
    -------
    added : pyarrow.Table
        Files that a part adds and no newer one removes, ascending by key.
    removed : pyarrow.Table
        Rows of removed files that no part adds, so that an older one than these may.
    """
    decide = (_PATH, _REMOVED) if any(part.removes for part in parts) else ()
    wanted = list(dict.fromkeys([*names, _KEY, *decide]))
    kept, gone = [], _empty(wanted)
    for part in reversed(parts):
        rows = part.rows(keys, wanted)
        added = rows.filter(pc.invert(rows[_REMOVED])) if part.removes else rows
        if gone.num_rows and added.num_rows:
            paths_added, paths_gone = added[_PATH], gone[_PATH]
            added = added.filter(pc.invert(pc.is_in(paths_added, paths_gone.combine_chunks())))
            gone = gone.filter(pc.invert(pc.is_in(paths_gone, paths_added.combine_chunks())))
        kept.append(added)
        if part.removes:
            gone = by_key([rows.filter(rows[_REMOVED]), gone])
    return by_key(kept[::-1] or [gone]), gone


def by_key(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of some tables, at least one, ascending by key; equal ones table after table."""
    held = [table for table in tables if table.num_rows] or [tables[0]]
    whole = pa.concat_tables(held)
    return whole if len(held) == 1 else whole.combine_chunks().take(pa.array(np.argsort(whole[_KEY], kind="stable")))


def _empty(names: Sequence[str]) -> pa.Table:
    return pa.Table.from_batches([], SCHEMA).select(list(names))  # Schema.empty_table would load pandas


@dataclass(frozen=True)
class Encoded:
    """A manifest to be written."""

    sealed: Sealed
    files: int
    """Rows that add a file."""
    removed: int
    """Rows that remove one."""


def encode(tables: Iterable[pa.Table]) -> Encoded:
    """Manifest of rows, ascending by key, with all columns."""
    sink, counts = pa.BufferOutputStream(), [0, 0]
    layout = {"compression": "zstd", "use_dictionary": _DICTIONARY, "write_statistics": [_KEY], "version": "2.6"}
    with pq.ParquetWriter(sink, SCHEMA, **layout) as writer:
        for table in _regrouped(tables):
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            removed = pc.sum(table[_REMOVED]).as_py()
            counts = [counts[0] + table.num_rows - removed, counts[1] + removed]
    return Encoded(seal(sink.getvalue()), *counts)


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows in tables of whole row groups, but for the last."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        rows = sum(one.num_rows for one in held)
        if whole := rows // ROWS_PER_GROUP * ROWS_PER_GROUP:
            joined = pa.concat_tables(held).combine_chunks()
            yield joined.slice(0, whole)
            held = [joined.slice(whole)]
    if held and (rest := pa.concat_tables(held)).num_rows:
        yield rest
