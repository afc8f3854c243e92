"""Sums over a whole snapshot, from those that tasks write for each tile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ints
from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.errors import MetadataError
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.rows import UNIT, codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, OperationId
from ztfmatch.core.operations.corrections import current
from ztfmatch.core.plain import Keywords
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import CORRECTIONS, DETECTIONS, EXPOSURES, OBJECTS, REFERENCES
from ztfmatch.core.survey import FILTER_CODES, Channel, Unit
from ztfmatch.core.tasks.staging import clear
from ztfmatch.photometry.io.ps1 import Ps1Catalog
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.residuals import check_compared, tile_inputs, total_of
from ztfmatch.photometry.tasks.comparison import bins_of
from ztfmatch.photometry.tasks.report import (
    BYTES_PER_ROW_IN_FLIGHT,
    MOST_SLICES,
    ROWS_IN_FLIGHT,
    ReportTask,
    TileSums,
    bytes_of_slices,
    bytes_of_sums,
    sum_tile,
)
from ztfmatch.photometry.tasks.residuals import BYTES_PER_OBJECT

_BYTES_PER_EXPOSURE: Final = 400
_SLICE_DAYS: Final = 3.0
_SLICE_VISITS: Final = 4.0
_MOST_EVEN: Final = 24
"""Shortest slice of time, fewest exposures of a unit in one on the average, and the most of them."""
_BY_KEY: Final = ("maps", "stars", "units", "slices")
_WHOLE: Final = ("epochs", "scatter", "errors")
"""Fields of sums whose first axis is that of phases, by key or as they are."""


@dataclass(frozen=True)
class Times:
    """Slices of time of a channel."""

    span: tuple[float, float]
    """MJD of the first and the last detection of the snapshot."""
    dates: tuple[float, ...]
    """MJD at which one slice ends and the next begins."""
    steps: tuple[float, ...]
    """Of these, at which the corrections of the channel step."""

    @property
    def edges(self) -> Floats:
        """Of the slices, MJD."""
        return np.array([self.span[0], *self.dates, self.span[1]])


@dataclass(frozen=True)
class Sums:
    """Sums of a snapshot; the first axis is that of phases: without corrections, and as stored if there are any."""

    bins: Bins
    maps: Mapping[Channel, Floats]
    """By readout channel and filter: MAP_COLUMNS of each cell, shape (phases, cells, 3)."""
    stars: Mapping[Channel, Ints]
    """Histogram of the mean residuals of stars, shape (phases, levels, RESIDUAL_BINS)."""
    units: Mapping[Unit, Floats]
    """MAP_COLUMNS, shape (phases, 3)."""
    epochs: Ints
    """Histogram of epochs about the medians of their lightcurves, shape (phases, filters, levels, OFFSET_BINS)."""
    scatter: Ints
    """Histogram of the scatter of lightcurves, shape (phases, filters, RMS_MAG_BINS, SCATTER_BINS)."""
    errors: Floats
    """Number and sum of stored errors of epochs, shape (phases, filters, RMS_MAG_BINS, 2)."""
    against_ps1: bool
    detections: int
    used: int
    compared: int
    """Objects with a PS1 star."""
    slices: Mapping[Channel, Floats] = field(default_factory=dict)
    """TIME_COLUMNS by slice of time and place, shape (phases, slices, places, 3)."""
    times: Mapping[Channel, Times] = field(default_factory=dict)
    gains: tuple[tuple[str, str, float | None], ...] = ()
    """Of the corrections that are compared, see :class:`OtherSet`."""
    titles: tuple[str, ...] = ()
    """What phases are called, where that is not usual."""

    def only(self, phases: list[int], titles: tuple[str, ...] = ()) -> Sums:
        """Some of the phases."""
        by_key: Keywords = {name: {key: held[phases] for key, held in getattr(self, name).items()} for name in _BY_KEY}
        whole: Keywords = {name: getattr(self, name)[phases] for name in _WHOLE}
        return replace(self, **by_key, **whole, titles=titles)

    @property
    def phases(self) -> int:
        """2 where there are corrections, else 1; with those of others one more."""
        return len(self.scatter)

    @property
    def filters(self) -> list[int]:
        """Filters that have lightcurves."""
        return [fid for fid in FILTER_CODES if self.scatter[:, fid - 1].any() or self.channels(fid)]

    def channels(self, fid: int) -> list[int]:
        """Readout channels that have detections in a filter."""
        return sorted(rcid for rcid, of in self.maps if of == fid)


@dataclass(frozen=True)
class OtherSet:
    """Corrections in a directory."""

    place: str
    digest: str
    gains: tuple[tuple[str, str, float | None], ...] = ()
    """What was held out when they were made, a term, and what that takes away, mmag."""


@dataclass(frozen=True)
class What:
    """What is to be measured."""

    ps1: Ps1Catalog | None
    config: CalibrateConfig
    other: OtherSet | None = None
    """Corrections that those of the store are compared with."""


def measure(snapshot: SnapshotFiles, what: What, runner: Runner) -> Sums:
    """Add up all lightcurves of a snapshot, tile by tile.

    Raises
    ------
    MetadataError
        If there are no detections, or PS1 covers none of the sky or nothing in it can be compared.
    JobFailedError
        If a task failed after its retries; a rerun resumes.
    """
    operation_id = OperationId("report", snapshot.number, what).value
    times = _times(snapshot)
    tasks = _tasks(snapshot, what, operation_id, times)
    if not tasks:
        raise MetadataError(f"{snapshot.storage.root}: snapshot {snapshot.number} has no detections to report on")
    ledger_rows = snapshot.rows(EXPOSURES.name)
    runner.check_memory({task.key: _projected_bytes(task, ledger_rows) for task in tasks})
    results = runner.run(Job("measuring lightcurves", sum_tile, tasks, operation_id, snapshot.storage))
    try:
        if what.ps1 is not None:
            check_compared(snapshot, what.ps1, what.config, results)
        return _folded(snapshot.storage, what, results, times)
    finally:
        clear(snapshot.storage, operation_id)


def _tasks(snapshot: SnapshotFiles, what: What, operation_id: str, times: Mapping[Channel, Times]) -> list[ReportTask]:
    corrected = snapshot.files.has(CORRECTIONS.name)
    inputs = tile_inputs(snapshot, "report", operation_id, what.ps1, what.config)
    other = None if what.other is None else what.other.place
    dates = {channel: when.dates for channel, when in times.items()}
    return [ReportTask(**vars(some), corrected=corrected, other=other, dates=dates) for some in inputs]


def _times(snapshot: SnapshotFiles) -> dict[Channel, Times]:
    """Slices of time of each channel: even ones, and the steps of its corrections."""
    files = snapshot.of_table(DETECTIONS.name)
    ends = [time for file in files for time in (file.min_hmjd, file.max_hmjd) if time is not None]
    if not ends:
        return {}
    span = min(ends), max(ends)
    rows = snapshot.read(REFERENCES.name, UNIT)
    units = len(np.unique(codes_of_rows(rows)))
    visits = snapshot.rows(EXPOSURES.name) / max(units, 1)
    n = int(np.clip(min((span[1] - span[0]) / _SLICE_DAYS, visits / _SLICE_VISITS), 1, _MOST_EVEN))
    even = tuple(np.linspace(*span, n + 1)[1:-1].tolist())
    applied = current(snapshot)
    smooth = None if applied is None else applied.set.smooth
    times = {}
    for channel in set(zip(rows["rcid"].to_pylist(), rows["fid"].to_pylist(), strict=True)):
        steps = () if smooth is None else tuple(s for s in smooth.steps(channel) if span[0] < s < span[1])
        times[channel] = Times(span, tuple(sorted({*even, *steps}))[: MOST_SLICES - 1], steps)
    return times


def _projected_bytes(task: ReportTask, ledger_rows: int) -> int:
    objects, rows = task.rows(OBJECTS), task.rows(DETECTIONS)
    in_flight = BYTES_PER_ROW_IN_FLIGHT * min(rows, ROWS_IN_FLIGHT)
    exposures = _BYTES_PER_EXPOSURE * min(ledger_rows, rows)
    sums = bytes_of_sums(task.config, 2 if task.other is None else 3) + bytes_of_slices(task.dates)
    return WORKER_BASE_BYTES + sums + BYTES_PER_OBJECT * objects + in_flight + exposures


def _folded(storage: Storage, what: What, results: Sequence[TileSums], times: Mapping[Channel, Times]) -> Sums:
    """Sums of all tiles, read one after the other."""
    by_key: dict[str, dict[Any, npt.NDArray[Any]]] = {name: {} for name in ("maps", "stars", "unitsums", "times")}
    whole: Keywords = dict.fromkeys(("epochs", "scatter", "errors"), 0)
    for result in results:
        held = read_arrays(storage, result.kept[0].path)
        channels = [(rcid, fid) for rcid, fid in held["channels"].tolist()]
        _add(by_key["maps"], channels, held["maps"])
        _add(by_key["stars"], channels, held["stars"])
        _add(by_key["unitsums"], [Unit(*unit) for unit in held["units"].tolist()], held["unitsums"])
        _add(by_key["times"], [(rcid, fid) for rcid, fid in held["timechannels"].tolist()], held["times"])
        whole = {name: sums + held[name] for name, sums in whole.items()}
    maps, stars, units, slices = (dict(sorted(sums.items())) for sums in by_key.values())
    total = total_of(results)
    return Sums(bins_of(what.config), maps, stars, units, **whole, against_ps1=what.ps1 is not None,
                detections=total.detections, used=total.used, compared=total.stars, slices=slices,
                times=times)  # fmt: skip


def _add(sums: dict[Any, npt.NDArray[Any]], keys: Iterable[Any], values: npt.NDArray[Any]) -> None:
    """Add values, whose second axis is that of the keys."""
    for i, key in enumerate(keys):
        sums[key] = sums[key] + values[:, i] if key in sums else values[:, i].copy()
