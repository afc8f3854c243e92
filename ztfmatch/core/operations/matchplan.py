"""Divide the matching of new exposures into tasks: one for each tile and batch of exposures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.calibration import observer_vectors
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, Row, tiles_of_footprint, unit_of
from ztfmatch.core.schema import OBJECTS, REFERENCES
from ztfmatch.core.schema.ledger import BAD
from ztfmatch.core.survey import DEFAULT_EXPTIME_S
from ztfmatch.core.tasks.match import BYTES_PER_ROW, ExposureInput, MatchTask


def units_with_reference(snapshot: SnapshotFiles) -> set[str]:
    """Names of the units that have seeds."""
    table = snapshot.read(REFERENCES.name, ["field", "rcid", "fid"])
    return {str(unit_of(row)) for row in table.to_pylist()}


def match_tasks(
    snapshot: SnapshotFiles,
    ledger: list[Row],
    rows_per_task: int,
    operation_id: str,
    corrections: tuple[DataFile, ...] = (),
) -> list[MatchTask]:
    """One task for each tile and batch of exposures.

    Parameters
    ----------
    snapshot : SnapshotFiles
    ledger : list of Row
        New exposures.
    rows_per_task : int
    operation_id : str
    corrections : tuple of DataFile
        The sets that the exposures name.
    """
    exposures = _exposure_inputs(snapshot, ledger)
    by_tile: dict[Tile, list[ExposureInput]] = {}
    for row, exposure in zip(ledger, exposures, strict=True):
        touched = [] if row["ra"] is None else tiles_of_footprint(snapshot.tiling, row)
        for tile in touched:
            by_tile.setdefault(tile, []).append(exposure if len(touched) == 1 else replace(exposure, straddles=True))
    tasks = []
    for tile, members in sorted(by_tile.items()):
        objects = tuple(f for near in neighbours(snapshot.tiling, tile) for f in snapshot.of_tile(OBJECTS.name, near))
        for i, batch in enumerate(_batches(members, rows_per_task)):
            key, part = f"match-N{tile.order}-{tile.npix}-{i:04d}", f"{operation_id[:12]}-{i:04d}"
            radius = snapshot.config.radius_arcsec
            commit = snapshot.number + 1
            tasks.append(MatchTask(key, snapshot.storage, tile, batch, objects, radius, commit, part, corrections))
    return tasks


def _batches(members: list[ExposureInput], rows_per_task: int) -> list[tuple[ExposureInput, ...]]:
    """Split exposures into batches of about equal rows, none above the limit unless one catalog is."""
    ordered = sorted(members, key=lambda e: (e.unit.field, e.unit.fid, e.unit.rcid, e.mid_mjd, e.exposureid))
    total = sum(e.nrows for e in ordered)
    share = total / max(math.ceil(total / rows_per_task), 1)
    batches: list[list[ExposureInput]] = [[]]
    held, passed = 0, 0
    for exposure in ordered:
        if held and (held + exposure.nrows > rows_per_task or passed + exposure.nrows / 2 > share * len(batches)):
            batches.append([])
            held = 0
        batches[-1].append(exposure)
        held += exposure.nrows
        passed += exposure.nrows
    return [tuple(batch) for batch in batches if batch]


def _exposure_inputs(snapshot: SnapshotFiles, ledger: list[Row]) -> list[ExposureInput]:
    if not ledger:
        return []
    known = units_with_reference(snapshot)
    mid = np.array(
        [r["obsmjd"] + 0.5 * (DEFAULT_EXPTIME_S if r["exptime"] is None else r["exptime"]) / 86400.0 for r in ledger]
    )
    observers = observer_vectors(mid)
    return [
        ExposureInput(
            row["exposureid"],
            row["source"],
            row["digest"],
            row["nrows"],
            unit_of(row),
            str(unit_of(row)) in known,
            False,
            float(mid[i]),
            tuple(observers[i].tolist()),
            row["magzp"],
            row["quality"] == BAD,
            None if row["errora"] is None else (row["errora"], row["errorb"], row["errorc"], row["errord"]),
            row["corrections"],
        )
        for i, row in enumerate(ledger)
    ]


def projected_bytes(task: MatchTask) -> int:
    """Peak memory of the worker that runs the task."""
    rows = sum(exposure.nrows for exposure in task.exposures)
    seeds = sum(file.rows for file in task.objects)
    return WORKER_BASE_BYTES + BYTES_PER_ROW * rows + 100 * seeds
