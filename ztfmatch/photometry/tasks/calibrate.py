"""Fit the corrections of one channel to the sums that the tiles left, and the error models of its units."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io import paths
from ztfmatch.core.io.arrays import encode_arrays
from ztfmatch.core.io.corrections import read_corrections
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.staging import keep
from ztfmatch.photometry.kernels.errorfit import fit_error_model
from ztfmatch.photometry.kernels.fit import ChannelFit, FitSettings, fit_channel
from ztfmatch.photometry.kernels.normalequations import BinSums, KnownOffsets
from ztfmatch.photometry.kernels.residuals import COLUMNS, Bins
from ztfmatch.photometry.tasks.residuals import ChannelSums, joined, read_channel

BYTES_PER_PARAMETER_SQUARED: Final = 60
"""Peak memory of a fit over the square of its number of parameters."""

_OLD: Final = ("field", "sums")
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
    update: str | None = None
    """Directory of an older set of corrections that newer data are added to."""


def fit_task(task: FitTask) -> dict[str, Any]:
    """Fit; return the ``path`` of the results' arrays, and the numbers of ``stars`` and ``detections``."""
    config = task.config
    bins = Bins(config.bright, config.magnitude_step, config.magnitude_bins, config.cells_x, config.cells_y)
    new = read_channel(task.storage, task.files) if task.files else ChannelSums((), bins, _no_sums(), _none(), {})
    units, sums, known = new.units, new.sums, None
    if task.update is not None:
        units, sums, known = _with_old(task, new)
    arrays: dict[str, npt.NDArray[Any]] = {"errors": _error_models(new)}
    if len(sums.n):
        settings = FitSettings(config.min_stars, config.min_cell_stars, config.max_error)
        fit = fit_channel(sums, len(units) + (known is not None), bins, settings, known)
        arrays |= _arrays(fit, units) | _kept_sums(sums, fit, bins)
    path = paths.staged_array(task.operation_id, task.key)
    kept = [keep(task.storage, path, encode_arrays(arrays))]
    return {"path": path, "kept": kept, "stars": int(sums.stars.sum()), "detections": int(sums.n.sum())}


def _no_sums() -> BinSums:
    place, values = np.zeros(0, np.int64), np.zeros(0)
    return BinSums(place, place, place, *(values for _ in COLUMNS))


def _none() -> npt.NDArray[np.int64]:
    return np.zeros((0, 0), np.int64)


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
    columns = {name: kept[name].to_numpy() for name in ("magnitude", "cell", *COLUMNS)}
    place = (columns["magnitude"].astype(np.int64), columns["cell"].astype(np.int64))
    sums = BinSums(np.full(len(kept), len(units), np.int64), *place, *(columns[name] for name in COLUMNS))
    fresh = replace(new.sums, unit=moved[new.sums.unit]) if len(moved) else new.sums
    values = np.array(list(known.values()), np.float64).reshape(-1, 2)
    rows = np.array([row_of[unit] for unit in known], np.int64)
    return units, joined([fresh, sums]), KnownOffsets(rows, values[:, 0], values[:, 1])


FITTED: Final = ("magnitude", "position", "field", "errormodel", "sums")
"""Tables of an older set that an update needs."""


def _of_channel(table: Any, task: FitTask) -> Any:
    import pyarrow.compute as pc

    return pc.and_(pc.equal(table["rcid"], task.rcid), pc.equal(table["fid"], task.fid))


def _error_models(new: ChannelSums) -> npt.NDArray[np.float64]:
    """Field, and ERROR_COLUMNS, of each unit that has a model."""
    rows = []
    for unit, counts in new.scatter.items():
        fit = fit_error_model(counts)
        if fit is not None:
            rows.append((unit.field, *fit.coefficients, fit.lightcurves, fit.bright, fit.faint, fit.rms))
    return np.array(rows, np.float64).reshape(-1, 1 + len(ERROR_COLUMNS))


def _arrays(fit: ChannelFit, units: tuple[Unit, ...]) -> dict[str, npt.NDArray[Any]]:
    """The fit's values; those by unit without the one that stands for an older set."""
    arrays = {field.name: np.asarray(getattr(fit, field.name)) for field in fields(ChannelFit)}
    for name in ("offset", "offset_error", "offset_stars", "offset_n", "raw_offset"):
        arrays[name] = arrays[name][: len(units)]
    return arrays | {"field": np.array([unit.field for unit in units], np.int64)}


def _kept_sums(sums: BinSums, fit: ChannelFit, bins: Bins) -> dict[str, npt.NDArray[Any]]:
    """Sums over all units, their offsets taken off: what a later update needs of these data."""
    level = sums.less(fit.raw_offset[sums.unit])
    names, place = np.unique(sums.magnitude * bins.nx * bins.ny + sums.cell, return_inverse=True)
    kept = {f"sums_{name}": np.bincount(place, getattr(level, name), len(names)) for name in COLUMNS}
    return {"sums_bin": names, **kept}
