"""Zero points and gradients of single exposures relative to their channel, from clouds and extinction.

Of each exposure the coarse map of its stars, relative to their lightcurves, is described by nothing, a zero point, a
plane or a surface of second order: by the one that, fitted to one half of the stars, describes the other half best, and
the reverse. It must be better than nothing by more than chance makes it.

What the exposures of a field have in the mean is in its lightcurves, too, and in the map that is fitted to them. So the
exposures are held to those of their field that have nothing, found in turns, and what the others have in the
mean is taken off the sums that the map is fitted to.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.smoothcorrections import GRADIENT_TERMS
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.photometry.kernels.exposuremaps import CELLS, ExposureMaps, fitted_at_places, place_centres
from ztfmatch.photometry.kernels.grid import fine_centres
from ztfmatch.photometry.kernels.normalequations import BinSums, sums_by
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.kernels.sums import FITTED, OTHER_EXPOSURES, OTHER_STARS, held_out

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_SIZES: Final = (1, 3, GRADIENT_TERMS)
"""Numbers of a zero point, a plane, a surface."""
_LEAST_GAIN: Final = 14.0
"""In chi-square of the halves that were not fitted; without a gradient below zero in the mean, with a scatter of 4."""
_MORE_GAIN: Final = 6.0
"""That a form with more numbers must bring over one with fewer."""
_CELLS_PER_NUMBER: Final = 4
"""With stars of both halves, that a form needs."""
_LEAST_CELLS: Final = 20
"""The same, for what is left to be judged."""
_TURNS: Final = 2
_LEAST_CLEAR: Final = 0.25
"""Of the exposures of a field, that the others are held to."""
_NON_PHOTOMETRIC_MAG: Final = 0.006
_SURELY: Final = 6.0
"""Standard deviations by which the chi-square of what is left exceeds its mean."""


class Gradients(NamedTuple):
    """Of exposures, shape (E,) each but for the first."""

    numbers: Floats
    """See :data:`ztfmatch.core.kernels.smoothcorrections.GRADIENT_TERMS`; zero where none is significant; (E, 6)."""
    applied: Mask
    scatter: Floats
    """Root mean square of what is left over the cells beyond noise, mag; NaN with too few stars."""
    photometric: Mask
    """Whether that is small, or not certain."""


def fit_gradients(maps: ExposureMaps, changes: Floats, wanted: bool = True) -> Gradients:
    """Gradients of exposures.

    Parameters
    ----------
    maps : ExposureMaps
    changes : float64 ndarray, shape (E, CELLS)
        What the corrections of the channel say that the exposures differ by from each other, mag.
    wanted : bool
        Whether there may be gradients; else only the scatter is measured.
    """
    variance, number = maps.variance(), len(maps.time)
    none = np.zeros((number, GRADIENT_TERMS))
    if not number or not np.isfinite(variance):
        return Gradients(none, np.zeros(number, bool), np.full(number, np.nan), np.ones(number, bool))
    n, total = np.moveaxis(maps.sums, -1, 0)
    weight = n / variance
    mean = total / np.maximum(n, 1.0) - relative_changes(maps, changes)[:, None]
    best = _chosen(_gains(weight, mean))
    for _ in range(_TURNS):
        mean = mean - _usual(maps.field, (weight.sum(axis=1), _of_both(weight, mean)), best < 0)[:, None]
        best = _chosen(_gains(weight, mean))
    applied = (best >= 0) & wanted
    both = weight.sum(axis=1), _of_both(weight, mean)
    numbers = none.copy()
    for k, size in enumerate(_SIZES):
        mine = np.flatnonzero(applied & (best == k))
        numbers[mine, :size] = fitted_at_places(_basis()[:, :size], both[0][mine], both[1][mine])[0]
    scatter, certain = _left(both[0], both[1] - gradients_at_places(numbers))
    enough = _seen(weight) >= _LEAST_CELLS
    scatter = np.where(enough, scatter, np.nan)
    return Gradients(numbers, applied, scatter, ~(enough & certain & (scatter > _NON_PHOTOMETRIC_MAG)))


def _of_both(weight: Floats, mean: Floats) -> Floats:
    """Mean over both halves."""
    return np.asarray((weight * mean).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12))


def _seen(weight: Floats) -> Ids:
    """Number of places with stars of both halves."""
    return np.asarray((weight > 0).all(axis=1).sum(axis=1))


def _usual(field: Ids, both: tuple[Floats, Floats], clear: Mask) -> Floats:
    """Surface, at the places of each exposure, that the clear exposures of its field have in the mean, (E, CELLS).

    Zero where few are clear: then their mean says no more than that of all, to which lightcurves are held.
    """
    weight, mean = both
    _, place = np.unique(field, return_inverse=True)
    share = np.bincount(place, clear) / np.bincount(place)
    total, pull = np.zeros((len(share), CELLS)), np.zeros((len(share), CELLS))
    np.add.at(total, place[clear], weight[clear])
    np.add.at(pull, place[clear], (weight * mean)[clear])
    surface = fitted_at_places(_basis(), total, pull / np.maximum(total, 1e-12))[0] @ _basis().T
    return np.asarray((surface * (share >= _LEAST_CLEAR)[:, None])[place])


class ExposuresOfSums(NamedTuple):
    """Exposures of a channel, and where sums have them."""

    maps: ExposureMaps
    unit: Ids
    """Row of its unit, shape (E,)."""
    slice: Ids
    """Of time, shape (E,)."""


def mean_gradients(numbers: Floats, exposures: ExposuresOfSums, sums: BinSums, bins: Bins) -> Floats:
    """What exposures are off by in the mean of each bin, shape (N,), mag.

    Parameters
    ----------
    numbers : float64 ndarray, shape (E, 6)
    exposures : ExposuresOfSums
    sums : BinSums
    bins : Bins
    """
    n = exposures.maps.sums[..., 0].sum(axis=(1, 2))
    held = held_out(exposures.maps.exposureid // 100)
    slices = max(int(sums.slice.max(initial=0)), int(exposures.slice.max(initial=0))) + 1
    size = (max(int(sums.unit.max(initial=0)), int(exposures.unit.max(initial=0))) + 1) * slices
    x, y = fine_centres(bins.nx, bins.ny)
    u, v = (2.0 * w / pixels - 1.0 for w, pixels in zip((x, y), QUADRANT_SHAPE_PIX, strict=True))
    surfaces = _surfaces(np.tile(u, len(v)), np.repeat(v, len(u)))
    off = np.zeros(len(sums.n))
    for part, mine in ((FITTED, ~held), (OTHER_EXPOSURES, held), (OTHER_STARS, np.ones(len(n), bool))):
        place, weight = (exposures.unit * slices + exposures.slice)[mine], n[mine]
        total = np.maximum(sums_by(place, weight, size), 1e-9)
        mean = np.stack([sums_by(place, weight * column, size) / total for column in numbers[mine].T], axis=1)
        rows = np.flatnonzero(sums.part == part)
        off[rows] = (mean[sums.unit[rows] * slices + sums.slice[rows]] * surfaces[sums.cell[rows]]).sum(axis=1)
    return off


def gradients_at_places(numbers: Floats) -> Floats:
    """Gradients at the places of the coarse map, shape (E, CELLS), mag."""
    return np.asarray(numbers @ _basis().T)


def relative_changes(maps: ExposureMaps, changes: Floats) -> Floats:
    """Changes less their mean over the exposures of the same field, which the lightcurves have in common."""
    fields, place = np.unique(maps.field, return_inverse=True)
    n = maps.sums[..., 0].sum(axis=1)
    held = np.zeros((len(fields), CELLS))
    total = np.zeros_like(held)
    np.add.at(held, place, n)
    np.add.at(total, place, n * changes)
    return np.asarray(changes - (total / np.maximum(held, 1e-9))[place])


def _basis() -> Floats:
    return _surfaces(*place_centres())


def _surfaces(u: Floats, v: Floats) -> Floats:
    """Functions of GRADIENT_TERMS at positions, shape (N, 6)."""
    return np.stack([np.ones(len(u)), u, v, u * u - 1 / 3, u * v, v * v - 1 / 3], axis=1)


def _gains(weight: Floats, mean: Floats) -> Floats:
    """Gain of each form, shape (forms, E); of those that an exposure has too few stars for, none."""
    gains = np.stack([_gain(_basis()[:, :size], weight, mean) for size in _SIZES])
    gains[_seen(weight) < _CELLS_PER_NUMBER * np.array(_SIZES)[:, None]] = -np.inf
    return gains


def _gain(basis: Floats, weight: Floats, mean: Floats) -> Floats:
    """By how much the chi-square of each half falls when the other's fit is taken off; of both, shape (E,)."""
    total = np.zeros(len(mean))
    for half, other in ((0, 1), (1, 0)):
        said = fitted_at_places(basis, weight[:, other], mean[:, other])[0] @ basis.T
        total += (weight[:, half] * said * (2.0 * mean[:, half] - said)).sum(axis=1)
    return total


def _chosen(gains: Floats) -> Ids:
    """Number of the form of each exposure, -1 for none, from gains of shape (forms, E)."""
    best = np.where(gains[0] > _LEAST_GAIN, 0, -1)
    gain = np.where(best >= 0, gains[0], _LEAST_GAIN - _MORE_GAIN)
    for k in range(1, len(gains)):
        better = gains[k] > gain + _MORE_GAIN
        best, gain = np.where(better, k, best), np.where(better, gains[k], gain)
    return np.asarray(best)


def _left(weight: Floats, left: Floats) -> tuple[Floats, Mask]:
    """Scatter over the cells beyond noise, and whether it is certain that there is any."""
    seen = weight > 0
    cells = np.maximum(seen.sum(axis=1), 1)
    chi2 = (weight * left**2).sum(axis=1)
    noise = np.where(seen, 1.0 / np.where(seen, weight, 1.0), 0.0)
    beyond = np.where(seen, left**2 - noise, 0.0).sum(axis=1) / cells
    return np.sqrt(np.maximum(beyond, 0.0)), chi2 > cells + _SURELY * np.sqrt(2.0 * cells)
