"""Hierarchical triangular mesh: the number of the spherical triangle of a direction.

Kunszt, Szalay and Thakar 2001 (Mining the Sky, p. 631); numbering as in the SDSS and in IRSA's tables: the eight roots
S0..S3, N0..N3 are 8..15, and a child is 4 times its parent plus 0..3.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Ints
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats

HTM_DEPTH: Final = 20

_ROOTS: Final = np.array(
    [
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0, 1, 0], [0, 0, -1], [-1, 0, 0]],
        [[-1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
        [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
        [[0, -1, 0], [0, 0, 1], [-1, 0, 0]],
        [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    ],
    np.float64,
)
"""Corners of S0..S3, N0..N3."""


def htm_index(xyz: Floats, depth: int = HTM_DEPTH) -> Ints:
    """Number of the triangle of each unit vector.

    Parameters
    ----------
    xyz : float64 ndarray, shape (N, 3)
    depth : int
        0 for the eight roots; each level divides a triangle into four.

    Returns
    -------
    int64 ndarray, shape (N,)
    """
    return _index(np.ascontiguousarray(xyz), depth, _ROOTS)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _side(a: Floats, b: Floats, p: Floats) -> float:
    """Positive to the left of the arc from a to b."""
    x = a[1] * b[2] - a[2] * b[1]
    y = a[2] * b[0] - a[0] * b[2]
    z = a[0] * b[1] - a[1] * b[0]
    side: float = x * p[0] + y * p[1] + z * p[2]
    return side


@njit(cache=True, nogil=True)
def _middle(a: Floats, b: Floats, out: Floats) -> None:
    x, y, z = a[0] + b[0], a[1] + b[1], a[2] + b[2]
    norm = math.sqrt(x * x + y * y + z * z)
    out[0], out[1], out[2] = x / norm, y / norm, z / norm


@njit(cache=True, nogil=True)
def _index(xyz: Floats, depth: int, roots: Floats) -> Ints:
    out = np.empty(xyz.shape[0], np.int64)
    v = np.empty((3, 3))
    w = np.empty((3, 3))
    for i in range(xyz.shape[0]):
        p = xyz[i]
        root = _root(p)
        number = 8 + root
        v[:] = roots[root]
        for _ in range(depth):
            _middle(v[1], v[2], w[0])
            _middle(v[0], v[2], w[1])
            _middle(v[0], v[1], w[2])
            number *= 4
            if _side(w[2], w[1], p) > 0.0:  # on the side of corner 0 of the arc that cuts it off
                v[1], v[2] = w[2], w[1]
            elif _side(w[0], w[2], p) > 0.0:
                number += 1
                v[0] = v[1]
                v[1], v[2] = w[0], w[2]
            elif _side(w[1], w[0], p) > 0.0:
                number += 2
                v[0] = v[2]
                v[1], v[2] = w[1], w[0]
            else:
                number += 3
                v[0], v[1], v[2] = w[0], w[1], w[2]
        out[i] = number
    return out


@njit(cache=True, nogil=True)
def _root(p: Floats) -> int:
    """Root triangle: hemisphere and quarter; borders go to the quarter that they begin."""
    x, y, z = p[0], p[1], p[2]
    if z < 0.0:
        if y >= 0.0:
            return 0 if x > 0.0 else 1
        return 2 if x < 0.0 else 3
    if y < 0.0:
        return 4 if x > 0.0 else 5
    return 6 if x < 0.0 else 7
