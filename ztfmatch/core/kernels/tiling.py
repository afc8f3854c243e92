"""HEALPix tiles: which tile holds a position, which tiles a cap touches, and the margin around a tile.

A tiling is a set of NESTED pixels of mixed orders that covers the whole sky without overlap. Every question is
answered on the fine grid of order FINE_ORDER, so that all tasks agree to the bit about who owns a position.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import hpgeom
import numpy as np
import numpy.typing as npt

from ztfmatch.core.config import MARGIN_ARCSEC, MAX_TILE_ORDER
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, Floats, unit_vectors

Pixels = npt.NDArray[np.int64]

FINE_ORDER: Final = 13
"""Order of the grid on which tiles and margins are decided; its pixels are 25.8 arcsec wide on average."""

REACH_ORDER: Final = 11
"""Order of the pixels that make the reach around a tile, much wider than the margin; no tile is smaller."""

CAP_ORDER: Final = 7
"""Order of the pixels used to find what a cap touches; they are 27 arcmin wide."""


@dataclass(frozen=True, order=True)
class Tile:
    """One HEALPix NESTED pixel."""

    order: int
    npix: int

    def __str__(self) -> str:
        return f"Norder={self.order}/Npix={self.npix}"

    @property
    def key(self) -> str:
        """As keys of tasks have it: ``N5-1234``."""
        return f"N{self.order}-{self.npix}"

    @property
    def fine_range(self) -> tuple[int, int]:
        """First fine pixel of the tile, and one past the last."""
        shift = 2 * (FINE_ORDER - self.order)
        return self.npix << shift, (self.npix + 1) << shift

    def children(self) -> tuple[Tile, Tile, Tile, Tile]:
        """The four tiles of the next order that make it up."""
        a, b, c, d = (Tile(self.order + 1, 4 * self.npix + i) for i in range(4))
        return a, b, c, d


def in_sky_order(tiles: Iterable[Tile]) -> list[Tile]:
    """Tiles in order of their first fine pixel."""
    return sorted(tiles, key=lambda tile: tile.fine_range)


@dataclass(frozen=True)
class Tiling:
    """Tiles that cover the sky, in order of their first fine pixel."""

    tiles: tuple[Tile, ...]

    def __post_init__(self) -> None:
        order, npix = np.array([(tile.order, tile.npix) for tile in self.tiles], np.int64).reshape(-1, 2).T
        starts, stops = (edge << 2 * (FINE_ORDER - order) for edge in (npix, npix + 1))
        gaps = np.flatnonzero(starts != np.concatenate([[0], stops[:-1]]))
        if gaps.size:
            raise ValueError(f"tiling has a gap or an overlap before {self.tiles[gaps[0]]}")
        if not starts.size or stops[-1] != 12 << (2 * FINE_ORDER):
            raise ValueError("tiling does not cover the sky")
        object.__setattr__(self, "_starts", starts)

    _starts: Pixels = field(init=False, repr=False, compare=False)

    def index_of_fine(self, fine: Pixels) -> Pixels:
        """Row in ``tiles`` of each fine pixel, shape (N,)."""
        return np.searchsorted(self._starts, fine, side="right") - 1

    def touched_by_cap(self, centre: Floats, radius_rad: float) -> list[Tile]:
        """Tiles that a cap touches, and perhaps a few that it does not.

        Parameters
        ----------
        centre : float64 ndarray, shape (3,)
            Unit vector.
        radius_rad : float
            Radians.
        """
        rows = self.overlapping(cap_pixels(centre, radius_rad))
        return [self.tiles[row] for row in rows.tolist()]

    def touched_by_caps(self, centres: Floats, radii_rad: Floats) -> tuple[Pixels, Pixels]:
        """The same of caps, shape (N, 3) and (N,): pairs of a cap and a tile, as rows, in order of both."""
        pixels = [cap_pixels(centre, radius) for centre, radius in zip(centres, radii_rad.tolist(), strict=True)]
        which, tile = self.parts(np.concatenate([*pixels, np.zeros(0, np.int64)]))
        cap = np.repeat(np.arange(len(pixels)), [len(found) for found in pixels])[which]
        return np.divmod(np.unique(cap * len(self.tiles) + tile), len(self.tiles))

    def overlapping(self, pixels: Pixels) -> Pixels:
        """Rows in ``tiles`` of those that pixels of CAP_ORDER have a part of, ascending."""
        return np.unique(self.parts(pixels)[1])

    def parts(self, pixels: Pixels) -> tuple[Pixels, Pixels]:
        """Pairs of a pixel of CAP_ORDER and a tile that have a part in common, as rows in ``pixels`` and ``tiles``."""
        shift = 2 * (FINE_ORDER - CAP_ORDER)
        first, last = (self.index_of_fine(edge) for edge in (pixels << shift, ((pixels + 1) << shift) - 1))
        number = last - first + 1
        pixel = np.repeat(np.arange(len(pixels)), number)
        return pixel, np.arange(len(pixel)) + (first - np.cumsum(number) + number)[pixel]


def cap_pixels(centre: Floats, radius_rad: float) -> Pixels:
    """Pixels of CAP_ORDER that a cap touches, and perhaps a few that it does not.

    Parameters
    ----------
    centre : float64 ndarray, shape (3,)
        Unit vector.
    radius_rad : float
        Radians.
    """
    if radius_rad > 0.5 * math.pi:  # inclusive discs lose pixels beyond 2.3 rad
        return np.arange(12 << 2 * CAP_ORDER)
    pixels = hpgeom.query_circle_vec(1 << CAP_ORDER, centre, radius_rad, inclusive=True, fact=4)
    return np.asarray(pixels.astype(np.int64))


def whole_sky() -> Tiling:
    """The twelve base pixels."""
    return Tiling(tuple(Tile(0, npix) for npix in range(12)))


def adaptive_tiling(fine: Pixels, counts: Pixels, max_per_tile: int, max_order: int = MAX_TILE_ORDER) -> Tiling:
    """Split base pixels until no tile holds more than its share.

    Parameters
    ----------
    fine : int64 ndarray, shape (N,)
        Fine pixels, ascending.
    counts : int ndarray, shape (N,)
        What each holds.
    max_per_tile : int
        Tiles with more are split, down to ``max_order``.

    Raises
    ------
    ValueError
        If max_per_tile < 1 or max_order > MAX_TILE_ORDER.
    """
    if max_per_tile < 1:
        raise ValueError(f"max_per_tile {max_per_tile} must be at least 1")
    if not 0 <= max_order <= MAX_TILE_ORDER:
        raise ValueError(f"max_order {max_order} is outside 0..{MAX_TILE_ORDER}")
    return Tiling(tuple(split_tiles(whole_sky().tiles, fine, counts, max_per_tile, max_order)))


def split_tiles(tiles: Sequence[Tile], fine: Pixels, counts: Pixels, max_per_tile: int, max_order: int) -> list[Tile]:
    """What some tiles, in order of the sky, are split into, as :func:`adaptive_tiling` splits base pixels."""
    total = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=total[1:])
    done: list[Tile] = []
    pending = list(reversed(tiles))
    while pending:
        tile = pending.pop()
        low, high = np.searchsorted(fine, tile.fine_range)
        if tile.order < max_order and total[high] - total[low] > max_per_tile:
            pending.extend(reversed(tile.children()))
        else:
            done.append(tile)
    return done


def fine_pixels(ra: Floats, dec: Floats) -> Pixels:
    """Fine pixel of each position.

    Parameters
    ----------
    ra, dec : float64 ndarray, shape (N,)
        Degrees, finite, ICRS.
    """
    pixels: Pixels = hpgeom.angle_to_pixel(1 << FINE_ORDER, ra, dec)
    return pixels


def in_tile(fine: Pixels, tile: Tile) -> npt.NDArray[np.bool_]:
    """Whether each fine pixel belongs to the tile, shape (N,)."""
    low, high = tile.fine_range
    return (fine >= low) & (fine < high)


def margin_ring(tile: Tile) -> Pixels:
    """Fine pixels that surround the tile, ascending: they hold all that is within MARGIN_ARCSEC of it."""
    return ring(tile, FINE_ORDER)


def border(tile: Tile, order: int) -> Pixels:
    """Outermost pixels of an order in the tile, ascending; the order is the tile's or a higher one."""
    side = 1 << (order - tile.order)
    spread = _spread_bits(np.arange(side, dtype=np.int64))
    far = spread[-1]
    sides = np.concatenate([spread, spread << 1, spread | (far << 1), (spread << 1) | far])
    pixels: Pixels = (tile.npix << 2 * (order - tile.order)) + np.unique(sides)
    return pixels


@functools.lru_cache(maxsize=64)
def ring(tile: Tile, order: int) -> Pixels:
    """Pixels of an order that surround the tile, ascending; the order is the tile's or a higher one."""
    shift = 2 * (order - tile.order)
    low, high = tile.npix << shift, (tile.npix + 1) << shift
    around = np.unique(hpgeom.neighbors(1 << order, border(tile, order)))
    pixels: Pixels = around[(around >= 0) & ~((around >= low) & (around < high))]
    pixels.setflags(write=False)
    return pixels


def in_reach(fine: Pixels, tile: Tile) -> npt.NDArray[np.bool_]:
    """Whether each fine pixel belongs to the tile or to the pixels of REACH_ORDER around it, shape (N,)."""
    inside = in_tile(fine, tile)
    outside = np.flatnonzero(~inside)
    around = ring(tile, REACH_ORDER)  # ascending
    pixels = fine[outside] >> 2 * (FINE_ORDER - REACH_ORDER)
    inside[outside] = is_among(pixels, around)
    return inside


def at_edge_of_reach(fine: Pixels, tile: Tile) -> npt.NDArray[np.bool_]:
    """Whether there may be positions within MARGIN_ARCSEC of each fine pixel that are not in reach, shape (N,)."""
    edge = np.zeros(len(fine), bool)
    outside = np.flatnonzero(~in_tile(fine, tile))
    pixels, at = np.unique(fine[outside], return_inverse=True)
    if not len(pixels):
        return edge
    around = hpgeom.neighbors(1 << FINE_ORDER, pixels).reshape(-1, 8)
    reached = in_reach(np.where(around < 0, pixels[:, None], around).ravel(), tile).reshape(-1, 8)
    edge[outside] = np.asarray(~reached.all(axis=1))[at]
    return edge


def _spread_bits(values: Pixels) -> Pixels:
    """Move bit i of each value to bit 2i: one coordinate of a nested pixel number."""
    out = np.zeros_like(values)
    for bit in range(FINE_ORDER):
        out |= ((values >> bit) & 1) << (2 * bit)
    return out


def in_tile_or_margin(fine: Pixels, tile: Tile) -> npt.NDArray[np.bool_]:
    """Whether each fine pixel belongs to the tile or to the ring around it, shape (N,)."""
    inside = in_tile(fine, tile)
    outside = np.flatnonzero(~inside)
    inside[outside] = is_among(fine[outside], margin_ring(tile))
    return inside


def neighbours(tiling: Tiling, tile: Tile) -> list[Tile]:
    """The tile itself and all tiles of the tiling that its margin reaches into."""
    rows = np.unique(tiling.index_of_fine(margin_ring(tile))).tolist()
    return [tile, *(tiling.tiles[row] for row in rows)]


@dataclass(frozen=True)
class Boxes:
    """Ranges of centres of caps, and the largest radius of those in each, in degrees, shape (N,)."""

    min_ra: Floats
    max_ra: Floats
    min_dec: Floats
    max_dec: Floats
    max_radius: Floats


def boxes_touch_tile(tile: Tile, boxes: Boxes) -> npt.NDArray[np.bool_]:
    """Whether any cap of each box may touch the tile or its margin; some boxes of which none does are let through.

    The distance from the centre of the tile to a box is no less than the difference in declination, and no less than
    that to the nearer of the two meridians that bound the box, one of which every way into it crosses, unless the
    centre is between them. A meridian more than 90 degrees away is nearest at a pole.
    """
    nside = 1 << tile.order
    ra, dec = hpgeom.pixel_to_angle(nside, tile.npix)
    reach = np.radians(boxes.max_radius + hpgeom.max_pixel_radius(nside)) + MARGIN_ARCSEC / ARCSEC_PER_RADIAN
    beside = np.radians(np.maximum(np.maximum(boxes.min_dec - dec, dec - boxes.max_dec), 0.0))
    apart = [np.abs((edge - ra + 180.0) % 360.0 - 180.0) for edge in (boxes.min_ra, boxes.max_ra)]
    nearest = np.radians(np.minimum(np.minimum(*apart), 90.0))
    across = np.arcsin(np.clip(np.cos(np.radians(dec)) * np.sin(nearest), 0.0, 1.0))
    outside = (ra < boxes.min_ra) | (ra > boxes.max_ra)
    return np.asarray(np.maximum(beside, np.where(outside, across, 0.0)) <= reach + 1e-6)


def caps_touch_any(tiles: Sequence[Tile], ra: Floats, dec: Floats, radius: Floats) -> npt.NDArray[np.bool_]:
    """Whether each cap may touch any of some tiles or their margins; a few that do not are let through.

    Parameters
    ----------
    tiles : sequence of Tile
        At least one.
    ra, dec : float64 ndarray, shape (N,)
        Centres in degrees; NaN for a cap without points, which touches nothing.
    radius : float64 ndarray, shape (N,)
        Degrees.
    """
    nsides = [1 << tile.order for tile in tiles]
    centres = np.array([hpgeom.pixel_to_vector(nside, tile.npix) for nside, tile in zip(nsides, tiles, strict=True)])
    sizes = np.radians([hpgeom.max_pixel_radius(nside) for nside in nsides])
    known = np.isfinite(ra)
    xyz = unit_vectors(np.where(known, ra, 0.0), np.where(known, dec, 0.0))
    reach = np.radians(np.where(known, radius, 0.0)) + MARGIN_ARCSEC / ARCSEC_PER_RADIAN + 1e-6
    # Cosines of the sums of both, by those of each: an arc cosine for every pair would take most of the time.
    limit = np.outer(np.cos(reach), np.cos(sizes)) - np.outer(np.sin(reach), np.sin(sizes))
    touching = (xyz @ centres.T >= limit) | (np.add.outer(reach, sizes) >= np.pi)
    return np.asarray(known & touching.any(axis=1))
