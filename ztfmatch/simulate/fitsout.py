"""PSF catalogs as FITS in the survey's layout: a header-only primary, one table of 58-byte rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Records

Card = bool | int | float | str

ROW: Final = np.dtype(
    [
        ("sourceid", ">i4"),
        ("xpos", ">f4"),
        ("ypos", ">f4"),
        ("ra", ">f8"),
        ("dec", ">f8"),
        *((name, ">f4") for name in ("flux", "sigflux", "mag", "sigmag", "snr", "chi", "sharp")),
        ("flags", ">i2"),
    ]
)
"""One row of a PSF catalog."""

_UNITS: Final = {
    "xpos": "pix",
    "ypos": "pix",
    "ra": "deg",
    "dec": "deg",
    "flux": "DN",
    "sigflux": "DN",
    "mag": "mag",
    "sigmag": "mag",
}
_FORMS: Final = {">i4": "1J", ">f4": "1E", ">f8": "1D", ">i2": "1I"}
_BLOCK: Final = 2880
_COMMENTS: Final = {
    "OBSMJD": "Start of exposure, modified Julian date",
    "EXPTIME": "Exposure time [s]",
    "EXPID": "Exposure identifier",
    "PROGRMID": "Program identifier",
    "AIRMASS": "Airmass at telescope pointing",
    "SEEING": "Median FWHM of point sources [arcsec]",
    "MAGLIM": "5-sigma limiting magnitude [mag]",
    "PSFRUNSW": "Name of PSF-fitting script/software",
    "PSFRUNVN": "Version of PSF-fitting script/software",
    "RUNDATE": "Date this file was generated",
    "NSOURCES": "Total number of sources",
    "MAGZP": "Magnitude zero point [mag]",
    "NMATCHES": "Number of photometric calibrators used",
    "MAGZPUNC": "Magnitude zero point uncertainty [mag]",
    "MAGZPRMS": "Magnitude zero point RMS deviation [mag]",
    "CLRCOEFF": "Color coefficient from linear fit",
    "CLRCOUNC": "Color coefficient uncertainty from linear fit",
    "PCOLOR": "Calibrator color used for calibration",
    "FIELDID": "Field identifier",
    "CCDID": "CCD identifier [1..16]",
    "QID": "Quadrant image identifier [1..4]",
    "RCID": "Readout-channel identifier [0..63]",
    "FILTERID": "Filter identifier",
    "RFID": "Reference image identifier",
    "INFOBITS": "Processing status bits: see image header",
}


def card(key: str, value: Card, comment: str = "") -> str:
    """One fixed-format header card of 80 characters.

    Raises
    ------
    ValueError
        If the card does not fit, or the number is not finite.
    """
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        quoted = value.replace("'", "''")
        text = f"'{quoted:<8}'"
    else:
        if not np.isfinite(value):
            raise ValueError(f"card {key} is {value}; a FITS header holds finite numbers only")
        text = f"{value!r:>20}".upper()
    line = f"{key:<8}= {text:<20}"
    if comment:
        line = f"{line} / {comment}"
    if len(f"{key:<8}= {text}") > 80:
        raise ValueError(f"card {key} does not fit in 80 characters: {line}")
    return f"{line:<80}"[:80]


def _block(cards: list[str]) -> bytes:
    text = "".join(cards) + f"{'END':<80}"
    return text.ljust(-(-len(text) // _BLOCK) * _BLOCK).encode("ascii")


def _table_header(n_rows: int) -> bytes:
    cards = [
        card("XTENSION", "BINTABLE", "binary table extension"),
        card("BITPIX", 8, "8-bit bytes"),
        card("NAXIS", 2, "2-dimensional binary table"),
        card("NAXIS1", ROW.itemsize, "width of table in bytes"),
        card("NAXIS2", n_rows, "number of rows in table"),
        card("PCOUNT", 0, "size of special data area"),
        card("GCOUNT", 1, "one data group (required keyword)"),
        card("TFIELDS", len(ROW.names or ()), "number of fields in each row"),
    ]
    for number, name in enumerate(ROW.names or (), start=1):
        cards.append(card(f"TTYPE{number}", name, f"label for field {number:3d}"))
        cards.append(card(f"TFORM{number}", _FORMS[ROW[name].str], "data format of field"))
        if name in _UNITS:
            cards.append(card(f"TUNIT{number}", _UNITS[name], "physical unit of field"))
    cards.append(card("EXTNAME", "PSF_CATALOG", "name of this binary table extension"))
    return _block(cards)


def catalog_bytes(keys: Mapping[str, Card], rows: Records) -> bytes:
    """Compose the content of a catalog file.

    Parameters
    ----------
    keys : mapping
        Header keys of the primary, in order.
    rows : structured ndarray of dtype ``ROW``, shape (N,)

    Returns
    -------
    bytes
        A whole number of 2,880-byte blocks.
    """
    primary = [
        card("SIMPLE", True, "file does conform to FITS standard"),
        card("BITPIX", 16, "number of bits per data pixel"),
        card("NAXIS", 0, "number of data axes"),
        card("EXTEND", True, "FITS dataset may contain extensions"),
    ]
    primary += [card(key, value, _COMMENTS.get(key, "")) for key, value in keys.items()]
    data = rows.tobytes()
    return b"".join([_block(primary), _table_header(len(rows)), data, bytes(-len(data) % _BLOCK)])


def write_catalog(path: Path, keys: Mapping[str, Card], rows: Records) -> int:
    """Write a catalog, making its directory; returns the file's size in bytes."""
    content = catalog_bytes(keys, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return len(content)
