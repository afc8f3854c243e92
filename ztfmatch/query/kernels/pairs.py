"""All pairs of two lists of positions within a radius, by declination zones.

The second list is sorted by zone and, within it, by right ascension. Of a position of the first, the wanted ones lie in
few zones, in each between two right ascensions: a run of the sorted list, which two binary searches find. Those in the
runs are compared exactly. All of it is done for all positions at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats, Rows
from ztfmatch.core.kernels.sphere import arcsec_of_chord2, chord2_of_arcsec, unit_vector

_LEAST_ZONE_DEG: Final = 2.0 / 3600.0
_SLACK_DEG: Final = 1e-6
"""Beyond what rounding of the sorting key may be."""
_ZONE_KEY: Final = 1000.0
"""Key of the sorted list: this for each zone, plus the right ascension."""
_PAIRS_AT_ONCE: Final = 4_000_000


def pairs_within(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], radius_arcsec: float
) -> tuple[Rows, Rows, Floats]:
    """Pairs of positions that are no farther from each other than a radius, which is inclusive.

    Parameters
    ----------
    first, second : (float64 ndarray, float64 ndarray), shape (N,), (M,)
        Right ascensions and declinations in degrees; finite, of any turn.
    radius_arcsec : float
        Less than a quarter of a circle.

    Returns
    -------
    of_first, of_second : int64 ndarray, shape (K,)
        Rows; ascending by the first, then the separation.
    separation : float64 ndarray, shape (K,)
        Arcsec.
    """
    parts = list(_parts(first, second, radius_arcsec))
    one, other, separation = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.lexsort([other, separation, one])
    return one[order], other[order], separation[order]


def _parts(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], radius_arcsec: float
) -> Iterator[tuple[Rows, Rows, Floats]]:
    none = np.zeros(0, np.int64)
    yield none, none, np.zeros(0)
    if not (len(first[0]) and len(second[0])):
        return
    radius = radius_arcsec / 3600.0
    height = max(radius, _LEAST_ZONE_DEG)
    zone = np.floor((second[1] + 90.0) / height)
    key = zone * _ZONE_KEY + second[0] % 360.0
    order = np.argsort(key, kind="stable")
    key = key[order]
    xyz = unit_vector(*first), unit_vector(*second)
    most = chord2_of_arcsec(radius_arcsec)
    for rows, low, high in _runs(first, radius, height):
        start, stop = np.searchsorted(key, low, "left"), np.searchsorted(key, high, "right")
        for some in _portions(stop - start):
            one, other = _expanded(rows[some], start[some], stop[some])
            other = order[other]
            chord2 = ((xyz[0][one] - xyz[1][other]) ** 2).sum(axis=1)
            near = chord2 <= most
            yield one[near], other[near], arcsec_of_chord2(chord2[near])


def _runs(first: tuple[Floats, Floats], radius: float, height: float) -> Iterator[tuple[Rows, Floats, Floats]]:
    """Rows of the first list, and between which keys there are those near to them: by zone, and by turn."""
    ra, dec = first[0] % 360.0, first[1]
    half = _half_width(dec, radius) + _SLACK_DEG
    lowest = np.floor((dec - radius - _SLACK_DEG + 90.0) / height)
    highest = np.floor((dec + radius + _SLACK_DEG + 90.0) / height)
    for step in range(int((highest - lowest).max()) + 1):
        zone = lowest + step
        for turn in (-360.0, 0.0, 360.0):
            west, east = np.maximum(ra - half + turn, 0.0), np.minimum(ra + half + turn, 360.0)
            rows = np.flatnonzero((west <= east) & (zone <= highest))
            yield rows, zone[rows] * _ZONE_KEY + west[rows], zone[rows] * _ZONE_KEY + east[rows]


def _half_width(dec: Floats, radius: float) -> Floats:
    """Largest difference of right ascension in degrees within a circle: asin(sin r / cos dec), all near a pole."""
    sine = np.sin(np.radians(radius)) / np.maximum(np.cos(np.radians(dec)), 1e-300)
    away = np.abs(dec) + radius < 90.0 - _SLACK_DEG
    return np.where(away, np.degrees(np.arcsin(np.minimum(sine, 1.0))), 180.0)


def _portions(counts: Rows) -> Iterator[slice]:
    """Parts of some runs with not too many pairs each."""
    bounds = np.searchsorted(np.cumsum(counts), np.arange(0, counts.sum() + 1, _PAIRS_AT_ONCE)[1:], "right").tolist()
    edges = sorted({0, *bounds, len(counts)})
    yield from (slice(low, high) for low, high in itertools.pairwise(edges))


def _expanded(rows: Rows, start: Rows, stop: Rows) -> tuple[Rows, Rows]:
    """A row and a place for each member of the runs."""
    counts = stop - start
    ends = np.cumsum(counts)
    places = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts) + np.repeat(start, counts)
    return np.repeat(rows, counts), places
