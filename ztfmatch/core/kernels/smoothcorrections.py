"""Photometric corrections that are continuous in position, magnitude and time.

A detection's magnitude MAGZP - 2.5 log10(flux) is too faint by

    M(mag, t) + P(x, y, t) + F + C(colour) + E(x, y)

P is a bivariate spline of degree 2. M is a spline of degree 2 in magnitude that is zero at the faint end of its range;
beyond the bright end it stays as it is there or fades away, so that no magnitude jumps. Both are given at times
(nodes), between which they are interpolated linearly; two nodes at one time are a step. F belongs to the unit. C is of
second order in PS1's colour. E belongs to the exposure: its zero point and a gradient of up to second order.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ids, Mask, Singles
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.corrections import Flags, cell_of
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.schema.sky import (
    EXPOSURE_TERM,
    FIELD_TERM,
    MAGNITUDE_TERM,
    NO_COLOUR,
    NO_FIELD_TERM,
    NO_MAGNITUDE_TERM,
    NO_POSITION_TERM,
    POSITION_TERM,
)
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX

Rows = npt.NDArray[np.int32]

DEGREE: Final = 2
GRADIENT_TERMS: Final = 6
"""1, u, v, u^2 - 1/3, u v, v^2 - 1/3; u and v run from -1 to 1 over the quadrant."""
CURVE_NUMBERS: Final = 4
"""Before the knots of a curve: bright and faint end, factors of (mag - faint) and of its square."""
COLOUR_NUMBERS: Final = 3
"""Middle colour, factors of (colour - middle) and of its square."""

_COLUMNS, _ROWS = QUADRANT_SHAPE_PIX


class SmoothTables(NamedTuple):
    """Terms at all nodes of all channels, a row each."""

    knots_x: Floats
    """Knots of the spline along x, pixels, those at the ends three times; shape (R, kx)."""
    knots_y: Floats
    maps: Floats
    """Coefficients of the spline, x runs fastest; shape (R, (kx - 3) * (ky - 3))."""
    curve: Floats
    """CURVE_NUMBERS of the magnitude term, NaN for none; then pairs of a knot and the factor of (mag - knot)^2 below
    it; shape (R, 4 + 2 J)."""
    colour: Floats
    """COLOUR_NUMBERS; factors of zero where there is no such term; shape (R, 3)."""
    valid: Mask
    """Cells of the quadrant in which the map is known well enough, x runs fastest; shape (R, nx * ny)."""
    shape: tuple[int, int]
    """Cells along x and y."""
    fade: float
    """Magnitudes over which the magnitude term fades away beyond its bright end; 0 where it stays."""


class SmoothExposures(NamedTuple):
    """What the corrections have for each exposure, shape (E,)."""

    before: Rows
    """Row of the tables of the node before it; -1 for an exposure without corrections."""
    after: Rows
    """Of the node after it; the same where the node before is all."""
    weight: Floats
    """Of the node after it, 0 to 1."""
    offset: Floats
    """Offset of the unit, mag; NaN for none."""
    gradient: Floats
    """GRADIENT_TERMS, zero where it has none; shape (E, 6)."""
    colour: Floats
    """Mean of (colour - middle) and of its square over the unit's stars, and scatter of the colour term, for
    detections without a colour; shape (E, 3)."""


@njit(cache=True, nogil=True)
def _interval(knots: Floats, u: float) -> int:
    """Number of the knot at which the interval of a position begins: knots[i] <= u < knots[i + 1]."""
    low, high = DEGREE, knots.shape[0] - DEGREE - 1
    while high - low > 1:
        middle = (low + high) // 2
        if u >= knots[middle]:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _weights(knots: Floats, i: int, u: float) -> tuple[float, float, float]:
    """The three splines of degree 2 that are not zero in an interval, by the recurrence of Cox and de Boor."""
    left, right = (knots[i + 1] - u) / (knots[i + 1] - knots[i]), (u - knots[i]) / (knots[i + 1] - knots[i])
    a = (knots[i + 1] - u) / (knots[i + 1] - knots[i - 1])
    b = (u - knots[i]) / (knots[i + 2] - knots[i])
    return left * a, left * (1.0 - a) + right * (1.0 - b), right * b


@njit(cache=True, nogil=True)
def _inside(knots: Floats, u: float) -> float:
    return float(min(max(u, knots[0]), knots[-1]))


@njit(cache=True, nogil=True)
def spline_values(knots_x: Floats, knots_y: Floats, coefficients: Floats, x: Floats, y: Floats) -> Floats:
    """A bivariate spline of degree 2 at positions, those beyond its knots at the nearest edge.

    Parameters
    ----------
    knots_x, knots_y : float64 ndarray, shape (kx,), (ky,)
    coefficients : float64 ndarray, shape ((kx - 3) * (ky - 3),)
        x runs fastest.
    x, y : float64 ndarray, shape (N,)
    """
    out = np.empty(x.shape[0])
    n = knots_x.shape[0] - DEGREE - 1
    for k in range(x.shape[0]):
        u, v = _inside(knots_x, x[k]), _inside(knots_y, y[k])
        i, j = _interval(knots_x, u), _interval(knots_y, v)
        bx, by = _weights(knots_x, i, u), _weights(knots_y, j, v)
        at = (j - DEGREE) * n + i - DEGREE
        total = 0.0
        for row in range(DEGREE + 1):
            first = at + row * n
            total += by[row] * (
                bx[0] * coefficients[first] + bx[1] * coefficients[first + 1] + bx[2] * coefficients[first + 2]
            )
        out[k] = total
    return out


@njit(cache=True, nogil=True)
def curve_value(curve: Floats, mag: float, fade: float) -> float:
    """Magnitude term of one node; 0 beyond its faint end, where it ends at zero.

    Parameters
    ----------
    curve : float64 ndarray, shape (4 + 2 J,)
    mag : float
    fade : float
        See :class:`SmoothTables`.
    """
    bright, faint = curve[0], curve[1]
    inside = min(max(mag, bright), faint)
    t = inside - faint
    total = t * (curve[2] + t * curve[3])
    for k in range(CURVE_NUMBERS, curve.shape[0], 2):
        below = min(inside - curve[k], 0.0)
        total += curve[k + 1] * below * below
    if mag < bright and fade > 0.0:
        total *= max(1.0 - (bright - mag) / fade, 0.0)
    return float(total)


@njit(cache=True, nogil=True)
def smoothly_corrected(
    mag: Floats,
    place: tuple[Singles, Singles],
    colour: Singles,
    exposure: Ids,
    terms: SmoothExposures,
    tables: SmoothTables,
) -> tuple[Singles, Flags, Singles]:
    """Magnitudes less their corrections, which terms were applied or missing, and what they are uncertain by.

    Parameters
    ----------
    mag : float64 ndarray, shape (N,)
        Uncorrected, not rounded; NaN stays NaN and gets no flag.
    place : tuple of two float32 ndarray, shape (N,)
        Pixels x, y.
    colour : float32 ndarray, shape (N,)
        PS1's, of the filter's colour term; NaN for none.
    exposure : int64 ndarray, shape (N,)
        Row in ``terms``.
    terms : SmoothExposures
    tables : SmoothTables

    Returns
    -------
    mag : float32 ndarray, shape (N,)
        Rounded once; of exposures without corrections the uncorrected magnitude.
    flags : uint8 ndarray, shape (N,)
    blur : float32 ndarray, shape (N,)
        Scatter of the colour term for detections without a colour, mag; else 0.
    """
    n = mag.shape[0]
    nx, ny = tables.shape
    out, flags, blur = np.empty(n, np.float32), np.zeros(n, np.uint8), np.zeros(n, np.float32)
    for i in range(n):
        e = exposure[i]
        r, s = terms.before[e], terms.after[e]
        if r < 0 or np.isnan(mag[i]):
            out[i] = np.float32(mag[i])
            continue
        x, y = place[0][i], place[1][i]
        w = terms.weight[e]
        # Each term is added to the sum of those before it: in another order the last digit would be another.
        flag, total = NO_MAGNITUDE_TERM, 0.0
        if not np.isnan(tables.curve[r, 0]):
            total = curve_value(tables.curve[r], mag[i], tables.fade)
            if s != r:
                total += w * (curve_value(tables.curve[s], mag[i], tables.fade) - total)
            if tables.curve[r, 0] <= mag[i] <= tables.curve[r, 1]:
                flag = MAGNITUDE_TERM
        cell = cell_of(x, y, nx, ny)
        if cell < 0 or not tables.valid[r, cell]:
            flag |= NO_POSITION_TERM
        else:
            total = _with_position(total, tables.maps, tables.knots_x[r], tables.knots_y[r], r, s, w, x, y)
            flag |= POSITION_TERM
        if np.isnan(terms.offset[e]):
            flag |= NO_FIELD_TERM
        else:
            total += terms.offset[e]
            flag |= FIELD_TERM
        if tables.colour[r, 1] != 0.0 or tables.colour[r, 2] != 0.0:
            if np.isnan(colour[i]):  # what the unit's stars have in the mean, uncertain by how they scatter
                total += tables.colour[r, 1] * terms.colour[e, 0] + tables.colour[r, 2] * terms.colour[e, 1]
                blur[i] = np.float32(terms.colour[e, 2])
                flag |= NO_COLOUR
            else:
                apart = colour[i] - tables.colour[r, 0]
                total += apart * (tables.colour[r, 1] + apart * tables.colour[r, 2])
        g = terms.gradient[e]
        if (g[0] != 0.0 or g[1] != 0.0 or g[2] != 0.0) and np.isfinite(x) and np.isfinite(y):
            u, v = 2.0 * x / _COLUMNS - 1.0, 2.0 * y / _ROWS - 1.0
            total += g[0] + u * g[1] + v * g[2] + (u * u - 1 / 3) * g[3] + u * v * g[4] + (v * v - 1 / 3) * g[5]
            flag |= EXPOSURE_TERM
        out[i] = np.float32(mag[i] - total)
        flags[i] = flag
    return out, flags, blur


@njit(cache=True, nogil=True, inline="always")
def _with_position(
    total: float, maps: Floats, knots_x: Floats, knots_y: Floats, r: int, s: int, w: float, x: float, y: float
) -> float:
    """A sum with the position term: nine splines are not zero there, with factors between two nodes r and s."""
    width = knots_x.shape[0] - DEGREE - 1
    u, v = _inside(knots_x, x), _inside(knots_y, y)
    ix, iy = _interval(knots_x, u), _interval(knots_y, v)
    bx, by = _weights(knots_x, ix, u), _weights(knots_y, iy, v)
    at = (iy - DEGREE) * width + ix - DEGREE
    for row in range(DEGREE + 1):
        for column in range(DEGREE + 1):
            k = at + row * width + column
            value = maps[r, k]
            if s != r:
                value += w * (maps[s, k] - value)
            total += by[row] * bx[column] * value
    return total
