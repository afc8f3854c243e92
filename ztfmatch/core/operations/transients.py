"""Bring the transients up to date: group the orphans of every tile that has new ones, and commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ztfmatch.core.io import log
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch, files_of
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import EXPOSURES, ORPHANS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.shown import Shown
from ztfmatch.core.tasks.staging import clear
from ztfmatch.core.tasks.transients import BYTES_PER_ROW, ROWS_PER_PASS, TransientTask, group_orphans

TABLES = (TRANSIENTS.name, TRANSIENTDATA.name)
"""What the grouping of a tile writes anew."""

FilesOf = Callable[[Tile], Sequence[DataFile]]


@dataclass(frozen=True, kw_only=True)
class TransientsReport(Shown):
    """What the grouping of orphans did."""

    store: str
    snapshot: int
    committed: bool
    """False if all transients were up to date."""
    tiles: int
    transients: int
    detections: int
    undecided: int
    """Groups left out: an unbroken chain of orphans leads beyond the reach of their tile."""
    bytes: int
    seconds: float


def update_transients(storage: Storage, runner: Runner, note: str | None = None) -> TransientsReport:
    """Group the orphans of the tiles that changed since theirs were grouped.

    Raises
    ------
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If another writer committed meanwhile.
    """
    watch = Stopwatch()
    snapshot = open_snapshot(storage)
    stale = ungrouped_tiles(snapshot)
    if not stale:
        return TransientsReport(
            store=storage.root,
            snapshot=snapshot.number,
            committed=False,
            tiles=0,
            transients=0,
            detections=0,
            undecided=0,
            bytes=0,
            seconds=watch.seconds,
        )
    operation_id = OperationId("transients", snapshot.number, [str(tile) for tile in stale]).value
    tasks = transient_tasks(snapshot, stale, lambda tile: snapshot.of_tile(ORPHANS.name, tile), operation_id)
    runner.check_memory({task.key: projected_bytes(task) for task in tasks})
    results = runner.run(Job("transients", group_orphans, tasks, operation_id, storage))
    added = files_of(results)
    names = ("transients", "detections", "undecided")
    counts = {name: sum(result[name] for result in results) for name in names}
    removed = grouped_paths(snapshot, stale)
    change = log.Change("transients", operation_id, {}, counts, added, removed, started=watch.started, note=note)
    commit = log.commit(storage, snapshot.commit, change)
    clear(storage, operation_id)
    size = sum(file.size for file in added)
    return TransientsReport(
        store=storage.root,
        snapshot=commit.number,
        committed=True,
        tiles=len(stale),
        **counts,
        bytes=size,
        seconds=watch.seconds,
    )


def ungrouped_tiles(snapshot: SnapshotFiles) -> list[Tile]:
    """Tiles that have, themselves or next to them, orphans which are newer than their transients."""
    grouped = {tile: held.newest for tile, held in snapshot.files.by_tile(TRANSIENTS.name).items()}
    oldest = min(grouped.values(), default=-1)
    known = set(grouped)
    stale: set[Tile] = set()
    for tile, held in snapshot.files.by_tile(ORPHANS.name).items():
        if tile is not None and (held.newest > oldest or tile not in known):
            near = neighbours(snapshot.tiling, tile)
            stale.update(other for other in near if held.newest > grouped.get(other, -1))
    return sorted(stale, key=lambda tile: tile.fine_range)


def transient_tasks(
    snapshot: SnapshotFiles, tiles: Iterable[Tile], orphans: FilesOf, operation_id: str
) -> list[TransientTask]:
    """One task a tile, of the orphan files that a tile is said to have."""
    tasks = []
    for tile in tiles:
        near = neighbours(snapshot.tiling, tile)
        tasks.append(
            TransientTask(
                f"transients-N{tile.order}-{tile.npix}",
                snapshot.storage,
                tile,
                tuple(near),
                tuple(file for other in near for file in orphans(other)),
                tuple(snapshot.of_table(EXPOSURES.name)),
                snapshot.config.radius_arcsec,
                snapshot.number,
                snapshot.number + 1,
                operation_id[:12],
            )
        )
    return tasks


def grouped_paths(snapshot: SnapshotFiles, tiles: Iterable[Tile]) -> frozenset[str]:
    """Files of the transients of some tiles."""
    return frozenset(file.path for tile in tiles for name in TABLES for file in snapshot.of_tile(name, tile))


def projected_bytes(task: TransientTask) -> int:
    """Peak memory of the worker that runs the task."""
    return WORKER_BASE_BYTES + BYTES_PER_ROW * min(sum(file.rows for file in task.orphans), ROWS_PER_PASS)
