"""Candidates in or near a pixel without HEALPix: all that are, and a few around it.

A pixel's border is nearly four great circles. What is on the inner side of four planes, moved out by how far the border
bends and by the margin, holds the pixel and its margin: four products a position, anywhere on the sky.
"""

from __future__ import annotations

from typing import Final

import hpgeom
import numpy as np

from ztfmatch.core.arrays import Mask
from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, Floats, unit_vectors
from ztfmatch.core.kernels.tiling import Tile

_STEPS: Final = 64
"""Points of a side by which it is known."""


def planes_around(pixel: Tile) -> Floats:
    """Planes whose inner sides hold a pixel and all within MARGIN_ARCSEC of it.

    Parameters
    ----------
    pixel : Tile

    Returns
    -------
    float64 ndarray, shape (K, 4)
        Unit normal and smallest product with it. None (K = 0) for a base pixel, which is too large for planes.
    """
    if pixel.order == 0:
        return np.empty((0, 4))
    border = _border(pixel)
    corners = border[::_STEPS]
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    normals *= np.sign(normals @ border.mean(axis=0))[:, None]
    # Between two known points the border can be farther out than both, by less than their distance's square.
    step = np.linalg.norm(border - np.roll(border, -1, axis=0), axis=1).max()
    slack = MARGIN_ARCSEC / ARCSEC_PER_RADIAN + step * step
    return np.ascontiguousarray(np.column_stack([normals, (normals @ border.T).min(axis=1) - slack]))


def _border(pixel: Tile) -> Floats:
    """Points of the border in order, the four corners among them; unit vectors, shape (4 * _STEPS, 3)."""
    lon, lat = hpgeom.boundaries(1 << pixel.order, pixel.npix, _STEPS)
    return np.asarray(unit_vectors(np.ascontiguousarray(lon), np.ascontiguousarray(lat)))


@njit(cache=True, nogil=True)
def inside(planes: Floats, xyz: Floats) -> Mask:
    """Whether each position is on the inner side of all planes, shape (N,).

    Parameters
    ----------
    planes : float64 ndarray, shape (K, 4)
        From :func:`planes_around`.
    xyz : float64 ndarray, shape (N, 3)
        Unit vectors.
    """
    out = np.ones(xyz.shape[0], np.bool_)
    for i in range(xyz.shape[0]):
        for k in range(planes.shape[0]):
            along = xyz[i, 0] * planes[k, 0] + xyz[i, 1] * planes[k, 1] + xyz[i, 2] * planes[k, 2]
            out[i] &= along >= planes[k, 3]
    return out
