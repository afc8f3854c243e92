"""Arrow tables as astropy tables, and files in astropy's formats."""

from __future__ import annotations

import base64
import io
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ztfmatch.core.plain import Keywords
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


def _about(field: pa.Field) -> Keywords:
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
    return column.fill_null(pa.scalar(0).cast(column.type)).to_numpy() if column.null_count else column.to_numpy()


def file_bytes(rows: pa.Table, form: str) -> bytes:
    """A file of astropy's: ``fits``, ``votable`` (its binary form) or ``ascii.ecsv``."""
    if form == "fits":
        return _fits_bytes(astropy_table(rows))
    if form == "ascii.ecsv":
        return _ecsv_bytes(rows)
    return _votable_bytes(astropy_table(rows))


def _ecsv_bytes(rows: pa.Table) -> bytes:
    """ECSV with astropy's head, and rows that Arrow writes: astropy writes value by value."""
    head, body = io.StringIO(), io.BytesIO()
    astropy_table(rows.slice(0, 0)).write(head, format="ascii.ecsv", delimiter=",")
    plain = [column.cast(plain_type(column.type)) for column in rows.columns]
    words = [pc.if_else(column, "True", "False") if pa.types.is_boolean(column.type) else column for column in plain]
    pyarrow.csv.write_csv(pa.table(words, names=rows.column_names), body)
    return head.getvalue().encode() + body.getvalue().partition(b"\n")[2]


def _votable_bytes(table: Any) -> bytes:
    """VOTable with astropy's head, and rows that are encoded a column at a time: astropy encodes value by value."""
    stream = io.BytesIO()
    table[:1].write(stream, format="votable", tabledata_format="binary2")
    if not len(table):
        return stream.getvalue()
    columns = [_big_endian(np.ma.getdata(column)) for column in table.columns.values()]
    masks = [np.ma.getmaskarray(column) for column in table.columns.values()]
    flags = np.packbits(np.array(masks, bool).T.reshape(len(table), -1), axis=1)
    kinds = [(f"f{number}", part.dtype, part.shape[1:]) for number, part in enumerate([flags, *columns])]
    packed = np.empty(len(table), kinds)
    for kind, part in zip(kinds, [flags, *columns], strict=True):
        packed[kind[0]] = part
    head, start, first = stream.getvalue().partition(b'<STREAM encoding="base64">')
    _, end, tail = first.partition(b"</STREAM>")
    return b"".join([head, start, b"\n", base64.encodebytes(packed.tobytes()), end, tail])


def _big_endian(values: Any) -> Any:
    """Values as a VOTable's binary rows have them, shape (N,); of texts of n characters (N, n), UTF-16."""
    if values.dtype.kind == "U":
        width = max(values.dtype.itemsize // 4, 1)
        return np.ascontiguousarray(values, f"<U{width}").view("<u4").reshape(-1, width).astype(">u2")
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * 0x88  # the bit that the standard has, and that which astropy has
    return values.astype(values.dtype.newbyteorder(">"))


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
