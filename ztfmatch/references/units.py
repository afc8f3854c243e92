"""What a snapshot has of each unit that has a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import tiles_of_footprint, unit_of
from ztfmatch.core.schema import REFERENCES
from ztfmatch.references.kernels.selection import unit_codes
from ztfmatch.references.tasks.stored import StoredReference

Place = tuple[int, int]
"""Field and readout channel."""


def newest_references(snapshot: SnapshotFiles, columns: Sequence[str]) -> pa.Table:
    """Rows of the newest reference of each unit, by field, readout channel and filter."""
    rows = snapshot.read(REFERENCES.name, ["field", "rcid", "fid", "generation", *columns])
    rows = rows.sort_by([(name, "ascending") for name in ("field", "rcid", "fid", "generation")])
    code = unit_codes(*(rows[name].to_numpy().astype(np.int64) for name in ("field", "rcid", "fid")))
    return rows.take(np.flatnonzero(np.diff(code, append=-1) != 0))


def active_references(snapshot: SnapshotFiles) -> dict[Place, list[StoredReference]]:
    """The newest reference of each unit, all filters of a place on the sky together."""
    found: dict[Place, list[StoredReference]] = {}
    for row in newest_references(snapshot, ["clrcoeff", "ra", "dec", "radius"]).to_pylist():
        tiles = () if row["ra"] is None else tuple(tiles_of_footprint(snapshot.tiling, row))
        reference = StoredReference(snapshot, unit_of(row), row["generation"], row["clrcoeff"], tiles)
        found.setdefault((row["field"], row["rcid"]), []).append(reference)
    return found
