"""Read complete lightcurves from many files of a tile, in bounded memory.

Every file is sorted by objectid, then time. One range of objectids after the other is read from all files, chosen from
the bounds of their row groups so that each holds about the same number of rows. What a row group on a border has for
the next range is held, up to a bound; beyond it the row group is read again. Memory follows these two numbers, not the
size of the tile nor the number of files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Array, Arrays, Ints, Mask
from ztfmatch.core.io.parquet import DataFile, IdRange, OpenFile, RowGroup
from ztfmatch.core.io.scan import RowGroups, Wanted
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.order import order_by_group
from ztfmatch.core.survey import MAX_SOURCEID

ROWS_IN_FLIGHT: Final = 2_000_000
ROWS_CARRIED: Final = 4_000_000
"""Bound of the rows held for later ranges: the border row groups of 30 files, or of hundreds of small ones."""

_SORT_COLUMNS: Final = ("objectid", "hmjd", "exposureid")


@dataclass(frozen=True)
class Lightcurves:
    """Complete lightcurves of some objects, ascending by objectid; epochs by time, then exposureid."""

    objectid: Ints
    """Shape (N,)."""
    offsets: Ints
    """First epoch of each object, and one past the last, shape (N + 1,)."""
    columns: Arrays
    """Epochs; null floats are NaN."""

    def spread(self, values: Array) -> Array:
        """What each object has, once for each of its epochs."""
        return np.repeat(values, np.diff(self.offsets))

    def part(self, first: int, stop: int) -> Lightcurves:
        """Objects from one to before another."""
        low, high = self.offsets[first], self.offsets[stop]
        columns = {name: values[low:high] for name, values in self.columns.items()}
        return Lightcurves(self.objectid[first:stop], self.offsets[first : stop + 1] - low, columns)

    def of_epochs(self, keep: Mask) -> tuple[Lightcurves, Mask]:
        """Some of the epochs, with the objects that have any; and which objects these are, shape (N,)."""
        edges = np.concatenate([[0], np.cumsum(keep)])[self.offsets]
        left = np.diff(edges) > 0
        columns = {name: values[keep] for name, values in self.columns.items()}
        return Lightcurves(self.objectid[left], np.concatenate([[0], edges[1:][left]]), columns), left


def iterate_lightcurves(
    storage: Storage,
    files: Sequence[DataFile],
    columns: Sequence[str],
    rows_in_flight: int = ROWS_IN_FLIGHT,
    on_read: Callable[[DataFile, Arrays], None] | None = None,
    wanted: Wanted | None = None,
) -> Iterator[Lightcurves]:
    """Lightcurves of the objects in detection files, some at a time.

    Parameters
    ----------
    storage : Storage
    files : sequence of DataFile
        Of the table ``detections``.
    columns : sequence of str
        Columns wanted; those that the order needs are always there.
    rows_in_flight : int
        Bound of the rows given at a time, about; one object with more epochs is held whole.
    on_read : callable, optional
        Called with each file's rows as they are read, in the order of the file, every row once.
    wanted : Wanted, optional
        Only these objects and epochs; what can have none of them is not read. By default all.
    """
    names = list(dict.fromkeys([*_SORT_COLUMNS, *columns]))
    wanted = wanted or Wanted()
    runs = [_Run(OpenFile(storage, file), names, wanted) for file in wanted.files(files)]
    for low, high in ranges_of_rows([piece for run in runs for piece in run.pieces()], rows_in_flight):
        read = [(run.parquet.file, part) for run in runs if run.left and (part := run.through(low, high)) is not None]
        _bound_carried(runs)
        if on_read is not None:
            for file, part in read:
                on_read(file, part)
        parts = [part for _, part in read]
        read.clear()
        if parts:
            yield merge(parts)


@dataclass
class _Run:
    """A sorted file, read row group by row group as its rows are asked for."""

    parquet: OpenFile
    columns: Sequence[str]
    wanted: Wanted
    _groups: list[int] = field(init=False)
    """Row groups that may have something wanted."""
    _next: int = field(default=0, init=False)
    """Place among these of the one to be read next."""
    _held: Arrays | None = field(default=None, init=False)
    """Rows of the row group before the next that were not asked for yet."""

    def __post_init__(self) -> None:
        self._groups = self.wanted.groups(self.parquet)

    def _clipped(self, ids: IdRange) -> IdRange | None:
        """What of a range is wanted; None if nothing is."""
        if self.wanted.span is None:
            return ids
        low, high = max(ids[0], self.wanted.span[0]), min(ids[1], self.wanted.span[1])
        return (low, high) if low <= high else None

    @property
    def left(self) -> bool:
        """Whether rows may be left."""
        return self._held is not None or self._next < len(self._groups)

    @property
    def carried(self) -> int:
        """Rows held."""
        return 0 if self._held is None else len(self._held["objectid"])

    def through(self, low: int, high: int) -> Arrays | None:
        """Rows with objectids of a range, the ranges ascending from call to call; None if there are none."""
        parts = []
        while self._held is not None or (self.left and self.parquet.groups[self._groups[self._next]].ids[0] <= high):
            rows = self._held if self._held is not None else self._read()
            first, last = np.searchsorted(rows["objectid"], [low, high + 1])  # those before were given, if read again
            if last > first:
                parts.append({name: values[first:last] for name, values in rows.items()})
            self._held = None
            if last < len(rows["objectid"]):
                self._held = {name: values[last:] for name, values in rows.items()}
                break
        if len(parts) < 2:
            return parts[0] if parts else None
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _read(self) -> Arrays:
        group = self._groups[self._next]
        self._next += 1
        return numpy_columns(RowGroups(self.parquet).read([group], self.columns, self.wanted))

    def pieces(self) -> Iterator[RowGroup]:
        """Ranges of ids over which rows are spread evenly: row groups, or what these have of each unit.

        Within a unit ids are dense. Between units there are wide gaps, so of a row group with several units the ids
        are read. Of a piece that is wanted in part all rows are counted.
        """
        for number in self._groups[self._next :]:
            for piece in self._pieces_of(number, self.parquet.groups[number]):
                if (wanted := self._clipped(piece.ids)) is not None:
                    yield RowGroup(wanted, piece.rows)

    def _pieces_of(self, number: int, group: RowGroup) -> Iterator[RowGroup]:
        if _unit_number(group.ids[0]) == _unit_number(group.ids[1]):
            yield group
        else:
            ids = self.parquet.read([number], ["objectid"])["objectid"].to_numpy()
            cuts = [0, *(np.flatnonzero(np.diff(_unit_number(ids))) + 1).tolist(), len(ids)]
            for start, stop in itertools.pairwise(cuts):
                yield RowGroup((int(ids[start]), int(ids[stop - 1])), stop - start)

    def drop(self) -> None:
        """Forget the rows held; their row group is read again."""
        self._held = None
        self._next -= 1


def _bound_carried(runs: Sequence[_Run]) -> None:
    """Drop what the runs hold for later, of the last ones first, until it is no more than the bound."""
    carried = 0
    for run in runs:
        carried += run.carried
        if run.carried and carried > ROWS_CARRIED:
            run.drop()


def _unit_number(ids: Any) -> Any:
    """What the objectids of a generation of a unit have in common."""
    return ids // (MAX_SOURCEID + 1)


def ranges_of_rows(pieces: Sequence[RowGroup], rows: int) -> Iterator[IdRange]:
    """Consecutive ranges of objectids that hold about so many rows each, and all of them together.

    The rows of a piece are taken to be spread evenly between its bounds.
    """
    edges: list[tuple[int, float]] = []
    for piece in pieces:
        first, last = piece.ids
        density = piece.rows / (last + 1 - first)
        edges += [(first, density), (last + 1, -density)]
    # Go over the ids from edge to edge with the density of all pieces that lie there, and cut when rows are enough.
    edges.sort()
    low = at = edges[0][0] if edges else 0
    held, density = 0.0, 0.0
    for edge, change in edges:
        while density > 0.0 and held + density * (edge - at) >= rows:
            at = min(at + max(math.ceil((rows - held) / density), 1), edge)
            yield low, at - 1
            low, held = at, 0.0
        held += max(density, 0.0) * (edge - at)
        at, density = edge, density + change
    if at > low:
        yield low, at - 1


def merge(parts: Sequence[Arrays]) -> Lightcurves:
    """Bring rows of several runs, each sorted by objectid and time, into one order.

    Runs are expected to be of different exposures; a detection found in two is kept twice (and found by verify).
    """
    # Each part is in order: only the first rows of its objects are compared, and the rest is counting.
    heads = [_run_starts(part["objectid"]) for part in parts]
    ids = np.concatenate([part["objectid"][h] for part, h in zip(parts, heads, strict=True)])
    ids.sort(kind="stable")  # merges runs
    unique = ids[_run_starts(ids)]
    group = np.concatenate(
        [
            np.repeat(np.searchsorted(unique, part["objectid"][h]), np.diff(np.append(h, len(part["objectid"]))))
            for part, h in zip(parts, heads, strict=True)
        ]
    )
    names = [name for name in parts[0] if name != "objectid"]
    columns = {name: parts[0][name] if len(parts) == 1 else np.concatenate([p[name] for p in parts]) for name in names}
    offsets = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(unique)))]).astype(np.int64)
    if len(parts) > 1:
        order = order_by_group(group, columns["hmjd"], columns["exposureid"], len(unique))
        columns = {name: values.take(order) for name, values in columns.items()}
    return Lightcurves(unique, offsets, columns)


def _run_starts(ids: Ints) -> Ints:
    return np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))


def numpy_columns(table: pa.Table | pa.RecordBatch) -> Arrays:
    """Columns as NumPy arrays; null floats become NaN."""
    return {
        name: column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
        for name, column in zip(table.schema.names, table.columns, strict=True)
    }
