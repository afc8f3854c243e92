"""Statistics of all objects of one tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import DataFile, Destination, read_rows, table_from_columns, write_file
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import IdMap, build_map, find_rows
from ztfmatch.core.kernels.statistics import COUNTS, VALUES, Epochs, lightcurve_statistics
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import STATISTICS
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.core.tasks.results import Written

EPOCH_COLUMNS: Final = ("hmjd", "exposureid", "mag", "magerr", "catflags", "ra", "dec", "psfflux")
"""Detection columns that the statistics are made of."""

PUBLIC_PROGRAM: Final = 1
"""Epochs of this program count as released in the store; a release has its own scope."""

BYTES_PER_OBJECT: Final = 500
BYTES_PER_ROW_IN_FLIGHT: Final = 300

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class StatisticsTask:
    """One tile."""

    key: str
    storage: Storage
    tile: Tile
    objects: tuple[DataFile, ...]
    detections: tuple[DataFile, ...]
    exposures: tuple[DataFile, ...]
    """The ledger."""
    snapshot: int
    """From which the statistics are computed."""
    commit: int
    part: str


@dataclass(frozen=True)
class WrittenStatistics(Written):
    """Statistics of a tile."""

    objects: int
    epochs: int


def compute_statistics(task: StatisticsTask) -> WrittenStatistics:
    """Write the statistics of the tile's active objects."""
    builder = StatisticsBuilder(active_objectids(task.storage, task.objects), released_exposures_of_tile(task))
    for chunk in iterate_lightcurves(task.storage, task.detections, EPOCH_COLUMNS):
        builder.add(chunk)
    to = Destination(task.storage, STATISTICS, task.tile, task.commit, task.part)
    objects = len(builder.objectid)
    files = [write_file(to, builder.table(task.snapshot))] if objects else []
    return WrittenStatistics(files, objects, builder.epochs)


class StatisticsBuilder:
    """Statistics of a set of objects, made from their lightcurves as they come.

    Parameters
    ----------
    objectid : int64 ndarray, shape (N,)
        Ascending.
    public : IdMap
        Exposures whose epochs count as released.
    """

    def __init__(self, objectid: npt.NDArray[np.int64], public: IdMap) -> None:
        self.objectid = objectid
        self.epochs = 0
        self._public = public
        self._columns: Arrays = {name: np.zeros(len(objectid), np.int32) for name in COUNTS}
        self._columns |= {name: np.full(len(objectid), np.nan, np.float32) for name in VALUES}

    def add(self, chunk: Lightcurves) -> None:
        """Take in complete lightcurves; those of other objects are passed over."""
        if not len(self.objectid):
            return
        place = np.minimum(np.searchsorted(self.objectid, chunk.objectid), len(self.objectid) - 1)
        found = np.flatnonzero(self.objectid[place] == chunk.objectid)
        for name, result in statistics_of(chunk, self._public).items():
            self._columns[name][place[found]] = result[found]
        self.epochs += int(np.diff(chunk.offsets)[found].sum())

    def table(self, snapshot: int) -> pa.Table:
        """One row an object, those without epochs too."""
        return table_from_columns(
            STATISTICS,
            {"objectid": self.objectid, "snapshot": np.full(len(self.objectid), snapshot), **self._columns},
        )


def released_exposures_of_tile(task: StatisticsTask) -> IdMap:
    """Exposures of the tile whose epochs count as released."""
    columns = ("exposureid", "programid")
    return released_exposures(exposures_of_tile(task.storage, task.exposures, task.tile, columns))


def active_objectids(storage: Storage, files: tuple[DataFile, ...]) -> npt.NDArray[np.int64]:
    """Objectids of the active objects of some files, ascending."""
    table = read_rows(storage, files, ["objectid", "status"])
    if table is None:
        return np.zeros(0, np.int64)
    return np.sort(table.filter(pc.equal(table["status"], ACTIVE))["objectid"].to_numpy())


def released_exposures(ledger: pa.Table) -> IdMap:
    """Exposures whose epochs count as released, of ledger rows with ``exposureid`` and ``programid``."""
    public = ledger.filter(pc.equal(ledger["programid"], PUBLIC_PROGRAM))
    return build_map(public["exposureid"].to_numpy())


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
