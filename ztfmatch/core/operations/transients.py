"""Bring the transients up to date: group the orphans of every tile that has new ones, and commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, Tiling, neighbours
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch, paths_of
from ztfmatch.core.operations.derived import Derivation, Pass
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import EXPOSURES, ORPHANS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.shown import Shown
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
    changed: int
    """Tiles that others changed meanwhile: their transients are stale, run it again."""
    transients: int
    detections: int
    undecided: int
    """Groups left out: an unbroken chain of orphans leads beyond the reach of their tile."""
    bytes: int
    seconds: float


def update_transients(storage: Storage, runner: Runner, note: str | None = None) -> TransientsReport:
    """Group the orphans of the tiles that changed since theirs were grouped.

    Orphans that others add meanwhile take nothing from it: it is committed on top of them, and their tiles stay stale.
    Where others matched orphans again, rolled them back or wrote them anew, the tiles around are left as they are.

    Raises
    ------
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If others changed the orphans or transients of all of these tiles meanwhile.
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
            changed=0,
            transients=0,
            detections=0,
            undecided=0,
            bytes=0,
            seconds=watch.seconds,
        )
    operation_id = OperationId("transients", snapshot.number, [str(tile) for tile in stale]).value
    tasks = transient_tasks(snapshot, stale, lambda tile: snapshot.of_tile(ORPHANS.name, tile), operation_id)
    runner.check_memory({task.key: projected_bytes(task) for task in tasks})
    done = Pass(_TRANSIENTS, snapshot, dict(zip(stale, tasks, strict=True)), operation_id, runner).commit(watch, note)
    return TransientsReport(
        store=storage.root,
        snapshot=done.committed.number,
        committed=done.committed.done,
        tiles=done.tiles,
        changed=done.changed,
        **done.counts,
        bytes=done.committed.size,
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


def _holding(snapshot: SnapshotFiles, head: SnapshotFiles, tiles: Sequence[Tile]) -> dict[Tile, int]:
    """Tiles whose groups are right on a newer snapshot, of the commit to be or, with new orphans since, of their own.

    Tiles side by side hold together or not at all. Of a transient at their border one might else have what it was, the
    other what it is, with some detections in both.
    """
    there = set(head.tiling.tiles)
    numbers = {tile: _number(snapshot, head, tile, there) for tile in tiles}
    held: dict[Tile, int] = {}
    for patch in _patches(snapshot.tiling, tiles):
        of_patch = {tile: number for tile in patch if (number := numbers[tile]) is not None}
        held |= of_patch if len(of_patch) == len(patch) else {}
    return {tile: held[tile] for tile in tiles if tile in held}


def _number(snapshot: SnapshotFiles, head: SnapshotFiles, tile: Tile, there: set[Tile]) -> int | None:
    """Number of the commit that a tile's groups are of; None if they are wrong on the newer snapshot."""
    near = neighbours(snapshot.tiling, tile)
    before, after = ({file for other in near for file in of.of_tile(ORPHANS.name, other)} for of in (snapshot, head))
    added = after - before
    # A rollback can bring back orphans that are older than the snapshot: that number would not make the tile stale.
    late = all(file.commit > snapshot.number for file in added)
    if not (there.issuperset(near) and before <= after and late):
        return None
    if paths_of(snapshot, [tile], TABLES) != paths_of(head, [tile], TABLES):
        return None
    return snapshot.number if added else head.number + 1


def _patches(tiling: Tiling, tiles: Iterable[Tile]) -> Iterator[list[Tile]]:
    """Tiles in groups, each of those that neighbours connect."""
    left = set(tiles)
    while left:
        patch = with_neighbours(tiling, [left.pop()], left)
        left.difference_update(patch)
        yield patch


def with_neighbours(tiling: Tiling, tiles: Iterable[Tile], among: Iterable[Tile]) -> list[Tile]:
    """Tiles, and those of others that they touch, that these touch, and so on."""
    found = list(tiles)
    left = set(among).difference(found)
    for tile in found:  # which grows as it is gone through
        near = left.intersection(neighbours(tiling, tile))
        left -= near
        found += near
    return found


_TRANSIENTS: Final = Derivation(
    "transients", TABLES, group_orphans, ("transients", "detections", "undecided"), ungrouped_tiles, _holding
)


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


def projected_bytes(task: TransientTask) -> int:
    """Peak memory of the worker that runs the task."""
    return WORKER_BASE_BYTES + BYTES_PER_ROW * min(sum(file.rows for file in task.orphans), ROWS_PER_PASS)
