"""Objects of a tile as a HATS catalog has them: the active ones, sorted by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.parquet import DataFile, read_rows
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import OBJECTS, Table
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.release.io import hats
from ztfmatch.release.io.outputs import write_table
from ztfmatch.release.schema import HEALPIX_COLUMN, RELEASED_OBJECTS
from ztfmatch.release.tasks.nested import healpix_29
from ztfmatch.release.tasks.partition import in_order

VIEWED_OBJECTS = Table(
    "viewedobjects",
    "Active objects of a snapshot, with their place.",
    (HEALPIX_COLUMN, "objectid"),
    (RELEASED_OBJECTS[HEALPIX_COLUMN], *(column for column in OBJECTS.columns if column.name != "status")),
    row_group_rows=65_536,
)


@dataclass(frozen=True)
class ViewTask:
    """One tile."""

    key: str
    storage: Storage
    tile: Tile
    objects: tuple[DataFile, ...]
    out: Storage
    catalog: str


def write_viewed_objects(task: ViewTask) -> dict[str, Any]:
    """Write the tile's active objects; return ``outputs``, one, or none if it has no objects."""
    rows = read_rows(task.storage, task.objects, OBJECTS.names)
    if rows is None:
        return {"outputs": []}
    rows = rows.cast(OBJECTS.schema)
    rows = rows.filter(pc.equal(rows["status"].cast(pa.string()), ACTIVE)).drop_columns(["status"])
    if not rows.num_rows:
        return {"outputs": []}
    healpix = healpix_29(rows["ra"].to_numpy(), rows["dec"].to_numpy())
    rows = rows.add_column(0, VIEWED_OBJECTS.schema.field(0), pa.array(healpix))
    rows = in_order(rows.cast(VIEWED_OBJECTS.schema), VIEWED_OBJECTS.sorted_by)
    output = write_table(task.out, hats.pixel_file(task.catalog, task.tile), VIEWED_OBJECTS, rows)
    return {"outputs": [output.to_json()]}
