"""The schema as documentation, generated from the declarations of tables and columns."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pyarrow as pa

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Json
from ztfmatch.core.schema import TABLES, Column, Table
from ztfmatch.core.schema.types import plain_type
from ztfmatch.release.schema import LIGHTCURVE, LIGHTCURVE_COLUMN, RELEASE_TABLES


def tables(name: str | None = None) -> list[Table]:
    """All tables of a store, or one of them, or of a release.

    Raises
    ------
    ConfigError
        If there is no such table.
    """
    if name is None:
        return list(TABLES.values())
    known = TABLES | RELEASE_TABLES
    if name not in known:
        raise ConfigError(
            f"no table {name!r}; there are: {', '.join(TABLES)}; of releases: {', '.join(RELEASE_TABLES)}"
        )
    return [_unfolded(known[name])]


def released() -> list[Table]:
    """All tables of releases."""
    return [_unfolded(table) for table in RELEASE_TABLES.values()]


def _unfolded(table: Table) -> Table:
    """A table whose nested columns are listed one by one."""
    parts = tuple(replace(part, name=f"{LIGHTCURVE_COLUMN}.{part.name}") for part in LIGHTCURVE)
    columns = [(column, *parts) if column.name == LIGHTCURVE_COLUMN else (column,) for column in table.columns]
    return replace(table, columns=tuple(itertools.chain.from_iterable(columns)))


def type_text(column: Column) -> str:
    """Arrow type of a column, with a question mark where it may be null."""
    kind = plain_type(column.type)
    if pa.types.is_struct(kind):
        kind = "struct of lists"
    return f"{kind}{'?' if column.nullable else ''}"


def as_json(table: Table) -> Json:
    """A table as plain values."""
    columns = [
        {
            "name": column.name,
            "type": type_text(column).rstrip("?"),
            "nullable": column.nullable,
            "unit": column.unit,
            "ucd": column.ucd,
            "description": column.description,
            "source": column.source,
        }
        for column in table.columns
    ]
    return {
        "table": table.name,
        "description": table.description,
        "sorted_by": list(table.sorted_by),
        "columns": columns,
    }


def as_markdown(table: Table) -> str:
    """A table as a Markdown section; a question mark after a type means that it may be null."""
    rows = [
        f"| `{c.name}` | {type_text(c)} | {c.unit} | {c.ucd} | {_escaped(c.description)} | {_escaped(c.source)} |"
        for c in table.columns
    ]
    head = ["| column | type | unit | UCD | description | source |", "|---|---|---|---|---|---|"]
    return "\n".join(
        [f"## {table.name}\n", f"{table.description} Sorted by {', '.join(table.sorted_by)}.\n", *head, *rows, ""]
    )


def _escaped(text: str) -> str:
    """A text without what would end a cell, or be emphasis: ``a*b + c*d``."""
    return text.replace("|", "\\|").replace("*", "\\*")
