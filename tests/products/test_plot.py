"""Pictures of lightcurves: what is in them, and that they are the same each time."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ztfmatch.errors import ConfigError
from ztfmatch.products.plot import (
    BAND_COLOURS,
    MAX_LEGEND_CURVES,
    PHASE_ZERO_HMJD,
    PlotOptions,
    _figure,
    _sexagesimal,
    plot_lightcurves,
)
from ztfmatch.survey import Unit, objectid_base

PERIOD = 0.5678684
RA, DEC = 210.80227, 54.34895


def curve(unit: Unit, sourceid: int = 123, mean: float = 16.4, amplitude: float = 0.9, n: int = 240) -> pa.Table:
    """A sawtooth of a star that sets for months, with some flagged epochs and some without magnitude."""
    rng = np.random.default_rng(unit.field * 1000 + unit.rcid * 10 + unit.fid + sourceid)
    night = np.sort(rng.choice(np.flatnonzero(np.arange(1200) % 365 < 230), n, replace=False))
    hmjd = 58210.0 + night + rng.uniform(0.15, 0.45, n)
    phase = (hmjd - PHASE_ZERO_HMJD) / PERIOD % 1.0
    mag = mean + amplitude * np.where(phase < 0.85, phase / 0.85, (1.0 - phase) / 0.15) ** 0.7
    magerr = 0.012 + 0.02 * 10 ** (0.4 * (mag - 17.5))
    flags = rng.choice([0, 32768, 16, 65535], n, p=[0.9, 0.075, 0.02, 0.005]).astype(np.uint16)
    mag = rng.normal(mag, magerr * np.where(flags == 0, 1.0, 4.0))
    return pa.table(
        {
            "objectid": np.full(n, objectid_base(unit) + sourceid),
            "fid": np.full(n, unit.fid, np.int8),
            "field": np.full(n, unit.field, np.int16),
            "rcid": np.full(n, unit.rcid, np.int8),
            "hmjd": hmjd,
            "mag": pa.array(mag.astype(np.float32), mask=np.arange(n) % 80 == 70),
            "magerr": pa.array(magerr.astype(np.float32), mask=np.arange(n) % 80 == 70),
            "catflags": flags,
            "programid": pa.nulls(n, pa.int8()),
            "ra": RA + rng.normal(0.0, 2e-5, n),
            "dec": DEC + rng.normal(0.0, 2e-5, n),
        }
    )


def rr_lyrae(bands: tuple[int, ...] = (1, 2), field: int = 679) -> pa.Table:
    """One star in several bands."""
    settings = {1: (16.4, 0.9), 2: (16.3, 0.62), 3: (16.25, 0.45)}
    return pa.concat_tables(
        [curve(Unit(field, 16, fid), 123, *settings[fid], n=240 - 60 * (fid == 3)) for fid in bands]
    )


def cone() -> pa.Table:
    """The star in g and r, and in r once more, from an overlapping field."""
    return pa.concat_tables([rr_lyrae(), curve(Unit(1679, 43, 2), 77, 16.3, 0.62, n=90)])


def crowd() -> pa.Table:
    """Three dozen stars of different brightness."""
    return pa.concat_tables([curve(Unit(679, 16, 1 + k % 3), k, 15.0 + 0.15 * k, 0.1, n=80 + k) for k in range(36)])


def with_column(epochs: pa.Table, name: str, values: object) -> pa.Table:
    field = epochs.schema.field(name)
    return epochs.set_column(epochs.column_names.index(name), field, pa.array(values, field.type))


def with_flags(epochs: pa.Table, flags: int) -> pa.Table:
    return with_column(epochs, "catflags", np.full(epochs.num_rows, flags))
