"""Numbers of a report: summaries of residuals by filter and by channel, in millimagnitudes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Ints
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Row
from ztfmatch.core.survey import FILTER_CODES
from ztfmatch.photometry.kernels.residuals import (
    OFFSET_BINS,
    OFFSET_STEP_MAG,
    RESIDUAL_BINS,
    RESIDUAL_STEP_MAG,
    SCATTER_BINS,
    SCATTER_FIRST_DEX,
    SCATTER_STEP_DEX,
    Bins,
    histogram_quantiles,
)
from ztfmatch.photometry.report.measure import Sums
from ztfmatch.photometry.tables import RMS_RANGE_MAG
from ztfmatch.photometry.tasks.report import BEFORE, RMS_BRIGHT_MAG, RMS_MAG_BINS, RMS_STEP_MAG

MMAG: Final = 1000.0
GOAL_MMAG: Final = 7.0
"""Robust RMS of stars that corrected magnitudes are to be below."""

ONE_SIGMA: Final = (0.158655, 0.841345)
"""Quantiles of a normal distribution at -1 and +1 standard deviations."""

BRIGHT_RANGE_MAG: Final = (14.0, 16.0)
"""Lightcurves whose scatter is not photon noise."""

STARS_PER_CELL: Final = 8
"""Maps are shown in cells coarse enough to have so many stars, as a median."""

MOMENTS: Final = ("before", "after")
"""Of corrections."""

COMPARED: Final = ("stored", "other")
"""Corrections that are compared."""

RESIDUAL_CENTRES: Final[Floats] = np.asarray((np.arange(RESIDUAL_BINS) - RESIDUAL_BINS // 2) * RESIDUAL_STEP_MAG * MMAG)
OFFSET_CENTRES: Final[Floats] = np.asarray((np.arange(OFFSET_BINS) - OFFSET_BINS // 2) * OFFSET_STEP_MAG * MMAG)
SCATTER_DEX: Final[Floats] = np.asarray(SCATTER_FIRST_DEX + (np.arange(SCATTER_BINS) + 0.5) * SCATTER_STEP_DEX)
RMS_MAGS: Final[Floats] = np.asarray(RMS_BRIGHT_MAG + (np.arange(RMS_MAG_BINS) + 0.5) * RMS_STEP_MAG)


@dataclass(frozen=True)
class Spread:
    """A histogram of residuals in brief, mmag; NaN of an empty one."""

    n: int
    median: float
    rms: float
    """Robust: half the width of the central 68.27 %."""


def spread_of(counts: Ints, centres: Floats) -> Spread:
    """Number, median and robust RMS of a histogram.

    Parameters
    ----------
    counts : int64 ndarray, shape (B,)
    centres : float64 ndarray, shape (B,)
        Of its bins, equally spaced, mmag.
    """
    step = float(centres[1] - centres[0])
    row = counts.reshape(1, -1)
    middle, low, high = (float(histogram_quantiles(row, centres, step, q)[0]) for q in (0.5, *ONE_SIGMA))
    return Spread(int(counts.sum()), middle, 0.5 * (high - low))


def level_centres(bins: Bins) -> Floats:
    """Magnitudes of the middle of each bin, shape (levels,)."""
    return np.asarray(bins.bright + (np.arange(bins.levels) + 0.5) * bins.step)


def levels_between(bins: Bins, limits: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Which bins of magnitude lie within a range, shape (levels,)."""
    centres = level_centres(bins)
    return np.asarray((centres > limits[0]) & (centres < limits[1]))


def star_counts(sums: Sums, phase: int, fid: int) -> Ints:
    """Histogram of the mean residuals of stars of a filter, shape (levels, RESIDUAL_BINS)."""
    held = [sums.stars[rcid, fid][phase] for rcid in sums.channels(fid)]
    return np.sum(held, axis=0) if held else np.zeros((sums.bins.levels, RESIDUAL_BINS), np.int64)


def star_histogram(sums: Sums, phase: int, fid: int, rcid: int | None = None) -> Ints:
    """Histogram of stars in the magnitudes of the goal, of a filter or of one channel; shape (RESIDUAL_BINS,)."""
    counts = star_counts(sums, phase, fid) if rcid is None else sums.stars[rcid, fid][phase]
    return np.asarray(counts[levels_between(sums.bins, RMS_RANGE_MAG)].sum(axis=0))


def epoch_histogram(sums: Sums, phase: int, fid: int) -> Ints:
    """Histogram of epochs about their lightcurves' medians, in the same magnitudes; shape (OFFSET_BINS,)."""
    return np.asarray(sums.epochs[phase, fid - 1][levels_between(sums.bins, RMS_RANGE_MAG)].sum(axis=0))


def running_quantiles(counts: Ints, centres: Floats, fractions: tuple[float, ...], fewest: int = 5) -> Floats:
    """Quantiles of each row of a histogram, shape (len(fractions), rows); NaN where fewer than ``fewest`` count."""
    step = float(centres[1] - centres[0])
    enough = counts.sum(axis=1) >= fewest
    return np.stack([np.where(enough, histogram_quantiles(counts, centres, step, q), np.nan) for q in fractions])


def stars_per_cell(sums: Sums) -> float:
    """Stars in a cell of the maps as they are shown, on the average of a usual channel."""
    return _stars_per_fine_cell(sums) * coarse_factor(sums) ** 2


def _stars_per_fine_cell(sums: Sums) -> float:
    held = [sums.maps[channel][BEFORE, :, 2].mean() for channel in sums.maps]
    return float(np.median(held)) if held else 0.0


def coarse_factor(sums: Sums) -> int:
    """By how much cells are joined along x and y so that enough stars are in one: a divisor of the map's cells."""
    bins, usual = sums.bins, _stars_per_fine_cell(sums)
    factors = [k for k in range(1, min(bins.nx, bins.ny) + 1) if bins.nx % k == 0 and bins.ny % k == 0]
    good = [k for k in factors if usual * k * k >= STARS_PER_CELL]
    return min(good, default=factors[-1])


def mean_map(cells: Floats, bins: Bins, factor: int = 1) -> Floats:
    """Mean residual of detections in joined cells, mmag; NaN where there are none.

    Parameters
    ----------
    cells : float64 ndarray, shape (cells, 3)
        Columns n, total, stars.
    bins : Bins
    factor : int
        Cells to be joined along x and y.

    Returns
    -------
    float64 ndarray, shape (ny / factor, nx / factor)
        Rows are y.
    """
    ny, nx = bins.ny // factor, bins.nx // factor
    joined = cells.reshape(ny, factor, nx, factor, -1).sum(axis=(1, 3))
    n, total = joined[..., 0], joined[..., 1]
    return np.where(n > 0, MMAG * total / np.maximum(n, 1.0), np.nan)


def unit_means(sums: Sums, phase: int, fid: int) -> dict[tuple[int, int], float]:
    """Mean residual of detections by field and readout channel, mmag."""
    held = {(u.field, u.rcid): values[phase] for u, values in sums.units.items() if u.fid == fid}
    return {key: float(MMAG * total / n) for key, (n, total, _) in held.items() if n > 0}


def robust_rms(values: Floats) -> float:
    """Half the width of the central 68.27 % of some values; NaN of fewer than two."""
    known = values[np.isfinite(values)]
    return float(np.diff(np.quantile(known, ONE_SIGMA))[0] / 2.0) if len(known) > 1 else float("nan")


def bright_scatter(sums: Sums, phase: int, fid: int) -> float:
    """Median scatter of bright lightcurves, mmag."""
    low, high = BRIGHT_RANGE_MAG
    inside = (low < RMS_MAGS) & (high > RMS_MAGS)
    counts = sums.scatter[phase, fid - 1][inside].sum(axis=0, keepdims=True)
    return float(MMAG * 10.0 ** histogram_quantiles(counts, SCATTER_DEX, SCATTER_STEP_DEX, 0.5)[0])


def stored_errors(sums: Sums, phase: int, fid: int, joined: int = 1) -> Floats:
    """Mean stored error of epochs by magnitude of their lightcurve, mag; NaN where there are none.

    Parameters
    ----------
    sums : Sums
    phase, fid : int
    joined : int
        Bins of magnitude to be joined, a divisor of RMS_MAG_BINS.
    """
    n, total = sums.errors[phase, fid - 1].reshape(-1, joined, 2).sum(axis=1).T
    return np.where(n > 0, total / np.maximum(n, 1.0), np.nan)


def filter_rows(sums: Sums) -> list[Row]:
    """Key figures, one row a filter and phase; ``phase`` is 'uncorrected' or 'as stored'."""
    return [_filter_row(sums, phase, fid) for fid in sums.filters for phase in range(sums.phases)]


PHASES: Final = ("uncorrected", "as stored")


def _filter_row(sums: Sums, phase: int, fid: int) -> Row:
    channels = sums.channels(fid)
    name = (sums.titles or PHASES)[phase]
    row: Row = {"filter": FILTER_CODES[fid], "phase": name, "channels": len(channels)}
    epochs = spread_of(epoch_histogram(sums, phase, fid), OFFSET_CENTRES)
    if sums.against_ps1:
        stars = spread_of(star_histogram(sums, phase, fid), RESIDUAL_CENTRES)
        maps = np.concatenate([mean_map(sums.maps[rcid, fid][phase], sums.bins, coarse_factor(sums)).ravel()
                               for rcid in channels]) if channels else np.zeros(0)  # fmt: skip
        row |= {"stars": stars.n, "median_mmag": stars.median, "rms_mmag": stars.rms, "cells_mmag": robust_rms(maps)}
        row["units_mmag"] = robust_rms(np.array(list(unit_means(sums, phase, fid).values())))
    return row | {"epochs": epochs.n, "epochs_mmag": epochs.rms, "scatter_mmag": bright_scatter(sums, phase, fid)}


def gain_rows(heldout: pa.Table | None) -> list[Row]:
    """What terms of a set take away of systematics on data that were held out, over all channels, mmag.

    Parameters
    ----------
    heldout : Table or None
        Of that name, of a set; None of sets without it.

    Returns
    -------
    list of Row
        ``held``, ``term``, ``taken_mmag``, below zero for what a term makes worse; None where too little is known.
    """
    if heldout is None or not len(heldout):
        return []
    means = heldout.group_by(["held", "term"], use_threads=False).aggregate([("square", "mean")]).to_pylist()
    return [
        {
            "held": row["held"],
            "term": row["term"],
            "taken_mmag": None
            if (mean := row["square_mean"]) is None
            else float(MMAG * np.sign(mean) * abs(mean) ** 0.5),
        }
        for row in means
    ]


def channel_rows(sums: Sums) -> list[Row]:
    """Residuals relative to PS1 by readout channel and filter, one row each; none without PS1."""
    if not sums.against_ps1:
        return []
    return [_channel_row(sums, rcid, fid) for rcid, fid in sorted(sums.maps)]


def _channel_row(sums: Sums, rcid: int, fid: int) -> Row:
    row: Row = {"rcid": rcid, "ccdid": rcid // 4 + 1, "qid": rcid % 4 + 1, "filter": FILTER_CODES[fid]}
    spreads = [spread_of(star_histogram(sums, p, fid, rcid), RESIDUAL_CENTRES) for p in range(sums.phases)]
    row["stars"] = spreads[0].n
    names = COMPARED if sums.titles else MOMENTS
    for name, spread in zip(names, spreads, strict=False):
        row |= {f"median_{name}_mmag": spread.median, f"rms_{name}_mmag": spread.rms}
    return row


def field_rows(sums: Sums) -> list[Row]:
    """Mean residual by field and filter, over its channels, one row each; none without PS1."""
    held: dict[tuple[int, int], Floats] = {}
    for unit, values in sums.units.items() if sums.against_ps1 else ():
        key = (unit.field, unit.fid)
        held[key] = held.get(key, np.zeros_like(values)) + values
    rows = []
    for (field, fid), values in sorted(held.items()):
        means = [float(MMAG * total / n) if n else float("nan") for n, total, _ in values]
        row: Row = {"field": field, "filter": FILTER_CODES[fid], "detections": int(values[0, 0])}
        rows.append(row | {f"mean_{MOMENTS[phase]}_mmag": mean for phase, mean in enumerate(means)})
    return rows
