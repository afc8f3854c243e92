"""One unit's lightcurves as one file, the way IRSA's bulk downloads have them.

A unit's objects lie in several tiles, and a tile has objects of several units. Both are sorted by objectid, in which a
unit is one range: so the files of all its tiles are merged over that range, some objects at a time, and written as they
come. Memory follows neither the unit nor its tiles.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.io.parquet import DataFile, read_rows
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import find_rows
from ztfmatch.core.kernels.region import Region
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.schema.types import numpy_type
from ztfmatch.core.survey import Unit, objectid_range, unit_columns
from ztfmatch.release.io.outputs import parquet_writer, writing
from ztfmatch.release.io.scope import ReleaseScope
from ztfmatch.release.schema import BULK, INDEX_COLUMN, LIGHTCURVE
from ztfmatch.release.tasks.released import (
    LEDGER_COLUMNS,
    Released,
    ScopedExposures,
    Source,
    exposures_in_scope,
    objects_in_scope,
    released,
)

Arrays = dict[str, npt.NDArray[Any]]

_SOURCEIDS: Final = 10**8


@dataclass(frozen=True)
class BulkTask:
    """One unit."""

    key: str
    storage: Storage
    unit: Unit
    objects: tuple[DataFile, ...]
    """Of the tiles that the unit touches, as are the detections."""
    detections: tuple[DataFile, ...]
    exposures: tuple[DataFile, ...]
    """The ledger."""
    scope: ReleaseScope
    out: Storage
    path: str
    region: Region | None = None
    """Only objects in it."""


def write_unit(task: BulkTask) -> dict[str, Any]:
    """Write the unit's file; return ``outputs``, ``objects`` and ``epochs``. Without any there is no file."""
    table, source = _source(task)
    if not table.num_rows or not len(source.exposures.clrcoeff):
        return {"outputs": [], "objects": 0, "epochs": 0}
    parts = (bulk_rows(part, table) for part in released(source, [column.name for column in LIGHTCURVE]))
    filled = (rows for rows in parts if rows.num_rows)
    first = next(filled, None)
    if first is None:
        return {"outputs": [], "objects": 0, "epochs": 0}
    objects = epochs = 0
    with writing(task.out, task.path) as file, parquet_writer(file, BULK, compliant=False) as writer:
        for rows in itertools.chain([first], filled):
            writer.write_table(rows, row_group_size=rows.num_rows)
            objects += rows.num_rows
            epochs += pc.sum(rows["nepochs"]).as_py()
    return {"outputs": [file.output(task.path, objects).to_json()], "objects": objects, "epochs": epochs}


def count_unit(task: BulkTask) -> dict[str, Any]:
    """Count what the unit's file, and any other product of the same scope, would have; nothing is written.

    Returns
    -------
    dict
        ``active``: objects, with or without epochs; ``objects``: those with; ``programs``: program, its objects and its
        epochs.
    """
    table, source = _source(task)
    objects = 0
    programs: dict[int, list[int]] = {}
    for part in released(source, []) if table.num_rows and len(source.exposures.clrcoeff) else ():
        counts = np.diff(part.lightcurves.offsets)
        objects += int((counts > 0).sum())
        owner = np.repeat(part.row, counts)
        row = find_rows(source.exposures.row_of, part.lightcurves.columns["exposureid"])
        for program in np.unique(source.exposures.programid[row]).tolist():
            of_program = owner[source.exposures.programid[row] == program]
            held = programs.setdefault(program, [0, 0])
            held[0] += len(np.unique(of_program))  # a part has whole lightcurves
            held[1] += len(of_program)
    return {"active": table.num_rows, "objects": objects, "programs": [[p, *held] for p, held in programs.items()]}


def _source(task: BulkTask) -> tuple[pa.Table, Source]:
    ids = objectid_range(task.unit)
    table = objects_in_scope(task.storage, task.objects, task.scope, ["objectid", "ra", "dec"], ids)
    if task.region is not None:
        table = table.filter(pa.array(task.region.contains(table["ra"].to_numpy(), table["dec"].to_numpy())))
    exposures = _exposures(task)
    objectid = table["objectid"].to_numpy()
    return table, Source(task.storage, task.detections, task.scope, exposures, objectid, ids)


def _exposures(task: BulkTask) -> ScopedExposures:
    field = task.unit.field
    ledger = read_rows(task.storage, task.exposures, LEDGER_COLUMNS, [(field, field)], "field")
    empty = EXPOSURES.schema.empty_table().select(list(LEDGER_COLUMNS))
    return exposures_in_scope(empty if ledger is None else ledger, task.scope)


def bulk_rows(part: Released, objects: pa.Table) -> pa.Table:
    """Rows of BULK of the objects that have an epoch."""
    curves = part.lightcurves
    seen = np.diff(curves.offsets) > 0
    row = pa.array(part.row[seen])
    objectid = curves.objectid[seen]
    rcid, field, fid = unit_columns(objectid)
    position = {f"obj{axis}": objects[axis].take(row).cast(pa.float32()) for axis in ("ra", "dec")}
    offsets = np.concatenate([curves.offsets[:1], curves.offsets[1:][seen]])
    values: dict[str, Any] = {
        "objectid": objectid,
        "filterid": fid,
        "fieldid": field,
        "rcid": rcid,
        **position,
        "nepochs": np.diff(offsets),
        **{column.name: _lists(curves, offsets, column.name, BULK[column.name].type) for column in LIGHTCURVE},
        INDEX_COLUMN: objectid % _SOURCEIDS,
    }
    arrays = [
        value if isinstance(value, pa.Array | pa.ChunkedArray) else pa.array(value, column.type)
        for column in BULK.columns
        for value in [values[column.name]]
    ]
    return pa.Table.from_arrays(arrays, schema=BULK.schema)


def _lists(curves: Lightcurves, offsets: npt.NDArray[np.int64], name: str, kind: pa.DataType) -> pa.Array:
    return list_array(curves.columns[name], offsets, kind.value_type)


def list_array(values: npt.NDArray[Any], offsets: npt.NDArray[np.int64], kind: pa.DataType) -> pa.Array:
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
