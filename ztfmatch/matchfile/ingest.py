"""Ingest the survey's matchfiles: their sources as objects, their epochs as detections, in one commit.

The sources of a unit that has no reference yet become its generation 0, with the objectids that IRSA gave them.
Where the store has objects of the unit, the file's epochs are matched to those. Exposures that the store has,
whatever they were taken from, are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import Any, Final

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import BadInputError, CatalogError, CommitConflictError, ConfigError, StoreNotFoundError
from ztfmatch.core.io import log
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.sources import Found, find
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.io.urls import is_url
from ztfmatch.core.operations.append import with_counts
from ztfmatch.core.operations.common import OperationId, Row, Stopwatch, files_of, unit_of, write_rows
from ztfmatch.core.operations.init import tiling_of
from ztfmatch.core.operations.ledger import KnownExposures, units_since
from ztfmatch.core.operations.matchplan import units_with_reference
from ztfmatch.core.operations.notices import Notice, misnamed, odd_programs, refuse
from ztfmatch.core.operations.quarantine import check_any_usable, quarantine_change
from ztfmatch.core.operations.references import refusal
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import EXPOSURES, MATCHFILES, OBJECTS, QUARANTINE, REFERENCES
from ztfmatch.core.shown import Shown
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.staging import clear
from ztfmatch.matchfile.io.hdf5 import h5py
from ztfmatch.matchfile.io.reader import PATTERN, Stamp
from ztfmatch.matchfile.plan import (
    ImportPlan,
    TakenFile,
    import_tasks,
    projected_bytes,
    sources_tasks,
)
from ztfmatch.matchfile.tasks.ingest import import_epochs, write_sources
from ztfmatch.matchfile.tasks.inspect import InspectMatchfile, inspect_matchfile

ROWS_PER_IMPORT: Final = 3_000_000
"""Epochs that one task takes by default; every task reads its whole file."""


@dataclass(frozen=True)
class ImportConfig:
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
    rows_per_task: int = ROWS_PER_IMPORT
    _: KW_ONLY
    note: str | None = None
    fail_if_empty: bool = False
    """Fail if the places hold no matchfiles."""

    def validate(self) -> None:
        """Check every setting.

        Raises
        ------
        ConfigError
        """
        if self.rows_per_task < 1:
            raise ConfigError(f"rows per task {self.rows_per_task} must be at least 1")
        if self.create is not None:
            self.create.validate()


@dataclass(frozen=True, kw_only=True)
class ImportReport(Shown):
    """What an import did."""

    store: str
    snapshot: int
    committed: bool
    """False if there was nothing new."""
    files: int
    imported: int
    """Files with anything new."""
    known: int
    """Files that were imported before, or named twice."""
    quarantined: list[Row]
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
    work = _sort_out(snapshot, found, refused, len(sources))
    if config.strict and work.refused:
        first = work.refused[0]
        raise BadInputError(f"--strict: {len(work.refused)} bad matchfiles; {first['source']}: {first['reason']}")
    check_any_usable("matchfiles", len(sources), work.refused)
    notices = misnamed(looked) + odd_programs([row for file in work.files for row in file.exposures])
    refuse(notices, config.strict)
    done = _Done(snapshot.number if snapshot else -1)
    told = _Told([str(place) for place in places], config, watch.started)
    if work.files or any(_quarantine(snapshot, work)):
        done = _match_and_commit(_plan(storage, snapshot, work, config), work, told, runner)
    return ImportReport(
        store=storage.root,
        snapshot=done.snapshot,
        committed=done.committed,
        files=len(sources),
        imported=len(work.files),
        known=work.known,
        quarantined=work.refused,
        objects=done.objects,
        exposures=sum(len(file.exposures) for file in work.files),
        known_exposures=work.known_exposures,
        matched=done.matched,
        orphans=done.orphans,
        rejected=sum(row["nrejected"] for file in work.files for row in file.exposures),
        moved=done.moved,
        bytes=done.bytes,
        seconds=watch.seconds,
        warnings=notices,
    )


def _snapshot(storage: Storage, config: ImportConfig) -> SnapshotFiles | None:
    """The newest snapshot; None where a store is to be made, or was begun."""
    if config.create is not None and not log.commit_numbers(storage):
        return None
    try:
        return open_snapshot(storage)
    except StoreNotFoundError as error:
        raise StoreNotFoundError(f"{error}, or of the matchfiles with --create") from None


def _looked(places: Sequence[str], config: ImportConfig, snapshot: SnapshotFiles | None) -> Found:
    for place in places:
        if is_url(place) and not place.startswith("file://"):
            raise ConfigError(f"{place}: matchfiles are read from local disks only: copy them first")
    looked = find(places, PATTERN)
    if not looked.files and snapshot is None:
        raise ConfigError(f"{looked.none_of(PATTERN, places)}: no store was made")
    if not looked.files and config.fail_if_empty:
        raise BadInputError(looked.none_of(PATTERN, places))
    return looked


def _inspect(sources: Sequence[str], runner: Runner) -> tuple[list[Row], list[Row]]:
    tasks = [InspectMatchfile(f"inspect-{i:06d}", source) for i, source in enumerate(sources)]
    results = runner.run(Job("reading matchfiles", inspect_matchfile, tasks, "inspect", reads=sources[:1]))
    return [r for x in results for r in x["found"]], [r for x in results for r in x["quarantined"]]


@dataclass(frozen=True)
class _Work:
    """Inspected files, sorted out."""

    files: list[TakenFile]
    known: int
    known_exposures: int
    refused: list[Row]
    accepted: list[Row]
    """Rows of ``matchfiles`` of all usable ones, known or new."""


def _sort_out(snapshot: SnapshotFiles | None, found: Sequence[Row], refused: Sequence[Row], named: int) -> _Work:
    """Which files have anything new, one a unit; by unit."""
    stored = _Stored(snapshot, found)
    files: dict[Unit, TakenFile] = {}
    exposures: dict[int, str] = {}
    quarantined, accepted, passed = list(refused), [], 0
    for entry in sorted(found, key=lambda entry: str(entry["matchfile"]["source"])):
        row, unit = entry["matchfile"], unit_of(entry["matchfile"])
        other = files.get(unit)
        if row["sha256"] in stored.files or (other is not None and other.matchfile["sha256"] == row["sha256"]):
            accepted.append(row)
            continue
        try:
            if other is not None:
                raise CatalogError("duplicate", _second(unit, other))
            taken, known = stored.taken(entry)
            _check_apart(taken, exposures)
        except CatalogError as error:
            quarantined.append(refusal(row, error.code, error.message))
            continue
        files[unit] = taken
        exposures |= {exposure["exposureid"]: row["source"] for exposure in taken.exposures}
        passed += known
        accepted.append(row)
    ordered = sorted(files.values(), key=lambda file: unit_of(file.matchfile))
    return _Work(ordered, named - len(ordered) - len(quarantined), passed, quarantined, accepted)


def _second(unit: Unit, other: TakenFile) -> str:
    return f"a second matchfile of unit {unit}, of which {other.matchfile['source']} is taken; import it after that"


def _check_apart(taken: TakenFile, exposures: dict[int, str]) -> None:
    """Refuse a file with an exposure that another file of the same import has, of another unit."""
    for row in taken.exposures:
        if row["exposureid"] in exposures:
            where = exposures[row["exposureid"]]
            raise CatalogError("conflict", f"exposure {row['exposureid']} is of another unit in {where}")


class _Stored:
    """What the store has of the units and exposures of some files; every table is read once."""

    def __init__(self, snapshot: SnapshotFiles | None, found: Sequence[Row]) -> None:
        self.files: set[str] = set()
        self._units: set[str] = set()
        self._waiting: Counter[Unit] = Counter()
        self._exposures: KnownExposures | None = None
        if snapshot is None:
            return
        self.files = set(snapshot.read(MATCHFILES.name, ["sha256"])["sha256"].to_pylist())
        self._units = units_with_reference(snapshot)
        if any(str(unit_of(entry["matchfile"])) not in self._units for entry in found):
            ledger = snapshot.read(EXPOSURES.name, ["field", "rcid", "fid"])
            for row in ledger.group_by(ledger.column_names).aggregate([([], "count_all")]).to_pylist():
                self._waiting[unit_of(row)] += row["count_all"]
        self._exposures = KnownExposures(snapshot, [row for entry in found for row in entry["exposures"]])

    def taken(self, entry: Row) -> tuple[TakenFile, int]:
        """What is new in a file, and how many of its exposures are not.

        Raises
        ------
        CatalogError
            If it cannot be ingested.
        """
        unit, rows = unit_of(entry["matchfile"]), entry["exposures"]
        new, known = (rows, []) if self._exposures is None else self._exposures.split(rows)
        has_reference = str(unit) in self._units
        if not has_reference and (waiting := self._waiting[unit]):
            reason = (
                f"{waiting} exposures of unit {unit} wait for a reference: give it one with 'ztfmatch rematch' first"
            )
            raise CatalogError("no-reference", reason)
        stamp = Stamp(*entry["stamp"])
        return TakenFile(entry["matchfile"], entry["reference"], stamp, new, not has_reference), len(known)


def _quarantine(snapshot: SnapshotFiles | None, work: _Work) -> tuple[list[Row], frozenset[str]]:
    """Rows to write to the quarantine, and files that they replace."""
    if snapshot is None:
        return list(work.refused), frozenset()
    return quarantine_change(snapshot, work.refused, work.accepted)


def _plan(storage: Storage, snapshot: SnapshotFiles | None, work: _Work, config: ImportConfig) -> ImportPlan:
    """What is to be done; makes the store if there is none."""
    inputs: list[Any] = [
        [file.matchfile["sha256"], [row["exposureid"] for row in file.exposures]] for file in work.files
    ]
    inputs += [[row["source"] for row in work.refused], config.rows_per_task]
    if snapshot is not None:
        operation_id = OperationId("import", snapshot.number, inputs).value
        return ImportPlan(storage, snapshot, snapshot.tiling, snapshot.config.radius_arcsec, work.files, operation_id)
    settings = config.create or StoreConfig()
    operation_id = OperationId("import", None, [asdict(settings), *inputs]).value
    log.create_store(storage, settings)
    tiling = tiling_of([file.reference for file in work.files], settings)
    return ImportPlan(storage, None, tiling, settings.radius_arcsec, work.files, operation_id)


@dataclass(frozen=True)
class _Told:
    """What the history is told."""

    places: list[str]
    config: ImportConfig
    started: float


@dataclass(frozen=True)
class _Done:
    """What was committed."""

    snapshot: int
    committed: bool = False
    objects: int = 0
    matched: int = 0
    orphans: int = 0
    moved: int = 0
    bytes: int = 0


def _match_and_commit(plan: ImportPlan, work: _Work, told: _Told, runner: Runner) -> _Done:
    """Run the tasks, then commit; where others committed first, on top of them if that changes nothing of it."""
    storage, operation_id = plan.storage, plan.operation_id
    written = runner.run(Job("objects", write_sources, sources_tasks(plan), operation_id, storage))
    tasks = import_tasks(plan, files_of(written), told.config.rows_per_task)
    runner.check_memory({task.key: projected_bytes(task) for task in tasks})
    results = runner.run(Job("epochs", import_epochs, tasks, operation_id, storage))
    head = plan.snapshot
    while True:
        change, done = _change(plan, head, _Results(written, results), work, told)
        if head is not None and not (change.added or change.removed):
            clear(storage, operation_id)
            return _Done(head.number)
        try:
            commit = log.commit(storage, head.commit if head else None, change)
        except CommitConflictError:
            head = open_snapshot(storage)
            if not _holds(plan, head):
                raise
            continue
        clear(storage, operation_id)
        return replace(done, snapshot=commit.number)


def _holds(plan: ImportPlan, head: SnapshotFiles) -> bool:
    """Whether the work is right on another snapshot too.

    It is if tiles and objects are the same, none of the files and exposures was ingested, and no exposure of a unit
    that gets its first reference: those would have to be matched.
    """
    if plan.snapshot is None or head.commit.tiling != plan.snapshot.commit.tiling:
        return False
    for table in (OBJECTS.name, REFERENCES.name):
        if set(head.files.paths(table)) != set(plan.snapshot.files.paths(table)):
            return False
    known = set(head.read(MATCHFILES.name, ["sha256"])["sha256"].to_pylist())
    opened = {unit_of(file.matchfile) for file in plan.files if file.is_reference}
    if not known.isdisjoint(file.matchfile["sha256"] for file in plan.files):
        return False
    if not units_since(plan.snapshot, head).isdisjoint(opened):
        return False
    rows = [row for file in plan.files for row in file.exposures]
    return not KnownExposures(head, rows).has_any(rows)


@dataclass(frozen=True)
class _Results:
    """What the tasks returned."""

    objects: list[Row]
    epochs: list[Row]


def _change(
    plan: ImportPlan, head: SnapshotFiles | None, results: _Results, work: _Work, told: _Told
) -> tuple[log.Change, _Done]:
    """What to commit on top of a snapshot, or as the first; writes the tables about files."""
    number, part = 0 if head is None else head.number + 1, plan.operation_id[:12]
    ledger = with_counts([row for file in plan.files for row in file.exposures], results.epochs, number)
    data = [*files_of(results.objects), *files_of(results.epochs)]
    files = [*(replace(file, commit=number) for file in data), *_write_tables(plan, ledger, number)]
    rows, removed = _quarantine(head, work)
    files += write_rows(plan.storage, QUARANTINE, [{"commit": number, **row} for row in rows], number, part)
    done = _Done(
        number,
        True,
        sum(result["objects"] for result in results.objects),
        sum(row["nmatched"] for row in ledger),
        sum(row["norphans"] for row in ledger),
        sum(result["moved"] for result in results.epochs),
        sum(file.size for file in files),
    )
    counts = {
        "files": len(plan.files), "objects": done.objects, "exposures": len(ledger), "detections": done.matched,
        "orphans": done.orphans, "moved": done.moved, "quarantined": len(work.refused),
    }  # fmt: skip
    change = log.Change(
        "import",
        plan.operation_id,
        {"matchfiles": told.places, "strict": told.config.strict, "rows_per_task": told.config.rows_per_task},
        counts,
        files,
        removed,
        tiling=plan.tiling if head is None else None,
        started=told.started,
        note=told.config.note,
    )
    return change, done


def _write_tables(plan: ImportPlan, ledger: list[Row], number: int) -> list[DataFile]:
    """Write the tables about files."""
    storage, part = plan.storage, plan.operation_id[:12]
    names = set(REFERENCES.names)
    references = [
        {**{name: value for name, value in file.reference.items() if name in names}, "generation": 0, "commit": number}
        for file in plan.files
        if file.is_reference
    ]
    matchfiles = [{**file.matchfile, "nimported": len(file.exposures), "commit": number} for file in plan.files]
    return [
        *write_rows(storage, EXPOSURES, ledger, number, part),
        *write_rows(storage, REFERENCES, references, number, part),
        *write_rows(storage, MATCHFILES, matchfiles, number, part),
    ]
