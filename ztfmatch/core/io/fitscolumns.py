"""Columns of a catalog as the survey writes them, also from files rewritten by other software.

A catalog of the survey is used as it lies in memory. One that other software saved again (astropy, pandas, TOPCAT) may
have wider or unsigned integers, doubles in place of floats, columns beside its own, masked values, or right ascensions
below 0 or above 360 degrees: then its columns are copied into the survey's types, if nothing is lost by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Array, Floats, Mask, Records
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.fits import FitsTable

_FLAGS: Final = "flags"
_IDENTIFYING: Final = ("sourceid", _FLAGS)
"""Columns of whole numbers; a row without one of them cannot be used."""

_TURN: Final = 360.0


@dataclass(frozen=True)
class Rows:
    """Rows of a catalog in the survey's types."""

    records: Records
    """Big-endian; the file's own bytes where these are as they should be."""
    undefined: Mask | None = None
    """Rows whose number or flags are masked, shape (N,); their ra is NaN, which no usable row has. None for none."""
    wrapped: int = 0
    """Right ascensions that were brought into 0 to 360 degrees."""


def survey_rows(table: FitsTable, required: Mapping[str, str]) -> Rows:
    """Rows in the survey's types.

    Parameters
    ----------
    table : FitsTable
    required : mapping of str to str
        NumPy's type of each column that there must be.

    Raises
    ------
    CatalogError
        With code ``layout`` if a column is missing, or its values do not fit.
    """
    plain = _is_plain(table, required)
    undefined, outside = _undefined(table), _outside(table.records, required)
    if plain and undefined is None and outside is None:
        return Rows(table.records)
    rows = np.zeros(len(table.records), np.dtype([(name, form) for name, form in required.items()]))
    for name in required:
        rows[name] = _converted(table, name, np.dtype(required[name]))
    if outside is not None:
        rows["ra"][outside] = wrap(rows["ra"][outside].astype(np.float64))
    if undefined is not None:
        rows["ra"][undefined] = np.nan
        rows["sourceid"][undefined] = 0
    return Rows(rows, undefined, 0 if outside is None else int(outside.sum()))


def wrap(ra: Floats) -> Floats:
    """Right ascensions, of -360 to 720 degrees, in 0 <= ra < 360 (NumPy's remainder may be 360)."""
    wrapped: Floats = np.where(ra < 0.0, ra + _TURN, ra)
    wrapped -= _TURN * (wrapped >= _TURN)
    return wrapped


def _is_plain(table: FitsTable, required: Mapping[str, str]) -> bool:
    """Whether every column is there as the survey has it; raises where one is missing."""
    found = table.records.dtype
    names = found.names or ()
    for name in required:
        if name not in names:
            raise CatalogError("layout", f"no column {name!r}; it has {', '.join(map(repr, names)) or 'none'}")
    return table.scales.keys().isdisjoint(required) and all(found[name].str == form for name, form in required.items())


def _outside(records: Records, required: Mapping[str, str]) -> Mask | None:
    """Rows whose right ascension is not within 0 to 360 degrees, but a turn away from it."""
    ra = records["ra"]
    if ra.dtype.str != required["ra"]:
        return None  # refused where it is converted
    ra = ra.astype(np.float64)
    outside = ((ra < 0.0) & (ra >= -_TURN)) | ((ra > _TURN) & (ra < 2.0 * _TURN))
    return outside if outside.any() else None


def _undefined(table: FitsTable) -> Mask | None:
    """Rows whose number or flags are masked: TNULL is the stored value that stands for none."""
    masked = None
    for i, name in enumerate(table.records.dtype.names or (), 1):
        if name in _IDENTIFYING and f"TNULL{i}" in table.extension:
            of_column = table.records[name] == table.extension[f"TNULL{i}"]
            masked = of_column if masked is None else masked | of_column
    return masked if masked is not None and np.any(masked) else None


def _converted(table: FitsTable, name: str, wanted: np.dtype[Any]) -> Array:
    """A column in the type that is wanted, equal in every value."""
    stored = _unscaled(table, name)
    if stored.dtype == wanted:
        return stored
    widened = stored.dtype.kind == "f" and wanted.kind == "f" and stored.dtype.itemsize > wanted.itemsize
    if not (widened or (stored.dtype.kind in "iu" and wanted.kind == "i")):
        raise CatalogError("layout", f"column {name!r} is {_described(stored.dtype)}; expected {wanted.str}")
    if name == _FLAGS and stored.dtype.kind == "u" and stored.dtype.itemsize == wanted.itemsize:
        return stored.view(f"{stored.dtype.byteorder}i{wanted.itemsize}")  # 65535 is -1, the edge
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(wanted)
        lost = (values != stored) & (stored == stored)  # but where it is NaN
    if (defined := _undefined(table)) is not None:
        lost &= ~defined
    if lost.any():
        row = int(np.argmax(lost))
        raise CatalogError(
            "layout",
            f"column {name!r} is {_described(stored.dtype)}, expected {wanted.str}, which does not hold "
            f"{stored[row]} of row {row + 1}",
        )
    return values


def _unscaled(table: FitsTable, name: str) -> Array:
    """Stored values, or what they stand for by TZERO: unsigned integers are stored as signed ones."""
    stored: Array = table.records[name]
    if name not in table.scales:
        return stored
    scale, zero = table.scales[name]
    bits = 8 * stored.dtype.itemsize
    if scale == 1 and stored.dtype.kind == "i" and zero == 1 << (bits - 1):
        native = stored.astype(f"i{bits // 8}").view(f"u{bits // 8}")
        unsigned: Array = native ^ native.dtype.type(1 << (bits - 1))
        return unsigned
    if scale == 1 and stored.dtype.kind == "u" and zero == -(1 << (bits - 1)):
        return (stored.astype(np.int64) + int(zero)).astype(f"i{bits // 8}")
    raise CatalogError(
        "layout",
        f"column {name!r} is scaled (TSCAL {scale!r}, TZERO {zero!r}); expected plain values, or those of unsigned "
        "integers",
    )


def _described(kind: np.dtype[Any]) -> str:
    return "no plain number" if kind.kind == "V" else kind.str
