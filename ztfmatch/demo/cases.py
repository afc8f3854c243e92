"""Stars on which a bad reference shows most: one next to a transient, one where the registration fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Ints, Mask
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.kernels.sphere import Floats, arcsec_of_chord2
from ztfmatch.simulate import Defects
from ztfmatch.simulate.catalogs import UnitSky
from ztfmatch.simulate.defects import blended_part, eastern_part
from ztfmatch.simulate.exposures import Exposure
from ztfmatch.simulate.hosts import SEPARATION_ARCSEC
from ztfmatch.simulate.sky import close_pairs
from ztfmatch.simulate.systematics import model_error
from ztfmatch.simulate.variability import CONSTANT, ECLIPSING, KINDS, RR_LYRAE, TRANSIENT

_BRIGHTEST_MAG: Final = 14.5
_FAINTEST_MAG: Final = 21.0
_MARGIN: Final = 0.85
"""Part of the image's half width within which stars are sought."""

_EAST: Final = (0.3, 0.85)
"""Where the star is sought whose seed is misplaced, as part of the half width."""

_BLENDED: Final = (0.54, 0.61)
"""Where a blend may stand between the star and the transient, so that it takes the epochs of both in turn."""

_STAR_REACH: Final = 0.93
"""Distance of the star from the blend, at most, in match radii."""

_MOST_SEEN: Final = 0.4
"""Part of the exposures that show the transient, at most, so that half of the blend's epochs are the star's."""

_SAFELY_SEEN_MAG: Final = 0.5
"""Brighter than the limit by so much, a source is in nearly every catalog."""


@dataclass(frozen=True)
class Star:
    """A simulated star; position in degrees, period in days."""

    star_id: int
    ra: float
    dec: float
    kind: str
    period: float


@dataclass(frozen=True)
class Cases:
    """Two stars, and the defects of a reference that spoil their lightcurves."""

    variable: Star
    """Whose seed is misplaced by the match radius."""
    blended: Star
    """Whose seed is a blend with the transient beside it."""
    defects: Defects


def find_cases(sky: UnitSky, exposures: Sequence[Exposure], radius_arcsec: float) -> Cases:
    """Look for both stars in a simulated unit.

    Raises
    ------
    ConfigError
        If it has none.
    """
    variable, east = _variable(sky)
    star, mjd = _blend(sky, exposures, radius_arcsec)
    if variable < 0 or star < 0:
        raise ConfigError(f"the simulated sky of seed {sky.config.seed} has no stars to show this on: try another seed")
    return Cases(_star(sky, variable), _star(sky, star), Defects(mjd, radius_arcsec / east))


def _star(sky: UnitSky, star: int) -> Star:
    stars = sky.stars
    position = float(stars.ra[star]), float(stars.dec[star])
    return Star(int(stars.star_id[star]), *position, KINDS[stars.kind[star]], float(stars.period[star]))


def _places(sky: UnitSky) -> tuple[Floats, Floats]:
    """East and north of the image's middle, as parts of its half width; shape (N,) each."""
    plane = sky.region.pointing.project(sky.stars.xyz)
    return eastern_part(sky.region.quadrant, plane), eastern_part(sky.region.quadrant, plane, north=True)


def _seeded(sky: UnitSky) -> Mask:
    """Stars that both references hold."""
    found = [np.isin(sky.stars.star_id, sky.reference(generation)[1]) for generation in (0, 1)]
    return np.asarray(found[0] & found[1])


def _beside_transient(sky: UnitSky) -> Mask:
    """Stars that a reference may blend with a transient."""
    one, other = _pairs(sky)
    near = np.zeros(len(sky.stars), bool)
    near[one[sky.stars.kind[other] == TRANSIENT]] = near[other[sky.stars.kind[one] == TRANSIENT]] = True
    return near


def _pairs(sky: UnitSky) -> tuple[Ints, Ints]:
    return close_pairs(sky.stars.xyz, sky.region.pointing.project(sky.stars.xyz), SEPARATION_ARCSEC[1] + 0.1)


def _variable(sky: UnitSky) -> tuple[int, float]:
    """Star of large amplitude for its errors where the registration fails, and how far east it is; -1 for none."""
    stars, (east, north) = sky.stars, _places(sky)
    mag = sky.magnitudes
    good = (east > _EAST[0]) & (east < _EAST[1]) & (np.abs(north) < _MARGIN) & _seeded(sky)
    good &= (mag > _BRIGHTEST_MAG) & (mag < _FAINTEST_MAG) & np.isin(stars.kind, (RR_LYRAE, ECLIPSING))
    good &= ~_beside_transient(sky)
    score = stars.amplitude / model_error(mag, sky.fid) * np.where(stars.kind == RR_LYRAE, 2.0, 1.0)
    score[~good] = 0.0
    best = int(np.argmax(score))
    return (best, float(east[best])) if good[best] else (-1, np.nan)


def _blend(sky: UnitSky, exposures: Sequence[Exposure], radius_arcsec: float) -> tuple[int, float]:
    """Star beside a transient, and when a reference should see them as one; -1 for none.

    Of all pairs one of whose exposures many show the transient, more do not, and where the star has small errors.
    """
    stars, (east, north) = sky.stars, _places(sky)
    one, other = _pairs(sky)
    guest, star = np.where(stars.kind[one] == TRANSIENT, (one, other), (other, one))
    good = (stars.kind[guest] == TRANSIENT) & (stars.kind[star] == CONSTANT) & _seeded(sky)[star]
    good &= (east[star] < 0.0) & (east[star] > -_MARGIN) & (np.abs(north[star]) < _MARGIN)
    good &= np.bincount(star, minlength=len(stars))[star] == 1
    guest, star = guest[good], star[good]
    times = np.array([exposure.mid_mjd for exposure in exposures])
    limits = np.array([sky.limit(exposure) for exposure in exposures])
    mags = np.array([sky.magnitudes_at(mjd)[guest] for mjd in times])
    mjd = _blended_at(sky, (star, guest), times, radius_arcsec)
    seen = (mags < (limits - _SAFELY_SEEN_MAG)[:, None]).sum(axis=0)
    bright = sky.magnitudes[star] < limits.min() - _SAFELY_SEEN_MAG
    score = np.minimum(seen, len(times) - seen) / model_error(sky.magnitudes[star], sky.fid)
    score[~(np.isfinite(mjd) & bright & (seen < _MOST_SEEN * len(times)))] = 0.0
    best = int(np.argmax(score)) if len(score) else 0
    return (int(star[best]), float(mjd[best])) if len(score) and score[best] else (-1, np.nan)


def _blended_at(sky: UnitSky, pairs: tuple[Ints, Ints], times: Floats, radius_arcsec: float) -> Floats:
    """When a blend of each pair would stand where it takes the epochs of both, MJD, shape (N,); NaN for never."""
    star, guest = pairs
    away = arcsec_of_chord2(((sky.stars.xyz[:, star] - sky.stars.xyz[:, guest]) ** 2).sum(axis=0))
    nights = np.arange(times.min(), times.max(), 0.5)
    part = np.array([blended_part(sky.magnitudes[star], sky.magnitudes_at(night)[guest]) for night in nights])
    fits = (part > _BLENDED[0]) & (part < _BLENDED[1]) & (part * away < _STAR_REACH * radius_arcsec)
    middle = np.where(fits, np.abs(part - np.mean(_BLENDED)), np.inf)
    found = nights[np.argmin(middle, axis=0)] if len(star) else np.zeros(0)
    return np.where(fits.any(axis=0), found, np.nan)
