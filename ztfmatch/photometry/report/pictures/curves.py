"""Residuals against magnitude, their histograms, and the scatter of lightcurves."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ztfmatch.core.arrays import Ints
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import FILTER_CODES
from ztfmatch.photometry.kernels.residuals import SCATTER_BINS, SCATTER_FIRST_DEX, SCATTER_STEP_DEX
from ztfmatch.photometry.report.measure import Sums
from ztfmatch.photometry.report.numbers import (
    GOAL_MMAG,
    MOMENTS,
    OFFSET_CENTRES,
    ONE_SIGMA,
    RESIDUAL_CENTRES,
    RMS_MAGS,
    SCATTER_DEX,
    epoch_histogram,
    level_centres,
    running_quantiles,
    spread_of,
    star_counts,
    star_histogram,
    stored_errors,
)
from ztfmatch.photometry.report.pictures.style import (
    AFTER_COLOUR,
    BEFORE_COLOUR,
    DARK,
    DENSITY,
    new_figure,
    nice_limit,
    panel_text,
    phase_titles,
    signed,
    style,
)
from ztfmatch.photometry.tables import RMS_RANGE_MAG
from ztfmatch.photometry.tasks.report import RMS_BRIGHT_MAG, RMS_MAG_BINS, RMS_STEP_MAG

ROW_INCH: Final = 2.9
_RESIDUAL_JOINED: Final = 3
"""Bins of a histogram of residuals that are drawn as one: 3 mmag."""
_SCATTER_JOINED: Final = (2, 2)
"""Bins of magnitude, and of scatter, drawn as one."""
_LEAST_LIMIT_MMAG: Final = 30.0
_QUANTILES: Final = (0.5, *ONE_SIGMA)


def _grid(sums: Sums, sharey: bool = True) -> tuple[Figure, Any]:
    """A row a filter, a column a phase."""
    rows = len(sums.filters)
    figure = new_figure(0.35 + ROW_INCH * rows)
    panels = figure.subplots(rows, sums.phases, squeeze=False, sharex=True, sharey=sharey)
    for axes, title in zip(panels[0], phase_titles(sums.phases, sums.titles), strict=True):
        axes.set_title(title, fontsize=11.5, color=DARK)
    return figure, panels


def residual_label(sums: Sums) -> str:
    """Name of a residual on an axis."""
    what, reference = ("observed", "PS1") if sums.against_ps1 else ("epoch", "median")
    return f"{what} \N{MINUS SIGN} {reference} (mmag)"


def draw_magnitudes(sums: Sums) -> Figure:
    """Residuals against magnitude: of stars relative to PS1, or of epochs relative to their lightcurves."""
    figure, panels = _grid(sums)
    held = {(fid, phase): _by_magnitude(sums, phase, fid) for fid in sums.filters for phase in range(sums.phases)}
    spans = [running_quantiles(counts, centres, (0.025, 0.975)) for counts, centres in held.values()]
    limit = nice_limit(np.concatenate([span.ravel() for span in spans]), _LEAST_LIMIT_MMAG, 0.9)
    for row, fid in zip(panels, sums.filters, strict=True):
        for phase, axes in enumerate(row):
            _residual_panel(axes, sums, *held[fid, phase])
            axes.set_ylim(-limit, limit)
            what = "objects" if sums.against_ps1 else "epochs"
            panel_text(axes, f"{FILTER_CODES[fid]}   {held[fid, phase][0].sum():,} {what}")
        row[0].set_ylabel(residual_label(sums), fontsize=10.5, color=DARK)
    for axes in panels[-1]:
        axes.set_xlabel(
            "PS1 magnitude, colour term applied (mag)" if sums.against_ps1 else "median magnitude (mag)", fontsize=10.5
        )
    panels[0, -1].legend(loc="lower left", fontsize=9, framealpha=0.8, edgecolor="none", labelcolor=DARK, ncols=2)
    return figure


def _by_magnitude(sums: Sums, phase: int, fid: int) -> tuple[Ints, Floats]:
    if sums.against_ps1:
        return star_counts(sums, phase, fid), RESIDUAL_CENTRES
    return sums.epochs[phase, fid - 1], OFFSET_CENTRES


def _residual_panel(axes: Axes, sums: Sums, counts: Ints, centres: Floats) -> None:
    """Density, running median, and where 68 % are."""
    bins = sums.bins
    style(axes)
    edges = np.asarray(bins.bright + np.arange(bins.levels + 1) * bins.step)
    joined, ends = _joined(counts, centres, _RESIDUAL_JOINED if sums.against_ps1 else 2)
    _density(axes, edges, ends, joined)
    mags = level_centres(bins)
    median, low, high = running_quantiles(counts, centres, _QUANTILES)
    axes.axhline(0.0, color=DARK, linewidth=0.9)
    axes.plot(mags, median, "o-", color=BEFORE_COLOUR, markersize=3.5, linewidth=1.6, label="running median", zorder=5)
    for i, edge in enumerate((low, high)):
        label = "central 68 %" if i == 0 else None
        axes.plot(mags, edge, "--", color=AFTER_COLOUR, linewidth=1.3, label=label, zorder=5)
    axes.set_xlim(edges[0], edges[-1])


def _joined(counts: Ints, centres: Floats, by: int) -> tuple[Ints, Floats]:
    """Bins of a histogram joined, without those that are left over at the ends, and their edges."""
    left = (len(centres) % by) // 2
    columns = len(centres) // by
    step = centres[1] - centres[0]
    joined = counts[:, left : left + columns * by].reshape(len(counts), columns, by).sum(axis=2)
    return joined, centres[left] - step / 2 + step * by * np.arange(columns + 1)


def _density(axes: Axes, x: Floats, y: Floats, counts: Ints) -> None:
    """Counts on a logarithmic scale of grey, shape (columns, rows); nothing where there are none."""
    shown = np.ma.masked_less(counts.T, 1)
    if shown.count():
        # From below 1 so that a single star is seen, to above the most so that lines stand out.
        norm = LogNorm(0.3, 2.0 * max(float(shown.max()), 2.0))
        axes.pcolormesh(x, y, shown, norm=norm, cmap=DENSITY, rasterized=True, zorder=1.5)


def draw_histograms(sums: Sums) -> Figure:
    """Distribution of residuals before and after, a panel a filter."""
    filters = sums.filters
    figure = new_figure(3.4)
    panels = figure.subplots(1, len(filters), squeeze=False)[0]
    centres = RESIDUAL_CENTRES if sums.against_ps1 else OFFSET_CENTRES
    held = {fid: [_histogram(sums, phase, fid) for phase in range(sums.phases)] for fid in filters}
    widest = [abs(s.median) + 4.0 * s.rms for some in held.values() for s in (spread_of(c, centres) for c in some)]
    limit = nice_limit(np.array(widest), 20.0, 1.0)
    for axes, fid in zip(panels, filters, strict=True):
        _histogram_panel(axes, held[fid], centres, limit)
        axes.set_title(FILTER_CODES[fid], fontsize=11.5, color=DARK)
        axes.set_xlabel(residual_label(sums), fontsize=10.5, color=DARK)
        if sums.against_ps1:
            axes.axvspan(-GOAL_MMAG, GOAL_MMAG, color="#F0F0F0", zorder=0.5)
    low, high = RMS_RANGE_MAG
    what = "objects" if sums.against_ps1 else "epochs"
    panels[0].set_ylabel(f"{what} per mmag, {low:g} to {high:g} mag", fontsize=10.5, color=DARK)
    return figure


def _histogram(sums: Sums, phase: int, fid: int) -> Ints:
    return star_histogram(sums, phase, fid) if sums.against_ps1 else epoch_histogram(sums, phase, fid)


def _histogram_panel(axes: Axes, held: list[Ints], centres: Floats, limit: float) -> None:
    style(axes)
    step = float(centres[1] - centres[0])
    by = max(1, round(limit / 40.0 / step))
    axes.axvline(0.0, color=DARK, linewidth=0.9)
    for phase, counts in enumerate(held):
        spread = spread_of(counts, centres)
        joined, edges = _joined(counts.reshape(1, -1), centres, by)
        colour = (BEFORE_COLOUR, AFTER_COLOUR)[phase]
        name = MOMENTS[phase] if len(held) > 1 else "as measured"
        label = f"{name}: RMS {spread.rms:.1f}, median {signed(spread.median)} mmag" if spread.n else f"{name}: none"
        axes.stairs(joined[0] / (by * step), edges, color=colour, linewidth=1.7, label=label, zorder=3 + phase)
        if spread.n and spread.rms > 0.0:
            x = np.linspace(-limit, limit, 400)
            normal = np.exp(-0.5 * ((x - spread.median) / spread.rms) ** 2) / (spread.rms * np.sqrt(2.0 * np.pi))
            axes.plot(x, spread.n * normal, ":", color=colour, linewidth=1.2, zorder=3)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(0.0, 1.38 * axes.get_ylim()[1])
    axes.legend(loc="upper right", fontsize=8.5, framealpha=0.8, edgecolor="none", labelcolor=DARK)


def draw_scatter(sums: Sums) -> Figure:
    """Scatter of lightcurves against magnitude, with its running median and the errors that are stored."""
    figure, panels = _grid(sums)
    known = sums.scatter.sum(axis=(0, 1))
    rows = np.flatnonzero(known.sum(axis=1))
    for row, fid in zip(panels, sums.filters, strict=True):
        for phase, axes in enumerate(row):
            _scatter_panel(axes, sums, phase, fid)
            panel_text(axes, f"{FILTER_CODES[fid]}   {sums.scatter[phase, fid - 1].sum():,} lightcurves")
            axes.set_xlim(RMS_MAGS[rows[0]] - 0.3, RMS_MAGS[rows[-1]] + 0.3) if len(rows) else None
        row[0].set_ylabel("scatter of a lightcurve (mag)", fontsize=10.5, color=DARK)
    for axes in panels[-1]:
        axes.set_xlabel("median magnitude (mag)", fontsize=10.5, color=DARK)
    panels[0, -1].legend(loc="lower right", fontsize=9, framealpha=0.8, edgecolor="none", labelcolor=DARK)
    return figure


def _scatter_panel(axes: Axes, sums: Sums, phase: int, fid: int) -> None:
    style(axes)
    counts = sums.scatter[phase, fid - 1]
    by_mag, by_dex = _SCATTER_JOINED
    joined = counts.reshape(RMS_MAG_BINS // by_mag, by_mag, SCATTER_BINS // by_dex, by_dex).sum(axis=(1, 3))
    mags = np.asarray(RMS_BRIGHT_MAG + RMS_STEP_MAG * by_mag * np.arange(len(joined) + 1))
    edges = np.asarray(10.0 ** (SCATTER_FIRST_DEX + SCATTER_STEP_DEX * by_dex * np.arange(joined.shape[1] + 1)))
    axes.set_yscale("log")
    _density(axes, mags, edges, joined)
    coarse = counts.reshape(RMS_MAG_BINS // by_mag, by_mag, SCATTER_BINS).sum(axis=1)
    median = 10.0 ** running_quantiles(coarse, SCATTER_DEX, (0.5,))[0]
    middle = 0.5 * (mags[:-1] + mags[1:])
    axes.plot(middle, median, "-", color=BEFORE_COLOUR, linewidth=1.8, label="running median", zorder=5)
    errors = np.where(np.isfinite(median), stored_errors(sums, phase, fid, by_mag), np.nan)
    axes.plot(middle, errors, "--", color=AFTER_COLOUR, linewidth=1.5, label="mean magerr as stored", zorder=5)
    axes.set_ylim(0.002, 1.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
