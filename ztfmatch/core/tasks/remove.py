"""Take the rows of some exposures out of a tile's files; all other rows stay, bit for bit and in their order.

A file without rows of these exposures is not touched. Files are worked through one after the other.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.parquet import DataFile, Destination, read_file_rows, write_file
from ztfmatch.core.io.scan import is_among
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import DETECTIONS, ORPHANS, TABLES
from ztfmatch.core.survey import HMJD_MARGIN_DAY, Unit, objectid_range
from ztfmatch.core.tasks.results import Replaced
from ztfmatch.core.tasks.tile import TileTask

BYTES_PER_ROW: Final = 400
"""Peak memory per row of the largest file that is written anew."""

Ids = npt.NDArray[np.int64]


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
        ids, obsmjd = _exposures(self.storage, self.exposures)
        span = float(obsmjd.min()) - HMJD_MARGIN_DAY, float(obsmjd.max()) + HMJD_MARGIN_DAY
        units = [objectid_range(unit) for unit in self.units]
        detections = [file for file in self.files(DETECTIONS) if file.holds_id(units)]
        orphans = [file for file in self.files(ORPHANS) if file.holds_id([(int(ids[0]), int(ids[-1]))])]
        return [file for file in (*detections, *orphans) if file.holds_time(*span)]


@dataclass(frozen=True)
class Removed(Replaced):
    """Files that stand in place of others, which had rows of the exposures too."""

    rows: int
    """Rows that are gone."""


def remove_from_tile(task: RemoveTask) -> Removed:
    """Write what stays of the files that have rows of the exposures."""
    ids, _ = _exposures(task.storage, task.exposures)
    files: list[DataFile] = []
    removed: list[str] = []
    gone = 0
    for number, file in enumerate(task.files_in_question()):
        going = is_among(read_file_rows(task.storage, file, ["exposureid"])["exposureid"].to_numpy(), ids)
        if not going.any():
            continue
        removed.append(file.path)
        gone += int(going.sum())
        if not going.all():
            table = TABLES[file.table]
            rows = read_file_rows(task.storage, file, table.names).filter(pa.array(~going))
            to = Destination(task.storage, table, task.tile, task.commit, f"{task.part}-rest-{number:04d}")
            files.append(write_file(to, rows))
    return Removed(files, removed, gone)


@functools.lru_cache(2)
def _exposures(storage: Storage, path: str) -> tuple[Ids, npt.NDArray[np.float64]]:
    arrays = read_arrays(storage, path)
    return arrays["exposureid"], arrays["obsmjd"]
