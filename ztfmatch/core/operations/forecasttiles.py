"""Estimate the cost of operations on stored tiles: statistics, transients, link, compact, verify, rematch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from ztfmatch.core import costs
from ztfmatch.core.config import MARGIN_ARCSEC, CompactConfig
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.manifest import TileFiles
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.sources import REFERENCE_PATTERN
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN
from ztfmatch.core.kernels.tiling import Tile, neighbours
from ztfmatch.core.operations import compact, link, statistics, transients
from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.operations.forecast import Draft, JobForecast
from ztfmatch.core.operations.forecastunits import known_units, ledger_by_unit
from ztfmatch.core.operations.listing import list_catalogs
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import DETECTIONS, MEMBERS, OBJECTS, ORPHANS, STARS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.tasks.rematch import BYTES_PER_ROW

Held = Mapping[Tile | None, TileFiles]

_NONE: Final = TileFiles(0, 0, -1, 0)
_TASK: Final = costs.TILE_TASK.seconds
_NEIGHBOURS: Final = "neighbours of tiles"


class _Tiles:
    """Rows that each tile has of some tables."""

    def __init__(self, snapshot: SnapshotFiles, *tables: str) -> None:
        self._held: dict[str, Held] = {name: snapshot.files.by_tile(name) for name in tables}
        self._bytes = {name: _bytes_per_row(snapshot, name) for name in tables}

    def rows(self, table: str, *tiles: Tile) -> int:
        """Rows of a table in tiles."""
        held = self._held[table]
        return sum(held.get(tile, _NONE).rows for tile in tiles)

    def size(self, table: str, rows: float) -> float:
        """Bytes, about, of so many rows."""
        return rows * self._bytes[table]


def _bytes_per_row(snapshot: SnapshotFiles, table: str) -> float:
    rows = snapshot.rows(table)
    return snapshot.size(table) / rows if rows else 0.0


def forecast_statistics(snapshot: SnapshotFiles, min_new_percent: float) -> Draft:
    """What statistics will take: at most, as if every object of a tile had new epochs."""
    stale = statistics.stale_tiles(snapshot)
    if min_new_percent:
        grown = statistics.new_percent(snapshot, stale)
        stale = [tile for tile in stale if grown[tile] >= min_new_percent]
    held = _Tiles(snapshot, OBJECTS.name, DETECTIONS.name)
    rows = [{name: held.rows(name, tile) for name in (OBJECTS.name, DETECTIONS.name)} for tile in stale]
    epochs, objects = (sum(of[name] for of in rows) for name in (DETECTIONS.name, OBJECTS.name))
    seconds = [
        _TASK + of[DETECTIONS.name] * costs.EPOCH.seconds + of[OBJECTS.name] * costs.OBJECT.seconds for of in rows
    ]
    read = held.size(DETECTIONS.name, epochs) + held.size(OBJECTS.name, objects)
    memory = max(map(statistics.projected_bytes, rows), default=0)
    job = JobForecast.of("statistics", seconds, (read, objects * costs.STATISTICS_BYTES, len(rows)), memory)
    what = f"{len(stale):,} tiles, {objects:,} objects, {epochs:,} epochs"
    assumed = ["every object of these tiles has a new epoch: of the others nothing is read"]
    return Draft("statistics", what, epochs, [job], assumed=assumed, used=(costs.EPOCH, costs.OBJECT, costs.TILE_TASK))


def forecast_transients(snapshot: SnapshotFiles) -> Draft:
    """What the grouping of orphans will take: at most, as if all units of a tile had new ones."""
    stale = transients.ungrouped_tiles(snapshot)
    held = _Tiles(snapshot, ORPHANS.name, TRANSIENTS.name, TRANSIENTDATA.name)
    near = [held.rows(ORPHANS.name, *neighbours(snapshot.tiling, tile)) for tile in tracked(stale, _NEIGHBOURS)]
    own = [held.rows(ORPHANS.name, tile) for tile in stale]
    seconds = [_TASK + rows * costs.ORPHAN.seconds for rows in near]
    memory = max(map(transients.projected_bytes, near), default=0)
    io = (held.size(ORPHANS.name, sum(own)), 0.1 * held.size(ORPHANS.name, sum(own)), 2 * len(stale))
    job = JobForecast.of("transients", seconds, io, memory)
    what = f"{len(stale):,} tiles, {sum(own):,} orphans"
    assumed = ["all units of these tiles have new orphans: those of the others are not read", "a tenth of them recur"]
    return Draft("transients", what, sum(own), [job], assumed=assumed, used=(costs.ORPHAN, costs.TILE_TASK))


def forecast_link(snapshot: SnapshotFiles) -> Draft:
    """What linking will take."""
    stale = link.unlinked_tiles(snapshot)
    objects = _Tiles(snapshot, OBJECTS.name).rows(OBJECTS.name, *stale)
    job = _linking("link", snapshot, stale)
    what = f"{len(stale):,} tiles, {objects:,} objects"
    return Draft("link", what, objects, [job], used=(costs.LINKED_OBJECT, costs.TILE_TASK))


def _linking(title: str, snapshot: SnapshotFiles, tiles: Sequence[Tile]) -> JobForecast:
    """Link the objects of some tiles; of those around them edges are read."""
    held = _Tiles(snapshot, OBJECTS.name)
    own = [held.rows(OBJECTS.name, tile) for tile in tiles]
    near = [held.rows(OBJECTS.name, *neighbours(snapshot.tiling, tile)) for tile in tracked(tiles, _NEIGHBOURS)]
    seconds = [_TASK + rows * costs.LINKED_OBJECT.seconds for rows in own]
    io = (held.size(OBJECTS.name, sum(own)), sum(own) * costs.LINKED_OBJECT_BYTES, 2 * sum(rows > 0 for rows in own))
    return JobForecast.of(title, seconds, io, max(map(link.projected_bytes, own, near), default=0))


def forecast_compact(snapshot: SnapshotFiles, config: CompactConfig) -> Draft:
    """What a compaction will take, by its own plan."""
    config.validate()
    plan = compact.plan_compaction(snapshot, config)
    held = _Tiles(snapshot, OBJECTS.name, DETECTIONS.name, ORPHANS.name)
    tables = (OBJECTS.name, DETECTIONS.name, ORPHANS.name)
    merging = [
        _TASK + merge.rows / len(merge.spans) * costs.MERGED_ROW.seconds for merge in plan.merges for _ in merge.spans
    ]
    merged = sum(merge.size for merge in plan.merges)
    whole = [[held.rows(name, tile) for name in tables] for tile in plan.tiles]
    size = sum(held.size(name, rows) for of in whole for name, rows in zip(tables, of, strict=True))
    ledger = [_TASK + sum(file.rows for file in group) * costs.MERGED_ROW.seconds for group in plan.ledger]
    moved = sum(file.size for file in plan.ledger_files)
    memory = max((merge.bytes_in_flight for merge in plan.merges), default=0) + WORKER_BASE_BYTES
    jobs = [
        JobForecast.of("merging", merging, (merged, merged, len(merging)), memory),
        JobForecast.of(
            "compacting", [_TASK + sum(of) * costs.MERGED_ROW.seconds for of in whole], (size, size, 4 * len(whole)),
            WORKER_BASE_BYTES + max((compact.bytes_of_tile(*of) for of in whole), default=0),
        ),
        JobForecast.of("compacting the ledger", ledger, (moved, moved, len(ledger)), WORKER_BASE_BYTES),
    ]  # fmt: skip
    rows = sum(merge.rows for merge in plan.merges) + sum(map(sum, whole))
    what = f"{len(plan.touched):,} tiles, {rows:,} rows"
    assumed = [f"{plan.waiting:,} large merges are left for the next time"] if plan.waiting else []
    return Draft("compact", what, rows, jobs, assumed=assumed, used=(costs.MERGED_ROW, costs.TILE_TASK))


def forecast_verify(snapshot: SnapshotFiles) -> Draft:
    """What a verification will take."""
    tables = (OBJECTS.name, DETECTIONS.name, ORPHANS.name)
    held = _Tiles(snapshot, *tables, MEMBERS.name)
    tiles = snapshot.tiles_with(*tables, TRANSIENTS.name, STARS.name)
    rows = [[held.rows(name, tile) for name in tables] for tile in tiles]
    totals = [sum(of[i] for of in rows) for i in range(len(tables))]
    members = [held.rows(MEMBERS.name, tile) * costs.VERIFIED_MEMBER.seconds for tile in tiles]
    seconds = [
        _TASK + of[0] * costs.VERIFIED_OBJECT.seconds + (of[1] + of[2]) * costs.VERIFIED_ROW.seconds + stars
        for of, stars in zip(rows, members, strict=True)
    ]
    size = sum(held.size(name, total) for name, total in zip(tables, totals, strict=True))
    jobs = [JobForecast.of("verifying", seconds, (size, 0, 0), WORKER_BASE_BYTES)]
    what = f"{len(tiles):,} tiles, {totals[1] + totals[2]:,} rows, {totals[0]:,} objects"
    used = (costs.VERIFIED_ROW, costs.VERIFIED_OBJECT, costs.VERIFIED_MEMBER, costs.TILE_TASK)
    return Draft("verify", what, totals[1] + totals[2], jobs, commits=0, used=used)


def forecast_rematch(snapshot: SnapshotFiles, references: Iterable[str], rows_per_task: int) -> Draft:
    """What a rematch to the references of some places will take, by their names; none of them is opened.

    Raises
    ------
    ConfigError
        If there is no reference, or none of a unit.
    """
    listing = list_catalogs(references, REFERENCE_PATTERN)
    units = known_units(snapshot, listing.units)
    if not len(units.code):
        raise ConfigError(f"no {REFERENCE_PATTERN} of any unit in these places")
    ledger = ledger_by_unit(snapshot)
    rows = ledger.rows[units.code]
    in_tiles: dict[int, list[tuple[int, int, int]]] = {}
    reach = units.radius + MARGIN_ARCSEC / ARCSEC_PER_RADIAN
    unit, touched = snapshot.tiling.touched_by_caps(units.xyz, reach)
    units_of_touch = np.stack([rows, np.bincount(unit, minlength=len(rows)), units.seeds], axis=1)[unit].tolist()
    for tile, of in zip(touched.tolist(), units_of_touch, strict=True):
        in_tiles.setdefault(tile, []).append(tuple(of))
    tables = (OBJECTS.name, DETECTIONS.name, ORPHANS.name)
    held = _Tiles(snapshot, *tables)
    tiles = {snapshot.tiling.tiles[row]: of for row, of in sorted(in_tiles.items())}
    total = int(rows.sum())
    matching = [one for of in tiles.values() for one in _again(of, rows_per_task)]
    stored = held.size(DETECTIONS.name, total)
    retired = [sum(held.rows(name, tile) for name in tables) for tile in tiles]
    retiring = [_TASK + count * costs.RETIRED_ROW.seconds for count in retired]
    kept = sum(held.size(name, held.rows(name, *tiles)) for name in tables)
    largest = min(rows_per_task, max((sum(one[0] for one in of) for of in tiles.values()), default=0))
    orphans = [held.rows(ORPHANS.name, *neighbours(snapshot.tiling, tile)) for tile in tracked([*tiles], _NEIGHBOURS)]
    jobs = [
        JobForecast.of("matching again", matching, (1.3 * stored, stored, 2 * len(matching)),
                       WORKER_BASE_BYTES + BYTES_PER_ROW * largest),
        JobForecast.of("retiring objects", retiring, (kept, kept, 3 * len(tiles)), WORKER_BASE_BYTES),
        JobForecast.of("transients", [_TASK + count * costs.ORPHAN.seconds for count in orphans],
                       (held.size(ORPHANS.name, sum(orphans)), 0, 2 * len(tiles)),
                       max(map(transients.projected_bytes, orphans), default=0)),
        JobForecast.of("lineage", (units.seeds * costs.TRACED_SEED.seconds + _TASK).tolist(),
                       (float(units.seeds.sum()) * 54, float(units.seeds.sum()) * 20, len(units.code)),
                       WORKER_BASE_BYTES),
        _linking("stars", snapshot, link.relinked_tiles(snapshot, tiles)),
    ]  # fmt: skip
    exposures = int(ledger.exposures[units.code].sum())
    what = f"{len(units.code):,} units, {exposures:,} exposures, {total:,} rows, in {len(tiles):,} tiles"
    assumed = [
        "the references are new, of as many seeds as those before, and cover the same sky",
        "the files of a tile hold other units too, so that all of them are written anew",
    ]
    used = (costs.REMATCHED_ROW, costs.RETIRED_ROW, costs.ORPHAN, costs.TRACED_SEED, costs.LINKED_OBJECT,
            costs.TILE_TASK)  # fmt: skip
    main = exposures * costs.MAIN_BYTES_PER_REMATCHED
    return Draft("rematch", what, exposures, jobs, main_bytes=main, assumed=assumed, used=used)


def _again(units: Sequence[tuple[int, int, int]], rows_per_task: int) -> list[float]:
    """Seconds of each task of a tile; its batches hold as many rows of whole catalogs as a task takes."""
    batches = max(math.ceil(sum(rows for rows, _, _ in units) / rows_per_task), 1)
    own = sum(rows / touched for rows, touched, _ in units)
    seeds = sum(seeds for *_, seeds in units)
    seconds = own * costs.REMATCHED_ROW.seconds + seeds * costs.REREAD_SEED.seconds
    return [_TASK + seconds / batches] * batches
