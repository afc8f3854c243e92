"""Sums over one tile's lightcurves for a report in one pass: without corrections, and as stored.

Whatever the number of detections, a task leaves one file of sums: maps over the quadrant by channel (readout channel
and filter), sums by unit, histograms. The stars and bins of magnitude are chosen by uncorrected magnitudes and are the
same for both, so that what differs is the corrections' doing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Arrays, Ints
from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import (
    FILTER_CODES,
    IDS_OF_A_UNIT,
    N_RCID,
    QUADRANT_SHAPE_PIX,
    Channel,
    Unit,
    fid_column,
    unit_of_objectid,
)
from ztfmatch.photometry.kernels.grid import even_grid
from ztfmatch.photometry.kernels.residuals import (
    CLIP_SIGMAS,
    OFFSET_BINS,
    RESIDUAL_BINS,
    SCATTER_BINS,
    SCATTER_FIRST_DEX,
    SCATTER_FLOOR_MAG,
    SCATTER_STEP_DEX,
    Bins,
    Summary,
    add_offsets,
    constants,
    summarise,
)
from ztfmatch.photometry.kernels.sums import COLUMNS, Curves, Epochs, Layout, add_residuals
from ztfmatch.photometry.tasks.comparison import (
    EPOCH_COLUMNS,
    Compared,
    KeptFile,
    TileInputs,
    TileLedger,
    TileObjects,
    bins_of,
    bins_of_stars,
    brightness_groups,
    compared_lightcurves,
    part_of,
    usable_magnitudes,
)
from ztfmatch.photometry.tasks.othercorrections import OtherCorrections

ROWS_IN_FLIGHT: Final = 1_000_000
BYTES_PER_ROW_IN_FLIGHT: Final = 350
BEFORE, AFTER = 0, 1
"""Rows of every array of sums: magnitudes without corrections, and as they are stored; then those of others."""

TIME_SIDE: Final = 12
"""Places along x and y of the maps of slices of time."""
TIME_COLUMNS: Final = ("n", "total", "squares")
"""Detections, sum of their residuals, and sum of the squares of what these are off the medians of their lightcurves."""
TIME_RANGE_MAG: Final = (13.5, 17.5)
"""Magnitudes of stars used to measure changes with time."""

MAP_COLUMNS: Final = ("n", "total", "stars")
"""Of a cell or a unit: detections, sum of their residuals, stars."""

RMS_BRIGHT_MAG: Final = 12.0
RMS_STEP_MAG: Final = 0.1
RMS_MAG_BINS: Final = 110
"""Magnitudes of lightcurves, 12 to 23; their scatter is binned as in :mod:`ztfmatch.photometry.kernels.residuals`."""

MOST_SLICES: Final = 40
"""Of time, that a channel may have, steps included."""

_COPIES: Final = 4
"""Of the sums in memory while they are written."""

_KEPT: Final = tuple(COLUMNS.index(name) for name in MAP_COLUMNS)
_FILTERS: Final = len(FILTER_CODES)


def bytes_of_sums(config: CalibrateConfig, states: int) -> int:
    """Memory of the sums of a tile that has all channels, and of one unit, of so many states: before, after, other."""
    cells, levels = config.cells_x * config.cells_y, config.magnitude_bins
    channel = len(MAP_COLUMNS) * cells + RESIDUAL_BINS * levels
    filters = _FILTERS * (levels * OFFSET_BINS + RMS_MAG_BINS * (SCATTER_BINS + 2))
    unit = len(COLUMNS) * cells * levels
    return 8 * states * (_COPIES * (N_RCID * _FILTERS * channel + filters) + 2 * unit)


def bytes_of_slices(dates: Mapping[Channel, tuple[float, ...]]) -> int:
    """Memory of the sums by slice of time of a tile that has all channels."""
    slices = sum(1 + len(some) for some in dates.values())
    return 8 * 3 * 2 * len(TIME_COLUMNS) * TIME_SIDE * TIME_SIDE * slices


@dataclass(frozen=True)
class ReportTask(TileInputs):
    """One tile; without PS1 epochs are compared with the medians of their own lightcurves."""

    corrected: bool = False
    """Whether any exposure has corrections, so that there is something after them."""
    other: str | None = None
    """Directory of corrections that those of the store are compared with."""
    dates: Mapping[Channel, tuple[float, ...]] = field(default_factory=dict)
    """MJD at which one slice of time ends and the next begins, by channel; of others all is in one."""


@dataclass(frozen=True)
class TileSums(Compared):
    """Where the sums of a tile are."""

    kept: tuple[KeptFile]


def sum_tile(task: ReportTask) -> TileSums:
    """Add up what a report needs of a tile."""
    objects, ledger = TileObjects(task), TileLedger(task)
    builder = _Builder(task, ledger)
    for chunk in compared_lightcurves(task, ledger, (*EPOCH_COLUMNS, "magerr"), ROWS_IN_FLIGHT):
        builder.add(chunk, objects)
    kept = KeptFile.of(task.storage, task.operation_id, task.key, builder.arrays())
    return TileSums(builder.detections, builder.used, *objects.counts, (kept,))


@dataclass(frozen=True)
class _Chosen:
    """Lightcurves of a chunk that count, shape (N,)."""

    unit: Ints
    constant: npt.NDArray[np.bool_]
    level: Ints
    """Bin of the median magnitude; -1 outside."""
    bin_of: Ints
    """Bin of magnitude in the maps; -1 for none."""
    shift: Floats | None
    """What PS1 takes off the magnitude of each epoch; None without PS1."""


class _Builder:
    """Adds up lightcurves, which come in order of objectid, so unit after unit."""

    def __init__(self, task: ReportTask, ledger: TileLedger) -> None:
        self._task, self._ledger = task, ledger
        config = task.config
        self.bins = bins_of(config)
        self.detections = self.used = 0
        self._other = None if task.other is None else OtherCorrections(task.other, ledger)
        slices = _Slices.of(ledger, task.dates)
        self._sums = [_Sums(self.bins, slices) for _ in range(1 + task.corrected + (task.other is not None))]

    def add(self, chunk: Lightcurves, objects: TileObjects) -> None:
        """Add complete lightcurves."""
        config = self._task.config
        self.detections += len(chunk.columns["exposureid"])
        exposure, mag = usable_magnitudes(chunk, self._ledger, config)
        summary = summarise(mag, chunk.offsets)
        chosen = self._choose(chunk, exposure, (mag, summary), objects)
        self.used += self._sums[BEFORE].add(chunk, chosen, mag, summary)
        self._sums[BEFORE].add_times(chunk, chosen, exposure, mag)
        made = [chunk.columns["mag"].astype(np.float64)] if self._task.corrected else []
        made += [] if self._other is None else [self._other.magnitudes(chunk, exposure)]
        for sums, values in zip(self._sums[AFTER:], made, strict=True):
            values[np.isnan(mag)] = np.nan
            sums.add(chunk, chosen, values, summarise(values, chunk.offsets))
            sums.add_times(chunk, chosen, exposure, values)

    def _choose(
        self, chunk: Lightcurves, exposure: Ints, measured: tuple[Floats, Summary], objects: TileObjects
    ) -> _Chosen:
        config, (mag, summary) = self._task.config, measured
        unit = chunk.objectid // IDS_OF_A_UNIT
        constant = constants(summary, brightness_groups(unit, summary.median), config.min_epochs)
        level = levels_of(summary.median, self.bins)
        if self._task.ps1 is None:
            return _Chosen(unit, constant, level, np.where(constant, level, -1), None)
        reference, colour = objects.references(chunk.objectid, config.max_ps1_error)
        counts = np.diff(chunk.offsets)
        shift = self._ledger.clrcoeff[exposure] * np.repeat(colour, counts) - np.repeat(reference, counts)
        bin_of = bins_of_stars(unit, summary, summarise(mag + shift, chunk.offsets), config)
        return _Chosen(unit, constant, level, np.where(constant, bin_of, -1), shift)

    def arrays(self) -> Arrays:
        """Sums of all channels and units, those of the corrected magnitudes below the others."""
        parts = [sums.arrays() for sums in self._sums]
        shared = ("channels", "units", "timechannels")
        return {name: parts[0][name] for name in shared} | {
            name: np.stack([part[name] for part in parts]) for name in parts[0] if name not in shared
        }


def levels_of(mag: Floats, bins: Bins) -> Ints:
    """Magnitude bin of each value; -1 outside and for NaN."""
    place = np.floor((np.nan_to_num(mag, nan=-1.0) - bins.bright) / bins.step).astype(np.int64)
    return np.where((place >= 0) & (place < bins.levels), place, -1)


@dataclass(frozen=True)
class _Slices:
    """Slices of time of the exposures of a tile, shape (E,)."""

    channels: list[Channel]
    channel: Ints
    """Number among the channels."""
    number: Ints
    """Of the slice."""
    most: int
    """Number of slices of any channel."""

    @classmethod
    def of(cls, ledger: TileLedger, dates: Mapping[Channel, tuple[float, ...]]) -> _Slices:
        pairs, channel = np.unique(np.stack([ledger.rcid, ledger.fid], axis=-1), axis=0, return_inverse=True)
        channels = [(int(rcid), int(fid)) for rcid, fid in pairs.tolist()]
        channel = channel.reshape(-1)
        number = np.zeros(len(channel), np.int64)
        for k, one in enumerate(channels):
            mine = channel == k
            number[mine] = np.searchsorted(np.array(dates.get(one, ())), ledger.mid_mjd[mine], side="right")
        return cls(channels, channel, number, 1 + max(map(len, dates.values()), default=0))


class _Sums:
    """Sums over one kind of magnitudes."""

    def __init__(self, bins: Bins, slices: _Slices) -> None:
        self._bins, self._slices = bins, slices
        places = TIME_SIDE * TIME_SIDE
        self._times = np.zeros((len(slices.channels) * slices.most * places, len(TIME_COLUMNS)))
        self._table = np.zeros((bins.size, len(COLUMNS)))
        self._maps: dict[Channel, Floats] = {}
        self._stars: dict[Channel, Ints] = {}
        self._units: dict[Unit, Floats] = {}
        self._epochs = np.zeros((_FILTERS * bins.levels, OFFSET_BINS), np.int32)
        self._scatter = np.zeros((_FILTERS, RMS_MAG_BINS, SCATTER_BINS), np.int64)
        self._errors = np.zeros((_FILTERS, RMS_MAG_BINS, 2))

    def add(self, chunk: Lightcurves, chosen: _Chosen, mag: Floats, summary: Summary) -> int:
        """Add lightcurves; return the number of epochs in the maps."""
        counts = np.diff(chunk.offsets)
        residual = mag - np.repeat(summary.median, counts) if chosen.shift is None else mag + chosen.shift
        relative = summarise(residual, chunk.offsets)
        used = 0
        starts = np.flatnonzero(np.diff(chosen.unit, prepend=-1))
        for first, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(chosen.unit)], strict=True):
            lightcurves = (chunk.offsets[first : stop + 1], chosen.bin_of[first:stop])
            unit = unit_of_objectid(int(chunk.objectid[first]))
            used += self._add_unit(unit, chunk, residual, lightcurves, part_of(relative, slice(first, stop)))
        self._add_epochs(chunk, chosen, mag, summary)
        self._add_scatter(chunk, mag, summary)
        return used

    def _add_unit(
        self, unit: Unit, chunk: Lightcurves, residual: Floats, lightcurves: tuple[Ints, Ints], relative: Summary
    ) -> int:
        """Maps and sums of a unit, of lightcurves given by offsets and bins of magnitude."""
        channel, bins = (unit.rcid, unit.fid), self._bins
        place = (chunk.columns["xpos"], chunk.columns["ypos"])
        stars = self._stars.setdefault(channel, np.zeros((bins.levels, RESIDUAL_BINS), np.int64))
        (offsets, bin_of), none = lightcurves, np.zeros(len(lightcurves[1]))
        nowhere, never = np.zeros(len(residual), np.int64), np.zeros(1, bool)
        epochs = Epochs(residual, *place, nowhere, np.zeros(1, np.int64), never)
        curves = Curves(offsets, bin_of, none, none > 0.0)
        layout = Layout(bins.levels, even_grid(bins.nx, bins.ny), 1)
        used = add_residuals(epochs, curves, relative, layout, self._table, stars)
        by_cell = self._table.reshape(bins.levels, -1, len(COLUMNS))[:, :, _KEPT].sum(axis=0)
        self._table[:] = 0.0
        empty = np.zeros((bins.nx * bins.ny, len(MAP_COLUMNS)))
        self._maps[channel] = self._maps.get(channel, empty) + by_cell
        self._units[unit] = self._units.get(unit, empty[0]) + by_cell.sum(axis=0)
        return int(used)

    def add_times(self, chunk: Lightcurves, chosen: _Chosen, exposure: Ints, mag: Floats) -> None:
        """Epochs of the same lightcurves by channel, slice of time and place."""
        counts = np.diff(chunk.offsets)
        residual = mag + chosen.shift if chosen.shift is not None else mag
        relative = summarise(residual, chunk.offsets)
        if chosen.shift is None:
            residual, relative = residual - np.repeat(relative.median, counts), relative._replace(median=0.0 * counts)
        limit = CLIP_SIGMAS * np.maximum(relative.scatter, SCATTER_FLOOR_MAG)
        apart = residual - np.repeat(relative.median, counts)
        mag_of = self._bins.bright + (chosen.bin_of + 0.5) * self._bins.step
        bright = (chosen.bin_of >= 0) & (mag_of > TIME_RANGE_MAG[0]) & (mag_of < TIME_RANGE_MAG[1])
        with np.errstate(invalid="ignore"):
            rows = np.flatnonzero((np.abs(apart) <= np.repeat(limit, counts)) & np.repeat(bright, counts))
        x, y = (chunk.columns[name][rows].astype(np.float64) for name in ("xpos", "ypos"))
        known = np.isfinite(x) & np.isfinite(y)
        rows, x, y = rows[known], x[known], y[known]
        column, row = (
            np.clip((at - 0.5) * TIME_SIDE / n, 0, TIME_SIDE - 1).astype(np.int64)
            for at, n in zip((x, y), QUADRANT_SHAPE_PIX, strict=True)
        )
        slices, of = self._slices, exposure[rows]
        place = slices.channel[of] * slices.most + slices.number[of]
        place = (place * TIME_SIDE + row) * TIME_SIDE + column
        for k, weights in enumerate((None, residual[rows], apart[rows] ** 2)):
            self._times[:, k] += np.bincount(place, weights, len(self._times))

    def _add_epochs(self, chunk: Lightcurves, chosen: _Chosen, mag: Floats, summary: Summary) -> None:
        """Epochs of constant objects relative to their medians, by filter and magnitude."""
        row = (fid_column(chunk.objectid) - 1) * self._bins.levels + np.maximum(chosen.level, 0)
        wanted = chosen.constant & (chosen.level >= 0)
        add_offsets(mag, np.repeat(row, np.diff(chunk.offsets)), chunk.offsets, summary.median, wanted, self._epochs)

    def _add_scatter(self, chunk: Lightcurves, mag: Floats, summary: Summary) -> None:
        """Scatter of all lightcurves, variable or not, and the errors that are stored, by filter and magnitude."""
        known = (summary.n >= 3) & (summary.scatter > 0.0)
        level = np.floor((np.where(known, summary.median, 0.0) - RMS_BRIGHT_MAG) / RMS_STEP_MAG).astype(np.int64)
        dex = np.floor((np.log10(np.where(known, summary.scatter, 1.0)) - SCATTER_FIRST_DEX) / SCATTER_STEP_DEX)
        inside = known & (level >= 0) & (level < RMS_MAG_BINS)
        fid, place = fid_column(chunk.objectid) - 1, np.clip(dex, 0, SCATTER_BINS - 1).astype(np.int64)
        np.add.at(self._scatter, (fid[inside], level[inside], place[inside]), 1)
        usable = np.isfinite(mag) & np.isfinite(chunk.columns["magerr"])
        errors = np.where(usable, chunk.columns["magerr"].astype(np.float64), 0.0)
        counts = np.diff(chunk.offsets)
        owner = np.repeat(np.arange(len(counts)), counts)
        sums = np.stack([np.bincount(owner, values, len(counts)) for values in (usable, errors)], axis=-1)
        np.add.at(self._errors, (fid[inside], level[inside]), sums[inside])

    def arrays(self) -> Arrays:
        """By channel and unit, ascending."""
        channels, units = sorted(self._maps), sorted(self._units)
        bins, width = self._bins, len(MAP_COLUMNS)
        maps = np.array([self._maps[channel] for channel in channels]).reshape(len(channels), -1, width)
        stars = np.array([self._stars[channel] for channel in channels], np.int64)
        return {
            "channels": np.array(channels, np.int64).reshape(-1, 2),
            "units": np.array([(u.field, u.rcid, u.fid) for u in units], np.int64).reshape(-1, 3),
            "maps": maps,
            "stars": stars.reshape(len(channels), bins.levels, RESIDUAL_BINS),
            "unitsums": np.array([self._units[unit] for unit in units]).reshape(-1, width),
            "timechannels": np.array(self._slices.channels, np.int64).reshape(-1, 2),
            "times": self._times.reshape(len(self._slices.channels), self._slices.most, -1, len(TIME_COLUMNS)),
            "epochs": self._epochs.astype(np.int64).reshape(_FILTERS, bins.levels, OFFSET_BINS),
            "scatter": self._scatter,
            "errors": self._errors,
        }
