"""Parts of the sky that a query may name: cone, box, polygon, coverage map; which tiles they touch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ztfmatch.errors import ConfigError
from ztfmatch.io.moc import ORDER, read_moc
from ztfmatch.kernels.region import Cap, PixelSet, Polygon, Region
from ztfmatch.kernels.sphere import Floats, enclosing_cap, unit_vector
from ztfmatch.kernels.tiling import Tile, Tiling
from ztfmatch.products.query import check_position

Mask = npt.NDArray[np.bool_]

_WIDEST_DEG: Final = 90.0
_SLACK: Final = 1.01


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
        if isinstance(shape, Cap):
            return tiling.touched_by_cap(unit_vector(shape.ra, shape.dec), math.radians(shape.radius_deg))
        if isinstance(shape, Polygon):
            ra, dec = np.array(shape.vertices, np.float64).T
            return tiling.touched_by_cap(*enclosing_cap(unit_vector(ra, dec)))
        starts, stops = np.array(shape.ranges, np.int64).T
        return [tile for tile in tiling.tiles if _overlaps(tile, starts, stops)]


def _overlaps(tile: Tile, starts: Any, stops: Any) -> bool:
    shift = 2 * (ORDER - tile.order)
    first, stop = tile.npix << shift, (tile.npix + 1) << shift
    place = int(np.searchsorted(stops, first, side="right"))
    return place < len(starts) and bool(starts[place] < stop)


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


def cone_area(ra: float, dec: float, radius_arcsec: float) -> Area:
    """Circle: centre in degrees (ICRS), radius in arcsec, inclusive."""
    check_position(ra, dec)
    if not 0.0 < radius_arcsec <= 180 * 3600.0:
        raise ConfigError(f"radius {radius_arcsec} arcsec is outside (0, {180 * 3600}]")
    return _Shape(Region((Cap(ra % 360.0, dec, radius_arcsec / 3600.0),)))


def box_area(west: float, east: float, south: float, north: float) -> Area:
    """Box: RA from west to east, Dec from south to north, in degrees; west > east goes over RA 0."""
    for ra, dec in ((west, south), (east, north)):
        check_position(ra, dec)
    if south > north:
        raise ConfigError(f"the box goes from declination {south} to {north}; expected the southern one first")
    whole = east - west >= 360.0
    return Box(0.0, 360.0, south, north) if whole else Box(west % 360.0, east % 360.0 or 360.0, south, north)


def polygon_area(numbers: Sequence[float]) -> Area:
    """Polygon of great circles from ``ra dec ra dec ...`` in degrees."""
    if len(numbers) % 2 or len(numbers) < 6:
        raise ConfigError(f"a polygon of {len(numbers)} numbers; expected pairs of RA and Dec, at least three")
    vertices = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    for ra, dec in vertices:
        check_position(ra, dec)
    try:
        return _Shape(Region((Polygon(vertices),)))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def moc_area(path: Path) -> Area:
    """Coverage map from a file: FITS, JSON or ASCII."""
    ranges = tuple((int(low), int(high)) for low, high in read_moc(path).tolist())
    return _Shape(Region((PixelSet(ranges),)))
