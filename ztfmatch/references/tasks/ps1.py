"""Differences of sources from PS1."""

from __future__ import annotations

import numpy as np

from ztfmatch.core.arrays import Ints
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.io.ps1 import Ps1Stars
from ztfmatch.references.schema.settings import FlatnessSettings


def stars_at(stars: Ps1Stars, xyz: Floats, settings: FlatnessSettings) -> Ints:
    """PS1 star of each position, unit vectors of shape (N, 3); -1 for none that is alone."""
    if not len(stars.ra) or not len(xyz):
        return np.full(len(xyz), -1, np.int64)
    return stars.nearest(xyz, settings.match_arcsec, settings.isolation_arcsec)


def magnitudes_of(stars: Ps1Stars, star: Ints, fid: int, settings: FlatnessSettings) -> tuple[Floats, Floats]:
    """PS1 magnitude in a filter, and the colour of its colour term, of some stars; NaN where they cannot be used."""
    if not len(stars.ra):
        return np.full(len(star), np.nan), np.full(len(star), np.nan)
    first = 1 if fid == 3 else 0  # r - i for i, else g - r
    mag = np.where(star >= 0, stars.mag[fid - 1, star], np.nan)
    colour = stars.mag[first, star] - stars.mag[first + 1, star]
    for band in {fid - 1, first, first + 1}:
        mag[stars.error[band, star] > settings.max_ps1_error] = np.nan
    mag[np.isnan(colour)] = np.nan
    return mag, colour


def differences(mag: Floats, ps1: Floats, settings: FlatnessSettings) -> Floats:
    """PS1 less measured magnitude, colour term applied to it; NaN outside the range of magnitudes."""
    inside = (mag >= settings.bright) & (mag <= settings.faint)
    return np.where(inside, ps1 - mag, np.nan)
