"""Update the statistics of lightcurves in tiles where enough has changed, and commit them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.config import MIN_NEW_PERCENT
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT
from ztfmatch.core.io.snapshot import SnapshotFiles, newest_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, CommitInfo, Stopwatch
from ztfmatch.core.operations.derived import Derivation, PassReport, bring_up_to_date, itself
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import DETECTIONS, OBJECTS, STATISTICS
from ztfmatch.core.tasks.statistics import BYTES_PER_OBJECT, BYTES_PER_ROW_IN_FLIGHT, compute_statistics
from ztfmatch.core.tasks.tile import WritingTask


@dataclass(frozen=True, kw_only=True)
class StatisticsReport(PassReport):
    """What a statistics run did."""

    waiting: int
    """Tiles with fewer new epochs than were asked for: their statistics stay those of an earlier snapshot."""
    objects: int
    """Whose lightcurve changed in these tiles; the rows of the others stay as they are."""
    epochs: int
    """Of these objects."""
    bytes: int
    seconds: float


def update_statistics(
    storage: Storage, runner: Runner, min_new_percent: float = MIN_NEW_PERCENT, note: str | None = None
) -> StatisticsReport:
    """Compute the statistics of the objects that have new epochs, in the tiles that have enough of them.

    What others commit meanwhile takes nothing from it. Tiles that they only added to get the statistics of before, and
    stay stale; those where they replaced what was there are left as they are.

    Parameters
    ----------
    storage : Storage
    runner : Runner
    min_new_percent : float
        Tiles whose epochs have grown by less since their statistics were computed wait; 0 leaves none stale.
    note : str, optional

    Raises
    ------
    ConfigError
        If the percentage is negative or no number.
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If others changed all of these tiles meanwhile.
    """
    if not 0.0 <= min_new_percent < math.inf:
        raise ConfigError(f"min_new_percent {min_new_percent} must be 0 or a positive number of percent")
    watch = Stopwatch()

    def due(snapshot: SnapshotFiles) -> list[Tile]:
        stale = stale_tiles(snapshot)
        if not min_new_percent:
            return stale
        return [tile for tile, percent in new_percent(snapshot, stale).items() if percent >= min_new_percent]

    info = CommitInfo({"min_new_percent": min_new_percent}, watch.started, note)
    done = bring_up_to_date(_STATISTICS, storage, runner, info, due)
    head = newest_snapshot(storage)
    waiting = len(set(stale_tiles(head)).difference(due(head))) if min_new_percent else 0
    return StatisticsReport(**done.fields(watch), waiting=waiting)


def stale_tiles(snapshot: SnapshotFiles) -> list[Tile]:
    """Tiles whose objects or detections are newer than their statistics."""
    return _STATISTICS.stale(snapshot)


def new_percent(snapshot: SnapshotFiles, tiles: Iterable[Tile]) -> dict[Tile, float]:
    """By how much the epochs of tiles have grown since their statistics were computed, in percent.

    Infinite where none were computed, and where objects changed.
    """
    grown: dict[Tile, float] = {}
    for tile in tiles:
        known = min((file.commit for file in snapshot.of_tile(STATISTICS.name, tile)), default=-1)
        epochs = [(file.rows, file.commit > known) for file in snapshot.of_tile(DETECTIONS.name, tile)]
        new, old = (sum(rows for rows, is_new in epochs if is_new is wanted) for wanted in (True, False))
        others = known < 0 or any(file.commit > known for file in snapshot.of_tile(OBJECTS.name, tile))
        grown[tile] = math.inf if others or not old else 100.0 * new / old
    return grown


def projected_bytes(rows: dict[str, int]) -> int:
    """Peak memory of the worker that computes a tile, by its rows of objects and detections."""
    in_flight = min(rows[DETECTIONS.name], ROWS_IN_FLIGHT)
    return WORKER_BASE_BYTES + BYTES_PER_OBJECT * rows[OBJECTS.name] + BYTES_PER_ROW_IN_FLIGHT * in_flight


_STATISTICS: Final = Derivation(
    name="statistics",
    inputs=(OBJECTS.name, DETECTIONS.name),
    tables=(STATISTICS.name,),
    near=itself,
    function=compute_statistics,
    task=WritingTask,
    projected_bytes=projected_bytes,
    counts=("objects", "epochs"),
)
