"""Link objects of different units into stars in the tiles whose objects changed, and commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, Tiling, in_sky_order, neighbours
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, CommitInfo, Stopwatch
from ztfmatch.core.operations.derived import OWN, Derivation, PassReport, bring_up_to_date, with_neighbours
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import OBJECTS, STARS
from ztfmatch.core.schema.stars import LINK_TABLES
from ztfmatch.core.tasks.link import BYTES_PER_OBJECT, BYTES_PER_OBJECT_NEAR, WrittenStars, link_tile
from ztfmatch.core.tasks.linked import LinkTask


@dataclass(frozen=True, kw_only=True)
class LinkReport(PassReport):
    """What linking did."""

    stars: int
    members: int
    """Objects of these."""
    new: int
    """Stars that got an id."""
    split: int
    merged: int
    lost: int
    """Former stars that became several, became one with others, or are no more."""
    bytes: int
    seconds: float


def link_stars(storage: Storage, runner: Runner, note: str | None = None) -> LinkReport:
    """Link the objects of the tiles whose objects changed since they were linked into stars.

    What a star is tells :mod:`ztfmatch.core.kernels.starlinks`, which keeps its id
    :mod:`ztfmatch.core.kernels.staridentity`.

    Raises
    ------
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If others changed the objects or stars of all of these tiles meanwhile.
    """
    watch = Stopwatch()
    done = bring_up_to_date(_LINKS, storage, runner, CommitInfo({}, watch.started, note))
    return LinkReport(**done.fields(watch))


def unlinked_tiles(snapshot: SnapshotFiles) -> list[Tile]:
    """Tiles that have, themselves or next to them, objects which are newer than their stars."""
    return _LINKS.stale(snapshot)


def relinked_tiles(snapshot: SnapshotFiles, changed: Iterable[Tile]) -> list[Tile]:
    """Tiles whose stars objects of some tiles may have a part in; none of a store without stars."""
    return _LINKS.affected(snapshot, changed) if snapshot.files.has(STARS.name) else []


def link_new_store(staged: StagedFiles, tiling: Tiling, operation_id: str, runner: Runner) -> list[WrittenStars]:
    """Link all objects that a store without a snapshot will have."""
    near = {tile: neighbours(tiling, tile) for tile in _objects(staged)}
    beside = {other for around in near.values() for other in around} - near.keys()
    near |= {tile: neighbours(tiling, tile) for tile in beside}
    tiles = in_sky_order(near)
    return _run(staged, operation_id, runner, [(tile, tuple(near[tile][1:])) for tile in tiles])


def link_again(staged: StagedFiles, tiles: Iterable[Tile], operation_id: str, runner: Runner) -> list[WrittenStars]:
    """Link the objects that there will be in some tiles of a snapshot."""
    return _run(staged, operation_id, runner, [(tile, None) for tile in tiles])


def _run(
    staged: StagedFiles, operation_id: str, runner: Runner, tiles: Sequence[tuple[Tile, tuple[Tile, ...] | None]]
) -> list[WrittenStars]:
    """One task per tile, with the tiles around it where no snapshot has them yet."""
    part = operation_id[:12]
    tasks = [LinkTask(f"link-{tile.key}", staged.snapshot, tile, part, staged, around) for tile, around in tiles]
    rows = _objects(staged)
    runner.check_memory(
        {task.key: projected_bytes(rows[task.tile], sum(rows[tile] for tile in task.near)) for task in tasks}
    )
    return runner.run(Job("stars", link_tile, tasks, operation_id, staged.snapshot.storage))


def _objects(staged: StagedFiles) -> Counter[Tile]:
    """How many objects each tile will have, if any."""
    return Counter({tile: held.rows for tile, held in staged.files.by_tile(OBJECTS.name).items() if tile is not None})


def projected_bytes(own: int, near: int) -> int:
    """Peak memory of the worker that links so many objects, of so many near."""
    return WORKER_BASE_BYTES + BYTES_PER_OBJECT * own + BYTES_PER_OBJECT_NEAR * near


_LINKS: Final = Derivation(
    name="link",
    inputs=(OBJECTS.name,),
    tables=LINK_TABLES,
    near=with_neighbours,
    function=link_tile,
    task=LinkTask,
    projected_bytes=lambda rows: projected_bytes(rows[OWN], rows[OBJECTS.name]),
    counts=("stars", "members", "new", "split", "merged", "lost"),
)
