"""Figures of references: sky maps in galactic coordinates, flatness, and histograms of current and new depths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ztfmatch.core.arrays import Array
from ztfmatch.core.camera import field_grid
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import FILTER_CODES, N_RCID
from ztfmatch.photometry.report.pictures.style import (
    AFTER_COLOUR,
    BEFORE_COLOUR,
    DARK,
    GREY,
    new_figure,
    panel_text,
    style,
)
from ztfmatch.plot.coverage import draw_map
from ztfmatch.plot.footprint import COVERAGE_ORDER, pixels_of_field
from ztfmatch.references.schema.settings import ReferenceSettings

_MAP_INCH: Final = 1.9
_SHOWN_PERCENT: Final = (1.0, 99.0)


def filters_of(table: pa.Table) -> list[int]:
    """Filter ids of rows."""
    return sorted(set(table["fid"].to_pylist()))


def sky_values(table: pa.Table, fid: int, values: Floats, mean: bool = True) -> Floats:
    """Values of units of a filter by pixel: their mean where fields overlap, or their sum; NaN where there is none.

    Quadrants are where the centre of their field puts them; those of fields off the survey's grid are nowhere.
    """
    field, rcid = (table[name].to_numpy().astype(np.int64) for name in ("field", "rcid"))
    own = (table["fid"].to_numpy() == fid) & np.isfinite(values)
    total, count = np.zeros(12 * 4**COVERAGE_ORDER), np.zeros(12 * 4**COVERAGE_ORDER)
    for number in np.unique(field[own]).tolist():
        if number in field_grid():
            by_channel = np.full(N_RCID, np.nan)
            by_channel[rcid[own & (field == number)]] = values[own & (field == number)]
            pixels, channels = pixels_of_field(number, COVERAGE_ORDER)
            there = pixels[np.isfinite(by_channel[channels])]  # a pixel is in one quadrant of a field
            total[there] += by_channel[channels][np.isfinite(by_channel[channels])]
            count[there] += 1.0
    divisor = np.maximum(count, 1.0) if mean else 1.0
    return np.where(count > 0, total / divisor, np.nan)


def draw_maps(table: pa.Table, shown: list[tuple[str, Floats, bool]]) -> Figure:
    """Maps of the sky, a row a quantity and a column a filter, l = b = 0 in the centre.

    Parameters
    ----------
    table : pyarrow.Table
        ``field``, ``rcid`` and ``fid`` of units.
    shown : list of (str, ndarray of shape (U,), bool)
        Name, values, and whether overlapping units are averaged rather than added.
    """
    filters = filters_of(table)
    figure = new_figure(0.2 + _MAP_INCH * len(shown))
    panels = figure.subplots(len(shown), len(filters), squeeze=False)
    for row, (name, values, mean) in zip(panels, shown, strict=True):
        maps = {fid: sky_values(table, fid, values, mean) for fid in filters}
        held = np.concatenate([one[np.isfinite(one)] for one in maps.values()])
        low, high = np.percentile(held, _SHOWN_PERCENT) if len(held) else (0.0, 1.0)
        norm = Normalize(low, high) if high > low else Normalize(min(low, 0.0), max(high, 1.0))
        images = [
            draw_map(axes, maps[fid], COVERAGE_ORDER, norm, names=False) for axes, fid in zip(row, filters, strict=True)
        ]
        bar = figure.colorbar(images[-1], ax=row.tolist(), location="right", shrink=0.8, aspect=18, pad=0.01)
        bar.set_label(name, fontsize=9.5, color=DARK)
        bar.ax.tick_params(labelsize=8.5, color=GREY, labelcolor=DARK)
    for axes, fid in zip(panels[0], filters, strict=True):
        axes.set_title(FILTER_CODES[fid], fontsize=11.5, color=DARK)
    return figure


def draw_flatness(audit: pa.Table, settings: ReferenceSettings, names: tuple[str, str] = ("delta", "rms")) -> Figure:
    """Delta against RMS of all references with the thresholds, a panel a filter; suspects apart."""
    filters = filters_of(audit)
    figure = new_figure(3.6)
    panels = figure.subplots(1, len(filters), squeeze=False, sharex=True, sharey=True)[0]
    fids, suspect = audit["fid"].to_numpy(), audit["suspect"].to_numpy(zero_copy_only=False)
    delta, rms = (audit[name].to_numpy().astype(np.float64) * 1000.0 for name in names)
    of_kind = settings.flatness.limits if names[0] == "delta" else settings.lightcurves.limits
    limits = {fid: of_kind.of(fid) for fid in filters}
    for axes, fid in zip(panels, filters, strict=True):
        style(axes, "Delta (mmag)", "")
        for flag, colour, name in ((False, AFTER_COLOUR, "good"), (True, BEFORE_COLOUR, "suspect")):
            own = (fids == fid) & (suspect == flag)
            axes.scatter(delta[own], rms[own], s=7, alpha=0.6, color=colour, linewidths=0, label=name, rasterized=True)
        axes.axvline(1000.0 * limits[fid].delta, color=DARK, linewidth=1.0, linestyle="--")
        axes.axhline(1000.0 * limits[fid].rms, color=DARK, linewidth=1.0, linestyle="--")
        axes.set_title(FILTER_CODES[fid], fontsize=11.5, color=DARK)
        known = np.isfinite(delta) & np.isfinite(rms) & (fids == fid)
        panel_text(axes, f"{known.sum():,} references, {(known & suspect).sum():,} suspect")
    panels[0].set_ylabel("RMS (mmag)", fontsize=10.5, color=DARK)
    for set_limit, values, name in ((panels[0].set_xlim, delta, "delta"), (panels[0].set_ylim, rms, "rms")):
        held = values[np.isfinite(values)]
        most = max(1000.0 * getattr(limit, name) for limit in limits.values())
        set_limit(0.0, 1.15 * max(most, float(np.percentile(held, 99.5)) if len(held) else 0.0))
    panels[-1].legend(loc="lower right", fontsize=9, framealpha=0.8, edgecolor="none", labelcolor=DARK)
    return figure


Values = Callable[[int], list[tuple[str, Array]]]


def draw_histograms(filters: list[int], values: Values, label: str) -> Figure:
    """Distributions of now and new, a panel a filter."""
    figure = new_figure(3.0)
    panels = figure.subplots(1, len(filters), squeeze=False, sharex=True)[0]
    held = {fid: values(fid) for fid in filters}
    whole = np.concatenate([one[np.isfinite(one)] for some in held.values() for _, one in some])
    edges = _edges(whole)
    for axes, fid in zip(panels, filters, strict=True):
        _histogram(axes, held[fid], edges)
        style(axes, label, "")
        axes.set_title(FILTER_CODES[fid], fontsize=11.5, color=DARK)
    panels[0].set_ylabel("units", fontsize=10.5, color=DARK)
    return figure


def _edges(values: Floats) -> Floats:
    low, high = np.percentile(values, (0.5, 99.5)) if len(values) else (0.0, 1.0)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 41)


def _histogram(axes: Axes, some: list[tuple[str, Floats]], edges: Floats) -> None:
    for (name, one), colour in zip(some, (BEFORE_COLOUR, AFTER_COLOUR), strict=False):
        known = one[np.isfinite(one)]
        middle = f", median {np.median(known):.1f}" if len(known) else ""
        axes.stairs(np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0], edges, color=colour, linewidth=1.7,
                    label=f"{name}: {len(known):,}{middle}")  # fmt: skip
    axes.set_ylim(0.0, 1.35 * max(axes.get_ylim()[1], 1.0))
    axes.legend(loc="upper left", fontsize=8.5, framealpha=0.8, edgecolor="none", labelcolor=DARK)
