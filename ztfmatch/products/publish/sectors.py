"""Sectors of TESS: what they see, and when."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ztfmatch.errors import ConfigError
from ztfmatch.kernels.region import Polygon, Region

_INSTALL: Final = "pip install 'ztfmatch[publish]'"
_MJD_OF_JD: Final = 2_400_000.5

_SECTOR_DAYS: Final = 27.4
"""Two orbits of the spacecraft: a sector that has no neighbour is taken to be so long."""
_COLUMNS: Final = (44.5, 2092.5)
_ROWS: Final = (0.5, 2048.5)
"""Edges of the pixels of a CCD that see the sky, as tess-point counts them."""
_POINTS_A_SIDE: Final = 6
"""Two degrees apart, between which distortion bends a side by arcseconds."""


@dataclass(frozen=True)
class Sector:
    """A sector of TESS: what its sixteen CCDs see, and when."""

    number: int
    region: Region
    since: float
    """MJD."""
    until: float
    """MJD."""


def tess_sector(number: int) -> Sector:
    """Footprint and dates of a sector, from the pointings that tess-point has.

    The dates are bounded midway between the middles of a sector and of its neighbours.

    Raises
    ------
    ConfigError
        If tess-point is not installed, or does not know the sector.
    """
    try:
        stars2px: Any = importlib.import_module("tess_stars2px")
    except ImportError:
        raise ConfigError(f"the pointing of a sector needs tess-point: {_INSTALL}") from None
    every = stars2px.TESS_Spacecraft_Pointing_Data
    sectors = [int(n) for n in np.asarray(every.sectors)]
    if number not in sectors:
        known = [n for n in sectors if n < 1000]
        raise ConfigError(
            f"no sector {number}; tess-point knows {min(known)} to {max(known)}: update it, or give a MOC"
        )
    pointing = every(trySector=number)
    polygons = tuple(_ccd(pointing.fpgObjs[0], camera, ccd) for camera in range(4) for ccd in range(4))
    region = Region(polygons, f"TESS sector {number}")
    return Sector(number, region, *_dates(number, sectors, np.asarray(every.midtimes) - _MJD_OF_JD))


def _ccd(geometry: Any, camera: int, ccd: int) -> Polygon:
    """Outline of a CCD, with points enough on each side that optical distortion does not matter."""
    along = np.arange(_POINTS_A_SIDE) / _POINTS_A_SIDE
    low, high, bottom, top = *_COLUMNS, *_ROWS
    columns = [low + along * (high - low), np.full(_POINTS_A_SIDE, high), high - along * (high - low)]
    columns.append(np.full(_POINTS_A_SIDE, low))
    rows = [np.full(_POINTS_A_SIDE, bottom), bottom + along * (top - bottom), np.full(_POINTS_A_SIDE, top)]
    rows.append(top - along * (top - bottom))
    points = zip(np.concatenate(columns).tolist(), np.concatenate(rows).tolist(), strict=True)
    sky = (geometry.pix2radec_nocheck_single(camera, ccd, [column - 45.0, row - 1.0]) for column, row in points)
    return Polygon(tuple((float(ra), float(dec)) for ra, dec in sky))


def _dates(number: int, sectors: Sequence[int], middles: Any) -> tuple[float, float]:
    """MJD at which a sector begins and ends."""
    middle = dict(zip(sectors, middles.tolist(), strict=True))
    at = middle[number]
    before, after = middle.get(number - 1, at - _SECTOR_DAYS), middle.get(number + 1, at + _SECTOR_DAYS)
    return 0.5 * (before + at), 0.5 * (at + after)
