"""Compaction: fewer, larger, sorted files; tiles that outgrew their budget are split. The content is unchanged.

By default files are merged in levels (:mod:`ztfmatch.core.tasks.levels`), so that what is written follows what came
since. In full each tile that has files enough is written anew, with fresh statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final

from ztfmatch.core.config import ROWS_PER_FILE, CompactConfig
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.manifest import TileFiles
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, Tiling, in_sky_order
from ztfmatch.core.operations.commit import CommitReport, Committed, commit_on_top
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch, files_of, paths_of
from ztfmatch.core.operations.mergeplan import Merge, merges_due, merges_now
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.runs import bounded_runs
from ztfmatch.core.schema import (
    DETECTIONS,
    OBJECTS,
    ORPHANS,
    STARSTATISTICS,
    STATISTICS,
)
from ztfmatch.core.schema.stars import LINK_TABLES
from ztfmatch.core.schema.transients import TRANSIENT_TABLES
from ztfmatch.core.tasks.compact import (
    BYTES_PER_OBJECT,
    BYTES_PER_ROW_IN_FLIGHT,
    CompactTask,
    compact_tile,
    merge_files,
)
from ztfmatch.core.tasks.ledger import CompactLedgerTask, compact_ledger
from ztfmatch.core.tasks.levels import Rule, runs_due

LEDGER_ROWS: Final = 500_000
"""Most rows of a ledger file that compaction makes."""

_CONTENT: Final = (OBJECTS.name, DETECTIONS.name, ORPHANS.name)
_TILED: Final = (*_CONTENT, STATISTICS.name)
_DIVIDED: Final = (*TRANSIENT_TABLES, *LINK_TABLES, STARSTATISTICS.name)
"""Tables that are written anew where a tile is divided; the last is dropped, and out of date."""
_DATED: Final = (OBJECTS.name, ORPHANS.name, *TRANSIENT_TABLES, *LINK_TABLES)
"""Tables whose files keep the number of the commit that their content is of."""


@dataclass(frozen=True, kw_only=True)
class CompactReport(CommitReport):
    """What a compaction did, or would do."""

    tiles: list[str]
    """Tiles some or all files of which are written anew."""
    split: list[str]
    """Those of them that were divided into four."""
    waiting: int
    """Large merges that are due, but left for the next time, so that not too much is written at once."""
    ledger_files: int
    """Files of the ledger that became fewer."""
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
    plan = plan_compaction(snapshot, config)
    before = _replaced(snapshot, plan)
    added: list[DataFile] = []
    committed = Committed(snapshot, None)
    if before and not dry_run:
        operation_id = OperationId("compact", snapshot.number, [asdict(config), list(before)]).value
        added = _run(snapshot, plan, operation_id, runner)
        change = log.Change(
            operation="compact",
            operation_id=operation_id,
            arguments=asdict(config),
            counts=plan.counts | {"files_before": len(before), "files_after": len(added)},
            added=added,
            removed=frozenset(before),
            tiling=_split_tiling(snapshot.tiling, plan.tiles) if plan.split else None,
            started=watch.started,
            note=note,
        )
        committed = commit_on_top(
            snapshot,
            lambda head: change if head is snapshot else _on_top(head, change, plan),
            lambda head: _refusal(snapshot, head, change, plan),
        )
    return CompactReport(
        **committed.fields,
        tiles=[str(tile) for tile in plan.touched],
        waiting=plan.waiting,
        split=[str(tile) for tile in plan.split],
        ledger_files=len(plan.ledger_files),
        files_before=len(before),
        files_after=len(added),
        bytes_before=sum(before.values()),
        bytes_after=sum(file.size for file in added),
        seconds=watch.seconds,
    )


def plan_compaction(snapshot: SnapshotFiles, config: CompactConfig) -> CompactPlan:
    """What is due in a snapshot."""
    tiles = _tiles(snapshot, config)
    due = () if config.full else merges_due(snapshot, Rule(config.min_files), tiles)
    merges, waiting = merges_now(due, sum(snapshot.size(name) for name in _CONTENT))
    return CompactPlan(tiles, merges, waiting, _ledger_groups(snapshot, config))


def _replaced(snapshot: SnapshotFiles, plan: CompactPlan) -> dict[str, int]:
    """Files of a snapshot that a compaction replaces, and their bytes."""
    tiled = ((plan.tiles, _TILED), (plan.split, _DIVIDED))
    files = [f for tiles, names in tiled for tile in tiles for name in names for f in snapshot.of_tile(name, tile)]
    sizes = {file.path: file.size for file in files + plan.ledger_files}
    return sizes | {path: size for merge in plan.merges for path, size in zip(merge.paths, merge.sizes, strict=True)}


@dataclass(frozen=True)
class CompactPlan:
    """Files to become fewer."""

    tiles: dict[Tile, tuple[Tile, ...]]
    """Tiles to write anew, and what becomes of each: itself, or its children."""
    merges: list[Merge]
    waiting: int
    """Merges left for the next time."""
    ledger: list[tuple[DataFile, ...]]
    """Files of the ledger to be made one."""

    @property
    def touched(self) -> list[Tile]:
        """Tiles some files of which are written anew."""
        return in_sky_order({*self.tiles, *(merge.tile for merge in self.merges)})

    @property
    def split(self) -> list[Tile]:
        """Tiles that are divided."""
        return [tile for tile, targets in self.tiles.items() if len(targets) > 1]

    @property
    def counts(self) -> dict[str, int]:
        """What the history tells."""
        return {"tiles": len(self.touched), "split": len(self.split)}

    @property
    def ledger_files(self) -> list[DataFile]:
        """Files of the ledger that become fewer."""
        return [file for group in self.ledger for file in group]


def _run(snapshot: SnapshotFiles, plan: CompactPlan, operation_id: str, runner: Runner) -> list[DataFile]:
    tasks = [_task(snapshot, tile, targets, operation_id) for tile, targets in plan.tiles.items()]
    merges = [merge.tasks(snapshot, operation_id[:12]) for merge in plan.merges]
    of_merges = zip(merges, plan.merges, strict=True)
    projected = {one.key: WORKER_BASE_BYTES + merge.bytes_in_flight for of, merge in of_merges for one in of}
    runner.check_memory(projected | {task.key: _projected_bytes(task) for task in tasks})
    ledger = [
        CompactLedgerTask(
            f"ledger-{i:04d}", snapshot.storage, files, snapshot.number + 1, f"{operation_id[:12]}-{i:04d}"
        )
        for i, files in enumerate(plan.ledger)
    ]
    then = Job("compacting the ledger", compact_ledger, ledger, operation_id, snapshot.storage)
    tiles = Job("compacting", compact_tile, tasks, operation_id, snapshot.storage, ahead=lambda: [then])
    flat = [task for of in merges for task in of]
    first = Job("merging", merge_files, flat, operation_id, snapshot.storage, ahead=lambda: [tiles, then])
    results = iter(runner.run(first))
    written = [list(itertools.islice(results, len(of))) for of in merges]
    for merge, of in zip(plan.merges, written, strict=True):
        merge.check(of)
    return [*files_of(itertools.chain(*written)), *files_of(runner.run(tiles)), *files_of(runner.run(then))]


def _tiles(snapshot: SnapshotFiles, config: CompactConfig) -> dict[Tile, tuple[Tile, ...]]:
    held = {name: snapshot.files.by_tile(name) for name in (OBJECTS.name, DETECTIONS.name, ORPHANS.name)}
    none = TileFiles(0, 0, -1, 0)
    plan: dict[Tile, tuple[Tile, ...]] = {}
    for tile in snapshot.tiles_with(*held):
        objects, detections, orphans = (of_table.get(tile, none) for of_table in held.values())
        too_many = (
            objects.rows > snapshot.config.seeds_per_tile or detections.rows + orphans.rows > config.max_rows_per_tile
        )
        if too_many and tile.order < snapshot.config.max_order:
            plan[tile] = tile.children()
        elif config.full and any(_scattered(table, config) for table in (detections, orphans)):
            plan[tile] = (tile,)
    return plan


def _scattered(table: TileFiles, config: CompactConfig) -> bool:
    """Whether a tile has so many files of a table more than its rows fill, or so many with the same objects."""
    return max(table.files - table.rows // ROWS_PER_FILE, table.depth) >= config.min_files


def _ledger_groups(snapshot: SnapshotFiles, config: CompactConfig) -> list[tuple[DataFile, ...]]:
    """Small files of the ledger, in order of time, in groups of up to LEDGER_ROWS rows; large ones stay as they are.

    So a file still holds one stretch of time, and an append finds the nights of its exposures without reading others.
    """
    files = sorted(snapshot.ledger, key=lambda file: (file.min_hmjd or 0.0, file.path))
    small = [file for file in files if file.rows < LEDGER_ROWS // 2]
    if not config.full:
        by_rows = sorted(small, key=lambda file: (file.rows, file.path))
        due = set(by_rows[: runs_due([file.rows for file in by_rows], Rule(config.min_files))])
        small = [file for file in small if file in due]
    elif len(small) < config.min_files:
        return []
    return [tuple(group) for group in bounded_runs(small, lambda file: file.rows, LEDGER_ROWS) if len(group) > 1]


def _split_tiling(tiling: Tiling, plan: dict[Tile, tuple[Tile, ...]]) -> Tiling:
    return Tiling(tuple(part for tile in tiling.tiles for part in plan.get(tile, (tile,))))


def _task(snapshot: SnapshotFiles, tile: Tile, targets: tuple[Tile, ...], operation_id: str) -> CompactTask:
    return CompactTask(f"compact-{tile.key}", snapshot, tile, targets, operation_id[:12])


def _projected_bytes(task: CompactTask) -> int:
    return WORKER_BASE_BYTES + bytes_of_tile(*(task.rows(table) for table in (OBJECTS, DETECTIONS, ORPHANS)))


def bytes_of_tile(objects: int, detections: int, orphans: int) -> int:
    """Memory that it takes to write a tile of so many rows anew, beside the worker's own."""
    return BYTES_PER_ROW_IN_FLIGHT * min(detections + orphans, ROWS_PER_FILE) + BYTES_PER_OBJECT * objects


def _refusal(snapshot: SnapshotFiles, head: SnapshotFiles, change: log.Change, plan: CompactPlan) -> str | None:
    """Why a compaction does not fit on a newer snapshot.

    It fits if all files of detections, objects and orphans that were compacted are live, and none of these nor of
    transients or stars was added to a tile that is split. Statistics are replaced whoever made them.
    """
    content = _content(change, snapshot, plan)
    if head.commit.tiling != snapshot.commit.tiling or not content <= _live(head, content):
        return "changed the same tiles"
    if plan.split and not paths_of(head, plan.tiles, _CONTENT) <= content:
        return "added to a tile to be split"
    if not paths_of(head, plan.split, TRANSIENT_TABLES) <= content:
        return "grouped the orphans of a tile to be split"
    return None if paths_of(head, plan.split, LINK_TABLES) <= content else "linked the objects of a tile to be split"


def _live(head: SnapshotFiles, replaced: Iterable[str]) -> set[str]:
    """Files of a snapshot in the tables and tiles that some files are of."""
    places = {paths.place_of(path) for path in replaced}
    held = (
        head.of_table(table) if order < 0 else head.of_tile(table, Tile(order, npix)) for table, order, npix in places
    )
    return {file.path for files in held for file in files}


def _content(change: log.Change, snapshot: SnapshotFiles, plan: CompactPlan) -> frozenset[str]:
    """Files that are replaced, but for statistics."""
    return change.removed - paths_of(snapshot, plan.tiles, (STATISTICS.name,))


def _on_top(head: SnapshotFiles, change: log.Change, plan: CompactPlan) -> log.Change:
    """The change as it must be on a newer snapshot.

    What was merged keeps the number of what it was made of. Where a tile has new objects or detections, its statistics
    are of the snapshot that was compacted: older than these, so the tile is stale.
    """
    derived = (OBJECTS.name, DETECTIONS.name)
    stale = {tile for tile in plan.tiles if not paths_of(head, [tile], derived) <= change.removed}
    merged = {merge.tile for merge in plan.merges}

    def number(file: DataFile) -> int:
        if file.table == STATISTICS.name and file.tile in stale:
            return file.commit - 1
        return file.commit if file.table in _DATED or file.tile in merged else head.number + 1

    added = [replace(file, commit=number(file)) for file in change.added]
    live = change.removed & _live(head, change.removed)
    return replace(change, added=added, removed=live | paths_of(head, plan.tiles, (STATISTICS.name,)))
