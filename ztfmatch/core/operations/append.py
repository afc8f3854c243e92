"""Ingest epochal catalogs: inspect, sort out what is known or bad, match tile by tile, commit.

Nothing that is stored is rewritten, and no stored detection is read: the cost follows the new catalogs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.config import ROWS_PER_TASK
from ztfmatch.core.errors import BadInputError, CommitConflictError, ConfigError, JobFailedError
from ztfmatch.core.io import log
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, find
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.calibration import ExposureQuality
from ztfmatch.core.operations.auxiliary import Auxiliary, table_notices
from ztfmatch.core.operations.common import (
    OperationId,
    Row,
    Stopwatch,
    chunks,
    files_of,
    unit_of,
    write_rows,
)
from ztfmatch.core.operations.corrections import Applied, current, register_set
from ztfmatch.core.operations.ledger import Sorted, sort_out
from ztfmatch.core.operations.matchplan import match_tasks, projected_bytes, units_with_reference
from ztfmatch.core.operations.notices import Notice, misnamed, of_orphans, of_programs, refuse
from ztfmatch.core.operations.quarantine import check_any_usable
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import CORRECTIONS, EXPOSURES, OBJECTS, QUARANTINE
from ztfmatch.core.schema.ledger import BAD, GOOD, UNKNOWN
from ztfmatch.core.shown import Shown
from ztfmatch.core.tasks.inspect import CatalogInput, InspectTask, inspect_epochal
from ztfmatch.core.tasks.match import match_tile
from ztfmatch.core.tasks.staging import clear

_CATALOGS_PER_INSPECTION: Final = 32


@dataclass(frozen=True)
class AppendConfig:
    """How catalogs are ingested.

    Parameters
    ----------
    exposures : Path, optional
        Table of exposure metadata that headers lack.
    error_models : tuple of Path
        Files of error-model coefficients, one a filter.
    zp_thresholds, quality_rule : Path, optional
        Files that change the quality rule.
    corrections : Path, optional
        Directory of photometric corrections; by default the set that came into the store last, so that a store stays
        uniform night after night.
    strict : bool
        Fail if a catalog cannot be used, instead of quarantining it; and where else there would be a warning of what
        was given: a catalog without a program or a row of metadata, a table of no use, a file that is misnamed.
    fail_if_empty : bool
        Fail if the places hold no catalogs, as a night without any does.
    rows_per_task : int
        Largest number of catalog rows that one task takes.
    note : str, optional
        Kept in the history.
    """

    exposures: Path | None = None
    error_models: tuple[Path, ...] = ()
    zp_thresholds: Path | None = None
    _: KW_ONLY
    quality_rule: Path | None = None
    corrections: Path | None = None
    strict: bool = False
    rows_per_task: int = ROWS_PER_TASK
    note: str | None = None
    fail_if_empty: bool = False

    def validate(self) -> None:
        """Check every setting.

        Raises
        ------
        ConfigError
        """
        if self.rows_per_task < 1:
            raise ConfigError(f"rows per task {self.rows_per_task} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class AppendReport(Shown):
    """What an append did."""

    store: str
    snapshot: int
    committed: bool
    """False if there was nothing new."""
    catalogs: int
    exposures: int
    """Ingested."""
    known: int
    """Already in the store, or named twice."""
    quarantined: list[Row]
    rows: int
    matched: int
    orphans: int
    rejected: int
    without_reference: list[str]
    """Units that had no reference: all their rows are orphans."""
    tiles: int
    bytes: int
    seconds: float
    warnings: list[Notice]
    """What may not have been meant so."""


def append_catalogs(storage: Storage, catalogs: Sequence[str], config: AppendConfig, runner: Runner) -> AppendReport:
    """Ingest epochal catalogs and commit their detections.

    Parameters
    ----------
    storage : Storage
        Of an existing store.
    catalogs : sequence of str
        Files, directories or globs, as paths or URLs.
    config : AppendConfig
    runner : Runner

    Raises
    ------
    ConfigError
        If a place is not there.
    BadInputError
        If none of the catalogs can be used, or ``strict`` and one is bad or there is something to warn of; if there is
        none, and ``fail_if_empty``.
    MetadataError
        If a table beside the catalogs cannot be read, or contradicts itself.
    CorrectionsError
        If the directory of corrections is none, or damaged.
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If another writer changed objects or tiles, or ingested some of the same exposures, meanwhile.
    """
    watch = Stopwatch()
    config.validate()
    snapshot = open_snapshot(storage)
    places = find(catalogs, EPOCHAL_PATTERN)
    sources = places.files
    if not sources and config.fail_if_empty:
        raise BadInputError(places.none_of(EPOCHAL_PATTERN, catalogs))
    auxiliary = Auxiliary.read(config)
    found, refused = _inspect([auxiliary.input(source) for source in sources], runner)
    work = sort_out(snapshot, found, refused)
    if config.strict and work.quarantined:
        first = work.quarantined[0]
        raise BadInputError(f"--strict: {len(work.quarantined)} bad catalogs; {first['source']}: {first['reason']}")
    check_any_usable("catalogs", len(sources), work.quarantined)
    applied = current(snapshot) if config.corrections is None else register_set(snapshot, config.corrections)
    notices = misnamed(places) + table_notices(config, auxiliary, sources, found, applied) + of_programs(work)
    refuse(notices, config.strict)
    ledger = [_completed(row, auxiliary, applied) for row in work.new]
    commit, counts, committed = snapshot.commit, _Counts(), False
    if ledger or work.changes_quarantine:
        taken, plan = _Inspected(found, refused, ledger), _Plan(config, list(catalogs), watch.started, applied)
        commit, counts, committed = _match_and_commit(snapshot, taken, work, plan, runner)
    return AppendReport(
        store=storage.root,
        snapshot=commit.number,
        committed=committed,
        catalogs=len(sources),
        exposures=len(ledger),
        known=work.known,
        quarantined=work.quarantined,
        rows=sum(row["nrows"] for row in ledger),
        matched=counts.matched,
        orphans=counts.orphans,
        rejected=sum(row["nrejected"] for row in ledger),
        without_reference=sorted({str(unit_of(row)) for row in ledger} - units_with_reference(snapshot)),
        tiles=counts.tiles,
        bytes=counts.bytes,
        seconds=watch.seconds,
        warnings=notices + of_orphans(counts.matched, counts.orphans, snapshot.config.radius_arcsec),
    )


@dataclass(frozen=True)
class _Plan:
    config: AppendConfig
    catalogs: list[str]
    started: float
    applied: Applied | None
    operation_id: str = ""


@dataclass(frozen=True)
class _Inspected:
    """What was found in the catalogs."""

    found: list[Row]
    refused: list[Row]
    ledger: list[Row]
    """Rows of the new exposures, with quality and error model."""


@dataclass(frozen=True)
class _Counts:
    matched: int = 0
    orphans: int = 0
    tiles: int = 0
    bytes: int = 0


def _inspect(inputs: Sequence[CatalogInput], runner: Runner) -> tuple[list[Row], list[Row]]:
    tasks = [InspectTask(f"inspect-{i:06d}", group) for i, group in enumerate(chunks(inputs, _CATALOGS_PER_INSPECTION))]
    reads = [catalog.source for catalog in inputs[:1]]
    results = runner.run(Job("reading catalogs", inspect_epochal, tasks, "inspect", reads=reads))
    return [r for x in results for r in x["exposures"]], [r for x in results for r in x["quarantined"]]


def _completed(row: Row, auxiliary: Auxiliary, applied: Applied | None) -> Row:
    """Ledger row with quality, error model and the name of its corrections."""
    quality = ExposureQuality(row["magzp"], row["magzprms"], row["nmatches"], row["airmass"])
    bad = auxiliary.rules[row["fid"]].is_bad(row["rcid"], quality)
    errors = auxiliary.errors.coefficients.get(unit_of(row), (None,) * 4)
    return {
        **row,
        "corrections": None if applied is None else applied.name_for(unit_of(row)),
        "quality": UNKNOWN if bad is None else BAD if bad else GOOD,
        **dict(zip(("errora", "errorb", "errorc", "errord"), errors, strict=True)),
    }


def _match_and_commit(
    snapshot: SnapshotFiles, taken: _Inspected, work: Sorted, plan: _Plan, runner: Runner
) -> tuple[log.Commit, _Counts, bool]:
    """Match, then commit; where other appends came first, on top of them, if they left anything to commit."""
    storage = snapshot.storage
    operation_id = _operation_id(snapshot, taken.ledger, work, plan.config.rows_per_task)
    sets = () if plan.applied is None else (plan.applied.file,)
    tasks = match_tasks(snapshot, taken.ledger, plan.config.rows_per_task, operation_id, sets)
    runner.check_memory({task.key: projected_bytes(task) for task in tasks})
    results = runner.run(Job("matching", match_tile, tasks, operation_id, storage))
    head = snapshot
    while True:
        change, counts = _change(head, taken.ledger, results, work, replace(plan, operation_id=operation_id))
        try:
            commit = log.commit(storage, head.commit, change)
        except CommitConflictError:
            head, work = _on_top(snapshot, taken, work)
            if taken.ledger or work.changes_quarantine:
                continue
            commit, counts = head.commit, _Counts()
        clear(storage, operation_id)
        return commit, counts, head.commit is not commit


def _on_top(snapshot: SnapshotFiles, taken: _Inspected, work: Sorted) -> tuple[SnapshotFiles, Sorted]:
    """The newest snapshot, if what was matched on an older one holds on it too.

    Raises
    ------
    CommitConflictError
        If objects, tiles or corrections changed meanwhile, or another writer ingested some of the same exposures.
    """
    head = open_snapshot(snapshot.storage)
    again = sort_out(head, taken.found, taken.refused)
    same_seeds = _paths(head, OBJECTS.name) == _paths(snapshot, OBJECTS.name)
    if head.commit.tiling != snapshot.commit.tiling or not same_seeds:
        raise CommitConflictError(
            f"{snapshot.storage.root}: another writer changed the objects or tiles (snapshot {head.number}, "
            f"{head.commit.operation}) while this append matched; nothing of it is visible: run it again"
        )
    if _paths(head, CORRECTIONS.name) != _paths(snapshot, CORRECTIONS.name):
        raise CommitConflictError(
            f"{snapshot.storage.root}: another writer changed the store's corrections (snapshot {head.number}, "
            f"{head.commit.operation}) while this append matched; nothing of it is visible: run it again"
        )
    if [row["exposureid"] for row in again.new] != [row["exposureid"] for row in work.new]:
        raise CommitConflictError(
            f"{snapshot.storage.root}: another writer ingested some of the same exposures (snapshot {head.number}); "
            f"nothing of this append is visible: run it again, and it takes the others"
        )
    return head, again


def _paths(snapshot: SnapshotFiles, table: str) -> set[str]:
    return set(snapshot.files.paths(table))


def _change(
    head: SnapshotFiles, ledger: list[Row], results: list[Row], work: Sorted, plan: _Plan
) -> tuple[log.Change, _Counts]:
    """What to commit on top of a snapshot; writes the ledger's files."""
    storage, number, part = head.storage, head.number + 1, plan.operation_id[:12]
    rows = with_counts(ledger, results, number)
    data = [replace(file, commit=number) for file in files_of(results)]
    files = [*data, *write_rows(storage, EXPOSURES, rows, number, part)]
    if plan.applied is not None and plan.applied.new and any(row["corrections"] for row in rows):
        files.append(replace(plan.applied.file, commit=number))
    files += write_rows(storage, QUARANTINE, [{"commit": number, **r} for r in work.quarantine_rows], number, part)
    counts = _Counts(
        sum(row["nmatched"] for row in rows),
        sum(row["norphans"] for row in rows),
        len({(file.order, file.npix) for file in data}),
        sum(file.size for file in files),
    )
    change = log.Change(
        "append",
        plan.operation_id,
        {"catalogs": plan.catalogs, **_plain(plan.config)},
        {"exposures": len(rows), "detections": counts.matched, "orphans": counts.orphans,
         "rejected": sum(row["nrejected"] for row in rows), "quarantined": len(work.quarantined)},
        files,
        work.removed_files,
        started=plan.started,
        note=plan.config.note,
    )  # fmt: skip
    return change, counts


def _plain(config: AppendConfig) -> dict[str, Any]:
    values = asdict(config)
    values.pop("note"), values.pop("fail_if_empty")
    return {
        name: [str(path) for path in value]
        if isinstance(value, tuple)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in values.items()
    }


def _operation_id(snapshot: SnapshotFiles, ledger: list[Row], work: Sorted, rows_per_task: int) -> str:
    """The same new catalogs with the same metadata on the same snapshot, in the same batches, are the same operation.

    A task's key names a batch by its number only, so what is staged for other batches must not be taken for its result.
    """
    return OperationId("append", snapshot.number, [ledger, work.quarantine_rows, rows_per_task]).value


def with_counts(ledger: list[Row], results: list[Row], commit: int) -> list[Row]:
    """Ledger rows with what became of their detections; every row must be accounted for.

    Raises
    ------
    JobFailedError
        If a detection is in no tile or in two: nothing is committed.
    """
    matched: dict[int, int] = {}
    orphans: dict[int, int] = {}
    for result in results:
        for exposureid, n_matched, n_orphans in zip(
            result["exposureid"], result["matched"], result["orphans"], strict=True
        ):
            matched[exposureid] = matched.get(exposureid, 0) + n_matched
            orphans[exposureid] = orphans.get(exposureid, 0) + n_orphans
    rows = []
    for row in ledger:
        n_matched, n_orphans = matched.get(row["exposureid"], 0), orphans.get(row["exposureid"], 0)
        if n_matched + n_orphans + row["nrejected"] != row["nrows"]:
            raise JobFailedError(
                f"{row['source']}: {row['nrows']} rows, but {n_matched} matched + {n_orphans} orphans + "
                f"{row['nrejected']} rejected; nothing was committed. This is a defect of ztfmatch: please report it"
            )
        rows.append({**row, "nmatched": n_matched, "norphans": n_orphans, "commit": commit})
    return rows
