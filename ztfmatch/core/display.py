"""Representation of reports and stores: aligned text in a terminal, HTML tables in a notebook."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_ROWS: Final = 20
"""Maximum number of rows of a nested table, and of values of a list."""

_NUMBER: Final = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]\d+)?|nan")


@dataclasses.dataclass(frozen=True)
class _Grid:
    """A nested table."""

    title: str
    rows: list[list[str]]
    """The first has the headings."""
    is_number: list[bool]
    """For each column: numbers are right-aligned."""


class Displayable:
    """Mixin for a representation by fields: one value per line, and lists of rows as tables below."""

    def __init_subclass__(cls) -> None:
        if "__repr__" not in vars(cls):
            cls.__repr__ = Displayable.__repr__  # type: ignore[method-assign]  # in the class itself, or @dataclass adds one

    def _fields(self) -> Mapping[str, Any]:
        """Values by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return as_text(type(self).__name__, self._fields())

    def _repr_html_(self) -> str:
        return as_html(type(self).__name__, self._fields())


def as_text(title: str, fields: Mapping[str, Any]) -> str:
    """Fields as aligned lines, with nested tables below."""
    values, grids = _divided(fields)
    width = max(map(len, values), default=0)
    lines = [title, *(f"  {name:<{width}}  {text}".rstrip() for name, text in values.items())]
    for grid in grids:
        widths = [max(map(len, column)) for column in zip(*grid.rows, strict=True)]
        columns = [(">" if right else "<", width) for right, width in zip(grid.is_number, widths, strict=True)]
        lines += ["", f"  {grid.title}"]
        for row in grid.rows:
            cells = [f"{cell:{side}{width}}" for cell, (side, width) in zip(row, columns, strict=True)]
            lines.append(f"    {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def as_html(title: str, fields: Mapping[str, Any]) -> str:
    """Fields as an HTML table, with nested tables below."""
    values, grids = _divided(fields)
    parts = [f"<strong>{html.escape(title)}</strong>"]
    parts.append(_table([_cell("th", name) + _cell("td", text) for name, text in values.items()]))
    for grid in grids:
        tags = ["th", *["td"] * (len(grid.rows) - 1)]
        rows = [
            "".join(map(_cell, [tag] * len(row), row, grid.is_number)) for tag, row in zip(tags, grid.rows, strict=True)
        ]
        parts += [f"<em>{html.escape(grid.title)}</em>", _table(rows)]
    return f"<div>{''.join(parts)}</div>"


def _table(rows: Sequence[str]) -> str:
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _cell(tag: str, text: str, right: bool = False) -> str:
    return f'<{tag} style="text-align: {"right" if right else "left"}">{html.escape(text)}</{tag}>'


def _divided(fields: Mapping[str, Any]) -> tuple[dict[str, str], list[_Grid]]:
    """Fields that take one line, and those that are tables."""
    values, grids = {}, []
    for name, value in fields.items():
        rows = [_as_row(item) for item in value] if isinstance(value, list | tuple) else []
        if rows and all(row is not None for row in rows):
            grids.append(_grid(_words(name), rows))  # type: ignore[arg-type]
        else:
            values[_words(name)] = _text(name, value)
    return values, grids


def _as_row(item: Any) -> Mapping[str, Any] | None:
    """An item as a row of a table; None if it is a plain value."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    return item if isinstance(item, Mapping) else None


def _grid(title: str, rows: Sequence[Mapping[str, Any]]) -> _Grid:
    title += f" (the first {_ROWS} of {len(rows):,})" if len(rows) > _ROWS else ""
    names = list(rows[0])
    cells = [[_text(name, row.get(name)) for name in names] for row in rows[:_ROWS]]
    is_number = [are_numbers([row.get(name) for row in rows[:_ROWS]]) for name in names]
    return _Grid(title, [list(map(_words, names)), *cells], is_number)


def are_numbers(values: Sequence[Any], number: re.Pattern[str] = _NUMBER, nothing: Sequence[str] = ("",)) -> bool:
    """Whether all are numbers, or texts of a number format, except for those that stand for an unknown value."""
    known = [value for value in values if value not in nothing]
    return bool(known) and all(type(value) in (int, float) or number.fullmatch(str(value)) for value in known)


def _text(name: str, value: Any) -> str:
    """A value as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if name.endswith("id") else f"{value:,}"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(str(key), item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        more = f" ... ({len(value):,})" if len(value) > _ROWS else ""
        return ", ".join(_text(name, item) for item in value[:_ROWS]) + more
    return str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def duration_text(seconds: float) -> str:
    """A duration as text: ``45 s``, ``10 min``, ``12 h``."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
