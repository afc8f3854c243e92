"""What is in a snapshot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io import log
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.link import unlinked_tiles
from ztfmatch.core.operations.statistics import new_percent, stale_tiles
from ztfmatch.core.operations.transients import ungrouped_tiles
from ztfmatch.core.schema import (
    DETECTIONS,
    EXPOSURES,
    OBJECTS,
    ORPHANS,
    QUARANTINE,
    REFERENCES,
    STARS,
    STATISTICS,
    TABLES,
    TRANSIENTS,
)
from ztfmatch.core.shown import Shown
from ztfmatch.core.survey import FILTER_CODES


@dataclass(frozen=True)
class TableStatus:
    """Size of one table."""

    table: str
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Status(Shown):
    """What a store holds."""

    store: str
    snapshot: int
    operation: str
    time: str
    radius_arcsec: float
    tiles: int
    tiles_with_data: int
    units: int
    fields: int
    exposures: int
    exposures_by_filter: dict[str, int]
    exposures_by_quality: dict[str, int]
    first_mjd: float | None
    last_mjd: float | None
    detections: int
    orphans: int
    rejected: int
    objects: int
    bytes_per_detection: float | None
    statistics: str
    """``none``, ``up to date``, or how many tiles are stale, and how old theirs are."""
    transients: str
    """``none``, ``up to date``, or how many tiles are stale."""
    stars: str
    """The same: of tiles whose objects changed since they were linked."""
    corrections: str
    """``none``, or the sets that exposures have; and whether they no longer fit the newest exposures."""
    drift: list[Any]
    """By channel with exposures since the corrections came: :class:`ztfmatch.photometry.drift.ChannelDrift`."""
    quarantined: int
    tables: list[TableStatus]


def status_of(snapshot: SnapshotFiles) -> Status:
    """Describe a snapshot; reads the ledger and the references, no detection."""
    ledger = snapshot.read(EXPOSURES.name, ["field", "fid", "obsmjd", "quality", "nrejected", "corrections"])
    references = snapshot.read(REFERENCES.name, ["field", "rcid", "fid"])
    times = pc.min_max(ledger["obsmjd"])
    detections = snapshot.rows(DETECTIONS.name)
    return Status(
        store=snapshot.storage.root,
        snapshot=snapshot.number,
        operation=snapshot.commit.operation,
        time=snapshot.commit.time,
        radius_arcsec=snapshot.config.radius_arcsec,
        tiles=len(snapshot.tiling.tiles),
        tiles_with_data=len(snapshot.tiles_with(OBJECTS.name, DETECTIONS.name, ORPHANS.name)),
        units=len({tuple(row.values()) for row in references.to_pylist()}),
        fields=len(pc.unique(references["field"])),
        exposures=ledger.num_rows,
        exposures_by_filter={FILTER_CODES[fid]: n for fid, n in _counts(ledger, "fid").items()},
        exposures_by_quality=_counts(ledger, "quality"),
        first_mjd=times["min"].as_py(),
        last_mjd=times["max"].as_py(),
        detections=detections,
        orphans=snapshot.rows(ORPHANS.name),
        rejected=pc.sum(ledger["nrejected"]).as_py() or 0,
        objects=snapshot.rows(OBJECTS.name),
        bytes_per_detection=round(snapshot.size(DETECTIONS.name) / detections, 2) if detections else None,
        statistics=_state(snapshot, STATISTICS.name, stale := stale_tiles(snapshot)) + _age(snapshot, stale),
        transients=_state(snapshot, TRANSIENTS.name, ungrouped_tiles(snapshot)),
        stars=_state(snapshot, STARS.name, unlinked_tiles(snapshot) if snapshot.files.count(STARS.name) else ()),
        corrections=_corrections(ledger),
        drift=[],
        quarantined=snapshot.rows(QUARANTINE.name),
        tables=table_status(snapshot),
    )


def table_status(snapshot: SnapshotFiles) -> list[TableStatus]:
    """Size of every table, as the manifest has it: no file is read."""
    return [TableStatus(name, snapshot.rows(name), snapshot.files.count(name), snapshot.size(name)) for name in TABLES]


def _corrections(ledger: pa.Table) -> str:
    counts = {item["values"]: item["counts"] for item in pc.value_counts(ledger["corrections"]).to_pylist()}
    named = sorted((name, n) for name, n in counts.items() if name is not None)
    return ", ".join(f"{name} of {n} of {ledger.num_rows} exposures" for name, n in named) or "none"


def _counts(table: pa.Table, column: str) -> dict[Any, int]:
    values = table[column].combine_chunks()
    counted = pc.value_counts(values.cast("string") if column == "quality" else values)
    return {item["values"]: item["counts"] for item in sorted(counted.to_pylist(), key=lambda item: item["values"])}


def _state(snapshot: SnapshotFiles, table: str, stale: Sequence[Tile]) -> str:
    """Whether a table that is made of others is up to date with them."""
    if not snapshot.files.count(table):
        return "none"
    return f"{len(stale)} tiles are stale" if stale else "up to date"


def _age(snapshot: SnapshotFiles, stale: Sequence[Tile]) -> str:
    """By how much tiles have grown since their statistics were computed, and when the oldest of these were."""
    commits = [file.commit for file in snapshot.of_tiles(STATISTICS.name, stale)]
    if not commits:
        return ""
    oldest = log.read_commit(snapshot.storage, min(commits))
    grown = [percent for percent in new_percent(snapshot, stale).values() if math.isfinite(percent)]
    by = f" by up to {max(grown):.1f} % new epochs" if grown else ""
    return f"{by}; the oldest are of snapshot {oldest.number} ({oldest.time})"
