"""The stored references of a snapshot by unit."""

from __future__ import annotations

from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import references_by_unit, tiles_of_footprint
from ztfmatch.references.tasks.stored import StoredReference

Place = tuple[int, int]
"""Field and readout channel."""


def active_references(snapshot: SnapshotFiles) -> dict[Place, list[StoredReference]]:
    """The newest reference of each unit, all filters of a place on the sky together."""
    found: dict[Place, list[StoredReference]] = {}
    for row in references_by_unit(snapshot, ["clrcoeff", "ra", "dec", "radius"]).to_pylist():
        tiles = tuple(tiles_of_footprint(snapshot.tiling, row))
        reference = StoredReference(snapshot, unit_of(row), row["generation"], row["clrcoeff"], tiles)
        found.setdefault((row["field"], row["rcid"]), []).append(reference)
    return found
