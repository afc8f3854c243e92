"""Rewrite a file without some of its rows; row groups that lose none are copied, not encoded again."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Ints, Mask
from ztfmatch.core.io.encoding import encode
from ztfmatch.core.io.footer import Footer
from ztfmatch.core.io.joining import Piece, file_of, joined, piece_of
from ztfmatch.core.io.parquet import ID_COLUMN, TIME_COLUMN, Bounds, DataFile, Destination, OpenFile, put_sealed
from ztfmatch.core.io.sealed import SealedFile, Tail, leaf_paths
from ztfmatch.core.schema import TABLES

ROWS_AT_ONCE: Final = 1 << 19
"""Bound of the rows that are decoded at a time."""
_BYTES_DECODED: Final = 250
"""Peak memory per row of these."""
_BYTES_ENCODED: Final = 80
"""Peak memory per row of the file."""


def projected_bytes(file: DataFile) -> int:
    """Peak memory of writing a file anew."""
    return _BYTES_DECODED * min(file.rows, ROWS_AT_ONCE) + _BYTES_ENCODED * file.rows


def write_kept(to: Destination, file: DataFile, keep: Mask, tail: Tail | None = None) -> DataFile:
    """Write those rows of a file that are kept, in their order and to the last bit.

    Parameters
    ----------
    to : Destination
        In the same store, for the same table.
    file : DataFile
    keep : bool ndarray, shape (N,)
        For each row of the file; at least one is True.
    tail : Tail, optional
        Of the file; where it is known, it isn't read again.
    """
    return _Rewriting(to, file, tail or Tail(to.storage, file), keep).write()


@dataclass(frozen=True)
class _Rewriting:
    to: Destination
    file: DataFile
    tail: Tail
    keep: Mask

    def write(self) -> DataFile:
        pieces = [self._copied(groups) if whole else self._encoded(groups) for whole, groups in self._runs()]
        sealed = joined(pieces, int(self.keep.sum()))
        metadata = pq.read_metadata(pa.BufferReader(sealed.parts[-1]))
        name = self.to.table.name
        ids, times = (self._bounds(metadata, column) for column in (ID_COLUMN[name], TIME_COLUMN[name]))
        return put_sealed(self.to, sealed, ids, times)

    @functools.cached_property
    def _edges(self) -> Ints:
        """First row of each row group, and one past the last."""
        metadata = self.tail.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return np.cumsum([0, *sizes])

    @functools.cached_property
    def _footer(self) -> Footer:
        return Footer.of(bytes(self.tail.footer))

    @functools.cached_property
    def _open(self) -> OpenFile:
        return OpenFile(self.to.storage, self.file, self.tail)

    def _runs(self) -> list[tuple[bool, list[int]]]:
        """Row groups to be copied, that follow upon each other, and such of which some rows stay, some at a time."""
        sizes = np.diff(self._edges)
        kept = np.diff(np.concatenate([[0], np.cumsum(self.keep)])[self._edges])
        # Copied row groups must be of the schema of today, or the file had two.
        same = self.tail.metadata.schema.equals(_schema(self.to.table.name))
        runs: list[tuple[bool, list[int]]] = []
        for group in np.flatnonzero(kept).tolist():
            whole = same and bool(kept[group] == sizes[group])
            last = runs[-1][1] if runs and runs[-1][0] == whole else []
            if last and (group == last[-1] + 1 if whole else sizes[[*last, group]].sum() <= ROWS_AT_ONCE):
                last.append(group)
            else:
                runs.append((whole, [group]))
        return runs

    def _copied(self, groups: list[int]) -> Piece:
        first, stop = groups[0], groups[-1] + 1
        start, data = SealedFile(self.to.storage, self.file, self.tail).read_groups(first, stop)
        return Piece(data, start, self.tail.chunks(first, stop), self._footer.groups[first:stop], self._footer)

    def _encoded(self, groups: list[int]) -> Piece:
        keep = np.concatenate([self.keep[self._edges[group] : self._edges[group + 1]] for group in groups])
        rows = self._open.read(groups, self.to.table.names).filter(pa.array(keep))
        return piece_of(file_of(self.to.table, rows))

    def _bounds(self, metadata: pq.FileMetaData, column: str | None) -> Bounds:
        """Bounds of a column in what was written, of its statistics where it has them."""
        if column is None:
            return None, None
        if not self.to.table[column].bounds:
            whole = self._open.read(range(self.tail.metadata.num_row_groups), [column])
            bounds = pc.min_max(whole[column].filter(pa.array(self.keep)))
            return bounds["min"].as_py(), bounds["max"].as_py()
        at = leaf_paths(metadata).index(column)
        said = [metadata.row_group(group).column(at).statistics for group in range(metadata.num_row_groups)]
        return min(one.min for one in said), max(one.max for one in said)


@functools.lru_cache
def _schema(table: str) -> pq.ParquetSchema:
    """Schema of files of a table, as they are written now."""
    empty = TABLES[table].empty
    return pq.read_metadata(pa.BufferReader(encode(TABLES[table], empty))).schema
