"""Depth and crowding of a catalog."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats, arcsec_of_chord2

STEP_MAG: Final = 0.25
BRIGHT_MAG, FAINT_MAG = 10.0, 26.0
FIVE_SIGMA_MAGERR: Final = 0.217
"""Error of a source of signal to noise 5: 1.0857 / 5."""

_FEWEST: Final = 10
"""Sources of a bin of magnitude whose median error counts."""


def limit_of_errors(mag: Floats, error: Floats) -> float:
    """Magnitude at which sources have signal to noise 5.

    Medians of the errors in steps of a quarter magnitude; between the last that is below 0.217 and the next it is
    interpolated.

    Parameters
    ----------
    mag, error : float64 ndarray, shape (N,)
        NaN is left out.

    Returns
    -------
    float
        NaN where no step of ten sources reaches that error.
    """
    centres, count, place = _histogram(mag, error)
    medians = np.array([np.median(error[place == k]) if n >= _FEWEST else np.nan for k, n in enumerate(count)])
    known = np.flatnonzero(np.isfinite(medians))
    above = np.flatnonzero(medians[known] >= FIVE_SIGMA_MAGERR)
    if not len(above) or above[0] == 0:
        return float("nan")
    low, high = known[above[0] - 1], known[above[0]]
    part = (FIVE_SIGMA_MAGERR - medians[low]) / (medians[high] - medians[low])
    return float(centres[low] + part * (centres[high] - centres[low]))


def turnover(mag: Floats) -> float:
    """Magnitude beyond which there are fewer sources again: middle of the fullest quarter magnitude; NaN of none."""
    centres, count, _ = _histogram(mag, np.zeros(len(mag)))
    return float(centres[np.argmax(count)]) if count.any() else float("nan")


def _histogram(mag: Floats, error: Floats) -> Any:
    """Centres of the steps of magnitude, counts, and the step of each source; -1 for what is not finite."""
    steps = round((FAINT_MAG - BRIGHT_MAG) / STEP_MAG)
    known = np.isfinite(mag) & np.isfinite(error) & (mag >= BRIGHT_MAG) & (mag < FAINT_MAG)
    place = np.where(known, np.floor((np.where(known, mag, 0.0) - BRIGHT_MAG) / STEP_MAG), -1).astype(np.int64)
    count = np.bincount(place[known], minlength=steps)
    return BRIGHT_MAG + STEP_MAG * (np.arange(steps) + 0.5), count, place


def combined_limit(limit: Any, images: Any) -> Any:
    """Limit of a reference of N images of some limiting magnitude: it grows by 1.25 log10(N)."""
    return limit + 1.25 * np.log10(images)


def neighbour_distances(xyz: Floats) -> Floats:
    """Distance of each source to its nearest neighbour, arcsec; infinite for a single one.

    Parameters
    ----------
    xyz : float64 ndarray, shape (N, 3)
        Unit vectors.

    Returns
    -------
    float64 ndarray, shape (N,)
    """
    order = np.argsort(xyz[:, 2], kind="stable")
    chord2 = np.empty(len(xyz))
    chord2[order] = _nearest_chords(np.ascontiguousarray(xyz[order]))
    found = np.isfinite(chord2)
    return np.where(found, arcsec_of_chord2(np.where(found, chord2, 0.0)), np.inf)


@njit(cache=True, nogil=True)
def _nearest_chords(xyz: Floats) -> Floats:
    """Squared chord to the nearest other of points in order of z.

    From each point up and down in z, until z alone is farther than the nearest found.
    """
    n = xyz.shape[0]
    best = np.full(n, np.inf)
    for i in range(n):
        for j in range(i + 1, n):
            dz = xyz[j, 2] - xyz[i, 2]
            if dz * dz > best[i]:
                break
            dx, dy = xyz[j, 0] - xyz[i, 0], xyz[j, 1] - xyz[i, 1]
            best[i] = min(best[i], dx * dx + dy * dy + dz * dz)
        for j in range(i - 1, -1, -1):
            dz = xyz[i, 2] - xyz[j, 2]
            if dz * dz > best[i]:
                break
            dx, dy = xyz[j, 0] - xyz[i, 0], xyz[j, 1] - xyz[i, 1]
            best[i] = min(best[i], dx * dx + dy * dy + dz * dz)
    return best
