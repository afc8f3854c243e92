"""Areas of the sky: circles, boxes, polygons and coverage maps, validated here and nowhere else."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Mask
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.kernels.region import Cap, PixelSet, Polygon, Region
from ztfmatch.core.kernels.sphere import Floats, arcsec_of_chord2, chord2_of_arcsec, enclosing_cap, unit_vector
from ztfmatch.core.kernels.tiling import Tile, Tiling
from ztfmatch.query.io.moc import ORDER, read_moc
from ztfmatch.query.kernels.angles import Angle, circle_of, dec_degrees, ra_degrees, radius_of

_HALF_CIRCLE_DEG: Final = 180.0
_WIDEST_DEG: Final = 90.0
_POLE_DEG: Final = 90.0
_SLACK: Final = 1.01

Circle = tuple[Angle, Angle, Angle] | tuple[Any, Angle]
"""Right ascension and declination (ICRS; numbers are degrees, texts may be sexagesimal) and radius (numbers are arcsec,
texts have a unit such as ``3arcmin``), or a SkyCoord and a radius. Quantities and angles of astropy do for each."""


class Area(Protocol):
    """A part of the sky."""

    def contains(self, ra: Floats, dec: Floats) -> Mask:
        """Whether each position in degrees is inside, shape (N,)."""
        ...

    def tiles(self, tiling: Tiling) -> list[Tile]:
        """Tiles that it touches, and perhaps some that it does not."""
        ...


@dataclass(frozen=True)
class _Shape:
    """A shape of the kernel."""

    region: Region

    def contains(self, ra: Floats, dec: Floats) -> Mask:
        """Whether each position in degrees is inside, shape (N,)."""
        return self.region.contains(ra, dec)

    def tiles(self, tiling: Tiling) -> list[Tile]:
        """Tiles that it touches, and perhaps some that it does not."""
        (shape,) = self.region.shapes
        if isinstance(shape, Polygon):
            ra, dec = np.array(shape.vertices, np.float64).T
            return tiling.touched_by_cap(*enclosing_cap(unit_vector(ra, dec)))
        starts, stops = np.array(cast("PixelSet", shape).ranges, np.int64).T
        return [tile for tile in tiling.tiles if _overlaps(tile, starts, stops)]


def _overlaps(tile: Tile, starts: Any, stops: Any) -> bool:
    shift = 2 * (ORDER - tile.order)
    first, stop = tile.npix << shift, (tile.npix + 1) << shift
    place = int(np.searchsorted(stops, first, side="right"))
    return place < len(starts) and bool(starts[place] < stop)


@dataclass(frozen=True)
class Cone:
    """A circle on the sky: centre in degrees, ICRS; the border belongs to it."""

    ra: float
    dec: float
    radius_arcsec: float

    def __post_init__(self) -> None:
        check_position(self.ra, self.dec)

    @property
    def centre(self) -> Floats:
        """Unit vector, shape (3,)."""
        return unit_vector(self.ra % 360.0, self.dec)

    def contains(self, ra: Floats, dec: Floats) -> Mask:
        """Whether each position in degrees is inside, shape (N,): vectors are made of those near its declination."""
        inside: Mask = np.abs(dec - self.dec) * 3600.0 <= self.radius_arcsec + 1e-3
        inside[inside] = self._chord2(ra[inside], dec[inside]) <= chord2_of_arcsec(self.radius_arcsec)
        return inside

    def rows(self, places: pa.Table) -> pa.Table:
        """Those of some places, in order of ``dec``, that are inside."""
        reach = (self.radius_arcsec + 1e-3) / 3600.0
        first, last = np.searchsorted(places["dec"].to_numpy(), [self.dec - reach, self.dec + reach])
        near = places.slice(first, last - first)
        return near.filter(pa.array(self.contains(near["ra"].to_numpy(), near["dec"].to_numpy())))

    def separation(self, ra: Floats, dec: Floats) -> Floats:
        """Arcsec from the centre, shape (N,)."""
        return arcsec_of_chord2(self._chord2(ra, dec))

    def _chord2(self, ra: Floats, dec: Floats) -> Floats:
        chord2: Floats = ((unit_vector(ra, dec) - self.centre) ** 2).sum(axis=1)
        return chord2

    def tiles(self, tiling: Tiling) -> list[Tile]:
        """Tiles that it touches, and perhaps some that it does not."""
        return tiling.touched_by_cap(self.centre, math.radians(self.radius_arcsec / 3600.0))


@dataclass(frozen=True)
class Box:
    """Right ascensions from west to east and declinations between two, all inclusive.

    West is larger than east where the box goes over RA 0.
    """

    west: float
    east: float
    south: float
    north: float

    @property
    def width(self) -> float:
        """Degrees of right ascension."""
        return self.east - self.west if self.east >= self.west else self.east - self.west + 360.0

    def contains(self, ra: Floats, dec: Floats) -> Mask:
        """Whether each position in degrees is inside, shape (N,)."""
        above_west, below_east = ra >= self.west, ra <= self.east
        across = above_west & below_east if self.west <= self.east else above_west | below_east
        inside: Mask = across & (dec >= self.south) & (dec <= self.north)
        return inside

    def tiles(self, tiling: Tiling) -> list[Tile]:
        """Tiles that it touches, and perhaps some that it does not; all where it is wide."""
        if self.width > _WIDEST_DEG or self.north - self.south > _WIDEST_DEG:
            return list(tiling.tiles)
        ra = self.west + self.width * np.array([0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0])
        middle = 0.5 * (self.south + self.north)
        dec = np.array([self.south, middle, self.north, self.south, self.north, self.south, middle, self.north])
        centre = unit_vector(self.west + 0.5 * self.width, middle)
        half_chord = 0.5 * math.sqrt(float(((unit_vector(ra, dec) - centre) ** 2).sum(axis=1).max()))
        return tiling.touched_by_cap(centre, _SLACK * 2.0 * math.asin(min(half_chord, 1.0)) + 1e-9)


def check_position(ra: float, dec: float) -> None:
    """Refuse a position in degrees that is none.

    Raises
    ------
    ConfigError
    """
    if not (math.isfinite(ra) and -360.0 <= ra <= 360.0):
        raise ConfigError(f"right ascension {ra} is outside -360..360 degrees")
    if not -90.0 <= dec <= 90.0:
        raise ConfigError(f"declination {dec} is outside -90..90 degrees")


def check_radius(radius: float, most: float, unit: str) -> None:
    """Refuse a radius that is none, or too large.

    Raises
    ------
    ConfigError
    """
    if not 0.0 < radius <= most:
        raise ConfigError(f"radius {radius} {unit} is outside (0, {most:.0f}]")


def cone_region(ra: Angle, dec: Angle, radius: Angle) -> Region:
    """Circle on the sky: centre in degrees or sexagesimal, radius with its unit (``8deg``); the border belongs to it.

    It decides what leaves a store, so that the unit has to be given.

    Raises
    ------
    ConfigError
        If a number is out of range, as from all that follow.
    """
    radius_deg = radius_of(radius, "deg", bare=None)
    ra, dec = ra_degrees(ra), dec_degrees(dec)
    check_position(ra, dec)
    check_radius(radius_deg, _HALF_CIRCLE_DEG, "deg")
    return Region((Cap(ra % 360.0, dec, radius_deg),), f"{radius_deg:g} degrees around RA {ra:g}, Dec {dec:g}")


def polygon_region(numbers: Sequence[float]) -> Region:
    """Polygon of great circles from ``ra dec ra dec ...`` in degrees."""
    if len(numbers) % 2 or len(numbers) < 6:
        raise ConfigError(f"a polygon of {len(numbers)} numbers; expected pairs of RA and Dec, at least three")
    vertices = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    for ra, dec in vertices:
        check_position(ra, dec)
    if len({(0.0 if abs(dec) == _POLE_DEG else ra % 360.0, dec) for ra, dec in vertices}) < 3:
        raise ConfigError("a polygon of fewer than three different vertices")
    try:
        return Region((Polygon(vertices),), f"a polygon of {len(vertices)} vertices")
    except ValueError as error:
        raise ConfigError(str(error)) from None


def moc_region(path: str | os.PathLike[str]) -> Region:
    """Coverage map (MOC 2.0, space) from a file: FITS, JSON or ASCII; neither empty nor something else."""
    path = Path(path)
    ranges = tuple((int(low), int(high)) for low, high in read_moc(path).tolist())
    return Region((PixelSet(ranges),), f"the coverage map {path.name}")


def cone_of(given: Circle) -> Cone:
    """Circle as people give it, of any size."""
    return Cone(*circle_of(given))


def cone_area(given: Circle) -> Area:
    """Circle as people give it, inclusive, of no more than the whole sky."""
    cone = cone_of(given)
    check_radius(cone.radius_arcsec, _HALF_CIRCLE_DEG * 3600.0, "arcsec")
    return cone


def box_area(west: float, east: float, south: float, north: float) -> Area:
    """Box: RA from west to east, Dec from south to north, in degrees; west > east goes over RA 0."""
    for ra, dec in ((west, south), (east, north)):
        check_position(ra, dec)
    if south > north:
        raise ConfigError(f"the box goes from declination {south} to {north}; expected the southern one first")
    whole = east - west >= 360.0
    return Box(0.0, 360.0, south, north) if whole else Box(west % 360.0, east % 360.0, south, north)


def polygon_area(numbers: Sequence[float]) -> Area:
    """Polygon of great circles from ``ra dec ra dec ...`` in degrees."""
    return _Shape(polygon_region(numbers))


def moc_area(path: Path) -> Area:
    """Coverage map from a file: FITS, JSON or ASCII."""
    return _Shape(moc_region(path))
