"""Match the detections of exposures to the seeds of a group of neighbouring tiles and write the new rows.

Each catalog is read once for all tiles of the group. Exposures are matched batch by batch, so that memory is bounded,
and what all batches have in a tile goes into one file, so that files are few.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.io.catalogs import changed, reread_records
from ztfmatch.core.io.correctiondata import CorrectionData
from ztfmatch.core.io.correctionrows import read_store_sets
from ztfmatch.core.io.parquet import DataFile, Destination
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels import calibration
from ztfmatch.core.kernels.reach import planes_around
from ztfmatch.core.kernels.rows import ROW, gather, take_near
from ztfmatch.core.kernels.rows import Rows as MeasuredRows
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import OBJECTS, Table
from ztfmatch.core.tasks.assignment import Fates, Positions, Rows
from ztfmatch.core.tasks.groupfiles import GroupFiles
from ztfmatch.core.tasks.matchplan import ExposureInput, Planned, StagedPart, read_part
from ztfmatch.core.tasks.photometry import Calibration, Photometer, colours_of
from ztfmatch.core.tasks.results import ExposureCounts, Matched
from ztfmatch.core.tasks.seedgrids import SeedSource, read_seeds_of_group

BYTES_PER_ROW: Final = 280
"""Peak memory of a match task per row that a batch has in its area; tests compare it with what is measured."""

BYTES_PER_SEED: Final = 100
"""The same per seed of a batch's units."""

BYTES_PER_WRITTEN_ROW: Final = 40
"""The same per row of all batches of a task, if there are several: they are kept encoded until a file is whole."""

MOST_ROWS_OF_FILE: Final = 4_000_000
"""At which a file ends, unless a batch has more."""

_ROWS_TOGETHER: Final = 100_000
"""Of neighbouring tiles, whose columns are computed at once if there are no more."""

_MOST_ORPHANS: Final = 2_000_000
"""That a task keeps."""


@dataclass(frozen=True)
class MatchTask:
    """A group of tiles and batches of exposures."""

    key: str
    snapshot: SnapshotFiles
    group: Tile
    """The pixel that the tiles make up, with others that the exposures do not touch."""
    plan: bytes | StagedPart
    """Which tiles and exposures, see :mod:`ztfmatch.core.tasks.matchplan`."""
    rows: int
    """In this group, about."""
    rows_of_batch: int
    """The same of the largest batch."""
    seeds: int
    """Of the units of the batch that has most, in this group and elsewhere."""
    renewed: bool
    """Whether any of the units had another reference before."""
    part: str
    corrections: tuple[DataFile, ...] = ()
    """The sets that the exposures name."""
    data: tuple[DataFile, ...] = ()
    """What of these sets is of single exposures and objects, and in no snapshot yet."""


def match_group(task: MatchTask) -> Matched:
    """Match batch by batch, write, count."""
    planned = read_part(task.snapshot.storage, task.plan)
    files = GroupFiles(functools.partial(_to, task), MOST_ROWS_OF_FILE, _MOST_ORPHANS)
    counts: list[tuple[int, int, int]] = []
    for exposures in planned.batches:
        counts += _match_batch(task, planned, exposures, files)
    return Matched(files.close(), ExposureCounts.of(counts))


def _match_batch(
    task: MatchTask, planned: Planned, exposures: Sequence[ExposureInput], files: GroupFiles
) -> ExposureCounts:
    measured, fates = _matched(task, planned, exposures)
    columns = functools.partial(_columns, exposures, measured, fates, _photometer(task, exposures))
    for tiles, rows in _together(fates.epochs_by_tile()):
        table = fates.epochs_table(rows, columns(rows, fates.objectid[fates.group[rows]]))
        for tile, part in tiles:
            files.add_epochs(tile, table.slice(part.start, part.stop - part.start))
    for tiles, rows in _together(fates.orphans_by_tile()):
        table = fates.orphans_table(rows, columns(rows))
        for tile, part in tiles:
            files.add_orphans(tile, table.slice(part.start, part.stop - part.start))
    return fates.counts()


def _together(by_tile: Iterator[tuple[Tile, Rows]]) -> Iterator[tuple[list[tuple[Tile, slice]], Rows]]:
    """Rows of some tiles, about so many that they do not take longer to begin with than to compute; where each lies."""
    tiles, parts, end = list[tuple[Tile, slice]](), list[Rows](), 0
    for tile, rows in by_tile:
        tiles.append((tile, slice(end, end + len(rows))))
        parts.append(rows)
        end += len(rows)
        if end >= _ROWS_TOGETHER:
            yield tiles, np.concatenate(parts)
            tiles, parts, end = [], [], 0
    if tiles:
        yield tiles, np.concatenate(parts)


def _matched(task: MatchTask, planned: Planned, exposures: Sequence[ExposureInput]) -> tuple[MeasuredRows, Fates]:
    """Measured rows of the tiles and what is near them, exposure after exposure, and what becomes of them."""
    snapshot = task.snapshot
    objects = tuple(file for tile in planned.near for file in snapshot.of_tile(OBJECTS.name, tile))
    source = SeedSource(snapshot.storage, task.group, objects, snapshot.config.radius_arcsec, task.renewed)
    units = {exposure.unit for exposure in exposures if exposure.has_reference}
    seeds, planes = read_seeds_of_group(source, planned.tiles, units), planes_around(task.group)
    most = sum(exposure.nrows for exposure in exposures)  # of which only those that are near are written to
    measured, fates = np.empty(most, ROW), Fates(planned.tiles, exposures, seeds, most)
    start = 0
    for number, exposure in enumerate(exposures):
        near = take_near(reread_records(exposure.source, exposure.nrows), planes, measured[start:])
        if near.digest != exposure.digest:
            raise changed(exposure.source)
        rows = slice(start, start + near.rows)
        fates.hmjd[rows] = calibration.heliocentric_times(exposure.mid_mjd, np.array(exposure.observer), near.xyz)
        at = Positions(near.ra, near.dec, near.xyz)
        fates.decide(number, rows, at, np.ascontiguousarray(measured["sourceid"][rows]))
        start = rows.stop
    fates.trim(start)
    return measured[:start], fates


def _columns(
    exposures: Sequence[ExposureInput],
    measured: MeasuredRows,
    fates: Fates,
    photometer: Photometer,
    rows: npt.NDArray[np.int64],
    objectid: npt.NDArray[np.int64] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Measured and calibrated columns of some rows, in that order; with the objects that they are epochs of, if any."""
    exposure = fates.exposure[rows]
    columns: dict[str, npt.NDArray[Any]] = gather(measured, rows)
    bad = np.array([e.bad for e in exposures])
    columns["exposureid"] = np.array([e.exposureid for e in exposures], np.int64)[exposure]
    columns["hmjd"] = fates.hmjd[rows]
    columns |= photometer.measure(columns if objectid is None else {**columns, "objectid": objectid}, exposure)
    columns["catflags"] = calibration.catalog_flags(columns["flags"], bad[exposure])
    return columns


def _photometer(task: MatchTask, exposures: Sequence[ExposureInput]) -> Photometer:
    units, names = [e.unit for e in exposures], [e.corrections for e in exposures]
    sets = read_store_sets(task.snapshot.storage, task.corrections)
    data = CorrectionData.of(task.snapshot, task.data)
    ids = np.array([e.exposureid for e in exposures], np.int64)
    known = Calibration(
        units,
        np.array([e.magzp for e in exposures]),
        np.array([e.error_model or (np.nan,) * 4 for e in exposures]),
        names,
        np.array([e.mid_mjd for e in exposures], np.float64),
        data.gradients(names, [unit.field for unit in units], ids),
        colours_of(units, names, data, sets),
    )
    return Photometer(known, sets)


def _to(task: MatchTask, table: Table, tile: Tile) -> Destination:
    return Destination(task.snapshot.storage, table, tile, task.snapshot.number + 1, task.part)
