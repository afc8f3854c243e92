"""Divide the matching of new exposures into tasks: one for each group of tiles and batch of exposures."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.calibration import observer_vectors
from ztfmatch.core.kernels.coverage import Coverage, Members
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, Row, footprint_pixels, unit_of
from ztfmatch.core.schema import OBJECTS, REFERENCES
from ztfmatch.core.schema.ledger import BAD
from ztfmatch.core.survey import DEFAULT_EXPTIME_S
from ztfmatch.core.tasks.match import BYTES_PER_ROW, BYTES_PER_SEED, ExposureInput, MatchTask


def units_with_reference(snapshot: SnapshotFiles) -> dict[str, int]:
    """Seeds of the units that have a reference, by the units' names."""
    table = snapshot.read(REFERENCES.name, ["field", "rcid", "fid", "nseeds"])
    return {str(unit_of(row)): row["nseeds"] for row in table.to_pylist()}


def match_tasks(
    snapshot: SnapshotFiles,
    ledger: list[Row],
    rows_per_task: int,
    operation_id: str,
    corrections: tuple[DataFile, ...] = (),
) -> list[MatchTask]:
    """Tasks for groups of neighbouring tiles and batches of exposures.

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
    rows = [row for row in ledger if row["ra"] is not None]
    if not rows:
        return []
    seeds = units_with_reference(snapshot)
    exposures, rows = _in_order(_exposure_inputs(seeds.keys(), rows), rows)
    cover = _coverage(snapshot, rows)
    members = cover.members(rows_per_task)
    groups = np.bincount(np.concatenate([one.exposure for one in members]))
    tasks = []
    for one in members:
        for i, batch in enumerate(_batches(one, cover.rows, rows_per_task)):
            tiles = list(cover.tiles(one.group, batch))
            objects = tuple(file for tile, _ in tiles for file in snapshot.of_tile(OBJECTS.name, tile))
            units = {str(exposures[e].unit) for e in batch}
            tasks.append(
                MatchTask(
                    f"match-N{one.group.order}-{one.group.npix}-{i:04d}",
                    snapshot.storage,
                    one.group,
                    tuple(tile for tile, inside in tiles if inside),
                    tuple(exposures[e] if groups[e] == 1 else replace(exposures[e], straddles=True) for e in batch),
                    objects,
                    min(sum(file.rows for file in objects), sum(seeds.get(unit, 0) for unit in units)),
                    snapshot.config.radius_arcsec,
                    snapshot.number + 1,
                    f"{operation_id[:12]}-{i:04d}",
                    corrections,
                )
            )
    return tasks


def _in_order(exposures: list[ExposureInput], rows: list[Row]) -> tuple[list[ExposureInput], list[Row]]:
    """By unit, then time, as tasks have them."""
    keys = [(e.unit.field, e.unit.fid, e.unit.rcid, e.mid_mjd, e.exposureid) for e in exposures]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return [exposures[i] for i in order], [rows[i] for i in order]


def _coverage(snapshot: SnapshotFiles, rows: list[Row]) -> Coverage:
    pixels = [footprint_pixels(row) for row in rows]
    counts = np.array([len(found) for found in pixels], np.int64)
    return Coverage(snapshot.tiling, np.concatenate(pixels), counts, np.array([row["nrows"] for row in rows], np.int64))


def _batches(members: Members, rows: npt.NDArray[np.int64], rows_per_task: int) -> list[npt.NDArray[np.int64]]:
    """Split the exposures of a group into batches of about equal size, none above the limit unless one catalog is.

    A batch has at most ``rows_per_task`` rows in the group, and its catalogs twice that: they are read as a whole.
    """
    size = np.maximum(members.rows, 0.5 * rows[members.exposure]) / rows_per_task
    share = float(size.sum()) / max(math.ceil(size.sum()), 1)
    starts = [0]
    held = passed = 0.0
    for i, one in enumerate(size.tolist()):
        if held and (held + one > 1.0 or passed + 0.5 * one > share * len(starts)):
            starts.append(i)
            held = 0.0
        held += one
        passed += one
    return np.split(members.exposure, starts[1:])


def _exposure_inputs(known: Collection[str], ledger: list[Row]) -> list[ExposureInput]:
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
    return WORKER_BASE_BYTES + BYTES_PER_ROW * rows + BYTES_PER_SEED * task.seeds
