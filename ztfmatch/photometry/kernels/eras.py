"""Eras of the camera: dates at which the maps of exposures step, detected against drifts, clouds and noise.

The maps of the exposures of a night are one vector. Without a step they follow, cell by cell, a line in time that
bends at nodes (:func:`~ztfmatch.photometry.kernels.timeline.hats`). For each gap between nights it is asked how much
better the maps are described by a step there besides: the gain in chi-square, with as many degrees of freedom as cells.
The largest is a step if it is half as much again as what chance, in as many gaps, reaches once in a thousand
calibrations; then the search is repeated with it. Nights that are off alone, by
clouds, are left out.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.exposuremaps import CELLS, ExposureMaps
from ztfmatch.photometry.kernels.timeline import hats

Mask = npt.NDArray[np.bool_]

_FALSE_ALARMS: Final = 1e-3
"""Steps found by chance in a calibration of one channel without any."""
_FACTOR: Final = 1.5
"""More than chance, for what a description in cells lacks."""
_MOST_STEPS: Final = 12
_LEAST_NIGHTS: Final = 4
"""On either side of a step."""
_ROUNDS: Final = 4
_AROUND: Final = 6
"""Nights before and after one that it is held to."""
_CLEAR: Final = 1.6
_CLOUDY: Final = 2.0
"""Times the usual chi-square up to which a night counts at all, and beyond which it counts less."""
_LEAST_MAG: Final = 0.0008
"""Root mean square of a step; smaller ones are left to lines."""


def find_steps(maps: ExposureMaps, given: tuple[float, ...] = ()) -> tuple[float, ...]:
    """Dates (MJD) of steps, ascending, those that are given left out.

    Parameters
    ----------
    maps : ExposureMaps
    given : tuple of float
        Steps that are known.
    """
    variance = maps.variance()
    if len(maps.time) < 2 * _LEAST_NIGHTS or not np.isfinite(variance):
        return ()
    nights = _nights(maps, variance)
    clear = _clear(nights[1], nights[2])
    night, weight, mean = (values[clear] for values in nights)
    found: list[float] = []
    while len(found) < _MOST_STEPS:
        date = _strongest(night, weight, mean, sorted([*given, *found]))
        if date is None:
            break
        found.append(_refined(nights, clear, date))
    return tuple(sorted(found))


def _nights(maps: ExposureMaps, variance: float) -> tuple[Floats, Floats, Floats]:
    """Mean time of each night, mean weight of its cells, and mean of each, shape (N,), (N,), (N, CELLS)."""
    n, mean = maps.of_all_stars()
    number = np.floor(maps.time + 0.5).astype(np.int64)  # Palomar's nights do not cross noon UT
    names, place = np.unique(number, return_inverse=True)
    count = np.zeros((len(names), CELLS))
    total = np.zeros_like(count)
    np.add.at(count, place, n)
    np.add.at(total, place, n * mean)
    time = np.bincount(place, maps.time) / np.bincount(place)
    full = (count > 0).mean(axis=1) > 0.5
    level, weight = total[full] / np.maximum(count[full], 1.0), count[full].mean(axis=1) / variance
    return time[full], weight, level


def _refined(nights: tuple[Floats, Floats, Floats], clear: Mask, date: float) -> float:
    """The date of a step among all nights: by whether each is more like those well before it or well after it.

    Nights beside a step are easily taken for cloudy ones, since the median around them is of both kinds.
    """
    time, weight, mean = nights
    at = int(np.searchsorted(time, date))
    near = slice(max(at - _AROUND, 0), min(at + _AROUND, len(time)))
    sides = [np.flatnonzero(clear & chosen) for chosen in (time < date, time > date)]
    before, after = (mean[rows].mean(axis=0) for rows in (sides[0][-_AROUND:], sides[1][:_AROUND]))
    later = weight[near] * ((mean[near] - before) ** 2 - (mean[near] - after) ** 2).sum(axis=1)
    later = np.clip(later, -CELLS, CELLS)  # a cloud has no more to say than a clear night
    gain = np.concatenate([[0.0], np.cumsum(-later)]) + np.concatenate([np.cumsum(later[::-1])[::-1], [0.0]])
    best = near.start + int(np.argmax(gain))
    return float(0.5 * (time[best - 1] + time[best])) if 0 < best < len(time) else date


def _clear(weight: Floats, mean: Floats) -> Mask:
    """Nights that are not off alone: by clouds, say. A median over the nights around follows a step, and no cloud."""
    n = len(mean)
    if n < 2 * _AROUND:
        return np.ones(n, bool)
    padded = np.pad(mean, ((_AROUND, _AROUND), (0, 0)), mode="reflect")
    near = np.median(np.stack([padded[k : k + n] for k in range(2 * _AROUND + 1)]), axis=0)
    off = weight * ((mean - near) ** 2).mean(axis=1)
    return np.asarray(off < _CLEAR * np.median(off))


def _strongest(time: Floats, weight: Floats, mean: Floats, known: list[float]) -> float | None:
    """Date of the most significant step beside the known ones; None if chance may have made it."""
    n = len(time)
    if n < 2 * _LEAST_NIGHTS:
        return None
    design = hats(time, tuple(known))
    gaps = np.arange(_LEAST_NIGHTS, n - _LEAST_NIGHTS + 1)
    steps = (np.arange(n)[:, None] >= gaps).astype(np.float64)
    counts = np.ones(n)
    for _ in range(_ROUNDS):
        w = weight * counts
        left, across = _beside(design, w, mean), _beside(design, w, steps)
        own = (w[:, None] * across * across).sum(axis=0)
        ahead = across.T @ (w[:, None] * left)
        gain = (ahead**2).sum(axis=1) / np.where(own > 1e-9 * w.sum(), own, np.inf)
        best = int(np.argmax(gain))
        size = ahead[best] / max(own[best], 1e-12)
        rest = left - across[:, [best]] * size
        # What is left of each night with the step; its median is the noise that all have.
        each = weight * (rest**2).sum(axis=1) / CELLS
        usual = max(float(np.median(each)), 1.0)
        counts = np.minimum(1.0, _CLOUDY * usual / np.maximum(each, 1e-12))
    limit = _FACTOR * usual * _rarely_above(_FALSE_ALARMS / len(gaps), CELLS)
    if gain[best] < limit or np.sqrt(np.mean(size**2)) < _LEAST_MAG:
        return None
    return float(0.5 * (time[gaps[best] - 1] + time[gaps[best]]))


def _rarely_above(chance: float, freedom: int) -> float:
    """Chi-square that is exceeded by a chance, by Wilson and Hilferty (1931)."""
    spread = 2.0 / (9.0 * freedom)
    return float(freedom * (1.0 - spread + NormalDist().inv_cdf(1.0 - chance) * np.sqrt(spread)) ** 3)


def _beside(design: Floats, weight: Floats, values: Floats) -> Floats:
    """Values less what a design describes of them, by weighted least squares; shape (N, M)."""
    root = np.sqrt(weight)[:, None]
    factors = np.linalg.lstsq(design * root, values * root, rcond=1e-10)[0]
    return np.asarray(values - design @ factors)
