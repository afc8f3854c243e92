"""Round floats to fewer bits, for better compression."""

from __future__ import annotations

import numpy as np

from ztfmatch.core.arrays import Singles

SIGNIFICANT_BITS = 24
"""Of a float32, the leading one included."""


def rounded(values: Singles, bits: int) -> Singles:
    """Round to so many significant bits, to the nearest and to even; the relative error is at most 2^-bits.

    Parameters
    ----------
    values : float32 ndarray, shape (N,)
        Not modified; NaN and infinity stay.
    bits : int
        1 to 24, which rounds nothing.

    Raises
    ------
    ValueError
        If there are no such bits.
    """
    if not 1 <= bits <= SIGNIFICANT_BITS:
        raise ValueError(f"{bits} significant bits; expected 1..{SIGNIFICANT_BITS}")
    if bits == SIGNIFICANT_BITS:
        return values
    drop = SIGNIFICANT_BITS - bits
    words = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32((1 << drop - 1) - 1)
    # The leading bit is not stored, and is 1: of numbers of one bit only the next power of two is even.
    even = np.uint32(1) if bits == 1 else (words >> np.uint32(drop)) & np.uint32(1)
    cut = (words + half + even) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    return np.where(np.isfinite(values), cut.view(np.float32), values)
