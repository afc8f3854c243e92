"""Divide a rematch into tasks: by tile, and within a tile by exposures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ints
from ztfmatch.core.io import paths
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import OfSnapshot, SnapshotFiles
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.kernels.tiling import Tile, in_sky_order
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, footprint_table, tiles_of_footprints
from ztfmatch.core.operations.footprintoverlap import Touched
from ztfmatch.core.operations.references import UNIT_ORDER, reference_input
from ztfmatch.core.schema import EXPOSURES, REFERENCES
from ztfmatch.core.schema.rows import ReferenceRow
from ztfmatch.core.survey import HMJD_MARGIN_DAY, N_RCID, Unit, objectid_range
from ztfmatch.core.tasks.lineage import LineageTask
from ztfmatch.core.tasks.rematch import BYTES_PER_ROW, RematchTask, encode_exposures
from ztfmatch.core.tasks.retire import RetireTask
from ztfmatch.core.tasks.seeds import ReferenceInput

_COLUMNS: Final = (
    "exposureid", "field", "rcid", "fid", "obsmjd", "ra", "dec", "radius", "nrows", "nrejected",
)  # fmt: skip


@dataclass(frozen=True)
class RematchPlan(OfSnapshot):
    """What is to be done, on which snapshot."""

    snapshot: SnapshotFiles
    references: dict[Unit, ReferenceInput]
    """The new one of each unit."""
    exposures: pa.Table
    """Ledger rows of these units, by unit, then time."""
    tiles: dict[Tile, list[Unit]]
    """Tiles that the units touch."""
    touched: Touched
    """Tiles that the exposures touch."""
    operation_id: str


def newest_references(snapshot: SnapshotFiles, units: Collection[Unit]) -> dict[Unit, ReferenceRow]:
    """The reference of each of some units that its active objects are from."""
    if not units:
        return {}
    rows = snapshot.read(REFERENCES.name)
    rows = rows.filter(pc.is_in(pa.array(_codes(rows)), _codes_of(units)))
    return {unit_of(row): row for row in rows.sort_by("generation").to_pylist()}


def plan_rematch(snapshot: SnapshotFiles, rows: Sequence[ReferenceRow], operation_id: str) -> RematchPlan:
    """Find the exposures and tiles of the units that get new references.

    Parameters
    ----------
    snapshot : SnapshotFiles
    rows : sequence of ReferenceRow
        To be, one a unit.
    operation_id : str
    """
    references = {unit_of(row): reference_input(row, row["generation"]) for row in rows}
    exposures = _exposures(snapshot, list(references))
    units, which = _units(exposures)
    touched = Touched.of(snapshot.tiling, exposures, which)
    before = newest_references(snapshot, references)
    tiles: dict[Tile, set[Unit]] = {}
    known = [*rows, *(before[unit] for unit in references if unit in before)]
    for row, of in zip(known, tiles_of_footprints(snapshot.tiling, footprint_table(known)), strict=True):
        for tile in of:
            tiles.setdefault(tile, set()).add(unit_of(row))
    of_footprint = np.zeros(len(touched.tiles), np.int64)
    of_footprint[touched.footprint] = which
    for at, footprint in touched.pairs.T.tolist():
        tiles.setdefault(snapshot.tiling.tiles[at], set()).add(units[of_footprint[footprint]])
    ordered = {tile: sorted(tiles[tile], key=objectid_range) for tile in in_sky_order(tiles)}
    return RematchPlan(snapshot, references, exposures, ordered, touched, operation_id)


def _exposures(snapshot: SnapshotFiles, units: Sequence[Unit]) -> pa.Table:
    """Ledger rows of some units; of each file only those of their fields are read, and only those of units kept."""
    wanted = _codes_of(units)
    fields = sorted({unit.field for unit in units})
    ranges = [(field, field) for field in fields]
    parts = [EXPOSURES.empty.select(_COLUMNS)]
    for file in snapshot.ledger:
        rows = read_file_rows(snapshot.storage, file, _COLUMNS, ranges, "field")
        parts.append(rows.filter(pc.is_in(pa.array(_codes(rows)), wanted)).select(_COLUMNS).cast(parts[0].schema))
    order = [(name, "ascending") for name in (*UNIT_ORDER, "obsmjd", "exposureid")]
    return pa.concat_tables(parts).sort_by(order).combine_chunks()


def _code(field: Any, fid: Any, rcid: Any) -> Any:
    """Numbers of units in order of their objectids."""
    return (field * 4 + fid) * N_RCID + rcid


def _codes_of(units: Collection[Unit]) -> pa.Array:
    return pa.array(sorted(_code(unit.field, unit.fid, unit.rcid) for unit in units), pa.int64())


def _codes(rows: pa.Table) -> Ints:
    return np.asarray(_code(*(rows[name].to_numpy().astype(np.int64) for name in UNIT_ORDER)))


def _units(rows: pa.Table) -> tuple[list[Unit], Ints]:
    """Units of rows that are in order of them, each once, and the number of each row's."""
    codes, which = np.unique(_codes(rows), return_inverse=True)
    return [Unit(code // N_RCID // 4, code % N_RCID, code // N_RCID % 4) for code in codes.tolist()], which


def rematch_tasks(plan: RematchPlan, rows_per_task: int, write: bool) -> list[RematchTask]:
    """One task for each tile and batch of exposures."""
    exposures = _task_columns(plan)
    nrows = plan.exposures["nrows"].to_numpy()
    rows_of_tiles = {tile: row for row, tile in enumerate(plan.snapshot.tiling.tiles)}
    return [
        _task(plan, exposures.take(pa.array(batch)), (tile, number), write)
        for tile in plan.tiles
        for number, batch in enumerate(_batches(plan.touched.exposures(rows_of_tiles[tile]), nrows, rows_per_task))
    ]


def _task_columns(plan: RematchPlan) -> pa.Table:
    """Columns of exposures for tasks and their planning."""
    rows = plan.exposures
    return pa.table(
        {
            **{name: rows[name] for name in ("exposureid", *UNIT_ORDER)},
            "rows": pc.subtract(rows["nrows"], rows["nrejected"]).cast(pa.int64()),
            "straddles": plan.touched.tiles[plan.touched.footprint] > 1,
            "obsmjd": rows["obsmjd"],
        }
    )


def _batches(exposures: Ints, nrows: Ints, rows_per_task: int) -> list[Ints]:
    """Consecutive exposures, none of the batches above the limit unless one exposure is."""
    starts, held = list[int](), 0
    for i, number in enumerate(nrows[exposures].tolist()):
        if i and held + number > rows_per_task:
            starts.append(i)
            held = 0
        held += number
    return np.split(exposures, starts) if len(exposures) else []


def _task(plan: RematchPlan, rows: pa.Table, place: tuple[Tile, int], write: bool) -> RematchTask:
    """The task of a tile and the number of a batch."""
    tile, number = place
    key = f"rematch-{tile.key}-{number:04d}"
    first, last = pc.min_max(rows["obsmjd"]).as_py().values()
    return RematchTask(
        key=key,
        snapshot=plan.snapshot,
        tile=tile,
        plan=encode_exposures(rows.drop_columns("obsmjd")),
        nrows=pc.sum(rows["rows"]).as_py(),
        references=tuple(plan.references[unit] for unit in _units(rows)[0]),
        span=(first - HMJD_MARGIN_DAY, last + HMJD_MARGIN_DAY),
        part=f"{plan.operation_id[:12]}-{number:04d}",
        flows=paths.staged_flows(plan.operation_id, key),
        write=write,
    )


def retire_tasks(plan: RematchPlan) -> list[RetireTask]:
    """One task a tile."""
    return [
        RetireTask(
            f"retire-{tile.key}",
            plan.snapshot,
            tile,
            tuple(plan.references[unit] for unit in units),
            plan.operation_id[:12],
        )
        for tile, units in plan.tiles.items()
    ]


def lineage_tasks(
    plan: RematchPlan, matching: Sequence[RematchTask], regrouped: StagedFiles, write: bool
) -> list[LineageTask]:
    """One task a unit; ``regrouped`` has the transients to be."""
    flows: dict[Unit, list[str]] = {}
    for task in matching:
        for reference in task.references:
            flows.setdefault(reference.unit, []).append(task.flows)
    tiles: dict[Unit, list[Tile]] = {}
    for tile, units in plan.tiles.items():
        for unit in units:
            tiles.setdefault(unit, []).append(tile)
    return [
        LineageTask(
            key=f"lineage-{unit}",
            snapshot=plan.snapshot,
            reference=reference,
            tiles=tuple(tiles.get(unit, [])),
            regrouped=regrouped,
            flows=tuple(flows.get(unit, [])),
            part=f"{plan.operation_id[:12]}-{unit}",
            write=write,
        )
        for unit, reference in plan.references.items()
    ]


def projected_bytes(task: RematchTask) -> int:
    """Peak memory of the worker that runs the task."""
    return WORKER_BASE_BYTES + BYTES_PER_ROW * task.nrows + 100 * sum(reference.nrows for reference in task.references)
