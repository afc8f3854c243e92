"""Read whole lightcurves from many files of a tile, in bounded memory.

Every file is sorted by objectid, then time. One range of objectids after the other is read from all files, chosen from
the bounds of their row groups so that each holds about the same number of rows. Memory follows that number, not the
size of the tile nor the number of files; a row group on a border is read for both ranges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.io.parquet import DataFile, IdRange, read_file_rows, row_group_bounds
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.rows import order_by_group

ROWS_IN_FLIGHT: Final = 2_000_000

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
    for low, high in ranges_of_rows(storage, files, rows_in_flight):
        parts = [
            numpy_columns(rows)
            for file in files
            if file.holds_id([(low, high)]) and (rows := read_file_rows(storage, file, wanted, [(low, high)])).num_rows
        ]
        if parts:
            yield merge(parts)


def ranges_of_rows(storage: Storage, files: Sequence[DataFile], rows: int) -> Iterator[IdRange]:
    """Consecutive ranges of objectids that hold about so many rows each, and all of them together.

    The rows of a row group are taken to be spread evenly between its bounds.
    """
    edges: list[tuple[int, float]] = []
    for file in files:
        for (first, last), count in row_group_bounds(storage, file):
            density = count / (last + 1 - first)
            edges += [(first, density), (last + 1, -density)]
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
