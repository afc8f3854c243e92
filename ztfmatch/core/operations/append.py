"""Ingest epochal catalogs: inspect, sort out known and bad ones, match by groups of tiles, commit.

Nothing that is stored is rewritten, and no stored detection is read: the cost follows the new catalogs.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.config import AppendConfig
from ztfmatch.core.errors import BadInputError, ConfigError, ZtfmatchError
from ztfmatch.core.io import log
from ztfmatch.core.io.noted import notes
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.rows import codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, find
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.appendreport import AppendReport, merged, together
from ztfmatch.core.operations.auxiliary import UNUSED, Auxiliary, table_notices
from ztfmatch.core.operations.commit import commit_on_top
from ztfmatch.core.operations.commitbatches import portions_of
from ztfmatch.core.operations.common import (
    CommitInfo,
    OperationId,
    Stopwatch,
    abridged_places,
    digest_of,
    files_of,
    same_files,
    total,
    write_table,
)
from ztfmatch.core.operations.conservation import with_counts
from ztfmatch.core.operations.corrections import Applied, current, register_set
from ztfmatch.core.operations.ledger import Sorted, sort_out
from ztfmatch.core.operations.matchplan import match_tasks, projected_bytes
from ztfmatch.core.operations.notices import misnamed, of_orphans, of_programs, refuse, wrapped_positions
from ztfmatch.core.operations.quarantine import check_usable
from ztfmatch.core.operations.replacing import Arriving, Leaving, take_out
from ztfmatch.core.plain import Json
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.runs import chunks
from ztfmatch.core.schema import CORRECTIONS, EXPOSURES, OBJECTS
from ztfmatch.core.survey import unit_of_code
from ztfmatch.core.tasks.inspect import FOUND, INSPECTIONS, InspectTask, inspect_epochal
from ztfmatch.core.tasks.match import match_group
from ztfmatch.core.tasks.results import Matched
from ztfmatch.core.tasks.staging import clear

logger = logging.getLogger("ztfmatch")

CATALOGS_PER_INSPECTION: Final = 32


def append_catalogs(storage: Storage, catalogs: Sequence[str], config: AppendConfig, runner: Runner) -> AppendReport:
    """Ingest epochal catalogs and commit their detections.

    More catalogs than go into one commit are ingested by groups of fields, one after the other. A rerun of one that was
    broken off does not read again what is committed, or was inspected.

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
        If a place is not there, or units of work are to be of more than one commit.
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
    open_snapshot(storage)
    places = find(catalogs, EPOCHAL_PATTERN)
    if not places.files and config.fail_if_empty:
        raise BadInputError(places.none_of(EPOCHAL_PATTERN, catalogs))
    info = CommitInfo({"catalogs": abridged_places(catalogs), **_plain(config)}, watch.started, config.note)
    bulk = _Bulk(storage, config, Auxiliary.read(config), runner, info, len(places.files))
    notices = misnamed(places)
    refuse(notices, config.strict)
    portions = portions_of(places.files, config.catalogs_per_commit)
    if len(portions) > 1 and notes() is not None:
        raise ConfigError(
            f"--units: {len(places.files):,} catalogs are more than the {config.catalogs_per_commit:,} of "
            "--catalogs-per-commit, and units are those of one commit: give fewer, or allow more"
        )
    parts = _in_turn(bulk, portions)
    clear(storage, INSPECTIONS)
    if len(parts) > 1:
        check_usable("catalogs", len(places.files), [file for part in parts for file in part.quarantined], strict=False)
    return replace(together(parts), catalogs=len(places.files), seconds=watch.seconds, warnings=notices + merged(parts))


def _in_turn(bulk: _Bulk, portions: Sequence[Sequence[str]]) -> list[AppendReport]:
    parts: list[AppendReport] = []
    try:
        for portion in portions:
            parts.append(bulk.append(list(portion)))  # noqa: PERF401  # keeps what was appended before a failure
    except ZtfmatchError:
        if parts:
            logger.warning(
                "%d of %d groups of fields are committed, the last as snapshot %d; a rerun goes on with the others",
                len(parts), len(portions), parts[-1].snapshot,
            )  # fmt: skip
        raise
    return parts


@dataclass(frozen=True)
class _Bulk:
    """An append, portion by portion; each is a commit of its own."""

    storage: Storage
    config: AppendConfig
    auxiliary: Auxiliary
    runner: Runner
    info: CommitInfo
    catalogs: int
    """Of all portions."""

    def append(self, sources: Sequence[str]) -> AppendReport:
        """Ingest some catalogs and commit."""
        config, snapshot = self.config, open_snapshot(self.storage)
        found, refused = self._inspect(sources)
        work = sort_out(snapshot, found, refused, config.replace)
        check_usable("catalogs", self.catalogs, work.refused, config.strict)
        applied = current(snapshot) if config.corrections is None else register_set(snapshot, config.corrections)
        notices = table_notices(config, self.auxiliary, sources, found, applied)
        notices += of_programs(work) + wrapped_positions(work.new)
        whole = len(sources) == self.catalogs
        refuse([notice for notice in notices if whole or notice.code != UNUSED], config.strict)
        ledger = self.auxiliary.completed(work.new, applied)
        matching = _Matching(snapshot, _Inspected(found, refused, work, ledger), applied, config)
        made = matching.run(self.runner)
        committed = commit_on_top(
            snapshot, lambda head: matching.change(head, made, self.info), lambda head: matching.refusal(head, made)
        )
        counts = {} if committed.change is None else committed.change.counts
        matched, orphans = counts.get("detections", 0), counts.get("orphans", 0)
        lacking = np.setdiff1d(codes_of_rows(ledger), snapshot.referenced).tolist()
        return AppendReport(
            **committed.fields,
            catalogs=len(sources),
            exposures=ledger.num_rows,
            replaced=work.replaced.num_rows,
            known=work.known,
            quarantined=work.refused,
            rows=total(ledger, "nrows"),
            matched=matched,
            orphans=orphans,
            rejected=total(ledger, "nrejected"),
            without_reference=sorted(str(unit_of_code(code)) for code in lacking),
            tiles=committed.tiles,
            bytes=committed.size,
            seconds=0.0,
            warnings=notices + of_orphans(matched, orphans, snapshot.config.radius_arcsec),
        )

    def _inspect(self, sources: Sequence[str]) -> tuple[pa.Table, list[Refused]]:
        """Rows of FOUND, and the files that are none; what workers found is kept for a rerun, but of few catalogs."""
        staging = self.storage if len(sources) > CATALOGS_PER_INSPECTION else None
        tasks = [
            InspectTask(f"inspect-{i:06d}", tuple(map(self.auxiliary.input, group)), staging)
            for i, group in enumerate(chunks(sources, CATALOGS_PER_INSPECTION))
        ]
        reads = sources[:1]
        job = Job("reading catalogs", inspect_epochal, tasks, INSPECTIONS, reads=reads, preparing=True)
        results = self.runner.run(job)
        found = pa.concat_tables([FOUND.empty_table(), *(result.table for result in results)])
        return found, [file for result in results for file in result.refused]


@dataclass(frozen=True)
class _Inspected:
    """What was found in the catalogs."""

    found: pa.Table
    refused: list[Refused]
    work: Sorted
    """The same, sorted out on the snapshot that was opened."""
    ledger: pa.Table
    """The new exposures, with quality and error model."""


@dataclass(frozen=True)
class _Made:
    """What is to be committed."""

    results: list[Matched]
    leaving: Leaving


@dataclass(frozen=True)
class _Matching:
    """New exposures on the snapshot on which they are matched."""

    snapshot: SnapshotFiles
    inspected: _Inspected
    applied: Applied | None
    config: AppendConfig

    @functools.cached_property
    def operation_id(self) -> str:
        """The same new catalogs, metadata and batches on the same snapshot are the same operation.

        A task's key names a batch by its number only, so what is staged for other batches must not be taken for its
        result.
        """
        work = self.inspected.work
        inputs = [
            digest_of(self.inspected.ledger),
            work.quarantine.rows(self.snapshot.number + 1),
            self.config.rows_per_task,
        ]
        inputs += [work.replaced["exposureid"].to_pylist()] if work.replaced.num_rows else []
        return OperationId("append", self.snapshot.number, inputs).value

    def run(self, runner: Runner) -> _Made:
        """Match, and take out what is replaced."""
        if self._is_idle(self.inspected.work):
            return _Made([], Leaving(self.snapshot))
        sets = ((), ()) if self.applied is None else ((self.applied.file,), self.applied.new_data)
        tasks = match_tasks(self.snapshot, self.inspected.ledger, self.config.rows_per_task, self.operation_id, *sets)
        runner.check_memory({task.key: projected_bytes(task) for task in tasks})
        results = runner.run(Job("matching", match_group, tasks, self.operation_id, self.snapshot.storage))
        replaced = self.inspected.work.replaced
        if not replaced.num_rows:
            return _Made(results, Leaving(self.snapshot))
        rows = with_counts(self.inspected.ledger, results, self.snapshot.number + 1)
        arriving = Arriving(rows, files_of(results))
        return _Made(results, take_out(self.snapshot, replaced, arriving, self.operation_id, runner))

    def _sorted_on(self, head: SnapshotFiles) -> Sorted:
        if head is self.snapshot:
            return self.inspected.work
        return sort_out(head, self.inspected.found, self.inspected.refused, self.config.replace)

    def _is_idle(self, work: Sorted) -> bool:
        return not (self.inspected.ledger.num_rows or work.quarantine)

    def refusal(self, head: SnapshotFiles, made: _Made) -> str | None:
        """Why what was matched does not hold on a newer snapshot."""
        if head.commit.tiling != self.snapshot.commit.tiling or not same_files(head, self.snapshot, OBJECTS):
            return "changed the objects or tiles"
        if not same_files(head, self.snapshot, CORRECTIONS):
            return "changed the store's corrections"
        new, again = (work.new["exposureid"] for work in (self.inspected.work, self._sorted_on(head)))
        if not new.equals(again):
            return "ingested some of the same exposures"
        return made.leaving.refusal(head)

    def change(self, head: SnapshotFiles, made: _Made, info: CommitInfo) -> log.Change | None:
        """What to commit on top of a snapshot; writes the ledger's files."""
        work, number, part = self._sorted_on(head), head.number + 1, self.operation_id[:12]
        if self._is_idle(work):
            return None
        rows = with_counts(self.inspected.ledger, made.results, number)
        files = [replace(file, commit=number) for file in files_of(made.results)] + made.leaving.files_on(head)
        files += write_table(head.storage, EXPOSURES, rows, number, part)
        if self.applied is not None and self.applied.new and rows["corrections"].null_count < rows.num_rows:
            files += [replace(file, commit=number) for file in (self.applied.file, *self.applied.data)]
        files += work.quarantine.write(head.storage, number, part)
        return log.Change(
            "append",
            self.operation_id,
            info.arguments,
            {"exposures": rows.num_rows, "detections": total(rows, "nmatched"), "orphans": total(rows, "norphans"),
             "rejected": total(rows, "nrejected"), "quarantined": len(work.refused),
             **({"replaced": work.replaced.num_rows} if work.replaced.num_rows else {})},
            files,
            work.quarantine.removed | made.leaving.removed_on(head),
            started=info.started,
            note=info.note,
        )  # fmt: skip


def _plain(config: AppendConfig) -> Json:
    values = asdict(config)
    del values["note"], values["fail_if_empty"], values["catalogs_per_commit"]
    return {
        name: [str(path) for path in value]
        if isinstance(value, tuple)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in values.items()
    }
