"""Columns of the store as rows of matchfiles: statistics, sources, epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Array, Records
from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.schema.statistics import PERCENTILES, STANDARD_DEVIATIONS
from ztfmatch.matchfile import schema as layout

Arrays = Mapping[str, Array]

_ARRAYS: Final = {
    **{
        name: tuple(f"{name}_{k}" for k in STANDARD_DEVIATIONS)
        for name in (f"n{side}meanbystd" for side in ("above", "below", "consecabove", "consecbelow", "consecfrom"))
    },
    "percentiles": tuple(f"percentiles_{suffix}" for suffix, _ in PERCENTILES),
}
"""Columns of several numbers, by the columns here that each is made of."""

_IN_RADIANS: Final = "astrometricrms"
"""The survey's files have it in radians, whatever their document says."""


def source_rows(columns: Arrays, statistics: Arrays) -> Records:
    """Rows of ``sources`` or ``transients``.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (N,) each
        ``matchid``, ``ra``, ``dec`` and those of ``refmag`` ... that are known.
    statistics : mapping of str to ndarray, shape (N,) each
        As :func:`ztfmatch.core.kernels.statistics.lightcurve_statistics` gives them.
    """
    rows = np.zeros(len(columns["ra"]), layout.SOURCES)
    for name in layout.SOURCES.names or ():
        if name in _ARRAYS:
            for place, part in enumerate(_ARRAYS[name]):
                rows[name][:, place] = _fitting(statistics[part], layout.SOURCES[name].base)
        elif name in columns:
            rows[name] = columns[name]
        elif name in statistics:
            rows[name] = _fitting(statistics[name], layout.SOURCES[name])
        elif layout.SOURCES[name].kind == "f":
            rows[name] = np.nan
    rows[_IN_RADIANS] = np.radians(rows[_IN_RADIANS])
    for name, values in zip("xyz", unit_vectors(columns["ra"], columns["dec"]).T, strict=True):
        rows[name] = values
    return rows


def _fitting(values: Array, dtype: np.dtype[Any]) -> Array:
    """Values that the type of a column can hold: counts are cut off at its largest."""
    return np.minimum(values, np.iinfo(dtype).max) if dtype.kind == "u" else values


def epoch_rows(dtype: np.dtype[Any], columns: Arrays) -> Records:
    """Rows of ``sourcedata`` or ``transientdata`` from columns of the same names."""
    rows = np.zeros(len(columns["ra"]), dtype)
    for name in dtype.names or ():
        rows[name] = columns[name]
    return rows
