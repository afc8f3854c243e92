"""Match the detections of a batch of exposures to the seeds of one tile and write its new rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.io.catalogs import changed, reread_records
from ztfmatch.core.io.corrections import read_store_sets
from ztfmatch.core.io.parquet import DataFile, Destination
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels import calibration
from ztfmatch.core.kernels.rows import MEASURED, ROW, compress_rows, decode_into, digest, gather
from ztfmatch.core.kernels.rows import Rows as MeasuredRows
from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile_or_margin
from ztfmatch.core.schema import DETECTIONS, ORPHANS, Table
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.fates import Fates, Positions
from ztfmatch.core.tasks.inspect import usable_columns
from ztfmatch.core.tasks.photometry import Calibration, Photometer
from ztfmatch.core.tasks.results import Matched
from ztfmatch.core.tasks.seedgrids import SeedSource, read_seeds

BYTES_PER_ROW: Final = 420
"""Peak memory of a match task per row of its catalogs; tests compare it with what is measured."""


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
    """Whether its footprint touches other tiles too."""
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
    """One tile and a batch of exposures, ordered by unit, then time."""

    key: str
    storage: Storage
    tile: Tile
    exposures: tuple[ExposureInput, ...]
    objects: tuple[DataFile, ...]
    """Object files of the tile and its neighbours."""
    radius_arcsec: float
    commit: int
    part: str
    corrections: tuple[DataFile, ...] = ()
    """The sets that the exposures name."""


def match_tile(task: MatchTask) -> Matched:
    """Match, write, count."""
    measured, fates = _matched(task)
    files = []
    if len(epochs := fates.epochs()):
        files.append(fates.write_epochs(_to(task, DETECTIONS), epochs, _columns(task, measured, fates, epochs)))
    if len(orphans := fates.orphans()):
        files.append(fates.write_orphans(_to(task, ORPHANS), orphans, _columns(task, measured, fates, orphans)))
    return Matched(files, fates.counts())


def _matched(task: MatchTask) -> tuple[MeasuredRows, Fates]:
    """Measured rows of the tile and its margin, exposure after exposure, and what becomes of them."""
    source = SeedSource(task.storage, task.tile, task.objects, task.radius_arcsec)
    seeds = read_seeds(source, {exposure.unit for exposure in task.exposures if exposure.has_reference})
    most = sum(exposure.nrows for exposure in task.exposures)
    measured, fates = np.empty(most, ROW), Fates(task.tile, task.exposures, seeds, most)
    start = 0
    for number, exposure in enumerate(task.exposures):
        stop = _load(task.tile, exposure, measured, start)
        rows = slice(start, stop)
        ra, dec, sourceid = (np.ascontiguousarray(measured[rows][name]) for name in ("ra", "dec", "sourceid"))
        xyz = unit_vectors(ra, dec)
        fates.hmjd[rows] = calibration.heliocentric_times(exposure.mid_mjd, np.array(exposure.observer), xyz)
        fates.decide(number, rows, Positions(ra, dec, xyz), sourceid)
        start = stop
    fates.trim(start)
    return measured[:start], fates


def _load(tile: Tile, exposure: ExposureInput, rows: MeasuredRows, start: int) -> int:
    """Decode the usable rows of an exposure that lie in the tile or its margin; return the row after the last."""
    stop = decode_into(rows, start, reread_records(exposure.source, exposure.nrows))
    mine = rows[start:stop]
    usable, _, _ = usable_columns({name: mine[name] for name in MEASURED})
    if digest({name: mine[name] for name in MEASURED}, usable) != exposure.digest:
        raise changed(exposure.source)
    if usable is not None:
        stop = compress_rows(rows, slice(start, stop), usable)
    if exposure.straddles:
        fine = fine_pixels(rows["ra"][start:stop], rows["dec"][start:stop])
        stop = compress_rows(rows, slice(start, stop), in_tile_or_margin(fine, tile))
    return stop


def _columns(
    task: MatchTask, measured: MeasuredRows, fates: Fates, rows: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[Any]]:
    """Measured and calibrated columns of some rows, in that order."""
    exposure = fates.exposure[rows]
    columns: dict[str, npt.NDArray[Any]] = gather(measured, rows)
    bad = np.array([e.bad for e in task.exposures])
    columns["exposureid"] = np.array([e.exposureid for e in task.exposures], np.int64)[exposure]
    columns["hmjd"] = fates.hmjd[rows]
    columns |= _photometer(task).measure(columns, exposure)
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


def _to(task: MatchTask, table: Table) -> Destination:
    return Destination(task.storage, table, task.tile, task.commit, task.part)
