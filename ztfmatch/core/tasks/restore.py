"""The rows of exposures that a tile still holds after the loss of files, and those that were lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ztfmatch.core.arrays import Records
from ztfmatch.core.io.parquet import DataFile, Destination, read_file_rows
from ztfmatch.core.io.rowremoval import write_kept
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import DETECTIONS, ORPHANS, TABLES
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.tile import TileTask


@dataclass(frozen=True)
class CountTask(TileTask):
    """One tile."""

    lost: frozenset[str]
    """Files of the tile that cannot be read."""
    span: tuple[float, float]
    """Only files with epochs between these."""

    def left(self) -> list[DataFile]:
        """Files of detections and orphans that can be read."""
        files = (*self.files(DETECTIONS), *self.files(ORPHANS))
        return [file for file in files if file.path not in self.lost and file.holds_time(*self.span)]


@dataclass(frozen=True)
class CountedRows:
    """Rows that are there of some exposures, one value each."""

    exposureid: list[int]
    rows: list[int]


def count_left(task: CountTask) -> CountedRows:
    """Count the rows of each exposure in the files that can be read."""
    found = [read_file_rows(task.storage, file, ["exposureid"])["exposureid"].to_numpy() for file in task.left()]
    ids, rows = np.unique(np.concatenate([np.zeros(0, np.int64), *found]), return_counts=True)
    return CountedRows(ids.tolist(), rows.tolist())


@dataclass(frozen=True)
class RestoreTask(CountTask):
    """One tile, whose rows of some exposures were made again."""

    made: tuple[DataFile, ...]
    """Files of them."""
    part: str


@dataclass(frozen=True)
class Restored(Written):
    """Files with the rows that were lost."""

    rows: int


def restore_tile(task: RestoreTask) -> Restored:
    """Write of what was made again the rows that are in none of the files that can be read."""
    left = [_keys(task.storage, file) for file in task.left()]
    there = np.unique(np.concatenate([np.zeros(0, _KEY), *left]))
    files = []
    for number, made in enumerate(task.made):
        table = TABLES[made.table]
        missing = ~np.isin(_keys(task.storage, made), there)
        if missing.any():
            to = Destination(task.storage, table, task.tile, task.commit, f"{task.part}-{number:04d}")
            files.append(write_kept(to, made, missing))
    return Restored(files, sum(file.rows for file in files))


_KEY = np.dtype([("exposureid", np.int64), ("sourceid", np.int32)])


def _keys(storage: Storage, file: DataFile) -> Records:
    """Columns that identify each row of a file."""
    rows = read_file_rows(storage, file, list(_KEY.names or ()))
    keys = np.empty(rows.num_rows, _KEY)
    for name in _KEY.names or ():
        keys[name] = rows[name].to_numpy()
    return keys


def of_tile(files: Iterable[DataFile], tile: object) -> tuple[DataFile, ...]:
    """Those of some files that are of a tile."""
    return tuple(file for file in files if file.tile == tile)
