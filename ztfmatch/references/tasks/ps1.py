"""Differences of sources from PS1."""

from __future__ import annotations

import numpy as np

from ztfmatch.core.arrays import Ints
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.io.ps1 import Ps1Stars
from ztfmatch.references.schema.settings import FlatnessSettings
from ztfmatch.references.tasks.seeds import Seeds


def stars_of(seeds: Seeds, stars: Ps1Stars, settings: FlatnessSettings) -> tuple[Ints, Floats, Floats]:
    """PS1 star of each seed, -1 for none that is alone; its magnitude and the colour of its colour term."""
    star = stars.nearest(seeds.xyz, settings.match_arcsec, settings.isolation_arcsec)
    return star, *stars.references(star, seeds.unit.fid, settings.max_ps1_error)


def differences(mag: Floats, ps1: Floats, settings: FlatnessSettings) -> Floats:
    """PS1 less measured magnitude, colour term applied to it; NaN outside the range of magnitudes."""
    inside = (mag >= settings.bright) & (mag <= settings.faint)
    return np.where(inside, ps1 - mag, np.nan)
