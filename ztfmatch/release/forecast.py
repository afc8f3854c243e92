"""Estimate the cost of a HATS release of a whole store."""

from __future__ import annotations

from typing import Final

from ztfmatch.core import costs
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.operations.forecast import Draft, JobForecast
from ztfmatch.core.schema import DETECTIONS, OBJECTS
from ztfmatch.release.hats import HatsConfig
from ztfmatch.release.tasks.partition import HELD_BYTES
from ztfmatch.release.tasks.released import BYTES_PER_ROW_IN_FLIGHT, ROWS_IN_FLIGHT

COUNTING: Final = 0.45
"""Of the time of writing (rehearsal.py): only objectids and exposures are read."""


def forecast_hats(snapshot: SnapshotFiles, config: HatsConfig) -> Draft:
    """What the release takes whose scope is the whole snapshot."""
    config.validate()
    objects, detections = (snapshot.files.by_tile(table.name) for table in (OBJECTS, DETECTIONS))
    tiles = snapshot.tiles_with(OBJECTS.name)
    held = [(objects[t].rows, detections[t].rows if t in detections else 0) for t in tiles if t in objects]
    seconds = [
        costs.TILE_TASK.seconds + o * costs.PUBLISHED_OBJECT.seconds + e * costs.PUBLISHED_EPOCH.seconds
        for o, e in held
    ]
    all_objects, epochs = (sum(of) for of in zip(*held, strict=True)) if held else (0, 0)
    written = epochs * costs.PUBLISHED_EPOCH_BYTES + all_objects * costs.PUBLISHED_OBJECT_BYTES
    read = float(sum(snapshot.size(table.name) for table in (OBJECTS, DETECTIONS)))
    most = max((e for _, e in held), default=0)
    memory = WORKER_BASE_BYTES + BYTES_PER_ROW_IN_FLIGHT * min(most, ROWS_IN_FLIGHT) + HELD_BYTES
    partitions = max(len(held), round(all_objects / config.partition_rows))
    writing = JobForecast.of("partitions", seconds, (read, written, 2 * partitions), memory)
    counting = JobForecast.of("counting", [COUNTING * one for one in seconds], (0.2 * read, 0, 0), memory)
    what = f"{all_objects:,} objects, {epochs:,} epochs, in {len(held):,} tiles"
    assumed = ["all epochs are in the scope of the release"]
    used = (costs.PUBLISHED_EPOCH, costs.PUBLISHED_OBJECT, costs.TILE_TASK)
    return Draft("publish", what, epochs, [counting, writing], commits=0, assumed=assumed, used=used)
