"""Changes with time: courses of all channels, and maps by era of some."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import FILTER_CODES, QUADRANT_SHAPE_PIX
from ztfmatch.photometry.report.measure import Sums
from ztfmatch.photometry.report.numbers import MOMENTS
from ztfmatch.photometry.report.pictures.style import (
    AFTER_COLOUR,
    BEFORE_COLOUR,
    DARK,
    GREY,
    colour_bar,
    colour_scale,
    new_figure,
    nice_limit,
    panel_text,
    style,
)
from ztfmatch.photometry.report.times import MOST_ERAS, course_of, eras_of, known_channels, shown_channels

MOST_CHANNELS: Final = 6
"""Whose maps are drawn by era."""
_BAND_FROM: Final = 4
"""Channels from which the spread over them is drawn."""
_ONE_SIGMA: Final = (15.87, 84.13)


def draw_times(sums: Sums) -> Figure:
    """Level and change of the maps against time, a row a filter: medians over channels."""
    filters = sorted({fid for _, fid in known_channels(sums)})
    figure = new_figure(0.5 + 2.6 * len(filters))
    panels = figure.subplots(len(filters), 2, squeeze=False, sharex=True)
    labels = ("mean residual (mmag)", "change of the map (mmag)")
    for row, fid in zip(panels, filters, strict=True):
        channels = [channel for channel in known_channels(sums) if channel[1] == fid]
        courses = [course_of(sums, channel) for channel in channels]
        for number, (axes, label) in enumerate(zip(row, labels, strict=True)):
            style(axes, "", label)
            for phase in range(sums.phases):
                values = [(course.time, course[number + 1][phase]) for course in courses]
                _draw_course(axes, values, phase, sums.phases)
            for step in sorted({round(step, 1) for channel in channels for step in sums.times[channel].steps}):
                axes.axvline(step, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
            panel_text(axes, f"{FILTER_CODES[fid]}   {len(channels)} channel{'s' if len(channels) > 1 else ''}")
            axes.ticklabel_format(axis="x", useOffset=False, style="plain")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        row[0].axhline(0.0, color=DARK, linewidth=0.9)
        row[1].set_ylim(0.0, 1.2 * row[1].get_ylim()[1])
    for axes in panels[-1]:
        axes.set_xlabel("MJD (day)", fontsize=10.5, color=DARK)
    panels[0, 1].legend(loc="upper right", fontsize=9, framealpha=0.8, edgecolor="none", labelcolor=DARK)
    return figure


def _draw_course(axes: Axes, values: list[tuple[Floats, Floats]], phase: int, phases: int) -> None:
    """Median over channels in time, and where the central 68 % of them are."""
    time, value = (np.concatenate(column) for column in zip(*values, strict=True))
    known = np.isfinite(value)
    days, place = np.unique(np.round(time[known], 1), return_inverse=True)
    held = [value[known][place == k] for k in range(len(days))]
    colour = (BEFORE_COLOUR, AFTER_COLOUR)[phase]
    label = MOMENTS[phase] if phases > 1 else "as measured"
    axes.plot(days, [np.median(some) for some in held], "o-", color=colour, markersize=3.5, linewidth=1.5, label=label,
              zorder=4 + phase)  # fmt: skip
    if len(values) >= _BAND_FROM:
        low, high = np.array([np.percentile(some, _ONE_SIGMA) for some in held]).T
        axes.fill_between(days, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)


def draw_eras(sums: Sums) -> Figure:
    """Maps of some channels by era, before and after below each other."""
    channels = shown_channels(sums, MOST_CHANNELS)
    eras = {channel: eras_of(sums, channel) for channel in channels}
    rows, columns = len(channels) * sums.phases, max(map(len, eras.values()))
    scale = colour_scale(nice_limit(np.concatenate([era.maps.ravel() for some in eras.values() for era in some]), 5.0))
    figure = new_figure(1.0 + 2.1 * rows * min(1.0, MOST_ERAS / max(columns, 3)))
    panels: Any = figure.subplots(rows, columns, squeeze=False)
    width, height = QUADRANT_SHAPE_PIX
    for number, channel in enumerate(channels):
        for phase in range(sums.phases):
            row = panels[number * sums.phases + phase]
            for column, axes in enumerate(row):
                if column >= len(eras[channel]):
                    axes.set_visible(False)
                    continue
                era = eras[channel][column]
                axes.imshow(np.ma.masked_invalid(era.maps[phase]), extent=(0.5, width + 0.5, 0.5, height + 0.5),
                            origin="lower", cmap=scale.cmap, norm=scale.norm, interpolation="nearest")  # fmt: skip
                axes.set_title(f"MJD {era.begin:.0f} to {era.end:.0f}", fontsize=8.5, color=DARK, pad=3)
                axes.set_xticks([])
                axes.set_yticks([])
            name = f" {MOMENTS[phase]}" if sums.phases > 1 else ""
            row[0].set_ylabel(f"rc {channel[0]} {FILTER_CODES[channel[1]]}{name}", fontsize=9.5, color=DARK)
    against = "PS1" if sums.against_ps1 else "median of the lightcurve"
    label = f"mean of observed \N{MINUS SIGN} {against} (mmag); grey: no data"
    colour_bar(figure, scale, panels.ravel().tolist(), label)
    return figure
