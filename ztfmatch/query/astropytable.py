"""Arrow tables as astropy tables."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import pyarrow as pa

_WIDER: Final = {pa.int8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
"""Types that VOTable does not have, and those that hold the same numbers."""

_UNITS: Final = {"DN": "adu"}
"""Units that FITS and VOTable have under another name."""


def astropy_table(rows: pa.Table) -> Any:
    """Table with the units and descriptions of the columns; nulls are masked, texts are texts.

    Types and units are such that it can be written as VOTable (but for digests, of 64 bits unsigned), FITS and ECSV.
    """
    from astropy import units
    from astropy.table import Column, MaskedColumn, Table

    table = Table()
    for field, column in zip(rows.schema, rows.columns, strict=True):
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        unit = about.get("unit")
        options = {"name": field.name, "description": about.get("description")}
        options["unit"] = units.Unit(_UNITS.get(unit, unit)) if unit else None
        nulls = column.is_null().to_numpy()
        values = _values(column)
        table[field.name] = MaskedColumn(values, mask=nulls, **options) if nulls.any() else Column(values, **options)
    return table


def _values(column: pa.ChunkedArray) -> Any:
    """Values with something in place of nulls, shape (N,)."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    column = column.cast(_WIDER.get(kind, kind))
    if pa.types.is_string(kind):
        return np.array(column.fill_null("").to_pylist(), str)
    return column.fill_null(0).to_numpy() if column.null_count else column.to_numpy()


def file_bytes(rows: pa.Table, form: str) -> bytes:
    """A file of astropy's: ``fits``, ``votable`` (its binary form) or ``ascii.ecsv``."""
    table = astropy_table(rows)
    if form == "ascii.ecsv":
        text = io.StringIO()
        table.write(text, format=form)
        return text.getvalue().encode()
    stream = io.BytesIO()
    table.write(stream, format=form, **({"tabledata_format": "binary2"} if form == "votable" else {}))
    return stream.getvalue()
