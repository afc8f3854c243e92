"""Camera geometry: field grid, quadrant layout, and the mapping of pixels to the sky.

A pointing is a gnomonic (TAN) plane about the field centre, axes east and north in degrees. In it each of the
64 quadrants is an affine image of the pixel grid. Orientation, as measured on real catalogs: x of an epochal
catalog grows to the west and y to the south; x of a reference catalog grows to the east and y to the south,
at 1 arcsec per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np

from ztfmatch.core.arrays import Floats
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.packagedata import package_rows
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX

REFERENCE_ORIGIN_PIX: Final = (1601.0, 1597.0)
"""Pixel of a reference image that lies at the centre of its quadrant."""

REFERENCE_PIXELS_PER_DEGREE: Final = 3600.0 / 1.0009
"""On the gnomonic plane of the field, measured on a real reference (1 arcsec per pixel on its own plane)."""

_CORNERS: Final = ("sw", "nw", "ne", "se")


@cache
def field_grid() -> dict[int, tuple[float, float]]:
    """Right ascension and declination in degrees of the centre of each of the survey's 1,778 fields."""
    return {int(row["field"]): (float(row["ra"]), float(row["dec"])) for row in package_rows("fields.csv")}


def field_centre(field: int) -> tuple[float, float]:
    """Right ascension and declination in degrees of a field's centre.

    Raises
    ------
    ConfigError
        If the survey has no such field.
    """
    try:
        return field_grid()[field]
    except KeyError:
        raise ConfigError(f"field {field} is not in the survey's grid (1..881 and 1001..1897)") from None


@cache
def _quadrant_corners() -> dict[int, Floats]:
    return {
        int(row["rcid"]): np.array([[float(row[f"{axis}_{c}"]) for axis in ("east", "north")] for c in _CORNERS])
        for row in package_rows("quadrants.csv")
    }


def quadrant_corners(rcid: int) -> Floats:
    """Corners SW, NW, NE, SE of a quadrant; shape (4, 2): degrees east and north of the field centre."""
    return _quadrant_corners()[rcid].copy()


class Plane(NamedTuple):
    """Points on a tangent plane, degrees."""

    east: Floats
    north: Floats


class Pixels(NamedTuple):
    """Points on an image, pixels; the centre of the first pixel is at 1."""

    x: Floats
    y: Floats


@dataclass(frozen=True)
class QuadrantMap:
    """Affine mapping of an epochal image's pixels to the tangent plane."""

    origin: tuple[float, float]
    """Plane coordinates, degrees, of the image's centre."""
    matrix: tuple[float, float, float, float]
    """d(east)/dx, d(east)/dy, d(north)/dx, d(north)/dy in degrees per pixel."""

    @classmethod
    def of_rcid(cls, rcid: int) -> QuadrantMap:
        """Best affine mapping of the four corners; they deviate from it by less than 1 arcsec."""
        sw, nw, ne, se = quadrant_corners(rcid)
        columns, rows = QUADRANT_SHAPE_PIX
        per_x = (nw - ne + sw - se) / (2 * columns)
        per_y = (se - ne + sw - nw) / (2 * rows)
        centre = (sw + nw + ne + se) / 4
        return cls(
            (float(centre[0]), float(centre[1])), (float(per_x[0]), float(per_y[0]), float(per_x[1]), float(per_y[1]))
        )

    def to_pixels(self, plane: Plane) -> Pixels:
        """Pixel coordinates of points on the plane."""
        a, b, c, d = self.matrix
        scale = 1.0 / (a * d - b * c)
        u, v = plane.east - self.origin[0], plane.north - self.origin[1]
        mid_x, mid_y = (QUADRANT_SHAPE_PIX[0] + 1) / 2, (QUADRANT_SHAPE_PIX[1] + 1) / 2
        return Pixels(mid_x + scale * (d * u - b * v), mid_y + scale * (a * v - c * u))

    def to_plane(self, pixels: Pixels) -> Plane:
        """Plane coordinates in degrees of pixels."""
        a, b, c, d = self.matrix
        u = pixels.x - (QUADRANT_SHAPE_PIX[0] + 1) / 2
        v = pixels.y - (QUADRANT_SHAPE_PIX[1] + 1) / 2
        return Plane(self.origin[0] + a * u + b * v, self.origin[1] + c * u + d * v)

    def reference_pixels(self, plane: Plane) -> Pixels:
        """Pixels of the reference image of this quadrant."""
        return Pixels(
            REFERENCE_ORIGIN_PIX[0] + (plane.east - self.origin[0]) * REFERENCE_PIXELS_PER_DEGREE,
            REFERENCE_ORIGIN_PIX[1] - (plane.north - self.origin[1]) * REFERENCE_PIXELS_PER_DEGREE,
        )


@dataclass(frozen=True)
class Pointing:
    """Tangent plane of one exposure."""

    ra: float
    dec: float
    """Field centre, degrees."""
    dither_deg: tuple[float, float] = (0.0, 0.0)
    """Where the telescope really looked, degrees east and north of the field centre."""
    rotation_deg: float = 0.0
    """Position angle of the plane's north axis, east of north."""

    def basis(self) -> Floats:
        """Return unit vectors east, north and outwards of the plane as rows, shape (3, 3)."""
        nominal = _basis(self.ra, self.dec)
        east, north = np.radians(self.dither_deg)
        outwards = nominal[2] + east * nominal[0] + north * nominal[1]
        outwards /= np.linalg.norm(outwards)
        to_east = nominal[0] - (nominal[0] @ outwards) * outwards
        to_east /= np.linalg.norm(to_east)
        to_north = np.cross(outwards, to_east)
        cos, sin = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        return np.array([cos * to_east - sin * to_north, sin * to_east + cos * to_north, outwards])

    def project(self, xyz: Floats) -> Plane:
        """Plane coordinates in degrees of unit vectors of shape (3, N) on this side of the sky."""
        rows = self.basis()
        # Sums are written out: a matrix product may round differently with another number of threads.
        east, north, depth = (row[0] * xyz[0] + row[1] * xyz[1] + row[2] * xyz[2] for row in rows)
        return Plane(np.degrees(east / depth), np.degrees(north / depth))

    def deproject(self, plane: Plane) -> Floats:
        """Return unit vectors, shape (3, N), of points on the plane."""
        east, north, outwards = self.basis()
        u, v = np.radians(plane.east), np.radians(plane.north)
        xyz = np.stack([outwards[i] + u * east[i] + v * north[i] for i in range(3)])
        return normalised(xyz)


def _basis(ra: float, dec: float) -> Floats:
    cos_ra, sin_ra = math.cos(math.radians(ra)), math.sin(math.radians(ra))
    cos_dec, sin_dec = math.cos(math.radians(dec)), math.sin(math.radians(dec))
    return np.array(
        [
            [-sin_ra, cos_ra, 0.0],
            [-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec],
            [cos_dec * cos_ra, cos_dec * sin_ra, sin_dec],
        ]
    )


def normalised(xyz: Floats) -> Floats:
    """Vectors of shape (3, N) divided by their lengths."""
    length: Floats = np.sqrt(xyz[0] * xyz[0] + xyz[1] * xyz[1] + xyz[2] * xyz[2])
    return xyz / length


def unit_vectors(ra: Floats, dec: Floats) -> Floats:
    """Return unit vectors, shape (3, N), of ICRS positions in degrees."""
    lon, lat = np.radians(ra), np.radians(dec)
    cos_lat = np.cos(lat)
    return np.stack([cos_lat * np.cos(lon), cos_lat * np.sin(lon), np.sin(lat)])


def sky_positions(xyz: Floats) -> tuple[Floats, Floats]:
    """Right ascension in [0, 360) and declination, degrees, of unit vectors of shape (3, N)."""
    ra = np.degrees(np.arctan2(xyz[1], xyz[0]))
    dec = np.degrees(np.arctan2(xyz[2], np.sqrt(xyz[0] * xyz[0] + xyz[1] * xyz[1])))
    return np.where(ra < 0.0, ra + 360.0, ra), dec
