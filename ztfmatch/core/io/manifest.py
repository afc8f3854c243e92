"""Manifests: the live files of a snapshot, in columns, so that a list of hundreds of thousands costs little."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.paths import DATA
from ztfmatch.core.kernels.tiling import Tile

_SCHEMA: Final = pa.schema(
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
    ]
)
_DICTIONARY: Final = ["table", "order", "npix", "commit"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TileFiles:
    """What a tile has of a table."""

    files: int
    rows: int
    newest: int
    """Number of the commit that added the newest of them."""
    depth: int
    """Most files that can hold the same id: one if their ranges of ids do not overlap."""


class FileList:
    """Live files; a :class:`DataFile` is made only where one is asked for.

    Parameters
    ----------
    columns : pyarrow.Table
        One row a file, as a manifest has it.
    """

    def __init__(self, columns: pa.Table) -> None:
        self.columns = columns.combine_chunks()

    @classmethod
    def of(cls, files: Iterable[DataFile]) -> FileList:
        """List of some files."""
        rows = [tuple(file.to_json().values()) for file in files]
        columns = zip(*rows, strict=True) if rows else [()] * len(_SCHEMA)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
        return cls(pa.Table.from_arrays(arrays, schema=_SCHEMA))

    @classmethod
    def decode(cls, content: bytes) -> FileList:
        """List that a manifest holds.

        Raises
        ------
        pyarrow.ArrowException, OSError, ValueError
            If it is not what :meth:`encode` gave, or names files that are not the store's data.
        """
        columns = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False).select(_SCHEMA.names).cast(_SCHEMA)
        # A store may come from elsewhere, and its files are linked to and read by their names.
        inside = pc.and_(pc.starts_with(columns["path"], DATA), pc.invert(pc.match_substring(columns["path"], "..")))
        if not pc.all(inside, min_count=0).as_py():
            outside = columns["path"].filter(pc.invert(inside))[0].as_py()
            raise ValueError(f"it names {outside!r}; expected files in {DATA}")
        return cls(columns)

    def encode(self) -> pa.Buffer:
        """Bytes of a manifest."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.columns, sink, compression="zstd", use_dictionary=_DICTIONARY)
        return sink.getvalue()

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    def __iter__(self) -> Iterator[DataFile]:
        return iter(_files(self.columns))

    @staticmethod
    def joined(lists: Iterable[FileList]) -> FileList:
        """All files of some lists."""
        return FileList(pa.concat_tables([_SCHEMA.empty_table(), *(one.columns for one in lists)]))

    def without(self, paths: Iterable[str]) -> FileList:
        """The files but for some."""
        listed = pc.is_in(self.columns["path"], pa.array(list(paths), pa.string()))
        return FileList(self.columns.filter(pc.invert(listed)))

    def not_in(self, other: FileList) -> FileList:
        """The files that another list has not."""
        listed = pc.is_in(self.columns["path"], other.columns["path"].combine_chunks())
        return FileList(self.columns.filter(pc.invert(listed)))

    def paths(self, table: str | None = None) -> list[str]:
        """Paths of all files, or of one table's."""
        column = self.columns["path"]
        chosen: list[str] = (column if table is None else column.take(pa.array(self._rows_of(table)))).to_pylist()
        return chosen

    def total(self, table: str, column: str) -> int:
        """Sum of a column over a table's files."""
        return int(self._numbers(column)[self._rows_of(table)].sum())

    def of_table(self, table: str) -> list[DataFile]:
        """Files of a table, in order of their tiles."""
        return _files(self.columns.take(pa.array(self._rows_of(table))))

    def of_tile(self, table: str, tile: Tile) -> list[DataFile]:
        """Files of one tile of a table, oldest first."""
        rows = self._rows_between(_key(self._codes.get(table, -1), tile.order, tile.npix))
        if not len(rows):
            return []
        return sorted(_files(self.columns.take(pa.array(rows))), key=lambda f: (f.min_hmjd or 0.0, f.path))

    def by_tile(self, table: str) -> dict[Tile | None, TileFiles]:
        """What each tile has of a table; None stands for the whole sky."""
        rows = self._rows_of(table)
        if not len(rows):
            return {}
        order, npix, sizes, commits = (self._numbers(name)[rows] for name in ("order", "npix", "rows", "commit"))
        starts = np.flatnonzero(np.diff(order, prepend=-2) | np.diff(npix, prepend=-2))
        counts = np.diff(np.append(starts, len(rows)))
        columns = (
            order[starts],
            npix[starts],
            counts,
            np.add.reduceat(sizes, starts),
            np.maximum.reduceat(commits, starts),
            self._depths(rows, np.repeat(np.arange(len(starts)), counts)),
        )
        return {
            None if k < 0 else Tile(k, n): TileFiles(*of)
            for k, n, *of in zip(*(column.tolist() for column in columns), strict=True)
        }

    def _depths(self, rows: Rows, tile: Rows) -> Rows:
        """Most files of a tile whose ranges of ids share one; files without a range are in none."""
        low = self.columns["min_id"].fill_null(1).to_numpy()[rows]
        high = self.columns["max_id"].fill_null(0).to_numpy()[rows]
        known = np.flatnonzero(low <= high)
        edges = np.concatenate([low[known], high[known]])
        closing = np.repeat([0, 1], len(known))
        order = np.lexsort([closing, edges, np.tile(tile[known], 2)])
        held = np.cumsum(1 - 2 * closing[order])
        depths = np.zeros(tile[-1] + 1, np.int64)
        np.maximum.at(depths, np.tile(tile[known], 2)[order], held)
        return depths

    def _rows_of(self, table: str) -> Rows:
        code = self._codes.get(table, -1)
        return self._rows_between(_key(code, -1, -1), _key(code + 1, -1, -1) - 1)

    def _rows_between(self, first: int, last: int | None = None) -> Rows:
        keys, order = self._index
        low = np.searchsorted(keys, first, side="left")
        return order[low : np.searchsorted(keys, first if last is None else last, side="right")]

    @functools.cached_property
    def _codes(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(sorted(pc.unique(self.columns["table"]).to_pylist()))}

    @functools.cached_property
    def _index(self) -> tuple[Rows, Rows]:
        """Keys of table and tile, ascending, and the rows that have them."""
        names = pa.array(sorted(self._codes), pa.string())
        code = pc.index_in(self.columns["table"], names).to_numpy().astype(np.int64)
        keys = _key(code, self._numbers("order"), self._numbers("npix"))
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def _numbers(self, column: str) -> Rows:
        numbers: Rows = self.columns[column].to_numpy().astype(np.int64)
        return numbers


def _key(code: Any, order: Any, npix: Any) -> Any:
    """Number that sorts by table, order, pixel; an untiled table has order -1 and pixel -1."""
    return ((code * 16 + order + 1) << 40) + npix + 1


def _files(columns: pa.Table) -> list[DataFile]:
    return [DataFile(*row) for row in zip(*columns.to_pydict().values(), strict=True)]
