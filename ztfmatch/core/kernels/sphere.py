"""Positions on the sphere: degrees to unit vectors, chords, caps.

All positions are ICRS. A separation is compared as the squared chord between unit vectors, which is exact to
about 1e-11 of itself at arcseconds, needs no trigonometry per pair, and knows neither RA = 0 nor poles.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.elementary import atan2_of

Floats = npt.NDArray[np.float64]

ARCSEC_PER_RADIAN: Final = 180.0 * 3600.0 / math.pi
_RADIANS_PER_DEGREE: Final = math.pi / 180.0

# Taylor coefficients of sin x / x and cos x in x^2; the remainder on |x| <= pi/4 is below 1e-18.
_S1, _S2, _S3, _S4 = -1 / 6.0, 1 / 120.0, -1 / 5040.0, 1 / 362880.0
_S5, _S6, _S7, _S8 = -1 / 39916800.0, 1 / 6227020800.0, -1 / 1307674368000.0, 1 / 355687428096000.0
_C1, _C2, _C3, _C4 = -1 / 2.0, 1 / 24.0, -1 / 720.0, 1 / 40320.0
_C5, _C6, _C7, _C8 = -1 / 3628800.0, 1 / 479001600.0, -1 / 87178291200.0, 1 / 20922789888000.0


@njit(cache=True, nogil=True)
def sincos_degrees(angle: float) -> tuple[float, float]:
    """Sine and cosine of an angle in degrees; the reduction to +-45 degrees is exact, so poles are too."""
    quarter = math.floor(angle * (1 / 90.0) + 0.5)
    x = (angle - 90.0 * quarter) * _RADIANS_PER_DEGREE
    z = x * x
    s = x + x * z * (_S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * (_S6 + z * (_S7 + z * _S8)))))))
    c = 1.0 + z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * (_C6 + z * (_C7 + z * _C8)))))))
    # No branches and no integers, so that the compiler makes vector instructions of the loop around it.
    turn = quarter - 4.0 * math.floor(quarter * 0.25)
    swap = (turn == 1.0) | (turn == 3.0)
    sine, cosine = (c, s) if swap else (s, c)
    sine = -sine if turn >= 2.0 else sine
    cosine = -cosine if (turn == 1.0) | (turn == 2.0) else cosine
    return sine, cosine


@njit(cache=True, nogil=True)
def unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """Cartesian unit vectors.

    Parameters
    ----------
    ra, dec : float64 ndarray, shape (N,)
        Degrees, finite.

    Returns
    -------
    float64 ndarray, shape (N, 3)
        x towards RA 0, z towards the north pole; each component within 3e-16 of the exact value.
    """
    xyz = np.empty((ra.shape[0], 3))
    for i in range(ra.shape[0]):
        sin_ra, cos_ra = sincos_degrees(ra[i])
        sin_dec, cos_dec = sincos_degrees(dec[i])
        xyz[i, 0] = cos_dec * cos_ra
        xyz[i, 1] = cos_dec * sin_ra
        xyz[i, 2] = sin_dec
    return xyz


def unit_vector(ra: float | Floats, dec: float | Floats) -> Floats:
    """Cartesian unit vectors of few positions in degrees, shape (3,) or (N, 3); without the compiled code."""
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def chord2_of_arcsec(separation_arcsec: float) -> float:
    """Squared chord of an angular separation in arcsec, dimensionless: (2 sin(s/2))^2."""
    return (2.0 * math.sin(0.5 * separation_arcsec / ARCSEC_PER_RADIAN)) ** 2


def arcsec_of_chord2(chord2: Floats) -> Floats:
    """Angular separation in arcsec of a squared chord: 2 asin(c/2)."""
    half = np.minimum(0.5 * np.sqrt(np.atleast_1d(chord2)), 1.0)
    arcsec = 2.0 * atan2_of(half, np.sqrt((1.0 - half) * (1.0 + half))) * ARCSEC_PER_RADIAN
    return np.asarray(arcsec.reshape(np.shape(chord2)))


def _angle_of_chord2(chord2: float) -> float:
    """Angular separation in radians of a squared chord."""
    return float(arcsec_of_chord2(np.array([chord2]))[0] / ARCSEC_PER_RADIAN)


def enclosing_cap(xyz: Floats) -> tuple[Floats, float]:
    """Return a cap that holds all points: centre (unit vector, shape (3,)) and radius in radians.

    The centre is the normalised mean, so the cap is not the smallest one. The radius is enlarged by 1e-9 rad
    against rounding. Points without a mean direction give the whole sphere.
    """
    mean = xyz.mean(axis=0)
    norm = math.sqrt(float((mean**2).sum()))
    if norm < 1e-6:
        return np.array([0.0, 0.0, 1.0]), math.pi
    centre = mean / norm
    chord2 = float(((xyz - centre) ** 2).sum(axis=1).max())
    return centre, min(_angle_of_chord2(chord2) + 1e-9, math.pi)


def enclosing_cap_of_positions(ra: Floats, dec: Floats) -> tuple[Floats, float]:
    """Cap that holds all positions, at the cost of their extremes only where these say enough.

    For a small box in RA and Dec away from the poles, whose farthest points from its centre are corners or middles
    of its sides, the cap of those eight points, enlarged by 1 %. Otherwise :func:`enclosing_cap` of all.

    Parameters
    ----------
    ra, dec : float64 ndarray, shape (N,), N >= 1
        Degrees, finite.
    """
    west, east, south, north = ra.min(), ra.max(), dec.min(), dec.max()
    if east - west > 20.0 or max(abs(south), abs(north)) > 80.0:
        return enclosing_cap(unit_vectors(ra, dec))
    middle_ra, middle_dec = 0.5 * (west + east), 0.5 * (south + north)
    box_ra = np.array([west, west, west, middle_ra, middle_ra, east, east, east])
    box_dec = np.array([south, middle_dec, north, south, north, south, middle_dec, north])
    centre = unit_vectors(np.array([middle_ra]), np.array([middle_dec]))[0]
    chord2 = float(((unit_vectors(box_ra, box_dec) - centre) ** 2).sum(axis=1).max())
    return centre, 1.01 * _angle_of_chord2(chord2) + 1e-9


def lonlat_of(vector: Floats) -> tuple[float, float]:
    """Right ascension 0..360 and declination in degrees of one vector, shape (3,)."""
    ra, dec = lonlats_of(vector[None, :])
    return float(ra[0]), float(dec[0])


def lonlats_of(vectors: Floats) -> tuple[Floats, Floats]:
    """Right ascensions 0..360 and declinations in degrees of vectors of any length, shape (N, 3)."""
    x, y, z = (np.ascontiguousarray(part) for part in vectors.T)
    ra = np.degrees(atan2_of(y, x))
    return np.where(ra < 0.0, ra + 360.0, ra) % 360.0, np.degrees(atan2_of(z, np.sqrt(x * x + y * y)))
