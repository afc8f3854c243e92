"""Photometric corrections relative to PS1: the value for a magnitude, and which terms apply.

A detection's magnitude MAGZP - 2.5 log10(flux) is too faint by

    M(mag) + P(x, y) + F

M belongs to the readout channel and filter and is a quadratic that is zero at the faint end of its valid range,
P belongs to them too and is a binned map whose valid cells have mean zero, F belongs to the unit and carries the
constant. Outside M's range, in cells without a value and in units without an offset nothing is taken off, and a bit
says so.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ints, Singles
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.schema.sky import (
    FIELD_TERM,
    MAGNITUDE_TERM,
    NO_FIELD_TERM,
    NO_MAGNITUDE_TERM,
    NO_POSITION_TERM,
    POSITION_TERM,
)
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX

Flags = npt.NDArray[np.uint8]

NO_CHANNEL: Final = -1
"""Channel of an exposure that has no corrections."""

_COLUMNS, _ROWS = QUADRANT_SHAPE_PIX
_FIRST_PIXEL_EDGE: Final = 0.5
"""Pixel positions count from the centre of the first pixel, 1."""


class CorrectionTables(NamedTuple):
    """Terms of all channels (readout channel and filter), as arrays."""

    magnitude: Floats
    """Bright and faint end of the valid range, factors of (mag - faint) and its square; NaN for none; shape (C, 4)."""
    maps: Floats
    """Maps, x runs fastest; NaN for cells without a value; shape (C, nx * ny)."""
    shape: tuple[int, int]
    """Cells along x and y."""


class ExposureTerms(NamedTuple):
    """What the corrections have for each exposure, shape (E,)."""

    channel: npt.NDArray[np.int32]
    """Row in the tables; NO_CHANNEL for none."""
    offset: Floats
    """Offset of the unit, mag; NaN for none."""


@njit(cache=True, nogil=True)
def cell_of(x: float, y: float, nx: int, ny: int) -> int:
    """Cell of a pixel position; positions beyond the quadrant belong to the nearest cell; -1 if not finite."""
    u = (x - _FIRST_PIXEL_EDGE) * nx / _COLUMNS
    v = (y - _FIRST_PIXEL_EDGE) * ny / _ROWS
    if not (np.isfinite(u) and np.isfinite(v)):
        return -1
    column = int(min(max(u, 0.0), nx - 1.0))
    row = int(min(max(v, 0.0), ny - 1.0))
    return row * nx + column


@njit(cache=True, nogil=True)
def corrected_magnitudes(
    mag: Floats,
    xpos: Singles,
    ypos: Singles,
    exposure: Ints,
    terms: ExposureTerms,
    tables: CorrectionTables,
) -> tuple[Singles, Flags]:
    """Magnitudes less their corrections, and which terms were applied or missing.

    Parameters
    ----------
    mag : float64 ndarray, shape (N,)
        Uncorrected, not rounded; NaN stays NaN and gets no flag.
    xpos, ypos : float32 ndarray, shape (N,)
        Pixels.
    exposure : int64 ndarray, shape (N,)
        Row in ``terms``.
    terms : ExposureTerms
    tables : CorrectionTables

    Returns
    -------
    mag : float32 ndarray, shape (N,)
        Rounded once; of exposures without a channel the uncorrected magnitude.
    flags : uint8 ndarray, shape (N,)
        Bits of the terms; 0 for exposures without a channel.
    """
    n = mag.shape[0]
    nx, ny = tables.shape
    out, flags = np.empty(n, np.float32), np.zeros(n, np.uint8)
    for i in range(n):
        e = exposure[i]
        c = terms.channel[e]
        if c < 0 or np.isnan(mag[i]):
            out[i] = np.float32(mag[i])
            continue
        flag, total = 0, 0.0
        if tables.magnitude[c, 0] <= mag[i] <= tables.magnitude[c, 1]:
            t = mag[i] - tables.magnitude[c, 1]
            total += t * (tables.magnitude[c, 2] + t * tables.magnitude[c, 3])
            flag |= MAGNITUDE_TERM
        else:
            flag |= NO_MAGNITUDE_TERM
        cell = cell_of(xpos[i], ypos[i], nx, ny)
        value = tables.maps[c, cell] if cell >= 0 else np.nan
        if np.isnan(value):
            flag |= NO_POSITION_TERM
        else:
            total += value
            flag |= POSITION_TERM
        if np.isnan(terms.offset[e]):
            flag |= NO_FIELD_TERM
        else:
            total += terms.offset[e]
            flag |= FIELD_TERM
        out[i] = np.float32(mag[i] - total)
        flags[i] = flag
    return out, flags
