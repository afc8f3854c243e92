"""Divide the matching again of some units into tasks: by tile, and within a tile by exposures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.io import paths
from ztfmatch.core.io.parquet import read_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, Row, tiles_of_footprint, unit_of
from ztfmatch.core.operations.references import reference_input
from ztfmatch.core.operations.transients import ungrouped_tiles, with_neighbours
from ztfmatch.core.schema import EXPOSURES, REFERENCES, TRANSIENTS
from ztfmatch.core.survey import HMJD_MARGIN_DAY, Unit, objectid_range
from ztfmatch.core.tasks.lineage import LineageTask
from ztfmatch.core.tasks.rematch import BYTES_PER_ROW, RematchTask, StoredExposure
from ztfmatch.core.tasks.retire import RetireTask
from ztfmatch.core.tasks.seeds import ReferenceInput

_COLUMNS: Final = (
    "exposureid", "field", "rcid", "fid", "obsmjd", "ra", "dec", "radius", "source", "nrows", "nrejected",
)  # fmt: skip


@dataclass(frozen=True)
class RematchPlan:
    """What is to be done, on which snapshot."""

    snapshot: SnapshotFiles
    references: dict[Unit, ReferenceInput]
    """The new one of each unit."""
    exposures: list[Row]
    """Ledger rows of these units, by unit, then time."""
    tiles: dict[Tile, list[Unit]]
    """Tiles that the units touch."""
    touched: dict[int, list[Tile]]
    """Tiles that each exposure touches."""
    operation_id: str

    @property
    def commit(self) -> int:
        """Number of the snapshot to be."""
        return self.snapshot.number + 1


def newest_references(snapshot: SnapshotFiles) -> dict[Unit, Row]:
    """The reference of each unit that its active objects are from."""
    rows = sorted(snapshot.read(REFERENCES.name).to_pylist(), key=lambda row: row["generation"])
    return {unit_of(row): row for row in rows}


def plan_rematch(snapshot: SnapshotFiles, rows: Sequence[Row], operation_id: str) -> RematchPlan:
    """Find the exposures and tiles of the units that get new references.

    Parameters
    ----------
    snapshot : SnapshotFiles
    rows : sequence of Row
        Rows of ``references`` to be, one a unit.
    operation_id : str
    """
    references = {unit_of(row): reference_input(row, row["generation"]) for row in rows}
    exposures = _exposures(snapshot, set(references))
    touched = {row["exposureid"]: _touched(snapshot, row) for row in exposures}
    before = newest_references(snapshot)
    tiles: dict[Tile, set[Unit]] = {}
    for row in (*rows, *(before[unit] for unit in references if unit in before)):
        for tile in _touched(snapshot, row):
            tiles.setdefault(tile, set()).add(unit_of(row))
    for row in exposures:
        for tile in touched[row["exposureid"]]:
            tiles.setdefault(tile, set()).add(unit_of(row))
    ordered = {tile: sorted(tiles[tile], key=objectid_range) for tile in sorted(tiles, key=lambda t: t.fine_range)}
    return RematchPlan(snapshot, references, exposures, ordered, touched, operation_id)


def _exposures(snapshot: SnapshotFiles, units: set[Unit]) -> list[Row]:
    fields = [(field, field) for field in sorted({unit.field for unit in units})]
    table = read_rows(snapshot.storage, snapshot.of_table(EXPOSURES.name), _COLUMNS, fields, "field")
    rows: list[Row] = [] if table is None else [row for row in table.to_pylist() if unit_of(row) in units]
    return sorted(rows, key=lambda row: (objectid_range(unit_of(row)), row["obsmjd"], row["exposureid"]))


def _touched(snapshot: SnapshotFiles, row: Row) -> list[Tile]:
    return [] if row["ra"] is None else tiles_of_footprint(snapshot.tiling, row)


def rematch_tasks(plan: RematchPlan, rows_per_task: int, write: bool) -> list[RematchTask]:
    """One task for each tile and batch of exposures."""
    by_tile: dict[Tile, list[Row]] = {tile: [] for tile in plan.tiles}
    for row in plan.exposures:
        for tile in plan.touched[row["exposureid"]]:
            by_tile[tile].append(row)
    tasks = []
    for tile, rows in by_tile.items():
        for number, batch in enumerate(_batches(rows, rows_per_task)):
            exposures = tuple(_stored(row, len(plan.touched[row["exposureid"]]) > 1) for row in batch)
            times = [row["obsmjd"] for row in batch]
            span = min(times) - HMJD_MARGIN_DAY, max(times) + HMJD_MARGIN_DAY
            tasks.append(_task(plan, (tile, number), exposures, span, write))
    return tasks


def _stored(row: Row, straddles: bool) -> StoredExposure:
    return StoredExposure(row["exposureid"], unit_of(row), row["nrows"] - row["nrejected"], straddles)


def _batches(rows: Sequence[Row], rows_per_task: int) -> Iterator[list[Row]]:
    """Consecutive exposures, none of the batches above the limit unless one exposure is."""
    batch: list[Row] = []
    held = 0
    for row in rows:
        if batch and held + row["nrows"] > rows_per_task:
            yield batch
            batch, held = [], 0
        batch.append(row)
        held += row["nrows"]
    if batch:
        yield batch


def _task(
    plan: RematchPlan,
    place: tuple[Tile, int],
    exposures: tuple[StoredExposure, ...],
    span: tuple[float, float],
    write: bool,
) -> RematchTask:
    """The task of a tile and the number of a batch, whose rows are of a span of hmjd."""
    tile, number = place
    key = f"rematch-N{tile.order}-{tile.npix}-{number:04d}"
    units = sorted({exposure.unit for exposure in exposures}, key=objectid_range)
    return RematchTask(
        key,
        plan.snapshot,
        tile,
        exposures,
        tuple(plan.references[unit] for unit in units),
        span,
        f"{plan.operation_id[:12]}-{number:04d}",
        paths.staged_flows(plan.operation_id, key),
        write,
    )


def retire_tasks(plan: RematchPlan) -> list[RetireTask]:
    """One task a tile."""
    return [
        RetireTask(
            f"retire-N{tile.order}-{tile.npix}",
            plan.snapshot,
            tile,
            tuple(plan.references[unit] for unit in units),
            plan.operation_id[:12],
        )
        for tile, units in plan.tiles.items()
    ]


def regrouped_tiles(snapshot: SnapshotFiles, changed: Iterable[Tile]) -> list[Tile]:
    """Tiles whose transients what changed in some tiles may have a part in, and stale ones beside them.

    Of a transient that moved over a border since, a tile that stays as it was would else have detections that the next,
    grouped anew, has too.
    """
    tiles = {near for tile in changed for near in neighbours(snapshot.tiling, tile)}
    stale = (tile for tile in ungrouped_tiles(snapshot) if snapshot.of_tile(TRANSIENTS.name, tile))
    return sorted(with_neighbours(snapshot, tiles, stale), key=lambda tile: tile.fine_range)


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
            f"lineage-{unit}",
            plan.snapshot,
            reference,
            tuple(tiles.get(unit, [])),
            regrouped,
            tuple(flows.get(unit, [])),
            f"{plan.operation_id[:12]}-{unit}",
            write,
        )
        for unit, reference in plan.references.items()
    ]


def projected_bytes(task: RematchTask) -> int:
    """Peak memory of the worker that runs the task."""
    rows = sum(exposure.rows for exposure in task.exposures)
    return WORKER_BASE_BYTES + BYTES_PER_ROW * rows + 100 * sum(reference.nrows for reference in task.references)
