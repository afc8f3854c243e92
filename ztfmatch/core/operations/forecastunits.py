"""Positions, seeds and catalog sizes of units whose catalogs are not read yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import hpgeom
import numpy as np
import pyarrow as pa

from ztfmatch.core import camera, costs
from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.rows import UNIT, codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, Floats, unit_vectors
from ztfmatch.core.kernels.tiling import CAP_ORDER, Pixels, cap_pixels
from ztfmatch.core.operations.common import references_by_unit
from ztfmatch.core.operations.listing import CODES, Codes, Listing, codes_of
from ztfmatch.core.progress import tracked
from ztfmatch.core.survey import Unit, unit_of_code

_QUADRANT_RAD: Final = np.radians(0.63)
_FILTER_BITS: Final = 2
"""The last ones of a unit's number."""

IMAGE_ORDER: Final = 9
"""Order of pixels by which it is told where an image lies; they are 7 arcmin wide, at most CAP_ORDER's."""


@dataclass(frozen=True)
class Units:
    """Units, in order of their numbers; arrays of shape (U,)."""

    code: Codes
    seeds: Codes
    has_reference: np.ndarray
    xyz: Floats
    """Centres, unit vectors, shape (U, 3)."""
    radius: Floats
    """Radians."""

    def of(self, chosen: np.ndarray) -> Units:
        """Some of them."""
        return Units(*(values[chosen] for values in vars(self).values()))

    def pixels(self) -> list[Pixels]:
        """Pixels of CAP_ORDER that each touches, with the margin around tiles."""
        radii = self.radius + MARGIN_ARCSEC / ARCSEC_PER_RADIAN
        return [cap_pixels(xyz, radius) for xyz, radius in zip(self.xyz, radii.tolist(), strict=True)]


def references_of(snapshot: SnapshotFiles) -> Units:
    """Units of a store's references, by the newest of each."""
    rows = references_by_unit(snapshot, ["nseeds", "ra", "dec", "radius"])
    code = codes_of_rows(rows)
    ra, dec, radius = (rows[name].to_numpy().astype(np.float64) for name in ("ra", "dec", "radius"))
    here = np.isfinite(ra)
    return Units(
        code,
        rows["nseeds"].to_numpy().astype(np.int64),
        np.ones(len(code), bool),
        unit_vectors(np.where(here, ra, 0.0), np.where(here, dec, 0.0)),
        np.radians(np.where(here, radius, 0.0)),
    )


def by_geometry(codes: Codes, seeds: int) -> Units:
    """Units of which nothing is known but their numbers: they lie where the camera puts them."""
    xyz = np.stack([_centre(int(code)) for code in codes]) if len(codes) else np.zeros((0, 3))
    radius = np.full(len(codes), _QUADRANT_RAD)
    return Units(codes, np.full(len(codes), seeds), np.zeros(len(codes), bool), xyz, radius)


def _centre(code: int) -> Floats:
    unit = unit_of_code(code)
    try:
        pointing = camera.Pointing(*camera.field_centre(unit.field))
    except ConfigError:
        return np.array([0.0, 0.0, 1.0])
    east, north = camera.quadrant_corners(unit.rcid).mean(axis=0)
    return np.asarray(pointing.deproject(camera.Plane(np.array([east]), np.array([north])))[:, 0])


@dataclass(frozen=True)
class Images:
    """Pixels of IMAGE_ORDER that images touch where the camera puts them; those of all filters are the same."""

    seeds: Floats
    """Of the units of each image together, shape (I,)."""
    image: Codes
    """Of each pixel, shape (P,)."""
    pixels: Pixels
    """Those of the first image, ascending, then of the second ...; shape (P,)."""

    @classmethod
    def of(cls, codes: Codes, seeds: Codes) -> Images:
        """Of some units, by their numbers, and the seeds of each."""
        images, which = np.unique(codes >> _FILTER_BITS, return_inverse=True)
        found = [_pixels_of(image_corners(unit_of_code(code))) for code in ((images << _FILTER_BITS) + 1).tolist()]
        image = np.repeat(np.arange(len(images)), [len(pixels) for pixels in found])
        held = np.bincount(which, weights=seeds).astype(np.float64)
        return cls(held, image, np.concatenate([np.zeros(0, np.int64), *found]))

    @property
    def spread(self) -> Floats:
        """Seeds in each pixel of each image, if they are evenly spread, shape (P,)."""
        return np.asarray((self.seeds / np.bincount(self.image))[self.image])

    @property
    def covered(self) -> tuple[Codes, Pixels]:
        """Image and pixel of CAP_ORDER of all pairs of these that touch."""
        shift = 2 * (IMAGE_ORDER - CAP_ORDER)
        new = np.diff((self.image << 2 * IMAGE_ORDER + 4) + self.pixels >> shift, prepend=-1) != 0
        return self.image[new], self.pixels[new] >> shift


def image_corners(unit: Unit) -> Floats:
    """Unit vectors of the corners of a unit's image, shape (3, 4); at the pole where the survey has no such field."""
    try:
        pointing = camera.Pointing(*camera.field_centre(unit.field))
    except ConfigError:
        pointing = camera.Pointing(0.0, 90.0)
    return pointing.deproject(camera.Plane(*camera.quadrant_corners(unit.rcid).T))


def _pixels_of(corners: Floats) -> Pixels:
    pixels = hpgeom.query_polygon_vec(1 << IMAGE_ORDER, corners.T, inclusive=True, fact=4)
    return np.asarray(pixels.astype(np.int64))


def known_units(snapshot: SnapshotFiles, codes: Codes) -> Units:
    """Some units of a store; those without a reference by the camera's geometry."""
    stored = references_of(snapshot)
    there = np.isin(codes, stored.code)
    other = by_geometry(codes[~there], 0)
    mine = stored.of(np.isin(stored.code, codes))
    both = Units(*(np.concatenate(pair) for pair in zip(vars(mine).values(), vars(other).values(), strict=True)))
    return both.of(np.argsort(both.code, kind="stable"))


@dataclass(frozen=True)
class Ledger:
    """What a store has of each unit; arrays of shape (CODES,)."""

    exposures: Codes
    rows: Codes


def ledger_by_unit(snapshot: SnapshotFiles) -> Ledger:
    """Exposures and rows of each unit, read a file at a time."""
    exposures, rows = np.zeros(CODES, np.int64), np.zeros(CODES, np.int64)
    for file in tracked(snapshot.ledger, "reading files of the ledger"):
        table = read_file_rows(snapshot.storage, file, [*UNIT, "nrows"])
        code = codes_of_rows(table)
        np.add.at(exposures, code, 1)
        np.add.at(rows, code, table["nrows"].to_numpy())
    return Ledger(exposures, rows)


def rows_of_catalogs(units: Units, ledger: Ledger, listing: Listing) -> tuple[Floats, str]:
    """Rows that a catalog of each unit has, and how that is known.

    By the exposures of the unit that the store has; else in proportion to its seeds, as some of the catalogs are that
    are here, or as over the survey.
    """
    sampled = listing.sampled_rows()
    factor, how = costs.SURVEY_ROWS_PER_SEED, "rows of a catalog: 0.39 of the seeds of its unit, as over the survey"
    each = factor * np.where(units.seeds > 0, units.seeds, costs.SURVEY_SEEDS)
    if sampled:
        ratio = _of_sample(sampled, units, each)
        each, how = (
            each * ratio,
            f"rows of a catalog: in proportion to seeds, as {len(sampled):,} of them by their size",
        )
    before = ledger.exposures[units.code]
    if before.any():
        known = before > 0
        each[known] = ledger.rows[units.code][known] / before[known]
        if known.all():
            how = "rows of a catalog: as those of its unit in the store"
        else:
            how += f"; as in the store where it has some ({int(known.sum()):,} of {len(known):,} units)"
    return each, how


def _of_sample(sampled: Mapping[str, int], units: Units, each: Floats) -> float:
    """Rows of sampled catalogs, by what was expected of them."""
    codes = codes_of(pa.array(list(sampled), pa.string()))
    at = find_sorted(units.code, codes)
    expected = np.where(at >= 0, np.append(each, 0.0)[at], costs.SURVEY_ROWS_PER_SEED * costs.SURVEY_SEEDS)
    return float(sum(sampled.values()) / expected.sum())
