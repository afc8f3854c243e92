"""References over a quadrant whose differences from PS1 are known, and the catalog of PS1 that knows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers import UNIT, reference_file, rows_at

from ztfmatch.core.camera import Pixels, Pointing, QuadrantMap, field_centre, sky_positions
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX, Unit

MAGZP = 26.325
CLRCOEFF = 0.1


@dataclass(frozen=True)
class Quadrant:
    """Seeds of a unit, and what PS1 has of them."""

    unit: Unit
    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    mag: np.ndarray
    """In the catalog, colour term not applied."""
    colour: np.ndarray
    difference: np.ndarray
    """PS1 less mag, colour term applied."""

    def rows(self) -> np.ndarray:
        return rows_at(self.ra, self.dec, mag=self.mag - MAGZP, sigmag=0.02)

    def ps1(self) -> pa.Table:
        """The filter's magnitude is mag + colour term + difference; the colours are as they are."""
        own = self.mag + CLRCOEFF * self.colour + self.difference
        g, r, i = own.copy(), own.copy(), own.copy()
        if self.unit.fid == 1:
            r, i = g - self.colour, g - self.colour
        elif self.unit.fid == 2:
            g, i = r + self.colour, r.copy()
        else:
            r = i + self.colour
            g = r.copy()
        return pa.table({"ra": self.ra, "dec": self.dec, "g": g, "r": r, "i": i})


def quadrant(unit: Unit = UNIT, n_side: int = 40, seed: int = 1, tilt: float = 0.0, noise: float = 0.01) -> Quadrant:
    """Seeds on a jittered lattice; the difference grows by ``tilt`` from one edge in x to the other."""
    rng = np.random.default_rng(seed)
    columns, lines = QUADRANT_SHAPE_PIX
    place = (np.arange(n_side) + 0.5) / n_side
    y, x = (axis.ravel() for axis in np.meshgrid(place * lines, place * columns, indexing="ij"))
    x, y = x + rng.uniform(-20, 20, x.size), y + rng.uniform(-20, 20, y.size)
    plane = QuadrantMap.of_rcid(unit.rcid).to_plane(Pixels(x, y))
    ra, dec = sky_positions(Pointing(*field_centre(unit.field)).deproject(plane))
    mag = rng.uniform(14.0, 18.0, x.size)
    difference = tilt * (x / columns - 0.5) + noise * rng.standard_normal(x.size)
    return Quadrant(unit, x, y, ra, dec, mag, rng.uniform(0.2, 1.2, x.size), difference)


def write_reference(place: Path, quadrant: Quadrant, **keys: Any) -> Path:
    return reference_file(place, quadrant.rows(), quadrant.unit, MAGZP=MAGZP, **{"CLRCOEFF": CLRCOEFF, **keys})


def write_ps1(path: Path, *quadrants: Quadrant) -> Path:
    pq.write_table(pa.concat_tables([quadrant.ps1() for quadrant in quadrants]), path)
    return path
