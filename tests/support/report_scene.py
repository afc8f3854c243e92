"""A unit whose residuals are known exactly, as catalogs, a PS1 table and corrections, and a store made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers import append, epochal_file, make_store, reference_file, rows_at, runner

from ztfmatch.core.io.corrections import write_corrections
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.correct import correct
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX, Unit, exposureid_of

UNITS = (Unit(500, 20, 2), Unit(500, 33, 1))
NIGHTS = 9
COLOUR_TERM = 0.08
DEVIATIONS = 0.004 * np.array([-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
"""Of the epochs of a star, in another order for each."""

MAP = np.array([[0.004, -0.002], [-0.001, -0.001]])
"""Corrections of a channel by half of y, half of x, mag."""

OFFSET = {UNITS[0]: 0.006, UNITS[1]: -0.003}

ERRORS = {"a": 0.02, "b": 0.0, "c": 0.0, "d": 0.0}
"""Error model of the corrections."""


@dataclass(frozen=True)
class Scene:
    """Stars of a unit, shape (N,)."""

    unit: Unit
    ra: np.ndarray
    dec: np.ndarray
    x: np.ndarray
    y: np.ndarray
    colour: np.ndarray
    """g - r of PS1."""
    ps1: np.ndarray
    """In the unit's filter, mag."""
    residual: np.ndarray
    """Mean over the epochs, uncorrected, mag."""

    @property
    def expected(self) -> np.ndarray:
        """Magnitude that PS1 predicts."""
        return self.ps1 - COLOUR_TERM * self.colour

    @property
    def correction(self) -> np.ndarray:
        """What the corrections take off."""
        width, height = QUADRANT_SHAPE_PIX
        half = (self.y > height / 2 + 0.5).astype(int), (self.x > width / 2 + 0.5).astype(int)
        return OFFSET[self.unit] + MAP[half]


def make_scene(unit: Unit, n: int = 150) -> Scene:
    """Stars on a grid of 20 arcsec, of magnitudes that make bins of many, with residuals within 20 mmag."""
    rng = np.random.default_rng(unit.rcid)
    row, column = np.divmod(np.arange(n), 15)
    dec = 20.0 + unit.rcid / 10.0 + row * 20.0 / 3600.0
    ra = 150.0 + column * 20.0 / 3600.0
    x, y = rng.uniform(5.0, QUADRANT_SHAPE_PIX[0], n), rng.uniform(5.0, QUADRANT_SHAPE_PIX[1], n)
    colour = rng.uniform(0.2, 1.0, n)
    ps1 = rng.uniform(13.6, 17.4, n) + COLOUR_TERM * colour
    return Scene(unit, ra, dec, x, y, colour, ps1, rng.uniform(-0.02, 0.02, n))


def write_scene(directory: Path, scenes: list[Scene]) -> Path:
    """Write catalogs (night 8 is bad), and PS1 sources as a table; return its path."""
    directory.mkdir()
    for scene in scenes:
        reference_file(directory, rows_at(scene.ra, scene.dec), scene.unit)
        for night in range(NIGHTS + 1):
            turn = (np.arange(len(scene.ra)) + night) % NIGHTS
            off = 0.3 if night == NIGHTS else DEVIATIONS[turn]
            mag = scene.expected + scene.residual + off
            flux = 10.0 ** (-0.4 * (mag - (26.0 + night / 64.0)))
            rows = rows_at(scene.ra, scene.dec, flux=flux, sigflux=flux / 200.0, xpos=scene.x, ypos=scene.y)
            bad = {"NMATCHES": 3} if night == NIGHTS else {}
            epochal_file(directory, rows, night, scene.unit, CLRCOEFF=COLOUR_TERM, PCOLOR="g-R", **bad)
    path = directory / "ps1.parquet"
    pq.write_table(pa.concat_tables([_ps1(scene) for scene in scenes]), path)
    return path


def _ps1(scene: Scene) -> pa.Table:
    g, r = (scene.ps1, scene.ps1 - scene.colour) if scene.unit.fid == 1 else (scene.ps1 + scene.colour, scene.ps1)
    return pa.table({"ra": scene.ra, "dec": scene.dec, "g": g, "r": r, "i": r - 0.1})


def make_scene_store(place: Path, catalogs: Path) -> Storage:
    """A store of the catalogs."""
    storage = make_store(place, sorted(catalogs.glob("*refpsfcat.fits")))
    append(storage, sorted(catalogs.glob("*_psfcat.fits")))
    return storage


def write_known_corrections(place: Path) -> Path:
    """Corrections of MAP and OFFSET, without a magnitude term."""
    cells = [(u, row, column) for u in UNITS for row in range(2) for column in range(2)]
    units = {"rcid": [u.rcid for u in UNITS], "fid": [u.fid for u in UNITS]}
    nothing = pa.array([None] * len(UNITS), pa.float64())
    tables = {
        "magnitude": pa.table({**units, **dict.fromkeys(("bright", "faint", "slope", "curvature"), nothing)}),
        "position": pa.table(
            {
                "rcid": [u.rcid for u, _, _ in cells],
                "fid": [u.fid for u, _, _ in cells],
                "column": [column for _, _, column in cells],
                "row": [row for _, row, _ in cells],
                "value": [MAP[row, column] for _, row, column in cells],
            }
        ),
        "field": pa.table({"field": [u.field for u in UNITS], **units, "value": [OFFSET[u] for u in UNITS]}),
        "errormodel": pa.table(
            {
                "field": [u.field for u in UNITS],
                **units,
                **{name: [value] * len(UNITS) for name, value in ERRORS.items()},
            }
        ),
        "exposures": _zero_points(),
        "sums": pa.table({"n": [0.0]}),
    }
    write_corrections(place, tables, {"cells_x": 2, "cells_y": 2})
    return place


def _zero_points() -> pa.Table:
    ids = [exposureid_of(20190201250000 + night * 10**6, u.rcid) for u in UNITS for night in range(NIGHTS)]
    zero_points = np.tile(0.001 * np.arange(NIGHTS), len(UNITS))
    return pa.table(
        {
            "exposureid": pa.array(ids, pa.int64()),
            "relzp": zero_points,
            "relzprms": np.full(len(ids), 0.01),
            "nrelzp": pa.array(np.full(len(ids), 99), pa.int32()),
        }
    )


def apply_known_corrections(storage: Storage, place: Path) -> None:
    """Give the store the corrections."""
    report = correct(storage, write_known_corrections(place), runner())
    assert report.committed
