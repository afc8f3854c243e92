"""The stored references of a snapshot by unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ztfmatch.core.arrays import Ints
from ztfmatch.core.io.rows import FOOTPRINT, unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import references_by_unit, tiles_of_footprints
from ztfmatch.core.schema import DETECTIONS, OBJECTS
from ztfmatch.references.tasks.stored import StoredReference

Place = tuple[int, int]
"""Field and readout channel."""


def active_references(snapshot: SnapshotFiles) -> dict[Place, list[StoredReference]]:
    """The newest reference of each unit, all filters of a place on the sky together."""
    found: dict[Place, list[StoredReference]] = {}
    rows = references_by_unit(snapshot, ["clrcoeff", *FOOTPRINT])
    for row, tiles in zip(rows.to_pylist(), tiles_of_footprints(snapshot.tiling, rows), strict=True):
        reference = StoredReference(snapshot, unit_of(row), row["generation"], row["clrcoeff"], tuple(tiles))
        found.setdefault((row["field"], row["rcid"]), []).append(reference)
    return found


def rows_to_read(snapshot: SnapshotFiles, groups: Sequence[Sequence[StoredReference]]) -> tuple[Ints, Ints]:
    """Rows of objects in the files of each group of references, and most of detections in those of one of them."""
    asked = [(one.tiles, one.span) for group in groups for one in group]
    of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    objects, detections = (snapshot.files.rows_near(table.name, asked) for table in (OBJECTS, DETECTIONS))
    together, most = np.zeros((2, len(groups)), np.int64)
    np.add.at(together, of, objects)
    np.maximum.at(most, of, detections)
    return together, most
