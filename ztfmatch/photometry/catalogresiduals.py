"""Residuals of one catalog from PS1, before and after corrections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.errors import MetadataError
from ztfmatch.core.io.catalogs import EpochalCatalog
from ztfmatch.core.kernels.calibration import catalog_flags, unrounded_magnitudes
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.photometry.io.ps1 import Ps1Catalog
from ztfmatch.photometry.tables import RMS_RANGE_MAG

_FEWEST_STARS: Final = 3


@dataclass(frozen=True)
class CatalogResiduals:
    """Stars of a catalog relative to PS1, colour term included; shape (N,)."""

    x: Floats
    """Pixels."""
    y: Floats
    before: Floats
    """Observed less expected, mag."""
    after: Floats


def residuals_of(read: EpochalCatalog, after: npt.NDArray[np.float32], ps1: Ps1Catalog) -> CatalogResiduals:
    """Residuals of clean, isolated stars of the magnitudes that corrections are judged by.

    Parameters
    ----------
    read : EpochalCatalog
    after : (M,) array of float32
        Corrected magnitudes of its rows.
    ps1 : Ps1Catalog

    Raises
    ------
    MetadataError
        If PS1 has too few of the stars, or none of them in a band that is needed.
    """
    config, rows = CalibrateConfig(), read.records
    flux = rows["flux"].astype(np.float32)
    before = unrounded_magnitudes(flux, np.full(len(rows), read.magzp))
    good = catalog_flags(rows["flags"].astype(np.int16), np.zeros(len(rows), bool)) == 0
    good &= np.isfinite(before) & (flux >= config.min_snr * rows["sigflux"]) & np.isfinite(rows["ra"] + rows["dec"])
    at = np.flatnonzero(good)
    ra, dec = (rows[name][at].astype(np.float64) for name in ("ra", "dec"))
    stars = ps1.around(ra, dec)
    source = stars.nearest(unit_vectors(ra, dec), config.match_arcsec, config.isolation_arcsec)
    mag, colour = stars.references(source, read.unit.fid)
    expected = mag - (read.metadata["clrcoeff"] or 0.0) * colour
    used = (expected > RMS_RANGE_MAG[0]) & (expected < RMS_RANGE_MAG[1]) & np.isfinite(after[at])
    at, expected = at[used], expected[used]
    needed = "ri" if read.unit.fid == 3 else "gr"
    bands = ", ".join(band for band in stars.lacking if band in needed) if len(stars.ra) else ""
    if bands:
        raise MetadataError(f"{ps1.path}: none of its sources about {read.file.source} has a magnitude in {bands}")
    if len(at) < _FEWEST_STARS:
        raise MetadataError(
            f"{ps1.path}: has {len(at)} isolated stars of {RMS_RANGE_MAG[0]:g} to {RMS_RANGE_MAG[1]:g} mag within "
            f"{config.match_arcsec:g} arcsec of clean detections of {read.file.source}; expected at least "
            f"{_FEWEST_STARS}: is it of another part of the sky?"
        )
    x, y = (rows[name][at].astype(np.float64) for name in ("xpos", "ypos"))
    return CatalogResiduals(x, y, before[at] - expected, after[at].astype(np.float64) - expected)
