"""Tables of reports on a terminal: columns as wide as what is in them, texts wrapped at words where room is short.

Ids, times, paths and numbers are never broken: where even wrapped texts leave no room, each row is a block of lines.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final

import click

from ztfmatch.core.display import are_numbers

_GAP: Final = "  "
_NARROWEST: Final = 12
"""Characters to which texts are wrapped at most."""

_NUMBER: Final = re.compile(r"[-+]?[\d,]*\.?\d+( [a-zA-Z%]+)?")
"""With or without a unit."""
_NOTHING: Final = ("", "-")


def terminal_width() -> int | None:
    """Characters of a line; None where output goes to a file or a pipe, where a row is a line."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def cell(value: Any, form: str = ".3f") -> Any:
    """A value of a table: numbers that are not whole in a form, nothing where there is none."""
    return "" if value is None else f"{value:{form}}" if isinstance(value, float) else value


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "", most: int = sys.maxsize
) -> None:
    """Print rows in columns, numbers to the right; off a terminal one row a line."""
    if title:
        click.echo(title)
    head, body = table_lines(headings, rows[:most], terminal_width())
    for line in head:
        click.secho(line, bold=True)
    for line in body:
        click.echo(line)
    if len(rows) > most:
        click.echo(f"and {len(rows) - most:,} more: --json lists all")


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[Any]], width: int | None
) -> tuple[list[str], list[str]]:
    """Lines of the head, and of the rows, of a table within so many characters if there is a way."""
    right = [are_numbers([row[at] for row in rows], _NUMBER, _NOTHING) for at in range(len(headings))]
    cells = [[_text(cell) for cell in row] for row in rows]
    table = [[str(heading) for heading in headings], *cells]
    longest = [max(len(row[at]) for row in table) for at in range(len(headings))]
    widths = _fitted(longest, [_broken(row[at] for row in table) for at in range(len(headings))], width)
    if widths is None:
        return [], _blocks(table[0], cells, width)
    head, *body = ([_row(line, widths, right) for line in _wrapped(row, widths)] for row in table)
    return head, [line for lines in body for line in lines]


def _text(cell: Any) -> str:
    """A cell in one line."""
    return f"{cell:,}" if type(cell) is int else " ".join(str(cell).split("\n"))


def _broken(texts: Iterable[str]) -> int:
    """Width that a column has to have: of its longest word."""
    return max((len(word) for text in texts for word in text.split()), default=0)


def _fitted(longest: list[int], least: list[int], width: int | None) -> list[int] | None:
    """Widths of columns that fit, the widest narrowed first; None if there are none."""
    widths = list(longest)
    if width is None:
        return widths
    gaps = len(_GAP) * (len(widths) - 1)
    least = [min(whole, max(word, _NARROWEST)) if whole > word else whole
             for whole, word in zip(longest, least, strict=True)]  # fmt: skip
    while sum(widths) + gaps > width:
        spare = [at for at, (now, low) in enumerate(zip(widths, least, strict=True)) if now > low]
        if not spare:
            return None
        widths[max(spare, key=lambda at: widths[at])] -= 1
    return widths


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> list[tuple[str, ...]]:
    """A row as the lines that it takes."""
    columns = [
        [text] if len(text) <= width else textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        for text, width in zip(row, widths, strict=True)
    ]
    return list(zip_longest(*columns, fillvalue=""))


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return _GAP.join(padded).rstrip()


def _blocks(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """A line for each cell, or as many as it takes, and an empty one after each row."""
    first = max(map(len, headings), default=0)
    room = max((width or 0) - first - len(_GAP), _NARROWEST)
    lines = []
    for row in rows:
        for heading, cell in zip(headings, row, strict=True):
            lines += [_row(line, [first, 0], [False, False]) for line in _wrapped([heading, cell], [first, room])]
        lines.append("")
    return lines[:-1]
