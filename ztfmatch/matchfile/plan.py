"""Divide the import of matchfiles into tasks: objects by tile, epochs by file and batch of exposures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import OfSnapshot, SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile, Tiling, neighbours
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, footprint_table, tiles_of_footprints
from ztfmatch.core.plain import Row
from ztfmatch.core.runs import bounded_runs
from ztfmatch.core.schema import OBJECTS
from ztfmatch.core.survey import DEFAULT_EXPTIME_S, objectid_range
from ztfmatch.matchfile.io.reader import Stamp
from ztfmatch.matchfile.tasks.ingest import (
    BYTES_PER_ROW,
    ImportedExposure,
    ImportTask,
    MatchfileInput,
    SourcesTask,
    TileSeeds,
)


@dataclass(frozen=True)
class TakenFile:
    """A matchfile to ingest."""

    matchfile: Row
    """Row of ``matchfiles`` without what the store adds."""
    reference: Row
    grid: bytes
    stamp: Stamp
    exposures: list[Row]
    """Ledger rows of those that are new."""
    is_reference: bool
    """Whether its sources become the unit's objects; else the store has some already."""

    @property
    def input(self) -> MatchfileInput:
        """What tasks need to know of it."""
        return MatchfileInput(self.matchfile["source"], unit_of(self.matchfile), self.stamp)


@dataclass(frozen=True)
class ImportPlan(OfSnapshot):
    """What is to be ingested, on top of what."""

    snapshot: SnapshotFiles
    tiling: Tiling
    """The snapshot's, or that of the store that is being made."""
    files: list[TakenFile]
    operation_id: str


def sources_tasks(plan: ImportPlan) -> list[SourcesTask]:
    """One task for each tile that gets objects."""
    by_tile: dict[Tile, list[MatchfileInput]] = {}
    ordered = sorted(plan.files, key=lambda file: objectid_range(unit_of(file.matchfile)))
    files = [file for file in ordered if file.is_reference]
    for file, tiles in zip(
        files, tiles_of_footprints(plan.tiling, footprint_table(f.reference for f in files)), strict=True
    ):
        for tile in tiles:
            by_tile.setdefault(tile, []).append(file.input)
    return [
        SourcesTask(f"objects-{tile.key}", plan.storage, tile, tuple(files), plan.commit, plan.operation_id[:12])
        for tile, files in sorted(by_tile.items())
    ]


def import_tasks(plan: ImportPlan, objects: Sequence[DataFile], rows_per_task: int) -> list[ImportTask]:
    """One task for each file and batch of exposures.

    Parameters
    ----------
    objects : sequence of DataFile
        New objects, written but not committed.
    """
    fresh: dict[Tile | None, list[DataFile]] = {}
    for file in objects:
        fresh.setdefault(file.tile, []).append(file)
    tasks = []
    footprints = tiles_of_footprints(plan.tiling, footprint_table(taken.reference for taken in plan.files))
    for number, (taken, touched) in enumerate(zip(plan.files, footprints, strict=True)):
        tiles = tuple(TileSeeds(tile, _seeds(plan, fresh, taken, tile)) for tile in touched)
        for batch_number, batch in enumerate(_batches(taken, len(tiles) > 1, rows_per_task)):
            name = f"{number:05d}-{batch_number:04d}"
            part = f"{plan.operation_id[:12]}-{name}"
            tasks.append(
                ImportTask(
                    key=f"import-{name}",
                    storage=plan.storage,
                    file=taken.input,
                    exposures=batch,
                    tiles=tiles,
                    radius_arcsec=plan.snapshot.config.radius_arcsec,
                    commit=plan.commit,
                    part=part,
                )
            )
    return tasks


def _seeds(
    plan: ImportPlan, fresh: dict[Tile | None, list[DataFile]], taken: TakenFile, tile: Tile
) -> tuple[DataFile, ...]:
    """Object files of a tile and its neighbours that can hold the unit's."""
    near, ids = neighbours(plan.tiling, tile), [objectid_range(unit_of(taken.matchfile))]
    there = [] if taken.is_reference else plan.snapshot.of_tiles(OBJECTS.name, near, ids)
    return tuple(file for one in near for file in fresh.get(one, []) if file.holds_id(ids)) + tuple(there)


def _batches(taken: TakenFile, straddles: bool, rows_per_task: int) -> Iterator[tuple[ImportedExposure, ...]]:
    """Exposures with rows, by time, none of the batches above the limit unless one exposure is."""
    ordered = sorted(taken.exposures, key=lambda row: (row["obsmjd"], row["exposureid"]))
    given = (_imported(row, straddles) for row in ordered if row["nrows"] > row["nrejected"])
    return map(tuple, bounded_runs(given, lambda exposure: exposure.rows, rows_per_task))


def _imported(row: Row, straddles: bool) -> ImportedExposure:
    exptime = DEFAULT_EXPTIME_S if row.get("exptime") is None else row["exptime"]
    mid = row["obsmjd"] + 0.5 * exptime / 86400.0
    rows = row["nrows"] - row["nrejected"]
    return ImportedExposure(row["exposureid"], row["expid"], unit_of(row), rows, mid, straddles)


def projected_bytes(task: ImportTask) -> int:
    """Peak memory of the worker that runs the task."""
    rows = sum(exposure.rows for exposure in task.exposures)
    seeds = max((sum(file.rows for file in part.objects) for part in task.tiles), default=0)
    return WORKER_BASE_BYTES + BYTES_PER_ROW * rows + 100 * seeds
