"""Read a FITS binary table at the speed of the disk.

Only what the survey's catalogs use: a primary header without data, then one BINTABLE, whose columns of other kinds than
plain numbers are skipped. The oracle in the tests is astropy, which needs some ten milliseconds where this needs half
of one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Records
from ztfmatch.core.errors import CatalogError

BLOCK: Final = 2880
FITS_MAGIC: Final = b"SIMPLE  ="
_CARD: Final = 80
_ROWS_CARD: Final = "NAXIS2  = "
_MAX_HEADER_BLOCKS: Final = 64
_MAX_ROW_BYTES: Final = 1 << 27
_FORMATS: Final = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_FORM: Final = re.compile(r"(\d{0,9})([LXBIJKAEDCMPQ])")
_BITS: Final = dict(zip("LXBIJKAEDCMPQ", (8, 1, 8, 16, 32, 64, 8, 32, 64, 64, 128, 64, 128), strict=True))
"""Of one element of each kind of column."""


class Header(Mapping[str, Any]):
    """Keys and values of a header; a value is parsed when it is first asked for.

    Parameters
    ----------
    text : str
        Its cards, without END.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @functools.cached_property
    def _cards(self) -> dict[str, str]:
        return dict(self._all_cards)

    @functools.cached_property
    def _all_cards(self) -> list[tuple[str, str]]:
        """Key of each card, and the text behind its ``= ``."""
        text = self.text
        return [
            (text[at : at + 8].rstrip(), text[at + 10 : at + _CARD])
            for at in range(0, len(text), _CARD)
            if text[at + 8 : at + 10] == "= "
        ]

    def __getitem__(self, key: str) -> Any:
        """Value of a key.

        Raises
        ------
        KeyError
            If there is no such key.
        CatalogError
            With code ``contradiction`` if it is there twice with different values: FITS does not say which counts.
        """
        value = _parse_value(self._cards[key])
        for name, text in self._all_cards if len(self._cards) < len(self._all_cards) else ():
            if name == key and (first := _parse_value(text)) != value:
                raise CatalogError("contradiction", f"{key} is both {first!r} and {value!r} in one header")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, key: object) -> bool:
        return key in self._cards


@dataclass(frozen=True)
class FitsTable:
    """Headers and rows of a catalog; ``records`` is a big-endian view of the file's bytes."""

    primary: Header
    extension: Header
    records: Records
    """Columns that are no plain numbers are of void type."""
    scales: Mapping[str, tuple[Any, Any]]
    """TSCAL and TZERO of the columns where they change anything."""
    edges: tuple[int, int, int, int]
    """Bytes at which the two headers begin, and the data of the table begin and end, padding included."""


def read_table(data: bytes) -> FitsTable:
    """Parse a whole file held in memory.

    Parameters
    ----------
    data : bytes
        The file. Rows are not copied: ``records`` refers to it.

    Raises
    ------
    CatalogError
        With code ``empty``, ``not-fits``, ``truncated``, ``compressed``, ``layout`` or ``contradiction``. Nothing is
        allocated on a header's word: the rows that NAXIS2 promises must be in ``data``.
    """
    if not data:
        raise CatalogError("empty", "the file has 0 bytes; expected a FITS binary table")
    if not data.startswith(FITS_MAGIC):
        raise CatalogError("not-fits", f"the file starts with {data[:9]!r}; expected {FITS_MAGIC!r}")
    primary, offset = _read_header(data, 0, "primary")
    if primary.get("NAXIS", 0) != 0:
        raise CatalogError("layout", f"the primary HDU has NAXIS = {primary['NAXIS']!r}; expected a header only")
    begin = offset
    extension, offset = _read_header(data, offset, "table")
    layout, rows = _layout(extension)
    dtype = layout.dtype
    held = len(data) - offset
    if rows * dtype.itemsize > held:
        raise CatalogError(
            "truncated",
            f"NAXIS2 = {rows} rows of {dtype.itemsize} bytes need {rows * dtype.itemsize} bytes; the file holds {held}",
        )
    heap = extension.get("PCOUNT", 0)
    size = rows * dtype.itemsize + (heap if isinstance(heap, int) and heap > 0 else 0)
    edges = 0, begin, offset, min(offset + -(-size // BLOCK) * BLOCK, len(data))
    return FitsTable(primary, extension, np.frombuffer(data, dtype, rows, offset), layout.scales, edges)


def _read_header(data: bytes, offset: int, name: str) -> tuple[Header, int]:
    """Parse the header that starts at ``offset``; return it and where its data start."""
    end = offset
    for _ in range(_MAX_HEADER_BLOCKS):
        block = data[end : end + BLOCK]
        if len(block) < BLOCK:
            raise CatalogError("truncated", f"the file ends within its {name} header, at byte {len(data)}")
        end += BLOCK
        if (mark := _find_end(block)) >= 0:
            return Header(_text(data[offset : end - BLOCK + mark])), end
    raise CatalogError("not-fits", f"the {name} header has no END card in {_MAX_HEADER_BLOCKS} blocks")


def _find_end(block: bytes) -> int:
    at = block.find(b"END     ")
    while at >= 0 and at % _CARD:
        at = block.find(b"END     ", at + 1)
    return at


def _text(cards: bytes) -> str:
    """Cards as text: ASCII, but that comments may be of any bytes, such as Latin-1 or UTF-8."""
    if not cards.isascii():
        for at in range(0, len(cards), _CARD):
            _check_ascii(cards[at : at + _CARD])
    return cards.decode("latin-1")


def _check_ascii(card: bytes) -> None:
    """Refuse a card with other bytes than ASCII in its key or value."""
    if card.isascii() or card[:8].rstrip() in (b"COMMENT", b"HISTORY", b""):
        return
    value = card[10:]
    quoted = len(value) - len(value.lstrip()) if value.lstrip().startswith(b"'") else -1
    end = 10 + (value.find(b"/") if quoted < 0 else value.find(b"/", value.rfind(b"'", quoted + 1)))
    checked = card if end < 10 else card[:end]
    odd = next((byte for byte in checked if byte > 127), None)
    if odd is not None:
        raise CatalogError("not-fits", f"the header is not ASCII: byte {odd:#x}, and not in a comment")


def _parse_value(text: str) -> Any:
    """Value of a card: bool, int, float, str, or None where it is undefined."""
    text = text.strip()
    if text.startswith("'"):
        return _parse_string(text)
    text = text.split("/", 1)[0].strip()
    if not text:
        return None
    if text in ("T", "F"):
        return text == "T"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text.replace("D", "E"))
    except ValueError:
        return text


def _parse_string(text: str) -> str:
    """Quoted value; a doubled quote stands for one."""
    end = 1
    while (end := text.find("'", end)) >= 0 and text[end + 1 : end + 2] == "'":
        end += 2
    return text[1 : end if end >= 0 else None].replace("''", "'").rstrip()


@dataclass(frozen=True)
class _Layout:
    """How rows are laid out."""

    dtype: np.dtype[np.void]
    scales: Mapping[str, tuple[Any, Any]]


def _layout(header: Header) -> tuple[_Layout, int]:
    """Row layout and number of rows of a BINTABLE header; headers that differ in that number alone are parsed once."""
    at = header.text.find(_ROWS_CARD)
    if at < 0 or at % _CARD or header.text.find(_ROWS_CARD, at + 1) >= 0:
        layout, rows = _row_type.__wrapped__(header.text), header.get("NAXIS2")
    else:
        layout = _row_type(header.text[:at] + header.text[at + _CARD :])
        rows = _parse_value(header.text[at + len(_ROWS_CARD) : at + _CARD])
    if not isinstance(rows, int) or rows < 0:
        raise CatalogError("layout", f"NAXIS2 is {rows!r}; expected a whole number")
    return layout, rows


@functools.lru_cache(maxsize=64)
def _row_type(text: str) -> _Layout:
    """Row layout of a BINTABLE header, checked against NAXIS1."""
    header = Header(text)
    if header.get("ZTABLE") is True:
        raise CatalogError("compressed", "it is a tile-compressed table (fpack -table); unpack it with funpack first")
    if header.get("XTENSION") != "BINTABLE":
        raise CatalogError("layout", f"the first extension is {header.get('XTENSION')!r}; expected 'BINTABLE'")
    for key in ("NAXIS1", "TFIELDS"):
        if not isinstance(header.get(key), int) or header[key] < 0:
            raise CatalogError("layout", f"{key} is {header.get(key)!r}; expected a whole number")
    names, formats, scales = [], [], {}
    for i in range(1, min(header["TFIELDS"], 999) + 1):
        name = str(header.get(f"TTYPE{i}", f"col{i}")).lower()
        scale = header.get(f"TSCAL{i}", 1), header.get(f"TZERO{i}", 0)
        if scale != (1, 0):
            scales[name] = scale
        names.append(name)
        formats.append(_format(name, str(header.get(f"TFORM{i}"))))
    return _Layout(_checked_dtype(tuple(names), tuple(formats), header["NAXIS1"]), scales)


def _format(name: str, form: str) -> str:
    """NumPy's type of a column; void, of its width, unless it is one plain number a row."""
    if form.removeprefix("1") in _FORMATS:
        return _FORMATS[form.removeprefix("1")]
    parsed = _FORM.match(form)
    if parsed is None:
        raise CatalogError("layout", f"column {name!r} has TFORM {form!r}; expected such as 1J, 1E, 1D or 8A")
    count, kind = int(parsed[1] or 1), parsed[2]
    return f"V{-(-count * _BITS[kind] // 8)}"


def _checked_dtype(names: tuple[str, ...], formats: tuple[str, ...], width: int) -> np.dtype[np.void]:
    if len(set(names)) != len(names):
        raise CatalogError("layout", f"column names repeat: {', '.join(map(repr, names))}")
    total = sum(int(form[1:]) if form.startswith("V") else int(form[-1]) for form in formats)
    if width > _MAX_ROW_BYTES:
        raise CatalogError("layout", f"NAXIS1 is {width} bytes; no catalog has rows of more than {_MAX_ROW_BYTES}")
    if total != width:
        raise CatalogError("layout", f"NAXIS1 is {width} bytes; the columns make {total}")
    return np.dtype({"names": list(names), "formats": list(formats)})
