"""Compute the statistics of every object whose lightcurve changed, and commit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.io.merge import ROWS_IN_FLIGHT
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch
from ztfmatch.core.operations.derived import Derivation, Pass
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS, STATISTICS
from ztfmatch.core.shown import Shown
from ztfmatch.core.tasks.statistics import (
    BYTES_PER_OBJECT,
    BYTES_PER_ROW_IN_FLIGHT,
    StatisticsTask,
    compute_statistics,
)

_INPUTS: Final = (OBJECTS.name, DETECTIONS.name)


@dataclass(frozen=True, kw_only=True)
class StatisticsReport(Shown):
    """What a statistics run did."""

    store: str
    snapshot: int
    committed: bool
    """False if all statistics were up to date."""
    tiles: int
    changed: int
    """Tiles that others changed meanwhile: their statistics are stale, run it again."""
    objects: int
    epochs: int
    bytes: int
    seconds: float


def update_statistics(storage: Storage, runner: Runner, note: str | None = None) -> StatisticsReport:
    """Compute the statistics of the tiles that changed since theirs were made.

    What others commit meanwhile takes nothing from the other tiles: those whose objects and detections are the same in
    the newest snapshot are committed on top of it.

    Raises
    ------
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If others changed all of these tiles meanwhile.
    """
    watch = Stopwatch()
    snapshot = open_snapshot(storage)
    stale = stale_tiles(snapshot)
    if not stale:
        return StatisticsReport(
            store=storage.root,
            snapshot=snapshot.number,
            committed=False,
            tiles=0,
            changed=0,
            objects=0,
            epochs=0,
            bytes=0,
            seconds=watch.seconds,
        )
    operation_id = OperationId("statistics", snapshot.number, [str(tile) for tile in stale]).value
    tasks = {tile: _task(snapshot, tile, operation_id) for tile in stale}
    runner.check_memory({task.key: _projected_bytes(task) for task in tasks.values()})
    done = Pass(_STATISTICS, snapshot, tasks, operation_id, runner).commit(watch, note)
    return StatisticsReport(
        store=storage.root,
        snapshot=done.committed.number,
        committed=done.committed.done,
        tiles=done.tiles,
        changed=done.changed,
        **done.counts,
        bytes=done.committed.size,
        seconds=watch.seconds,
    )


def stale_tiles(snapshot: SnapshotFiles) -> list[Tile]:
    """Tiles whose objects or detections are newer than their statistics."""
    computed = snapshot.files.by_tile(STATISTICS.name)
    newest: dict[Tile, int] = {}
    for name in _INPUTS:
        for tile, held in snapshot.files.by_tile(name).items():
            if tile is not None:
                newest[tile] = max(newest.get(tile, -1), held.newest)
    stale = [tile for tile, last in newest.items() if tile not in computed or last > computed[tile].newest]
    return sorted(stale, key=lambda tile: tile.fine_range)


def _holding(snapshot: SnapshotFiles, head: SnapshotFiles, tiles: Sequence[Tile]) -> dict[Tile, int]:
    """Tiles with the same objects and detections in a newer snapshot, whose statistics nobody else computed."""
    stale = set(stale_tiles(head))
    same = (tile for tile in tiles if tile in stale and _inputs(head, tile) == _inputs(snapshot, tile))
    return dict.fromkeys(same, head.number + 1)


def _inputs(snapshot: SnapshotFiles, tile: Tile) -> list[list[DataFile]]:
    return [snapshot.of_tile(name, tile) for name in _INPUTS]


_STATISTICS: Final = Derivation(
    "statistics", (STATISTICS.name,), compute_statistics, ("objects", "epochs"), stale_tiles, _holding
)


def _task(snapshot: SnapshotFiles, tile: Tile, operation_id: str) -> StatisticsTask:
    return StatisticsTask(
        f"statistics-N{tile.order}-{tile.npix}",
        snapshot.storage,
        tile,
        tuple(snapshot.of_tile(OBJECTS.name, tile)),
        tuple(snapshot.of_tile(DETECTIONS.name, tile)),
        tuple(snapshot.of_table(EXPOSURES.name)),
        snapshot.number,
        snapshot.number + 1,
        operation_id[:12],
    )


def _projected_bytes(task: StatisticsTask) -> int:
    objects = sum(file.rows for file in task.objects)
    in_flight = min(sum(file.rows for file in task.detections), ROWS_IN_FLIGHT)
    return WORKER_BASE_BYTES + BYTES_PER_OBJECT * objects + BYTES_PER_ROW_IN_FLIGHT * in_flight
