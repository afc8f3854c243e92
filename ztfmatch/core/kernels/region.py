"""Regions of the sky: caps, polygons, sets of HEALPix pixels, and unions of them; whether positions are inside."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Final

import hpgeom
import numpy as np

from ztfmatch.core.arrays import Mask
from ztfmatch.core.kernels.sphere import Floats, chord2_of_arcsec, unit_vector, unit_vectors
from ztfmatch.core.plain import Json

Range = tuple[int, int]

MOC_ORDER: Final = 29
_COARSE_ORDER: Final = 7
_SLACK: Final = 1e-6
"""Radians; a polygon's sides are great circles, which leave the cap around its corners nowhere."""
_FARTHEST_DEG: Final = 80.0
"""A polygon is looked at in the plane tangent at its centre, which a hemisphere does not fit into."""


class Shape(ABC):
    """Some part of the sky."""

    @abstractmethod
    def contains(self, xyz: Floats) -> Mask:
        """Whether each unit vector is inside, shape (N,)."""

    @abstractmethod
    def may_touch(self, centres: Floats, radii_rad: Floats) -> Mask:
        """Whether each cap may reach into it, shape (N,)."""


@dataclass(frozen=True)
class Cap(Shape):
    """All within a radius of a position, in degrees, ICRS; the border belongs to it."""

    ra: float
    dec: float
    radius_deg: float

    def contains(self, xyz: Floats) -> Mask:
        """Whether each unit vector is inside, shape (N,)."""
        chord2 = ((xyz - unit_vector(self.ra, self.dec)) ** 2).sum(axis=1)
        inside: Mask = chord2 <= chord2_of_arcsec(self.radius_deg * 3600.0)
        return inside

    def may_touch(self, centres: Floats, radii_rad: Floats) -> Mask:
        """Whether each cap may reach into it, shape (N,)."""
        return _reach(centres, radii_rad, unit_vector(self.ra, self.dec), math.radians(self.radius_deg))


@dataclass(frozen=True)
class Polygon(Shape):
    """What is inside a closed line of great-circle arcs that does not cross itself, smaller than a hemisphere."""

    vertices: tuple[tuple[float, float], ...]
    """Degrees, ICRS, at least three, either way round; the last is joined to the first."""

    def __post_init__(self) -> None:
        if len(self.vertices) < 3:
            raise ValueError(f"a polygon of {len(self.vertices)} vertices; expected at least 3")
        xyz = self._xyz
        mean = xyz.mean(axis=0)
        if np.linalg.norm(mean) < 1e-9 or (xyz @ (mean / np.linalg.norm(mean))).min() < math.cos(
            math.radians(_FARTHEST_DEG)
        ):
            raise ValueError(f"a polygon that reaches more than {_FARTHEST_DEG:.0f} degrees from its middle")

    @property
    def _xyz(self) -> Floats:
        ra, dec = np.array(self.vertices, np.float64).T
        return unit_vector(ra, dec)

    def contains(self, xyz: Floats) -> Mask:
        """Whether each unit vector is inside, shape (N,): great circles are straight lines in the tangent plane."""
        corners = self._xyz
        centre = corners.mean(axis=0)
        centre /= np.linalg.norm(centre)
        east, north = _axes(centre)
        near = xyz @ centre > math.cos(math.radians(_FARTHEST_DEG))
        inside = np.zeros(len(xyz), bool)
        inside[near] = _inside(_project(xyz[near], centre, east, north), _project(corners, centre, east, north))
        return inside

    def may_touch(self, centres: Floats, radii_rad: Floats) -> Mask:
        """Whether each cap may reach into it, shape (N,): whether it reaches the cap around the corners."""
        corners = self._xyz
        middle = corners.mean(axis=0)
        middle /= np.linalg.norm(middle)
        return _reach(centres, radii_rad, middle, float(_angles(corners, middle).max()))


def _reach(centres: Floats, radii_rad: Floats, centre: Floats, radius_rad: float) -> Mask:
    """Whether each cap touches another one, or nearly."""
    return np.asarray(_angles(centres, centre) <= radius_rad + radii_rad + _SLACK)


def _angles(xyz: Floats, centre: Floats) -> Floats:
    """Radians between unit vectors, shape (N, 3), and another."""
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(xyz, centre), axis=1), xyz @ centre))


def _axes(centre: Floats) -> tuple[Floats, Floats]:
    """Two unit vectors that span the plane tangent at a third."""
    helper = np.array([0.0, 0.0, 1.0]) if abs(centre[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    east = np.cross(helper, centre)
    east /= np.linalg.norm(east)
    return east, np.cross(centre, east)


def _project(xyz: Floats, centre: Floats, east: Floats, north: Floats) -> tuple[Floats, Floats]:
    """Gnomonic projection."""
    depth = xyz @ centre
    return (xyz @ east) / depth, (xyz @ north) / depth


def _inside(points: tuple[Floats, Floats], corners: tuple[Floats, Floats]) -> Mask:
    """Even-odd rule: how many sides a line from each point to the right crosses."""
    x, y = points
    crossed = np.zeros(len(x), bool)
    for x0, y0, x1, y1 in zip(*corners, *(np.roll(axis, -1) for axis in corners), strict=True):
        if y0 != y1:
            straddles = (y0 > y) != (y1 > y)
            crossed ^= straddles & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
    return crossed


@dataclass(frozen=True)
class PixelSet(Shape):
    """HEALPix pixels of order 29, NESTED, as ranges: what a MOC is."""

    ranges: tuple[Range, ...]
    """Ascending, without overlap; ``stop`` is one past the last."""

    def contains(self, xyz: Floats) -> Mask:
        """Whether each unit vector is in one of the pixels, shape (N,)."""
        pixels = hpgeom.vector_to_pixel(1 << MOC_ORDER, *xyz.T) if len(xyz) else np.zeros(0, np.int64)
        starts, stops = np.array(self.ranges, np.int64).reshape(-1, 2).T
        place = np.searchsorted(starts, pixels, side="right") - 1
        inside: Mask = (place >= 0) & (pixels < np.append(stops, 0)[np.maximum(place, 0)])
        return inside

    def may_touch(self, centres: Floats, radii_rad: Floats) -> Mask:
        """Whether each cap may reach into one of the pixels, shape (N,): judged by larger ones."""
        caps = zip(centres, radii_rad.tolist(), strict=True)
        return np.array([self._may_touch(centre, radius) for centre, radius in caps], bool)

    def _may_touch(self, centre: Floats, radius_rad: float) -> bool:
        if radius_rad > 0.5 * math.pi:  # inclusive discs lose pixels beyond 2.3 rad
            return True
        coarse = hpgeom.query_circle_vec(1 << _COARSE_ORDER, centre, radius_rad + _SLACK, inclusive=True, fact=4)
        shift = 2 * (MOC_ORDER - _COARSE_ORDER)
        starts, stops = np.array(self.ranges, np.int64).reshape(-1, 2).T
        first = np.searchsorted(stops, coarse.astype(np.int64) << shift, side="right")
        last = np.searchsorted(starts, (coarse.astype(np.int64) + 1) << shift, side="left")
        return bool((first < last).any())


@dataclass(frozen=True)
class Region:
    """All that is in any of some shapes."""

    shapes: tuple[Shape, ...]
    name: str = field(default="region", compare=False)
    """For people."""

    def contains(self, ra: Floats, dec: Floats) -> Mask:
        """Whether each position in degrees is inside, shape (N,)."""
        xyz = unit_vectors(np.ascontiguousarray(ra), np.ascontiguousarray(dec))
        inside = np.zeros(len(xyz), bool)
        for shape in self.shapes:
            outside = np.flatnonzero(~inside)
            inside[outside] = shape.contains(xyz[outside])
        return inside

    def may_touch(self, centres: Floats, radii_rad: Floats) -> Mask:
        """Whether each cap may reach into it, shape (N,); a few that do not are let through.

        Parameters
        ----------
        centres : float64 ndarray, shape (N, 3)
            Unit vectors.
        radii_rad : float64 ndarray, shape (N,)
            Radians.
        """
        touched = np.zeros(len(centres), bool)
        for shape in self.shapes:
            left = np.flatnonzero(~touched)
            touched[left] = shape.may_touch(centres[left], radii_rad[left])
        return touched

    def to_json(self) -> list[Json]:
        """Plain values, for a manifest."""
        return [{"shape": type(shape).__name__.lower(), **vars(shape)} for shape in self.shapes]
