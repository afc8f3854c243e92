"""Compact: fewer, larger, sorted files, fresh statistics, tiles split that outgrew their budget. Content stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from ztfmatch.config import CompactConfig
from ztfmatch.errors import CommitConflictError
from ztfmatch.io import log
from ztfmatch.io.parquet import DataFile
from ztfmatch.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.tiling import Tile, Tiling
from ztfmatch.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch, files_of
from ztfmatch.runner import Job, Runner
from ztfmatch.schema import DETECTIONS, EXPOSURES, OBJECTS, ORPHANS, STATISTICS
from ztfmatch.tasks.compact import BYTES_PER_OBJECT, BYTES_PER_ROW_IN_FLIGHT, ROWS_PER_FILE, CompactTask, compact_tile
from ztfmatch.tasks.staging import clear

_TILED: Final = (OBJECTS.name, DETECTIONS.name, ORPHANS.name, STATISTICS.name)


@dataclass(frozen=True)
class CompactReport:
    """What a compaction did, or would do."""

    store: str
    snapshot: int
    committed: bool
    tiles: list[str]
    """Tiles written anew."""
    split: list[str]
    """Those of them that were divided into four."""
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    seconds: float


def compact(
    storage: Storage, config: CompactConfig, runner: Runner, dry_run: bool = False, note: str | None = None
) -> CompactReport:
    """Compact the tiles that need it, in one commit that changes no content.

    Raises
    ------
    JobFailedError
        If a task failed after its retries, or what it wrote reads back otherwise; nothing is committed.
    CommitConflictError
        If another writer changed the same tiles meanwhile.
    """
    watch = Stopwatch()
    config.validate()
    snapshot = open_snapshot(storage)
    plan = _plan(snapshot, config)
    before = [file for tile in plan for name in _TILED for file in snapshot.of_tile(name, tile)]
    split = [str(tile) for tile, targets in plan.items() if len(targets) > 1]
    names = [str(tile) for tile in plan]
    sizes = len(before), sum(file.size for file in before)
    if not plan or dry_run:
        return CompactReport(
            storage.root, snapshot.number, False, names, split, sizes[0], 0, sizes[1], 0, watch.seconds
        )
    operation_id = OperationId("compact", snapshot.number, [asdict(config), names]).value
    tasks = [_task(snapshot, tile, targets, operation_id) for tile, targets in plan.items()]
    runner.check_memory({task.key: _projected_bytes(task) for task in tasks})
    added = files_of(runner.run(Job("compacting", compact_tile, tasks, operation_id, storage)))
    counts = {"tiles": len(plan), "split": len(split), "files_before": len(before), "files_after": len(added)}
    removed = frozenset(file.path for file in before)
    tiling = _split_tiling(snapshot.tiling, plan) if split else None
    change = log.Change(
        "compact", operation_id, asdict(config), counts, added, removed, tiling, started=watch.started, note=note
    )
    commit = _commit(snapshot, change, set(plan))
    clear(storage, operation_id)
    after = sum(file.size for file in added)
    return CompactReport(
        storage.root, commit.number, True, names, split, sizes[0], len(added), sizes[1], after, watch.seconds
    )


def _plan(snapshot: SnapshotFiles, config: CompactConfig) -> dict[Tile, tuple[Tile, ...]]:
    """Tiles to write anew, and what becomes of each: itself, or its children."""
    plan: dict[Tile, tuple[Tile, ...]] = {}
    for tile in snapshot.tiles_with(OBJECTS.name, DETECTIONS.name, ORPHANS.name):
        if _outgrown(snapshot, tile, config):
            plan[tile] = tile.children()
        elif any(len(snapshot.of_tile(name, tile)) >= config.min_files for name in (DETECTIONS.name, ORPHANS.name)):
            plan[tile] = (tile,)
    return plan


def _outgrown(snapshot: SnapshotFiles, tile: Tile, config: CompactConfig) -> bool:
    objects = _rows(snapshot.of_tile(OBJECTS.name, tile))
    rows = _rows(snapshot.of_tile(DETECTIONS.name, tile)) + _rows(snapshot.of_tile(ORPHANS.name, tile))
    too_many = objects > snapshot.config.seeds_per_tile or rows > config.max_rows_per_tile
    return too_many and tile.order < snapshot.config.max_order


def _rows(files: Iterable[DataFile]) -> int:
    return sum(file.rows for file in files)


def _split_tiling(tiling: Tiling, plan: dict[Tile, tuple[Tile, ...]]) -> Tiling:
    return Tiling(tuple(part for tile in tiling.tiles for part in plan.get(tile, (tile,))))


def _task(snapshot: SnapshotFiles, tile: Tile, targets: tuple[Tile, ...], operation_id: str) -> CompactTask:
    return CompactTask(
        f"compact-N{tile.order}-{tile.npix}",
        snapshot.storage,
        tile,
        targets,
        tuple(snapshot.of_tile(OBJECTS.name, tile)),
        tuple(snapshot.of_tile(DETECTIONS.name, tile)),
        tuple(snapshot.of_tile(ORPHANS.name, tile)),
        tuple(snapshot.of_table(EXPOSURES.name)),
        snapshot.number,
        snapshot.number + 1,
        operation_id[:12],
    )


def _projected_bytes(task: CompactTask) -> int:
    in_flight = min(_rows(task.detections) + _rows(task.orphans), ROWS_PER_FILE)
    return WORKER_BASE_BYTES + BYTES_PER_ROW_IN_FLIGHT * in_flight + BYTES_PER_OBJECT * _rows(task.objects)


def _commit(snapshot: SnapshotFiles, change: log.Change, tiles: set[Tile]) -> log.Commit:
    """Commit, on top of what others committed meanwhile if they left these tiles as they were."""
    head = snapshot
    while True:
        try:
            return log.commit(snapshot.storage, head.commit, change)
        except CommitConflictError:
            head = open_snapshot(snapshot.storage)
            if not _untouched(snapshot, head, tiles, split=change.tiling is not None):
                raise


def _untouched(snapshot: SnapshotFiles, head: SnapshotFiles, tiles: set[Tile], split: bool) -> bool:
    """Whether all files that were compacted are live, and none came into a tile that is split."""
    live = {file.path for file in head.files}
    before = {file.path for tile in tiles for name in _TILED for file in snapshot.of_tile(name, tile)}
    if head.commit.tiling != snapshot.commit.tiling or not before <= live:
        return False
    return not split or all(
        file.path in before for tile in tiles for name in _TILED for file in head.of_tile(name, tile)
    )
