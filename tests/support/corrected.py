"""Sets of corrections made by hand, what they must do to a magnitude by plain Python, and a survey to derive one of."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers import append, epochal_file, make_store, reference_file, rows_at

import ztfmatch
from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.corrections import write_corrections
from ztfmatch.core.schema.correctiondata import GRADIENT
from ztfmatch.core.survey import Unit, objectid_base

CELLS = 4
"""Of the map along x and y."""
BRIGHT, FAINT = 14.0, 20.0
HOLE = 5
"""Cell without a value."""


def cell_value(unit: Unit, cell: int) -> float | None:
    return None if cell == HOLE else 0.001 * ((cell * 7 + unit.rcid) % 11 - 5)


def offset(unit: Unit) -> float:
    return 0.002 * (unit.field % 7 - 3)


def slopes(unit: Unit) -> tuple[float, float]:
    return 0.004, -0.0005 * unit.fid


def write_set(
    place: Path, units: Iterable[Unit], offsets: Iterable[Unit] | None = None, errors: dict[Unit, Any] | None = None,
    exposures: dict[int, tuple[float, float, int]] | None = None, others: dict[str, bytes] | None = None,
    data: dict[str, pa.Table] | None = None,
) -> str:  # fmt: skip
    """Write corrections of the channels of some units, offsets of some of these; return the name of the set.

    ``data`` are tables of single exposures and objects.
    """
    units = sorted(units)
    channels = sorted({(unit.rcid, unit.fid) for unit in units})
    cells = [(c, Unit(1, *c), k) for c in channels for k in range(CELLS * CELLS)]
    with_offset = units if offsets is None else sorted(offsets)
    models = sorted((errors or {}).items())
    measured = sorted((exposures or {}).items())
    none = [0.001] * len(cells)
    tables = {
        "magnitude": pa.table({
            "rcid": _int8(c[0] for c in channels), "fid": _int8(c[1] for c in channels),
            "bright": _floats(BRIGHT for _ in channels), "faint": _floats(FAINT for _ in channels),
            "slope": _floats(slopes(Unit(1, *c))[0] for c in channels),
            "curvature": _floats(slopes(Unit(1, *c))[1] for c in channels),
        }),
        "position": pa.table({
            "rcid": _int8(c[0] for c, _, _ in cells), "fid": _int8(c[1] for c, _, _ in cells),
            "column": pa.array([k % CELLS for _, _, k in cells], pa.int16()),
            "row": pa.array([k // CELLS for _, _, k in cells], pa.int16()),
            "value": _floats(cell_value(u, k) for _, u, k in cells), "error": _floats(none),
        }),
        "field": pa.table({
            "field": pa.array([u.field for u in with_offset], pa.int16()), "rcid": _int8(u.rcid for u in with_offset),
            "fid": _int8(u.fid for u in with_offset), "value": _floats(offset(u) for u in with_offset),
            "error": _floats(0.001 for _ in with_offset),
        }),
        "errormodel": pa.table({
            "field": pa.array([u.field for u, _ in models], pa.int16()), "rcid": _int8(u.rcid for u, _ in models),
            "fid": _int8(u.fid for u, _ in models),
            **{name: _floats(model[i] for _, model in models) for i, name in enumerate("abcd")},
        }),
        "exposures": pa.table({
            "exposureid": pa.array([i for i, _ in measured], pa.int64()),
            "relzp": _floats(v[0] for _, v in measured), "relzprms": _floats(v[1] for _, v in measured),
            "nrelzp": pa.array([v[2] for _, v in measured], pa.int32()),
        }),
        "sums": pa.table({"rcid": _int8([])}),
    }  # fmt: skip
    about = {"cells_x": CELLS, "cells_y": CELLS, "snapshot": 0, "store": "none"}
    return write_corrections(place, tables | (data or {}), about, others)


def data_of(unit: Unit, exposureids: list[int]) -> dict[str, pa.Table]:
    """Terms of single exposures, and colours of objects."""
    n = len(exposureids)
    terms = {name: pa.array([0.001 * (i + 1)] * n, pa.float64()) for i, name in enumerate(GRADIENT)}
    first = objectid_base(unit)
    return {
        "exposureterms": pa.table(
            {"field": pa.array([unit.field] * n, pa.int16()), "exposureid": exposureids, **terms}
        ),
        "colours": pa.table({"objectid": [first, first + 1], "colour": pa.array([0.3, 0.7], pa.float32())}),
    }


def _int8(values: Iterable[int]) -> pa.Array:
    return pa.array(list(values), pa.int8())


def _floats(values: Iterable[float | None]) -> pa.Array:
    return pa.array(list(values), pa.float64())


def expected(unit: Unit, magzp: float, row: dict[str, Any], has_offset: bool = True) -> tuple[np.float32 | None, int]:
    """Corrected magnitude of a detection, and its flags."""
    if not row["psfflux"] > 0:
        return None, 0
    mag = magzp - 2.5 * float(np.log10(np.float64(row["psfflux"])))
    off, flags = 0.0, 0
    if BRIGHT <= mag <= FAINT:
        linear, square = slopes(unit)
        off += (mag - FAINT) * (linear + (mag - FAINT) * square)
        flags |= 1
    else:
        flags |= 8
    column = min(max(math.floor((row["xpos"] - 0.5) * CELLS / 3072), 0), CELLS - 1)
    line = min(max(math.floor((row["ypos"] - 0.5) * CELLS / 3080), 0), CELLS - 1)
    value = cell_value(unit, line * CELLS + column)
    flags |= 16 if value is None else 2
    off += value or 0.0
    flags |= 4 if has_offset else 32
    off += offset(unit) if has_offset else 0.0
    return np.float32(mag - off), flags


PUBLIC, PRIVATE = 1, 3
ENOUGH = CalibrateConfig(cells_x=2, cells_y=2, min_stars=5, min_cell_stars=2, max_error=0.5)
"""Corrections of a few hundred stars."""


def calibrated_survey(place: Path, seed: int, exposures: int) -> ztfmatch.Store:
    """One unit of constant stars, noisier towards the faint, with PS1 beside it, ``ps1.parquet``.

    Public epochs are always the same. There are as many private ones as is told, whose magnitudes and scatter differ
    with the seed.
    """
    place.mkdir()
    sky = np.random.default_rng(5)
    at = np.arange(400)
    ra, dec, mag = 150.0 + 0.004 * (at % 20), 2.0 + 0.004 * (at // 20), sky.uniform(14.0, 20.0, 400)
    noise = 0.01 * 10.0 ** (0.2 * (mag - 16.0))
    place_on_quadrant = {"xpos": sky.uniform(1, 3072, 400), "ypos": sky.uniform(1, 3080, 400)}
    pq.write_table(pa.table({"ra": ra, "dec": dec, "g": mag + 0.5, "r": mag, "i": mag - 0.2}), place / "ps1.parquet")
    storage = make_store(place / "store", [reference_file(place, rows_at(ra, dec))])
    nights = [(sky, 2 * night, PUBLIC) for night in range(8)]
    secret = np.random.default_rng(seed)
    nights += [(secret, 2 * night + 1, PRIVATE) for night in range(exposures)]
    for rng, night, program in nights:
        off = 0.02 + (0.0 if program == PUBLIC else 0.05 * seed)
        seen = rng.random(400) < 0.9
        flux = 10.0 ** (-0.4 * (mag + off + rng.normal(0.0, noise) - 26.0 - night / 64.0))
        rows = rows_at(ra, dec, flux=flux, sigflux=noise * flux, **place_on_quadrant)[seen]
        append(storage, [epochal_file(place, rows, night, CLRCOEFF=0.01, PROGRMID=program)])
    return ztfmatch.open_store(place / "store")
