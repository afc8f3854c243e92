"""Match the detections of a batch of exposures to the seeds of one tile and write its new rows.

A tile decides alone. It considers its own detections and those of the margin around it, against its own seeds and
those of the margin: all that can take part in the fate of a detection or a seed of its own (a seed within a radius
of the detection, that seed's other detections, and their seeds, up to three radii away). It writes a matched
detection if the seed is its own, an orphan if the detection is. So each row is written by exactly one tile, and the
result does not depend on the tiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.io.catalogs import changed, reread_records
from ztfmatch.io.parquet import DataFile, Destination, table_from_columns, write_file
from ztfmatch.io.storage import Storage
from ztfmatch.kernels import calibration
from ztfmatch.kernels.crossmatch import NO_SEED as TARGET_NONE
from ztfmatch.kernels.crossmatch import match_exposure
from ztfmatch.kernels.rows import MEASURED, ROW, Rows, compress_rows, decode_into, digest, gather, order_by_group
from ztfmatch.kernels.sphere import Floats, unit_vectors
from ztfmatch.kernels.tiling import Tile, fine_pixels, in_tile, in_tile_or_margin
from ztfmatch.schema import DETECTIONS, ORPHANS
from ztfmatch.schema.sky import ORPHAN_REASONS
from ztfmatch.survey import Unit
from ztfmatch.tasks.inspect import usable_columns
from ztfmatch.tasks.seedgrids import Seeds, SeedSource, read_seeds

BYTES_PER_ROW: Final = 420
"""Peak memory of a match task per row of its catalogs; tests compare it with what is measured."""

_NO_SEED, _NEARER, _NO_REFERENCE = range(3)


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


@dataclass
class Batch:
    """Rows of all exposures of a task, in order of exposure."""

    rows: Rows
    exposure: npt.NDArray[np.int32]
    """Row of the exposure in the task."""
    hmjd: Floats
    group: npt.NDArray[np.int64]
    """Number of the object in ``objectid``; negative for rows that are no epoch of this tile's objects."""
    reason: npt.NDArray[np.int8]
    """Reason of an orphan of this tile; negative for other rows."""
    nearest: npt.NDArray[np.int64]
    """Objectid that an orphan lost to; 0 for none."""
    objectid: npt.NDArray[np.int64]
    """Objects of the tile that a detection can match, unit after unit, ascending."""


def match_tile(task: MatchTask) -> dict[str, Any]:
    """Match, write, count.

    Returns
    -------
    dict
        ``files``: manifest rows; ``exposureid``, ``matched``, ``orphans``: counts for each exposure that has any.
    """
    batch = _match_batch(task)
    files = [file for file in (_write_detections(task, batch), _write_orphans(task, batch)) if file is not None]
    n = len(task.exposures)
    matched = np.bincount(batch.exposure[batch.group >= 0], minlength=n)
    orphans = np.bincount(batch.exposure[batch.reason >= 0], minlength=n)
    seen = np.flatnonzero(matched + orphans)
    return {
        "files": [file.to_json() for file in files],
        "exposureid": [task.exposures[i].exposureid for i in seen],
        "matched": matched[seen].tolist(),
        "orphans": orphans[seen].tolist(),
    }


def _match_batch(task: MatchTask) -> Batch:
    source = SeedSource(task.storage, task.tile, task.objects, task.radius_arcsec)
    seeds = read_seeds(source, {exposure.unit for exposure in task.exposures if exposure.has_reference})
    rows = sum(exposure.nrows for exposure in task.exposures)
    batch = Batch(
        np.empty(rows, ROW),
        np.empty(rows, np.int32),
        np.empty(rows),
        np.full(rows, -1, np.int64),
        np.full(rows, -1, np.int8),
        np.zeros(rows, np.int64),
        np.concatenate([np.zeros(0, np.int64), *(seeds[unit].objectid for unit in seeds)]),
    )
    first_group = dict(zip(seeds, np.cumsum([0, *(len(s.objectid) for s in seeds.values())]).tolist(), strict=False))
    start = 0
    for i, exposure in enumerate(task.exposures):
        stop = _load(task.tile, exposure, batch.rows, start)
        batch.exposure[start:stop] = i
        _match_one(task.tile, exposure, seeds.get(exposure.unit), first_group, batch, slice(start, stop))
        start = stop
    return _trimmed(batch, start)


def _load(tile: Tile, exposure: ExposureInput, rows: Rows, start: int) -> int:
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


def _match_one(
    tile: Tile,
    exposure: ExposureInput,
    seeds: Seeds | None,
    first_group: dict[Unit, int],
    batch: Batch,
    rows: slice,
) -> None:
    """Decide the fate of the rows of one exposure and write it to the batch."""
    ra, dec, sourceid = (np.ascontiguousarray(batch.rows[rows][name]) for name in ("ra", "dec", "sourceid"))
    xyz = unit_vectors(ra, dec)
    batch.hmjd[rows] = calibration.heliocentric_times(exposure.mid_mjd, np.array(exposure.observer), xyz)
    own = in_tile(fine_pixels(ra, dec), tile) if exposure.straddles else np.ones(len(ra), bool)
    if seeds is None:
        batch.reason[rows] = np.where(own, _NO_SEED if exposure.has_reference else _NO_REFERENCE, -1)
        return
    target = match_exposure(seeds.grid, xyz, sourceid, np.ones(len(ra), bool))
    hit = np.flatnonzero(target >= 0)
    mine = hit[seeds.owned[target[hit]]]
    batch.group[rows][mine] = first_group[exposure.unit] + target[mine]
    lost = np.flatnonzero(target < TARGET_NONE)
    batch.nearest[rows][lost] = seeds.objectid[-2 - target[lost]]
    batch.reason[rows] = np.where(own & (target < 0), np.where(target == TARGET_NONE, _NO_SEED, _NEARER), -1)


def _trimmed(batch: Batch, rows: int) -> Batch:
    return Batch(
        batch.rows[:rows],
        batch.exposure[:rows],
        batch.hmjd[:rows],
        batch.group[:rows],
        batch.reason[:rows],
        batch.nearest[:rows],
        batch.objectid,
    )


def _write_detections(task: MatchTask, batch: Batch) -> DataFile | None:
    exposureid = np.array([exposure.exposureid for exposure in task.exposures], np.int64)
    order = order_by_group(batch.group, batch.hmjd, exposureid[batch.exposure], len(batch.objectid))
    if not len(order):
        return None
    columns = {
        "objectid": batch.objectid[batch.group[order]],
        **_epoch_columns(task, batch, order, exposureid),
    }
    return _write(task, DETECTIONS, columns)


def _write_orphans(task: MatchTask, batch: Batch) -> DataFile | None:
    rows = np.flatnonzero(batch.reason >= 0)
    if not len(rows):
        return None
    exposureid = np.array([exposure.exposureid for exposure in task.exposures], np.int64)
    units = np.array([(e.unit.field, e.unit.rcid, e.unit.fid) for e in task.exposures], np.int64)
    of_row = units[batch.exposure[rows]]
    keys = (
        batch.rows["sourceid"][rows],
        exposureid[batch.exposure[rows]],
        batch.hmjd[rows],
        *of_row.T[::-1],
    )
    order = np.lexsort(keys)
    rows, of_row = rows[order], of_row[order]
    nearest = batch.nearest[rows]
    columns: dict[str, Any] = {
        "field": of_row[:, 0].astype(np.int16),
        "rcid": of_row[:, 1].astype(np.int8),
        "fid": of_row[:, 2].astype(np.int8),
        "reason": pa.DictionaryArray.from_arrays(pa.array(batch.reason[rows]), pa.array(ORPHAN_REASONS)),
        "nearestid": pa.array(nearest, mask=nearest == 0),
        **_epoch_columns(task, batch, rows, exposureid),
    }
    return _write(task, ORPHANS, columns)


def _epoch_columns(
    task: MatchTask, batch: Batch, rows: npt.NDArray[np.int64], exposureid: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Measured and calibrated columns of some rows of the batch, in that order."""
    exposure = batch.exposure[rows]
    columns: dict[str, Any] = gather(batch.rows, rows)
    magzp = np.array([e.magzp for e in task.exposures])
    bad = np.array([e.bad for e in task.exposures])
    columns["exposureid"] = exposureid[exposure]
    columns["hmjd"] = batch.hmjd[rows]
    columns["mag"] = calibration.magnitudes(columns["psfflux"], magzp[exposure])
    columns["magerr"] = _errors(task, columns, exposure)
    columns["catflags"] = calibration.catalog_flags(columns["flags"], bad[exposure])
    return columns


def _errors(task: MatchTask, columns: dict[str, Any], exposure: npt.NDArray[np.int32]) -> calibration.Singles:
    """Model errors where the exposure's unit has coefficients, else the catalog's sigma."""
    sigma = calibration.sigma_errors(columns["psfflux"], columns["psffluxerr"])
    models = [e.error_model for e in task.exposures]
    known = np.array([model is not None for model in models])
    modelled = np.flatnonzero(known[exposure])
    if modelled.size:
        coefficients = np.array([model or (np.nan,) * 4 for model in models])
        sigma[modelled] = calibration.model_errors(columns["mag"][modelled], coefficients[exposure[modelled]])
    return sigma


def _write(task: MatchTask, table: Any, columns: dict[str, Any]) -> DataFile:
    to = Destination(task.storage, table, task.tile, task.commit, task.part)
    return write_file(to, table_from_columns(table, columns))
