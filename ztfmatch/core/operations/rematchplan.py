"""Divide the matching again of some units into tasks: by tile, and within a tile by exposures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.io import paths
from ztfmatch.core.io.parquet import DataFile, read_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, Row, tiles_of_footprint, unit_of
from ztfmatch.core.operations.references import reference_input
from ztfmatch.core.operations.transients import ungrouped_tiles, with_neighbours
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS, ORPHANS, REFERENCES, TRANSIENTDATA, TRANSIENTS
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
    snapshot, key = plan.snapshot, f"rematch-N{tile.order}-{tile.npix}-{number:04d}"
    units = sorted({exposure.unit for exposure in exposures}, key=objectid_range)
    near = neighbours(snapshot.tiling, tile) if any(exposure.straddles for exposure in exposures) else [tile]
    holding = (
        *_holding(snapshot, DETECTIONS.name, near, [objectid_range(unit) for unit in units]),
        *_holding(snapshot, ORPHANS.name, near, [_range_of(exposures)]),
    )
    return RematchTask(
        key,
        snapshot.storage,
        tile,
        exposures,
        tuple(plan.references[unit] for unit in units),
        tuple(file for file in holding if file.holds_time(*span)),
        tuple(file for other in near for file in snapshot.of_tile(TRANSIENTDATA.name, other)),
        snapshot.config.radius_arcsec,
        plan.commit,
        f"{plan.operation_id[:12]}-{number:04d}",
        paths.staged_flows(plan.operation_id, key),
        write,
    )


def _range_of(exposures: Sequence[StoredExposure]) -> tuple[int, int]:
    ids = [exposure.exposureid for exposure in exposures]
    return min(ids), max(ids)


def _holding(
    snapshot: SnapshotFiles, table: str, tiles: Sequence[Tile], ranges: Sequence[tuple[int, int]]
) -> Iterator[DataFile]:
    """Files of some tiles that can hold rows of these ids."""
    for tile in tiles:
        for file in snapshot.of_tile(table, tile):
            if file.holds_id(ranges):
                yield file


def retire_tasks(plan: RematchPlan) -> list[RetireTask]:
    """One task a tile."""
    snapshot = plan.snapshot
    return [
        RetireTask(
            f"retire-N{tile.order}-{tile.npix}",
            snapshot.storage,
            tile,
            tuple(plan.references[unit] for unit in units),
            tuple(snapshot.of_tile(OBJECTS.name, tile)),
            tuple(snapshot.of_tile(DETECTIONS.name, tile)),
            tuple(snapshot.of_tile(ORPHANS.name, tile)),
            plan.commit,
            plan.operation_id[:12],
        )
        for tile, units in plan.tiles.items()
    ]


def regrouped_tiles(plan: RematchPlan) -> list[Tile]:
    """Tiles whose transients what is matched again may have a part in, and stale ones beside them.

    Of a transient that moved over a border since, a tile that stays as it was would else have detections that the next,
    grouped anew, has too.
    """
    snapshot = plan.snapshot
    tiles = {near for tile in plan.tiles for near in neighbours(snapshot.tiling, tile)}
    stale = (tile for tile in ungrouped_tiles(snapshot) if snapshot.of_tile(TRANSIENTS.name, tile))
    return sorted(with_neighbours(snapshot, tiles, stale), key=lambda tile: tile.fine_range)


def lineage_tasks(
    plan: RematchPlan, matching: Sequence[RematchTask], regrouped: Sequence[DataFile], write: bool
) -> list[LineageTask]:
    """One task a unit; of its transients to be, those of the tiles that it touches and of their neighbours."""
    transients: dict[Tile | None, list[DataFile]] = {}
    for file in regrouped:
        transients.setdefault(file.tile, []).append(file)
    flows: dict[Unit, list[str]] = {}
    for task in matching:
        for reference in task.references:
            flows.setdefault(reference.unit, []).append(task.flows)
    tiles: dict[Unit, list[Tile]] = {}
    for tile, units in plan.tiles.items():
        for unit in units:
            tiles.setdefault(unit, []).append(tile)
    snapshot = plan.snapshot
    near = {
        unit: sorted({other for tile in of_unit for other in neighbours(snapshot.tiling, tile)})
        for unit, of_unit in tiles.items()
    }
    return [
        LineageTask(
            f"lineage-{unit}",
            snapshot.storage,
            reference,
            tuple(_holding(snapshot, OBJECTS.name, tiles.get(unit, []), [objectid_range(unit)])),
            tuple(file for tile in near.get(unit, []) for file in snapshot.of_tile(TRANSIENTS.name, tile)),
            tuple(file for tile in near.get(unit, []) for file in transients.get(tile, [])),
            tuple(flows.get(unit, [])),
            snapshot.config.radius_arcsec,
            plan.commit,
            f"{plan.operation_id[:12]}-{unit}",
            write,
        )
        for unit, reference in plan.references.items()
    ]


def projected_bytes(task: RematchTask) -> int:
    """Peak memory of the worker that runs the task."""
    rows = sum(exposure.rows for exposure in task.exposures)
    return WORKER_BASE_BYTES + BYTES_PER_ROW * rows + 100 * sum(reference.nrows for reference in task.references)
