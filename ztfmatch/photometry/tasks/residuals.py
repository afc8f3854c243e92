"""Sums of the residuals of one tile's lightcurves from PS1, for fits of corrections and reports.

Whatever the number of detections, a task leaves one small file of sums for each channel (readout channel and filter)
and one for the exposures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Arrays, Ids, Singles
from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import IDS_OF_A_UNIT, QUADRANT_SHAPE_PIX, Unit, fid_column, unit_of_objectid
from ztfmatch.photometry.kernels.errorfit import (
    SCATTER_BRIGHT_MAG,
    SCATTER_MAG_BINS,
    SCATTER_MAG_STEP,
    differences,
    steady,
)
from ztfmatch.photometry.kernels.exposuremaps import CELLS, HALVES, RIM_PIX, SUMS, add_exposure_maps
from ztfmatch.photometry.kernels.residuals import (
    OFFSET_BINS,
    RESIDUAL_BINS,
    SCATTER_BINS,
    SCATTER_FIRST_DEX,
    SCATTER_STEP_DEX,
    Summary,
    add_offsets,
    alike,
    clipped_sums,
    constants,
    group_medians,
    summarise,
    unbiased_scatter,
)
from ztfmatch.photometry.kernels.sums import (
    COLUMNS,
    MIDDLE_COLOUR,
    Curves,
    Epochs,
    Layout,
    add_residuals,
    held_out,
)
from ztfmatch.photometry.tasks.channelsums import NOISE, layout_of
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

ROWS_IN_FLIGHT: Final = 1_000_000
BYTES_PER_ROW_IN_FLIGHT: Final = 400
BYTES_PER_OBJECT: Final = 300
BYTES_PER_EXPOSURE: Final = 4 * OFFSET_BINS + 4 * HALVES * CELLS * SUMS + 400
_BYTES_OF_OTHERS: Final = 64 << 20
"""Sums of other units than the one at hand, as sparse rows."""

RELATIVE_FAINT_MAG: Final = 18.0
"""Objects brighter than this tell an exposure's residual zero point."""

_RIM_EDGES: Final = (20.0, 50.0, 100.0, 200.0)
"""Pixels."""
_INNER_CLASSES: Final = 4
_CLASS_COLOUR: Final = 0.2


@dataclass(frozen=True)
class ResidualTask(TileInputs):
    """One tile."""

    after_commit: int = -1
    """Only exposures that later commits ingested."""
    dates: tuple[float, ...] = ()
    """MJD at which one slice of time ends and the next begins."""

    @property
    def layout(self) -> Layout:
        """Of the sums."""
        return layout_of(bins_of(self.config), len(self.dates) + 1)


def bytes_of_sums(layout: Layout) -> int:
    """Memory of the sums of one unit, and of those of the others of a tile."""
    return 4 * len(COLUMNS) * layout.size + _BYTES_OF_OTHERS


@dataclass(frozen=True)
class TileResiduals(Compared):
    """What a tile's residuals add up to, and where the sums are."""

    channels: tuple[tuple[int, int], ...]
    """Readout channel and filter of each file of sums."""
    kept: tuple[KeptFile, ...]
    """The files of sums, then that of the exposures' residual zero points."""
    programs: tuple[int, ...]
    """Of the exposures that count."""


def measure_tile(task: ResidualTask) -> TileResiduals:
    """Add up the residuals of a tile."""
    ledger, objects = TileLedger(task, task.after_commit), TileObjects(task)
    builder = _Builder(task, ledger, objects)
    for chunk in compared_lightcurves(task, ledger, EPOCH_COLUMNS, ROWS_IN_FLIGHT):
        builder.add(chunk)
    channels = builder.write()
    kept = (*channels.values(), _write_offsets(task, ledger, builder.offsets, objects))
    return TileResiduals(builder.detections, builder.used, *objects.counts, tuple(channels), kept, ledger.programs)


class _Builder:
    """Adds up lightcurves, which come in order of objectid, so unit after unit."""

    def __init__(self, task: ResidualTask, ledger: TileLedger, objects: TileObjects) -> None:
        self._task, self._ledger, self._objects = task, ledger, objects
        self.layout = task.layout
        self._slice_of = np.searchsorted(np.array(task.dates), ledger.mid_mjd, side="right").astype(np.int64)
        self.maps = np.zeros((len(ledger.exposureid), HALVES, CELLS, SUMS), np.float32)
        self._held = held_out(ledger.exposureid // 100)
        self.offsets = np.zeros((len(ledger.exposureid), OFFSET_BINS), np.int32)
        self.detections = self.used = 0
        self._unit: int | None = None
        self._table = np.zeros((self.layout.size, len(COLUMNS)), np.float32)
        self._scatter = np.zeros((SCATTER_MAG_BINS, SCATTER_BINS), np.int64)
        self._noise = np.zeros((SCATTER_MAG_BINS, NOISE))
        self._channels: dict[tuple[int, int], _ChannelParts] = {}

    def add(self, chunk: Lightcurves) -> None:
        """Add complete lightcurves."""
        config = self._task.config
        self.detections += len(chunk.columns["exposureid"])
        exposure, mag = usable_magnitudes(chunk, self._ledger, config)
        counts = np.diff(chunk.offsets)
        summary = summarise(mag, chunk.offsets)
        reference, colour = self._objects.references(chunk.objectid, config.max_ps1_error)
        residual = mag + self._ledger.clrcoeff[exposure] * np.repeat(colour, counts) - np.repeat(reference, counts)
        relative = summarise(residual, chunk.offsets)
        unit = chunk.objectid // IDS_OF_A_UNIT
        groups = brightness_groups(unit, summary.median)
        constant = constants(summary, groups, config.min_epochs)
        bin_of = np.where(constant, bins_of_stars(unit, summary, relative, config), -1)
        leave_out_unlike(bin_of, (chunk, residual, colour), brightness_groups(unit, reference))
        bright = constant & (summary.median < RELATIVE_FAINT_MAG) & (relative.n >= config.min_epochs)
        add_offsets(residual, exposure, chunk.offsets, relative.median, bright, self.offsets)
        x, y = chunk.columns["xpos"], chunk.columns["ypos"]
        halves = (bright, chunk.objectid % HALVES == 1)
        add_exposure_maps(residual, (x, y), exposure, chunk.offsets, relative, halves, self.maps)
        compared = np.where(constant, groups, -1)
        usual = np.fmax(relative.scatter, group_medians(relative.scatter, compared))
        freedom, squares = differences(residual, chunk.offsets, relative._replace(scatter=usual))
        calm, expected = steady(freedom, squares, compared)
        calm &= _within_rims(x[chunk.offsets[:-1]], y[chunk.offsets[:-1]]) & constant
        epochs = Epochs(residual, x, y, exposure, self._slice_of, self._held)
        held = held_out(chunk.objectid)
        apart = colour - np.array(MIDDLE_COLOUR)[fid_column(chunk.objectid) - 1]
        starts = np.flatnonzero(np.diff(unit, prepend=-1))
        for first, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(unit)], strict=True):
            self._begin(int(unit[first]))
            part = slice(first, stop)
            curves = Curves(chunk.offsets[first : stop + 1], bin_of[part], apart[part], held[part])
            some = part_of(relative, part)
            self.used += add_residuals(epochs, curves, some, self.layout, self._table, self._current.stars)
            self._add_scatter(part_of(summary, part), constant[part])
            self._add_noise(summary.median[part], calm[part], (freedom[part], (squares / expected)[part]))

    def _add_scatter(self, summary: Summary, constant: npt.NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(constant & (summary.scatter > 0.0))
        some = part_of(summary, rows)
        at = np.floor((some.median - SCATTER_BRIGHT_MAG) / SCATTER_MAG_STEP).astype(np.int64)
        dex = np.floor((np.log10(unbiased_scatter(some)) - SCATTER_FIRST_DEX) / SCATTER_STEP_DEX).astype(np.int64)
        inside = (at >= 0) & (at < SCATTER_MAG_BINS) & (dex >= 0) & (dex < SCATTER_BINS)
        np.add.at(self._scatter, (at[inside], dex[inside]), 1)

    def _add_noise(self, median: Floats, calm: npt.NDArray[np.bool_], noise: tuple[Floats, Floats]) -> None:
        at = np.floor((median[calm] - SCATTER_BRIGHT_MAG) / SCATTER_MAG_STEP)
        inside = (at >= 0) & (at < SCATTER_MAG_BINS)
        for k, values in enumerate(noise):
            self._noise[:, k] += np.bincount(at[inside].astype(np.int64), values[calm][inside], SCATTER_MAG_BINS)

    @property
    def _current(self) -> _ChannelParts:
        unit = unit_of_objectid((self._unit or 0) * IDS_OF_A_UNIT)
        return self._channels.setdefault((unit.rcid, unit.fid), _ChannelParts(self.layout.levels))

    def _begin(self, unit: int) -> None:
        if unit != self._unit:
            self._flush()
            self._unit = unit

    def _flush(self) -> None:
        """Keep the sums of the unit that is complete, without the empty bins."""
        if self._unit is None:
            return
        unit, parts = unit_of_objectid(self._unit * IDS_OF_A_UNIT), self._current
        rows = np.flatnonzero(self._table[:, 0])
        parts.add(unit, rows, self._table[rows], (self._scatter, self._noise))
        self._table[rows] = 0.0
        self._scatter[:], self._noise[:] = 0, 0.0

    def write(self) -> dict[tuple[int, int], KeptFile]:
        """Write the sums of each channel."""
        self._flush()
        task = self._task
        kept = {}
        for (rcid, fid), parts in sorted(self._channels.items()):
            arrays = parts.arrays() | self._maps_of(rcid, fid)
            kept[rcid, fid] = KeptFile.of(task.storage, task.operation_id, f"{task.key}-{rcid:02d}-{fid}", arrays)
        return kept

    def _maps_of(self, rcid: int, fid: int) -> Arrays:
        """Maps of the exposures of a channel that have any."""
        ledger = self._ledger
        mine = (ledger.rcid == rcid) & (ledger.fid == fid)
        rows = np.flatnonzero(mine & (self.maps[..., 0].sum(axis=(1, 2)) > 0))
        names = ("exposureid", "field", "mid_mjd")
        return {f"exposure_{name}": getattr(ledger, name)[rows] for name in names} | {"exposure_maps": self.maps[rows]}


def leave_out_unlike(bin_of: Ids, measured: tuple[Lightcurves, Floats, Floats], brightness: Ids) -> None:
    """Leave out stars whose mean is unlike that of others of their brightness, place and colour, in place.

    Eclipses and flares are no noise, but hidden in it where stars are faint, and they shift a mean to one side.
    """
    chunk, residual, colour = measured
    rows = np.flatnonzero(bin_of >= 0)
    star = np.repeat(np.arange(len(bin_of)), np.diff(chunk.offsets))
    counts = ~np.isnan(residual)
    n = np.maximum(np.bincount(star, counts, len(bin_of)), 1)[rows]

    def mean(values: npt.NDArray[np.floating[Any]]) -> Floats:
        return np.asarray(np.bincount(star, np.where(counts, values, 0.0), len(bin_of))[rows] / n)

    unit = chunk.objectid[rows] // IDS_OF_A_UNIT * 1000
    place = [np.searchsorted(_class_edges(pixels), mean(chunk.columns[name]))
             for name, pixels in zip(("xpos", "ypos"), QUADRANT_SHAPE_PIX, strict=True)]  # fmt: skip
    hue = np.clip(np.floor(colour[rows] / _CLASS_COLOUR), -500, 499).astype(np.int64)
    kinds = [brightness[rows], *(unit + of for of in place), unit + 500 + hue]
    bin_of[rows[~alike(mean(residual), kinds)]] = -1


def _within_rims(x: Singles, y: Singles) -> npt.NDArray[np.bool_]:
    """Whether positions, pixels, are where a dither hardly changes the map."""
    columns, rows = QUADRANT_SHAPE_PIX
    return np.asarray((np.minimum(x, columns - x) > RIM_PIX) & (np.minimum(y, rows - y) > RIM_PIX))


def _class_edges(pixels: int) -> Floats:
    """Along an axis, where classes of places begin: narrow ones at the rims, where maps are steep."""
    rim = np.array(_RIM_EDGES)
    inside = np.linspace(rim[-1], pixels - rim[-1], _INNER_CLASSES + 1)[1:-1]
    return np.concatenate([rim, inside, pixels - rim[::-1]])


class _ChannelParts:
    """Sums of the units of one channel."""

    def __init__(self, levels: int) -> None:
        self.stars = np.zeros((levels, RESIDUAL_BINS), np.int64)
        self._units: list[Unit] = []
        self._rows: list[Ids] = []
        self._values: list[Singles] = []
        self._scatter: list[Ids] = []
        self._noise: list[Floats] = []

    def add(self, unit: Unit, rows: Ids, values: Singles, lightcurves: tuple[Ids, Floats]) -> None:
        scatter, noise = lightcurves
        self._units.append(unit)
        self._rows.append(rows)
        self._values.append(values)
        self._noise.append(noise.copy())
        at = np.flatnonzero(scatter)
        self._scatter.append(np.stack([np.full(len(at), len(self._units) - 1), at, scatter.ravel()[at]]))

    def arrays(self) -> Arrays:
        lengths = [len(rows) for rows in self._rows]
        star = np.flatnonzero(self.stars)
        return {
            "units": np.array([(u.field, u.rcid, u.fid) for u in self._units], np.int64),
            "unit": np.repeat(np.arange(len(lengths)), lengths),
            "row": np.concatenate(self._rows),
            "values": np.concatenate(self._values),
            "scatter": np.concatenate(self._scatter, axis=1),
            "noise": np.stack(self._noise),
            "stars": np.stack([star, self.stars.ravel()[star]]),
        }


def _write_offsets(
    task: ResidualTask, ledger: TileLedger, histogram: npt.NDArray[np.int32], objects: TileObjects
) -> KeptFile:
    """Residual zero points of exposures, and PS1's colours of objects."""
    n, total, squares = clipped_sums(histogram)
    rows = np.flatnonzero(n)
    kept = {"exposureid": ledger.exposureid[rows], "n": n[rows], "total": total[rows], "squares": squares[rows]}
    _, colour = objects.references(objects.objectid, task.config.max_ps1_error)
    known = np.isfinite(colour)
    kept |= {"objectid": objects.objectid[known], "colour": colour[known].astype(np.float32)}
    return KeptFile.of(task.storage, task.operation_id, f"{task.key}-exposures", kept)
