"""Residuals of a snapshot from PS1, summed by tile, before and after corrections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.errors import MetadataError
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS
from ztfmatch.core.survey import Channel
from ztfmatch.core.tasks.staging import clear
from ztfmatch.photometry.io.ps1 import Ps1Catalog
from ztfmatch.photometry.io.skybox import Box
from ztfmatch.photometry.tasks.comparison import Compared, TileInputs
from ztfmatch.photometry.tasks.residuals import (
    BYTES_PER_EXPOSURE,
    BYTES_PER_OBJECT,
    BYTES_PER_ROW_IN_FLIGHT,
    ROWS_IN_FLIGHT,
    ResidualTask,
    bytes_of_sums,
    measure_tile,
)


@dataclass(frozen=True)
class Residuals:
    """Where the sums of a snapshot are, in the store's staging area."""

    snapshot: SnapshotFiles
    operation_id: str
    files: dict[Channel, tuple[str, ...]]
    """Of sums by readout channel and filter."""
    offsets: tuple[str, ...]
    """Files of the exposures' residual zero points."""
    tiles: int
    detections: int
    used: int
    stars: int
    programs: tuple[int, ...]
    """Of the exposures that count; 0 of those of no known program."""


@dataclass(frozen=True)
class Measurement:
    """What is to be measured, and how."""

    ps1: Ps1Catalog
    config: CalibrateConfig
    after_commit: int = -1
    """Only exposures that later commits ingested."""
    dates: tuple[float, ...] = ()
    """MJD at which one slice of time ends and the next begins."""


def measure_residuals(snapshot: SnapshotFiles, what: Measurement, runner: Runner) -> Residuals:
    """Compare all detections of a snapshot with PS1, tile by tile.

    The caller clears what is staged under ``operation_id`` when it has read it.

    Raises
    ------
    MetadataError
        If PS1 covers none of the sky, or nothing in it can be compared.
    JobFailedError
        If a task failed after its retries; a rerun resumes.
    """
    operation_id = _operation_id(snapshot, what)
    tasks = _tasks(snapshot, what, operation_id)
    ledger_rows = snapshot.rows(EXPOSURES.name)
    runner.check_memory({task.key: _projected_bytes(task, ledger_rows) for task in tasks})
    results = runner.run(Job("comparing with PS1", measure_tile, tasks, operation_id, snapshot.storage))
    try:
        check_compared(snapshot, what.ps1, what.config, results, what.after_commit)
    except MetadataError:
        clear(snapshot.storage, operation_id)
        raise
    files: dict[Channel, list[str]] = {}
    for result in results:
        for channel, file in zip(result.channels, result.kept[:-1], strict=True):
            files.setdefault(channel, []).append(file.path)
    total = total_of(results)
    return Residuals(
        snapshot=snapshot,
        operation_id=operation_id,
        files={channel: tuple(paths) for channel, paths in sorted(files.items())},
        offsets=tuple(result.kept[-1].path for result in results),
        tiles=len(tasks),
        detections=total.detections,
        used=total.used,
        stars=total.stars,
        programs=tuple(sorted({number for result in results for number in result.programs})),
    )


def _operation_id(snapshot: SnapshotFiles, what: Measurement) -> str:
    return OperationId("residuals", snapshot.number, what).value


def _tasks(snapshot: SnapshotFiles, what: Measurement, operation_id: str) -> list[ResidualTask]:
    return [
        ResidualTask(**vars(inputs), after_commit=what.after_commit, dates=what.dates)
        for inputs in tile_inputs(snapshot, "residuals", operation_id, what.ps1, what.config)
    ]


def tile_inputs(
    snapshot: SnapshotFiles, name: str, operation_id: str, ps1: Ps1Catalog | None, config: CalibrateConfig
) -> Iterator[TileInputs]:
    """What each tile with detections is compared from, for tasks whose keys begin with a name."""
    for tile in snapshot.tiles_with(DETECTIONS.name):
        yield TileInputs(f"{name}-{tile.key}", snapshot, tile, ps1, config, operation_id)


def _projected_bytes(task: ResidualTask, ledger_rows: int) -> int:
    rows = task.rows(DETECTIONS)
    base = WORKER_BASE_BYTES + bytes_of_sums(task.layout) + BYTES_PER_OBJECT * task.rows(OBJECTS)
    return base + BYTES_PER_ROW_IN_FLIGHT * min(rows, ROWS_IN_FLIGHT) + BYTES_PER_EXPOSURE * min(ledger_rows, rows)


def total_of(results: Sequence[Compared]) -> Compared:
    """Sums over all tiles."""
    columns = zip(*((r.detections, r.used, r.stars, r.ps1) for r in results), strict=True)
    return Compared(*map(sum, columns)) if results else Compared(0, 0, 0, 0)


def _lacking(snapshot: SnapshotFiles, ps1: Ps1Catalog) -> str:
    """Bands that PS1 lacks in the sky of the first tile with objects that it covers; empty if there is none."""
    for tile in snapshot.tiles_with(DETECTIONS.name):
        at = snapshot.object_positions(tile)
        if len(at):
            stars = ps1.read(Box.around(at["ra"].to_numpy(), at["dec"].to_numpy(), 0.0))
            if len(stars.ra):
                return ", ".join(stars.lacking)
    return ""


def check_compared(
    snapshot: SnapshotFiles, ps1: Ps1Catalog, config: CalibrateConfig, results: Sequence[Compared], since: int = -1
) -> None:
    """Say why nothing could be compared with PS1, where nothing was.

    Parameters
    ----------
    snapshot : SnapshotFiles
    ps1 : Ps1Catalog
    config : CalibrateConfig
    results : sequence of Compared
        Of all tiles.
    since : int
        Commit after which exposures count; if not -1, there may be none.

    Raises
    ------
    MetadataError
    """
    total = total_of(results)
    where = f"the sky of {snapshot.storage.root}"
    if not results:
        raise MetadataError(f"{snapshot.storage.root}: has no detections to compare with PS1; append catalogs first")
    if not total.ps1:
        raise MetadataError(f"{ps1.path}: covers none of {where}")
    if not total.stars:
        raise MetadataError(
            f"{ps1.path}: none of its {total.ps1} sources in {where} is an isolated star within "
            f"{config.match_arcsec} arcsec of an object; are its positions ICRS, its stars marked?"
        )
    if not total.used and (bands := _lacking(snapshot, ps1)):
        raise MetadataError(
            f"{ps1.path}: none of its sources in {where} has a magnitude in {bands}; expected g, r and i: the filter's "
            "own band, and both of its colour"
        )
    if not total.used and since < 0:
        of = f" of programs {', '.join(map(str, config.programs))}" if config.programs else ""
        raise MetadataError(
            f"{ps1.path}: no detection{of} passes the cuts ({total.stars} objects have a star): PS1 magnitudes "
            f"{config.bright} to {config.faint} in g, r, i and at least {config.min_epochs} clean "
            f"epochs of exposures with CLRCOEFF are needed"
        )
