"""Records of a catalog: rounding, fluxes, shapes and flags as the survey writes them."""

from __future__ import annotations

from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats, Ints, Mask, Records
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.simulate.fitsout import ROW

MAG_PER_RELATIVE_FLUX: Final = 1.0857
"""2.5 / ln 10, with the digits that the survey uses."""

EDGE_FLAG: Final = -1
EDGE_PIX: Final = 2.5
USUAL_FLAGS: Final = 2 + 2048
"""Mask bits of any detected source: SExtractor found it, and its position was used for the PSF."""

TRACK, NOISY, SPIKE, SATURATED, DEAD, HALO = 1, 16, 128, 256, 512, 4096
SATURATION_MAG: Final = 12.6
HALO_RADIUS_PIX: Final = 120.0


def fill_rows(xy: Floats, radec: Floats, mag: Floats, sigma: Floats) -> Records:
    """Records with position and photometry; chi, sharp and flags are left at zero.

    Parameters
    ----------
    xy : float64 ndarray, shape (2, N)
        Pixels, in the order of y.
    radec : float64 ndarray, shape (2, N)
        Degrees.
    mag : float64 ndarray, shape (N,)
        Instrumental.
    sigma : float64 ndarray, shape (N,)
        Its error, above zero.

    Returns
    -------
    structured ndarray of dtype ``ROW``, shape (N,)
        sourceid counts from 0.
    """
    rows = np.zeros(len(mag), dtype=ROW)
    flux = 10.0 ** (-0.4 * mag)
    rows["sourceid"] = np.arange(len(rows), dtype=np.int32)
    rows["xpos"], rows["ypos"] = np.round(xy[0], 3), np.round(xy[1], 3)
    rows["ra"], rows["dec"] = np.round(radec[0], 7) % 360.0, np.round(radec[1], 7)
    rows["flux"] = flux
    rows["sigflux"] = flux * sigma / MAG_PER_RELATIVE_FLUX
    rows["mag"], rows["sigmag"] = np.round(mag, 3), np.round(sigma, 3)
    rows["snr"] = np.round(MAG_PER_RELATIVE_FLUX / sigma, 2)
    return rows


def make_nonpositive(rows: Records, which: Ints) -> None:
    """Turn the fluxes of some rows negative, in place; such rows have no magnitude."""
    rows["flux"][which] *= -1.0
    rows["snr"][which] *= -1.0
    rows["mag"][which] = np.nan
    rows["sigmag"][which] = np.nan


def draw_shapes(rng: np.random.Generator, rows: Records) -> None:
    """Fill chi and sharp, in place: about 1 and 0, with the scatter of faint sources in real catalogs."""
    n = len(rows)
    faint = np.clip(np.abs(np.nan_to_num(3.0 / rows["snr"])), 0.02, 1.0).astype(np.float64)
    chi = (1.0 - 0.1 * faint) * np.exp(0.25 * rng.standard_normal(n, dtype=np.float32))
    rows["chi"] = np.round(chi, 3)
    rows["sharp"] = np.round(0.16 * faint * rng.standard_normal(n, dtype=np.float32) - 0.08 * faint, 3)


def draw_flags(rng: np.random.Generator, rows: Records, calibrated: Floats) -> None:
    """Fill the mask bits, in place.

    Parameters
    ----------
    rows : structured ndarray of dtype ``ROW``, shape (N,)
    calibrated : float64 ndarray, shape (N,)
        Calibrated magnitudes of the rows.
    """
    n = len(rows)
    x, y = rows["xpos"].astype(np.float64), rows["ypos"].astype(np.float64)
    flags = np.where(rng.random(n) < 0.98, USUAL_FLAGS, 2)
    for bit, chance in ((NOISY, 0.01), (SPIKE, 0.002), (DEAD, 0.003)):
        hit = rng.integers(0, n, int(rng.poisson(chance * n))) if n else np.zeros(0, dtype=np.int64)
        flags[hit] |= bit
    if rng.random() < 0.08:
        flags[_on_track(rng, x, y)] |= TRACK
    saturated = np.flatnonzero(calibrated < SATURATION_MAG)
    flags[saturated] |= SATURATED
    for star in saturated[calibrated[saturated] < SATURATION_MAG - 0.4]:
        flags[(x - x[star]) ** 2 + (y - y[star]) ** 2 < HALO_RADIUS_PIX**2] |= HALO
    columns, lines = QUADRANT_SHAPE_PIX
    edge = (x < EDGE_PIX) | (y < EDGE_PIX) | (x > columns + 1 - EDGE_PIX) | (y > lines + 1 - EDGE_PIX)
    rows["flags"] = np.where(edge, EDGE_FLAG, flags)


def _on_track(rng: np.random.Generator, x: Floats, y: Floats) -> Mask:
    """Find the sources within 8 pixels of a random line across the image."""
    angle = rng.uniform(0.0, np.pi)
    columns, lines = QUADRANT_SHAPE_PIX
    away = (x - rng.uniform(0.0, columns)) * np.cos(angle) + (y - rng.uniform(0.0, lines)) * np.sin(angle)
    near: Mask = np.abs(away) < 8.0
    return near
