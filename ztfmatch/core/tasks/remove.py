"""Take the rows of some exposures out of a tile's files; all other rows stay, bit for bit and in their order.

A file without rows of these exposures is not touched. Files are worked through one after the other.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.kept import write_kept
from ztfmatch.core.io.parquet import DataFile, Destination, Footer, IdRange, OpenFile, overlaps, read_footer
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.schema import DETECTIONS, ORPHANS, TABLES
from ztfmatch.core.survey import HMJD_MARGIN_DAY, Unit, objectid_range
from ztfmatch.core.tasks.results import Replaced
from ztfmatch.core.tasks.tile import TileTask

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

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

    def going(self, file: DataFile, footer: Footer) -> Mask:
        """Which rows of a file are of the exposures; row groups without their ids are not read."""
        ids, _ = _exposures(self.storage, self.exposures)
        ranges = self.ranges(file)
        among = [overlaps(group.ids, ranges) for group in footer.groups]
        rows = OpenFile(self.storage, file, footer.tail).read(np.flatnonzero(among).tolist(), [_KEY])
        going = np.repeat(among, [group.rows for group in footer.groups])
        going[going] = is_among(rows[_KEY].to_numpy(), ids)
        return going


@dataclass(frozen=True)
class Removed(Replaced):
    """Files that stand in place of others, which had rows of the exposures too."""

    rows: int
    """Rows that are gone."""


def remove_from_tile(task: RemoveTask) -> Removed:
    """Write what stays of the files that have rows of the exposures."""
    files: list[DataFile] = []
    removed: list[str] = []
    gone = 0
    for number, file in enumerate(task.files_in_question()):
        footer = read_footer(task.storage, file)
        going = task.going(file, footer)
        if not going.any():
            continue
        removed.append(file.path)
        gone += int(going.sum())
        if not going.all():
            table = TABLES[file.table]
            to = Destination(task.storage, table, task.tile, task.commit, f"{task.part}-rest-{number:04d}")
            files.append(write_kept(to, file, ~going, footer.tail))
    return Removed(files, removed, gone)


@functools.lru_cache(2)
def _exposures(storage: Storage, path: str) -> tuple[Ids, npt.NDArray[np.float64]]:
    arrays = read_arrays(storage, path)
    return arrays[_KEY], arrays["obsmjd"]
