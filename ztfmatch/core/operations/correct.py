"""Apply a set of corrections to everything stored, or remove it, in one commit.

What others commit meanwhile does no harm and costs little: files that came in are corrected too, files that are gone
are forgotten, and the commit is tried again. Results are kept by the files that they are from, so that neither that
nor a rerun repeats any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Array
from ztfmatch.core.config import ROWS_PER_FILE
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.arrays import encode_arrays
from ztfmatch.core.io.corrections import CorrectionFiles, read_corrections
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.commit import CommitReport, Committed, commit_on_top
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId, Stopwatch, files_of, paths_of
from ztfmatch.core.operations.corrections import SET_TABLES, Applied, check_channels, register_set
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.runs import bounded_runs
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OFFSETS, ORPHANS, STATISTICS
from ztfmatch.core.survey import HMJD_MARGIN_DAY
from ztfmatch.core.tasks.correct import (
    BYTES_PER_ROW,
    CorrectTask,
    Renamed,
    RenameTask,
    correct_tile,
    detections_and_orphans,
    rename_corrections,
)

_Numbered = tuple[int, DataFile]
"""A file, and its number among what its tile has."""


@dataclass(frozen=True, kw_only=True)
class CorrectReport(CommitReport):
    """What was corrected."""

    corrections: str | None
    """Name of the set; None for none."""
    applies: bool
    """Whether the set has anything for exposures of the store."""
    exposures: int
    """That have the corrections now."""
    changed: int
    """That had others, or none."""
    rows: int
    """Detections and orphans in files written anew."""
    tiles: int
    bytes: int
    seconds: float


def correct(storage: Storage, corrections: Path | None, runner: Runner, note: str | None = None) -> CorrectReport:
    """Give all magnitudes of a store the corrections of a directory, or none.

    Measured values stay, so that corrections can be taken off again to the last bit. Statistics of the tiles that
    change are dropped, and the offsets of units, which are of the magnitudes before.

    Parameters
    ----------
    storage : Storage
        Of an existing store.
    corrections : Path or None
        Directory that calibrate made, or of the survey's own tables; None takes corrections off.
    runner : Runner
    note : str, optional
        Kept in the history.

    Raises
    ------
    CorrectionsError
        If the directory is none, or damaged, or holds tables of the survey for other channels than the store's.
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    """
    watch = Stopwatch()
    held = None if corrections is None else read_corrections(corrections)
    head = open_snapshot(storage)
    if held is not None and held.of_survey:
        check_channels(head, held)
    applied = None if corrections is None else register_set(head, corrections)
    work = _Work(storage, applied, head.number + 1, _operation_id(held))
    if held is not None:
        work.stage_offsets(held)

    def build(head: SnapshotFiles) -> log.Change | None:
        work.run(head, runner)
        return work.change(head, corrections, watch.started, note)

    return work.report(commit_on_top(head, build, lambda _: None), watch)


def _operation_id(held: CorrectionFiles | None) -> str:
    """The same corrections are the same operation on any snapshot: results are kept by the files they are from."""
    inputs = None if held is None else [held.set.digest, held.about["files"]]
    return OperationId("correct", None, inputs).value


@dataclass
class _Work:
    """What has been done, by path of the file that it is from."""

    storage: Storage
    applied: Applied | None
    commit: int
    operation_id: str
    offsets: str | None = None
    renamed: dict[str, Renamed] = field(default_factory=dict)
    """Results by file of the ledger."""
    corrected: dict[str, DataFile | None] = field(default_factory=dict)
    """New file by file of detections or orphans; None where it stays."""

    def stage_offsets(self, held: CorrectionFiles) -> None:
        """Leave the residual zero points of exposures for the tasks."""
        table = held.tables["exposures"].sort_by("exposureid")
        arrays = {name: np.asarray(table[name].to_numpy()) for name in ("exposureid", "relzp", "relzprms", "nrelzp")}
        arrays |= _scatters(table)
        self.offsets = paths.staged_array(self.operation_id, "exposures")
        self.storage.put(self.offsets, encode_arrays(arrays))

    def run(self, head: SnapshotFiles, runner: Runner) -> None:
        """Do what is left to do for a snapshot."""
        ledger = [file for file in head.ledger if file.path not in self.renamed]
        tasks = [self._rename(file) for file in ledger]
        results = runner.run(Job("ledger", rename_corrections, tasks, self.operation_id, self.storage, preparing=True))
        self.renamed |= {file.path: result for file, result in zip(ledger, results, strict=True)}
        if not self.applies(head):
            return
        spans = self._spans(head)
        tiles = head.tiles_with(DETECTIONS.name, ORPHANS.name)
        correcting = [task for tile in tiles for task in self._tasks(head, tile, self._left(head, tile, spans))]
        runner.check_memory({task.key: _projected_bytes(task) for task in correcting})
        done = runner.run(Job("correcting", correct_tile, correcting, self.operation_id, self.storage))
        for task, result in zip(correcting, done, strict=True):
            new = dict(zip(result.removed, result.files, strict=True))
            self.corrected |= {file.path: new.get(file.path) for file in task.chosen()}

    def _of_head(self, head: SnapshotFiles) -> list[Renamed]:
        return [self.renamed[path] for path in head.files.paths(EXPOSURES.name)]

    def applies(self, head: SnapshotFiles) -> bool:
        """Whether the set has anything for the store; none always applies."""
        return self.applied is None or self._exposures(head) > 0

    def _spans(self, head: SnapshotFiles) -> list[tuple[float, float]]:
        """Spans of hmjd in which there are detections of exposures whose corrections change."""
        return [
            (result.first - HMJD_MARGIN_DAY, result.last + HMJD_MARGIN_DAY)
            for result in self._of_head(head)
            if result.first is not None and result.last is not None
        ]

    def _left(self, head: SnapshotFiles, tile: Tile, spans: Sequence[tuple[float, float]]) -> list[_Numbered]:
        """Files of a tile that can have such detections, and were not looked at yet."""
        return [
            (number, file)
            for number, file in enumerate(detections_and_orphans(head, tile))
            if file.path not in self.corrected and any(file.holds_time(*span) for span in spans)
        ]

    def _rename(self, file: DataFile) -> RenameTask:
        set_file = None if self.applied is None else self.applied.file
        key = _key([file])
        part = f"{self.operation_id[:12]}-{key}"
        return RenameTask(
            key=f"ledger-{key}",
            storage=self.storage,
            file=file,
            corrections=set_file,
            offsets=self.offsets,
            commit=self.commit,
            part=part,
        )

    def _tasks(self, head: SnapshotFiles, tile: Tile, left: Sequence[_Numbered]) -> Iterator[CorrectTask]:
        set_file = None if self.applied is None else self.applied.file
        for group in bounded_runs(left, lambda one: one[1].rows, ROWS_PER_FILE):  # about what a file should have
            key = _key([file for _, file in group])
            name, part = f"correct-{tile.key}-{key}", f"{self.operation_id[:12]}-{key}"
            data = () if self.applied is None else self.applied.new_data
            yield CorrectTask(
                key=name,
                snapshot=head,
                tile=tile,
                numbers=tuple(number for number, _ in group),
                corrections=set_file,
                part=part,
                data=data,
            )

    def change(self, head: SnapshotFiles, place: Path | None, started: float, note: str | None) -> log.Change | None:
        """What to commit on top of a snapshot; None if there is nothing."""
        if not self.applies(head):
            return None
        live = head.files.paths(DETECTIONS.name) + head.files.paths(ORPHANS.name)
        new = {path: made for path in live if (made := self.corrected.get(path)) is not None}
        ledger = self._of_head(head)
        sets, removed_sets = self._sets(head)
        added = [*new.values(), *files_of(ledger), *sets]
        if not (added or removed_sets):
            return None
        tiles = {file.tile for file in new.values() if file.table == DETECTIONS.name and file.tile is not None}
        replaced = {path for result in ledger for path in result.removed}
        return log.Change(
            "correct",
            self.operation_id,
            {"corrections": None if place is None else str(place), "set": self._name},
            {"exposures": self._exposures(head), "changed": self._changed(head),
             "detections": sum(file.rows for file in new.values())},
            [replace(file, commit=head.number + 1) for file in added],
            paths_of(head, tiles, (STATISTICS.name,)).union(
                new, replaced, removed_sets, head.files.paths(OFFSETS.name)
            ),
            started=started,
            note=note,
        )  # fmt: skip

    def _sets(self, head: SnapshotFiles) -> tuple[list[DataFile], list[str]]:
        """Files of sets to be added to a snapshot's, and those that no exposure will name any more."""
        kept = [] if self.applied is None else [self.applied.file, *self.applied.data]
        there = [path for table in SET_TABLES for path in head.files.paths(table.name)]
        wanted = {file.path for file in kept}
        return [file for file in kept if file.path not in there], [path for path in there if path not in wanted]

    @property
    def _name(self) -> str | None:
        return None if self.applied is None else self.applied.set.digest

    def _exposures(self, head: SnapshotFiles) -> int:
        return sum(result.exposures for result in self._of_head(head))

    def _changed(self, head: SnapshotFiles) -> int:
        return sum(result.changed for result in self._of_head(head))

    def report(self, committed: Committed, watch: Stopwatch) -> CorrectReport:
        """What was done."""
        head = committed.head
        added = [] if committed.change is None else committed.change.added
        return CorrectReport(
            **committed.fields,
            corrections=self._name,
            applies=self.applies(head),
            exposures=self._exposures(head),
            changed=self._changed(head) if committed.done else 0,
            rows=sum(file.rows for file in added if file.tile is not None),
            tiles=committed.tiles,
            bytes=committed.size,
            seconds=watch.seconds,
        )


def _scatters(table: pa.Table) -> dict[str, Array]:
    """What is left of exposures, NaN, and whether they are photometric, -1, where it is not known, as of older sets."""
    n = len(table)
    scatter = table["scatter"].to_numpy() if "scatter" in table.column_names else np.full(n, np.nan)
    known = "photometric" in table.column_names
    photometric = table["photometric"].cast(pa.int8()).fill_null(-1).to_numpy() if known else np.full(n, -1, np.int8)
    return {"relscatter": np.asarray(scatter, np.float64), "photometric": np.asarray(photometric)}


def _key(files: Sequence[DataFile]) -> str:
    """What tells the work on these files from that on any others."""
    return hashlib.sha256("\n".join(file.path for file in files).encode()).hexdigest()[:16]


def _projected_bytes(task: CorrectTask) -> int:
    return WORKER_BASE_BYTES + BYTES_PER_ROW * max(file.rows for file in task.chosen())
