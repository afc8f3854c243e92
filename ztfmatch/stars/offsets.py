"""Measure the zero-point offsets between units from shared stars, and commit the table.

The solution is found in a few rounds, each of which leaves out the stars' outliers by the one before. What it cannot
tell: the mean of a group of units that overlaps connect, and so any difference between groups or filters; and, over
many overlaps, slow gradients, since errors add up along chains. Overlaps are at the edges of quadrants: what the flat
field leaves there is taken for a zero point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Ids
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.arrays import encode_arrays, read_arrays
from ztfmatch.core.io.parquet import table_from_columns
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.commit import CommitReport, Committed, commit_on_top
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch, same_files, write_table
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import CORRECTIONS, OFFSETS, STARS, STARSTATISTICS, STATISTICS
from ztfmatch.core.survey import IDS_OF_A_UNIT, unit_of_objectid
from ztfmatch.core.tasks.staging import clear
from ztfmatch.stars.kernels.offsets import groups_of, offset_errors, solve, summed
from ztfmatch.stars.tasks.offsets import (
    BYTES_PER_STAR,
    Collected,
    CollectTask,
    EquationsTask,
    collect_magnitudes,
    tile_equations,
)

BRIGHT, FAINT, MIN_EPOCHS = 14.0, 19.0, 5
"""Objects that count, by their median magnitude and good epochs."""

_CLIPS: Final = ((0.5, 0.0), (0.1, 0.0), (0.05, 4.0), (0.03, 4.0))
"""Rounds: an object is left out if it is farther from its star than both, mag and its own errors."""


@dataclass(frozen=True, kw_only=True)
class OffsetsReport(CommitReport):
    """What was measured."""

    units: int
    groups: int
    """Groups of units that overlaps connect; offsets are comparable within one."""
    stars: int
    """Stars, in each filter, that several units share."""
    scatter: float | None
    """Weighted scatter of the units' offsets, mag."""
    reduced_chi_square: float | None
    """Of the stars' magnitudes about the solution; errors are scaled by its root where it is above 1."""
    seconds: float


def update_offsets(storage: Storage, runner: Runner, note: str | None = None) -> OffsetsReport:
    """Measure the offsets of units, and commit them in place of those before.

    What stars' statistics were computed with those before is dropped. Objects' statistics are taken as they are stored.

    Raises
    ------
    ConfigError
        If the store has no stars, or no statistics.
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If others corrected the store meanwhile.
    """
    watch = Stopwatch()
    snapshot = open_snapshot(storage)
    for table, command in ((STARS, "link"), (STATISTICS, "statistics")):
        if not snapshot.files.has(table.name):
            raise ConfigError(f"{storage.root} has no {table.name} yet: run 'ztfmatch {command}' first")
    operation_id = OperationId("offsets", snapshot.number, []).value
    measured = measure_offsets(snapshot, operation_id, runner)
    committed = Committed(snapshot, None)
    if measured.rows.num_rows:
        committed = commit_on_top(
            snapshot,
            lambda head: _change(head, measured, operation_id, watch, note),
            lambda head: None if same_files(head, snapshot, CORRECTIONS) else "corrected the store",
        )
    clear(storage, operation_id)
    return OffsetsReport(
        **committed.fields,
        units=measured.rows.num_rows,
        groups=measured.groups,
        stars=measured.stars,
        scatter=measured.scatter,
        reduced_chi_square=measured.chi_square,
        seconds=watch.seconds,
    )


def _change(
    head: SnapshotFiles, measured: Measured, operation_id: str, watch: Stopwatch, note: str | None
) -> log.Change:
    number = head.number + 1
    removed = frozenset([*head.files.paths(OFFSETS.name), *head.files.paths(STARSTATISTICS.name)])
    files = write_table(head.storage, OFFSETS, measured.rows, number, operation_id[:12])
    counts = {"units": measured.rows.num_rows, "stars": measured.stars}
    return log.Change("offsets", operation_id, {}, counts, files, removed, started=watch.started, note=note)


@dataclass(frozen=True)
class Measured:
    """A solution."""

    rows: pa.Table
    """Of the table ``offsets``."""
    groups: int
    stars: int
    chi_square: float | None

    @property
    def scatter(self) -> float | None:
        """Weighted scatter of the offsets, mag."""
        if not self.rows.num_rows:
            return None
        offset, error = (self.rows[name].to_numpy() for name in ("offset", "error"))
        return float(np.sqrt(np.average(offset**2, weights=np.maximum(error, 1e-6) ** -2)))


def measure_offsets(snapshot: SnapshotFiles, operation_id: str, runner: Runner) -> Measured:
    """Solve for the offsets of all units that share stars."""
    tasks = [
        CollectTask(
            key=f"collect-{tile.key}",
            snapshot=snapshot,
            tile=tile,
            operation_id=operation_id,
            bright=BRIGHT,
            faint=FAINT,
            min_epochs=MIN_EPOCHS,
        )
        for tile in snapshot.tiles_with(STARS.name)
    ]
    runner.check_memory({task.key: WORKER_BASE_BYTES + BYTES_PER_STAR * task.rows(STARS) for task in tasks})
    job = Job("stars that units share", collect_magnitudes, tasks, operation_id, snapshot.storage, preparing=True)
    collected = [result for result in runner.run(job) if result.stars]
    head = np.unique(np.array([unit for result in collected for unit in result.units], np.int64))
    if not len(head):
        return Measured(OFFSETS.empty, 0, 0, None)
    return _Rounds(snapshot, operation_id, collected, head).run(runner)


@dataclass
class _Rounds:
    """Solutions, one after the other."""

    snapshot: SnapshotFiles
    operation_id: str
    collected: Sequence[Collected]
    head: Ids
    """Units: objectids without their last eight digits, ascending."""

    def run(self, runner: Runner) -> Measured:
        offset = np.zeros(len(self.head))
        for number in range(len(_CLIPS)):
            equations, squares, freedom = self._round(number, offset, runner)
            first, second, entry, right, counts = equations
            group = groups_of(first, second, len(self.head))
            offset = solve(first, second, entry, right, group)
        chi_square = squares / max(freedom - len(group) + int(group.max()) + 1, 1.0)
        error = offset_errors(first, second, entry, group) * max(chi_square, 1.0) ** 0.5
        stars = np.bincount(first[first == second], counts[first == second], len(self.head)).astype(np.int64)
        return self._measured(offset, error, stars, group, chi_square)

    def _round(self, number: int, offset: Any, runner: Runner) -> tuple[tuple[Any, ...], float, float]:
        """The equations of all tiles added up, and squares and freedom of residuals about the solution before."""
        storage = self.snapshot.storage
        solution = paths.staged_array(self.operation_id, f"solution-{number}")
        storage.put(solution, encode_arrays({"head": self.head, "offset": offset}))
        tasks = [
            EquationsTask(
                f"equations-{number}-{i:06d}",
                storage,
                result.kept[0]["path"],
                solution,
                self.operation_id,
                _CLIPS[number],
            )
            for i, result in enumerate(self.collected)
        ]
        title = f"offsets, round {number + 1} of {len(_CLIPS)}"
        results = runner.run(Job(title, tile_equations, tasks, self.operation_id, storage, preparing=True))
        parts = [read_arrays(storage, result.kept[0]["path"]) for result in results]
        joined = [
            np.concatenate([part[name] for part in parts]) for name in ("first", "second", "entry", "right", "counts")
        ]
        squares, freedom = (sum(getattr(result, name) for result in results) for name in ("squares", "freedom"))
        return summed(joined[0], joined[1], *joined[2:])[:5], squares, freedom

    def _measured(self, offset: Any, error: Any, stars: Ids, group: Ids, chi_square: float) -> Measured:
        shared = np.flatnonzero(stars > 0)
        units = [unit_of_objectid(number * IDS_OF_A_UNIT) for number in self.head[shared].tolist()]
        fid = np.array([unit.fid for unit in units])
        _, of_group, size = np.unique(group[shared], return_inverse=True, return_counts=True)
        rows = table_from_columns(
            OFFSETS,
            {
                "field": np.array([unit.field for unit in units], np.int16),
                "rcid": np.array([unit.rcid for unit in units], np.int8),
                "fid": fid.astype(np.int8),
                "offset": offset[shared],
                "error": error[shared],
                "nstars": stars[shared],
                "group": _numbered(of_group, fid),
                "nunits": size[of_group].astype(np.int32),
                "snapshot": np.full(len(shared), self.snapshot.number),
            },
        )
        total = sum(result.stars for result in self.collected)
        return Measured(rows.sort_by(OFFSETS.order), len(size), total, chi_square)


def _numbered(group: Ids, fid: Ids) -> npt.NDArray[np.int32]:
    """Groups numbered from 0 in each filter: units of a group are of one."""
    number = np.zeros(len(group), np.int32)
    for one in np.unique(fid):
        number[fid == one] = np.unique(group[fid == one], return_inverse=True)[1]
    return number
