"""Rows as text: aligned columns, as many as fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from ztfmatch.core.survey import FILTER_CODES

_GAP: Final = "  "
_DECIMALS: Final = {
    **dict.fromkeys(("ra", "dec"), 7),
    "hmjd": 6,
    "clrcoeff": 4,
    "exptime": 1,
    **dict.fromkeys(("airmass", "refchi", "refsharp", "chi", "sharp", "xpos", "ypos"), 3),
    **dict.fromkeys(("skewness", "smallkurtosis", "stetsonj", "stetsonk", "vonneumannratio"), 3),
    **dict.fromkeys(("refsnr", "chisq", "psfflux", "psffluxerr"), 2),
}
_DECIMALS_OF_UNIT: Final = {"mag": 4, "arcsec": 3}
_DIGITS: Final = 6
_FILTER: Final = "filter"
"""Heading of a filter's letter, which is shown in place of its number."""

FIRST: Final = {
    "objects": ("objectid", _FILTER, "ra", "dec", "refmag", "refmagerr", "status"),
    "stars": ("starid", "ra", "dec", "nobjects", "g_mag", "r_mag", "i_mag", "n_g", "n_r", "n_i", "g_r", "crowded"),
    "star epochs": ("starid", _FILTER, "hmjd", "mag", "magerr", "catflags", "objectid"),
    "statistics": ("objectid", _FILTER, "ra", "dec", "medianmag", "magrms", "nobs", "ngoodobs", "chisq"),
    "lightcurves": (
        *("objectid", _FILTER, "hmjd", "mag", "magerr", "catflags"),
        *("ra", "dec", "programid", "expid", "clrcoeff"),
    ),
    "transients": ("transientid", _FILTER, "ra", "dec", "medianmag", "nobs", "firsthmjd", "lasthmjd"),
}
"""Columns that people look for first, the most wanted before the others; all that go to a pipe."""


@dataclass(frozen=True)
class _Column:
    """A column as it is shown."""

    name: str
    unit: str
    width: int
    right: bool

    def padded(self, texts: Sequence[str]) -> list[str]:
        """Texts of its width."""
        return [text.rjust(self.width) if self.right else text.ljust(self.width) for text in texts]


@dataclass(frozen=True)
class Layout:
    """Which columns are shown, and how wide they are."""

    columns: tuple[_Column, ...]

    @classmethod
    def of(cls, rows: pa.Table, names: Sequence[str], width: int | None = None) -> Layout:
        """Columns for rows like these: of the named, in this order, those for which there is room.

        Parameters
        ----------
        rows : pyarrow.Table
            Rows that tell how wide columns are.
        names : sequence of str
            ``filter`` is the letter of ``fid``.
        width : int, optional
            Characters of a line; by default all columns are shown.
        """
        chosen: list[_Column] = []
        used = -len(_GAP)
        for name in names:
            column = _column_of(rows, name)
            if width is not None and used + len(_GAP) + column.width > width and chosen:
                continue
            chosen.append(column)
            used += len(_GAP) + column.width
        return cls(tuple(chosen))

    @property
    def width(self) -> int:
        """Characters of a line."""
        return sum(column.width + len(_GAP) for column in self.columns) - len(_GAP)

    def head(self) -> list[str]:
        """Names of the columns, and below them their units."""
        names = _line([column.padded([column.name])[0] for column in self.columns])
        units = _line([column.padded([column.unit])[0] for column in self.columns])
        return [names, units] if units else [names]

    def lines(self, rows: pa.Table) -> Iterator[str]:
        """A line for each row; a value that is wider than those which the widths were made of is given whole."""
        columns = [column.padded(texts_of(rows, column.name)) for column in self.columns]
        return map(_line, zip(*columns, strict=True))


def names_for_people(kind: str, schema: pa.Schema, all_of_them: bool) -> list[str]:
    """Columns of rows of a kind, the most wanted first; all, or those alone."""
    known = [*schema.names, *([_FILTER] if "fid" in schema.names else [])]
    first = [name for name in FIRST.get(kind, ()) if name in known] or list(schema.names)
    leading = dict.fromkeys(("id", "separation", schema.names[0]))
    first = [*(name for name in leading if name in known and name not in first), *first]
    rest = [name for name in schema.names if name not in first and not (name == "fid" and _FILTER in first)]
    return [*first, *rest] if all_of_them else first


def blocks(rows: pa.Table, names: Sequence[str], width: int | None) -> Iterator[str]:
    """Few rows of many columns on their side: a line for each column, rows beside each other as there is room."""
    texts = {name: texts_of(rows, name) for name in names}
    units = [_unit_of(rows.schema, name) for name in names]
    first = [max(map(len, names)), max(map(len, units))]
    each = max((len(text) for of_name in texts.values() for text in of_name), default=1) + len(_GAP)
    room = rows.num_rows if width is None else max((width - sum(first) - len(_GAP)) // each, 1)
    for start in range(0, rows.num_rows, room):
        for name, unit in zip(names, units, strict=True):
            head = f"{name:<{first[0]}}{_GAP}{unit:<{first[1]}}"
            yield (head + "".join(text.rjust(each) for text in texts[name][start : start + room])).rstrip()
        if start + room < rows.num_rows:
            yield ""


def _line(cells: Sequence[str]) -> str:
    return _GAP.join(cells).rstrip()


def _column_of(rows: pa.Table, name: str) -> _Column:
    unit = _unit_of(rows.schema, name)
    widest = max(map(len, texts_of(rows, name)), default=0)
    return _Column(name, unit, max(widest, len(name), len(unit)), name == _FILTER or _is_number(rows.schema, name))


def _is_number(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _unit_of(schema: pa.Schema, name: str) -> str:
    metadata = {} if name == _FILTER else schema.field(name).metadata or {}
    return str(metadata.get(b"unit", b""), "utf-8")


def texts_of(rows: pa.Table, name: str) -> list[str]:
    """Values of a column as people read them: as many decimals as mean something, nothing for null."""
    if name == _FILTER:
        letters = {fid: code[1:] for fid, code in FILTER_CODES.items()}
        return [letters.get(fid, str(fid)) for fid in rows["fid"].to_pylist()]
    values = rows[name].to_pylist()
    if not pa.types.is_floating(rows.schema.field(name).type):
        return ["" if value is None else str(value) for value in values]
    decimals = _DECIMALS.get(name, _DECIMALS_OF_UNIT.get(_unit_of(rows.schema, name)))
    form = f"%.{_DIGITS}g" if decimals is None else f"%.{decimals}f"
    return ["" if value is None else form % value if math.isfinite(value) else str(value) for value in values]
