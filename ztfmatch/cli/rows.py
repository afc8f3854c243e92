"""How commands give rows: as a table, CSV, JSON or Parquet, on the terminal or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli.common import counted, print_table
from ztfmatch.cli.options import options
from ztfmatch.cli.paramtypes import OutputFile
from ztfmatch.core.errors import ConfigError

if TYPE_CHECKING:
    from ztfmatch.api import Snapshot

_FORMATS = ("table", "csv", "json", "parquet")
_MOST_COLUMNS = 12
"""A table of more columns is printed on its side."""
_ABREAST = 4


row_options = options(
    click.option("--format", "-f", "form", type=click.Choice(_FORMATS),
                 help="How to write the rows; by default as the name of --output ends, or a table."),
    click.option("--output", type=OutputFile(),
                 help="File to write to (.csv, .json, .parquet), instead of the terminal."),
)  # fmt: skip
"""How to write rows; the command gets ``form`` and ``output``."""


def chosen_format(form: str | None, output: Path | None, as_json: bool) -> str:
    """How to write, of what was asked for."""
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} contradict each other.")
    suffix = output.suffix[1:].lower() if output is not None else "table"
    chosen = "json" if as_json else form or suffix
    if output is not None and chosen not in _FORMATS[1:]:
        raise click.UsageError(
            "--output needs a name that ends in .csv, .json or .parquet, or --format with one of them."
        )
    if chosen == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE.")
    return chosen


def write_rows(rows: Any, form: str, output: Path | None, shown: list[str]) -> None:
    """Write rows; a table for people has the columns shown, the other forms have all."""
    from ztfmatch.query import tables

    if form == "parquet" and output is not None:
        tables.write_parquet(rows, output)
    elif form == "csv":
        with tables.binary_output(output) as stream:
            tables.write_csv(rows, stream)
    elif form == "json":
        with tables.binary_output(output) as stream:
            stream.write(tables.as_json_text(rows).encode() + b"\n")
    elif len(shown) > _MOST_COLUMNS:
        _print_abreast(tables.as_rows(rows, shown), shown)
    elif rows.num_rows:
        print_table(shown, tables.as_rows(rows, shown))
    if output is not None:
        click.echo(f"wrote {counted(rows.num_rows, 'row')} to {output}", err=True)


def is_transient(number: int) -> bool:
    """Whether an id is a transient's."""
    from ztfmatch.core.survey import MAX_OBJECTID

    return number > MAX_OBJECTID


def refuse_unknown(ids: set[int], snapshot: Snapshot) -> None:
    """Refuse ids of which some are no object's."""
    objects = {number for number in ids if not is_transient(number)}
    missing = ids - (set(snapshot.objects(objectid=objects)["objectid"].to_pylist()) if objects else set())
    if missing:
        named = ", ".join(map(str, sorted(missing)))
        raise ConfigError(f"{snapshot.files.storage.root} has no object {named} in snapshot {snapshot.number}")


def _print_abreast(rows: list[list[str]], names: list[str]) -> None:
    """Print rows as columns, some beside each other."""
    for start in range(0, len(rows), _ABREAST):
        first, *others = zip(names, *rows[start : start + _ABREAST], strict=True)
        print_table(first, others)
        click.echo()
