"""Rematch: match every stored epoch of units with regenerated references again, in one commit.

Objects of the new generation come in, the old ones retire, detections and orphans are matched to the new seeds, the
ledger has the new counts, and lineage says what became of each object. Other units stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ztfmatch.core.io import log
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.commit import CommitReport, Committed, commit_on_top
from ztfmatch.core.operations.common import (
    CommitInfo,
    OperationId,
    Stopwatch,
    abridged_places,
    files_of,
    paths_of,
    same_files,
    write_rows,
)
from ztfmatch.core.operations.conservation import Tally
from ztfmatch.core.operations.ledger import units_since
from ztfmatch.core.operations.ledgerrevision import recount_tasks
from ztfmatch.core.operations.link import link_again, relinked_tiles
from ztfmatch.core.operations.notices import Notice, wrapped_positions
from ztfmatch.core.operations.quarantine import check_usable, quarantine_change
from ztfmatch.core.operations.references import find_references, inspect_all
from ztfmatch.core.operations.rematchplan import (
    RematchPlan,
    lineage_tasks,
    newest_references,
    plan_rematch,
    projected_bytes,
    rematch_tasks,
    retire_tasks,
)
from ztfmatch.core.operations.transients import group_again
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import (
    EXPOSURES,
    MEMBERS,
    OBJECTS,
    ORPHANS,
    REFERENCES,
    STARS,
    TRANSIENTDATA,
    TRANSIENTS,
)
from ztfmatch.core.schema.lineage import LINEAGE_KINDS
from ztfmatch.core.schema.rows import ReferenceRow
from ztfmatch.core.schema.stars import LINK_TABLES
from ztfmatch.core.schema.transients import TRANSIENT_TABLES
from ztfmatch.core.settings import AtLeastOne, Validated
from ztfmatch.core.survey import MAX_GENERATION, Unit
from ztfmatch.core.tasks.ledger import revise
from ztfmatch.core.tasks.lineage import Traced, trace_unit
from ztfmatch.core.tasks.rematch import MatchedAgain, rematch_tile
from ztfmatch.core.tasks.retire import retire_tile
from ztfmatch.core.tasks.staging import clear

ROWS_PER_REMATCH: Final = 6_000_000
"""Stored detections that one task takes by default: as many as its memory allows, since each reads its files anew."""


@dataclass(frozen=True)
class RematchConfig(Validated):
    """How stored epochs are matched again.

    Parameters
    ----------
    strict : bool
        Fail if a reference cannot be used, instead of quarantining it.
    rows_per_task : int
        Largest number of detections that one task takes; every task reads all files of its tile and units.
    note : str, optional
        Kept in the history.
    """

    strict: bool = False
    rows_per_task: AtLeastOne = ROWS_PER_REMATCH
    note: str | None = None


@dataclass(frozen=True)
class UnitReport:
    """What became of the objects of one unit."""

    unit: str
    generation: int
    """Of the new objects."""
    seeds: int
    same: int
    moved: int
    split: int
    merged: int
    lost: int
    new: int
    epochs: int
    """Of the old objects."""
    epochs_moved: int
    """Those of them that are not an epoch of an object that succeeds theirs."""
    transients: int
    """Old ones that are objects now."""


@dataclass(frozen=True, kw_only=True)
class RematchReport(CommitReport):
    """What a rematch did, or would do."""

    units: list[UnitReport]
    known: int
    """References that the store's objects are from already."""
    quarantined: list[Refused]
    exposures: int
    matched: int
    orphans: int
    tiles: int
    bytes: int
    seconds: float
    warnings: list[Notice]
    """What may not have been meant so."""


def rematch(
    storage: Storage, references: Sequence[str], config: RematchConfig, runner: Runner, dry_run: bool = False
) -> RematchReport:
    """Match the stored epochs of all units that have a new reference again.

    Parameters
    ----------
    storage : Storage
        Of an existing store.
    references : sequence of str
        New reference catalogs of any units: files, directories or globs.
    config : RematchConfig
    runner : Runner
    dry_run : bool
        Only find out what would be done.

    Raises
    ------
    ConfigError
        If no reference is found.
    BadInputError
        If none of the references can be used, or ``strict`` and one is bad.
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If another writer changed the same units or tiles meanwhile.
    """
    watch = Stopwatch()
    config.validate()
    snapshot = open_snapshot(storage)
    sources, notices = find_references(references, config.strict)
    inspected = inspect_all(sources, runner)
    found = inspected.rows.to_pylist()
    notices += wrapped_positions(inspected.rows)
    rows, known, beyond = _sort_out(snapshot, found)
    refused = [*inspected.refused, *beyond]
    check_usable("reference catalogs", len(sources), refused, config.strict)
    operation_id = _operation_id(snapshot, rows, refused, config) + ("-dry" if dry_run else "")
    plan = plan_rematch(snapshot, rows, operation_id)
    work = _match(plan, config, runner, write=not dry_run)
    committed = Committed(snapshot, None)
    if not dry_run:
        tables = _Tables(rows, refused, found)
        arguments = {
            "references": abridged_places(references),
            "strict": config.strict,
            "rows_per_task": config.rows_per_task,
        }
        info = CommitInfo(arguments, watch.started, config.note)
        committed = commit_on_top(
            snapshot,
            lambda head: _change(plan, head, work, tables, info),
            lambda head: _refusal(plan, head, work, tables),
        )
    clear(storage, operation_id)
    return RematchReport(
        **committed.fields,
        units=work.units,
        known=known,
        quarantined=refused,
        exposures=plan.exposures.num_rows,
        matched=int(work.tally.matched.sum()),
        orphans=int(work.tally.orphans.sum()),
        tiles=len(plan.tiles),
        bytes=committed.size,
        seconds=watch.seconds,
        warnings=notices,
    )


def _sort_out(snapshot: SnapshotFiles, found: Sequence[ReferenceRow]) -> tuple[list[ReferenceRow], int, list[Refused]]:
    """Rows of the new references with their generations; how many are known; and those refused."""
    newest = newest_references(snapshot, [unit_of(row) for row in found])
    rows: list[ReferenceRow] = []
    refused: list[Refused] = []
    known = 0
    for row in found:
        last = newest.get(unit_of(row))
        generation = 0 if last is None else last["generation"] + 1
        if last is not None and last["sha256"] == row["sha256"]:
            known += 1
        elif generation > MAX_GENERATION:
            reason = f"unit {unit_of(row)} is at generation {MAX_GENERATION}, the last that an objectid can tell"
            refused.append(Refused.read(row, "generations", reason))
        else:
            rows.append({**row, "generation": generation})
    return rows, known, refused


def _operation_id(
    snapshot: SnapshotFiles, rows: Sequence[ReferenceRow], refused: Sequence[Refused], config: RematchConfig
) -> str:
    """The same references on the same snapshot, in the same batches, are the same operation, which resumes."""
    inputs = [[row["sha256"] for row in rows], [file.source for file in refused], config.rows_per_task]
    return OperationId("rematch", snapshot.number, inputs).value


@dataclass
class _Work:
    """What the tasks did."""

    units: list[UnitReport]
    tally: Tally
    files: list[DataFile]
    removed: frozenset[str]


def _match(plan: RematchPlan, config: RematchConfig, runner: Runner, write: bool) -> _Work:
    """Run all tasks of the plan; without ``write`` those that find out what would become of the objects."""
    storage, operation_id = plan.snapshot.storage, plan.operation_id
    matching = rematch_tasks(plan, config.rows_per_task, write)
    runner.check_memory({task.key: projected_bytes(task) for task in matching})
    retiring = Job("retiring objects", retire_tile, retire_tasks(plan) if write else (), operation_id, storage)
    again = Job("matching again", rematch_tile, matching, operation_id, storage, ahead=lambda: [retiring])
    tally = Tally(plan.exposures)
    files = [file for files in runner.run_and(lambda result: _tallied(tally, result), again) for file in files]
    tally.check()
    work = _Work([], tally, files, frozenset())
    regrouped: list[DataFile] = []
    if write:
        retired = runner.run(retiring)
        ledger = runner.run(Job("ledger", revise, recount_tasks(plan, work.tally), operation_id, storage))
        work.files += files_of(retired) + files_of(ledger)
        work.removed = frozenset(path for result in (*retired, *ledger) for path in result.removed)
        regrouped = _regroup(plan, work, runner)
    tracing = lineage_tasks(plan, matching, StagedFiles.write(plan.snapshot, operation_id, regrouped), write)
    lineage = runner.run(Job("lineage", trace_unit, tracing, operation_id, storage))
    work.units = _unit_reports(plan, lineage)
    work.files += files_of(lineage)
    if write:
        _relink(plan, work, runner)
    return work


def _tallied(tally: Tally, result: MatchedAgain) -> list[DataFile]:
    """Files of a result, whose counts are added up: a survey's would need a gigabyte."""
    tally.add(result.counts)
    return result.files


def _regroup(plan: RematchPlan, work: _Work, runner: Runner) -> list[DataFile]:
    """Group the orphans that there will be into transients; returns the files of these."""
    orphans = [file for file in work.files if file.table in (ORPHANS.name, EXPOSURES.name)]
    staged = StagedFiles.write(plan.snapshot, plan.operation_id, orphans, work.removed)
    files, replaced = group_again(staged, plan.tiles, plan.tiles, runner, plan.operation_id)
    work.files += files
    work.removed |= replaced
    return files


def _relink(plan: RematchPlan, work: _Work, runner: Runner) -> None:
    """Link the objects that there will be into stars, where those of the snapshot are."""
    before = plan.snapshot
    tiles = relinked_tiles(before, plan.tiles)
    if not tiles:
        return
    staged = StagedFiles.write(before, plan.operation_id, work.files, work.removed)
    work.files += files_of(link_again(staged, tiles, plan.operation_id, runner))
    work.removed |= paths_of(before, tiles, LINK_TABLES)


def _unit_reports(plan: RematchPlan, lineage: Sequence[Traced]) -> list[UnitReport]:
    return [
        UnitReport(
            traced.unit, reference.generation, reference.nrows, **traced.kinds,
            epochs=traced.epochs, epochs_moved=traced.moved, transients=traced.transients,
        )
        for reference, traced in zip(plan.references.values(), lineage, strict=True)
    ]  # fmt: skip


@dataclass(frozen=True)
class _Tables:
    """Rows of the tables about files."""

    references: list[ReferenceRow]
    refused: list[Refused]
    found: list[ReferenceRow]
    """Usable references, known or new."""


def _change(
    plan: RematchPlan, head: SnapshotFiles, work: _Work, tables: _Tables, info: CommitInfo
) -> log.Change | None:
    """What to commit on top of a snapshot; writes the tables about files."""
    storage, number, part = head.storage, head.number + 1, plan.operation_id[:12]
    files = [replace(file, commit=_commit_of(file, plan, head)) for file in work.files]
    files += write_rows(storage, REFERENCES, [{**row, "commit": number} for row in tables.references], number, part)
    quarantine = quarantine_change(head, tables.refused, tables.found)
    files += quarantine.write(storage, number, part)
    removed = work.removed | quarantine.removed
    if not (files or removed):
        return None
    kinds = {kind: sum(getattr(unit, kind) for unit in work.units) for kind in LINEAGE_KINDS}
    counts = {"references": len(tables.references), "exposures": plan.exposures.num_rows, **kinds}
    counts |= {"epochs_moved": sum(unit.epochs_moved for unit in work.units)}
    return log.Change(
        "rematch", plan.operation_id, info.arguments, counts, files, removed, started=info.started, note=info.note
    )


def _commit_of(file: DataFile, plan: RematchPlan, head: SnapshotFiles) -> int:
    """Number of the commit to be; of transients or stars that do not know all that ``head`` has, of their snapshot."""
    if head is plan.snapshot:
        return head.number + 1
    unaware = file.table in LINK_TABLES and not same_files(head, plan.snapshot, OBJECTS)
    return plan.snapshot.number if unaware or file.table in TRANSIENT_TABLES else head.number + 1


def _refusal(plan: RematchPlan, head: SnapshotFiles, work: _Work, tables: _Tables) -> str | None:
    """Why the work does not hold on a newer snapshot.

    It does if all files that it replaces are live, and nobody changed the references of these units or any transients
    or stars, or ingested exposures of these units.
    """
    before = plan.snapshot
    if head.commit.tiling != before.commit.tiling or not work.removed <= set(head.files.paths()):
        return "changed the tiles, or files that would be replaced"
    if not same_files(head, before, TRANSIENTS, TRANSIENTDATA):
        return "changed the transients"
    if not same_files(head, before, STARS, MEMBERS):
        return "changed the stars"
    units = {unit_of(row) for row in tables.found}
    if _generations(head, units) != _generations(before, units):
        return "changed the references of these units"
    return None if units_since(before, head).isdisjoint(plan.references) else "ingested exposures of these units"


def _generations(snapshot: SnapshotFiles, units: set[Unit]) -> dict[Unit, tuple[int, str]]:
    """Generation and checksum of the reference of some units, known ones as well, which must stay known."""
    newest = newest_references(snapshot, units)
    return {unit: (row["generation"], row["sha256"]) for unit, row in newest.items()}
