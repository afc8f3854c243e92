"""One unit's lightcurves as one file, in the layout of IRSA's bulk downloads.

A unit's objects lie in several tiles, and a tile has objects of several units. Both are sorted by objectid, in which a
unit is one range: so the files of all its tiles are merged over that range, some objects at a time, and written as they
come. Memory follows neither the unit nor its tiles.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Array, Arrays, Ints
from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.io.parquet import Columns, table_from_columns
from ztfmatch.core.kernels.lookup import find_rows
from ztfmatch.core.kernels.region import Region
from ztfmatch.core.schema import DETECTIONS, OBJECTS
from ztfmatch.core.schema.types import numpy_type
from ztfmatch.core.survey import IDS_OF_A_UNIT, objectid_range, unit_columns
from ztfmatch.core.tasks.ledger import exposures_of_unit
from ztfmatch.release.io.outputs import Written, parquet_writer, writing
from ztfmatch.release.schema import BULK, INDEX_COLUMN, LIGHTCURVE
from ztfmatch.release.tasks.released import (
    LEDGER_COLUMNS,
    Product,
    Released,
    ScopedExposures,
    Source,
    UnitFiles,
    exposures_in_scope,
    objects_in_scope,
    released,
)


@dataclass(frozen=True)
class BulkTask:
    """One unit."""

    key: str
    product: Product
    files: UnitFiles
    path: str
    region: Region | None = None
    """Only objects in it."""


@dataclass(frozen=True)
class UnitWritten(Written):
    """A unit's file, if it has any epochs, and what is in it."""

    objects: int = 0
    epochs: int = 0


def write_unit(task: BulkTask) -> UnitWritten:
    """Write the unit's file."""
    table, source = _source(task)
    if not table.num_rows or not len(source.exposures.clrcoeff):
        return UnitWritten()
    parts = (bulk_rows(part, table) for part in released(source, [column.name for column in LIGHTCURVE]))
    filled = (rows for rows in parts if rows.num_rows)
    first = next(filled, None)
    if first is None:
        return UnitWritten()
    objects = epochs = 0
    with writing(task.product.out, task.path) as file, parquet_writer(file, BULK, compliant=False) as writer:
        for rows in itertools.chain([first], filled):
            writer.write_table(rows, row_group_size=rows.num_rows)
            objects += rows.num_rows
            epochs += pc.sum(rows["nepochs"]).as_py()
    return UnitWritten((file.output(task.path, objects),), objects, epochs)


@dataclass(frozen=True)
class UnitCounts:
    """What a unit has in a scope."""

    active: int
    """Objects, with or without epochs."""
    objects: int
    """Objects with epochs."""
    program_objects: dict[int, int]
    """Objects with an epoch of a program, by program."""
    program_epochs: dict[int, int]


def count_unit(task: BulkTask) -> UnitCounts:
    """Count what the unit's file, and any other product of the same scope, would have; nothing is written."""
    table, source = _source(task)
    objects = 0
    program_objects, program_epochs = Counter[int](), Counter[int]()
    for part in released(source, []) if table.num_rows and len(source.exposures.clrcoeff) else ():
        counts = np.diff(part.lightcurves.offsets)
        objects += int((counts > 0).sum())
        owner = np.repeat(part.row, counts)
        row = find_rows(source.exposures.row_of, part.lightcurves.columns["exposureid"])
        for program in np.unique(source.exposures.programid[row]).tolist():
            of_program = owner[source.exposures.programid[row] == program]
            program_objects[program] += len(np.unique(of_program))  # a part has whole lightcurves
            program_epochs[program] += len(of_program)
    return UnitCounts(table.num_rows, objects, dict(program_objects), dict(program_epochs))


def _source(task: BulkTask) -> tuple[pa.Table, Source]:
    product, files, ids = task.product, task.files, objectid_range(task.files.unit)
    table = objects_in_scope(product.storage, files.files(OBJECTS), product.scope, ["objectid", "ra", "dec"], ids)
    if task.region is not None:
        table = table.filter(pa.array(task.region.contains(table["ra"].to_numpy(), table["dec"].to_numpy())))
    exposures = _exposures(task)
    objectid = table["objectid"].to_numpy()
    return table, Source(product.storage, files.files(DETECTIONS), product.scope, exposures, objectid, ids)


def _exposures(task: BulkTask) -> ScopedExposures:
    product = task.product
    ledger = exposures_of_unit(product.snapshot, task.files.unit, LEDGER_COLUMNS)
    return exposures_in_scope(ledger, product.scope)


def bulk_rows(part: Released, objects: pa.Table) -> pa.Table:
    """Rows of BULK of the objects that have an epoch."""
    curves, row = part.with_epochs()
    lists = {column.name: BULK[column.name].type.value_type for column in LIGHTCURVE}
    values: Columns = {
        **lightcurve_columns(curves),
        **{f"obj{axis}": objects[axis].to_numpy()[row].astype(np.float32) for axis in ("ra", "dec")},
        **{name: list_array(curves.columns[name], curves.offsets, kind) for name, kind in lists.items()},
        INDEX_COLUMN: curves.objectid % IDS_OF_A_UNIT,
    }
    return table_from_columns(BULK, values)


def lightcurve_columns(curves: Lightcurves) -> Arrays:
    """Columns of objects that follow from their lightcurves."""
    rcid, field, fid = unit_columns(curves.objectid)
    counts = np.diff(curves.offsets)
    return {"objectid": curves.objectid, "filterid": fid, "fieldid": field, "rcid": rcid, "nepochs": counts}


def list_array(values: Array, offsets: Ints, kind: pa.DataType) -> pa.Array:
    """Lists of values; NaN becomes null.

    Parameters
    ----------
    values : ndarray, shape (N,)
    offsets : int64 ndarray, shape (n_lists + 1,)
        From 0 to N.
    kind : pyarrow.DataType
        Of an element.
    """
    missing = np.isnan(values) if values.dtype.kind == "f" else None
    mask = missing if missing is not None and missing.any() else None
    elements = pa.array(values.astype(numpy_type(kind), copy=False), kind, mask=mask)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), elements)
