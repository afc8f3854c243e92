"""Read whole lightcurves from many files of a tile, in bounded memory.

Every file is sorted by objectid, then time. All are read side by side, a batch of rows at a time; an object is
handed on once no file can hold more of it. Memory follows the number of rows in flight, not the size of the tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.io.parquet import DataFile, IdRange, iterate_batches, read_file_rows, row_group_bounds
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.rows import order_by_group

ROWS_IN_FLIGHT: Final = 1_000_000
MAX_OPEN_FILES: Final = 24
"""Files read side by side: each has a decoded row group in memory. More are read in turn, one id range at a time."""

_SMALLEST_BATCH: Final = 2_048

Arrays = dict[str, npt.NDArray[Any]]
_SORT_COLUMNS: Final = ("objectid", "hmjd", "exposureid")


@dataclass(frozen=True)
class Lightcurves:
    """Complete lightcurves of some objects, ascending by objectid; epochs by time, then exposureid."""

    objectid: npt.NDArray[np.int64]
    """Shape (N,)."""
    offsets: npt.NDArray[np.int64]
    """First epoch of each object, and one past the last, shape (N + 1,)."""
    columns: Arrays
    """Epochs; null floats are NaN."""


def iterate_lightcurves(
    storage: Storage, files: Sequence[DataFile], columns: Sequence[str], rows_in_flight: int = ROWS_IN_FLIGHT
) -> Iterator[Lightcurves]:
    """Lightcurves of all objects in detection files, some at a time.

    Parameters
    ----------
    storage : Storage
    files : sequence of DataFile
        Of the table ``detections``.
    columns : sequence of str
        Columns wanted; those that the order needs are always there.
    rows_in_flight : int
        Bound of the rows held, about; one object with more epochs is held whole.
    """
    wanted = list(dict.fromkeys([*_SORT_COLUMNS, *columns]))
    if len(files) > MAX_OPEN_FILES:
        yield from _iterate_ranges(storage, files, wanted, rows_in_flight)
        return
    batch = max(rows_in_flight // max(len(files), 1), _SMALLEST_BATCH)
    cursors = [_Cursor(storage, file, wanted, batch) for file in files]
    while True:
        cursors = [cursor for cursor in cursors if cursor.fill()]
        if not cursors:
            return
        parts = _take_complete(cursors)
        if parts:
            yield merge(parts)


def _iterate_ranges(
    storage: Storage, files: Sequence[DataFile], columns: list[str], rows_in_flight: int
) -> Iterator[Lightcurves]:
    """Lightcurves of one range of objectids after the other; a row group on a border is read for both."""
    for low, high in _ranges_of_rows(storage, files, rows_in_flight):
        parts = [
            numpy_columns(rows)
            for file in files
            if file.holds_id([(low, high)]) and (rows := read_file_rows(storage, file, columns, [(low, high)])).num_rows
        ]
        if parts:
            yield merge(parts)


def _ranges_of_rows(storage: Storage, files: Sequence[DataFile], rows: int) -> Iterator[IdRange]:
    """Consecutive ranges of objectids that hold about so many rows each and all of them together."""
    groups = sorted((bounds[1], count) for file in files for bounds, count in row_group_bounds(storage, file))
    low, held = 0, 0
    for last, count in groups:
        held += count
        if held >= rows and last >= low:
            yield low, last
            low, held = last + 1, 0
    if groups and groups[-1][0] >= low:
        yield low, groups[-1][0]


class _Cursor:
    """Place in one file, with the rows read but not handed on."""

    def __init__(self, storage: Storage, file: DataFile, columns: list[str], batch: int) -> None:
        self._batches = iterate_batches(storage, file, columns, batch)
        self._held: Arrays | None = None
        self.exhausted = False

    def fill(self) -> bool:
        """Read on if nothing is held; False at the end of the file."""
        while self._held is None and not self.exhausted:
            self._read()
        return self._held is not None

    def read_more(self) -> None:
        """Read on though rows are held."""
        if not self.exhausted:
            self._read()

    def _read(self) -> None:
        table = next(self._batches, None)
        if table is None:
            self.exhausted = True
        elif table.num_rows:
            fresh = numpy_columns(table)
            held = self._held
            self._held = fresh if held is None else {k: np.concatenate([held[k], v]) for k, v in fresh.items()}

    @property
    def last_id(self) -> int:
        """Largest objectid held."""
        return int(self._held["objectid"][-1]) if self._held else -1

    def take_below(self, bound: int | None) -> Arrays | None:
        """Hand on the rows of objects below a bound, or all; None if there are none."""
        held = self._held
        if held is None:
            return None
        rows = len(held["objectid"])
        stop = rows if bound is None else int(np.searchsorted(held["objectid"], bound))
        if stop == 0:
            return None
        self._held = None if stop == rows else {name: values[stop:] for name, values in held.items()}
        return {name: values[:stop] for name, values in held.items()}


def _take_complete(cursors: list[_Cursor]) -> list[Arrays]:
    """Rows of all objects that no file can hold more of; reads on where an object fills what is held."""
    while True:
        unfinished = [cursor for cursor in cursors if not cursor.exhausted]
        bound = min((cursor.last_id for cursor in unfinished), default=None)
        parts = [part for part in (cursor.take_below(bound) for cursor in cursors) if part is not None]
        if parts or bound is None:
            return parts
        for cursor in unfinished:
            if cursor.last_id == bound:
                cursor.read_more()


def merge(parts: Sequence[Arrays]) -> Lightcurves:
    """Bring rows of several runs, each sorted by objectid and time, into one order.

    Runs are expected to be of different exposures; a detection found in two is kept twice (and found by verify).
    """
    heads = [_run_starts(part["objectid"]) for part in parts]
    unique = np.unique(np.concatenate([part["objectid"][h] for part, h in zip(parts, heads, strict=True)]))
    group = np.concatenate(
        [
            np.repeat(np.searchsorted(unique, part["objectid"][h]), np.diff(np.append(h, len(part["objectid"]))))
            for part, h in zip(parts, heads, strict=True)
        ]
    )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "objectid"}
    offsets = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(unique)))]).astype(np.int64)
    if len(parts) > 1:
        order = order_by_group(group, columns["hmjd"], columns["exposureid"], len(unique))
        columns = {name: values[order] for name, values in columns.items()}
    return Lightcurves(unique, offsets, columns)


def _run_starts(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))


def numpy_columns(table: pa.Table | pa.RecordBatch) -> Arrays:
    """Columns as NumPy arrays; null floats become NaN."""
    return {
        name: column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
        for name, column in zip(table.schema.names, table.columns, strict=True)
    }
