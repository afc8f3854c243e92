"""Update the magnitudes of stars whose objects or epochs changed, and commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, CommitInfo, Stopwatch
from ztfmatch.core.operations.derived import OWN, Derivation, PassReport, bring_up_to_date, with_neighbours
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import DETECTIONS, OFFSETS, STARS, STARSTATISTICS
from ztfmatch.core.tasks.tile import WritingTask
from ztfmatch.stars.tasks.statistics import (
    BYTES_PER_EPOCH,
    BYTES_PER_ROW_IN_FLIGHT,
    BYTES_PER_STAR,
    compute_star_statistics,
)


@dataclass(frozen=True, kw_only=True)
class StarStatisticsReport(PassReport):
    """What was computed."""

    stars: int
    epochs: int
    """Good ones of these."""
    bytes: int
    seconds: float


def update_star_statistics(storage: Storage, runner: Runner, note: str | None = None) -> StarStatisticsReport:
    """Compute the statistics of the stars in tiles whose objects or epochs, or those next to them, are newer.

    Raises
    ------
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If others changed all of these tiles meanwhile.
    ConfigError
        If the store has no stars.
    """
    watch = Stopwatch()
    if not open_snapshot(storage).files.has(STARS.name):
        raise ConfigError(f"{storage.root} has no stars yet: run 'ztfmatch link' first")
    done = bring_up_to_date(_STATISTICS, storage, runner, CommitInfo({}, watch.started, note), stale_stars)
    return StarStatisticsReport(**done.fields(watch))


def stale_stars(snapshot: SnapshotFiles) -> list[Tile]:
    """Tiles with stars whose statistics are not of all their epochs."""
    linked = set(snapshot.tiles_with(STARS.name))
    return [tile for tile in _STATISTICS.stale(snapshot) if tile in linked]


def _projected_bytes(rows: dict[str, int]) -> int:
    in_flight = BYTES_PER_ROW_IN_FLIGHT * min(rows[DETECTIONS.name], ROWS_IN_FLIGHT)
    return WORKER_BASE_BYTES + in_flight + BYTES_PER_EPOCH * rows[OWN] + BYTES_PER_STAR * rows[STARS.name]


_STATISTICS: Final = Derivation(
    name="starstatistics",
    inputs=(DETECTIONS.name, STARS.name),
    tables=(STARSTATISTICS.name,),
    near=with_neighbours,
    function=compute_star_statistics,
    task=WritingTask,
    projected_bytes=_projected_bytes,
    counts=("stars", "epochs"),
    everywhere=(OFFSETS,),
)
