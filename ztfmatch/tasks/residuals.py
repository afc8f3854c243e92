"""Residuals of one tile's lightcurves relative to PS1, added up: what corrections are fitted to and reports show.

Whatever the number of detections, a task leaves one small file of sums for each channel (readout channel and filter)
and one for the exposures.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ztfmatch.config import CalibrateConfig
from ztfmatch.io import paths
from ztfmatch.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.io.parquet import DataFile, read_rows
from ztfmatch.io.ps1 import Box, Ps1Catalog, Ps1Stars
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.calibration import unrounded_magnitudes
from ztfmatch.kernels.crossmatch import build_grid, count_seeds, nearest_seeds
from ztfmatch.kernels.errorfit import SCATTER_BRIGHT_MAG, SCATTER_MAG_BINS, SCATTER_MAG_STEP
from ztfmatch.kernels.lookup import build_map, find_rows
from ztfmatch.kernels.photometricfit import BinSums
from ztfmatch.kernels.residuals import (
    COLUMNS,
    OFFSET_BINS,
    RESIDUAL_BINS,
    SCATTER_BINS,
    SCATTER_FIRST_DEX,
    SCATTER_STEP_DEX,
    SIGMA_OF_MAD,
    Bins,
    Summary,
    add_offsets,
    add_residuals,
    clipped_sums,
    constants,
    group_medians,
    summarise,
    unbiased_scatter,
)
from ztfmatch.kernels.sphere import Floats, chord2_of_arcsec, unit_vectors
from ztfmatch.kernels.tiling import Tile
from ztfmatch.schema.ledger import BAD
from ztfmatch.schema.sky import ACTIVE
from ztfmatch.survey import Unit, unit_of_objectid
from ztfmatch.tasks.ledger import exposures_of_tile

ROWS_IN_FLIGHT: Final = 1_000_000
BYTES_PER_ROW_IN_FLIGHT: Final = 400
BYTES_PER_OBJECT: Final = 300
BYTES_PER_EXPOSURE: Final = 4 * OFFSET_BINS + 400
BYTES_OF_ACCUMULATORS: Final = 96 << 20
"""Sums of one unit, and those of the others as sparse rows."""

RELATIVE_FAINT_MAG: Final = 18.0
"""Objects brighter than this tell an exposure's residual zero point."""

_COLUMNS: Final = ("exposureid", "psfflux", "psffluxerr", "xpos", "ypos", "catflags", "mag")
_LEDGER_COLUMNS: Final = ("exposureid", "field", "rcid", "fid", "magzp", "clrcoeff", "quality", "commit")
_GROUP_MAG: Final = 0.5
_OUTLIER_SIGMAS: Final = 5.0
_OUTLIER_FLOOR_MAG: Final = 0.05
"""Real systematics reach 0.04: stars that are off by less than this are kept."""
_WRONG_STAR_MAG: Final = 0.5
"""Stars that are off by more are other ones, however many there are."""
_COMPLETE: Final = 0.8
_MARGIN_DEG: Final = 1.0 / 60.0
_UNIT_DIGITS: Final = 10**8

Arrays = dict[str, npt.NDArray[Any]]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ResidualTask:
    """One tile."""

    key: str
    storage: Storage
    tile: Tile
    objects: tuple[DataFile, ...]
    detections: tuple[DataFile, ...]
    exposures: tuple[DataFile, ...]
    """The ledger."""
    ps1: Ps1Catalog
    config: CalibrateConfig
    operation_id: str
    as_stored: bool = False
    """Whether to take magnitudes as they are stored, corrected or not; else without corrections."""
    after_commit: int = -1
    """Only exposures that later commits took in."""


@dataclass(frozen=True)
class ChannelSums:
    """Sums of one channel over any tiles and units."""

    units: tuple[Unit, ...]
    bins: Bins
    sums: BinSums
    """Relative to PS1, over units, bins of magnitude and cells."""
    stars: Ids
    """Histogram of the mean residuals of stars, shape (magnitude bins, RESIDUAL_BINS), RESIDUAL_STEP_MAG each."""
    scatter: dict[Unit, Ids]
    """Histogram of the scatter of constant lightcurves by unit, shape (SCATTER_MAG_BINS, SCATTER_BINS)."""


def measure_tile(task: ResidualTask) -> dict[str, Any]:
    """Add up the residuals of a tile.

    Returns
    -------
    dict
        ``channels``: rcid, fid and path of each file of sums; ``offsets``: path of the exposures' file; ``detections``
        read; ``used`` relative to PS1; ``stars``: objects with a usable PS1 star; ``ps1``: sources of PS1 in the tile.
    """
    ledger, objects = _Ledger(task), _Objects(task)
    builder = _Builder(task, ledger, objects)
    for chunk in iterate_lightcurves(task.storage, task.detections, _COLUMNS, ROWS_IN_FLIGHT):
        builder.add(chunk)
    return {
        "channels": builder.write(),
        "offsets": _write_offsets(task, ledger, builder.offsets),
        "detections": builder.detections,
        "used": builder.used,
        "stars": int((objects.source >= 0).sum()),
        "ps1": objects.n_ps1,
    }


class _Ledger:
    """What the ledger says of the tile's exposures; shape (E,) each."""

    def __init__(self, task: ResidualTask) -> None:
        rows = exposures_of_tile(task.storage, task.exposures, task.tile, _LEDGER_COLUMNS)
        self.exposureid = rows["exposureid"].to_numpy()
        self.map = build_map(self.exposureid)
        self.magzp = rows["magzp"].to_numpy()
        self.clrcoeff = np.array(rows["clrcoeff"].to_numpy(), np.float64)
        good = np.array([quality != BAD for quality in rows["quality"].to_pylist()], bool)
        self.counts = good & (rows["commit"].to_numpy() > task.after_commit)


class _Objects:
    """Active objects of the tile, ascending by objectid, and the PS1 star of each."""

    def __init__(self, task: ResidualTask) -> None:
        table = read_rows(task.storage, task.objects, ["objectid", "ra", "dec", "status"])
        self.objectid, self.n_ps1 = np.zeros(0, np.int64), 0
        self.source = np.zeros(0, np.int64)
        """Row in ``ps1``; -1 for none that can be used."""
        if table is None:
            return
        table = table.filter(pc.equal(table["status"], ACTIVE)).sort_by("objectid")
        self.objectid, ra, dec = (table[name].to_numpy() for name in ("objectid", "ra", "dec"))
        self.source = np.full(len(self.objectid), -1, np.int64)
        if not len(ra):
            return
        self.ps1 = task.ps1.read(Box.around(ra, dec, _MARGIN_DEG))
        self.n_ps1 = len(self.ps1.ra)
        if self.n_ps1:
            self.source = _matched(self.ps1, unit_vectors(ra, dec), task.config)

    def references(self, objectid: Ids, max_error: float) -> tuple[Floats, Floats]:
        """PS1 magnitude in the object's filter and colour of its colour term; NaN where they cannot be used."""
        mag, colour = np.full(len(objectid), np.nan), np.full(len(objectid), np.nan)
        place = np.minimum(np.searchsorted(self.objectid, objectid), max(len(self.objectid) - 1, 0))
        source = np.full(len(objectid), -1, np.int64)
        if len(self.objectid):
            source = np.where(self.objectid[place] == objectid, self.source[place], -1)
        band = (objectid // 10**11 % 10 - 1).astype(np.int64)
        rows = np.flatnonzero(source >= 0)
        if len(rows):
            at, of, first = source[rows], band[rows], np.where(band[rows] == 2, 1, 0)
            good = np.ones(len(rows), bool)
            for index in (of, first, first + 1):
                good &= ~(self.ps1.error[index, at] > max_error)
            mag[rows] = np.where(good, self.ps1.mag[of, at], np.nan)
            colour[rows] = self.ps1.mag[first, at] - self.ps1.mag[first + 1, at]
            mag[np.isnan(colour)] = np.nan
        return mag, colour


def _matched(ps1: Ps1Stars, xyz: Floats, config: CalibrateConfig) -> Ids:
    """PS1 star of each object, alone within the isolation radius; -1 for none."""
    grid = build_grid(unit_vectors(ps1.ra, ps1.dec), config.isolation_arcsec)
    nearest, chord2 = nearest_seeds(grid, xyz)
    found = (nearest >= 0) & (chord2 <= chord2_of_arcsec(config.match_arcsec))
    found &= count_seeds(grid, xyz) == 1
    found &= ps1.star[np.maximum(nearest, 0)]
    return np.where(found, nearest, -1).astype(np.int64)


class _Builder:
    """Takes in lightcurves in order of objectid, unit after unit."""

    def __init__(self, task: ResidualTask, ledger: _Ledger, objects: _Objects) -> None:
        self._task, self._ledger, self._objects = task, ledger, objects
        config = task.config
        self.bins = Bins(config.bright, config.magnitude_step, config.magnitude_bins, config.cells_x, config.cells_y)
        self.offsets = np.zeros((len(ledger.exposureid), OFFSET_BINS), np.int32)
        self.detections = self.used = 0
        self._unit: int | None = None
        self._table = np.zeros((self.bins.size, len(COLUMNS)))
        self._scatter = np.zeros((SCATTER_MAG_BINS, SCATTER_BINS), np.int64)
        self._channels: dict[tuple[int, int], _ChannelParts] = {}

    def add(self, chunk: Lightcurves) -> None:
        """Take in complete lightcurves."""
        self.detections += len(chunk.columns["exposureid"])
        exposure, mag = self._magnitudes(chunk)
        counts = np.diff(chunk.offsets)
        summary = summarise(mag, chunk.offsets)
        reference, colour = self._objects.references(chunk.objectid, self._task.config.max_ps1_error)
        residual = mag + self._ledger.clrcoeff[exposure] * np.repeat(colour, counts) - np.repeat(reference, counts)
        relative = summarise(residual, chunk.offsets)
        unit = chunk.objectid // _UNIT_DIGITS
        constant = constants(summary, _groups(unit, summary.median), self._task.config.min_epochs)
        bin_of = np.where(constant, self._bins_of(unit, summary, relative), -1)
        bright = constant & (summary.median < RELATIVE_FAINT_MAG) & (relative.n >= self._task.config.min_epochs)
        add_offsets(residual, exposure, chunk.offsets, relative.median, bright, self.offsets)
        place = (chunk.columns["xpos"], chunk.columns["ypos"])
        starts = np.flatnonzero(np.diff(unit, prepend=-1))
        for first, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(unit)], strict=True):
            self._begin(int(unit[first]))
            part = slice(first, stop)
            offsets, some = chunk.offsets[first : stop + 1], _part(relative, part)
            self.used += add_residuals(
                residual, place, offsets, bin_of[part], some, self.bins, self._table, self._current.stars
            )
            self._add_scatter(_part(summary, part), constant[part])

    def _magnitudes(self, chunk: Lightcurves) -> tuple[Ids, Floats]:
        """Exposure of each row, and its magnitude, NaN where it does not count."""
        columns, ledger, config = chunk.columns, self._ledger, self._task.config
        exposure = find_rows(ledger.map, columns["exposureid"]).astype(np.int64)
        flux, error = columns["psfflux"], columns["psffluxerr"]
        good = (columns["catflags"] == 0) & (exposure >= 0) & (flux >= config.min_snr * error) & (error > 0)
        good &= ledger.counts[exposure]
        wide = columns["mag"].astype(np.float64)
        if not self._task.as_stored:
            wide = unrounded_magnitudes(flux, ledger.magzp[exposure])
        return exposure, np.where(good, wide, np.nan)

    def _bins_of(self, unit: Ids, summary: Summary, relative: Summary) -> Ids:
        """Magnitude bin of each object that is to be compared with PS1; -1 for the others.

        The magnitude is the one that PS1 predicts, colour term included: what is measured has noise, and bins of it
        would have a bias (Eddington's). Bins in which objects are often missed are left out for that reason too.
        """
        config = self._task.config
        expected = summary.median - relative.median
        group = _groups(unit, expected)
        apart = np.abs(relative.median - group_medians(relative.median, group))
        usual = np.maximum(_OUTLIER_SIGMAS * SIGMA_OF_MAD * group_medians(apart, group), _OUTLIER_FLOOR_MAG)
        often = group_medians(summary.n.astype(np.float64), group)
        most = _group_maxima(often, unit)
        chosen = (relative.n >= config.min_epochs) & (apart <= usual) & (often >= _COMPLETE * most)
        chosen &= np.abs(relative.median) < _WRONG_STAR_MAG
        chosen &= (expected >= config.bright) & (expected < config.faint)
        place = np.floor((np.where(chosen, expected, config.bright) - config.bright) / config.magnitude_step)
        return np.where(chosen, np.minimum(place.astype(np.int64), config.magnitude_bins - 1), -1)

    def _add_scatter(self, summary: Summary, constant: npt.NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(constant & (summary.scatter > 0.0))
        some = _part(summary, rows)
        at = np.floor((some.median - SCATTER_BRIGHT_MAG) / SCATTER_MAG_STEP).astype(np.int64)
        dex = np.floor((np.log10(unbiased_scatter(some)) - SCATTER_FIRST_DEX) / SCATTER_STEP_DEX).astype(np.int64)
        inside = (at >= 0) & (at < SCATTER_MAG_BINS) & (dex >= 0) & (dex < SCATTER_BINS)
        np.add.at(self._scatter, (at[inside], dex[inside]), 1)

    @property
    def _current(self) -> _ChannelParts:
        unit = unit_of_objectid((self._unit or 0) * _UNIT_DIGITS)
        return self._channels.setdefault((unit.rcid, unit.fid), _ChannelParts(self.bins))

    def _begin(self, unit: int) -> None:
        if unit != self._unit:
            self._flush()
            self._unit = unit

    def _flush(self) -> None:
        """Keep the sums of the unit that is complete, without the empty bins."""
        if self._unit is None:
            return
        unit, parts = unit_of_objectid(self._unit * _UNIT_DIGITS), self._current
        rows = np.flatnonzero(self._table[:, 0])
        parts.add(unit, rows, self._table[rows], self._scatter)
        self._table[rows] = 0.0
        self._scatter[:] = 0

    def write(self) -> list[dict[str, Any]]:
        """Write the sums of each channel; return where."""
        self._flush()
        written = []
        for (rcid, fid), parts in sorted(self._channels.items()):
            path = paths.staged_array(self._task.operation_id, f"{self._task.key}-{rcid:02d}-{fid}")
            self._task.storage.put(path, encode_arrays(parts.arrays()))
            written.append({"rcid": rcid, "fid": fid, "path": path})
        return written


def _part(summary: Summary, rows: slice | Ids) -> Summary:
    """Some of the lightcurves."""
    return Summary(summary.n[rows], summary.median[rows], summary.scatter[rows])


def _groups(unit: Ids, mag: Floats) -> Ids:
    """Number of the unit and the half magnitude of each object; -1 without a magnitude."""
    known = np.isfinite(mag)
    half = np.floor(np.where(known, mag, 0.0) / _GROUP_MAG).astype(np.int64)
    return np.where(known, unit * 1000 + np.clip(half, 0, 999), -1)


def _group_maxima(values: Floats, group: Ids) -> Floats:
    """Largest value of each row's group, NaN values left out."""
    names, place = np.unique(group, return_inverse=True)
    most = np.full(len(names), -np.inf)
    np.maximum.at(most, place, np.where(np.isnan(values), -np.inf, values))
    return np.asarray(most[place])


class _ChannelParts:
    """Sums of the units of one channel."""

    def __init__(self, bins: Bins) -> None:
        self._bins = bins
        self.stars = np.zeros((bins.levels, RESIDUAL_BINS), np.int64)
        self._units: list[Unit] = []
        self._rows: list[Ids] = []
        self._values: list[Floats] = []
        self._scatter: list[Ids] = []

    def add(self, unit: Unit, rows: Ids, values: Floats, scatter: Ids) -> None:
        self._units.append(unit)
        self._rows.append(rows)
        self._values.append(values)
        at = np.flatnonzero(scatter)
        self._scatter.append(np.stack([np.full(len(at), len(self._units) - 1), at, scatter.ravel()[at]]))

    def arrays(self) -> Arrays:
        lengths = [len(rows) for rows in self._rows]
        star = np.flatnonzero(self.stars)
        return {
            "units": np.array([(u.field, u.rcid, u.fid) for u in self._units], np.int64),
            "bins": np.array(self._bins, np.float64),
            "unit": np.repeat(np.arange(len(lengths)), lengths),
            "row": np.concatenate(self._rows),
            "values": np.concatenate(self._values),
            "scatter": np.concatenate(self._scatter, axis=1),
            "stars": np.stack([star, self.stars.ravel()[star]]),
        }


def _write_offsets(task: ResidualTask, ledger: _Ledger, histogram: npt.NDArray[np.int32]) -> str:
    n, total, squares = clipped_sums(histogram)
    rows = np.flatnonzero(n)
    path = paths.staged_array(task.operation_id, f"{task.key}-exposures")
    kept = {"exposureid": ledger.exposureid[rows], "n": n[rows], "total": total[rows], "squares": squares[rows]}
    task.storage.put(path, encode_arrays(kept))
    return path


def encode_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Bytes of some arrays, the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.asarray(values) for name, values in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def read_arrays(storage: Storage, path: str) -> Arrays:
    """Arrays that :func:`encode_arrays` made bytes of."""
    with np.load(io.BytesIO(storage.read(path))) as held:
        return dict(held)


def read_channel(storage: Storage, files: Sequence[str]) -> ChannelSums:
    """Sums of a channel from the files that tasks left, at least one."""
    held = [read_arrays(storage, path) for path in files]
    units = sorted({Unit(*values) for arrays in held for values in arrays["units"].tolist()})
    first = held[0]["bins"].tolist()
    bins = Bins(first[0], first[1], int(first[2]), int(first[3]), int(first[4]))
    stars = np.zeros(bins.levels * RESIDUAL_BINS, np.int64)
    scatter = {unit: np.zeros(SCATTER_MAG_BINS * SCATTER_BINS, np.int64) for unit in units}
    rows, values = [np.zeros(0, np.int64)], [np.zeros((0, len(COLUMNS)))]
    for arrays in held:
        mine = [Unit(*unit) for unit in arrays["units"].tolist()]
        row_of = np.array([units.index(unit) for unit in mine], np.int64)
        np.add.at(stars, arrays["stars"][0], arrays["stars"][1])
        for i, unit in enumerate(mine):
            of_unit = arrays["scatter"][:, arrays["scatter"][0] == i]
            np.add.at(scatter[unit], of_unit[1], of_unit[2])
        rows.append(row_of[arrays["unit"]] * bins.size + arrays["row"])
        values.append(arrays["values"])
    return ChannelSums(
        tuple(units),
        bins,
        bin_sums(np.concatenate(rows), np.concatenate(values), bins),
        stars.reshape(bins.levels, RESIDUAL_BINS),
        {unit: counts.reshape(SCATTER_MAG_BINS, SCATTER_BINS) for unit, counts in scatter.items()},
    )


def bin_sums(rows: Ids, values: Floats, bins: Bins) -> BinSums:
    """Sums by unit, magnitude and cell; rows that are there more than once are added.

    Parameters
    ----------
    rows : int64 ndarray, shape (N,)
        unit * bins.size + magnitude * cells + cell.
    values : float64 ndarray, shape (N, 7)
    bins : Bins
    """
    names, place = np.unique(rows, return_inverse=True)
    summed = [np.bincount(place, column, len(names)).astype(np.float64) for column in values.T]
    unit, rest = np.divmod(names, bins.size)
    magnitude, cell = np.divmod(rest, bins.nx * bins.ny)
    return BinSums(unit, magnitude, cell, *summed)


def joined(parts: Iterable[BinSums]) -> BinSums:
    """Sums one after the other."""
    listed = list(parts)
    return BinSums(*(np.concatenate([getattr(part, field.name) for part in listed]) for field in fields(BinSums)))
