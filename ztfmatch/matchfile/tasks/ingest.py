"""Ingest the sources and epochs of a matchfile: objects by tile, epochs by the rules of an append.

The file's own associations are not trusted but compared: an epoch goes to the nearest seed of the store, and how
many went elsewhere than the file has them is counted. Measured and calibrated values are kept to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Arrays, Records, Rows
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.parquet import Columns, DataFile, Destination, table_from_columns, write_file
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import build_map, find_rows, find_sorted
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile, in_tile_or_margin
from ztfmatch.core.schema import DETECTIONS, IMPORTED, OBJECTS, ORPHANS
from ztfmatch.core.schema.imported import TRANSIENT_OFFSET
from ztfmatch.core.schema.sky import ACTIVE, EPOCH_NAMES
from ztfmatch.core.survey import Unit, objectid_base
from ztfmatch.core.tasks.assignment import Fates
from ztfmatch.core.tasks.results import ExposureCounts, Matched, WrittenObjects
from ztfmatch.core.tasks.rowbuffer import RowBuffer, decide_all, pieces
from ztfmatch.core.tasks.seedgrids import SeedSource, read_seeds
from ztfmatch.matchfile.io.reader import Stamp, open_matchfile
from ztfmatch.matchfile.kernels import epochs as kernel

BYTES_PER_ROW: Final = 340
"""Peak memory of a task per row of its exposures; tests compare it with what is measured."""

_OF_TRANSIENT: Final = ("psfmag", "psfmagerr", "snr", "sid", "x", "y", "z")


@dataclass(frozen=True)
class MatchfileInput:
    """An inspected matchfile."""

    source: str
    unit: Unit
    stamp: Stamp


@dataclass(frozen=True)
class SourcesTask:
    """One tile and the matchfiles whose sources become its objects, in order of objectid."""

    key: str
    storage: Storage
    tile: Tile
    files: tuple[MatchfileInput, ...]
    commit: int
    part: str


def write_sources(task: SourcesTask) -> WrittenObjects:
    """Write the tile's objects of generation 0."""
    parts = [_objects_of(file, task.tile) for file in task.files]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["objectid"], kind="stable")
    if not len(order):
        return WrittenObjects([], 0)
    status = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(order), np.int8)), pa.array([ACTIVE]))
    unknown = {"status": status, "refflags": pa.nulls(len(order), pa.int16())}
    table = table_from_columns(OBJECTS, {**{name: values[order] for name, values in columns.items()}, **unknown})
    file = write_file(Destination(task.storage, OBJECTS, task.tile, task.commit, task.part), table)
    return WrittenObjects([file], len(order))


def _objects_of(matchfile: MatchfileInput, tile: Tile) -> Arrays:
    with open_matchfile(matchfile.source) as file:
        rows = file.sources
    _check_stamp(matchfile)
    rows = rows[in_tile(fine_pixels(np.ascontiguousarray(rows["ra"]), np.ascontiguousarray(rows["dec"])), tile)]
    unit, n = matchfile.unit, len(rows)
    copied = ("ra", "dec", "refmag", "refmagerr", "refsnr", "refchi", "refsharp")
    return {
        "objectid": objectid_base(unit) + rows["matchid"].astype(np.int64),
        "field": np.full(n, unit.field, np.int16),
        "rcid": np.full(n, unit.rcid, np.int8),
        "fid": np.full(n, unit.fid, np.int8),
        "generation": np.zeros(n, np.int8),
        "sourceid": rows["matchid"].astype(np.int32),
        **{name: np.ascontiguousarray(rows[name]) for name in copied},
    }


@dataclass(frozen=True)
class ImportedExposure:
    """What a task needs to know of an exposure in a matchfile."""

    exposureid: int
    expid: int
    unit: Unit
    rows: int
    """Rows that can be used."""
    mid_mjd: float
    straddles: bool
    """Whether the file touches several tiles."""
    has_reference: bool = True


@dataclass(frozen=True)
class TileSeeds:
    """A tile that the file touches, and the object files of it and its neighbours."""

    tile: Tile
    objects: tuple[DataFile, ...]


@dataclass(frozen=True)
class ImportTask:
    """A batch of exposures of one matchfile."""

    key: str
    storage: Storage
    file: MatchfileInput
    exposures: tuple[ImportedExposure, ...]
    tiles: tuple[TileSeeds, ...]
    radius_arcsec: float
    commit: int
    part: str


@dataclass(frozen=True)
class ImportedEpochs(Matched):
    """Files of detections, orphans and what only matchfiles have; counts are for each tile and exposure."""

    moved: int
    """Epochs that are not of the object that the file has them of."""


def import_epochs(task: ImportTask) -> ImportedEpochs:
    """Decide on the epochs of the exposures, write them, count."""
    rows, transients = _gathered(task)
    files: list[DataFile] = []
    counts: list[tuple[int, int, int]] = []
    moved = 0
    fine = fine_pixels(rows["ra"], rows["dec"]) if len(task.tiles) > 1 else None
    for number, part in enumerate(task.tiles):
        near = None if fine is None else np.flatnonzero(in_tile_or_margin(fine, part.tile))
        seeds = read_seeds(SeedSource(task.storage, part.tile, part.objects, task.radius_arcsec), {task.file.unit})
        fates = Fates((part.tile,), task.exposures, seeds, rows.rows if near is None else len(near))
        decide_all(rows, fates, near)
        files += _write(task, number, rows, near, fates)
        counts += fates.counts()
        moved += _moved(rows, near, fates)
    files += _write_imported(task, rows, transients)
    return ImportedEpochs(files, ExposureCounts.of(counts), moved)


def _gathered(task: ImportTask) -> tuple[RowBuffer, Arrays]:
    """Usable rows of the task's exposures, and what only those of transients have."""
    kinds = {name: kind for name, kind in kernel.TAKEN.items() if name != "exposure"}
    rows = RowBuffer(kinds, sum(exposure.rows for exposure in task.exposures))
    more: list[Arrays] = []
    known = build_map(np.array([exposure.expid for exposure in task.exposures], np.int64))
    intake = kernel.Intake(
        np.array([exposure.exposureid for exposure in task.exposures], np.int64),
        np.array([exposure.mid_mjd for exposure in task.exposures]),
        np.zeros(len(task.exposures), np.int64),
    )
    base = objectid_base(task.file.unit)
    with open_matchfile(task.file.source) as file:
        for batch in file.batches():
            exposure = find_rows(known, batch.rows["expid"].astype(np.int64))
            ids = (batch.first_row, base if batch.transient is None else base + TRANSIENT_OFFSET)
            try:
                rows.advance(kernel.ingest_rows(batch.rows, exposure, intake, ids, rows.reserve()))
            except ValueError:
                raise _changed(task.file) from None
            if batch.transient is not None:
                more.append(_of_transients(batch.transient, batch.first_row, exposure))
    _check_stamp(task.file)
    return rows, {name: np.concatenate([part[name] for part in more]) for name in more[0]} if more else {}


def _of_transients(records: Records, first_row: int, exposure: npt.NDArray[np.int32]) -> Arrays:
    """What only rows of transients have, with their number; of the task's exposures."""
    taken = np.flatnonzero((exposure >= 0) & kernel.usable(records))
    return {"row": first_row + taken, **{name: records[name][taken] for name in _OF_TRANSIENT}}


def _write(task: ImportTask, tile: int, rows: RowBuffer, near: Rows | None, fates: Fates) -> Iterator[DataFile]:
    """Write epochs and orphans of a tile, given by its number, which considered all rows or those ``near``."""
    for number, chosen in enumerate(pieces(fates.epochs())):
        to = Destination(
            task.storage, DETECTIONS, task.tiles[tile].tile, task.commit, f"{task.part}-{tile}-{number:04d}"
        )
        yield fates.write_epochs(to, chosen, rows.columns(EPOCH_NAMES, _among(near, chosen)))
    for number, chosen in enumerate(pieces(fates.orphans())):
        to = Destination(task.storage, ORPHANS, task.tiles[tile].tile, task.commit, f"{task.part}-{tile}-{number:04d}")
        yield fates.write_orphans(to, chosen, rows.columns(EPOCH_NAMES, _among(near, chosen)))


def _among(near: Rows | None, chosen: Rows) -> Rows:
    """Rows of the buffer that are some of those near a tile; all are where that is None."""
    return chosen if near is None else near[chosen]


def _moved(rows: RowBuffer, near: Rows | None, fates: Fates) -> int:
    """Epochs of the tile that the file has of another object or of a transient, and orphans that it has of a source."""
    epochs = np.flatnonzero(fates.group >= 0)
    orphans = np.flatnonzero(fates.reason >= 0)
    elsewhere = fates.objectid[fates.group[epochs]] != rows["legacyid"][_among(near, epochs)]
    number = rows["legacyid"][_among(near, orphans)] % 10**8
    return int(elsewhere.sum() + (number < TRANSIENT_OFFSET).sum())


def _write_imported(task: ImportTask, rows: RowBuffer, transients: Arrays) -> Iterator[DataFile]:
    order = np.argsort(rows["legacyid"], kind="stable")  # they are in order of their rows
    names = ("legacyid", "exposureid", "sourceid", "row", "magerrmodel", "mjd")
    for number, chosen in enumerate(pieces(order)):
        to = Destination(task.storage, IMPORTED, None, task.commit, f"{task.part}-{number:04d}")
        yield write_file(to, _imported(rows.columns(names, chosen), transients))


def _imported(columns: Arrays, transients: Arrays) -> pa.Table:
    """Rows of ``imported``: with the columns of transients where the row is of one."""
    more: Columns = {name: pa.nulls(len(columns["row"]), IMPORTED[name].type) for name in _OF_TRANSIENT}
    if transients and len(transients["row"]):
        place = find_sorted(transients["row"], columns["row"])
        for name in _OF_TRANSIENT:
            more[name] = pa.array(transients[name][place], IMPORTED[name].type, mask=place < 0)
    return table_from_columns(IMPORTED, {**columns, **more})


def _check_stamp(file: MatchfileInput) -> None:
    if Stamp.of(file.source) != file.stamp:
        raise _changed(file)


def _changed(file: MatchfileInput) -> CatalogError:
    return CatalogError("changed", f"{file.source}: its content changed while it was ingested; run again")
