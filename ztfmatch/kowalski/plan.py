"""Divide an export into tasks: one per tile for its objects, some for the ledger and the lineage."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ztfmatch.core.io.merge import ROWS_CARRIED
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, footprint_table, tiles_of_footprints
from ztfmatch.core.operations.rematchplan import newest_references
from ztfmatch.core.runs import bounded_runs, chunks
from ztfmatch.core.schema import DETECTIONS, LINEAGE
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.staging import Function
from ztfmatch.kowalski import schema as form
from ztfmatch.kowalski.changes import LedgerChanges, changed_references, ledger_changes
from ztfmatch.kowalski.io.jsonlines import MOST_BYTES, LinesForm, LinesWritten
from ztfmatch.kowalski.tasks.exposures import (
    ExposuresTask,
    IdsTask,
    LineageTask,
    RemovedTask,
    SnapshotPart,
    export_exposures,
    export_ids,
    export_lineage,
    export_removed,
)
from ztfmatch.kowalski.tasks.scope import Scope
from ztfmatch.kowalski.tasks.sources import (
    BYTES_PER_OBJECT,
    BYTES_PER_ROW_CARRIED,
    BYTES_PER_ROW_IN_FLIGHT,
    ROWS_IN_FLIGHT,
    Changes,
    SourcesTask,
    export_sources,
)

_ROWS_PER_TASK: Final = 200_000
"""Of the ledger or the lineage."""
_IDS_PER_TASK: Final = 100_000


@dataclass(frozen=True)
class Request:
    """What is to be exported, and how."""

    before: SnapshotFiles | None
    """None for all of ``after``."""
    after: SnapshotFiles
    output: Storage
    scope: Scope
    form: LinesForm
    whole: bool = False
    starids: bool = False

    def common(self, key: str) -> tuple[str, SnapshotFiles, Storage, Scope, LinesForm]:
        """The first fields of a task."""
        return key, self.after, self.output, self.scope, self.form


@dataclass(frozen=True)
class Work:
    """Tasks of one kind."""

    title: str
    function: Function[LinesWritten]
    tasks: Sequence[Any]


def plan_export(request: Request) -> list[Work]:
    """All tasks, in order."""
    if request.before is None:
        return _full(request)
    return _increment(request, request.before)


def projected_bytes(task: SourcesTask) -> int:
    """Peak memory of the worker that runs the task."""
    objects = sum(file.rows for file in task.objects())
    rows = sum(file.rows for file in task.detections())
    curves = BYTES_PER_ROW_IN_FLIGHT * min(rows, ROWS_IN_FLIGHT) + BYTES_PER_ROW_CARRIED * min(rows, ROWS_CARRIED)
    return WORKER_BASE_BYTES + BYTES_PER_OBJECT * objects + curves + MOST_BYTES


def _full(request: Request) -> list[Work]:
    after = request.after
    tiles = after.tiles_with(DETECTIONS.name)
    return [
        Work("exposures", export_exposures, _exposures(request, None)),
        Work("lineage", export_lineage, _lineage(request, after.of_table(LINEAGE.name), form.UPSERT)),
        Work("lightcurves", export_sources, [_sources(request, tile, None) for tile in tiles]),
    ]


def _increment(request: Request, before: SnapshotFiles) -> list[Work]:
    after = request.after
    ledger = ledger_changes(before, after, request.scope)
    whole = {
        unit
        for unit in changed_references(before, after) | ledger.units_with_removed
        if _may_hold(request.scope, unit)
    }  # fmt: skip
    changes = _changes_by_tile(after, ledger, whole)
    gone = [
        IdsTask(*request.common(f"{number:06d}"), form.EXPOSURES, ids)
        for number, ids in enumerate(chunks(ledger.gone, _IDS_PER_TASK))
    ]
    links = [file for file in before.files.not_in(after.files) if file.table == LINEAGE.name]
    new_links = [file for file in after.files.not_in(before.files) if file.table == LINEAGE.name]
    return [
        Work("removed exposures", export_ids, gone),
        Work("removed lightcurves", export_removed, _removed(request, before, whole)),
        Work("removed lineage", export_lineage, _lineage(request, links, form.REMOVE)),
        Work("exposures", export_exposures, _exposures(request, ledger.documents)),
        Work("lineage", export_lineage, _lineage(request, new_links, form.UPSERT)),
        Work("lightcurves", export_sources, [_sources(request, tile, of) for tile, of in changes.items()]),
    ]


def _may_hold(scope: Scope, unit: Unit) -> bool:
    return (scope.fields is None or unit.field in scope.fields) and (scope.filters is None or unit.fid in scope.filters)


def _changes_by_tile(after: SnapshotFiles, ledger: LedgerChanges, whole: set[Unit]) -> dict[Tile, Changes]:
    """What changed in each tile that has detections and is touched, in order of the sky."""
    found = new, changed, units, touched = [defaultdict[Tile, set[Any]](set) for _ in range(4)]
    for rows, exposures in ((ledger.new, new), (ledger.changed, changed)):
        for row, tiles in zip(rows, tiles_of_footprints(after.tiling, footprint_table(rows)), strict=True):
            for tile in tiles:
                exposures[tile].add(row["exposureid"])
                touched[tile].add(unit_of(row))
    for tile, of in _units_by_tile(after, whole).items():
        units[tile] |= of
        touched[tile] |= of
    return {
        tile: Changes(*(tuple(sorted(of[tile])) for of in found))
        for tile in after.tiles_with(DETECTIONS.name)
        if tile in touched
    }


def _sources(request: Request, tile: Tile, changes: Changes | None) -> SourcesTask:
    return SourcesTask(*request.common(f"sources-{tile.key}"), tile, changes, request.whole, request.starids)


def _removed(request: Request, before: SnapshotFiles, units: set[Unit]) -> list[RemovedTask]:
    """One task for each tile of the older snapshot in which units have objects."""
    by_tile = _units_by_tile(before, units)
    parts = _parts(request.after)
    return [
        RemovedTask(
            *request.common(f"N{part.tile.order:02d}-{part.tile.npix:08d}"),
            tuple(sorted(by_tile[part.tile])),
            part,
            tuple(parts[_overlapping(parts, part.tile)]),
        )
        for part in _parts(before)
        if part.tile in by_tile
    ]


def _units_by_tile(snapshot: SnapshotFiles, units: set[Unit]) -> dict[Tile, set[Unit]]:
    """Those of some units that have a reference, by the tiles that it touches."""
    references = newest_references(snapshot, units)
    by_tile: dict[Tile, set[Unit]] = {}
    touched = tiles_of_footprints(snapshot.tiling, footprint_table(references.values()))
    for unit, tiles in zip(references, touched, strict=True):
        for tile in tiles:
            by_tile.setdefault(tile, set()).add(unit)
    return by_tile


def _parts(snapshot: SnapshotFiles) -> list[SnapshotPart]:
    """What a snapshot has of each tile with detections, in order of the sky."""
    return [SnapshotPart(snapshot, tile) for tile in snapshot.tiles_with(DETECTIONS.name)]


def _overlapping(parts: Sequence[SnapshotPart], tile: Tile) -> slice:
    """Those that overlap a tile of another snapshot: the tile itself, its descendants or its ancestor."""
    low, high = tile.fine_range
    first = bisect.bisect_right(parts, low, key=lambda part: part.tile.fine_range[1])
    return slice(first, bisect.bisect_left(parts, high, key=lambda part: part.tile.fine_range[0]))


def _exposures(request: Request, ids: tuple[int, ...] | None) -> list[ExposuresTask]:
    files = [f for f in request.after.ledger if ids is None or (ids and f.holds_id([(ids[0], ids[-1])]))]
    return [ExposuresTask(*request.common(f"{number:06d}"), part, ids) for number, part in enumerate(_files(files))]


def _lineage(request: Request, files: Sequence[DataFile], action: str) -> list[LineageTask]:
    return [LineageTask(*request.common(f"{number:06d}"), part, action) for number, part in enumerate(_files(files))]


def _files(files: Sequence[DataFile]) -> Iterator[tuple[DataFile, ...]]:
    """Files, some at a time."""
    return map(tuple, bounded_runs(sorted(files, key=lambda file: file.path), lambda file: file.rows, _ROWS_PER_TASK))
