"""Measure the flatness of exposures against PS1 and record it in the ledger, in one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Arrays, Ints
from ztfmatch.core.errors import MetadataError
from ztfmatch.core.io import log
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.rows import UNIT, codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.commit import CommitReport, Committed, commit_on_top
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch, files_of
from ztfmatch.core.operations.ledgerrevision import revise_tasks
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.settings import WithPaths
from ztfmatch.core.survey import Unit, unit_of_code
from ztfmatch.core.tasks.ledger import revise
from ztfmatch.photometry.io.ps1 import Ps1Catalog, open_ps1
from ztfmatch.references.audit import BYTES_PER_ROW_IN_FLIGHT, BYTES_PER_SEED
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.tasks.exposures import (
    DECIDING,
    VALUES_PER_PASS,
    FlatnessTask,
    MeasuredExposures,
    measure_exposures,
    unmeasured,
)
from ztfmatch.references.units import active_references, rows_to_read

OPERATION: Final = "flatness"
_BYTES_PER_VALUE: Final = 40


@dataclass(frozen=True)
class FlatnessInputs(WithPaths):
    """What exposures are compared with, as ``calibrate`` takes it."""

    ps1: Path
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FlatnessReport(CommitReport):
    """What was measured."""

    exposures: int
    decided: int
    """Of which PS1 has enough stars in every bin."""
    bytes: int
    seconds: float


def update_flatness(
    storage: Storage, inputs: FlatnessInputs, settings: ReferenceSettings, runner: Runner, note: str | None = None
) -> FlatnessReport:
    """Measure the exposures that were not measured before: those with a reference, taken from catalogs.

    Raises
    ------
    MetadataError
        If PS1 cannot be read, or has no star of any exposure.
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If others wrote the same rows of the ledger anew meanwhile.
    """
    watch = Stopwatch()
    ps1 = open_ps1(inputs.ps1, inputs.columns)
    snapshot = open_snapshot(storage)
    operation_id = OperationId(OPERATION, snapshot.number, [ps1.stamp, repr(settings.flatness)]).value
    tasks = _tasks(snapshot, ps1, settings)
    if not tasks:
        return _report(Committed(snapshot, None), [], watch)
    runner.check_memory(_projected_bytes(snapshot, tasks))
    job = Job("measuring flatness", measure_exposures, tasks, operation_id, storage, reads=[str(inputs.ps1)])
    done = runner.run(job)
    if not any(n for one in done for n in one.n):
        raise MetadataError(f"{inputs.ps1}: has no star of any of {sum(len(one.n) for one in done):,} exposures")
    ids, values = _columns(done)
    revised = runner.run(
        Job("ledger", revise, revise_tasks(snapshot, ids, values, operation_id), operation_id, storage)
    )
    removed = frozenset(path for one in revised for path in one.removed)
    change = log.Change(
        OPERATION, operation_id, {"ps1": str(inputs.ps1)}, {"exposures": len(ids)}, files_of(revised), removed,
        started=watch.started, note=note,
    )  # fmt: skip

    def still_valid(head: SnapshotFiles) -> str | None:
        gone = removed.difference(head.files.paths(EXPOSURES.name))
        return "wrote the ledger of these exposures anew" if gone else None

    committed = commit_on_top(snapshot, lambda _: change, still_valid)
    return _report(committed, done, watch)


def _tasks(snapshot: SnapshotFiles, ps1: Ps1Catalog, settings: ReferenceSettings) -> list[FlatnessTask]:
    """One task a field and readout channel that has any exposure to be measured."""
    pending, tasks = _pending_units(snapshot), []
    for (number, rcid), group in active_references(snapshot).items():
        own = tuple(one for one in group if one.unit in pending)
        if own:
            tasks.append(FlatnessTask(f"flatness-{number:06d}-{rcid:02d}", own, ps1, settings.flatness))
    return tasks


def _pending_units(snapshot: SnapshotFiles) -> frozenset[Unit]:
    """Units of exposures to be measured; one file of the ledger is held at a time."""
    found: set[int] = set()
    for file in snapshot.ledger:
        rows = unmeasured(read_file_rows(snapshot.storage, file, [*UNIT, *DECIDING]))
        code = codes_of_rows(rows)
        found.update(np.unique(code).tolist())
    return frozenset(map(unit_of_code, found))


def _columns(done: list[MeasuredExposures]) -> tuple[Ints, Arrays]:
    """Exposureids, ascending, and their values by column of the ledger."""
    ids = np.array([value for one in done for value in one.exposureid], np.int64)
    order = np.argsort(ids)
    lists = {"flatdelta": "delta", "flatrms": "rms", "nflat": "n"}
    values = {name: np.array([v for one in done for v in getattr(one, of)], np.float64) for name, of in lists.items()}
    return ids[order], {name: column[order] for name, column in values.items()}


def _projected_bytes(snapshot: SnapshotFiles, tasks: Sequence[FlatnessTask]) -> dict[str, int]:
    seeds, epochs = rows_to_read(snapshot, [task.references for task in tasks])
    read = BYTES_PER_SEED * seeds + BYTES_PER_ROW_IN_FLIGHT * np.minimum(epochs, ROWS_IN_FLIGHT)
    projected = WORKER_BASE_BYTES + read + _BYTES_PER_VALUE * np.minimum(epochs, VALUES_PER_PASS)
    return dict(zip((task.key for task in tasks), projected.tolist(), strict=True))


def _report(committed: Committed, done: list[MeasuredExposures], watch: Stopwatch) -> FlatnessReport:
    return FlatnessReport(
        **committed.fields,
        exposures=sum(len(one.n) for one in done),
        decided=sum(value is not None for one in done for value in one.delta),
        bytes=committed.size,
        seconds=watch.seconds,
    )
