"""Residuals from PS1 summed in bins of time, magnitude and position, to which corrections are fitted."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.grid import FineGrid, fine_cell_of
from ztfmatch.photometry.kernels.residuals import (
    CLIP_SIGMAS,
    RESIDUAL_BINS,
    RESIDUAL_STEP_MAG,
    SCATTER_FLOOR_MAG,
    Summary,
)

Singles = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

COLUMNS: Final = ("n", "total", "squares", "stars", "groups", "between", "pairs", "colour", "colour2", "off")
"""Of a bin: detections; sum and sum of squares of their residuals; stars, one that is seen in several cells counting in
each by its part; groups, the detections of one star; sum over groups of total^2 / n; sum over detections of the number
of detections that their star has in all bins; sums of their colour less MIDDLE_COLOUR, and of its square; sum of what
they are off from the mean of their star."""
_N, _TOTAL, _SQUARES, _STARS, _GROUPS, _BETWEEN, _PAIRS, _COLOUR, _COLOUR2, _OFF = range(len(COLUMNS))

MIDDLE_COLOUR: Final = (0.7, 0.7, 0.25)
"""Colour from which colour terms count, of g, r (g - r) and i (r - i): that of a usual star."""

PARTS: Final = 3
FITTED, OTHER_EXPOSURES, OTHER_STARS = range(PARTS)
"""What sums are of: what is fitted first, and, held out then, a fifth of the exposures and a fifth of the stars."""
_HELD_OF: Final = 5


class Layout(NamedTuple):
    """How sums are laid out: by time, then part, magnitude and fine cell."""

    levels: int
    """Bins of magnitude."""
    grid: FineGrid
    slices: int
    """Of time."""

    @property
    def cells(self) -> int:
        """Number of fine cells."""
        return self.grid.columns * self.grid.rows

    @property
    def size(self) -> int:
        """Number of bins."""
        return self.slices * PARTS * self.levels * self.cells


class Epochs(NamedTuple):
    """Epochs of lightcurves, shape (N,) each."""

    residual: Floats
    """NaN for those that do not count."""
    x: Singles
    """Pixels."""
    y: Singles
    exposure: Ids
    """Row in ``slice_of`` and ``held``."""
    slice_of: Ids
    """Slice of time of each exposure, shape (E,)."""
    held: Mask
    """Whether each exposure is held out, shape (E,)."""


class Curves(NamedTuple):
    """Lightcurves, shape (M,) each but for ``offsets``, shape (M + 1,)."""

    offsets: Ids
    bin_of: Ids
    """Magnitude bin; negative for those to leave out."""
    colour: Floats
    """Less MIDDLE_COLOUR."""
    held: Mask
    """Whether they are held out."""


def held_out(numbers: Ids) -> Mask:
    """A fifth of some numbers (stars, exposures), the same whatever is beside them.

    By Knuth's multiplicative hash, since numbers that follow each other have much in common.
    """
    mixed = (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return np.asarray(mixed % np.uint64(_HELD_OF) == 0)


@njit(cache=True, nogil=True)
def add_residuals(
    epochs: Epochs, curves: Curves, summary: Summary, layout: Layout, table: Singles, histogram: Ids
) -> int:
    """Add the epochs of chosen lightcurves to the table of their bins.

    Epochs farther than four times the scatter from the lightcurve's median are left out.

    Parameters
    ----------
    epochs : Epochs
    curves : Curves
    summary : Summary
        Of the residuals.
    layout : Layout
    table : float32 ndarray, shape (bins, 10)
        Columns as COLUMNS, added to.
    histogram : int64 ndarray, shape (magnitude bins, RESIDUAL_BINS)
        Of the mean residuals of the lightcurves, added to.

    Returns
    -------
    int
        Epochs added.
    """
    added = 0
    levels, cells, offsets = layout.levels, layout.grid.columns * layout.grid.rows, curves.offsets
    # Of the star at hand, by slice, part and cell; only those that it was seen in are read, and cleared for the next.
    places = layout.slices * PARTS * cells
    ns, totals, squares = np.zeros(places), np.zeros(places), np.zeros(places)
    seen = np.empty(places, np.int64)
    for k in range(offsets.shape[0] - 1):
        if curves.bin_of[k] < 0:
            continue
        # The floor keeps the epochs of a star whose scatter came out next to nothing, as that of few epochs may.
        limit = CLIP_SIGMAS * max(summary.scatter[k], SCATTER_FLOOR_MAG)
        n_seen, n_star, sum_star = 0, 0, 0.0
        for i in range(offsets[k], offsets[k + 1]):
            r = epochs.residual[i]
            if np.isnan(r) or abs(r - summary.median[k]) > limit:
                continue
            cell = fine_cell_of(epochs.x[i], epochs.y[i], layout.grid)
            if cell < 0:
                continue
            e = epochs.exposure[i]
            part = OTHER_STARS if curves.held[k] else OTHER_EXPOSURES if epochs.held[e] else FITTED
            place = (epochs.slice_of[e] * PARTS + part) * cells + cell
            if ns[place] == 0.0:
                seen[n_seen] = place
                n_seen += 1
            ns[place] += 1.0
            totals[place] += r
            squares[place] += r * r
            n_star += 1
            sum_star += r
        # Now that the star's number of epochs is known: its shares, and what tells its scatter within a cell from that
        # between cells.
        c = curves.colour[k]
        for j in range(n_seen):
            place = seen[j]
            at = (place // cells * levels + curves.bin_of[k]) * cells + place % cells
            n = ns[place]
            table[at, _N] += n
            table[at, _TOTAL] += totals[place]
            table[at, _SQUARES] += squares[place]
            table[at, _STARS] += n / n_star
            table[at, _GROUPS] += 1.0
            table[at, _BETWEEN] += totals[place] * totals[place] / n
            table[at, _PAIRS] += n * n_star
            table[at, _COLOUR] += n * c
            table[at, _COLOUR2] += n * c * c
            table[at, _OFF] += totals[place] - n * sum_star / n_star
            ns[place], totals[place], squares[place] = 0.0, 0.0, 0.0
        if n_star:
            # The bin in the middle is that of zero; what is beyond either end counts in the last bin there.
            position = int(np.floor(sum_star / n_star / RESIDUAL_STEP_MAG + 0.5)) + RESIDUAL_BINS // 2
            histogram[curves.bin_of[k], min(max(position, 0), RESIDUAL_BINS - 1)] += 1
            added += n_star
    return added
