"""Defects of references: images in which a transient shone, and bad registration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats, Ints, Records
from ztfmatch.core.camera import Plane, QuadrantMap, normalised, sky_positions, unit_vectors
from ztfmatch.core.survey import PIXEL_SCALE_ARCSEC, QUADRANT_SHAPE_PIX
from ztfmatch.simulate.catalogs import REFERENCE_ZERO_POINT, UnitSky, on_image, reference_colour_term
from ztfmatch.simulate.fitsout import write_catalog
from ztfmatch.simulate.hosts import SEPARATION_ARCSEC
from ztfmatch.simulate.layout import reference_keys, reference_path
from ztfmatch.simulate.photometry import draw_shapes, fill_rows
from ztfmatch.simulate.sky import close_pairs
from ztfmatch.simulate.variability import TRANSIENT

FAINTEST_MAG: Final = 21.0
"""Transients that are fainter leave no source in a reference."""

_TAG_DEFECTS: Final = 403
_SIGMA_MAG: Final = 0.05
_HALF_WIDTH_DEG: Final = QUADRANT_SHAPE_PIX[0] * PIXEL_SCALE_ARCSEC / 2 / 3600.0


@dataclass(frozen=True)
class Defects:
    """What is wrong with a reference."""

    mjd: float
    """When its images were taken: transients that shone then are sources of it, alone or blended with a star."""
    offset_arcsec: float
    """Error of the registration at the eastern edge: sources are too far east by this much. It falls in proportion to
    nothing in the middle; the western half is as it should be."""


@dataclass(frozen=True)
class _Seeds:
    """Sources of a reference before they become rows: unit vectors (3, N), magnitudes, rows of their stars."""

    xyz: Floats
    mag: Floats
    """Instrumental."""
    star: Ints


def write_spoilt_reference(sky: UnitSky, defects: Defects, root: Path) -> Path:
    """Write the reference of a unit below ``root``, as it would be with some defects, and return where."""
    rows = spoilt_reference(sky, defects)
    path = root / reference_path(sky.unit)
    write_catalog(path, reference_keys(sky.unit, n=len(rows), generation=0), rows)
    return path


def spoilt_reference(sky: UnitSky, defects: Defects) -> Records:
    """Records of a unit's reference with some defects; its sources are numbered as those of a real one."""
    seeds = _contaminated(sky, _seeds(sky), defects.mjd)
    plane = sky.region.pointing.project(seeds.xyz)
    misplaced = defects.offset_arcsec * np.clip(eastern_part(sky.region.quadrant, plane), 0.0, None)
    plane = Plane(plane.east + misplaced / 3600.0, plane.north)
    xy = np.stack(sky.region.quadrant.reference_pixels(plane))
    order = np.argsort(xy[1], kind="stable")
    radec = np.stack(sky_positions(sky.region.pointing.deproject(plane)))
    rows = fill_rows(xy[:, order], radec[:, order], seeds.mag[order], np.full(len(order), _SIGMA_MAG))
    key = [sky.config.seed, _TAG_DEFECTS, sky.region.field, sky.region.rcid, sky.fid]
    draw_shapes(np.random.default_rng(np.random.SeedSequence(key)), rows)
    return rows


def eastern_part(quadrant: QuadrantMap, plane: Plane, north: bool = False) -> Floats:
    """How far east (or north) of the image's middle points of the plane are, as part of its half width."""
    part: Floats = (plane[north] - quadrant.origin[north]) / _HALF_WIDTH_DEG
    return part


def blended_part(star_mag: Floats, transient_mag: Floats) -> Floats:
    """How far from the star towards the transient a blend of both stands, as part of their separation."""
    part: Floats = 1.0 / (1.0 + 10.0 ** (0.4 * (transient_mag - star_mag)))
    return part


def _seeds(sky: UnitSky) -> _Seeds:
    rows, star_id = sky.reference(0)
    order = np.argsort(sky.stars.star_id)
    star = order[np.searchsorted(sky.stars.star_id[order], star_id)]
    return _Seeds(unit_vectors(rows["ra"], rows["dec"]), rows["mag"].astype(np.float64), star)


def _contaminated(sky: UnitSky, seeds: _Seeds, mjd: float) -> _Seeds:
    """With the transients that shone at a time: blended with the star beside them, or sources of their own."""
    stars, now = sky.stars, sky.magnitudes_at(mjd)
    plane = sky.region.pointing.project(stars.xyz)
    seen = (stars.kind == TRANSIENT) & (now < FAINTEST_MAG)
    guests = np.flatnonzero(seen & on_image(np.stack(sky.region.quadrant.to_pixels(plane))))
    both = np.concatenate([seeds.xyz, stars.xyz[:, guests]], axis=1)
    one, other = close_pairs(both, sky.region.pointing.project(both), SEPARATION_ARCSEC[1] + 0.1)
    low, high = np.minimum(one, other), np.maximum(one, other)
    mixed = (low < len(seeds.mag)) & (high >= len(seeds.mag))
    seed, guest = low[mixed], high[mixed] - len(seeds.mag)
    calibrated = now[guests] - reference_colour_term(sky.fid) * sky.colours[guests] + sky.offset
    mags = calibrated - REFERENCE_ZERO_POINT[sky.fid]
    xyz, mag = seeds.xyz.copy(), seeds.mag.copy()
    part = blended_part(now[seeds.star[seed]], now[guests[guest]])
    xyz[:, seed] = normalised((1.0 - part) * xyz[:, seed] + part * stars.xyz[:, guests[guest]])
    mag[seed] = -2.5 * np.log10(10.0 ** (-0.4 * mag[seed]) + 10.0 ** (-0.4 * mags[guest]))
    alone = np.setdiff1d(np.arange(len(guests)), guest)
    return _Seeds(
        np.concatenate([xyz, stars.xyz[:, guests[alone]]], axis=1),
        np.concatenate([mag, mags[alone]]),
        np.concatenate([seeds.star, guests[alone]]),
    )
