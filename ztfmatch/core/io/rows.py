"""Rows in memory of tables with columns for the unit, or the status, of each."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Array, Ints
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.survey import Unit, unit_codes

UNIT: Final = ("field", "rcid", "fid")
"""Columns that name a unit."""

FOOTPRINT: Final = ("ra", "dec", "radius")
"""Columns that say where the rows of a catalog are: a circle about them, in degrees."""


def rows_of_unit(rows: pa.Table, unit: Unit) -> pa.Table:
    """Those of a unit."""
    return rows.filter(functools.reduce(pc.and_, (pc.equal(rows[name], getattr(unit, name)) for name in UNIT)))


def unit_of(row: Mapping[str, Any]) -> Unit:
    """Unit of a row of the ledger or of the references."""
    return Unit(row["field"], row["rcid"], row["fid"])


def unit_arrays(rows: pa.Table | Mapping[str, Any]) -> dict[str, Ints]:
    """Columns that name the unit of each row, as arrays."""
    return {name: np.asarray(rows[name]).astype(np.int64) for name in UNIT}


def units_of_rows(rows: pa.Table | Mapping[str, Sequence[int]]) -> list[Unit]:
    """Unit of each row."""
    return [Unit(*unit) for unit in zip(*(values.tolist() for values in unit_arrays(rows).values()), strict=True)]


def codes_of_rows(rows: pa.Table | Mapping[str, Array]) -> Ints:
    """One number for the unit of each row, see :func:`~ztfmatch.core.survey.unit_codes`."""
    return unit_codes(**unit_arrays(rows))


def codes_of_units(units: Iterable[Unit]) -> Ints:
    """The same of units, shape (U,)."""
    return unit_codes(*np.array([[getattr(unit, name) for name in UNIT] for unit in units], np.int64).reshape(-1, 3).T)


def active_rows(objects: pa.Table) -> pa.Table:
    """Those of objects that are active."""
    return objects.filter(pc.equal(objects["status"], ACTIVE))
