"""The tables of a set of corrections, from the fits of all channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.corrections import MODEL, CorrectionFiles
from ztfmatch.core.io.smoothsets import SmoothSet
from ztfmatch.core.kernels.smoothcorrections import COLOUR_NUMBERS
from ztfmatch.core.operations.common import units_of
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import COLOURS, EXPOSURES, EXPOSURETERMS
from ztfmatch.core.schema.correctiondata import GRADIENT
from ztfmatch.core.survey import FILTER_CODES, Channel, Unit, unit_columns
from ztfmatch.photometry.kernels.channelfit import ChannelFit
from ztfmatch.photometry.kernels.heldout import HELD, NAMES
from ztfmatch.photometry.kernels.normalequations import BinSums
from ztfmatch.photometry.kernels.splines import map_basis
from ztfmatch.photometry.kernels.sums import COLUMNS, MIDDLE_COLOUR
from ztfmatch.photometry.residuals import Residuals
from ztfmatch.photometry.tasks.calibrate import ERROR_COLUMNS, ChannelResult, Fitted

FADE_MAG: Final = 1.0
"""Over which a magnitude term that fades ends."""

RMS_RANGE_MAG: Final = (13.5, 17.5)
"""Magnitudes over which the scatter of stars is reported."""

_TERM_KEYS: Final = ("field", "exposureid")
"""Of the table of exposures' terms."""


def correction_tables(
    residuals: Residuals, fits: Mapping[Channel, ChannelResult], config: CalibrateConfig, old: CorrectionFiles | None
) -> tuple[dict[str, pa.Table], list[ChannelReport]]:
    """Tables by name, and one row a channel for people."""
    fitted = {channel: result.fitted for channel, result in fits.items() if result.fitted is not None}
    found = [of.exposures for of in fitted.values()]
    exposures = _exposures(residuals, found)
    noise = _zero_point_noise(residuals, exposures)
    tables = {
        "magnitude": pa.concat_tables(_magnitude_rows(channel, of.fit) for channel, of in fitted.items()),
        "position": pa.concat_tables(_position_rows(channel, of.fit, config) for channel, of in fitted.items()),
        "field": pa.concat_tables(_field_rows(channel, of, noise) for channel, of in fitted.items()),
        "errormodel": pa.concat_tables(_error_rows(channel, of.errors) for channel, of in fits.items()),
        "exposures": exposures,
        "heldout": pa.concat_tables(_held_rows(channel, of.fit) for channel, of in fitted.items()),
        "curve": pa.concat_tables(_curve_rows(channel, of.fit, config) for channel, of in fitted.items()),
        "sums": pa.concat_tables(_sum_rows(channel, of.sums) for channel, of in fitted.items()),
        MODEL: _smooth_set(fitted, config).rows(),
        EXPOSURETERMS.name: _exposure_terms(found),
        COLOURS.name: _colours(residuals, fitted),
    }
    if old is not None:
        tables["errormodel"] = _newer(tables["errormodel"], old.tables["errormodel"], ("field", "rcid", "fid"))
        tables |= _with_old_exposures(tables, old)
    return tables, [_report_of(channel, of, config) for channel, of in fitted.items()]


def _with_old_exposures(tables: Mapping[str, pa.Table], old: CorrectionFiles) -> dict[str, pa.Table]:
    """What is of single exposures, with that of an older set for those that it has alone."""
    keys = {"exposures": ("exposureid",), EXPOSURETERMS.name: _TERM_KEYS}
    return {name: _newer(tables[name], old.tables[name], key) for name, key in keys.items()}


def extended_tables(
    residuals: Residuals, found: Sequence[Mapping[str, npt.NDArray[Any]]], old: CorrectionFiles
) -> dict[str, pa.Table]:
    """Tables of an older set with terms of exposures that it did not know; all else stays.

    Parameters
    ----------
    residuals : Residuals
    found : sequence of mapping
        Of each channel, as :class:`ztfmatch.photometry.tasks.calibrate.Fitted` has it of exposures.
    old : CorrectionFiles
    """
    known = old.tables["exposures"]["exposureid"].to_numpy()
    new = [{name: values[~np.isin(of["id"], known)] for name, values in of.items()} for of in found]
    exposures = _exposures(residuals, new)
    exposures = exposures.filter(pa.array(~np.isin(exposures["exposureid"].to_numpy(), known)))
    fresh = {"exposures": exposures, EXPOSURETERMS.name: _exposure_terms(new)}
    return {**old.tables, **_with_old_exposures(fresh, old)}


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
    steps = {name: _nullable(size) for name, size in zip(("wide", "narrow", "rim"), fit.sizes, strict=True)}
    return pa.table({**_channel(channel, 1), **numbers, **counts, **steps})


def _held_rows(channel: Channel, fit: ChannelFit) -> pa.Table:
    """Mean square of the systematics that terms take away on what was held out, mag^2."""
    squares = fit.held.ravel()
    columns = {
        "held": pa.array([held for held in HELD for _ in NAMES]),
        "term": pa.array(list(NAMES) * len(HELD)),
        "square": _nullable(squares),
    }
    return pa.table({**_channel(channel, len(squares)), **columns})


def _curve_rows(channel: Channel, fit: ChannelFit, config: CalibrateConfig) -> pa.Table:
    """The magnitude term, in the middle of each bin of magnitude."""
    value, error = fit.levels
    mag = config.bright + (np.arange(len(value)) + 0.5) * config.magnitude_step
    numbers = {"mag": pa.array(mag, pa.float64()), "value": _nullable(value), "error": _nullable(error)}
    return pa.table({**_channel(channel, len(value)), **numbers})


def _smooth_set(fitted: Mapping[Channel, Fitted], config: CalibrateConfig) -> SmoothSet:
    """What is applied: terms at the nodes of all channels."""
    basis = map_basis(config.cells_x, config.cells_y)
    channels = sorted(fitted)
    nodes = {channel: len(fitted[channel].fit.time) for channel in channels}
    total = sum(nodes.values())
    numbers = {
        "knots_x": np.tile(basis.knots_x, (total, 1)),
        "knots_y": np.tile(basis.knots_y, (total, 1)),
        "maps": np.concatenate([fitted[channel].fit.coefficients for channel in channels]),
        "curve": np.concatenate([fitted[channel].fit.curve for channel in channels]),
        "colour": np.array([_colour_numbers(channel, fitted[channel].fit) for channel in channels
                            for _ in range(nodes[channel])]).reshape(total, COLOUR_NUMBERS),
    }  # fmt: skip
    time = np.concatenate([fitted[channel].fit.time for channel in channels])
    names = tuple(channel for channel in channels for _ in range(nodes[channel]))
    means = {
        Unit(int(field), *channel): (a, b, c)
        for channel in channels
        if fitted[channel].fit.colour.any()
        for field, (a, b, c) in zip(fitted[channel].field, fitted[channel].fit.mean_colour.tolist(), strict=True)
    }
    return SmoothSet(names, time, numbers, FADE_MAG if config.beyond == "fade" else 0.0, means)


def _colour_numbers(channel: Channel, fit: ChannelFit) -> list[float]:
    return [MIDDLE_COLOUR[channel[1] - 1], *fit.colour.tolist()]


def _exposure_terms(found: Sequence[Mapping[str, npt.NDArray[Any]]]) -> pa.Table:
    """Gradients of the exposures that have one."""
    parts = []
    for of in found:
        rows = np.flatnonzero(of["applied"])
        numbers = of["numbers"][rows].T
        parts.append(
            pa.table(
                {
                    "field": pa.array(of["field"][rows], pa.int16()),
                    "exposureid": pa.array(of["id"][rows], pa.int64()),
                    **{name: pa.array(column, pa.float64()) for name, column in zip(GRADIENT, numbers, strict=True)},
                }
            )
        )
    return pa.concat_tables(parts).sort_by([(key, "ascending") for key in _TERM_KEYS])


def _colours(residuals: Residuals, fitted: Mapping[Channel, Fitted]) -> pa.Table:
    """PS1's colours of the objects of channels that have a colour term."""
    wanted = [channel for channel, of in fitted.items() if of.fit.colour.any()]
    parts = []
    for path in residuals.offsets if wanted else ():
        held = read_arrays(residuals.snapshot.storage, path)
        ids = held["objectid"]
        rcid, _, fid = unit_columns(ids)
        rows = np.isin(rcid * 10 + fid, [rcid * 10 + fid for rcid, fid in wanted])
        parts.append((ids[rows], held["colour"][rows]))
    objectid, colour = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else ([], [])
    rows = pa.table({"objectid": pa.array(objectid, pa.int64()), "colour": pa.array(colour, pa.float32())})
    return rows.sort_by("objectid")


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
    place: dict[str, pa.Array] = {
        name: pa.array(getattr(sums, name), pa.int16()) for name in ("slice", "part", "magnitude")
    }
    place["cell"] = pa.array(sums.cell, pa.int32())
    values = {name: pa.array(getattr(sums, name), pa.float64()) for name in COLUMNS}
    return pa.table({**_channel(channel, len(sums.cell)), **place, **values})


def _exposures(residuals: Residuals, found: Sequence[Mapping[str, npt.NDArray[Any]]]) -> pa.Table:
    """Residual zero point of each exposure, over the tiles that it touches, and how photometric it is."""
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
            **_quality(ids, found),
        }
    )


def _quality(ids: npt.NDArray[np.int64], found: Sequence[Mapping[str, npt.NDArray[Any]]]) -> dict[str, pa.Array]:
    """Scatter over the quadrant that corrections leave, and whether that is small; null where it is not known."""
    known: dict[int, tuple[float, bool]] = {}
    for of in found:
        columns = (of[name].tolist() for name in ("id", "scatter", "photometric"))
        known |= {key: (scatter, good) for key, scatter, good in zip(*columns, strict=True) if scatter == scatter}
    each = [known.get(key) for key in ids.tolist()]
    return {
        "scatter": pa.array([None if one is None else one[0] for one in each], pa.float64()),
        "photometric": pa.array([None if one is None else one[1] for one in each], pa.bool_()),
    }


def _zero_point_noise(residuals: Residuals, exposures: pa.Table) -> dict[Unit, float]:
    """Error of the offset of each unit by the noise of zero points: their scatter beyond its own error, averaged."""
    ledger = residuals.snapshot.read(EXPOSURES.name, ["exposureid", "field", "rcid", "fid"])
    ids = exposures["exposureid"].to_numpy()
    order = np.argsort(ledger["exposureid"].to_numpy())
    rows = order[np.searchsorted(ledger["exposureid"].to_numpy()[order], ids)]
    units, place = units_of(ledger.take(pa.array(rows)))
    relzp, rms, n = (exposures[name].to_numpy() for name in ("relzp", "relzprms", "nrelzp"))
    count = np.bincount(place, minlength=len(units))
    mean = np.bincount(place, relzp, len(units)) / np.maximum(count, 1)
    own = np.nan_to_num(rms) ** 2 / np.maximum(n, 1)
    excess = np.bincount(place, (relzp - mean[place]) ** 2 - own, len(units)) / np.maximum(count - 1, 1)
    errors = np.sqrt(np.maximum(excess, 0.0) / np.maximum(count, 1))
    return dict(zip(units, errors.tolist(), strict=True))


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
    nodes: int
    """Times between which corrections are linear; 1 where they are constant."""
    steps: tuple[float, ...]
    """MJD of steps."""
    colour: bool
    """Whether there is a colour term."""
    gradients: int
    """Exposures that have one of their own."""
    pooled_with: tuple[str, ...]
    """Channels that the map is pooled with: ``plane``, all of the filter; ``filters``, the same in other filters."""


def _report_of(channel: Channel, of: Fitted, config: CalibrateConfig) -> ChannelReport:
    fit = of.fit
    centres = config.bright + (np.arange(config.magnitude_bins) + 0.5) * config.magnitude_step
    inside = (centres > RMS_RANGE_MAG[0]) & (centres < RMS_RANGE_MAG[1])
    return ChannelReport(
        rcid=channel[0],
        filter=FILTER_CODES[channel[1]],
        bright=_known(fit.bright),
        faint=_known(fit.faint),
        cells=len(fit.map),
        cells_valid=int(np.isfinite(fit.map).sum()),
        units=len(fit.offset),
        units_valid=int(np.isfinite(fit.offset).sum()),
        stars=int(fit.map_stars.sum()),
        detections=int(fit.map_n.sum()),
        star_scatter=float(np.median(fit.star_scatter[inside])) if inside.any() else None,
        nodes=len(np.unique(fit.time)),
        steps=tuple(fit.time[1:][np.diff(fit.time) == 0.0].tolist()),
        colour=bool(fit.colour.any()),
        gradients=int(of.exposures["applied"].sum()),
        pooled_with=tuple(fit.pooled_with.tolist()),
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
