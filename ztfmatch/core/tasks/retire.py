"""Remove the detections of some units from a tile's files, and add a new generation of objects.

The rows of all other units stay as they are, bit for bit and in their order. A file without rows of these units is not
touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Mask
from ztfmatch.core.io.parquet import DataFile, Destination, IdRange, read_file_rows, write_file
from ztfmatch.core.io.rowremoval import write_kept
from ztfmatch.core.io.rows import UNIT, codes_of_rows, codes_of_units
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import in_ranges
from ztfmatch.core.schema import DETECTIONS, OBJECTS, ORPHANS, TABLES, Table
from ztfmatch.core.schema.sky import RETIRED
from ztfmatch.core.survey import Unit, objectid_range
from ztfmatch.core.tasks.results import Replaced
from ztfmatch.core.tasks.seeds import ReferenceInput, objects_of_tile
from ztfmatch.core.tasks.tile import TileTask


@dataclass(frozen=True)
class RetireTask(TileTask):
    """One tile."""

    references: tuple[ReferenceInput, ...]
    """The new ones whose units touch the tile."""
    part: str


def retire_tile(task: RetireTask) -> Replaced:
    """Write what stays of the files that hold rows of the units, and the tile's objects.

    Returns
    -------
    dict
        ``files``: manifest rows; ``removed``: paths of the files that they, and what is matched again, replace.
    """
    units = [reference.unit for reference in task.references]
    files, removed = _objects(task, units)
    for file in (*task.files(DETECTIONS), *task.files(ORPHANS)):
        retired = _retired_rows(task.storage, file, units)
        if retired is None:
            continue
        removed.append(file.path)
        if not retired.all():
            files.append(write_kept(_to(task, TABLES[file.table], len(files)), file, ~retired))
    return Replaced(files, removed)


def _objects(task: RetireTask, units: Sequence[Unit]) -> tuple[list[DataFile], list[str]]:
    """Objects of the units retired, and the new ones beside them and the other units'."""
    ranges = [objectid_range(unit) for unit in units]
    replaced = [file for file in task.files(OBJECTS) if file.holds_id(ranges)]
    parts = [read_file_rows(task.storage, file, OBJECTS.names).cast(OBJECTS.schema) for file in replaced]
    parts = [_retired(rows, in_ranges(rows["objectid"].to_numpy(), ranges)) for rows in parts]
    rows = pa.concat_tables([*parts, objects_of_tile(task.references, task.tile)]).sort_by("objectid")
    files = [write_file(_to(task, OBJECTS, 0), rows)] if rows.num_rows else []
    return files, [file.path for file in replaced]


def _retired(rows: pa.Table, retire: Mask) -> pa.Table:
    status = pc.if_else(pa.array(retire), RETIRED, rows["status"].cast(pa.string()))
    field = OBJECTS.schema.field("status")
    at = rows.schema.get_field_index("status")
    return rows.set_column(at, field, status.dictionary_encode().cast(field.type))


def _retired_rows(storage: Storage, file: DataFile, units: Sequence[Unit]) -> Mask | None:
    """Which rows of a file belong to the units; None if none do. Reads no more than needed for that."""
    if file.table == ORPHANS.name:
        retired = _of_units(read_file_rows(storage, file, UNIT), units)
        return retired if retired.any() else None
    ranges = [objectid_range(unit) for unit in units]
    if not file.holds_id(ranges):
        return None
    if _all_within(file, ranges):
        return np.ones(file.rows, bool)
    retired = _of_units(read_file_rows(storage, file, ["objectid"]), units)
    return retired if retired.any() else None


def _all_within(file: DataFile, ranges: Sequence[IdRange]) -> bool:
    """Whether every id of a file is of one of the ranges."""
    if file.min_id is None or file.max_id is None:
        return False
    return any(low <= file.min_id and file.max_id <= high for low, high in ranges)


def _of_units(rows: pa.Table, units: Sequence[Unit]) -> Mask:
    """Whether each row is of one of the units."""
    if "objectid" in rows.column_names:
        return in_ranges(rows["objectid"].to_numpy(), [objectid_range(unit) for unit in units])
    return np.isin(codes_of_rows(rows), codes_of_units(units))


def _to(task: RetireTask, table: Table, number: int) -> Destination:
    return Destination(task.storage, table, task.tile, task.commit, f"{task.part}-rest-{number:04d}")
