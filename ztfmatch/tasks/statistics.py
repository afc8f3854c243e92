"""Statistics of all objects of one tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.io import paths
from ztfmatch.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.io.parquet import DataFile, Destination, read_rows, table_from_columns, write_file
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.lookup import IdMap, build_map, find_rows
from ztfmatch.kernels.statistics import COUNTS, VALUES, Epochs, lightcurve_statistics
from ztfmatch.kernels.tiling import Tile
from ztfmatch.schema import STATISTICS
from ztfmatch.schema.sky import ACTIVE
from ztfmatch.tasks.ledger import exposures_of_tile

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


def compute_statistics(task: StatisticsTask) -> dict[str, Any]:
    """Write the statistics of the tile's active objects; return ``files``, ``objects`` and ``epochs``."""
    objectid = active_objectids(task.storage, task.objects)
    if not len(objectid):
        return {"files": [], "objects": 0, "epochs": 0}
    columns = _without_epochs(len(objectid))
    public = released_exposures(exposures_of_tile(task.storage, task.exposures, task.tile, ("exposureid", "programid")))
    epochs = 0
    for chunk in iterate_lightcurves(task.storage, task.detections, EPOCH_COLUMNS):
        place = np.searchsorted(objectid, chunk.objectid)
        found = np.flatnonzero(objectid[np.minimum(place, len(objectid) - 1)] == chunk.objectid)
        values = statistics_of(chunk, public)
        for name, result in values.items():
            columns[name][place[found]] = result[found]
        epochs += int(chunk.offsets[-1])
    rows: dict[str, Any] = {
        "objectid": objectid,
        "snapshot": np.full(len(objectid), task.snapshot),
        **columns,
    }
    path = paths.data_file(STATISTICS.name, task.tile, task.commit, task.part)
    to = Destination(task.storage, path, STATISTICS, task.tile, task.commit)
    file = write_file(to, table_from_columns(STATISTICS, rows))
    return {"files": [file.to_json()], "objects": len(objectid), "epochs": epochs}


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


def _without_epochs(objects: int) -> Arrays:
    counts: Arrays = {name: np.zeros(objects, np.int32) for name in COUNTS}
    return counts | {name: np.full(objects, np.nan, np.float32) for name in VALUES}
