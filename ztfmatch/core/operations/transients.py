"""Update the transients: group the orphans of every tile with new ones, and commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, CommitInfo, Stopwatch, files_of, paths_of
from ztfmatch.core.operations.derived import Derivation, PassReport, bring_up_to_date, with_neighbours
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import ORPHANS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.schema.transients import TRANSIENT_TABLES
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.orphans import BYTES_KEPT, ROWS_PER_PASS
from ztfmatch.core.tasks.transients import (
    BYTES_PER_LINK,
    BYTES_PER_ROW,
    BYTES_PER_TRANSIENT,
    TransientTask,
    group_orphans,
)


@dataclass(frozen=True, kw_only=True)
class TransientsReport(PassReport):
    """What the grouping of orphans did."""

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
    done = bring_up_to_date(_TRANSIENTS, storage, runner, CommitInfo({}, watch.started, note))
    return TransientsReport(**done.fields(watch))


def ungrouped_tiles(snapshot: SnapshotFiles) -> list[Tile]:
    """Tiles that have, themselves or next to them, orphans which are newer than their transients."""
    return _TRANSIENTS.stale(snapshot)


def group_again(
    staged: StagedFiles,
    tiles: Iterable[Tile],
    changed: Mapping[Tile, Collection[Unit]],
    runner: Runner,
    operation_id: str,
) -> tuple[list[DataFile], frozenset[str]]:
    """Group the orphans that there will be; files of transients, and paths of those that they replace.

    Parameters
    ----------
    staged : StagedFiles
        With these orphans.
    tiles : iterable of Tile
        In which an operation changes rows.
    changed : mapping
        Units of each tile whose orphans are not those of the snapshot.
    runner : Runner
    operation_id : str
    """
    snapshot = staged.snapshot
    tiles, part = _TRANSIENTS.affected(snapshot, tiles), operation_id[:12]
    tasks = [
        TransientTask(f"transients-{tile.key}", snapshot, tile, part, staged, _changed_near(snapshot, tile, changed))
        for tile in tiles
    ]
    runner.check_memory({task.key: projected_bytes(sum(file.rows for file in task.orphan_files)) for task in tasks})
    files = files_of(runner.run(Job("transients", group_orphans, tasks, operation_id, snapshot.storage)))
    return files, paths_of(snapshot, tiles, TRANSIENT_TABLES)


def _changed_near(snapshot: SnapshotFiles, tile: Tile, changed: Mapping[Tile, Collection[Unit]]) -> tuple[Unit, ...]:
    return tuple(sorted({unit for near in neighbours(snapshot.tiling, tile) for unit in changed.get(near, ())}))


def projected_bytes(rows: int) -> int:
    """Peak memory of the worker that groups so many orphans."""
    return WORKER_BASE_BYTES + BYTES_PER_ROW * min(rows, ROWS_PER_PASS) + BYTES_KEPT


def _projected_bytes(rows: dict[str, int]) -> int:
    """The same where there are transients, which may stay as they are."""
    kept = BYTES_PER_TRANSIENT * rows[TRANSIENTS.name] + BYTES_PER_LINK * rows[TRANSIENTDATA.name]
    return projected_bytes(rows[ORPHANS.name]) + kept


_TRANSIENTS: Final = Derivation(
    name="transients",
    inputs=(ORPHANS.name,),
    tables=TRANSIENT_TABLES,
    near=with_neighbours,
    function=group_orphans,
    task=TransientTask,
    projected_bytes=_projected_bytes,
    counts=("transients", "detections", "undecided"),
)
