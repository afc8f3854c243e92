"""Floats as decimal fixed-point integers, rounded as Python rounds, and angles in sexagesimal.

A *cell* is what :mod:`ztfmatch.kowalski.kernels.jsontext` writes as one value: an int64 that is a count of the
column's last decimal, or one of the codes below, or TEXT plus the number of a ready-made text.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Array, Floats, Ints, Mask
from ztfmatch.core.kernelcache import njit

NAN: Final = -(1 << 63)
POSITIVE_INFINITY: Final = NAN + 1
NEGATIVE_INFINITY: Final = NAN + 2
NULL: Final = NAN + 3
NEGATIVE_ZERO: Final = NAN + 4
TEXT: Final = -(1 << 62)
"""Text number 0; all smaller cells are codes."""
LARGEST: Final = -(1 << 61)
"""Cells from here on are numbers."""

_EXACT: Final = 2.0**52
"""Below it every double has a fraction of half or finer, and a whole number next to it."""
_SPLITTER: Final = 2.0**27 + 1.0
"""Divides a double in halves of 26 bits (Dekker 1971, Numer. Math. 18, 224; Veltkamp's splitting)."""

Cells = npt.NDArray[np.int64]


def rounded_cells(values: Array, decimals: int) -> tuple[Cells, Mask]:
    """Cells of values rounded to some decimals: what Python's ``round(float(value), decimals)`` gives.

    Parameters
    ----------
    values : float32 or float64 ndarray, shape (N,)
    decimals : int
        1 to 9.

    Returns
    -------
    cells : int64 ndarray, shape (N,)
    left : bool ndarray, shape (N,)
        Values too large for a cell, which need a text.
    """
    return _rounded(np.ascontiguousarray(values, np.float64), 10.0**decimals, False)  # type: ignore[no-any-return]


def exact_cells(values: Array, decimals: int) -> tuple[Cells, Mask]:
    """Cells of values that so many decimals say to the last bit; as :func:`rounded_cells` but for ``left``.

    Returns
    -------
    cells : int64 ndarray, shape (N,)
    left : bool ndarray, shape (N,)
        Values that need more digits, and so a text.
    """
    return _rounded(np.ascontiguousarray(values, np.float64), 10.0**decimals, True)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True, error_model="numpy")
def _rounded(values: Floats, scale: float, exact: bool) -> tuple[Cells, Mask]:
    cells = np.zeros(values.shape[0], np.int64)
    left = np.zeros(values.shape[0], np.bool_)
    for i in range(values.shape[0]):
        value = values[i]
        if np.isnan(value):
            cells[i] = NAN
        elif np.isinf(value):
            cells[i] = POSITIVE_INFINITY if value > 0.0 else NEGATIVE_INFINITY
        elif abs(value) * scale >= _EXACT:
            left[i] = True
        else:
            units = _units(value, scale)
            if exact and units / scale != value:
                left[i] = True
            elif units == 0.0 and np.signbit(value):
                cells[i] = NEGATIVE_ZERO
            else:
                cells[i] = np.int64(units)
    return cells, left


@njit(cache=True, nogil=True, error_model="numpy")
def _units(value: float, scale: float) -> float:
    """``value * scale`` rounded to a whole number, half to even, of the exact product."""
    product = value * scale
    units: float = np.rint(product)
    if abs(product - units) == 0.5:  # the product, as rounded to a double, lies halfway: the exact one may not
        error = _product_error(value, scale, product)
        if error > 0.0:
            units = np.floor(product) + 1.0
        elif error < 0.0:
            units = np.floor(product)
    return units


@njit(cache=True, nogil=True, error_model="numpy")
def _product_error(a: float, b: float, product: float) -> float:
    """The exact ``a * b`` minus the double next to it (Dekker's TwoProduct)."""
    high_a = _SPLITTER * a
    high_a = high_a - (high_a - a)
    high_b = _SPLITTER * b
    high_b = high_b - (high_b - b)
    low_a, low_b = a - high_a, b - high_b
    error: float = ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b
    return error


@njit(cache=True, nogil=True, error_model="numpy")
def hours_text(ra: Floats) -> npt.NDArray[np.uint8]:
    """Right ascensions as Kowalski writes them, ``HH:MM:SS.SSSS``, shape (N, 13) of ASCII.

    Parameters
    ----------
    ra : float64 ndarray, shape (N,)
        Degrees, in [0, 360). Seconds are rounded alone: 60.0000 is possible, as it is there.
    """
    out = np.empty((ra.shape[0], 13), np.uint8)
    for i in range(ra.shape[0]):
        hours = ra[i] * 12.0 / 180.0
        h = np.floor(hours)
        m = np.floor((hours - h) * 60.0)
        s = ((hours - h) * 60.0 - m) * 60.0
        _put_digits(out[i], 0, np.int64(h), 2)
        _put_digits(out[i], 3, np.int64(m), 2)
        units = np.int64(_units(s, 1e4))
        _put_digits(out[i], 6, units // 10_000, 2)
        _put_digits(out[i], 9, units % 10_000, 4)
        out[i, 2] = out[i, 5] = 58
        out[i, 8] = 46
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def degrees_text(dec: Floats) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Declinations as Kowalski writes them: ``DD:MM:SS.SSS``, or ``-D:MM:SS.SSS`` and ``-DD:MM:SS.SSS``.

    Parameters
    ----------
    dec : float64 ndarray, shape (N,)
        Degrees, in [-90, 90].

    Returns
    -------
    text : uint8 ndarray, shape (N, 13)
        ASCII.
    length : int64 ndarray, shape (N,)
    """
    out = np.empty((dec.shape[0], 13), np.uint8)
    length = np.empty(dec.shape[0], np.int64)
    for i in range(dec.shape[0]):
        whole = np.floor(abs(dec[i]))
        d = -whole if dec[i] < 0.0 else whole
        m = np.floor(abs(dec[i] - d) * 60.0)
        s = abs(abs(dec[i] - d) * 60.0 - m) * 60.0
        at = 0
        if dec[i] < 0.0:
            out[i, 0] = 45
            at = 1
        digits = 1 if dec[i] < 0.0 and whole < 10.0 else 2  # two places wide, the sign among them
        _put_digits(out[i], at, np.int64(whole), digits)
        at += digits
        out[i, at] = out[i, at + 3] = 58
        _put_digits(out[i], at + 1, np.int64(m), 2)
        units = np.int64(_units(s, 1e3))
        _put_digits(out[i], at + 4, units // 1000, 2)
        out[i, at + 6] = 46
        _put_digits(out[i], at + 7, units % 1000, 3)
        length[i] = at + 10
    return out, length


@njit(cache=True, nogil=True, error_model="numpy")
def _put_digits(out: npt.NDArray[np.uint8], at: int, number: int, digits: int) -> None:
    for place in range(at + digits - 1, at - 1, -1):
        out[place] = 48 + number % 10
        number //= 10
