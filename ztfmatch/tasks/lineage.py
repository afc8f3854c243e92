"""The lineage of one unit's objects, from the flows that the tiles counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.io.parquet import DataFile, Destination, read_rows, table_from_columns, write_file
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.lineage import NEW, Flows, Generation, Lineage, add_flows, trace
from ztfmatch.kernels.sphere import unit_vectors
from ztfmatch.schema import LINEAGE, OBJECTS
from ztfmatch.schema.lineage import LINEAGE_KINDS
from ztfmatch.schema.sky import ACTIVE
from ztfmatch.survey import objectid_range
from ztfmatch.tasks.rematch import read_flows
from ztfmatch.tasks.seeds import ReferenceInput, all_objects

_COLUMNS: Final = ["objectid", "ra", "dec", "refmag", "status"]


@dataclass(frozen=True)
class LineageTask:
    """One unit."""

    key: str
    storage: Storage
    reference: ReferenceInput
    """The new one."""
    objects: tuple[DataFile, ...]
    """Object files, from before, of the tiles that the unit touches."""
    flows: tuple[str, ...]
    """What the tiles counted."""
    radius_arcsec: float
    commit: int
    part: str
    write: bool = True
    """False only counts."""


def trace_unit(task: LineageTask) -> dict[str, Any]:
    """Write the lineage of a unit.

    Returns
    -------
    dict
        ``files``: manifest rows; ``unit``; ``kinds``: number of objects by kind, of the old ones, of the new ones for
        ``new``; ``epochs``: of the old objects; ``moved``: how many of them are not an epoch of a successor.
    """
    before, after = _before(task), _generation(all_objects(task.reference))
    flows = _of_unit(add_flows(*(read_flows(task.storage, path) for path in task.flows)), task)
    lineage = trace(before, after, flows, task.radius_arcsec)
    files = []
    if task.write and len(lineage.old):
        files = [write_file(Destination(task.storage, LINEAGE, None, task.commit, task.part), _table(task, lineage))]
    return {"files": [file.to_json() for file in files], "unit": str(task.reference.unit), **_counts(lineage, flows)}


def _before(task: LineageTask) -> Generation:
    low, high = objectid_range(task.reference.unit)
    rows = read_rows(task.storage, task.objects, _COLUMNS, [(low, high)])
    if rows is None:
        return _generation(OBJECTS.schema.empty_table())
    return _generation(rows.filter(pc.equal(rows["status"], ACTIVE)))


def _generation(rows: pa.Table) -> Generation:
    rows = rows.sort_by("objectid")
    xyz = unit_vectors(rows["ra"].to_numpy(), rows["dec"].to_numpy())
    return Generation(rows["objectid"].to_numpy(), xyz, rows["refmag"].to_numpy().astype(np.float64))


def _of_unit(flows: Flows, task: LineageTask) -> Flows:
    low, high = objectid_range(task.reference.unit)
    mine = ((flows.old >= low) & (flows.old <= high)) | ((flows.new >= low) & (flows.new <= high))
    return Flows(**{name: getattr(flows, name)[mine] for name in Flows.__dataclass_fields__})


def _table(task: LineageTask, lineage: Lineage) -> pa.Table:
    return table_from_columns(
        LINEAGE,
        {
            "objectid": pa.array(lineage.old, mask=lineage.old == 0),
            "newobjectid": pa.array(lineage.new, mask=lineage.new == 0),
            "kind": pa.DictionaryArray.from_arrays(pa.array(lineage.kind), pa.array(LINEAGE_KINDS)),
            "separation": lineage.separation.astype(np.float32),
            "dmag": lineage.dmag.astype(np.float32),
            "nshared": lineage.shared.astype(np.int32),
            "fractionold": lineage.fraction_of_old.astype(np.float32),
            "fractionnew": lineage.fraction_of_new.astype(np.float32),
            "snapshot": np.full(len(lineage.old), task.commit - 1),
        },
    )


def _counts(lineage: Lineage, flows: Flows) -> dict[str, Any]:
    kinds = {}
    for number, name in enumerate(LINEAGE_KINDS):
        of_kind = lineage.kind == number
        kinds[name] = len(np.unique((lineage.new if number == NEW else lineage.old)[of_kind]))
    left = int(flows.left.sum())
    return {"kinds": kinds, "epochs": left, "moved": left - int(lineage.shared.sum())}
