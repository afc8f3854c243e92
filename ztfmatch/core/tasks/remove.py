"""Remove the rows of some exposures from a tile's files; all other rows stay, bit for bit and in order.

A file without rows of these exposures is not touched. Files are worked through one after the other; small ones of
orphans, as nights leave them, become one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Floats, Ids, Mask
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.parquet import (
    DataFile,
    Destination,
    IdRange,
    OpenFile,
    overlaps,
    read_file_rows,
    write_file,
)
from ztfmatch.core.io.rowremoval import ROWS_AT_ONCE, write_kept
from ztfmatch.core.io.rowremoval import projected_bytes as kept_bytes
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.schema import DETECTIONS, ORPHANS, TABLES
from ztfmatch.core.survey import HMJD_MARGIN_DAY, Unit, objectid_range
from ztfmatch.core.tasks.results import Replaced
from ztfmatch.core.tasks.tile import TileTask

ROWS_OF_FEW: Final = 4 * ORPHANS.row_group_rows
"""Files of orphans of no more are written as one."""

BYTES_OF_FEW: Final = 250
"""Peak memory per row of these."""

_KEY: Final = "exposureid"


@dataclass(frozen=True)
class RemoveTask(TileTask):
    """One tile."""

    units: tuple[Unit, ...]
    """Those of the exposures that reach into it."""
    exposures: str
    """Staged arrays: ``exposureid`` of all exposures to be taken out, ascending, and ``obsmjd``."""
    part: str

    def files_in_question(self) -> list[DataFile]:
        """Files that can have rows of the exposures."""
        _, obsmjd = _exposures(self.storage, self.exposures)
        span = float(obsmjd.min()) - HMJD_MARGIN_DAY, float(obsmjd.max()) + HMJD_MARGIN_DAY
        files = (*self.files(DETECTIONS), *self.files(ORPHANS))
        return [file for file in files if file.holds_id(self.ranges(file)) and file.holds_time(*span)]

    def ranges(self, file: DataFile) -> list[IdRange]:
        """Ranges of the id of a file's table that rows of the exposures can have."""
        if file.table == DETECTIONS.name:
            return [objectid_range(unit) for unit in self.units]
        ids, _ = _exposures(self.storage, self.exposures)
        return [(int(ids[0]), int(ids[-1]))]

    def going(self, parquet: OpenFile) -> Mask:
        """Which rows of a file are of the exposures; row groups without their ids are not read."""
        ids, _ = _exposures(self.storage, self.exposures)
        ranges = self.ranges(parquet.file)
        among = [overlaps(group.ids, ranges) for group in parquet.groups]
        rows = parquet.read(np.flatnonzero(among).tolist(), [_KEY])
        going = np.repeat(among, [group.rows for group in parquet.groups])
        going[going] = is_among(rows[_KEY].to_numpy(), ids)
        return going


@dataclass(frozen=True)
class Removed(Replaced):
    """Files that stand in place of others, which had rows of the exposures too."""

    rows: int
    """Rows that are gone."""


def projected_bytes(task: RemoveTask) -> int:
    """Peak memory of a task beside what a worker has."""
    files = task.files_in_question()
    few = sum(file.rows for file in files if _is_one_of_few(file))
    return max([BYTES_OF_FEW * min(few, ROWS_AT_ONCE), *map(kept_bytes, files)])


def _is_one_of_few(file: DataFile) -> bool:
    return file.table == ORPHANS.name and file.rows <= ROWS_OF_FEW


def remove_from_tile(task: RemoveTask) -> Removed:
    """Write what stays of the files that have rows of the exposures."""
    taking = _Taking(task)
    few, held = list[DataFile](), 0
    for file in task.files_in_question():
        if not _is_one_of_few(file):
            taking.rewrite(file)
            continue
        if held + file.rows > ROWS_AT_ONCE:
            taking.merge(few)
            few, held = [], 0
        few.append(file)
        held += file.rows
    taking.merge(few)
    return taking.done


class _Taking:
    """Files of a tile from which the rows of the exposures are taken."""

    def __init__(self, task: RemoveTask) -> None:
        self._task = task
        self.done = Removed([], [], 0)

    def rewrite(self, file: DataFile) -> None:
        """Write a file anew, if it has any of them."""
        parquet = OpenFile(self._task.storage, file)
        going = self._task.going(parquet)
        if self._is_left(file, going) and not going.all():
            self.done.files.append(write_kept(self._to(file.table), file, ~going, parquet.tail))

    def merge(self, files: Sequence[DataFile]) -> None:
        """Write small files of orphans that have any of them as one: each row of them is encoded again anyway."""
        ids, _ = _exposures(self._task.storage, self._task.exposures)
        parts, masks = [ORPHANS.empty], [np.zeros(0, bool)]
        for file in files:
            rows = read_file_rows(self._task.storage, file, ORPHANS.names)
            going = is_among(rows[_KEY].to_numpy(), ids)
            if self._is_left(file, going):
                parts.append(rows)
                masks.append(~going)
        whole, keep = pa.concat_tables(parts), np.concatenate(masks)
        if keep.any():
            order = pc.sort_indices(whole, sort_keys=ORPHANS.order).to_numpy()
            self.done.files.append(write_file(self._to(ORPHANS.name), whole.take(pa.array(order[keep[order]]))))

    def _is_left(self, file: DataFile, going: Mask) -> bool:
        """Note a file that loses rows."""
        number = int(going.sum())
        if number:
            self.done = replace(self.done, rows=self.done.rows + number)
            self.done.removed.append(file.path)
        return number > 0

    def _to(self, table: str) -> Destination:
        part = f"{self._task.part}-rest-{len(self.done.files):04d}"
        return Destination(self._task.storage, TABLES[table], self._task.tile, self._task.commit, part)


@functools.lru_cache(2)
def _exposures(storage: Storage, path: str) -> tuple[Ids, Floats]:
    arrays = read_arrays(storage, path)
    return arrays[_KEY], arrays["obsmjd"]
