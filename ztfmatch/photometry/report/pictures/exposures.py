"""Exposures by quality: how many, when, and their residual zero points."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ztfmatch.core.plain import Keywords
from ztfmatch.core.schema.ledger import BAD, GOOD, UNKNOWN
from ztfmatch.core.survey import FILTER_CODES
from ztfmatch.photometry.report.exposures import QUALITIES, Exposures, binned_days
from ztfmatch.photometry.report.numbers import OFFSET_CENTRES, spread_of
from ztfmatch.photometry.report.pictures.style import DARK, new_figure, nice_limit, style
from ztfmatch.plot import BAND_COLOURS

QUALITY_COLOURS: Final = {GOOD: "#4D9DE0", UNKNOWN: "#BBBBBB", BAD: "#C0392B"}


def draw_exposures(found: Exposures) -> Figure:
    """Counts by filter, over time, and residual zero points where they are known."""
    has_zero_points = bool(found.relzp.any())
    figure = new_figure(3.3)
    widths = (1.0, 1.8, 1.4) if has_zero_points else (1.0, 2.6)
    panels = figure.subplots(1, len(widths), width_ratios=widths)
    _draw_filters(panels[0], found)
    _draw_days(panels[1], found)
    if has_zero_points:
        _draw_zero_points(panels[2], found)
    return figure


def _draw_filters(axes: Axes, found: Exposures) -> None:
    style(axes, "filter", "exposures (one readout channel each)")
    counts = found.by_quality
    rows = [fid for fid in FILTER_CODES if counts[fid - 1].any()]
    below = np.zeros(len(rows))
    for number, quality in enumerate(QUALITIES):
        values = np.array([counts[fid - 1, number] for fid in rows], float)
        axes.bar(range(len(rows)), values, bottom=below, width=0.6, color=QUALITY_COLOURS[quality], zorder=2)
        below += values
    for place, fid in enumerate(rows):
        bad = counts[fid - 1, QUALITIES.index(BAD)] / max(below[place], 1)
        axes.text(place, below[place], f"{bad:.0%} bad", ha="center", va="bottom", fontsize=9, color=DARK)
    axes.set_xticks(range(len(rows)), [FILTER_CODES[fid] for fid in rows])
    axes.set_xlim(-0.6, max(len(rows), 1) - 0.4)
    axes.set_ylim(0.0, 1.12 * max(below.max(initial=0.0), 1.0))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="x")


def _draw_days(axes: Axes, found: Exposures) -> None:
    first, counts, step = binned_days(found)
    style(axes, "MJD (day)", f"exposures in {step} day{'s' if step > 1 else ''}")
    below = np.zeros(len(first))
    for number, quality in enumerate(QUALITIES):
        values = counts[:, :, number].sum(axis=1)
        if values.any():
            look: Keywords = {"color": QUALITY_COLOURS[quality], "label": quality}
            axes.bar(first, values, bottom=below, width=step, align="edge", zorder=2, **look)
        below += values
    axes.set_ylim(0.0, 1.25 * max(below.max(initial=0.0), 1.0))
    axes.ticklabel_format(axis="x", useOffset=False, style="plain")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right", fontsize=9, framealpha=0.8, edgecolor="none", labelcolor=DARK, ncols=3)


def _draw_zero_points(axes: Axes, found: Exposures) -> None:
    style(axes, "residual zero point (mmag)", "exposures per mmag")
    rows = [fid for fid in FILTER_CODES if found.relzp[fid - 1].any()]
    spreads = {fid: spread_of(found.relzp[fid - 1], OFFSET_CENTRES) for fid in rows}
    limit = nice_limit(np.array([abs(s.median) + 4.5 * s.rms for s in spreads.values()]), 10.0, 1.0)
    step = float(OFFSET_CENTRES[1] - OFFSET_CENTRES[0])
    edges = np.append(OFFSET_CENTRES - step / 2, OFFSET_CENTRES[-1] + step / 2)
    axes.axvline(0.0, color=DARK, linewidth=0.9)
    for fid, spread in spreads.items():
        label = f"{FILTER_CODES[fid]}: RMS {spread.rms:.1f}"
        axes.stairs(found.relzp[fid - 1] / step, edges, color=BAND_COLOURS[fid], linewidth=1.6, label=label)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(0.0, 1.25 * axes.get_ylim()[1])
    axes.legend(loc="upper right", fontsize=9, framealpha=0.8, edgecolor="none", labelcolor=DARK)
