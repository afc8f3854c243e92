"""One sky for all fields and filters: every region is the same whichever field covers it.

The sphere is divided into cells of 0.25 degrees; each draws its stars from a generator keyed by the seed and
the cell. Stars closer than the survey resolves are thinned by a rule that looks at the pair alone (the one
with the higher mark yields, whether or not the other stays: a Matern type II process), so that the outcome
does not depend on where a region ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats, Ints, Mask
from ztfmatch.core.camera import Plane, Pointing, QuadrantMap, field_centre, quadrant_corners, unit_vectors
from ztfmatch.simulate.config import SimulationConfig
from ztfmatch.simulate.hosts import draw_hosts
from ztfmatch.simulate.stars import Stars, draw_magnitudes
from ztfmatch.simulate.variability import TRANSIENT, draw_kinds

CELL_DEG: Final = 0.25
MIN_SEPARATION_ARCSEC: Final = 2.03
"""Of true positions; the reference's own scatter, below 0.04 arcsec, leaves at least 1.95 arcsec."""

REGION_MARGIN_DEG: Final = 0.012
"""Sky kept around a quadrant for what its affine mapping leaves; dithers and rotations come on top."""

_FIELD_RADIUS_DEG: Final = 5.3

QUADRANT_DEG2: Final = 0.8635**2

_STAR_BITS: Final = 20
"""A star's id is its cell's number shifted by this many bits, plus its place in the cell."""

_TAG_CELL: Final = 101


@dataclass(frozen=True)
class Region:
    """The sky that one quadrant of one field can see, dithers included."""

    field: int
    rcid: int
    pointing: Pointing
    quadrant: QuadrantMap
    stars: Stars


def matern_intensity(density: float) -> float:
    """Density of candidates that leaves ``density`` stars per square arcsec after thinning.

    Of candidates of density c, type II thinning at distance d keeps (1 - exp(-c pi d^2)) / (pi d^2) (Matern
    1960).
    """
    area = math.pi * MIN_SEPARATION_ARCSEC**2
    return -math.log1p(-density * area) / area


def close_pairs(xyz: Floats, plane: Plane, radius_arcsec: float) -> tuple[Ints, Ints]:
    """Pairs (i, j), each once, of points within a radius.

    Parameters
    ----------
    xyz : float64 ndarray, shape (3, N)
        Unit vectors; they decide.
    plane : Plane
        The points on a tangent plane no more than a degree or so away, which finds the candidates.
    radius_arcsec : float
        Inclusive.
    """
    side = 1.2 * radius_arcsec / 3600.0
    column = np.floor((plane.east - plane.east.min(initial=0.0)) / side).astype(np.int64) + 1
    row = np.floor((plane.north - plane.north.min(initial=0.0)) / side).astype(np.int64) + 1
    stride = int(row.max(initial=0)) + 2
    key = column * stride + row
    order = np.argsort(key, kind="stable")
    key = key[order]
    firsts, seconds = [], []
    for step in (0, 1, stride - 1, stride, stride + 1):
        start = np.searchsorted(key, key + step) if step else np.arange(1, len(key) + 1)
        stop = np.searchsorted(key, key + step, side="right")
        count = stop - start
        first = np.repeat(np.arange(len(key)), count)
        second = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(start, count)
        firsts.append(order[first])
        seconds.append(order[second])
    one, other = np.concatenate(firsts), np.concatenate(seconds)
    chord2 = np.sum((xyz[:, one] - xyz[:, other]) ** 2, axis=0)
    near = chord2 <= (2.0 * math.sin(math.radians(radius_arcsec / 7200.0))) ** 2
    return one[near], other[near]


@dataclass(frozen=True)
class Sky:
    """The simulated sky of a configuration."""

    config: SimulationConfig

    def region(self, field: int, rcid: int) -> Region:
        """Stars and transients that a quadrant can see; the same ones for every field that overlaps it."""
        pointing = Pointing(*field_centre(field))
        quadrant = QuadrantMap.of_rcid(rcid)
        corners = quadrant_corners(rcid)
        reach = float(np.hypot(*np.ptp(corners, axis=0))) / 2
        candidates = self.candidates(pointing, quadrant, reach + 2 * self._margin_deg)
        # Whether a star yields depends on its neighbours: thin a little more than is kept.
        around = candidates.take(_inside(pointing.project(candidates.xyz), corners, self._margin_deg + 0.01))
        stars = thinned(around, pointing.project(around.xyz))
        stars = stars.take(_inside(pointing.project(stars.xyz), corners, self._margin_deg))
        return Region(field, rcid, pointing, quadrant, stars)

    @property
    def _margin_deg(self) -> float:
        config = self.config
        turn = 3.0 * math.radians(config.rotation_deg) * _FIELD_RADIUS_DEG
        return REGION_MARGIN_DEG + turn + 4.1 * config.dither_arcsec / 3600.0

    def candidates(self, pointing: Pointing, quadrant: QuadrantMap, reach_deg: float) -> Stars:
        """Return the sources before thinning of all cells within reach of a quadrant's centre."""
        centre = pointing.deproject(Plane(*(np.array([v]) for v in quadrant.origin)))[:, 0]
        return Stars.concatenate([self._cell(cell) for cell in cells_near(centre, reach_deg)])

    def _cell(self, cell: Cell) -> Stars:
        config = self.config
        rng = np.random.default_rng(np.random.SeedSequence([config.seed, _TAG_CELL, cell.number]))
        density = config.stars_per_quadrant / (QUADRANT_DEG2 * 3600.0**2) * self._crowding(cell)
        n_stars = int(rng.poisson(matern_intensity(density) * cell.area_deg2 * 3600.0**2))
        n_transients = int(rng.poisson(config.transients_per_quadrant / QUADRANT_DEG2 * cell.area_deg2))
        n = n_stars + n_transients
        ra = cell.ra[0] + (cell.ra[1] - cell.ra[0]) * rng.random(n)
        low, high = (math.sin(math.radians(v)) for v in cell.dec)
        dec = np.degrees(np.arcsin(low + (high - low) * rng.random(n)))
        g, r, i = draw_magnitudes(rng, n)
        variation = draw_kinds(rng, config, g, n_transients)
        ids = (cell.number << _STAR_BITS) + np.arange(n)
        bands = variation.restyled(g, r, i)
        if config.hosted_fraction:
            hosts = draw_hosts(rng, config.hosted_fraction, bands[0], n_transients)
            ra[hosts.transient], dec[hosts.transient] = hosts.positions(ra, dec)
        return Stars(ids, unit_vectors(ra, dec), ra, dec, *bands, rng.random(n), **variation._asdict())

    def _crowding(self, cell: Cell) -> float:
        if self.config.dense_field is None:
            return 1.0
        ra, dec = field_centre(self.config.dense_field)
        here = unit_vectors(np.array([sum(cell.ra) / 2, ra]), np.array([sum(cell.dec) / 2, dec]))
        away_deg = 2 * math.degrees(math.asin(min(1.0, float(np.linalg.norm(here[:, 0] - here[:, 1])) / 2)))
        return 1.0 + (self.config.dense_factor - 1.0) * math.exp(-0.5 * (away_deg / 4.0) ** 2)


def _inside(plane: Plane, corners: Floats, margin_deg: float) -> Mask:
    (west, south), (east, north) = corners.min(axis=0) - margin_deg, corners.max(axis=0) + margin_deg
    inside: Mask = (plane.east > west) & (plane.east < east) & (plane.north > south) & (plane.north < north)
    return inside


def thinned(stars: Stars, plane: Plane) -> Stars:
    """Without the ones that stand too close to another with a lower mark; transients yield to stars."""
    mark = stars.mark + (stars.kind == TRANSIENT)
    one, other = close_pairs(stars.xyz, plane, MIN_SEPARATION_ARCSEC)
    keep = np.ones(len(stars), dtype=bool)
    keep[np.where(mark[one] > mark[other], one, other)] = False
    return stars.take(keep)


@dataclass(frozen=True)
class Cell:
    """A patch of sky between two meridians and two parallels, degrees."""

    number: int
    ra: tuple[float, float]
    dec: tuple[float, float]

    @property
    def area_deg2(self) -> float:
        """Solid angle in square degrees."""
        low, high = (math.sin(math.radians(v)) for v in self.dec)
        return math.degrees(high - low) * (self.ra[1] - self.ra[0])


def cells_near(centre: Floats, reach_deg: float) -> list[Cell]:
    """List the cells that may hold points within ``reach_deg`` of a unit vector of shape (3,)."""
    middle = math.degrees(math.asin(float(np.clip(centre[2], -1.0, 1.0))))
    n_zones = round(180.0 / CELL_DEG)
    first = max(0, math.floor((middle - reach_deg + 90.0) / CELL_DEG))
    last = min(n_zones - 1, math.floor((middle + reach_deg + 90.0) / CELL_DEG))
    found = []
    for zone in range(first, last + 1):
        dec = (zone * CELL_DEG - 90.0, (zone + 1) * CELL_DEG - 90.0)
        widest = max(math.cos(math.radians(v)) for v in dec)
        n_cells = max(4, math.ceil(360.0 * widest / CELL_DEG))
        width = 360.0 / n_cells
        middles = np.linspace(0.5 * width, 360.0 - 0.5 * width, n_cells)
        mids = unit_vectors(middles, np.full(n_cells, sum(dec) / 2))
        near = centre @ mids > math.cos(math.radians(reach_deg + CELL_DEG))
        for k in np.flatnonzero(near).tolist():
            number = zone * 4 * n_zones + k
            found.append(Cell(number, (k * width, (k + 1) * width), dec))
    return found
