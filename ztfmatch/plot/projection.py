"""Hammer's equal-area projection of the sphere, and galactic coordinates."""

from __future__ import annotations

from typing import Final

import numpy as np

from ztfmatch.core.arrays import Mask
from ztfmatch.core.kernels.sphere import Floats

HAMMER_HALF_AXES: Final = (2.0 * 2.0**0.5, 2.0**0.5)
"""Of the ellipse that is the whole sphere."""

ICRS_TO_GALACTIC: Final[Floats] = np.array(
    [
        [-0.0548755604162154, -0.8734370902348850, -0.4838350155487132],
        [+0.4941094278755837, -0.4448296299600112, +0.7469822444972189],
        [-0.8676661490190047, -0.1980763734312015, +0.4559837761750669],
    ]
)
"""Rotation of unit vectors (The Hipparcos and Tycho Catalogues, ESA SP-1200, 1997, volume 1, 1.5.3)."""


def hammer(lon: Floats, lat: Floats) -> Floats:
    """Points of the plane of positions in degrees (Snyder 1993, Flattening the Earth, p. 130).

    Parameters
    ----------
    lon, lat : float64 ndarray, shape (...)
        Degrees; lon within +-180.

    Returns
    -------
    float64 ndarray, shape (..., 2)
        Within the ellipse of ``HAMMER_HALF_AXES``; x grows with lon.
    """
    half, phi = np.radians(lon) / 2.0, np.radians(lat)
    scale = np.sqrt(2.0 / (1.0 + np.cos(phi) * np.cos(half)))
    return np.stack([2.0 * scale * np.cos(phi) * np.sin(half), scale * np.sin(phi)], axis=-1)


def from_hammer(x: Floats, y: Floats) -> tuple[Floats, Floats, Mask]:
    """Positions in degrees of points of the plane: the inverse of :func:`hammer`.

    Returns
    -------
    lon, lat : float64 ndarray, shape of x
        Degrees; 0 outside the ellipse.
    inside : bool ndarray, shape of x
        Whether the point is within the ellipse.
    """
    half_x, half_y = HAMMER_HALF_AXES
    inside: Mask = (x / half_x) ** 2 + (y / half_y) ** 2 <= 1.0
    u, v = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
    z = np.sqrt(1.0 - (u / 4.0) ** 2 - (v / 2.0) ** 2)
    lon = np.degrees(2.0 * np.arctan2(z * u, 2.0 * (2.0 * z * z - 1.0)))
    lat = np.degrees(np.arcsin(np.clip(z * v, -1.0, 1.0)))
    return lon, lat, inside
