"""Match the detections of a batch of exposures to the seeds of a group of neighbouring tiles and write their new rows.

Each catalog is read once for all tiles of the group, and so are the seeds of each unit.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.io.catalogs import changed, reread_records
from ztfmatch.core.io.corrections import read_store_sets
from ztfmatch.core.io.parquet import DataFile, Destination
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels import calibration
from ztfmatch.core.kernels.reach import planes_around
from ztfmatch.core.kernels.rows import ROW, gather, take_near
from ztfmatch.core.kernels.rows import Rows as MeasuredRows
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, ORPHANS, Table
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.fates import Fates, Positions
from ztfmatch.core.tasks.photometry import Calibration, Photometer
from ztfmatch.core.tasks.results import Matched
from ztfmatch.core.tasks.seedgrids import SeedSource, read_seeds_of_group

BYTES_PER_ROW: Final = 420
"""Peak memory of a match task per row of its catalogs; tests compare it with what is measured."""

BYTES_PER_SEED: Final = 200
"""The same per seed of its units."""


@dataclass(frozen=True)
class ExposureInput:
    """What a task needs to know of one exposure."""

    exposureid: int
    source: str
    digest: int
    nrows: int
    unit: Unit
    has_reference: bool
    straddles: bool
    """Whether its footprint touches other groups too."""
    mid_mjd: float
    observer: tuple[float, float, float]
    """Telescope relative to the Sun, light days."""
    magzp: float
    bad: bool
    error_model: tuple[float, float, float, float] | None
    corrections: str | None = None
    """Name of the set that its magnitudes get."""


@dataclass(frozen=True)
class MatchTask:
    """A group of tiles and a batch of exposures, ordered by unit, then time."""

    key: str
    storage: Storage
    group: Tile
    """The pixel that the tiles make up, with others that the exposures do not touch."""
    tiles: tuple[Tile, ...]
    """In order of the sky."""
    exposures: tuple[ExposureInput, ...]
    objects: tuple[DataFile, ...]
    """Object files of the tiles and their neighbours."""
    seeds: int
    """Most of them that its units can have there."""
    radius_arcsec: float
    commit: int
    part: str
    corrections: tuple[DataFile, ...] = ()
    """The sets that the exposures name."""


def match_group(task: MatchTask) -> Matched:
    """Match, write, count."""
    measured, fates = _matched(task)
    columns = functools.partial(_columns, task, measured, fates, _photometer(task))
    files = [
        fates.write_epochs(_to(task, DETECTIONS, tile), rows, columns(rows)) for tile, rows in fates.epochs_by_tile()
    ]
    files += [
        fates.write_orphans(_to(task, ORPHANS, tile), rows, columns(rows)) for tile, rows in fates.orphans_by_tile()
    ]
    return Matched(files, fates.counts())


def _matched(task: MatchTask) -> tuple[MeasuredRows, Fates]:
    """Measured rows of the tiles and what is near them, exposure after exposure, and what becomes of them."""
    source = SeedSource(task.storage, task.group, task.objects, task.radius_arcsec)
    units = {exposure.unit for exposure in task.exposures if exposure.has_reference}
    seeds, planes = read_seeds_of_group(source, task.tiles, units), planes_around(task.group)
    most = sum(exposure.nrows for exposure in task.exposures)
    measured, fates = np.empty(most, ROW), Fates(task.tiles, task.exposures, seeds, most)
    start = 0
    for number, exposure in enumerate(task.exposures):
        taken = take_near(reread_records(exposure.source, exposure.nrows), planes, measured[start:])
        if taken.digest != exposure.digest:
            raise changed(exposure.source)
        rows = slice(start, start + taken.rows)
        fates.hmjd[rows] = calibration.heliocentric_times(exposure.mid_mjd, np.array(exposure.observer), taken.xyz)
        at = Positions(taken.ra, taken.dec, taken.xyz)
        fates.decide(number, rows, at, np.ascontiguousarray(measured["sourceid"][rows]))
        start = rows.stop
    fates.trim(start)
    return measured[:start], fates


def _columns(
    task: MatchTask, measured: MeasuredRows, fates: Fates, photometer: Photometer, rows: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[Any]]:
    """Measured and calibrated columns of some rows, in that order."""
    exposure = fates.exposure[rows]
    columns: dict[str, npt.NDArray[Any]] = gather(measured, rows)
    bad = np.array([e.bad for e in task.exposures])
    columns["exposureid"] = np.array([e.exposureid for e in task.exposures], np.int64)[exposure]
    columns["hmjd"] = fates.hmjd[rows]
    columns |= photometer.measure(columns, exposure)
    columns["catflags"] = calibration.catalog_flags(columns["flags"], bad[exposure])
    return columns


def _photometer(task: MatchTask) -> Photometer:
    known = Calibration(
        [e.unit for e in task.exposures],
        np.array([e.magzp for e in task.exposures]),
        np.array([e.error_model or (np.nan,) * 4 for e in task.exposures]),
        [e.corrections for e in task.exposures],
    )
    return Photometer(known, read_store_sets(task.storage, task.corrections))


def _to(task: MatchTask, table: Table, tile: Tile) -> Destination:
    return Destination(task.storage, table, tile, task.commit, task.part)
