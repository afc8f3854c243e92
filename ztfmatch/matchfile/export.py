"""Export units of a snapshot as matchfiles of the survey, one file per unit."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Ints
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError, OutputExistsError
from ztfmatch.core.io.localfiles import remove_leftovers
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT
from ztfmatch.core.io.noted import noted
from ztfmatch.core.io.rows import codes_of_units
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import IMPORTED
from ztfmatch.core.survey import Unit, matchfile_name, objectid_range, unit_of_code, unit_of_objectid, units_of_codes
from ztfmatch.matchfile.io.hdf5 import h5py
from ztfmatch.matchfile.tasks.export import (
    BYTES_PER_EPOCH_IN_FLIGHT,
    BYTES_PER_IMPORTED,
    BYTES_PER_ORPHAN,
    ExportedMatchfile,
    ExportTask,
    export_unit,
)
from ztfmatch.matchfile.units import Held, codes_of_units_held

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

    def of(self, codes: Ints) -> Ints:
        """Which they are of some units, by their codes."""
        field, rcid, fid = units_of_codes(codes)
        columns = {"field": field, "fid": fid, "ccdid": rcid // 4 + 1, "qid": rcid % 4 + 1}
        given = {name: value for name in columns if (value := getattr(self, name)) is not None}
        kept = np.all([np.ones(len(codes), bool), *(columns[name] == value for name, value in given.items())], axis=0)
        if self.objectid is not None:
            kept &= codes == codes_of_units([_unit_of(self.objectid)])[0]
        return codes[kept]

    def __str__(self) -> str:
        given = [f"{name} {value}" for name, value in vars(self).items() if value is not None]
        return ", ".join(given) or "all units"


def _unit_of(objectid: int) -> Unit:
    try:
        return unit_of_objectid(objectid)
    except ValueError as error:
        raise ConfigError(str(error)) from None


@dataclass(frozen=True)
class ExportReport(Displayable):
    """What an export wrote."""

    store: str
    snapshot: int
    files: list[ExportedMatchfile]


def export_matchfiles(
    snapshot: SnapshotFiles, output: Path, units: UnitFilter, runner: Runner, overwrite: bool = False
) -> ExportReport:
    """Write a matchfile for each unit of a filter.

    Parameters
    ----------
    output : Path
        File to write, for one unit; or a directory, where the files get the survey's names.
    units : UnitFilter
    overwrite : bool
        Replace existing files.

    Raises
    ------
    ConfigError
        If no unit is taken, or several are and ``output`` is not a directory; if h5py is not installed.
    OutputExistsError
        If a file exists and ``overwrite`` is false.
    StorageError
        If a file cannot be written.
    """
    h5py()
    codes = codes_of_units_held(snapshot)
    chosen = units.of(codes)
    if not len(chosen):
        some = ", ".join(str(unit_of_code(code)) for code in codes[:_NAMED].tolist())
        some += " ..." if len(codes) > _NAMED else ""
        raise ConfigError(f"{snapshot.storage.root} has no unit of {units}; it has {some}")
    if len(chosen) > 1 and not output.is_dir():
        raise ConfigError(f"{len(chosen)} units are of {units}: {output} must be a directory that is there")
    held = Held.of(snapshot, chosen)
    tasks = [
        ExportTask(
            f"export-{unit}",
            snapshot,
            unit,
            held.tiles(snapshot, row),
            str(output / matchfile_name(unit) if output.is_dir() else output),
        )
        for row, unit in enumerate(map(unit_of_code, chosen.tolist()))
    ]
    if not overwrite:
        _check_absent([task.path for task in tasks])
    runner.check_memory(dict(zip((task.key for task in tasks), _projected_bytes(snapshot, held), strict=True)))
    files = runner.run(Job("writing matchfiles", export_unit, tasks, "export"))
    remove_leftovers([Path(task.path) for task in tasks])
    return ExportReport(snapshot.storage.root, snapshot.number, files)


def _check_absent(files: list[str]) -> None:
    existing = noted("existing matchfiles", list[str], lambda: [file for file in files if Path(file).exists()])
    if existing:
        more = f" and {len(existing) - 1:,} more" if len(existing) > 1 else ""
        raise OutputExistsError(
            f"{existing[0]}{more} exists already: give --overwrite (overwrite=True in Python), or another place"
        )


def _projected_bytes(snapshot: SnapshotFiles, held: Held) -> list[int]:
    """Peak memory of the worker that writes each unit."""
    files = [(file.min_id or 0, file.max_id or 0, file.rows) for file in snapshot.of_table(IMPORTED.name)]
    first, last, rows = np.array(files, np.int64).reshape(-1, 3).T
    projected = []
    for code, epochs, orphans in zip(held.code.tolist(), held.epochs.tolist(), held.orphans.tolist(), strict=True):
        low, high = objectid_range(unit_of_code(code))
        imported = int(rows[(first <= high) & (last >= low)].sum())
        in_flight = BYTES_PER_EPOCH_IN_FLIGHT * min(epochs, ROWS_IN_FLIGHT)
        projected.append(WORKER_BASE_BYTES + in_flight + BYTES_PER_ORPHAN * orphans + BYTES_PER_IMPORTED * imported)
    return projected
