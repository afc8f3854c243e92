"""The tables of a set of corrections, from the fits of all channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.corrections import Channel, CorrectionFiles
from ztfmatch.core.operations.common import Row
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.survey import FILTER_CODES, Unit
from ztfmatch.photometry.kernels.fit import ChannelFit
from ztfmatch.photometry.kernels.normalequations import BinSums
from ztfmatch.photometry.kernels.residuals import COLUMNS
from ztfmatch.photometry.residuals import Residuals
from ztfmatch.photometry.tasks.calibrate import ERROR_COLUMNS, ChannelResult, Fitted

RMS_RANGE_MAG: Final = (13.5, 17.5)
"""Magnitudes over which the scatter of stars is reported."""


def correction_tables(
    residuals: Residuals, fits: Mapping[Channel, ChannelResult], config: CalibrateConfig, old: CorrectionFiles | None
) -> tuple[dict[str, pa.Table], list[ChannelReport]]:
    """Tables by name, and one row a channel for people."""
    exposures = _exposures(residuals)
    noise = _zero_point_noise(residuals, exposures)
    fitted = {channel: result.fitted for channel, result in fits.items() if result.fitted is not None}
    tables = {
        "magnitude": pa.concat_tables(_magnitude_rows(channel, of.fit) for channel, of in fitted.items()),
        "position": pa.concat_tables(_position_rows(channel, of.fit, config) for channel, of in fitted.items()),
        "field": pa.concat_tables(_field_rows(channel, of, noise) for channel, of in fitted.items()),
        "errormodel": pa.concat_tables(_error_rows(channel, of.errors) for channel, of in fits.items()),
        "exposures": exposures,
        "sums": pa.concat_tables(_sum_rows(channel, of.sums) for channel, of in fitted.items()),
    }
    if old is not None:
        tables["errormodel"] = _newer(tables["errormodel"], old.tables["errormodel"], ("field", "rcid", "fid"))
        tables["exposures"] = _newer(exposures, old.tables["exposures"], ("exposureid",))
    return tables, [_report_of(channel, of.fit, config) for channel, of in fitted.items()]


def _channel(channel: Channel, n: int) -> dict[str, pa.Array]:
    rcid, fid = channel
    return {"rcid": pa.array(np.full(n, rcid), pa.int8()), "fid": pa.array(np.full(n, fid), pa.int8())}


def _nullable(values: Any) -> pa.Array:
    numbers = np.atleast_1d(np.asarray(values, np.float64))
    return pa.array(numbers, pa.float64(), mask=np.isnan(numbers))


def _magnitude_rows(channel: Channel, fit: ChannelFit) -> pa.Table:
    names = ("bright", "faint", "slope", "curvature", "slope_error", "curvature_error", "covariance")
    numbers = {name: _nullable(getattr(fit, name)) for name in names}
    counts = {"stars": pa.array([int(fit.map_stars.sum())]), "detections": pa.array([int(fit.map_n.sum())])}
    steps = {"step": _nullable(fit.steps[0]), "rim_step": _nullable(fit.steps[1])}
    return pa.table({**_channel(channel, 1), **numbers, **counts, **steps})


def _position_rows(channel: Channel, fit: ChannelFit, config: CalibrateConfig) -> pa.Table:
    n = len(fit.map)
    row, column = np.divmod(np.arange(n), config.cells_x)
    return pa.table(
        {
            **_channel(channel, n),
            "column": pa.array(column, pa.int16()),
            "row": pa.array(row, pa.int16()),
            "value": _nullable(fit.map),
            "error": _nullable(fit.map_error),
            "stars": pa.array(fit.map_stars.astype(np.int64)),
            "detections": pa.array(fit.map_n.astype(np.int64)),
        }
    )


def _field_rows(channel: Channel, fitted: Fitted, noise: Mapping[Unit, float]) -> pa.Table:
    """Offsets; their errors have the noise of the exposures' zero points, which all stars share, added."""
    fit, units = fitted.fit, [Unit(field, *channel) for field in fitted.field.tolist()]
    shared = np.array([noise.get(unit, 0.0) for unit in units])
    return pa.table(
        {
            "field": pa.array(fitted.field, pa.int16()),
            **_channel(channel, len(units)),
            "value": _nullable(fit.offset) if units else pa.nulls(0, pa.float64()),
            "error": pa.array(np.hypot(fit.offset_error, shared), pa.float64()),
            "stars": pa.array(fit.offset_stars.astype(np.int64)),
            "detections": pa.array(fit.offset_n.astype(np.int64)),
        }
    )


def _error_rows(channel: Channel, rows: npt.NDArray[np.float64]) -> pa.Table:
    numbers = {name: pa.array(rows[:, 1 + i], pa.float64()) for i, name in enumerate(ERROR_COLUMNS)}
    numbers["lightcurves"] = numbers["lightcurves"].cast(pa.int64())
    return pa.table({"field": pa.array(rows[:, 0].astype(np.int16)), **_channel(channel, len(rows)), **numbers})


def _sum_rows(channel: Channel, sums: BinSums) -> pa.Table:
    place = {"magnitude": pa.array(sums.magnitude, pa.int16()), "cell": pa.array(sums.cell, pa.int32())}
    values = {name: pa.array(getattr(sums, name), pa.float64()) for name in COLUMNS}
    return pa.table({**_channel(channel, len(sums.cell)), **place, **values})


def _exposures(residuals: Residuals) -> pa.Table:
    """Residual zero point of each exposure, over the tiles that it touches."""
    parts = [read_arrays(residuals.snapshot.storage, path) for path in residuals.offsets]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in ("exposureid", "n", "total", "squares")}
    ids, place = np.unique(joined["exposureid"], return_inverse=True)
    n, total, squares = (np.bincount(place, joined[name], len(ids)) for name in ("n", "total", "squares"))
    mean = total / n
    rms = np.where(n > 1, np.sqrt(np.maximum(squares - n * mean**2, 0.0) / np.maximum(n - 1, 1)), np.nan)
    return pa.table(
        {
            "exposureid": pa.array(ids, pa.int64()),
            "relzp": pa.array(mean, pa.float64()),
            "relzprms": _nullable(rms) if len(ids) else pa.nulls(0, pa.float64()),
            "nrelzp": pa.array(n.astype(np.int32)),
        }
    )


def _zero_point_noise(residuals: Residuals, exposures: pa.Table) -> dict[Unit, float]:
    """Error of the offset of each unit by the noise of zero points: their scatter beyond its own error, averaged."""
    ledger = residuals.snapshot.read(EXPOSURES.name, ["exposureid", "field", "rcid", "fid"])
    ids = exposures["exposureid"].to_numpy()
    order = np.argsort(ledger["exposureid"].to_numpy())
    rows = order[np.searchsorted(ledger["exposureid"].to_numpy()[order], ids)]
    units = np.stack([ledger[name].to_numpy()[rows].astype(np.int64) for name in ("field", "rcid", "fid")], axis=-1)
    names, place = np.unique(units, axis=0, return_inverse=True)
    place = place.reshape(-1)
    relzp, rms, n = (exposures[name].to_numpy() for name in ("relzp", "relzprms", "nrelzp"))
    count = np.bincount(place, minlength=len(names))
    mean = np.bincount(place, relzp, len(names)) / np.maximum(count, 1)
    own = np.nan_to_num(rms) ** 2 / np.maximum(n, 1)
    excess = np.bincount(place, (relzp - mean[place]) ** 2 - own, len(names)) / np.maximum(count - 1, 1)
    errors = np.sqrt(np.maximum(excess, 0.0) / np.maximum(count, 1))
    return {Unit(*unit): float(error) for unit, error in zip(names.tolist(), errors, strict=True)}


def _newer(fresh: pa.Table, old: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """Rows of both, of the same key the fresh one."""
    kept = old.join(fresh.select(list(keys)), list(keys), join_type="left anti").select(fresh.column_names)
    return pa.concat_tables([kept.cast(fresh.schema), fresh]).sort_by([(key, "ascending") for key in keys])


@dataclass(frozen=True)
class ChannelReport:
    """What was derived for a readout channel and filter, for people."""

    rcid: int
    filter: str
    bright: float | None
    faint: float | None
    """Range of the magnitude term."""
    cells: int
    cells_valid: int
    units: int
    units_valid: int
    stars: int
    detections: int
    star_scatter: float | None
    """Of the magnitudes of RMS_RANGE_MAG, mag."""


def _report_of(channel: Channel, fit: ChannelFit, config: CalibrateConfig) -> ChannelReport:
    centres = config.bright + (np.arange(config.magnitude_bins) + 0.5) * config.magnitude_step
    inside = (centres > RMS_RANGE_MAG[0]) & (centres < RMS_RANGE_MAG[1])
    return ChannelReport(
        channel[0],
        FILTER_CODES[channel[1]],
        _known(fit.bright),
        _known(fit.faint),
        len(fit.map),
        int(np.isfinite(fit.map).sum()),
        len(fit.offset),
        int(np.isfinite(fit.offset).sum()),
        int(fit.map_stars.sum()),
        int(fit.map_n.sum()),
        float(np.median(fit.star_scatter[inside])) if inside.any() else None,
    )


def _known(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def error_model_files(models: pa.Table) -> dict[str, bytes]:
    """Files of the coefficients as the survey has them, one a filter, for ``append --error-model``."""
    files = {}
    for fid, code in FILTER_CODES.items():
        rows = models.filter(pc.equal(models["fid"], fid)).to_pylist()
        if rows:
            lines = ["# fieldid ccdid qid A B C D", *(_error_line(row) for row in rows)]
            files[f"errormodel_{code}.dat"] = ("\n".join(lines) + "\n").encode("ascii")
    return files


def _error_line(row: Row) -> str:
    unit = Unit(row["field"], row["rcid"], row["fid"])
    return f"{unit.field} {unit.ccdid} {unit.qid} " + " ".join(repr(row[name]) for name in "abcd")
