"""Repair after the loss of files: find them, what they held, and restore their rows from the catalogs.

Detections and orphans follow from the catalogs, the ledger and the objects, to the last bit; statistics and transients
from these. Nothing else can be made again: files of the ledger, of objects or of references come back from a copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.config import ROWS_PER_TASK
from ztfmatch.core.errors import BadInputError, JobFailedError
from ztfmatch.core.io import log
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, find
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.tiling import Tile, in_sky_order
from ztfmatch.core.operations.append import CATALOGS_PER_INSPECTION
from ztfmatch.core.operations.commit import CommitReport, commit_on_top
from ztfmatch.core.operations.common import (
    CommitInfo,
    OperationId,
    Stopwatch,
    abridged_places,
    files_of,
    same_files,
    total,
)
from ztfmatch.core.operations.matchplan import match_tasks, projected_bytes
from ztfmatch.core.operations.replacing import touched_tiles
from ztfmatch.core.operations.verify import checksum_tasks
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.runs import chunks
from ztfmatch.core.schema import (
    CORRECTIONS,
    DETECTIONS,
    EXPOSURES,
    OBJECTS,
    ORPHANS,
    STATISTICS,
    TRANSIENTDATA,
    TRANSIENTS,
)
from ztfmatch.core.schema.ledger import CATALOG
from ztfmatch.core.survey import HMJD_MARGIN_DAY
from ztfmatch.core.tasks.checksums import compare_checksums
from ztfmatch.core.tasks.inspect import CatalogInput, InspectTask, inspect_epochal
from ztfmatch.core.tasks.ledger import exposures_of_tiles
from ztfmatch.core.tasks.match import match_group
from ztfmatch.core.tasks.restore import CountedRows, CountTask, RestoreTask, count_left, of_tile, restore_tile

_ROWS: Final = (DETECTIONS.name, ORPHANS.name)
_DERIVED: Final = (STATISTICS.name, TRANSIENTS.name, TRANSIENTDATA.name)
_NAMED: Final = 3


@dataclass(frozen=True, kw_only=True)
class LostExposure:
    """An exposure of which rows were lost."""

    exposureid: int
    filename: str
    source: str
    """Where it was ingested from."""
    rows: int
    """Lost."""
    origin: str


@dataclass(frozen=True, kw_only=True)
class RepairReport(CommitReport):
    """What was lost, and what was brought back."""

    whole: bool
    """Whether nothing is lost, now."""
    lost: list[str]
    """What is wrong with each file that is missing or damaged."""
    exposures: list[LostExposure]
    rows: int
    """Detections and orphans in these files."""
    restored: int
    """Of these."""
    left: list[LostExposure]
    """Exposures whose rows stay lost, for want of their catalogs."""
    beyond: list[str]
    """Files that cannot be made again."""
    seconds: float


def repair(
    storage: Storage, catalogs: Sequence[str], runner: Runner, deep: bool = False, note: str | None = None
) -> RepairReport:
    """Find lost files, tell the exposures that they held, and bring their rows back.

    Parameters
    ----------
    storage : Storage
        Of a store whose ledger, objects and references can be read.
    catalogs : sequence of str
        Places of the catalogs of these exposures, with the content that was ingested; without any it only reports what
        was lost. Rows of exposures whose catalog is not among them stay lost until another repair is given those.
    runner : Runner
    deep : bool
        Compare the bytes of every file with its checksum, not only whether it is there.
    note : str, optional

    Raises
    ------
    BadInputError
        If no catalog of any of these exposures is among those given.
    JobFailedError
        If the rows that the catalogs give are not as many as were lost; nothing is committed.
    CommitConflictError
        If another writer changed these files, the objects or the tiles meanwhile.
    """
    watch = Stopwatch()
    snapshot = open_snapshot(storage)
    found = runner.run(Job("looking for files", compare_checksums, checksum_tasks(snapshot, deep), "repair"))
    paths = {path for result in found for path in result.paths}
    said = [text for result in found for text in result.damaged]
    lost = [file for name in (*_ROWS, *_DERIVED) for file in snapshot.of_table(name) if file.path in paths]
    known = {file.path for file in lost}
    beyond = [text for result in found for path, text in zip(result.paths, result.damaged, strict=True)
              if path not in known]  # fmt: skip
    work = _Repair(snapshot, [file for file in lost if file.table in _ROWS], _derived(snapshot, lost), runner)
    ledger = work.ledger() if work.lost and not beyond else None
    exposures = [] if ledger is None else _described(ledger)
    rows = sum(file.rows for file in work.lost)
    back, committed = _Back(work.paths), None
    if lost and not beyond and (catalogs or not work.lost):
        back = work.restore(ledger, catalogs) if ledger is not None else back
        info = CommitInfo({"catalogs": abridged_places(catalogs), "deep": deep}, watch.started, note)
        committed = commit_on_top(snapshot, lambda head: work.change(head, back, info), work.refusal)
    return RepairReport(
        store=storage.root,
        snapshot=snapshot.number if committed is None else committed.number,
        committed=committed is not None and committed.done,
        whole=not paths or (committed is not None and not back.left),
        lost=said,
        exposures=exposures,
        rows=rows,
        restored=sum(file.rows for file in back.files),
        left=back.left if committed is not None else exposures,
        beyond=beyond,
        seconds=watch.seconds,
    )


def _derived(snapshot: SnapshotFiles, lost: Iterable[DataFile]) -> frozenset[str]:
    """Files of what is derived in the tiles that lost some of it; both tables of transients go together."""
    tiles = {(file.table, file.tile) for file in lost if file.table in _DERIVED}
    tiles |= {(name, tile) for table, tile in tiles if table != STATISTICS.name
              for name in (TRANSIENTS.name, TRANSIENTDATA.name)}  # fmt: skip
    return frozenset(file.path for name, tile in tiles if tile is not None for file in snapshot.of_tile(name, tile))


def _described(ledger: pa.Table) -> list[LostExposure]:
    names = ["exposureid", "filename", "source", "origin", "lost"]
    return [
        LostExposure(
            exposureid=row["exposureid"],
            filename=row["filename"],
            source=row["source"],
            rows=row["lost"],
            origin=row["origin"],
        )
        for row in ledger.select(names).to_pylist()
    ]


@dataclass(frozen=True)
class _Back:
    """What is brought back."""

    mended: frozenset[str]
    """Lost files whose rows are all in others now. The rest stays named: what lacks rows must not look whole."""
    files: tuple[DataFile, ...] = ()
    left: list[LostExposure] = field(default_factory=list)
    exposures: tuple[int, ...] = ()
    """Whose rows are in the files."""


@dataclass(frozen=True)
class _Repair:
    """The repair of a snapshot."""

    snapshot: SnapshotFiles
    lost: list[DataFile]
    """Files of detections and orphans."""
    dropped: frozenset[str]
    """Files of what is derived, which the commands that derive it make again."""
    runner: Runner

    @property
    def _span(self) -> tuple[float, float]:
        first = min(-np.inf if file.min_hmjd is None else file.min_hmjd for file in self.lost)
        last = max(np.inf if file.max_hmjd is None else file.max_hmjd for file in self.lost)
        return first - HMJD_MARGIN_DAY, last + HMJD_MARGIN_DAY

    @property
    def paths(self) -> frozenset[str]:
        """Of the lost files."""
        return frozenset(file.path for file in self.lost)

    def operation_id(self, exposures: Sequence[int] = ()) -> str:
        """The same files of the same snapshot, brought back of the same exposures, are the same repair."""
        return OperationId("repair", self.snapshot.number, [*sorted(self.paths | self.dropped), *exposures]).value

    def _lost_in(self, tile: object) -> frozenset[str]:
        return frozenset(file.path for file in self.lost if file.tile == tile)

    def ledger(self) -> pa.Table:
        """Ledger rows of the exposures that lost rows, with their number as ``lost``."""
        tiles = in_sky_order({file.tile for file in self.lost if file.tile is not None})
        rows = exposures_of_tiles(self.snapshot, tiles, EXPOSURES.names)
        first, last = self._span
        obsmjd = rows["obsmjd"]
        rows = rows.filter(pc.and_(pc.greater_equal(obsmjd, first), pc.less_equal(obsmjd, last)))
        rows = rows.sort_by("exposureid").combine_chunks()
        ids = rows["exposureid"].to_numpy()
        held = np.zeros(len(ids), np.int64)
        for counted in self._counts(rows):
            at = find_sorted(ids, np.array(counted.exposureid, np.int64))
            held[at[at >= 0]] += np.array(counted.rows, np.int64)[at >= 0]  # a tile counts each exposure once
        missing = rows["nmatched"].to_numpy() + rows["norphans"].to_numpy() - held
        return rows.append_column("lost", pa.array(missing)).filter(pa.array(missing > 0))

    def _counts(self, ledger: pa.Table) -> list[CountedRows]:
        first, last = self._span
        span = first - 2 * HMJD_MARGIN_DAY, last + 2 * HMJD_MARGIN_DAY
        tasks = [
            CountTask(f"count-{tile.key}", self.snapshot, tile, self._lost_in(tile), span)
            for tile in touched_tiles(self.snapshot, ledger)
        ]
        return self.runner.run(Job("counting", count_left, tasks, self.operation_id(), self.snapshot.storage))

    def restore(self, ledger: pa.Table, catalogs: Sequence[str]) -> _Back:
        """Files with the lost rows, made from the catalogs."""
        known, left = self._placed(ledger, catalogs)
        exposures = tuple(known["exposureid"].to_pylist())
        storage, operation_id = self.snapshot.storage, self.operation_id(exposures)
        sets = tuple(self.snapshot.of_table(CORRECTIONS.name))
        tasks = match_tasks(self.snapshot, known, ROWS_PER_TASK, operation_id, sets)
        self.runner.check_memory({task.key: projected_bytes(task) for task in tasks})
        made = files_of(self.runner.run(Job("matching", match_group, tasks, operation_id, storage)))
        tiles = in_sky_order({file.tile for file in self.lost if file.tile is not None})
        restoring = [
            RestoreTask(key=f"restore-{tile.key}", snapshot=self.snapshot, tile=tile, lost=self._lost_in(tile),
                        span=(-np.inf, np.inf), made=of_tile(made, tile), part=f"{operation_id[:12]}-back")
            for tile in tiles
        ]  # fmt: skip
        back = self.runner.run(Job("restoring", restore_tile, restoring, operation_id, storage))
        rows, lost = sum(result.rows for result in back), total(ledger, "lost") - sum(one.rows for one in left)
        restored = files_of(back)
        kept = {file.path for file in restored}
        storage.delete([file.path for file in made if file.path not in kept])
        if rows != lost or total(ledger, "lost") > sum(file.rows for file in self.lost):
            raise JobFailedError(
                f"{storage.root}: the lost files had {lost} rows; the catalogs give {rows} that are in no other file, "
                "so that nothing was committed: run 'ztfmatch verify', or roll back"
            )
        found = {task.tile: result.rows for task, result in zip(restoring, back, strict=True)}
        return _Back(self._mended(found) if left else self.paths, tuple(restored), left, exposures)

    def _mended(self, found: dict[Tile, int]) -> frozenset[str]:
        """Lost files of the tiles of which all rows were found."""
        lost: Counter[Tile | None] = Counter()
        for file in self.lost:
            lost[file.tile] += file.rows
        return frozenset(file.path for file in self.lost if file.tile and found[file.tile] == lost[file.tile])

    def _placed(self, ledger: pa.Table, catalogs: Sequence[str]) -> tuple[pa.Table, list[LostExposure]]:
        """Ledger rows with the places of the catalogs that were given, and the exposures that have none of these."""
        places = find(catalogs, EPOCHAL_PATTERN).files
        wanted = set(ledger["filename"].to_pylist())
        named = [place for place in places if place.rsplit("/", 1)[-1] in wanted] or places
        tasks = [
            InspectTask(f"inspect-{i:06d}", tuple(map(CatalogInput, group)))
            for i, group in enumerate(chunks(named, CATALOGS_PER_INSPECTION))
        ]
        results = self.runner.run(Job("reading catalogs", inspect_epochal, tasks, "repair", preparing=True))
        by_content = {
            row["sha256"]: row["source"]
            for result in results
            for row in result.table.select(["sha256", "source"]).to_pylist()
        }
        given = [
            row["sha256"] in by_content and row["origin"] == CATALOG
            for row in ledger.select(["sha256", "origin"]).to_pylist()
        ]
        left = _described(ledger.filter(pa.array([not one for one in given])))
        if not any(given):
            more = f" and {len(left) - _NAMED:,} more" if len(left) > _NAMED else ""
            raise BadInputError(
                f"none of the {ledger.num_rows:,} exposures that lost rows has a catalog of the content that was "
                f"ingested in {', '.join(catalogs)}: {', '.join(one.source for one in left[:_NAMED])}{more}"
            )
        placed = ledger.filter(pa.array(given)).drop_columns(["lost"])
        sources = pa.array([by_content[sha256] for sha256 in placed["sha256"].to_pylist()])
        return placed.set_column(placed.schema.get_field_index("source"), "source", sources), left

    def change(self, head: SnapshotFiles, back: _Back, info: CommitInfo) -> log.Change:
        """What to commit."""
        files = [replace(file, commit=head.number + 1) for file in back.files]
        removed = back.mended | self.dropped
        counts = {"files": len(removed), "rows": sum(file.rows for file in files)}
        counts |= {"rows still lost": sum(one.rows for one in back.left)} if back.left else {}
        name = self.operation_id(back.exposures)
        return log.Change("repair", name, info.arguments, counts, files, removed, started=info.started, note=info.note)

    def refusal(self, head: SnapshotFiles) -> str | None:
        """Why it does not hold on a newer snapshot."""
        if not (self.paths | self.dropped) <= set(head.files.paths()):
            return "changed the files that were lost"
        same = head.commit.tiling == self.snapshot.commit.tiling and same_files(head, self.snapshot, OBJECTS)
        return None if same else "changed the objects or tiles"
