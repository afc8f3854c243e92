"""Flatness of magnitudes over a quadrant: medians of differences in 3 x 3 bins, their range, and the robust scatter."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ztfmatch.core.arrays import Ints, Mask
from ztfmatch.core.camera import Plane, Pointing, QuadrantMap, field_centre
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX

BINS: Final = 3
"""Along x and along y."""

CELLS: Final = BINS * BINS

SIGMA_OF_MAD: Final = 1.482602218505602
"""Standard deviation of normal noise over its median absolute deviation."""


class Flatness(NamedTuple):
    """Flatness of G groups: images, or one reference."""

    delta: Floats
    """Largest less smallest median of the bins that have enough values, shape (G,); NaN where fewer than two have."""
    rms: Floats
    """1.4826 times the median distance from the median, shape (G,); NaN without values."""
    median: Floats
    """Shape (G,); NaN without values."""
    counts: Ints
    """Values of each bin, shape (G, CELLS)."""
    cells: Floats
    """Median of each bin, shape (G, CELLS); NaN without values."""

    def decided(self, min_bin: int) -> Mask:
        """Whether every bin has enough values, shape (G,)."""
        return np.asarray(self.counts.min(axis=1) >= min_bin)


def pixels_of(xyz: Floats, field: int, rcid: int) -> tuple[Floats, Floats]:
    """Where the camera puts positions on a quadrant's image: pixels x and y, shape (N,) each.

    A reference's own pixels are of another grid and not kept in a store. Those of the camera's geometry are the same
    for both, and for epochal images.

    Parameters
    ----------
    xyz : float64 ndarray, shape (N, 3)
        ICRS unit vectors.

    Raises
    ------
    ConfigError
        If the survey has no such field.
    """
    plane: Plane = Pointing(*field_centre(field)).project(np.ascontiguousarray(xyz.T))
    return QuadrantMap.of_rcid(rcid).to_pixels(plane)


def bin_of(x: Floats, y: Floats) -> Ints:
    """Bin of pixels, 0 to 8, x first; what lies beyond the image belongs to the bin at its edge."""
    columns, rows = QUADRANT_SHAPE_PIX
    across = np.clip(np.floor((x - 0.5) * BINS / columns), 0, BINS - 1).astype(np.int64)
    along = np.clip(np.floor((y - 0.5) * BINS / rows), 0, BINS - 1).astype(np.int64)
    return BINS * along + across


def flatness(difference: Floats, cell: Ints, group: Ints, groups: int, min_bin: int) -> Flatness:
    """Flatness of each group of differences.

    Parameters
    ----------
    difference : float64 ndarray, shape (N,)
        Magnitudes; NaN is left out.
    cell : int64 ndarray, shape (N,)
        Bin of each, 0 to 8.
    group : int64 ndarray, shape (N,)
        0 to groups - 1.
    min_bin : int
        Fewest values of a bin that counts in ``delta``.
    """
    known = np.isfinite(difference)
    key = group[known] * CELLS + cell[known]
    order = np.argsort(key, kind="stable")
    count = np.bincount(key, minlength=groups * CELLS).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    made = _flatness(difference[known][order], starts, min_bin)
    return Flatness(made[0], made[1], made[2], count.reshape(groups, CELLS), made[3])


@njit(cache=True, nogil=True)
def _flatness(values: Floats, starts: Ints, min_bin: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Flatness of values in order of group and bin; bin k of group g begins at ``starts[g * CELLS + k]``."""
    groups = (starts.shape[0] - 1) // CELLS
    delta, rms = np.full(groups, np.nan), np.full(groups, np.nan)
    middle, cells = np.full(groups, np.nan), np.full((groups, CELLS), np.nan)
    for g in range(groups):
        own = values[starts[g * CELLS] : starts[(g + 1) * CELLS]]
        if own.shape[0] == 0:
            continue
        middle[g] = np.median(own)
        rms[g] = SIGMA_OF_MAD * np.median(np.abs(own - middle[g]))
        low, high, counting = np.inf, -np.inf, 0
        for k in range(CELLS):
            first, last = starts[g * CELLS + k], starts[g * CELLS + k + 1]
            if last == first:
                continue
            cells[g, k] = np.median(values[first:last])
            if last - first >= min_bin:
                counting += 1
                low, high = min(low, cells[g, k]), max(high, cells[g, k])
        if counting >= 2:
            delta[g] = high - low
    return delta, rms, middle, cells


@njit(cache=True, nogil=True)
def medians_of_runs(values: Floats, offsets: Ints) -> Floats:
    """Median of each run of values, shape (R,); NaN of an empty one.

    Parameters
    ----------
    values : float64 ndarray, shape (N,)
    offsets : int64 ndarray, shape (R + 1,)
        First value of each run, and one past the last.
    """
    medians = np.full(offsets.shape[0] - 1, np.nan)
    for k in range(medians.shape[0]):
        if offsets[k + 1] > offsets[k]:
            medians[k] = np.median(values[offsets[k] : offsets[k + 1]])
    return medians
