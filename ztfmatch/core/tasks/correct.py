"""Recompute the magnitudes of a tile's detections with a set of corrections, or without; all else is unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Array, Mask
from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.correctiondata import CorrectionData
from ztfmatch.core.io.correctionrows import read_store_set
from ztfmatch.core.io.corrections import CorrectionSet
from ztfmatch.core.io.merge import numpy_columns
from ztfmatch.core.io.parquet import DataFile, Destination, read_file_rows, write_file
from ztfmatch.core.io.rows import units_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import IdMap, build_map, find_rows, find_sorted
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, ORPHANS, TABLES
from ztfmatch.core.schema.ledger import MATCHFILE
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.core.tasks.photometry import Calibration, Photometer
from ztfmatch.core.tasks.results import Replaced
from ztfmatch.core.tasks.tile import TileTask

BYTES_PER_ROW: Final = 330
"""Peak memory of a task per row of its largest file; tests compare it with what is measured."""

RELATIVE: Final = ("relzp", "relzprms", "nrelzp", "relscatter", "photometric")
"""Columns of the ledger that a calibration fills."""

_LEDGER_COLUMNS: Final = (
    *("exposureid", "field", "rcid", "fid", "magzp", "origin", "obsmjd", "exptime"),
    *("errora", "errorb", "errorc", "errord"),
)
_MADE: Final = ("mag", "magerr", "corrflags")
_NEEDED: Final = ("exposureid", "psfflux", "psffluxerr", "xpos", "ypos")


@dataclass(frozen=True)
class CorrectTask(TileTask):
    """Some files of detections and orphans of one tile."""

    numbers: tuple[int, ...]
    """Which of :func:`detections_and_orphans`."""
    corrections: DataFile | None
    """The set; None for uncorrected magnitudes."""
    part: str
    data: tuple[DataFile, ...] = ()
    """What of the set is of single exposures and objects, and in no snapshot yet."""

    def chosen(self) -> list[DataFile]:
        """The files."""
        files = detections_and_orphans(self.snapshot, self.tile)
        return [files[number] for number in self.numbers]


def detections_and_orphans(snapshot: SnapshotFiles, tile: Tile) -> list[DataFile]:
    """What a tile has of both tables, always in the same order."""
    return [*snapshot.of_tile(DETECTIONS.name, tile), *snapshot.of_tile(ORPHANS.name, tile)]


def correct_tile(task: CorrectTask) -> Replaced:
    """Write each file anew whose magnitudes, errors or flags change; each replaces one."""
    known = _photometer(task)
    files: list[DataFile] = []
    removed = []
    for file in task.chosen():
        rows = read_file_rows(task.storage, file, TABLES[file.table].names)
        made = _corrected(file, rows, known)
        if made is not None:
            part = f"{task.part}-{len(files):04d}"
            files.append(write_file(Destination(task.storage, TABLES[file.table], task.tile, task.commit, part), made))
            removed.append(file.path)
    return Replaced(files, removed)


@dataclass(frozen=True)
class _Known:
    """What is known of the tile's exposures."""

    row_of: IdMap
    photometer: Photometer
    imported: Mask
    """Which are of matchfiles: their magnitudes have corrections already, and stay."""


def _photometer(task: CorrectTask) -> _Known:
    ledger = exposures_of_tile(task.snapshot, task.tile, _LEDGER_COLUMNS)
    columns = ledger.to_pydict()
    units = units_of_rows(ledger)
    corrections = None if task.corrections is None else read_store_set(task.storage, task.corrections)
    sets = {} if corrections is None else {corrections.digest: corrections}
    names = [name_for(corrections, unit) for unit in units]
    known = Calibration.of(columns, names, CorrectionData.of(task.snapshot, task.data), sets)
    imported = np.array([origin == MATCHFILE for origin in columns["origin"]], bool)
    return _Known(build_map(np.array(columns["exposureid"], np.int64)), Photometer(known, sets), imported)


def name_for(corrections: CorrectionSet | None, unit: Unit) -> str | None:
    """Name of the set that exposures of a unit get: none if it has nothing for them."""
    return corrections.digest if corrections is not None and corrections.has(unit) else None


def _corrected(file: DataFile, rows: pa.Table, known: _Known) -> pa.Table | None:
    """Rows with other magnitudes; None if they are the same."""
    epochs = ["objectid"] if "objectid" in rows.column_names else []
    columns = numpy_columns(rows.select([*_NEEDED, *_MADE, *epochs]))
    exposure = find_rows(known.row_of, columns["exposureid"])
    if (exposure < 0).any():
        lost = columns["exposureid"][int(np.argmin(exposure))]
        raise StoreDamagedError(
            f"{file.described} is damaged: the ledger has no exposure {lost}; run 'ztfmatch verify'"
        )
    stay = known.imported[exposure]
    made = {
        name: np.where(stay, columns[name], values)
        for name, values in known.photometer.measure(columns, exposure).items()
    }
    if all(_same(made[name], columns[name]) for name in _MADE):
        return None
    table = TABLES[file.table]
    for name in _MADE:
        values = made[name]
        missing = np.isnan(values) if values.dtype.kind == "f" else None
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, table.schema.field(name), pa.array(values, table[name].type, mask=missing))
    return rows


def _same(a: Array, b: Array) -> bool:
    """Whether two columns are equal, NaN to NaN."""
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


@dataclass(frozen=True)
class RenameTask:
    """A file of the ledger."""

    key: str
    storage: Storage
    file: DataFile
    corrections: DataFile | None
    offsets: str | None
    """Arrays of RELATIVE by exposureid, ascending; None for none."""
    commit: int
    part: str


@dataclass(frozen=True)
class Renamed(Replaced):
    """A file of the ledger, if it changes, and what does."""

    exposures: int
    """That get corrections."""
    changed: int
    """That get others than they had, or none."""
    first: float | None
    """Start of the first and the last of these, MJD."""
    last: float | None


def rename_corrections(task: RenameTask) -> Renamed:
    """Write a ledger file anew with the corrections of its exposures, if that changes it."""
    rows = read_file_rows(task.storage, task.file, EXPOSURES.names).cast(EXPOSURES.schema)
    units = units_of_rows(rows)
    corrections = None if task.corrections is None else read_store_set(task.storage, task.corrections)
    named = {unit: name_for(corrections, unit) for unit in set(units)}
    of_rows = zip(units, rows["origin"].to_pylist(), strict=True)
    names = pa.array([None if origin == MATCHFILE else named[unit] for unit, origin in of_rows], pa.string())
    before = rows["corrections"].combine_chunks()
    same = pc.equal(names.fill_null(""), before.fill_null("")).to_numpy(zero_copy_only=False)
    new = _set(rows, "corrections", names)
    for name, values in _relative(task, rows).items():
        new = _set(new, name, values)
    times = rows["obsmjd"].to_numpy()[~same]
    span = (float(times.min()), float(times.max())) if len(times) else (None, None)
    found = (len(names) - names.null_count, len(times), *span)
    if new.select(["corrections", *RELATIVE]).equals(rows.select(["corrections", *RELATIVE])):
        return Renamed([], [], *found)
    file = write_file(Destination(task.storage, EXPOSURES, None, task.commit, task.part), new)
    return Renamed([file], [task.file.path], *found)


def _set(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.set_column(at, rows.schema.field(at), values.cast(rows.schema.field(at).type))


def _relative(task: RenameTask, rows: pa.Table) -> dict[str, pa.Array]:
    """RELATIVE columns: what was measured, and of other exposures what they had; without corrections nothing."""
    if task.corrections is None or task.offsets is None:
        return {name: pa.nulls(rows.num_rows, EXPOSURES[name].type) for name in RELATIVE}
    held = read_arrays(task.storage, task.offsets)
    ids = rows["exposureid"].to_numpy()
    if not len(held["exposureid"]):
        return {name: rows[name].combine_chunks() for name in RELATIVE}
    place = find_sorted(held["exposureid"], ids)
    out = {}
    for name in RELATIVE:
        measured = held[name][place]
        mask = np.isnan(measured) if measured.dtype.kind == "f" else measured < 0
        fresh = pa.array(measured, mask=mask).cast(EXPOSURES[name].type)
        out[name] = pc.if_else(pa.array(place >= 0), fresh, rows[name].combine_chunks())
    return out
