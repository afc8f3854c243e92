"""Objects of a tile in a HATS catalog: the active ones, sorted by position."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from ztfmatch.core.io.rows import active_rows
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import OBJECTS, Table
from ztfmatch.core.tasks.tile import TileTask
from ztfmatch.release.io import hats
from ztfmatch.release.io.outputs import Written, write_table
from ztfmatch.release.schema import HEALPIX_COLUMN, RELEASED_OBJECTS

VIEWED_OBJECTS = Table(
    "viewedobjects",
    "Active objects of a snapshot, with their place.",
    (HEALPIX_COLUMN, "objectid"),
    (RELEASED_OBJECTS[HEALPIX_COLUMN], *(column for column in OBJECTS.columns if column.name != "status")),
    row_group_rows=65_536,
)


@dataclass(frozen=True)
class ViewTask(TileTask):
    """One tile."""

    out: Storage
    catalog: str


def write_viewed_objects(task: ViewTask) -> Written:
    """Write the tile's active objects, if it has any."""
    rows = active_rows(task.read(OBJECTS)).drop_columns(["status"])
    if not rows.num_rows:
        return Written()
    healpix = hats.healpix_pixels(rows["ra"].to_numpy(), rows["dec"].to_numpy())
    rows = rows.add_column(0, VIEWED_OBJECTS.schema.field(0), pa.array(healpix))
    rows = hats.in_order(rows.cast(VIEWED_OBJECTS.schema), VIEWED_OBJECTS.sorted_by)
    return Written((write_table(task.out, hats.pixel_file(task.catalog, task.tile), VIEWED_OBJECTS, rows),))
