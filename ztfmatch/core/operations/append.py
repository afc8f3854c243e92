"""Ingest epochal catalogs: inspect, sort out what is known or bad, match group by group of tiles, commit.

Nothing that is stored is rewritten, and no stored detection is read: the cost follows the new catalogs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.config import ROWS_PER_TASK
from ztfmatch.core.errors import BadInputError, ConfigError
from ztfmatch.core.io import log
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, find
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.calibration import ExposureQuality
from ztfmatch.core.operations.auxiliary import Auxiliary, table_notices
from ztfmatch.core.operations.committing import commit_on_top
from ztfmatch.core.operations.common import (
    OperationId,
    Row,
    Stopwatch,
    Told,
    chunks,
    files_of,
    same_files,
    told_places,
    unit_of,
    write_rows,
)
from ztfmatch.core.operations.conservation import with_counts
from ztfmatch.core.operations.corrections import Applied, current, register_set
from ztfmatch.core.operations.ledger import Sorted, sort_out
from ztfmatch.core.operations.matchplan import match_tasks, projected_bytes, units_with_reference
from ztfmatch.core.operations.notices import Notice, misnamed, of_orphans, of_programs, refuse
from ztfmatch.core.operations.quarantine import check_usable
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import CORRECTIONS, EXPOSURES, OBJECTS, QUARANTINE
from ztfmatch.core.schema.ledger import BAD, GOOD, UNKNOWN
from ztfmatch.core.shown import Shown
from ztfmatch.core.tasks.inspect import CatalogInput, InspectTask, inspect_epochal
from ztfmatch.core.tasks.match import match_group
from ztfmatch.core.tasks.results import Matched

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
        Largest number of rows that one task takes in its area of the sky.
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
    check_usable("catalogs", len(sources), work.quarantined, config.strict)
    applied = current(snapshot) if config.corrections is None else register_set(snapshot, config.corrections)
    notices = misnamed(places) + table_notices(config, auxiliary, sources, found, applied) + of_programs(work)
    refuse(notices, config.strict)
    ledger = [_completed(row, auxiliary, applied) for row in work.new]
    matching = _Matching(snapshot, _Inspected(found, refused, work, ledger), applied, config)
    results = matching.run(runner)
    told = Told({"catalogs": told_places(catalogs), **_plain(config)}, watch.started, config.note)
    committed = commit_on_top(snapshot, lambda head: matching.change(head, results, told), matching.refusal)
    counts = {} if committed.change is None else committed.change.counts
    matched, orphans = counts.get("detections", 0), counts.get("orphans", 0)
    return AppendReport(
        store=storage.root,
        snapshot=committed.number,
        committed=committed.done,
        catalogs=len(sources),
        exposures=len(ledger),
        known=work.known,
        quarantined=work.quarantined,
        rows=sum(row["nrows"] for row in ledger),
        matched=matched,
        orphans=orphans,
        rejected=sum(row["nrejected"] for row in ledger),
        without_reference=sorted({str(unit_of(row)) for row in ledger} - units_with_reference(snapshot).keys()),
        tiles=committed.tiles,
        bytes=committed.size,
        seconds=watch.seconds,
        warnings=notices + of_orphans(matched, orphans, snapshot.config.radius_arcsec),
    )


def _inspect(inputs: Sequence[CatalogInput], runner: Runner) -> tuple[list[Row], list[Row]]:
    tasks = [InspectTask(f"inspect-{i:06d}", group) for i, group in enumerate(chunks(inputs, _CATALOGS_PER_INSPECTION))]
    reads = [catalog.source for catalog in inputs[:1]]
    results = runner.run(Job("reading catalogs", inspect_epochal, tasks, "inspect", reads=reads, preparing=True))
    return [row for result in results for row in result.usable], [row for r in results for row in r.quarantined]


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


@dataclass(frozen=True)
class _Inspected:
    """What was found in the catalogs."""

    found: list[Row]
    refused: list[Row]
    work: Sorted
    """The same, sorted out on the snapshot that was opened."""
    ledger: list[Row]
    """Rows of the new exposures, with quality and error model."""


@dataclass(frozen=True)
class _Matching:
    """New exposures on the snapshot on which they are matched."""

    snapshot: SnapshotFiles
    taken: _Inspected
    applied: Applied | None
    config: AppendConfig

    @functools.cached_property
    def operation_id(self) -> str:
        """The same new catalogs, metadata and batches on the same snapshot are the same operation.

        A task's key names a batch by its number only, so what is staged for other batches must not be taken for its
        result.
        """
        inputs = [self.taken.ledger, self.taken.work.quarantine_rows, self.config.rows_per_task]
        return OperationId("append", self.snapshot.number, inputs).value

    def run(self, runner: Runner) -> list[Matched]:
        """Match."""
        if self._is_idle(self.taken.work):
            return []
        sets = () if self.applied is None else (self.applied.file,)
        tasks = match_tasks(self.snapshot, self.taken.ledger, self.config.rows_per_task, self.operation_id, sets)
        runner.check_memory({task.key: projected_bytes(task) for task in tasks})
        return runner.run(Job("matching", match_group, tasks, self.operation_id, self.snapshot.storage))

    def _sorted_on(self, head: SnapshotFiles) -> Sorted:
        if head is self.snapshot:
            return self.taken.work
        return sort_out(head, self.taken.found, self.taken.refused)

    def _is_idle(self, work: Sorted) -> bool:
        return not (self.taken.ledger or work.changes_quarantine)

    def refusal(self, head: SnapshotFiles) -> str | None:
        """Why what was matched does not hold on a newer snapshot."""
        if head.commit.tiling != self.snapshot.commit.tiling or not same_files(head, self.snapshot, OBJECTS):
            return "changed the objects or tiles"
        if not same_files(head, self.snapshot, CORRECTIONS):
            return "changed the store's corrections"
        new, again = ([row["exposureid"] for row in work.new] for work in (self.taken.work, self._sorted_on(head)))
        return None if new == again else "ingested some of the same exposures"

    def change(self, head: SnapshotFiles, results: list[Matched], told: Told) -> log.Change | None:
        """What to commit on top of a snapshot; writes the ledger's files."""
        work, number, part = self._sorted_on(head), head.number + 1, self.operation_id[:12]
        if self._is_idle(work):
            return None
        rows = with_counts(self.taken.ledger, results, number)
        files = [replace(file, commit=number) for file in files_of(results)]
        files += write_rows(head.storage, EXPOSURES, rows, number, part)
        if self.applied is not None and self.applied.new and any(row["corrections"] for row in rows):
            files.append(replace(self.applied.file, commit=number))
        refused = [{"commit": number, **row} for row in work.quarantine_rows]
        files += write_rows(head.storage, QUARANTINE, refused, number, part)
        return log.Change(
            "append",
            self.operation_id,
            told.arguments,
            {"exposures": len(rows), "detections": sum(row["nmatched"] for row in rows),
             "orphans": sum(row["norphans"] for row in rows), "rejected": sum(row["nrejected"] for row in rows),
             "quarantined": len(work.quarantined)},
            files,
            work.removed_files,
            started=told.started,
            note=told.note,
        )  # fmt: skip


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
