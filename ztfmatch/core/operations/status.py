"""A summary of a snapshot."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from ztfmatch.core.display import Displayable
from ztfmatch.core.io import log
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.rows import UNIT, codes_of_rows
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
from ztfmatch.core.survey import FILTER_CODES, units_of_codes

_COUNTED: Final = ("fid", "quality", "corrections")


@dataclass(frozen=True)
class TableStatus:
    """Size of one table."""

    table: str
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Status(Displayable):
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
    ledger = _Ledger.of(snapshot)
    units = np.unique(codes_of_rows(snapshot.read(REFERENCES.name, UNIT)))
    detections = snapshot.rows(DETECTIONS.name)
    return Status(
        store=snapshot.storage.root,
        snapshot=snapshot.number,
        operation=snapshot.commit.operation,
        time=snapshot.commit.time,
        radius_arcsec=snapshot.config.radius_arcsec,
        tiles=len(snapshot.tiling.tiles),
        tiles_with_data=len(snapshot.tiles_with(OBJECTS.name, DETECTIONS.name, ORPHANS.name)),
        units=len(units),
        fields=len(np.unique(units_of_codes(units)[0])),
        exposures=snapshot.rows(EXPOSURES.name),
        exposures_by_filter={FILTER_CODES[fid]: n for fid, n in sorted(ledger.counts["fid"].items())},
        exposures_by_quality=dict(sorted(ledger.counts["quality"].items())),
        first_mjd=min(ledger.times, default=None),
        last_mjd=max(ledger.times, default=None),
        detections=detections,
        orphans=snapshot.rows(ORPHANS.name),
        rejected=ledger.rejected,
        objects=snapshot.rows(OBJECTS.name),
        bytes_per_detection=round(snapshot.size(DETECTIONS.name) / detections, 2) if detections else None,
        statistics=_state(snapshot, STATISTICS.name, stale := stale_tiles(snapshot)) + _age(snapshot, stale),
        transients=_state(snapshot, TRANSIENTS.name, ungrouped_tiles(snapshot)),
        stars=_state(snapshot, STARS.name, unlinked_tiles(snapshot) if snapshot.files.has(STARS.name) else ()),
        corrections=_corrections(ledger.counts["corrections"]),
        drift=[],
        quarantined=snapshot.rows(QUARANTINE.name),
        tables=table_status(snapshot),
    )


def table_status(snapshot: SnapshotFiles) -> list[TableStatus]:
    """Size of every table, as the manifest has it: no file is read."""
    return [TableStatus(name, snapshot.rows(name), snapshot.files.count(name), snapshot.size(name)) for name in TABLES]


@dataclass
class _Ledger:
    """What is said of all exposures; one file of the ledger is read after the other."""

    counts: dict[str, Counter[Any]] = field(default_factory=lambda: {name: Counter() for name in _COUNTED})
    """Exposures by value of some columns."""
    times: list[float] = field(default_factory=list)
    """First and last of each file, MJD."""
    rejected: int = 0

    @classmethod
    def of(cls, snapshot: SnapshotFiles) -> _Ledger:
        """Of a snapshot."""
        ledger = cls()
        for file in snapshot.ledger:
            rows = read_file_rows(snapshot.storage, file, (*_COUNTED, "obsmjd", "nrejected"))
            for name, counts in ledger.counts.items():
                counted = pc.value_counts(rows[name].combine_chunks())
                counts.update({item["values"]: item["counts"] for item in counted.to_pylist()})
            bounds = pc.min_max(rows["obsmjd"]).as_py()
            ledger.times += [bounds["min"], bounds["max"]]
            ledger.rejected += pc.sum(rows["nrejected"]).as_py()
        return ledger


def _corrections(counts: Counter[Any]) -> str:
    named = sorted((name, n) for name, n in counts.items() if name is not None)
    return ", ".join(f"{name} of {n} of {counts.total()} exposures" for name, n in named) or "none"


def _state(snapshot: SnapshotFiles, table: str, stale: Sequence[Tile]) -> str:
    """Whether a table that is made of others is up to date with them."""
    if not snapshot.files.has(table):
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
