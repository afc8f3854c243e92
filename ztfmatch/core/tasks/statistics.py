"""Statistics of the objects of one tile: computed where the lightcurve changed, otherwise kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Arrays, Ids
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import DataFile, OpenFile, read_file_rows, read_table, table_from_columns, write_file
from ztfmatch.core.io.rows import active_rows
from ztfmatch.core.io.scan import Wanted, scan
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import IdMap, build_map, find_rows, find_sorted
from ztfmatch.core.kernels.statistics import COUNTS, EPOCH_COUNTS, VALUES, Epochs, epoch_counts, lightcurve_statistics
from ztfmatch.core.schema import DETECTIONS, OBJECTS, STATISTICS
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.tile import TileTask, WritingTask

EPOCH_COLUMNS: Final = ("hmjd", "exposureid", "mag", "magerr", "catflags", "ra", "dec", "psfflux")
"""Detection columns that the statistics are made of."""

COUNTED_COLUMNS: Final = ("mag", "magerr", "catflags")
"""Those that the numbers of epochs are made of."""

PUBLIC_PROGRAM: Final = 1
"""Epochs of this program count as released in the store; a release has its own scope."""

BYTES_PER_OBJECT: Final = 900
BYTES_PER_ROW_IN_FLIGHT: Final = 300


@dataclass(frozen=True)
class WrittenStatistics(Written):
    """Statistics of a tile; a file of them even if it has no active objects."""

    objects: int
    """Computed."""
    epochs: int
    """Of these."""


def compute_statistics(task: WritingTask) -> WrittenStatistics:
    """Write the statistics of the tile's active objects.

    Only objects that have new epochs, or no row yet, are computed, and only what may hold epochs of theirs is read. The
    rows of the others stay as they are: all epochs of an object decide on its row, and nothing else.
    """
    active = active_objectids(task.storage, task.files(OBJECTS))
    kept = _rows_that_hold(task, active)
    anew = np.setdiff1d(active, kept["objectid"].to_numpy(), assume_unique=True)
    rows, epochs = _computed(task, anew, all_objects=len(anew) == len(active)) if len(anew) else (kept.slice(0, 0), 0)
    both = pa.concat_tables([kept, rows])
    ordered = both.take(pa.array(np.argsort(both["objectid"].to_numpy(), kind="stable")))
    file = write_file(task.to(STATISTICS), ordered)
    return WrittenStatistics([file], len(anew), epochs)


def _rows_that_hold(task: WritingTask, active: Ids) -> pa.Table:
    """Statistics that the tile has of active objects without newer epochs."""
    files = task.files(STATISTICS)
    known = min((file.commit for file in files), default=-1)
    newer = [file for file in task.files(DETECTIONS) if file.commit > known] if files else []
    changed = [np.unique(read_file_rows(task.storage, file, ["objectid"])["objectid"].to_numpy()) for file in newer]
    unchanged = np.setdiff1d(active, np.concatenate([np.zeros(0, np.int64), *changed]))
    wanted = Wanted(unchanged)
    opened = (OpenFile(task.storage, file) for file in wanted.files(files))
    return scan(opened, STATISTICS, STATISTICS.names, wanted).cast(STATISTICS.schema)


def _computed(task: WritingTask, objectid: Ids, all_objects: bool) -> tuple[pa.Table, int]:
    """Statistics of some objects, and the number of their epochs."""
    builder = StatisticsBuilder(objectid, released_exposures_of_tile(task))
    wanted = Wanted() if all_objects else Wanted(objectid)
    for chunk in iterate_lightcurves(task.storage, task.files(DETECTIONS), EPOCH_COLUMNS, wanted=wanted):
        builder.add(chunk)
    return builder.table(task.snapshot.number), builder.epochs


class StatisticsBuilder:
    """Statistics of a set of objects, made from their lightcurves as they come.

    Parameters
    ----------
    objectid : int64 ndarray, shape (N,)
        Ascending.
    public : IdMap, optional
        Exposures whose epochs count as released; without, there are only the EPOCH_COUNTS, of COUNTED_COLUMNS.
    """

    def __init__(self, objectid: Ids, public: IdMap | None) -> None:
        self.objectid = objectid
        self.epochs = 0
        self._public = public
        self._columns: Arrays = {name: np.zeros(len(objectid), np.int32) for name in COUNTS}
        self._columns |= {name: np.full(len(objectid), np.nan, np.float32) for name in VALUES}

    def add(self, chunk: Lightcurves) -> None:
        """Add complete lightcurves; those of other objects are passed over."""
        if not len(self.objectid):
            return
        place = find_sorted(self.objectid, chunk.objectid)
        found = np.flatnonzero(place >= 0)
        results = _counts_of(chunk) if self._public is None else statistics_of(chunk, self._public)
        for name, result in results.items():
            self._columns[name][place[found]] = result[found]
        self.epochs += int(np.diff(chunk.offsets)[found].sum())

    def table(self, snapshot: int) -> pa.Table:
        """One row an object, those without epochs too."""
        rows = table_from_columns(
            STATISTICS, {"objectid": self.objectid, "snapshot": np.full(len(self.objectid), snapshot), **self._columns}
        )
        return rows if self._public is not None else rows.select(["objectid", "snapshot", *EPOCH_COUNTS])


def released_exposures_of_tile(task: TileTask) -> IdMap:
    """Exposures of the tile whose epochs count as released."""
    return released_exposures(exposures_of_tile(task.snapshot, task.tile, ("exposureid", "programid")))


def active_objectids(storage: Storage, files: Sequence[DataFile]) -> Ids:
    """Objectids of the active objects of some files, ascending."""
    return np.sort(active_rows(read_table(storage, files, OBJECTS, ["objectid", "status"]))["objectid"].to_numpy())


def released_exposures(ledger: pa.Table) -> IdMap:
    """Exposures whose epochs count as released, of ledger rows with ``exposureid`` and ``programid``."""
    public = ledger.filter(pc.equal(ledger["programid"], PUBLIC_PROGRAM))
    return build_map(public["exposureid"].to_numpy())


def _counts_of(chunk: Lightcurves) -> Arrays:
    mag, magerr, catflags = (chunk.columns[name] for name in COUNTED_COLUMNS)
    return epoch_counts(mag, magerr, catflags, chunk.offsets)


def statistics_of(chunk: Lightcurves, public: IdMap) -> Arrays:
    """Statistics of complete lightcurves, one value an object; NaN where undefined."""
    columns = chunk.columns
    epochs = Epochs(
        hmjd=columns["hmjd"],
        mag=columns["mag"],
        magerr=columns["magerr"],
        catflags=columns["catflags"],
        ra=columns["ra"],
        dec=columns["dec"],
        psfflux=columns["psfflux"],
        released=find_rows(public, columns["exposureid"]) >= 0,
    )
    return lightcurve_statistics(epochs, chunk.offsets)
