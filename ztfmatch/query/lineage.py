"""Follow objects through the generations of their unit's reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.parquet import DataFile, IdRange, read_table
from ztfmatch.core.io.rows import UNIT, codes_of_rows, codes_of_units
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import EXPOSURES, LINEAGE
from ztfmatch.core.schema.lineage import LOST, NEW
from ztfmatch.core.survey import MAX_OBJECTID, Unit, founder_of_transientid, objectid_range, unit_of_objectid


def lineage_table(snapshot: SnapshotFiles, objectids: Sequence[int] | None = None) -> pa.Table:
    """Lineage of all objects, or the ancestors and descendants of some; by objectid, the oldest first.

    Raises
    ------
    ConfigError
        If an objectid is of no unit.
    """
    if objectids is None:
        return snapshot.read(LINEAGE.name).sort_by(LINEAGE.order)
    rows = _of_units(snapshot, objectids)
    old, new = _ids(rows, "objectid"), _ids(rows, "newobjectid")
    wanted = np.array(sorted(set(objectids)), np.int64)
    related = _closure(old, new, wanted) | _closure(new, old, wanted)
    return rows.filter(pa.array(related)).sort_by(LINEAGE.order)


def successors(snapshot: SnapshotFiles, objectids: Sequence[int]) -> pa.Table:
    """The newest links of the descendants of some objects: how each line ends, lost or in an object that is active."""
    rows = _of_units(snapshot, objectids)
    old, new = _ids(rows, "objectid"), _ids(rows, "newobjectid")
    below = _closure(old, new, np.array(sorted(set(objectids)), np.int64))
    return rows.filter(pa.array(below & ~np.isin(new, old[old > 0])))


def _of_units(snapshot: SnapshotFiles, objectids: Sequence[int]) -> pa.Table:
    """Lineage of the units of some objects and transients."""
    units = _units(snapshot, objectids)
    ranges = sorted(map(objectid_range, units))
    files = [file for file in snapshot.of_table(LINEAGE.name) if _may_be_of(file, ranges)]
    rows = read_table(snapshot.storage, files, LINEAGE)
    return rows.filter(pa.array(np.isin(codes_of_rows(rows), codes_of_units(units)))).cast(LINEAGE.schema)


def _may_be_of(file: DataFile, ranges: Sequence[IdRange]) -> bool:
    """Whether a file, which is of one unit, can be of any of those with these objectids."""
    return (file.min_id is not None and file.min_id > MAX_OBJECTID) or file.holds_id(ranges)


def _units(snapshot: SnapshotFiles, objectids: Sequence[int]) -> set[Unit]:
    """Units of objects, and of the exposures that transients are named after."""
    try:
        units = [unit_of_objectid(number) for number in objectids if number <= MAX_OBJECTID]
    except ValueError as error:
        raise ConfigError(str(error)) from None
    named = sorted({int(founder_of_transientid(number)[0]) for number in objectids if number > MAX_OBJECTID})
    ranges = [(exposureid, exposureid) for exposureid in named]
    exposures = snapshot.read(EXPOSURES.name, UNIT, ranges).to_pylist()
    return {*units, *(Unit(**row) for row in exposures)}


def _ids(rows: pa.Table, name: str) -> Ids:
    return np.asarray(rows[name].fill_null(0).to_numpy())


def _closure(start: Ids, end: Ids, ids: Ids) -> Mask:
    """Rows that are reached from some ids, going from ``start`` to ``end`` of each row; and those that end there."""
    reached = np.zeros(len(start), bool)
    front = ids
    while front.size:
        step = np.isin(start, front) & ~reached
        reached |= step
        front = end[step & (end > 0)]
    return reached


def describe(row: Row) -> str:
    """What became of an object, in words."""
    old, new, kind = row["objectid"], row["newobjectid"], row["kind"]
    if kind == NEW:
        return f"object {new} is new in its reference"
    shared, separation = row["nshared"], row["separation"]
    if isinstance(old, int) and old > MAX_OBJECTID:
        what = f"transient {old} is no more"
        return f"{what}: now {new}, {separation:.2f} arcsec away, {shared} detections the same" if new else what
    if kind == LOST:
        return f"object {old} is retired: no source of the newer reference took its place; {_whereabouts(row)}"
    return f"object {old} is retired: {kind}, now {new}, {separation:.2f} arcsec away, {shared} epochs the same"


def _whereabouts(row: Row) -> str:
    """Where the epochs of a lost object are."""
    objects, transients, alone = row["ninobjects"], row["nintransients"], row["norphaned"]
    total = objects + transients + alone
    if not total:
        return "it had no epochs"
    if row["newobjectid"] is None:
        where = f"{transients} are of transients"
    else:
        where = f"{row['nshared']} are of transient {row['newobjectid']}, {transients - row['nshared']} of others"
    return f"of its {total} epochs {where}, {objects} of objects, and {alone} are orphans alone"
