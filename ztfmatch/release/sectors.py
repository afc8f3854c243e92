"""TESS sectors: footprints and dates.

tess-point knows where TESS looks, but only the middle of a sector. The dates are a table of ours, made of that of
tesswcs 1.9.3 (its ``pointings.csv``). tesswcs has footprints as well, but needs pandas before 3, and LSDB, which reads
releases, pandas 3: no environment can have both.
"""

from __future__ import annotations

import importlib
from datetime import date
from typing import Any, Final

import numpy as np

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.kernels.region import Polygon, Region
from ztfmatch.core.packagedata import package_rows
from ztfmatch.core.survey import MJD_ZERO

_INSTALL: Final = "pip install 'ztfmatch[publish]'"

_COLUMNS: Final = (44.5, 2092.5)
_ROWS: Final = (0.5, 2048.5)
"""Edges of the pixels of a CCD that see the sky, as tess-point counts them."""
_SPECIAL: Final = 1000
_POINTS_A_SIDE: Final = 6
"""Two degrees apart, between which distortion bends a side by arcseconds."""


def sector_region(number: int) -> Region:
    """Footprint of a sector: what its sixteen CCDs see, from the pointings that tess-point has.

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
        raise ConfigError(
            f"no sector {number}; tess-point knows {_listed(sectors)}: update it, or give --cone, --polygon or --moc"
        )
    pointing = every(trySector=number)
    polygons = tuple(_ccd(pointing.fpgObjs[0], camera, ccd) for camera in range(4) for ccd in range(4))
    return Region(polygons, f"TESS sector {number}")


def sector_dates(number: int) -> tuple[float, float]:
    """MJD at which the first day of a sector begins and its last day ends (UTC), by the schedule; both are whole.

    Raises
    ------
    ConfigError
        If the table does not have the sector.
    """
    days = {int(row["sector"]): (row["first"], row["last"]) for row in package_rows("tess_sectors.csv")}
    if number not in days:
        raise ConfigError(f"no dates of sector {number}; known are {_listed([*days])}: give --since and --until")
    first, last = ((date.fromisoformat(day) - date(*MJD_ZERO)).days for day in days[number])
    return float(first), last + 1.0


def _listed(sectors: list[int]) -> str:
    """Sectors, of which those beyond a thousand are special pointings."""
    usual = [n for n in sectors if n < _SPECIAL]
    return ", ".join([f"{min(usual)} to {max(usual)}", *(str(n) for n in sectors if n >= _SPECIAL)])


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
