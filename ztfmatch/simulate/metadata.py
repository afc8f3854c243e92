"""Metadata of a survey's images, with the truth: which was made to fail which criterion of references.

Many images, no catalogs: columns are drawn for all images at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Arrays, Ints
from ztfmatch.core.settings import AtLeastOne, Fraction, check, within
from ztfmatch.core.survey import N_RCID

FAULTS: Final = (
    *("good", "fwhm", "status", "infobits", "magzp", "clrcoeff", "maglimit", "median", "rms", "night", "flatness"),
)
"""What an image was made to fail; the first is none."""

_FILTERS: Final = (0.42, 0.47, 0.11)
"""Parts of the units: g, r, i."""

_FIRST_MJD: Final = 58_160
"""Of images that are late enough: 2018-02-11."""

_USUAL: Final = {
    "magzp": ((26.25, 0.05), (26.25, 0.05), (25.6, 0.05)),
    "clrcoeff": ((-0.05, 0.02), (0.10, 0.02), (0.15, 0.02)),
    "maglimit": ((20.6, 0.3), (20.5, 0.3), (19.9, 0.3)),
    "median": ((300.0, 60.0), (400.0, 80.0), (450.0, 80.0)),
    "rms": ((15.0, 2.0), (17.0, 2.0), (20.0, 2.0)),
    "flatdelta": ((0.025, 0.004), (0.022, 0.004), (0.022, 0.004)),
    "flatrms": ((0.022, 0.002), (0.018, 0.002), (0.018, 0.002)),
}
"""Mean and scatter in g, r, i of what an image without faults has."""

_FAULTY: Final = {
    "fwhm": 5.8, "status": 0.0, "infobits": float(1 << 25), "magzp": 24.0, "clrcoeff": 0.5, "maglimit": 17.0,
    "median": 3000.0, "rms": 250.0, "flatness": 0.09,
}  # fmt: skip


@dataclass(frozen=True)
class MetadataConfig:
    """Settings of a survey of images."""

    images: AtLeastOne = 100_000
    units: Annotated[int, within(1, 300_000)] = 1_000
    """Images are spread over the units as unevenly as a survey does: some have few."""
    bad_fraction: Fraction = 0.3
    """Part of the images that fail a criterion, each the same part of them."""
    nights: AtLeastOne = 700
    seed: int = 1
    """Two runs with equal settings give equal tables."""


def simulate_metadata(config: MetadataConfig) -> tuple[pa.Table, npt.NDArray[np.int8]]:
    """Metadata of images, and for each the place in FAULTS of what it was made to fail.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    """
    check(config)
    rng = np.random.default_rng(config.seed)
    n = config.images
    field, rcid, fid = _units(rng, config.units)
    share = rng.gamma(1.5, 1.0, config.units)
    unit = np.sort(rng.choice(config.units, n, p=share / share.sum()))
    fault = np.where(rng.random(n) < config.bad_fraction, rng.integers(1, len(FAULTS), n), 0).astype(np.int8)
    night = rng.integers(0, config.nights, n)
    columns: Arrays = {
        "exposureid": _exposureids(rng, unit, np.where(fault == FAULTS.index("night"), -40, night), rcid[unit]),
        "field": field[unit].astype(np.int16),
        "rcid": rcid[unit].astype(np.int8),
        "fid": fid[unit].astype(np.int8),
        "seeing": np.clip(2.0 * np.exp(0.15 * rng.standard_normal(n)), 1.71, 4.4).astype(np.float32),
        "status": np.ones(n, np.int8),
        "infobits": np.zeros(n, np.int64),
    }
    for name, usual in _USUAL.items():
        mean, scatter = np.array(usual, np.float32).T
        columns[name] = mean[fid[unit] - 1] + scatter[fid[unit] - 1] * np.clip(
            rng.standard_normal(n, np.float32), -3, 3
        )
    for name, value in _FAULTY.items():
        column = {"fwhm": "seeing", "flatness": "flatdelta"}.get(name, name)
        columns[column][fault == FAULTS.index(name)] = value
    return pa.table(columns), fault


def _units(rng: np.random.Generator, units: int) -> tuple[Ints, Ints, Ints]:
    """Field, readout channel and filter of distinct units, in order."""
    fields = -(-units // N_RCID) * 3
    code = np.sort(rng.choice(fields * N_RCID, units, replace=False))
    fid = 1 + np.searchsorted(np.cumsum(_FILTERS), rng.random(units), side="right").clip(0, 2)
    return 201 + code // N_RCID, code % N_RCID, fid


def _exposureids(rng: np.random.Generator, unit: Ints, night: Ints, rcid: Ints) -> Ints:
    """Distinct keys: date, a fraction of the day that numbers the images of a night and channel, and the channel."""
    date = (np.datetime64("1858-11-17") + _FIRST_MJD + night).astype("datetime64[D]")
    day = (date - date.astype("datetime64[M]")).astype(int) + 1
    month = date.astype("datetime64[M]").astype(int)
    calendar = (1970 + month // 12) * 10_000 + (month % 12 + 1) * 100 + day
    order = np.lexsort((rng.permutation(len(unit)), rcid, night))
    key = (night * N_RCID + rcid)[order]
    first = np.concatenate([[True], key[1:] != key[:-1]])
    starts = np.flatnonzero(first)
    place = np.empty(len(unit), np.int64)
    place[order] = np.arange(len(unit)) - np.repeat(starts, np.diff(np.append(starts, len(unit))))
    return np.asarray((calendar * 10**6 + 120_000 + place) * 100 + rcid, np.int64)
