"""Write units of a snapshot as the survey's matchfiles, one file a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Final

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.localfiles import remove_leftovers
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, tiles_of_footprint
from ztfmatch.core.plain import Row
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import EXPOSURES, IMPORTED, REFERENCES
from ztfmatch.core.shown import Shown
from ztfmatch.core.survey import Unit, matchfile_name, objectid_range, unit_of_objectid
from ztfmatch.matchfile.io.hdf5 import h5py
from ztfmatch.matchfile.tasks.export import (
    BYTES_PER_EPOCH_IN_FLIGHT,
    BYTES_PER_IMPORTED,
    BYTES_PER_ORPHAN,
    ExportedMatchfile,
    ExportTask,
    export_unit,
)

_FOOTPRINT: Final = ("field", "rcid", "fid", "ra", "dec", "radius", "norphans", "nmatched")
_NAMED: Final = 5


@dataclass(frozen=True)
class UnitFilter:
    """Which units: those that agree with all that is given."""

    field: int | None = None
    fid: int | None = None
    ccdid: int | None = None
    _: KW_ONLY
    qid: int | None = None
    objectid: int | None = None
    """The unit of this object."""

    def takes(self, unit: Unit) -> bool:
        """Whether it is one of them."""
        named = ("field", "fid", "ccdid", "qid")
        wanted = all(getattr(self, name) in (None, getattr(unit, name)) for name in named)
        return wanted and (self.objectid is None or unit == _unit_of(self.objectid))

    def __str__(self) -> str:
        given = [f"{name} {value}" for name, value in vars(self).items() if value is not None]
        return ", ".join(given) or "all units"


def _unit_of(objectid: int) -> Unit:
    try:
        return unit_of_objectid(objectid)
    except ValueError as error:
        raise ConfigError(str(error)) from None


@dataclass(frozen=True)
class ExportReport(Shown):
    """What an export wrote."""

    store: str
    snapshot: int
    files: list[ExportedMatchfile]


def export_matchfiles(snapshot: SnapshotFiles, output: Path, units: UnitFilter, runner: Runner) -> ExportReport:
    """Write a matchfile for each unit of a filter.

    Parameters
    ----------
    output : Path
        File to write, for one unit; or a directory, where the files get the survey's names.
    units : UnitFilter

    Raises
    ------
    ConfigError
        If no unit is taken, or several are and ``output`` is no directory; if h5py is not installed.
    StorageError
        If a file cannot be written.
    """
    h5py()
    references = snapshot.read(REFERENCES.name).to_pylist()
    exposures = snapshot.read(EXPOSURES.name, _FOOTPRINT).to_pylist()
    known = sorted({unit_of(row) for row in (*references, *exposures)})
    chosen = [unit for unit in known if units.takes(unit)]
    if not chosen:
        some = ", ".join(str(unit) for unit in known[:_NAMED]) + (" ..." if len(known) > _NAMED else "")
        raise ConfigError(f"{snapshot.storage.root} has no unit of {units}; it has {some}")
    if len(chosen) > 1 and not output.is_dir():
        raise ConfigError(f"{len(chosen)} units are of {units}: {output} must be a directory that is there")
    by_unit: dict[Unit, list[Row]] = {unit: [] for unit in chosen}
    for row in (*references, *exposures):
        if unit_of(row) in by_unit:
            by_unit[unit_of(row)].append(row)
    tasks = [
        ExportTask(
            f"export-{unit}",
            snapshot,
            unit,
            _tiles(snapshot, rows),
            str(output / matchfile_name(unit) if output.is_dir() else output),
        )
        for unit, rows in by_unit.items()
    ]
    runner.check_memory({task.key: _projected_bytes(snapshot, task, by_unit[task.unit]) for task in tasks})
    files = runner.run(Job("writing matchfiles", export_unit, tasks, "export"))
    remove_leftovers([Path(task.path) for task in tasks])
    return ExportReport(snapshot.storage.root, snapshot.number, files)


def _tiles(snapshot: SnapshotFiles, rows: Sequence[Row]) -> tuple[Tile, ...]:
    footprints = {(row["ra"], row["dec"], row["radius"]): row for row in rows if row["ra"] is not None}
    return tuple(sorted({t for row in footprints.values() for t in tiles_of_footprint(snapshot.tiling, row)}))


def _projected_bytes(snapshot: SnapshotFiles, task: ExportTask, rows: Sequence[Row]) -> int:
    """Peak memory of the worker that writes a unit."""
    orphans, epochs = (sum(int(row.get(name, 0)) for row in rows) for name in ("norphans", "nmatched"))
    ids = [objectid_range(task.unit)]
    imported = sum(file.rows for file in snapshot.of_table(IMPORTED.name) if file.holds_id(ids))
    in_flight = BYTES_PER_EPOCH_IN_FLIGHT * min(epochs, ROWS_IN_FLIGHT)
    return WORKER_BASE_BYTES + in_flight + BYTES_PER_ORPHAN * orphans + BYTES_PER_IMPORTED * imported
