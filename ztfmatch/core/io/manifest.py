"""The live files of a snapshot: those that its manifests add and do not remove, read on demand."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.manifestpart import (
    EVERYTHING,
    FILE_COLUMNS,
    SCHEMA,
    KeyRange,
    Keys,
    Part,
    by_key,
    key_of,
    keys_of_table,
    part_of,
    surviving,
)
from ztfmatch.core.io.parquet import DataFile, IdRange
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.survey import IDS_OF_A_GENERATION

_GENERATIONS: Final = 1 << 31
"""More than all units have together."""
_BLOCKS_KEPT: Final = 16
_TILES_KEPT: Final = 32
_BLOCKS_AT_ONCE: Final = 16
"""So many are swept through at a time: of each part a row group may be read twice, for two of them."""


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
    """Live files; only what answers a question is read, and a :class:`DataFile` made only where one is asked for.

    Keys of table and tile are divided into blocks, each of a row group or so of the longest manifest. A tile is in one
    block, and the last blocks are kept. What is asked of all files is answered by some blocks after the other.

    Parameters
    ----------
    parts : sequence of Part
        The oldest first; each adds files, and removes files of those before it.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._block = functools.lru_cache(_BLOCKS_KEPT)(self._read_block)
        self._tile = functools.lru_cache(_TILES_KEPT)(self._read_tile)
        self.has = functools.cache(self._has)
        """Whether a table, by name, has any file; kept."""

    @classmethod
    def of(cls, files: Iterable[DataFile]) -> FileList:
        """List of some files."""
        return cls([part_of(files)])

    @functools.cached_property
    def _edges(self) -> Keys:
        """First key of each block."""
        longest = max((part.first for part in self._parts), key=len, default=np.array([], np.int64))
        return np.unique(np.append(longest, EVERYTHING[0]))

    def _read_block(self, number: int) -> tuple[Keys, pa.Table]:
        edges = self._edges
        last = int(edges[number + 1]) - 1 if number + 1 < len(edges) else EVERYTHING[1]
        rows = surviving(self._parts, (int(edges[number]), last), FILE_COLUMNS)[0].combine_chunks()
        return rows["key"].to_numpy(), rows.select(FILE_COLUMNS)

    def _ranges(self, keys: KeyRange) -> Iterator[KeyRange]:
        """Some blocks' keys after the other."""
        inside = self._edges[np.searchsorted(self._edges, keys[0], "right") : np.searchsorted(self._edges, keys[1])]
        edges = [keys[0], *inside[_BLOCKS_AT_ONCE - 1 :: _BLOCKS_AT_ONCE].tolist(), keys[1] + 1]
        return ((low, high - 1) for low, high in itertools.pairwise(edges))

    def _tables(self, keys: KeyRange, names: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of the live files, in order of table and tile, some at a time."""
        for one in self._ranges(keys):
            yield surviving(self._parts, one, names)[0].select(names)

    def _column(self, table: str, *names: str) -> pa.Table:
        return pa.concat_tables(self._tables(keys_of_table(table), names))

    def merged(self, last: bool) -> Iterator[pa.Table]:
        """Rows of a manifest that stands for all of these.

        Parameters
        ----------
        last : bool
            Whether there are none below it, so that what it removes need not be told.
        """
        for one in self._ranges(EVERYTHING):
            added, removed = surviving(self._parts, one, SCHEMA.names)
            yield (added if last else by_key([added, removed])).select(SCHEMA.names)

    def __len__(self) -> int:
        return sum(rows.num_rows for rows in self._tables(EVERYTHING, ["key"]))

    def __iter__(self) -> Iterator[DataFile]:
        return itertools.chain.from_iterable(_files(rows) for rows in self._tables(EVERYTHING, FILE_COLUMNS))

    def not_in(self, other: FileList) -> Iterator[DataFile]:
        """The files that are not in another list."""
        for one in self._ranges(EVERYTHING):
            rows = surviving(self._parts, one, FILE_COLUMNS)[0].select(FILE_COLUMNS)
            there = surviving(other._parts, one, ["path"])[0]["path"].combine_chunks()
            yield from _files(rows.filter(pc.invert(pc.is_in(rows["path"], there))))

    def paths(self, table: str | None = None) -> list[str]:
        """Paths of all files, or of one table's."""
        keys = EVERYTHING if table is None else keys_of_table(table)
        return [path for rows in self._tables(keys, ["path"]) for path in rows["path"].to_pylist()]

    def _has(self, table: str) -> bool:
        return any(rows.num_rows for rows in self._tables(keys_of_table(table), ["key"]))

    def count(self, table: str) -> int:
        """Number of a table's files."""
        return int(self._column(table, "key").num_rows)

    def total(self, table: str, column: str) -> int:
        """Sum of a column over a table's files."""
        return int(pc.sum(self._column(table, column)[column], min_count=0).as_py())

    def of_table(self, table: str) -> list[DataFile]:
        """Files of a table, in order of their tiles."""
        return _files(self._column(table, *FILE_COLUMNS))

    def of_ids(self, table: str, ranges: Sequence[IdRange]) -> list[DataFile]:
        """Files of a table that may hold an id of some ranges, in order of their tiles."""
        rows = self._column(table, *FILE_COLUMNS)
        unknown = pc.or_(rows["min_id"].is_null(), rows["max_id"].is_null()).to_numpy()
        low, high = (rows[name].fill_null(0).to_numpy() for name in ("min_id", "max_id"))
        kept = np.array(unknown)
        for first, last in ranges:
            kept |= (low <= last) & (high >= first)
        return _files(rows.filter(pa.array(kept)))

    def of_tile(self, table: str, tile: Tile) -> list[DataFile]:
        """Files of one tile of a table, oldest first."""
        return list(self._tile(key_of(table, tile.order, tile.npix)))

    def _read_tile(self, key: int) -> list[DataFile]:
        keys, rows = self._block(int(np.searchsorted(self._edges, key, "right")) - 1)
        low, high = np.searchsorted(keys, [key, key + 1])
        if low == high:
            return []
        return sorted(_files(rows.slice(low, high - low)), key=lambda f: (f.min_hmjd or 0.0, f.path))

    def rows_near(self, table: str, asked: Sequence[tuple[Sequence[Tile], IdRange]]) -> Keys:
        """Rows of the files of some tiles that may hold ids of a range, of a generation of a unit or more; shape (N,).

        Those are the files that begin before the range ends, but for those that end before it begins.
        """
        rows = self._column(table, "key", "min_id", "max_id", "rows")
        tiles, tile = np.unique(rows["key"].to_numpy(), return_inverse=True)
        total = rows["rows"].to_numpy()
        wanted = np.array([key_of(table, one.order, one.npix) for of, _ in asked for one in of], np.int64)
        owner = np.repeat(np.arange(len(asked)), [len(of) for of, _ in asked])
        at = find_sorted(tiles, wanted)
        owner, at = owner[at >= 0], at[at >= 0]

        def before(name: str, unknown: int, edges: Keys) -> Keys:
            """Rows of files of which one end lies before an edge, and of all files of tiles before."""
            keys = tile * _GENERATIONS + rows[name].fill_null(unknown).to_numpy() // IDS_OF_A_GENERATION
            order = np.argsort(keys)
            held = np.concatenate([[0], np.cumsum(total[order])])
            return np.asarray(held[np.searchsorted(keys[order], at * _GENERATIONS + edges[owner])])

        low, high = np.array([ids for _, ids in asked], np.int64).reshape(-1, 2).T // IDS_OF_A_GENERATION
        held = before("min_id", 0, high + 1) - before("max_id", _GENERATIONS * IDS_OF_A_GENERATION - 1, low)
        return np.bincount(owner, held, len(asked)).astype(np.int64)

    def by_tile(self, table: str) -> dict[Tile | None, TileFiles]:
        """What each tile has of a table; None stands for the whole sky."""
        names = ("key", "order", "npix", "rows", "commit", "min_id", "max_id")
        held = (_by_tile(rows) for rows in self._tables(keys_of_table(table), names) if rows.num_rows)
        return dict(itertools.chain.from_iterable(held))


def _by_tile(rows: pa.Table) -> Iterator[tuple[Tile | None, TileFiles]]:
    """What each tile has of a table, of which all files of these tiles are there, by key."""
    key, order, npix, sizes, commits = (
        rows[name].to_numpy().astype(np.int64) for name in ("key", "order", "npix", "rows", "commit")
    )
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.diff(np.append(starts, len(key)))
    columns = (
        order[starts],
        npix[starts],
        counts,
        np.add.reduceat(sizes, starts),
        np.maximum.reduceat(commits, starts),
        _depths(rows, np.repeat(np.arange(len(starts)), counts)),
    )
    for k, n, *of in zip(*(column.tolist() for column in columns), strict=True):
        yield None if k < 0 else Tile(k, n), TileFiles(*of)


def _depths(rows: pa.Table, tile: Keys) -> Keys:
    """Most files of a tile whose ranges of ids share one; files without a range are in none."""
    low = rows["min_id"].fill_null(1).to_numpy()
    high = rows["max_id"].fill_null(0).to_numpy()
    known = np.flatnonzero(low <= high)
    edges = np.concatenate([low[known], high[known]])
    closing = np.repeat([0, 1], len(known))
    order = np.lexsort([closing, edges, np.tile(tile[known], 2)])
    held = np.cumsum(1 - 2 * closing[order])
    depths = np.zeros(tile[-1] + 1, np.int64)
    np.maximum.at(depths, np.tile(tile[known], 2)[order], held)
    return depths


def _files(columns: pa.Table) -> list[DataFile]:
    return [DataFile(*row) for row in zip(*columns.to_pydict().values(), strict=True)]
