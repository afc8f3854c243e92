"""Number of exposures over the sky, from the fields and readout channels of exposures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import hpgeom
import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Ints
from ztfmatch.core.camera import Plane, Pointing, field_grid, quadrant_corners, unit_vectors
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import N_RCID

COVERAGE_ORDER: Final = 9
"""HEALPix order: pixels of 6.9 arcmin, which resolve the gaps between the CCDs."""

_SIDE: Final = 8
"""Columns, and rows, of quadrants in the focal plane."""

REACH_DEG: Final = 5.4
"""From a field's centre to beyond its corners."""

_ENDS: Final = (np.min, np.max)


@dataclass(frozen=True)
class Coverage:
    """Exposures by HEALPix pixel."""

    order: int
    counts: Ints
    """Exposures on the centre of each pixel, NESTED, ICRS, shape (12 * 4**order,)."""
    exposures: int
    """Catalogs that were counted."""
    unplaced: int
    """Catalogs of fields that the survey's grid does not have."""

    @property
    def area_deg2(self) -> float:
        """What was exposed at least once."""
        return float(np.count_nonzero(self.counts) * hpgeom.nside_to_pixel_area(2**self.order))


def coverage_of(exposures: pa.Table, order: int = COVERAGE_ORDER) -> Coverage:
    """Count exposures over the sky.

    Each quadrant is taken to be where the centre of its field puts it; dithers are smaller than a pixel.

    Parameters
    ----------
    exposures : pyarrow.Table
        ``field`` and ``rcid``, a row a catalog, as the ledger has; other columns are ignored.
    order : int
        Of the pixels, 0 to 12.

    Raises
    ------
    ConfigError
        If the order is out of range.
    """
    if not 0 <= order <= 12:
        raise ConfigError(f"order {order} is outside 0..12")
    field, rcid = (exposures[name].to_numpy().astype(np.int64) for name in ("field", "rcid"))
    by_unit = np.bincount(field * N_RCID + rcid, minlength=10_000 * N_RCID).reshape(-1, N_RCID)
    counts: Ints = np.zeros(12 * 4**order, np.int64)
    placed = [number for number in np.flatnonzero(by_unit.any(axis=1)).tolist() if number in field_grid()]
    for number in placed:
        pixels, channels = pixels_of_field(number, order)
        counts[pixels] += by_unit[number][channels]
    n_placed = int(by_unit[placed].sum())
    return Coverage(order, counts, n_placed, len(field) - n_placed)


def pixels_of_field(field: int, order: int) -> tuple[Ints, Ints]:
    """Pixels whose centres are on a quadrant of a field, NESTED, and the readout channel of each."""
    ra, dec = field_grid()[field]
    pixels = hpgeom.query_circle(2**order, ra, dec, REACH_DEG)
    plane = Pointing(ra, dec).project(unit_vectors(*hpgeom.pixel_to_angle(2**order, pixels)))
    channels = channels_at(plane)
    return pixels[channels >= 0], channels[channels >= 0]


def channels_at(plane: Plane) -> Ints:
    """Readout channel at points of the focal plane, -1 where there is none: between the CCDs, and outside.

    Exact to 10 arcsec, since it takes the quadrants for a grid.
    """
    grid = _quadrant_grid()
    column, row = (_interval(*ends) for ends in ((plane.east, grid.east), (plane.north, grid.north)))
    return np.where((column >= 0) & (row >= 0), grid.channel[column, row], -1)


def _interval(values: Floats, ends: Floats) -> Ints:
    """Number of the interval that holds each value, -1 for none; ends of shape (2, N), ascending."""
    index = np.searchsorted(ends[0], values, side="right") - 1
    return np.where((index >= 0) & (values < ends[1][index]), index, -1)


class _Grid(NamedTuple):
    """Columns and rows of quadrants: their ends in degrees from the centre, shape (2, 8), and the channel of each."""

    east: Floats
    north: Floats
    channel: Ints


@cache
def _quadrant_grid() -> _Grid:
    corners = np.stack([quadrant_corners(rcid) for rcid in range(N_RCID)])
    # By rank: centres of a column differ by arcseconds, those of two columns by half a degree.
    rank = corners.mean(axis=1).argsort(axis=0).argsort(axis=0) // _SIDE
    ends = [
        np.array([[side(corners[rank[:, axis] == k, :, axis], axis=1).mean() for k in range(_SIDE)] for side in _ENDS])
        for axis in (0, 1)
    ]
    channel = np.empty((_SIDE, _SIDE), np.int64)
    channel[rank[:, 0], rank[:, 1]] = np.arange(N_RCID)
    return _Grid(ends[0], ends[1], channel)
