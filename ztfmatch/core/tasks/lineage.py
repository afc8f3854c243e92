"""The lineage of one unit's objects and transients, from the flows of epochs counted by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Array, Ids
from ztfmatch.core.io.parquet import DataFile, Destination, read_table, table_from_columns, write_file
from ztfmatch.core.io.rows import UNIT, active_rows, rows_of_unit
from ztfmatch.core.io.snapshot import OfSnapshot, SnapshotFiles
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.kernels.lineage import NEW, SPLIT, Flows, Generation, Lineage, add_flows, count_flows, trace
from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.schema import LINEAGE, OBJECTS, TRANSIENTDATA, TRANSIENTS, Table
from ztfmatch.core.schema.lineage import LINEAGE_KINDS
from ztfmatch.core.schema.types import numpy_type
from ztfmatch.core.survey import MAX_OBJECTID, Unit, objectid_range
from ztfmatch.core.tasks.rematch import Freed, read_flows
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.seeds import ReferenceInput, all_objects

_POSITIONED: Final = ["objectid", "ra", "dec", "refmag"]
_COLUMNS: Final = [*_POSITIONED, "status"]
_PLACES: Final = ("ninobjects", "nintransients", "norphaned")


@dataclass(frozen=True)
class LineageTask(OfSnapshot):
    """One unit."""

    key: str
    snapshot: SnapshotFiles
    reference: ReferenceInput
    """The new one."""
    tiles: tuple[Tile, ...]
    """That the unit touches."""
    regrouped: StagedFiles
    """Files of transients to be; none where nothing is written."""
    flows: tuple[str, ...]
    """What the tiles counted."""
    part: str
    write: bool = True
    """False only counts."""

    def objects(self) -> list[DataFile]:
        """Files of objects, from before, of the unit."""
        return self.snapshot.of_tiles(OBJECTS.name, self.tiles, [objectid_range(self.reference.unit)])

    def near(self) -> list[Tile]:
        """The tiles and their neighbours: transients of the unit may lie there."""
        return sorted({other for tile in self.tiles for other in neighbours(self.snapshot.tiling, tile)})

    def before(self, table: Table) -> list[DataFile]:
        """Files of transients from before."""
        return self.snapshot.of_tiles(table.name, self.near())

    def after(self, table: Table) -> list[DataFile]:
        """Files of transients to be."""
        return [file for tile in self.near() for file in self.regrouped.added(table.name, tile)]


@dataclass(frozen=True)
class Traced(Written):
    """The lineage of a unit."""

    unit: str
    kinds: dict[str, int]
    """Number of objects by kind, of the old ones, of the new ones for ``new``."""
    epochs: int
    """Of the old objects."""
    moved: int
    """Those of them that are not an epoch of a succeeding object."""
    transients: int
    """Old ones that are objects now."""


def trace_unit(task: LineageTask) -> Traced:
    """Write the lineage of a unit."""
    before = _generation(_active(task), _of_transients(task, task.before(TRANSIENTS)))
    after = _generation(all_objects(task.reference), _of_transients(task, task.after(TRANSIENTS)))
    flows = _flows(task, before, after)
    lineage = trace(before, after, flows, task.snapshot.config.radius_arcsec)
    files = []
    if task.write and len(lineage.old):
        files = [write_file(Destination(task.storage, LINEAGE, None, task.commit, task.part), _table(task, lineage))]
    return Traced(files, str(task.reference.unit), *_counts(lineage, flows))


def _active(task: LineageTask) -> pa.Table:
    return active_rows(
        read_table(task.storage, task.objects(), OBJECTS, _COLUMNS, [objectid_range(task.reference.unit)])
    )


def _of_transients(task: LineageTask, files: Sequence[DataFile]) -> pa.Table:
    """Transients of the unit, with the columns of objects."""
    rows = read_table(task.storage, files, TRANSIENTS, ["transientid", "ra", "dec", "meanmag", *UNIT])
    return rows_of_unit(rows, task.reference.unit).rename_columns(["objectid", "ra", "dec", "refmag", *UNIT])


def _generation(*parts: pa.Table) -> Generation:
    schema = pa.schema([OBJECTS.schema.field(name) for name in _POSITIONED])
    rows = pa.concat_tables([part.select(_POSITIONED).cast(schema) for part in parts]).sort_by("objectid")
    xyz = unit_vectors(rows["ra"].to_numpy(), rows["dec"].to_numpy())
    return Generation(rows["objectid"].to_numpy(), xyz, rows["refmag"].to_numpy().astype(np.float64))


def _flows(task: LineageTask, before: Generation, after: Generation) -> Flows:
    """Flows of the unit, those to transients too."""
    counted = [read_flows(task.storage, path) for path in task.flows]
    flows = add_flows(*(part for part, _ in counted))
    mine = np.isin(flows.old, before.objectid) | np.isin(flows.new, after.objectid)
    flows = Flows(**{name: getattr(flows, name)[mine] for name in Flows.__dataclass_fields__})
    return add_flows(flows, *_to_transients(task, (before, after), [freed for _, freed in counted]))


def _to_transients(task: LineageTask, sides: tuple[Generation, Generation], freed: Sequence[Freed]) -> list[Flows]:
    """Flows of what became a transient's, and the same taken from what is an orphan alone."""
    before, after = sides
    links = read_table(task.storage, task.after(TRANSIENTDATA), TRANSIENTDATA)
    if not (links.num_rows and freed):
        return []
    exposureid, sourceid, old = (np.concatenate([getattr(part, name) for part in freed]) for name in vars(freed[0]))
    mine = np.isin(old, before.objectid)
    parts = pa.table({"exposureid": exposureid[mine], "sourceid": sourceid[mine], "old": old[mine]})
    pairs = parts.join(links, ["exposureid", "sourceid"], join_type="inner", use_threads=False)
    pairs = pairs.sort_by([("old", "ascending"), ("transientid", "ascending")])
    was, now = pairs["old"].to_numpy(), pairs["transientid"].to_numpy()
    alone = count_flows(was, np.zeros(len(was), np.int64))
    taken = Flows(alone.old, alone.new, -alone.count)
    return [count_flows(was, now), taken, _of_nothing(links["transientid"].to_numpy(), now, after)]


def _of_nothing(members: Ids, known: Ids, after: Generation) -> Flows:
    """Flows to transients of what was no epoch and no transient's: all members but those that are known."""
    ids, members_of = np.unique(members[np.isin(members, after.objectid)], return_counts=True)
    rest = members_of - np.bincount(np.searchsorted(ids, known), minlength=len(ids))
    return Flows(np.zeros(len(ids), np.int64), ids, rest)


def _table(task: LineageTask, lineage: Lineage) -> pa.Table:
    return table_from_columns(
        LINEAGE,
        {
            "objectid": pa.array(lineage.old, mask=lineage.old == 0),
            "newobjectid": pa.array(lineage.new, mask=lineage.new == 0),
            "kind": pa.DictionaryArray.from_arrays(pa.array(lineage.kind), pa.array(LINEAGE_KINDS)),
            **dict(zip(UNIT, _constant(task.reference.unit, len(lineage.old)), strict=True)),
            "separation": lineage.separation.astype(np.float32),
            "dmag": lineage.dmag.astype(np.float32),
            "nshared": lineage.shared.astype(np.int32),
            "fractionold": lineage.fraction_of_old.astype(np.float32),
            "fractionnew": lineage.fraction_of_new.astype(np.float32),
            **{name: pa.array(counts, mask=lineage.old == 0) for name, counts in _places(lineage)},
            "snapshot": np.full(len(lineage.old), task.commit - 1),
        },
    )


def _places(lineage: Lineage) -> Iterator[tuple[str, npt.NDArray[np.int32]]]:
    """Columns that say where the epochs of the old ones are now."""
    for name, counts in zip(_PLACES, vars(lineage.places).values(), strict=True):
        yield name, counts.astype(np.int32)


def _constant(unit: Unit, n: int) -> Iterator[Array]:
    """Columns that say of which unit rows are."""
    for name, value in zip(UNIT, (unit.field, unit.rcid, unit.fid), strict=True):
        yield np.full(n, value, numpy_type(LINEAGE[name].type))


def _counts(lineage: Lineage, flows: Flows) -> tuple[dict[str, int], int, int, int]:
    """``kinds``, ``epochs``, ``moved`` and ``transients`` of what was traced."""
    old, new = lineage.old, lineage.new
    of_objects, to_objects = old <= MAX_OBJECTID, (new > 0) & (new <= MAX_OBJECTID)
    # Beside its successor an object may have left epochs to a transient: that does not make it two objects.
    besides = (lineage.kind == SPLIT) & ~to_objects
    kinds = {
        name: len(np.unique((new if number == NEW else old)[of_objects & ~besides & (lineage.kind == number)]))
        for number, name in enumerate(LINEAGE_KINDS)
    }
    left = int(flows.count[(flows.old > 0) & (flows.old <= MAX_OBJECTID)].sum())
    moved = left - int(lineage.shared[of_objects & to_objects].sum())
    found = len(np.unique(old[~of_objects & to_objects]))
    return kinds, left, moved, found
