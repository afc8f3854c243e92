"""Import matchfiles of the survey: sources become objects, epochs become detections, in one commit.

The sources of a unit that has no reference yet become its generation 0, with the objectids that IRSA gave them.
Where the store has objects of the unit, the file's epochs are matched to those. Exposures that the store has,
whatever they were taken from, are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import Any, Final

import pyarrow as pa

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import BadInputError, ConfigError, StoreNotFoundError
from ztfmatch.core.io import log, storefile
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles, before_first, open_snapshot
from ztfmatch.core.io.sources import Found, find
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.io.urls import is_url
from ztfmatch.core.kernels.seedcounts import SeedCounts
from ztfmatch.core.operations.commit import CommitReport, commit_on_top
from ztfmatch.core.operations.common import (
    CommitInfo,
    OperationId,
    Stopwatch,
    files_of,
    same_files,
    total,
    write_rows,
    write_table,
)
from ztfmatch.core.operations.conservation import with_counts
from ztfmatch.core.operations.ledger import KnownExposures, units_since
from ztfmatch.core.operations.notices import Notice, misnamed, odd_programs, refuse
from ztfmatch.core.operations.quarantine import check_usable, quarantine_change
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import EXPOSURES, MATCHFILES, OBJECTS, REFERENCES
from ztfmatch.core.settings import AtLeastOne, Validated
from ztfmatch.core.tasks.inspect import ODD_PROGRAM, read_grid
from ztfmatch.core.tasks.results import WrittenObjects
from ztfmatch.matchfile.io.hdf5 import h5py
from ztfmatch.matchfile.io.reader import PATTERN
from ztfmatch.matchfile.plan import ImportPlan, import_tasks, projected_bytes, sources_tasks
from ztfmatch.matchfile.sorting import Sorted, checksums, sort_out
from ztfmatch.matchfile.tasks.ingest import ImportedEpochs, import_epochs, write_sources
from ztfmatch.matchfile.tasks.inspect import InspectedMatchfile, InspectMatchfile, inspect_matchfile

ROWS_PER_IMPORT: Final = 3_000_000
"""Epochs that one task takes by default; every task reads its whole file."""


@dataclass(frozen=True)
class ImportConfig(Validated):
    """How matchfiles are ingested.

    Parameters
    ----------
    create : StoreConfig, optional
        Make a store of these settings if there is none.
    strict : bool
        Fail if a file cannot be used, instead of quarantining it, or there would be a warning.
    rows_per_task : int
        Largest number of epochs that one task takes.
    note : str, optional
        Kept in the history.
    """

    create: StoreConfig | None = None
    strict: bool = False
    rows_per_task: AtLeastOne = ROWS_PER_IMPORT
    _: KW_ONLY
    note: str | None = None
    fail_if_empty: bool = False
    """Fail if the places hold no matchfiles."""

    def _validate(self) -> None:
        if self.create is not None:
            self.create.validate()


@dataclass(frozen=True, kw_only=True)
class ImportReport(CommitReport):
    """What an import did."""

    files: int
    imported: int
    """Files with anything new."""
    known: int
    """Files that were imported before, or named twice."""
    quarantined: list[Refused]
    objects: int
    """New ones."""
    exposures: int
    """Ingested."""
    known_exposures: int
    """Of the imported files, passed over: the store has them."""
    matched: int
    orphans: int
    rejected: int
    moved: int
    """Epochs that are of another object than in their file, or of none: its match is not this store's."""
    bytes: int
    seconds: float
    warnings: list[Notice]
    """What may not have been meant so."""


def import_matchfiles(storage: Storage, places: Sequence[str], config: ImportConfig, runner: Runner) -> ImportReport:
    """Ingest matchfiles and commit what is new in them.

    Parameters
    ----------
    storage : Storage
        Of a store or, with ``config.create``, where to make one.
    places : sequence of str
        Files, directories or globs on local disks.
    config : ImportConfig
    runner : Runner

    Raises
    ------
    ConfigError
        If no matchfile is found for a new store; if h5py is not installed.
    StoreNotFoundError
        If there is no store and none is to be made.
    BadInputError
        If none of the files can be used, or ``strict`` and one cannot; if there is none, and ``fail_if_empty``.
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If another writer changed objects or tiles, or ingested some of the same exposures, meanwhile.
    """
    watch = Stopwatch()
    config.validate()
    h5py()
    snapshot = _snapshot(storage, config)
    looked = _looked(places, config, snapshot)
    sources = looked.files
    found, refused = _inspect(sources, runner)
    work = sort_out(snapshot, found, refused, len(sources))
    check_usable("matchfiles", len(sources), work.refused, config.strict)
    exposures = [row for file in work.files for row in file.exposures]
    notices = misnamed(looked) + odd_programs([row for row in exposures if ODD_PROGRAM in row], len(exposures))
    refuse(notices, config.strict)
    plan = _plan(snapshot, work, config)
    results = _run(plan, config, runner)
    arguments = {
        "matchfiles": [str(place) for place in places], "strict": config.strict, "rows_per_task": config.rows_per_task
    }  # fmt: skip
    info = CommitInfo(arguments, watch.started, config.note)
    committed = commit_on_top(
        snapshot, lambda head: _change(plan, head, results, work, info), lambda head: _refusal(plan, head)
    )
    counts = Counter({} if committed.change is None else committed.change.counts)
    return ImportReport(
        **committed.fields,
        files=len(sources),
        imported=len(work.files),
        known=work.known,
        quarantined=work.refused,
        objects=counts["objects"],
        exposures=len(exposures),
        known_exposures=work.known_exposures,
        matched=counts["detections"],
        orphans=counts["orphans"],
        rejected=sum(row["nrejected"] for row in exposures),
        moved=counts["moved"],
        bytes=committed.size,
        seconds=watch.seconds,
        warnings=notices,
    )


def _snapshot(storage: Storage, config: ImportConfig) -> SnapshotFiles:
    """The newest snapshot; that before the first where a store is to be made, or was begun."""
    if config.create is not None and not log.commit_numbers(storage):
        return before_first(storage, config.create)
    try:
        return open_snapshot(storage)
    except StoreNotFoundError as error:
        raise StoreNotFoundError(f"{error}, or of the matchfiles with --create") from None


def _looked(places: Sequence[str], config: ImportConfig, snapshot: SnapshotFiles) -> Found:
    for place in places:
        if is_url(place) and not place.startswith("file://"):
            raise ConfigError(f"{place}: matchfiles are read from local disks only: copy them first")
    looked = find(places, PATTERN)
    if not looked.files and snapshot.number < 0:
        raise ConfigError(f"{looked.none_of(PATTERN, places)}: no store was made")
    if not looked.files and config.fail_if_empty:
        raise BadInputError(looked.none_of(PATTERN, places))
    return looked


def _inspect(sources: Sequence[str], runner: Runner) -> tuple[list[InspectedMatchfile], list[Refused]]:
    tasks = [InspectMatchfile(f"inspect-{i:06d}", source) for i, source in enumerate(sources)]
    results = runner.run(
        Job("reading matchfiles", inspect_matchfile, tasks, "inspect", reads=sources[:1], preparing=True)
    )
    return [file for result in results for file in result.found], [
        file for result in results for file in result.refused
    ]


def _plan(snapshot: SnapshotFiles, work: Sorted, config: ImportConfig) -> ImportPlan:
    """What is to be done; makes the store if there is none."""
    storage, is_new = snapshot.storage, snapshot.number < 0
    inputs: list[Any] = [asdict(snapshot.config)] if is_new else []
    inputs += [[file.matchfile["sha256"], [row["exposureid"] for row in file.exposures]] for file in work.files]
    inputs += [[file.source for file in work.refused], config.rows_per_task]
    operation_id = OperationId("import", None if is_new else snapshot.number, inputs).value
    if is_new:
        storefile.create_store(storage, snapshot.config)
        seeds = SeedCounts()
        for file in work.files:
            seeds.add(*read_grid(file.grid))
        tiling = seeds.tiling(snapshot.config.seeds_per_tile, snapshot.config.max_order)
    else:
        tiling = snapshot.tiling
    return ImportPlan(snapshot, tiling, work.files, operation_id)


@dataclass(frozen=True)
class _Results:
    """What the tasks returned."""

    objects: list[WrittenObjects]
    epochs: list[ImportedEpochs]


def _run(plan: ImportPlan, config: ImportConfig, runner: Runner) -> _Results:
    """Write the new objects, and match the epochs to them and to those that are there."""
    if not plan.files:
        return _Results([], [])
    storage, operation_id = plan.storage, plan.operation_id
    written = runner.run(Job("objects", write_sources, sources_tasks(plan), operation_id, storage, preparing=True))
    tasks = import_tasks(plan, files_of(written), config.rows_per_task)
    runner.check_memory({task.key: projected_bytes(task) for task in tasks})
    return _Results(written, runner.run(Job("epochs", import_epochs, tasks, operation_id, storage)))


def _refusal(plan: ImportPlan, head: SnapshotFiles) -> str | None:
    """Why the work does not hold on a newer snapshot.

    It does if tiles and objects are the same, none of the files and exposures was ingested, and no exposure of a unit
    that gets its first reference: those would have to be matched.
    """
    if plan.snapshot.number < 0:
        return "made the store"
    if head.commit.tiling != plan.snapshot.commit.tiling or not same_files(head, plan.snapshot, OBJECTS, REFERENCES):
        return "changed the objects or tiles"
    if not checksums(head).isdisjoint(file.matchfile["sha256"] for file in plan.files):
        return "ingested some of the same matchfiles"
    opened = {unit_of(file.matchfile) for file in plan.files if file.is_reference}
    if not units_since(plan.snapshot, head).isdisjoint(opened):
        return "ingested exposures of units that would get their first reference"
    rows = [row for file in plan.files for row in file.exposures]
    return "ingested some of the same exposures" if KnownExposures(head, rows).has_any(rows) else None


def _change(
    plan: ImportPlan, head: SnapshotFiles, results: _Results, work: Sorted, info: CommitInfo
) -> log.Change | None:
    """What to commit on top of a snapshot, or as the first; writes the tables about files."""
    number, part = head.number + 1, plan.operation_id[:12]
    rows = [row for file in plan.files for row in file.exposures]
    ledger = with_counts(pa.Table.from_pylist(rows, schema=EXPOSURES.schema), results.epochs, number)
    files = [replace(file, commit=number) for file in files_of([*results.objects, *results.epochs])]
    files += _write_tables(plan, ledger, number)
    quarantine = quarantine_change(head, work.refused, work.accepted)
    files += quarantine.write(plan.storage, number, part)
    if not (files or quarantine.removed):
        return None
    counts = {
        "files": len(plan.files),
        "objects": sum(result.objects for result in results.objects),
        "exposures": ledger.num_rows,
        "detections": total(ledger, "nmatched"),
        "orphans": total(ledger, "norphans"),
        "moved": sum(result.moved for result in results.epochs),
        "quarantined": len(work.refused),
    }
    tiling = plan.tiling if head.number < 0 else None
    return log.Change(
        operation="import",
        operation_id=plan.operation_id,
        arguments=info.arguments,
        counts=counts,
        added=files,
        removed=quarantine.removed,
        tiling=tiling,
        started=info.started,
        note=info.note,
    )


def _write_tables(plan: ImportPlan, ledger: pa.Table, number: int) -> list[DataFile]:
    """Write the tables about files."""
    storage, part = plan.storage, plan.operation_id[:12]
    references = [{**file.reference, "generation": 0, "commit": number} for file in plan.files if file.is_reference]
    matchfiles = [{**file.matchfile, "nimported": len(file.exposures), "commit": number} for file in plan.files]
    return [
        *write_table(storage, EXPOSURES, ledger, number, part),
        *write_rows(storage, REFERENCES, references, number, part),
        *write_rows(storage, MATCHFILES, matchfiles, number, part),
    ]
