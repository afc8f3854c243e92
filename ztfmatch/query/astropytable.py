"""Arrow tables as astropy tables, and files of formats that astropy writes."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.schema.types import plain_type
from ztfmatch.core.schema.voparquet import UNITS

_WIDER: Final = {pa.int8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
"""Types that VOTable does not have, and those that hold the same numbers."""

_TIMES: Final = frozenset({"hmjd", "obsmjd", "firsthmjd", "lasthmjd"})
"""Columns of MJD, UTC; those of ``hmjd`` are heliocentric, which astropy has no scale for."""


def astropy_table(rows: pa.Table, times: bool = False) -> Any:
    """Table with the units, descriptions and UCDs (``meta["ucd"]``) of the columns; nulls are masked, texts are texts.

    Types and units are such that it can be written as VOTable (but for digests, of 64 bits unsigned), FITS and ECSV.

    Parameters
    ----------
    rows : pyarrow.Table
    times : bool
        Whether columns of MJD are :class:`astropy.time.Time` (UTC); that of ``hmjd`` is heliocentric.
    """
    from astropy.table import Column, MaskedColumn, Table
    from astropy.time import Time

    table = Table()
    for field, column in zip(rows.schema, rows.columns, strict=True):
        nulls = column.is_null().to_numpy()
        values, about = _values(column), _about(field)
        if times and field.name in _TIMES:
            table[field.name] = Time(np.ma.MaskedArray(values, nulls) if nulls.any() else values, format="mjd")
            table[field.name].info.description = about["description"]
            table[field.name].info.meta = about["meta"]
        else:
            table[field.name] = MaskedColumn(values, mask=nulls, **about) if nulls.any() else Column(values, **about)
    return table


def _about(field: pa.Field) -> dict[str, Any]:
    """Name, unit, description and UCD of a column, as astropy's columns take them."""
    from astropy import units

    about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    unit = about.get("unit")
    return {
        "name": field.name,
        "description": about.get("description"),
        "unit": units.Unit(UNITS.get(unit, unit)) if unit else None,
        "meta": {"ucd": about["ucd"]} if "ucd" in about else {},
    }


def _values(column: pa.ChunkedArray) -> Any:
    """Values with something in place of nulls, shape (N,)."""
    kind = plain_type(column.type)
    column = column.cast(_WIDER.get(kind, kind))
    if pa.types.is_string(kind):
        return np.array(column.fill_null("").to_pylist(), str)
    return column.fill_null(0).to_numpy() if column.null_count else column.to_numpy()


def file_bytes(rows: pa.Table, form: str) -> bytes:
    """A file of astropy's: ``fits``, ``votable`` (its binary form) or ``ascii.ecsv``."""
    if form == "fits":
        return _fits_bytes(astropy_table(rows))
    if form == "ascii.ecsv":
        text = io.StringIO()
        astropy_table(rows).write(text, format=form)
        return text.getvalue().encode()
    stream = io.BytesIO()
    astropy_table(rows).write(stream, format=form, tabledata_format="binary2")
    return stream.getvalue()


def _fits_bytes(table: Any) -> bytes:
    """A binary table; its header has descriptions (``TCOMMn``) and UCDs (``TUCDn``), as TOPCAT writes them."""
    from astropy.io import fits

    made = fits.table_to_hdu(table)
    for number, column in enumerate(table.columns.values(), 1):
        for key, said in (("TCOMM", column.description), ("TUCD", column.meta.get("ucd"))):
            if said:
                made.header[f"{key}{number}"] = said
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), made]).writeto(stream)
    return stream.getvalue()
