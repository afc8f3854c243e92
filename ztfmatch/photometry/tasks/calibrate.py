"""Fit the corrections of one channel to the sums over tiles, and the error models of its units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Arrays
from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.corrections import read_corrections
from ztfmatch.core.io.smoothsets import between
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Keywords
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX, Unit
from ztfmatch.photometry.kernels.changes import Changes, TimeModel
from ztfmatch.photometry.kernels.channelfit import ChannelFit
from ztfmatch.photometry.kernels.curve import FitSettings
from ztfmatch.photometry.kernels.eras import find_steps
from ztfmatch.photometry.kernels.errorfit import (
    SCATTER_MAG_BINS,
    SCATTER_MAGNITUDES,
    fit_error_model,
    noise_of_epochs,
    typical_scatter_at,
)
from ztfmatch.photometry.kernels.exposuremaps import CELLS, ExposureMaps, place_centres
from ztfmatch.photometry.kernels.fit import Beside, solve_channel
from ztfmatch.photometry.kernels.gradients import (
    ExposuresOfSums,
    Gradients,
    fit_gradients,
    gradients_at_places,
    mean_gradients,
    relative_changes,
)
from ztfmatch.photometry.kernels.normalequations import BinSums, KnownOffsets
from ztfmatch.photometry.kernels.residuals import SCATTER_BINS, Bins
from ztfmatch.photometry.kernels.splines import SplineBasis, basis_values, change_basis, map_basis
from ztfmatch.photometry.kernels.sums import COLUMNS, PARTS, Layout
from ztfmatch.photometry.kernels.timeline import Timeline
from ztfmatch.photometry.tasks.channelsums import ChannelSums, bin_sums, joined, layout_of, read_channel
from ztfmatch.photometry.tasks.comparison import KeptFile, bins_of
from ztfmatch.photometry.tasks.pooling import read_map_prior

BYTES_PER_PARAMETER_SQUARED: Final = 80
"""Peak memory of a fit over the square of its number of parameters."""


ERROR_COLUMNS: Final = ("a", "b", "c", "d", "lightcurves", "bright", "faint", "rms")


@dataclass(frozen=True)
class FitTask:
    """One channel."""

    key: str
    storage: Storage
    rcid: int
    fid: int
    files: tuple[str, ...]
    """Of sums, one a tile; perhaps none."""
    config: CalibrateConfig
    operation_id: str
    dates: tuple[float, ...] = ()
    """MJD at which one slice of time ends and the next begins."""
    update: str | None = None
    """Directory of an older set of corrections that newer data are added to."""
    others: bool = False
    """Whether there are other channels, whose maps may be pooled with this one."""
    map_prior: str | None = None
    """File of the prior pooled from other channels by :func:`ztfmatch.photometry.tasks.pooling.pool_task`."""


@dataclass(frozen=True)
class Fitted:
    """What was fitted to the sums of a channel."""

    fit: ChannelFit
    field: npt.NDArray[np.int64]
    """Of each unit."""
    exposures: Arrays
    """Key, field, and what :class:`ztfmatch.photometry.kernels.gradients.Gradients` has, of each exposure."""
    sums: BinSums
    """Sums over all units, their offsets taken off: what a later update needs of these data."""


@dataclass(frozen=True)
class ChannelResult:
    """What is known of a channel."""

    errors: npt.NDArray[np.float64]
    """Error models: field, and ERROR_COLUMNS, of each unit that has one."""
    fitted: Fitted | None
    """None without sums."""


@dataclass(frozen=True)
class FitKept:
    """Where the result of a channel is; of a fit see :func:`read_fit`."""

    kept: tuple[KeptFile, ...]
    """Then, if there are other channels and a map, what the data say of it."""
    modes: int = 0
    """Of the map, that they tell."""


def fit_task(task: FitTask) -> FitKept:
    """Fit, and keep the result: the same to the bit in any process, since LAPACK's last digits follow its threads."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        return _fit(task)


def _fit(task: FitTask) -> FitKept:
    config, bins = task.config, bins_of(task.config)
    layout = layout_of(bins, len(task.dates) + 1)
    new = read_channel(task.storage, task.files, layout)
    units, sums, known = new.units, new.sums, None
    if task.update is not None:
        units, sums, known = _with_old(task, new)
    arrays: Arrays = {}
    kept: list[KeptFile] = []
    modes = 0
    left = _Left.of_nothing(new.maps)
    if len(sums.n):
        cuts = (config.min_stars, config.min_cell_stars, config.max_error)
        settings = FitSettings(*cuts, config.may_have("colour"), config.terms is None)
        clouds = _Clouds(_exposures_of_sums(task, new, units), sums, bins, config.may_have("exposure"))
        time = _time_model(task, new)
        prior = None if task.map_prior is None else read_map_prior(task.storage, task.map_prior)
        beside = Beside(known, time, _variance_of_curves(new, bins), clouds.taken, prior)
        solved = solve_channel(sums, len(units) + (known is not None), bins, settings, beside)
        fit = solved.fit()
        if task.others and solved.mapped:
            kept.append(KeptFile.of(task.storage, task.operation_id, f"{task.key}-map", solved.data._asdict()))
            modes = len(solved.data.pull)
        changes = changes_of_exposures(new.maps, (fit.time, fit.coefficients), bins)
        found = clouds.found(changes)
        valid = np.isfinite(fit.map)
        left = _Left(
            relative_changes(new.maps, changes),
            gradients_at_places(found.numbers),
            float(np.mean(fit.map_error[valid] ** 2)) if valid.any() else 0.0,
        )
        arrays |= {"exposure_id": new.maps.exposureid, "exposure_field": new.maps.field}
        arrays |= _prefixed("exposure_", found._asdict())
        arrays["field"] = np.array([unit.field for unit in units], np.int64)
        off = fit.raw_offset[sums.unit] + clouds.mean(found)
        arrays |= _prefixed("fit_", _of_units(fit, len(units))) | _prefixed("sums_", _level_sums(sums, off, layout))
    arrays["errors"] = _error_models(new, left)
    return FitKept((KeptFile.of(task.storage, task.operation_id, task.key, arrays), *kept), modes)


def _time_model(task: FitTask, new: ChannelSums) -> TimeModel | None:
    """Nodes of the channel, and what each has of each slice; None where all is in one."""
    if not (task.dates and len(new.maps.time) and task.config.may_have("time")):
        return None
    time, given = new.maps.time, task.config.eras
    found = find_steps(new.maps, given) if task.config.find_eras else ()
    timeline = Timeline.of(time, tuple(sorted({*given, *found})))
    weights = timeline.weights(time)
    # An exposure counts by its detections.
    n = new.maps.sums[..., 0].sum(axis=(1, 2))
    slices = np.searchsorted(np.array(task.dates), time, side="right")
    held = np.stack([np.bincount(slices, n * column, len(task.dates) + 1) for column in weights.T], axis=1)
    total = np.bincount(slices, n, len(task.dates) + 1)
    share = np.bincount(slices, n**2, len(task.dates) + 1) / np.maximum(total, 1e-9) ** 2
    return TimeModel(timeline, held / np.maximum(total, 1e-9)[:, None], share[:, None] * new.maps.chance(weights))


def _variance_of_curves(new: ChannelSums, bins: Bins) -> Floats:
    """Of the epochs of constant lightcurves of all units, by bin of magnitude; NaN where there are too few."""
    counts = sum(new.scatter.values(), np.zeros((SCATTER_MAG_BINS, SCATTER_BINS), np.int64))
    mag = np.asarray(bins.bright + (np.arange(bins.levels) + 0.5) * bins.step)
    return typical_scatter_at(mag, counts) ** 2


def changes_of_exposures(maps: ExposureMaps, nodes: tuple[Floats, Floats], bins: Bins) -> Floats:
    """The map at the time of each exposure, at the places of its coarse map; (E, CELLS).

    Parameters
    ----------
    maps : ExposureMaps
    nodes : tuple of float64 ndarray, shape (R,), (R, B)
        Times, and coefficients of the map at each.
    bins : Bins
    """
    time, coefficients = nodes
    values = coefficients @ _at_places(map_basis(bins.nx, bins.ny)).T
    before, after, weight = between(time, maps.time)
    return np.asarray(values[before] + weight[:, None] * (values[after] - values[before]))


def _at_places(basis: SplineBasis) -> Floats:
    """Values of splines at the places of coarse maps, shape (CELLS, B)."""
    x, y = (0.5 * (1.0 + w) * pixels for w, pixels in zip(place_centres(), QUADRANT_SHAPE_PIX, strict=True))
    return np.asarray(
        np.einsum("nj,ni->nji", basis_values(basis.knots_y, y), basis_values(basis.knots_x, x)).reshape(CELLS, -1)
    )


@dataclass(frozen=True)
class _Clouds:
    """What single exposures of a channel are off by."""

    exposures: ExposuresOfSums
    sums: BinSums
    bins: Bins
    wanted: bool
    """Whether there may be any."""

    def found(self, changes: Floats) -> Gradients:
        """Given what the channel changes by at each exposure, shape (E, CELLS)."""
        return fit_gradients(self.exposures.maps, changes, self.wanted)

    def mean(self, found: Gradients) -> Floats:
        """In each bin."""
        return mean_gradients(found.numbers, self.exposures, self.sums, self.bins)

    def taken(self, changes: Changes | None) -> Floats:
        """The same, given what the channel changes by at its nodes."""
        maps, basis = self.exposures.maps, change_basis(self.bins.nx, self.bins.ny)
        if changes is None:
            return self.mean(self.found(np.zeros((len(maps.time), CELLS))))
        at = changes.time.timeline.weights(maps.time) @ changes.map
        return self.mean(self.found(at @ _at_places(basis).T))


def _exposures_of_sums(task: FitTask, new: ChannelSums, units: tuple[Unit, ...]) -> ExposuresOfSums:
    row_of = {unit.field: row for row, unit in enumerate(units)}
    unit = np.array([row_of[field] for field in new.maps.field.tolist()], np.int64)
    return ExposuresOfSums(new.maps, unit, np.searchsorted(np.array(task.dates), new.maps.time, side="right"))


def _prefixed(prefix: str, values: Any) -> Arrays:
    held = values if isinstance(values, dict) else vars(values)
    return {f"{prefix}{name}": np.asarray(value) for name, value in held.items()}


def read_fit(storage: Storage, path: str) -> ChannelResult:
    """What :func:`fit_task` kept."""
    held = read_arrays(storage, path)
    if "field" not in held:
        return ChannelResult(held["errors"], None)
    fit, sums = ChannelFit(**_of_prefix("fit_", held)), BinSums(**_of_prefix("sums_", held))
    return ChannelResult(held["errors"], Fitted(fit, held["field"], _of_prefix("exposure_", held), sums))


def _of_prefix(prefix: str, arrays: Arrays) -> Keywords:
    return {name.removeprefix(prefix): values[()] for name, values in arrays.items() if name.startswith(prefix)}


def _with_old(task: FitTask, new: ChannelSums) -> tuple[tuple[Unit, ...], BinSums, KnownOffsets]:
    """New sums and those of an older set, which had its offsets taken off and so are one more unit, the last."""
    old = read_corrections(Path(task.update or ""), FITTED).tables
    offsets = old["field"].filter(_of_channel(old["field"], task))
    known = {
        Unit(row["field"], row["rcid"], row["fid"]): (row["value"], row["error"])
        for row in offsets.to_pylist()
        if row["value"] is not None
    }
    units = tuple(sorted({*new.units, *known}))
    row_of = {unit: row for row, unit in enumerate(units)}
    moved = np.array([row_of[unit] for unit in new.units], np.int64)
    kept = old["sums"].filter(_of_channel(old["sums"], task))
    place = (kept[name].to_numpy().astype(np.int64) for name in ("slice", "part", "magnitude", "cell"))
    none = np.zeros(len(kept))  # sets of older versions lack a column, which only changes in newer data need
    values = (kept[name].to_numpy() if name in kept.column_names else none for name in COLUMNS)
    sums = BinSums(np.full(len(kept), len(units), np.int64), *place, *values)
    fresh = replace(new.sums, unit=moved[new.sums.unit]) if len(moved) else new.sums
    offset = np.array(list(known.values()), np.float64).reshape(-1, 2)
    rows = np.array([row_of[unit] for unit in known], np.int64)
    return units, joined([fresh, sums]), KnownOffsets(rows, offset[:, 0], offset[:, 1])


FITTED: Final = ("magnitude", "position", "field", "errormodel", "sums", "model")
"""Tables of an older set that an update needs."""


def _of_channel(table: Any, task: FitTask) -> Any:
    import pyarrow.compute as pc

    return pc.and_(pc.equal(table["rcid"], task.rcid), pc.equal(table["fid"], task.fid))


@dataclass(frozen=True)
class _Left:
    """What corrections take off epochs, and leave."""

    changes: Floats
    """At each place of each exposure, relative to the others of its field, mag; shape (E, CELLS)."""
    gradients: Floats
    uncertain: float
    """Variance of the map's errors, mag^2."""

    @classmethod
    def of_nothing(cls, maps: ExposureMaps) -> _Left:
        none = np.zeros((len(maps.time), CELLS))
        return cls(none, none, 0.0)


def _error_models(new: ChannelSums, left: _Left) -> npt.NDArray[np.float64]:
    """Field, and ERROR_COLUMNS, of each unit that has a model."""
    rows, mag = [], np.asarray(SCATTER_MAGNITUDES)
    n = new.maps.sums[..., 0].sum(axis=1)
    for unit, counts in new.scatter.items():
        mine = (new.maps.field == unit.field)[:, None] & (n > 0)
        taken = (left.changes + left.gradients)[mine], n[mine]
        freedom, squares = new.noise[unit].T
        noise = mag, *noise_of_epochs(squares, freedom, (left.gradients[mine], n[mine]))
        fit = fit_error_model(counts, taken, noise, left.uncertain)
        if fit is not None:
            rows.append((unit.field, *fit.coefficients, fit.lightcurves, fit.bright, fit.faint, fit.rms))
    return np.array(rows, np.float64).reshape(-1, 1 + len(ERROR_COLUMNS))


def _of_units(fit: ChannelFit, units: int) -> ChannelFit:
    """The fit without the offset of what stands for an older set, the last."""
    names = ("offset", "offset_error", "offset_stars", "offset_n", "raw_offset", "mean_colour")
    return replace(fit, **{name: getattr(fit, name)[:units] for name in names})


def _level_sums(sums: BinSums, off: Floats, layout: Layout) -> BinSums:
    """Sums over all units, less what units and exposures are off by in each bin."""
    level = sums.less(off)
    rows = (sums.slice * PARTS + sums.part) * layout.levels + sums.magnitude
    rows = rows * layout.cells + sums.cell
    return bin_sums(rows, np.stack([getattr(level, name) for name in COLUMNS], axis=-1), layout)
