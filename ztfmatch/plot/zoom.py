"""Map of a part of the sky in galactic coordinates, for surveys that cover no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import hpgeom
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter

from ztfmatch.core.camera import Pointing, field_grid, unit_vectors
from ztfmatch.core.kernels.sphere import Floats, enclosing_cap
from ztfmatch.core.plain import Keywords
from ztfmatch.core.survey import N_RCID
from ztfmatch.plot.axes import DARK, GREY
from ztfmatch.plot.footprint import REACH_DEG, Coverage, channels_at

_WIDEST_DEG: Final = 30.0
"""Radius of the largest part that is shown by itself."""
_NEAREST_POLE_DEG: Final = 80.0
_SIDE_PIX: Final = 900

ToSky = Callable[[Floats, Floats], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Frame:
    """Galactic longitudes from west to east, which may exceed 360, and latitudes, in degrees."""

    west: float
    east: float
    south: float
    north: float


def frame_of(coverage: Coverage, to_galactic: ToSky) -> Frame | None:
    """Frame around what was exposed; None where that is much of the sky, or near a pole of the galaxy."""
    pixels = np.flatnonzero(coverage.counts)
    ra, dec = hpgeom.pixel_to_angle(2**coverage.order, pixels)
    _, radius = enclosing_cap(np.ascontiguousarray(unit_vectors(ra, dec).T))
    lon, lat = to_galactic(ra, dec)
    if math.degrees(radius) > _WIDEST_DEG or np.abs(lat).max() > _NEAREST_POLE_DEG:
        return None
    middle = float(np.degrees(np.arctan2(np.sin(np.radians(lon)).mean(), np.cos(np.radians(lon)).mean())))
    lon = middle + (lon - middle + 180.0) % 360.0 - 180.0
    shift = 360.0 if lon.min() < 0.0 else 0.0
    shrink = math.cos(math.radians(0.5 * float(lat.min() + lat.max())))
    width, height = float(np.ptp(lon)) * shrink, float(np.ptp(lat))
    size = max(width, height, 1.0)  # no sliver, however the fields lie
    half_width, half_height = 0.55 * size / shrink, 0.55 * max(height, 0.5 * size)
    lon_middle, lat_middle = 0.5 * float(lon.min() + lon.max()) + shift, 0.5 * float(lat.min() + lat.max())
    return Frame(lon_middle - half_width, lon_middle + half_width, lat_middle - half_height, lat_middle + half_height)


def counts_in(frame: Frame, exposures: pa.Table, from_galactic: ToSky) -> Floats:
    """Exposures at each point of a picture of a frame, from the south and west; NaN where there is none."""
    lon, lat = (
        low + (high - low) * (np.arange(_SIDE_PIX) + 0.5) / _SIDE_PIX
        for low, high in ((frame.west, frame.east), (frame.south, frame.north))
    )
    places = np.meshgrid(lon, lat)
    xyz = unit_vectors(*from_galactic(places[0].ravel() % 360.0, places[1].ravel()))
    field, rcid = (exposures[name].to_numpy().astype(np.int64) for name in ("field", "rcid"))
    counts = np.zeros(xyz.shape[1])
    for number in np.unique(field).tolist():
        if number in field_grid():
            times = np.bincount(rcid[field == number], minlength=N_RCID)
            centre = unit_vectors(*(np.array([value]) for value in field_grid()[number]))
            near = np.flatnonzero((xyz * centre).sum(axis=0) > math.cos(math.radians(REACH_DEG)))
            channel = channels_at(Pointing(*field_grid()[number]).project(xyz[:, near]))
            counts[near] += np.where(channel >= 0, times[channel], 0)
    return np.where(counts > 0, counts, np.nan).reshape(_SIDE_PIX, _SIDE_PIX)


def draw_frame(axes: Axes, counts: Floats, frame: Frame, look: tuple[Normalize, Colormap]) -> AxesImage:
    """Draw counts of a frame; longitude grows to the left, as on the sky."""
    extent = (frame.west, frame.east, frame.south, frame.north)
    shape: Keywords = {"extent": extent, "origin": "lower", "norm": look[0], "cmap": look[1]}
    image = axes.imshow(counts, interpolation="nearest", **shape)
    axes.set_xlim(frame.east, frame.west)
    axes.set_aspect(1.0 / math.cos(math.radians(0.5 * (frame.south + frame.north))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value % 360.0:g}°"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}°"))
    axes.set_xlabel("Galactic longitude l", fontsize=12, color=DARK)
    axes.set_ylabel("Galactic latitude b", fontsize=12, color=DARK)
    axes.grid(True, color="#B5B5B5", linewidth=0.5, alpha=0.6)
    axes.tick_params(color=GREY, labelcolor=DARK, labelsize=10)
    return image
