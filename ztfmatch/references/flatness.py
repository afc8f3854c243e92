"""Measure the flatness of exposures against PS1 and keep it in the ledger, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from ztfmatch.core.errors import MetadataError
from ztfmatch.core.io import log
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.committing import commit_on_top
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Row, Stopwatch, files_of
from ztfmatch.core.operations.recounts import revise_tasks
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.schema.ledger import CATALOG
from ztfmatch.core.shown import Shown
from ztfmatch.core.tasks.ledger import revise
from ztfmatch.photometry.io.ps1 import Ps1Catalog, open_ps1
from ztfmatch.references.audit import BYTES_PER_ROW_IN_FLIGHT, BYTES_PER_SEED
from ztfmatch.references.kernels.flatness import Ints
from ztfmatch.references.kernels.selection import unit_codes
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.tasks.exposures import (
    VALUES_PER_PASS,
    FlatnessTask,
    MeasuredExposures,
    UnitExposures,
    measure_exposures,
)
from ztfmatch.references.units import active_references, detections_since, stored_reference

OPERATION: Final = "flatness"
_COLUMNS: Final = ["exposureid", "field", "rcid", "fid", "magzp", "clrcoeff", "origin", "nflat", "commit"]
_BYTES_PER_VALUE: Final = 40


@dataclass(frozen=True)
class FlatnessInputs:
    """What exposures are compared with, as ``calibrate`` takes it."""

    ps1: Path
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FlatnessReport(Shown):
    """What was measured."""

    store: str
    snapshot: int
    committed: bool
    """False if all exposures were measured before."""
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
    pending = _Pending(snapshot)
    operation_id = OperationId(OPERATION, snapshot.number, [ps1.stamp, repr(settings.flatness)]).value
    tasks = list(_tasks(snapshot, pending, ps1, settings))
    if not tasks:
        return _report(snapshot, None, [], watch)
    runner.check_memory({task.key: _projected_bytes(task) for task in tasks})
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
    return _report(committed.head, committed.size, done, watch)


class _Pending:
    """Exposures not measured yet, by unit."""

    def __init__(self, snapshot: SnapshotFiles) -> None:
        rows = snapshot.read(EXPOSURES.name, _COLUMNS)
        own = pc.and_(pc.is_null(rows["nflat"]), pc.equal(rows["origin"].cast("string"), CATALOG))
        rows = rows.filter(pc.and_(own, pc.is_valid(rows["magzp"])))
        values = {
            name: rows[name].to_numpy()
            for name in ("exposureid", "field", "rcid", "fid", "magzp", "clrcoeff", "commit")
        }
        code = unit_codes(*(values[name].astype(np.int64) for name in ("field", "rcid", "fid")))
        order = np.lexsort((values["exposureid"], code))
        self._code = code[order]
        self._values = {name: column[order] for name, column in values.items()}

    def of(self, row: Row) -> dict[str, Any]:
        """Columns of a unit's, ascending by exposureid."""
        code = unit_codes(row["field"], row["rcid"], row["fid"])
        first, last = np.searchsorted(self._code, [code, code + 1])
        return {name: column[first:last] for name, column in self._values.items()}


def _tasks(
    snapshot: SnapshotFiles, pending: _Pending, ps1: Ps1Catalog, settings: ReferenceSettings
) -> list[FlatnessTask]:
    """One task a field and readout channel that has any."""
    by_place: dict[tuple[int, int], list[UnitExposures]] = {}
    for row in active_references(snapshot):
        columns = pending.of(row)
        if len(columns["exposureid"]):
            reference = stored_reference(snapshot, row)
            detections = detections_since(snapshot, reference, int(columns["commit"].min()))
            magzp, clrcoeff = (columns[name].astype(np.float64) for name in ("magzp", "clrcoeff"))
            unit = UnitExposures(reference, detections, columns["exposureid"], magzp, clrcoeff)
            by_place.setdefault((row["field"], row["rcid"]), []).append(unit)
    return [
        FlatnessTask(f"flatness-{field:06d}-{rcid:02d}", tuple(units), ps1, settings.flatness)
        for (field, rcid), units in by_place.items()
    ]


def _columns(done: list[MeasuredExposures]) -> tuple[Ints, dict[str, Any]]:
    """Exposureids, ascending, and their values by column of the ledger."""
    ids = np.array([value for one in done for value in one.exposureid], np.int64)
    order = np.argsort(ids)
    lists = {"flatdelta": "delta", "flatrms": "rms", "nflat": "n"}
    values = {name: np.array([v for one in done for v in getattr(one, of)], np.float64) for name, of in lists.items()}
    return ids[order], {name: column[order] for name, column in values.items()}


def _projected_bytes(task: FlatnessTask) -> int:
    seeds = sum(sum(file.rows for file in unit.reference.objects) for unit in task.units)
    epochs = max(sum(file.rows for file in unit.detections) for unit in task.units)
    in_flight = BYTES_PER_ROW_IN_FLIGHT * min(epochs, ROWS_IN_FLIGHT)
    return WORKER_BASE_BYTES + BYTES_PER_SEED * seeds + in_flight + _BYTES_PER_VALUE * min(epochs, VALUES_PER_PASS)


def _report(head: SnapshotFiles, size: int | None, done: list[MeasuredExposures], watch: Stopwatch) -> FlatnessReport:
    return FlatnessReport(
        store=head.storage.root,
        snapshot=head.number + (size is not None),
        committed=size is not None,
        exposures=sum(len(one.n) for one in done),
        decided=sum(value is not None for one in done for value in one.delta),
        bytes=size or 0,
        seconds=watch.seconds,
    )
