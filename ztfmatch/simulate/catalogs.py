"""Single catalogs: the detections of a channel in an exposure, and the sources of a reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Floats, Ints, Mask, Records
from ztfmatch.core.camera import Pixels, Plane, normalised, sky_positions
from ztfmatch.core.survey import PIXEL_SCALE_ARCSEC, QUADRANT_SHAPE_PIX, Unit
from ztfmatch.simulate.badreferences import COMPANION_ARCSEC, CROWDED, ReferenceFault
from ztfmatch.simulate.config import SimulationConfig
from ztfmatch.simulate.exposures import Conditions, Exposure, conditions, depth_limit
from ztfmatch.simulate.photometry import draw_flags, draw_shapes, fill_rows, make_nonpositive
from ztfmatch.simulate.sky import Region
from ztfmatch.simulate.stars import Columned, Stars
from ztfmatch.simulate.systematics import ChannelSystematics, field_offset, model_error
from ztfmatch.simulate.variability import CONSTANT, TRANSIENT, Variation, magnitude_change
from ztfmatch.simulate.varyingsystematics import VaryingSystematics

_TAG_CATALOG, _TAG_REFERENCE = 401, 402

DETECTED_KINDS: Final = ("star", "transient", "spurious")
"""What a row of an epochal catalog is; arrays hold the index."""

SPURIOUS: Final = 2
NO_STAR: Final = -1
BLEND_PART: Final = 0.3
"""Part of the spurious detections that stand within the match radius of a star."""

LIMIT_SOFTNESS_MAG: Final = 0.08
REFERENCE_ZERO_POINT: Final = {1: 26.325, 2: 26.275, 3: 25.95}
REFERENCE_COMPLETENESS: Final = 0.98
REFERENCE_SCATTER_ARCSEC: Final = 0.02
_REFERENCE_SIGMA: Final = (
    np.array([11.0, 14.0, 17.5, 18.5, 19.5, 20.5, 21.5, 22.2, 23.0]),
    np.array([0.009, 0.010, 0.014, 0.020, 0.047, 0.098, 0.290, 0.336, 0.361]),
)
"""Error of a real reference's magnitudes (g) by magnitude."""

_ARCSEC: Final = np.pi / 180.0 / 3600.0


@dataclass(frozen=True)
class Catalog:
    """Records of one catalog and, for each, the truth; all of length N.

    ``star_id`` is ``NO_STAR`` for spurious rows; ``kind`` indexes ``DETECTED_KINDS``; ``true_mag`` is PS1's
    at the time, NaN for spurious rows; ``systematic`` the sum of all systematics.
    """

    rows: Records
    star_id: Ints
    kind: npt.NDArray[np.int8]
    true_mag: Floats
    systematic: Floats


@dataclass(frozen=True)
class _Sources(Columned):
    """Detections before they become rows: pixels, positions (3, N), truth and calibrated magnitudes."""

    xy: Floats
    xyz: Floats
    star_id: Ints
    kind: npt.NDArray[np.int8]
    true_mag: Floats
    systematic: Floats
    calibrated: Floats


@dataclass(frozen=True)
class UnitSky:
    """A unit as the camera sees it: its stars with their magnitudes in the unit's filter."""

    config: SimulationConfig
    region: Region
    fid: int

    @property
    def unit(self) -> Unit:
        """Field, channel and filter."""
        return Unit(self.region.field, self.region.rcid, self.fid)

    @property
    def stars(self) -> Stars:
        """Stars and transients of the region."""
        return self.region.stars

    @cached_property
    def magnitudes(self) -> Floats:
        """PS1 magnitudes at rest, shape (N,)."""
        return self.stars.magnitude(self.fid)

    @cached_property
    def colours(self) -> Floats:
        """PS1 colours of the colour term, shape (N,)."""
        return self.stars.colour(self.fid)

    @cached_property
    def systematics(self) -> ChannelSystematics:
        """Bias of the channel in this filter."""
        return ChannelSystematics.draw(self.config.seed, self.region.rcid, self.fid, self.config.systematics)

    @cached_property
    def varying(self) -> VaryingSystematics:
        """What of the channel's systematics changes with time, colour and exposure."""
        return VaryingSystematics(self.config, self.region.rcid, self.fid)

    @cached_property
    def offset(self) -> float:
        """Zero-point offset of the unit, mag."""
        return field_offset(self.config.seed, self.unit, self.config.systematics)

    @cached_property
    def _sorted(self) -> Floats:
        return np.sort(self.magnitudes[self.stars.kind != TRANSIENT])

    @cached_property
    def _varying(self) -> Ints:
        return np.flatnonzero(self.stars.kind != CONSTANT)

    def limit(self, exposure: Exposure) -> float:
        """Magnitude at which half of the stars are detected."""
        return depth_limit(self._sorted, exposure.depth)

    def magnitudes_at(self, mjd: float) -> Floats:
        """PS1 magnitudes at a time, variation included; shape (N,)."""
        some, stars = self._varying, self.stars
        variation = Variation(
            stars.kind[some], stars.period[some], stars.amplitude[some], stars.epoch[some], stars.shape[some]
        )
        now = self.magnitudes.copy()
        now[some] += magnitude_change(variation, mjd, self.fid)
        return now

    def detect(self, exposure: Exposure) -> tuple[Catalog, Conditions]:
        """Draw the catalog of this unit's channel of an exposure, whatever was drawn before."""
        config, rcid = self.config, self.region.rcid
        rng = np.random.default_rng(np.random.SeedSequence([config.seed, _TAG_CATALOG, exposure.fracday, rcid]))
        state = conditions(config, exposure, rcid)
        found = self._real(rng, exposure, state)
        found = _Sources.concatenate([found, self._spurious(rng, exposure, found)])
        found = found.take(np.argsort(found.xy[1], kind="stable"))
        sigma = model_error(found.calibrated, self.fid)
        sigma *= 1.0 + 0.04 * np.clip(rng.standard_normal(len(sigma), dtype=np.float32), -3, 3)
        radec = np.stack(sky_positions(found.xyz))
        rows = fill_rows(found.xy, radec, found.calibrated - state.magzp, sigma)
        draw_shapes(rng, rows)
        draw_flags(rng, rows, found.calibrated)
        self._spoil(rng, rows)
        return Catalog(rows, found.star_id, found.kind, found.true_mag, found.systematic), state

    def _real(self, rng: np.random.Generator, exposure: Exposure, state: Conditions) -> _Sources:
        config, stars = self.config, self.stars
        now = self.magnitudes_at(exposure.mid_mjd)
        excess = np.clip((now - self.limit(exposure)) / LIMIT_SOFTNESS_MAG, -40.0, 40.0)
        chance = (1.0 - config.lost_fraction) / (1.0 + np.exp(excess))
        seen = np.flatnonzero(rng.random(len(stars)) < chance)
        mag = now[seen]
        scatter = position_scatter_arcsec(mag) * _ARCSEC
        xyz = normalised(stars.xyz[:, seen] + scatter * rng.standard_normal((3, len(seen))))
        noise = rng.standard_normal(len(seen))
        xy = np.stack(self.region.quadrant.to_pixels(exposure.pointing.project(xyz)))
        on = on_image(xy)
        seen, mag, xyz, xy, noise = seen[on], mag[on], xyz[:, on], xy[:, on], noise[on]
        systematic = self.systematics.magnitude(mag) + self.systematics.position(xy[0], xy[1]) + self.offset
        systematic += self.varying.total(xy[0], xy[1], self.colours[seen], (exposure.mid_mjd, exposure.fracday))
        measured = mag - state.clrcoeff * self.colours[seen] + systematic + noise * model_error(mag, self.fid)
        kind = (stars.kind[seen] == TRANSIENT).astype(np.int8)
        return _Sources(
            xy=xy,
            xyz=xyz,
            star_id=stars.star_id[seen],
            kind=kind,
            true_mag=mag,
            systematic=systematic,
            calibrated=measured,
        )

    def _spurious(self, rng: np.random.Generator, exposure: Exposure, real: _Sources) -> _Sources:
        """Draw false detections: most anywhere, some beside a star, where they may be mistaken for it."""
        total = int(rng.poisson(self.config.spurious_fraction * len(real.star_id)))
        beside = int(rng.binomial(total, BLEND_PART))
        columns, lines = QUADRANT_SHAPE_PIX
        anywhere = rng.uniform([[0.6], [0.6]], [[columns + 0.4], [lines + 0.4]], (2, total - beside))
        angle, away = rng.uniform(0.0, 2 * np.pi, beside), rng.uniform(0.2, 1.6, beside) / PIXEL_SCALE_ARCSEC
        host = rng.integers(0, max(len(real.star_id), 1), beside)
        nearby = real.xy[:, host] + away * np.stack([np.cos(angle), np.sin(angle)])
        xy = np.concatenate([anywhere, nearby], axis=1)
        xy = xy[:, on_image(xy)]
        n = xy.shape[1]
        mag = np.full(n, self.limit(exposure)) - rng.exponential(0.4, n)
        plane: Plane = self.region.quadrant.to_plane(Pixels(xy[0], xy[1]))
        xyz = exposure.pointing.deproject(plane)
        kind = np.full(n, SPURIOUS, dtype=np.int8)
        return _Sources(
            xy=xy,
            xyz=xyz,
            star_id=np.full(n, NO_STAR),
            kind=kind,
            true_mag=np.full(n, np.nan),
            systematic=np.zeros(n),
            calibrated=mag,
        )

    def _spoil(self, rng: np.random.Generator, rows: Records) -> None:
        n = int(rng.poisson(self.config.nonpositive_fraction * len(rows)))
        if n:
            faint = np.flatnonzero(rows["snr"] < 8.0)
            make_nonpositive(rows, rng.permutation(faint)[:n])

    def reference(self, generation: int = 0) -> tuple[Records, Ints]:
        """Draw the reference catalog: rows and the star of each, in another generation other ones."""
        key = [self.config.seed, _TAG_REFERENCE, self.region.field, self.region.rcid, self.fid, generation]
        rng = np.random.default_rng(np.random.SeedSequence(key))
        stars = self.stars
        n = len(stars)
        offset = np.clip(rng.standard_normal((3, n)), -2.0, 2.0) * REFERENCE_SCATTER_ARCSEC * _ARCSEC
        xyz = normalised(stars.xyz + offset / np.sqrt(3.0))
        plane = self.region.pointing.project(xyz)
        pixels = np.stack(self.region.quadrant.to_pixels(plane))
        on = on_image(pixels)
        on &= (stars.kind != TRANSIENT) & (rng.random(n) < REFERENCE_COMPLETENESS)
        xy = np.stack(self.region.quadrant.reference_pixels(plane))
        fault = self.fault if generation == 0 else ReferenceFault()
        on[on] = fault.keeps(pixels[:, on], self.magnitudes[on])
        held = np.flatnonzero(on)[np.argsort(xy[1, on], kind="stable")]
        sigma = np.interp(self.magnitudes, *_REFERENCE_SIGMA)
        noise = np.clip(rng.standard_normal(n), -2.0, 2.0) * np.minimum(sigma, 0.1)
        mag = self.magnitudes - reference_colour_term(self.fid) * self.colours + noise + self.offset
        mag += fault.offset(pixels, rng)
        seeds = _Seeds(xy[:, held], xyz[:, held], mag[held], sigma[held], stars.star_id[held])
        if fault.kind == CROWDED:
            seeds = seeds.crowded(rng)
        radec = np.stack(sky_positions(seeds.xyz))
        rows = fill_rows(seeds.xy, radec, seeds.mag - REFERENCE_ZERO_POINT[self.fid], seeds.sigma)
        draw_shapes(rng, rows)
        rows["flags"] = rng.random(len(rows)) < 0.003
        return rows, seeds.star_id

    @cached_property
    def fault(self) -> ReferenceFault:
        """What is wrong with the unit's first reference."""
        config = self.config
        return ReferenceFault.draw(config.seed, self.unit, (config.bad_references, config.crowded_references))


@dataclass(frozen=True)
class _Seeds(Columned):
    """Seeds before they become rows: reference pixels, positions (3, N), magnitudes, their errors, stars."""

    xy: Floats
    xyz: Floats
    mag: Floats
    sigma: Floats
    star_id: Ints

    def crowded(self, rng: np.random.Generator) -> _Seeds:
        """With a fainter companion of no star beside each, in order of y."""
        n = len(self.mag)
        away = rng.uniform(*COMPANION_ARCSEC, n) * _ARCSEC
        aside = np.cross(self.xyz.T, rng.standard_normal((n, 3))).T
        xyz = normalised(self.xyz + away * normalised(aside))
        more = _Seeds(self.xy + away / _ARCSEC, xyz, self.mag + 1.0, self.sigma, np.full(n, NO_STAR))
        both = _Seeds.concatenate([self, more])
        return both.take(np.argsort(both.xy[1], kind="stable"))


def on_image(xy: Floats) -> Mask:
    """Which pixels, shape (2, N), lie on an epochal image."""
    columns, lines = QUADRANT_SHAPE_PIX
    on: Mask = (xy[0] >= 0.5) & (xy[0] <= columns + 0.5) & (xy[1] >= 0.5) & (xy[1] <= lines + 0.5)
    return on


def position_scatter_arcsec(mag: Floats) -> Floats:
    """Scatter of a detection's position per axis: 0.05 arcsec for bright stars, 0.3 for the faintest."""
    t = np.clip((mag - 15.0) / 7.0, 0.0, 1.0)
    return 0.05 + 0.25 * t * t * t


def reference_colour_term(fid: int) -> float:
    """Colour coefficient of the references of a filter."""
    return {1: -0.0759, 2: 0.098, 3: 0.02}[fid]
