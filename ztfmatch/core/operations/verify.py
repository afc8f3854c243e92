"""Verify the invariants on a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import StorageError, StoreDamagedError
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.common import OperationId, Stopwatch
from ztfmatch.core.operations.findings import CheckResult, Found
from ztfmatch.core.operations.verifysums import check_sums
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS, ORPHANS, STARS, TABLES, TRANSIENTS
from ztfmatch.core.tasks.checksums import CatalogSumTask, ChecksumTask, compare_catalogs, compare_checksums
from ztfmatch.core.tasks.staging import clear
from ztfmatch.core.tasks.verify import VerifiedTile, VerifyTask, verify_tile
from ztfmatch.core.tasks.verifyepochs import Findings


@dataclass(frozen=True)
class Verification:
    """Of a snapshot, under way."""

    snapshot: SnapshotFiles
    operation_id: str
    staging: Storage | None
    """Where results are staged; nowhere if the store cannot be written to."""
    runner: Runner


Check = Callable[[Verification], Iterable[Findings]]
"""Of what a capability keeps in a store; its names are in ``CHECKS``."""

_FILES_PER_TASK: Final = 16
_CATALOGS_PER_TASK: Final = 512
_NAMED: Final = 3


@dataclass(frozen=True, kw_only=True)
class VerifyReport(Displayable):
    """Outcome of all checks."""

    store: str
    snapshot: int
    passed: bool
    exposures: int
    detections: int
    orphans: int
    checks: list[CheckResult]
    damaged: list[str]
    """Files that are missing or altered; where there are any, no row is checked."""
    seconds: float


def verify_store(
    storage: Storage, runner: Runner, deep: bool = False, number: int | None = None, more: Sequence[Check] = ()
) -> VerifyReport:
    """Check every stored row against the invariants.

    What was checked is staged: after an interruption the same verification goes on, once finished it begins anew. A
    store that cannot be written to is verified too, without that.

    Parameters
    ----------
    storage : Storage
    runner : Runner
    deep : bool
        Whether to compare the bytes of every file with its checksum too, and those of the catalogs that are still
        where they were ingested from with the checksums in their headers.
    number : int, optional
        Snapshot; the newest by default.
    more : sequence of callables, optional
        Checks of capabilities' own tables, made where no file is damaged.

    Raises
    ------
    StoreDamagedError
        If the snapshot's record, manifests or tiling are missing or damaged.
    JobFailedError
        If a file that the snapshot names is missing or damaged, where that was not looked for first (``deep``).
    """
    watch = Stopwatch()
    snapshot = open_snapshot(storage, number)
    operation_id = OperationId("verify", snapshot.number, [snapshot.commit.operation_id, deep]).value
    found = Found()
    damaged = _check_files(snapshot, operation_id, runner, found) if deep else []
    _check_newest(snapshot, found)
    if deep and not damaged:
        tasks, staging = _catalog_tasks(snapshot), _staging(storage, operation_id)
        found.add(runner.run(Job("catalogs", compare_catalogs, tasks, operation_id, staging)))
    if not damaged:
        _check_rows(snapshot, operation_id, runner, found)
        begun = Verification(snapshot, operation_id, _staging(storage, operation_id), runner)
        for check in more:
            found.add(check(begun))
    clear(storage, operation_id)
    checks = found.results()
    return VerifyReport(
        store=storage.root,
        snapshot=snapshot.number,
        passed=all(check.passed for check in checks),
        exposures=snapshot.rows(EXPOSURES.name),
        detections=snapshot.rows(DETECTIONS.name),
        orphans=snapshot.rows(ORPHANS.name),
        checks=checks,
        damaged=damaged,
        seconds=watch.seconds,
    )


def _check_files(snapshot: SnapshotFiles, operation_id: str, runner: Runner, found: Found) -> list[str]:
    """Check the log and the bytes of every file; return what is wrong with each that is damaged."""
    damaged = _check_log(snapshot, found)
    staging = _staging(snapshot.storage, operation_id)
    job = Job(
        "checksums",
        compare_checksums,
        checksum_tasks(snapshot),
        operation_id,
        staging,
        ahead=lambda: [_verifying(snapshot, operation_id)],
    )
    results = runner.run(job)
    found.add(results)
    return damaged + [text for result in results for text in result.damaged]


def checksum_tasks(snapshot: SnapshotFiles, deep: bool = True) -> list[ChecksumTask]:
    """One task a tile, and some for the tables that are not divided over the sky."""
    tiled = [table.name for table in TABLES.values() if table.by_tile]
    tasks = [ChecksumTask(f"checksums-{tile.key}", snapshot, tile, deep=deep) for tile in snapshot.tiles_with(*tiled)]
    for name in (name for name in TABLES if name not in tiled):
        count = snapshot.files.count(name)
        tasks += [
            ChecksumTask(
                key=f"checksums-{name}-{first:06d}",
                snapshot=snapshot,
                tile=None,
                table=name,
                first=first,
                stop=first + _FILES_PER_TASK,
                deep=deep,
            )
            for first in range(0, count, _FILES_PER_TASK)
        ]
    return tasks


def _catalog_tasks(snapshot: SnapshotFiles) -> list[CatalogSumTask]:
    """Some for each file of the ledger."""
    return [
        CatalogSumTask(f"catalogs-{number:06d}-{first:08d}", snapshot, number, first, first + _CATALOGS_PER_TASK)
        for number, file in enumerate(snapshot.ledger)
        for first in range(0, file.rows, _CATALOGS_PER_TASK)
    ]


def _check_log(snapshot: SnapshotFiles, found: Found) -> list[str]:
    damaged = []
    numbers = range(log.commit_numbers(snapshot.storage)[-1] + 1)
    for number in numbers:
        try:
            log.check_store(snapshot.storage, log.read_commit(snapshot.storage, number))
        except StoreDamagedError as error:
            damaged.append(str(error))
    found.note("log", len(numbers), len(damaged), damaged[0] if damaged else None)
    return damaged


def _check_newest(snapshot: SnapshotFiles, found: Found) -> None:
    """Look for files of later snapshots than the newest: nothing else tells that the newest record was lost.

    Those of a job that runs, or was killed, are no sign of it: it has staged results, which a commit clears, or has not
    yet written a manifest, which it does as it commits.
    """
    storage = snapshot.storage
    staged = {path.removeprefix(paths.STAGING)[:12] for path, _ in storage.list(paths.STAGING)}
    known, looked_at = log.commit_numbers(storage)[-1], 0
    made: dict[str, tuple[int, str]] = {}
    for place in (paths.MANIFESTS, paths.DATA):
        for path, _ in storage.list(place):
            looked_at += 1
            if (of := paths.made_for(path)) and of[0] > known:
                made[path] = of
    newest = log.commit_numbers(storage)[-1]  # read again: a job may have committed meanwhile
    after = {path: of for path, of in made.items() if of[0] > newest}
    committed = {of for path, of in after.items() if path.startswith(paths.MANIFESTS) and of[1] not in staged}
    later = sorted(path for path, of in after.items() if of in committed or of[0] > newest + 1)
    names = ", ".join(later[:_NAMED]) + (f" and {len(later) - _NAMED} more" if len(later) > _NAMED else "")
    example = (
        f"{names}: of a later snapshot than the newest, {newest}: {paths.commit(newest + 1)} was lost (or a job was "
        f"killed as it committed); bring it back from a copy, or run the operation again"
    )
    found.note("newest", looked_at, len(later), example if later else None)


def _verifying(snapshot: SnapshotFiles, operation_id: str) -> Job[VerifiedTile]:
    tiles = snapshot.tiles_with(OBJECTS.name, DETECTIONS.name, ORPHANS.name, TRANSIENTS.name, STARS.name)
    staging = _staging(snapshot.storage, operation_id)
    keep = operation_id if staging else ""
    tasks = [VerifyTask(f"verify-{tile.key}", snapshot, tile, keep) for tile in tiles]
    return Job("verifying", verify_tile, tasks, operation_id, staging)


def _check_rows(snapshot: SnapshotFiles, operation_id: str, runner: Runner, found: Found) -> None:
    results = runner.run(_verifying(snapshot, operation_id))
    found.add(results)
    check_sums(snapshot, (result.read_sums(snapshot.storage) for result in results), found)


def _staging(storage: Storage, operation_id: str) -> Storage | None:
    """Where to stage results, so that an interrupted run goes on; nowhere if the store cannot be written to."""
    try:
        storage.put(paths.staged_result(operation_id, "begun"), b"")
    except StorageError:
        return None
    return storage
