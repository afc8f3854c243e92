"""Changes with time in a report: by time slice, and by era between the steps of corrections."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.plain import Row
from ztfmatch.core.survey import FILTER_CODES, Channel
from ztfmatch.photometry.report.measure import Sums
from ztfmatch.photometry.report.numbers import COMPARED, MMAG, MOMENTS, STARS_PER_CELL, levels_between
from ztfmatch.photometry.tasks.report import TIME_RANGE_MAG, TIME_SIDE

JOINED_SIDE: Final = 4
"""Cells along x and y in which changes are measured."""
MOST_ERAS: Final = 4
_UNKNOWN_ERAS: Final = 3
"""Parts of the time where corrections have no steps."""
_FEWEST: Final = 20
"""Detections of a slice of time of a channel."""


class Course(NamedTuple):
    """How a channel runs in time, shape (phases, slices) but for the time; NaN where too little is known."""

    time: Floats
    """MJD of the middle of each slice, shape (slices,)."""
    level: Floats
    """Mean residual, mmag."""
    change: Floats
    """Root mean square over places of the map less that of all times, beyond noise, mmag."""


def course_of(sums: Sums, channel: Channel) -> Course:
    """Level and change of a channel by slice of time."""
    edges = sums.times[channel].edges
    held = sums.slices[channel][:, : len(edges) - 1]
    n, total = held[..., 0].sum(axis=2), held[..., 1].sum(axis=2)
    enough = n >= _FEWEST
    level = np.where(enough, MMAG * total / np.maximum(n, 1.0), np.nan)
    maps = _joined(held)
    count = np.maximum(maps[..., 0], 1.0)
    mean = maps[..., 1] / count
    whole = maps.sum(axis=1, keepdims=True)
    apart = (mean - whole[..., 1] / np.maximum(whole[..., 0], 1.0)) - (level / MMAG)[..., None]
    weight = np.sqrt(maps[..., 0])
    variance = held[..., 2].sum(axis=2) / np.maximum(n - 1.0, 1.0)
    noise = variance[..., None] * (1.0 / count - 1.0 / np.maximum(whole[..., 0], 1.0))
    # The level of all times is taken off too, so that a shift of all places does not count.
    apart = apart + (whole[..., 1].sum(axis=2) / np.maximum(whole[..., 0].sum(axis=2), 1.0))[..., None]
    square = (weight * (apart**2 - noise)).sum(axis=2) / np.maximum(weight.sum(axis=2), 1e-9)
    change = MMAG * np.sqrt(np.maximum(square, 0.0))
    return Course(0.5 * (edges[1:] + edges[:-1]), level, np.where(enough, change, np.nan))


def _joined(held: Floats, side: int = JOINED_SIDE) -> Floats:
    """Places joined to so many along x and y, shape (phases, slices, side^2, columns)."""
    by = TIME_SIDE // side
    shape = (*held.shape[:2], side, by, side, by, held.shape[-1])
    return np.asarray(held.reshape(shape).sum(axis=(3, 5)).reshape(*held.shape[:2], -1, held.shape[-1]))


class Era(NamedTuple):
    """A stretch of time of a channel."""

    begin: float
    """MJD."""
    end: float
    maps: Floats
    """Mean residual of places, mmag, NaN where there are none; shape (phases, side, side), rows are y."""


def eras_of(sums: Sums, channel: Channel) -> list[Era]:
    """Maps between the steps of a channel's corrections, the last ones; without steps those of parts of the time."""
    times = sums.times[channel]
    edges = times.edges
    if times.steps:
        bounds = [edges[0], *times.steps, edges[-1]]
    else:
        places = np.linspace(0, len(edges) - 1, _UNKNOWN_ERAS + 1).round().astype(int)
        bounds = edges[np.unique(places)].tolist()
    side = _side(sums, channel)
    eras = []
    for begin, end in list(pairwise(bounds))[-MOST_ERAS:]:
        first, last = np.searchsorted(edges, [begin, end])
        held = _joined(sums.slices[channel][:, first:last].sum(axis=1, keepdims=True), side)[:, 0]
        maps = np.where(held[..., 0] > 0, MMAG * held[..., 1] / np.maximum(held[..., 0], 1.0), np.nan)
        eras.append(Era(float(begin), float(end), maps.reshape(len(maps), side, side)))
    return eras


def _side(sums: Sums, channel: Channel) -> int:
    """Places along x and y of the maps of a channel, so that there are stars enough in one."""
    bright = levels_between(sums.bins, TIME_RANGE_MAG)
    stars = int(sums.stars[channel][0][bright].sum()) if channel in sums.stars else 0
    sides = [side for side in range(TIME_SIDE, 0, -1) if TIME_SIDE % side == 0]
    return next((side for side in sides if stars >= STARS_PER_CELL * side * side), sides[-2])


def known_channels(sums: Sums) -> list[Channel]:
    """Channels with detections in more than one slice of time."""
    return [
        channel
        for channel in sorted(sums.slices, key=lambda c: (c[1], c[0]))
        if channel in sums.times and (sums.slices[channel][0, ..., 0].sum(axis=1) > 0).sum() > 1
    ]


def shown_channels(sums: Sums, most: int) -> list[Channel]:
    """Of these some for pictures: first those with steps, then those with most detections."""
    ranked = sorted(
        known_channels(sums), key=lambda c: (-len(sums.times[c].steps), -sums.slices[c][0, ..., 0].sum(), c[1], c[0])
    )
    return sorted(ranked[:most], key=lambda c: (c[1], c[0]))


def time_rows(sums: Sums) -> list[Row]:
    """Level and change by channel and slice of time, one row each."""
    return [row for channel in known_channels(sums) for row in _channel_rows(sums, channel)]


def _channel_rows(sums: Sums, channel: Channel) -> Iterator[Row]:
    course, edges = course_of(sums, channel), sums.times[channel].edges
    names = COMPARED if sums.titles else MOMENTS
    for k in np.flatnonzero(np.isfinite(course.level[0])).tolist():
        row: Row = {"rcid": channel[0], "filter": FILTER_CODES[channel[1]]}
        row |= {"begin_mjd": round(float(edges[k]), 5), "end_mjd": round(float(edges[k + 1]), 5)}
        for phase, name in zip(range(sums.phases), names, strict=False):
            level, change = course.level[phase, k], course.change[phase, k]
            row |= {f"level_{name}_mmag": float(level), f"change_{name}_mmag": float(change)}
        yield row
