"""Axes of lightcurves: magnitudes, times with calendar dates, phases."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import AutoMinorLocator, MultipleLocator

from ztfmatch.core.kernels.sphere import Floats

PHASE_ZERO_HMJD: Final = 58000.0
"""Where phase is 0, the same in every plot."""

GREY, DARK = "#7A7A7A", "#222222"

_MJD_ZERO = np.datetime64("1858-11-17", "s")

_DATE_STEPS: Final = {"m": (1, 5, 15, 30, 60, 180, 360), "D": (1, 2, 5, 10), "M": (1, 2, 3, 6), "Y": (1, 2, 5, 10, 50)}
"""Between dates on the axis, by numpy's unit."""


def own_axes(size: tuple[float, float]) -> Axes:
    """New axes of pyplot, which notebooks show by themselves and ``matplotlib.pyplot.show`` in a window."""
    from matplotlib import pyplot

    return pyplot.figure(figsize=size, layout="constrained").add_subplot()


def style_axes(axes: Axes) -> None:
    """Magnitudes, a quiet grid, ticks inside."""
    axes.set_axisbelow(True)
    axes.grid(True, color="#E4E4E4", linewidth=0.8)
    axes.set_ylabel("Magnitude (AB)", fontsize=13, color=DARK)
    axes.yaxis.set_minor_locator(AutoMinorLocator())
    axes.xaxis.set_minor_locator(AutoMinorLocator())
    for side in axes.spines.values():
        side.set_color(GREY)
    axes.tick_params(which="both", direction="in", right=True, color=GREY, labelcolor=DARK, labelsize=11)
    axes.tick_params(which="major", length=6)


def time_axis(axes: Axes, first: float, last: float, n_dates: int) -> None:
    """From one HMJD to another below, calendar dates above.

    A heliocentric time differs from the observatory's by 8.3 minutes at most.
    """
    margin = max(0.03 * (last - first), 0.02 if last > first else 0.5)
    axes.set_xlim(first - margin, last + margin)
    axes.set_xlabel("HMJD (day)", fontsize=13, color=DARK)
    axes.ticklabel_format(axis="x", useOffset=False, style="plain")
    ticks, labels = _calendar(first - margin, last + margin, n_dates)
    calendar = axes.secondary_xaxis("top")
    calendar.set_ticks(ticks, labels)
    calendar.set_xlabel("Date (UTC)", fontsize=10, color=GREY)
    calendar.tick_params(direction="in", color=GREY, labelcolor=GREY, labelsize=10, length=6)
    calendar.spines["top"].set_color(GREY)


def _calendar(first: float, last: float, most: int) -> tuple[list[float], list[str]]:
    """Round dates between two MJDs, in the finest steps that need no more than ``most`` of them, and their names."""
    start, stop = (_MJD_ZERO + np.timedelta64(round(mjd * 86400.0), "s") for mjd in (first, last))
    for unit, step in ((unit, step) for unit, steps in _DATE_STEPS.items() for step in steps):
        low, high = (int(time.astype(f"datetime64[{unit}]").astype(np.int64)) // step for time in (start, stop))
        if high - low <= most:
            break
    times = (np.arange(low + 1, high + 1) * step).astype(f"datetime64[{unit}]")
    mjd = (times.astype("datetime64[s]") - _MJD_ZERO) / np.timedelta64(86400, "s")
    return mjd.tolist(), [str(time).replace("T", " ") for time in times]


def phase_axis(axes: Axes, period: float) -> None:
    """Two cycles of a period in days."""
    axes.set_xlim(0.0, 2.0)
    axes.xaxis.set_major_locator(MultipleLocator(0.25))
    axes.tick_params(which="both", top=True)
    axes.set_xlabel(f"Phase (period {period:.10g} day, zero at HMJD {PHASE_ZERO_HMJD:.0f})", fontsize=13, color=DARK)


def abscissa(hmjd: Floats, period: float | None) -> tuple[Floats, int]:
    """Where epochs are drawn, and how many times over."""
    if period is None:
        return hmjd, 1
    phase = (hmjd - PHASE_ZERO_HMJD) / period % 1.0
    return np.concatenate([phase, phase + 1.0]), 2
