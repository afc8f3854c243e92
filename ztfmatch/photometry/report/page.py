"""A self-contained HTML page: text, tables, embedded pictures."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_STYLE: Final = """
body { font: 16px/1.45 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: #222; background: #fff;
  max-width: 1200px; margin: 0 auto; padding: 1.2em 1em 3em; }
h1 { font-size: 1.7em; margin: 0 0 .2em; }
h2 { font-size: 1.25em; margin: 2em 0 .4em; border-bottom: 1px solid #ddd; padding-bottom: .15em; }
p { margin: .5em 0; max-width: 62em; }
table { border-collapse: collapse; font-size: .92em; margin: .6em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .22em .8em; border-bottom: 1px solid #e6e6e6; text-align: right; vertical-align: top; }
th { border-bottom: 2px solid #bbb; font-weight: 600; }
td:first-child, th:first-child, td.word, th.word, table.facts td { text-align: left; }
table.facts td:first-child { color: #666; white-space: nowrap; }
table.facts td { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
figure { margin: .8em 0 1.4em; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: #555; font-size: .92em; max-width: 66em; margin-top: .3em; }
.note { background: #fff6df; border-left: 4px solid #e0a800; padding: .5em .9em; max-width: 62em; }
.good { color: #17692f; font-weight: 600; }
.poor { color: #a61c1c; font-weight: 600; }
summary { cursor: pointer; }
@media print { details > * { display: block; } figure { break-inside: avoid; } }
"""

_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Of the browser: nothing is fetched, nothing runs."""


@dataclass(frozen=True)
class Picture:
    """A picture and its caption."""

    png: bytes
    title: str
    """In place of the picture, for who cannot see it."""
    caption: str


@dataclass(frozen=True)
class Grid:
    """A table of numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    folded: str = ""
    """What is to be clicked at to see it; empty: it is open."""


@dataclass(frozen=True)
class Section:
    """A part of a page, in order: text, tables, pictures."""

    title: str
    text: str = ""
    grids: Sequence[Grid] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Page:
    """What a page says."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    """Names and values."""
    sections: Sequence[Section]
    notes: Sequence[str] = ()
    """What the reader must not miss."""


@dataclass(frozen=True)
class Judged:
    """A number that is good or not."""

    value: float
    good: bool


def render(page: Page) -> str:
    """The page as HTML; every text is escaped."""
    body = [
        f"<h1>{_text(page.title)}</h1>",
        f"<p>{_text(page.subtitle)}</p>",
        *(f'<p class="note">{_text(note)}</p>' for note in page.notes),
        _facts(page.facts),
        *(_section(section) for section in page.sections),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{_text(page.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return html.escape(str(text), quote=True)


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>\n" for name, value in facts.items())
    return f'<table class="facts">\n{rows}</table>'


def _section(section: Section) -> str:
    parts = [f"<h2>{_text(section.title)}</h2>"]
    parts += [f"<p>{_text(section.text)}</p>"] if section.text else []
    parts += [_grid(grid) for grid in section.grids]
    parts += [_picture(picture) for picture in section.pictures]
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _grid(grid: Grid) -> str:
    words = [bool(grid.rows) and isinstance(value, str) for value in (grid.rows[0] if grid.rows else grid.headings)]
    kinds = [' class="word"' if word else "" for word in words]
    head = "".join(f"<th{kind}>{_text(name)}</th>" for kind, name in zip(kinds, grid.headings, strict=True))
    rows = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>\n" for row in grid.rows)
    table = f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>'
    table += f"\n<p>{_text(grid.caption)}</p>" if grid.caption else ""
    return f"<details>\n<summary>{_text(grid.folded)}</summary>\n{table}\n</details>" if grid.folded else table


def _cell(value: Any) -> str:
    if isinstance(value, Judged):
        return f'<td class="{"good" if value.good else "poor"}">{_text(number(value.value))}</td>'
    kind = ' class="word"' if isinstance(value, str) else ""
    return f"<td{kind}>{_text(number(value))}</td>"


def number(value: Any) -> str:
    """A value for people: integers with commas, other numbers with one decimal, a dash for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\N{EN DASH}"
    if isinstance(value, float):
        return f"{round(value, 1) + 0.0:,.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{value:,}" if isinstance(value, int) else str(value)


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure>\n<img alt="{_text(picture.title)}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{_text(picture.caption)}</figcaption>\n</figure>"
    )
