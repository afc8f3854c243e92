"""Follow objects through the generations of their unit's reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.errors import ConfigError
from ztfmatch.io.parquet import read_rows
from ztfmatch.io.snapshot import SnapshotFiles
from ztfmatch.schema import LINEAGE
from ztfmatch.schema.lineage import LOST, NEW
from ztfmatch.survey import objectid_range, unit_of_objectid

Ids = npt.NDArray[np.int64]


def lineage_table(snapshot: SnapshotFiles, objectids: Sequence[int] | None = None) -> pa.Table:
    """Lineage of all objects, or the ancestors and descendants of some; by objectid, the oldest first.

    Raises
    ------
    ConfigError
        If an objectid is of no unit.
    """
    if objectids is None:
        return snapshot.read(LINEAGE.name).sort_by([(name, "ascending") for name in LINEAGE.sorted_by])
    rows = _of_units(snapshot, objectids)
    old, new = _ids(rows, "objectid"), _ids(rows, "newobjectid")
    wanted = np.array(sorted(set(objectids)), np.int64)
    related = _closure(old, new, wanted) | _closure(new, old, wanted)
    return rows.filter(pa.array(related)).sort_by([(name, "ascending") for name in LINEAGE.sorted_by])


def successors(snapshot: SnapshotFiles, objectids: Sequence[int]) -> pa.Table:
    """The newest links of the descendants of some objects: how each line ends, lost or in an object that is active."""
    rows = _of_units(snapshot, objectids)
    old, new = _ids(rows, "objectid"), _ids(rows, "newobjectid")
    below = _closure(old, new, np.array(sorted(set(objectids)), np.int64))
    return rows.filter(pa.array(below & ~np.isin(new, old[old > 0])))


def _of_units(snapshot: SnapshotFiles, objectids: Sequence[int]) -> pa.Table:
    """Lineage of the objects' units."""
    try:
        ranges = sorted({objectid_range(unit_of_objectid(objectid)) for objectid in objectids})
    except ValueError as error:
        raise ConfigError(str(error)) from None
    files = [file for file in snapshot.of_table(LINEAGE.name) if file.holds_id(ranges)]
    rows = read_rows(snapshot.storage, files, LINEAGE.names)
    if rows is None:
        return LINEAGE.schema.empty_table()
    known = pc.coalesce(rows["objectid"], rows["newobjectid"]).to_numpy()
    mine = np.any([(known >= low) & (known <= high) for low, high in ranges], axis=0)
    return rows.filter(pa.array(mine)).cast(LINEAGE.schema)


def _ids(rows: pa.Table, name: str) -> Ids:
    return np.asarray(rows[name].fill_null(0).to_numpy())


def _closure(start: Ids, end: Ids, ids: Ids) -> npt.NDArray[np.bool_]:
    """Rows that are reached from some ids, going from ``start`` to ``end`` of each row; and those that end there."""
    reached = np.zeros(len(start), bool)
    front = ids
    while front.size:
        step = np.isin(start, front) & ~reached
        reached |= step
        front = end[step & (end > 0)]
    return reached


def describe(row: dict[str, object]) -> str:
    """What became of an object, in words."""
    old, new, kind = row["objectid"], row["newobjectid"], row["kind"]
    if kind == LOST:
        return f"object {old} is retired: no source of the newer reference took its place; its epochs are orphans"
    if kind == NEW:
        return f"object {new} is new in its reference"
    shared, separation = row["nshared"], row["separation"]
    return f"object {old} is retired: {kind}, now {new}, {separation:.2f} arcsec away, {shared} epochs the same"
