"""Output of rows: as a table on the terminal, or in a file format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import counted
from ztfmatch.cli.paramtypes import OutputFile
from ztfmatch.cli.terminal import terminal_width
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Keywords

if TYPE_CHECKING:
    from ztfmatch.api import Snapshot

_FORMATS: Final = ("table", "csv", "json", "parquet", "arrow", "ecsv", "fits", "votable")
_TERMINAL_ROWS: Final = 40
_ON_THEIR_SIDE: Final = 4
"""So many rows of very many columns are printed with a line for each column."""
_AT_ONCE: Final = 10_000

COUNTING_S: Final = 2.0
"""How long the rows that are not shown are counted."""

Total = Callable[[], tuple[int, bool]]
"""Gives how many rows there are, and whether those are all or there may be more."""


@dataclass(frozen=True)
class People:
    """How rows are shown to people."""

    kind: str
    columns: Sequence[str] | None = None
    """Those asked for; by default the first of their kind, as many as there is room for."""
    total: Total | None = None
    side: bool = False
    """Whether few rows are given with all their columns, a line for each."""


@dataclass(frozen=True)
class RowOutput:
    """Where rows go, and how."""

    form: str
    path: Path | None = None
    limit: int | None = None

    @property
    def is_table(self) -> bool:
        """Whether it is a table for people."""
        return self.form == "table"

    def rows_of(self, answer: Any) -> Iterator[Any]:
        """Rows of an answer, in small pieces where a terminal shows the first of them."""
        return iter(answer) if terminal_width() is None or not self.is_table else answer.in_pieces()

    def write(self, rows: Iterable[Any], schema: Any, people: People) -> int:
        """Write Arrow tables of a schema; the number of rows."""
        from ztfmatch.query import formats
        from ztfmatch.query.tables import first_rows

        some = rows if self.limit is None else first_rows(rows, self.limit)
        if not self.is_table:
            try:
                number = formats.write_rows(some, schema, self.form, self.path)
            except OSError as error:
                if self.path is not None and error.errno is not None and error.filename is None:
                    error.filename = str(self.path)  # a full disk names no file
                raise
        elif (width := terminal_width()) is None:
            number = _print_all(some, schema, people)
        else:
            number = _print_first(some, schema, people, (width, self.limit or _TERMINAL_ROWS))
        if self.path is not None:
            click.echo(f"wrote {counted(number, 'row')} to {self.path}", err=True)
        return number


def _to(form: str | None, output: Path | None, limit: int | None, as_json: bool) -> Keywords:
    return {"to": RowOutput(chosen_format(form, output, as_json), output, limit), "as_json": as_json}


row_options = options.together(
    click.option("--format", "-f", "form", type=click.Choice(_FORMATS),
                 help="Output format; by default that of the suffix of --output, or a table."),
    click.option("--output", "-o", type=OutputFile(),
                 help="Output file, instead of the terminal: .csv, .json, .parquet, .arrow, .ecsv, .fits, .xml."),
    options.overwrite,
    click.option("--limit", type=click.IntRange(1), help="Maximum number of rows; by default 40 on a terminal."),
    options.gathered(_to),
)  # fmt: skip
"""How to write rows; the command gets ``to``, a :class:`RowOutput`."""


def chosen_format(form: str | None, output: Path | None, as_json: bool) -> str:
    """How to write, of what was asked for."""
    from ztfmatch.query.formats import FILES_ONLY, SUFFIXES

    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} contradict each other.")
    suffix = SUFFIXES.get(output.suffix.lower(), "") if output is not None else "table"
    chosen = "json" if as_json else form or suffix
    if output is not None and chosen not in _FORMATS[1:]:
        raise click.UsageError(
            f"--output needs a name that ends in {', '.join(SUFFIXES)}, or --format with the format."
        )
    if output is not None and suffix not in ("", chosen):
        raise click.UsageError(f"--output {output.name} and the format {chosen} contradict each other.")
    if chosen in FILES_ONLY and output is None:
        raise click.UsageError(f"--format {chosen} needs --output FILE.")
    return chosen


def listed_columns(text: str | None) -> list[str] | None:
    """Names of --columns."""
    return None if text is None else [name.strip() for name in text.split(",")]


def some_columns(rows: Any, names: Sequence[str]) -> Any:
    """Some columns of a table."""
    for name in names:
        if name not in rows.schema.names:
            raise ConfigError(f"no column {name!r}; there are {', '.join(rows.schema.names)}")
    return rows.select(list(names))


columns_option = click.option(
    "--columns",
    metavar="NAME,NAME",
    help="Columns to return; by default all, or in a table as many as fit.",
)


def _print_all(rows: Iterable[Any], schema: Any, people: People) -> int:
    """Print rows as they come, a line each, in columns as wide as those of the first need."""
    from ztfmatch.query.text import Layout, blocks, names_for_people

    layout, number = None, 0
    for table in _pieces(rows):
        if layout is None:
            if people.side and table.num_rows <= _ON_THEIR_SIDE:
                _print(blocks(table, schema.names, None))
                return int(table.num_rows)
            layout = Layout.of(table, people.columns or names_for_people(people.kind, schema, all_of_them=False))
            _print(layout.head())
        _print(layout.lines(table))
        number += table.num_rows
    return number


def _print_first(rows: Iterable[Any], schema: Any, people: People, room: tuple[int, int]) -> int:
    """Print the first rows on a terminal, and say what more there is; the number printed."""
    from ztfmatch.query.tables import first_rows, joined
    from ztfmatch.query.text import Layout, blocks, names_for_people

    width, most = room
    table = joined(first_rows(rows, most), schema)
    if not table.num_rows:
        return 0
    names = people.columns or names_for_people(people.kind, schema, all_of_them=True)
    layout = Layout.of(table, names, None if people.columns else width)
    if (people.side and table.num_rows <= _ON_THEIR_SIDE) or layout.width > width:
        _print(blocks(table, list(people.columns or schema.names), width))
        left_out = 0
    else:
        for line in layout.head():
            click.secho(line, bold=True)
        _print(layout.lines(table))
        left_out = len(names) - len(layout.columns)
    if said := _more(table.num_rows, most, left_out, people.total):
        click.echo(said, err=True)
    return int(table.num_rows)


def _more(shown: int, most: int, columns: int, total: Total | None) -> str:
    """What there is beside the rows and columns that are shown, and how to get it."""
    number, all_of_them = total() if total is not None and shown == most else (shown, True)
    said, ways = [], []
    if number > shown or not all_of_them:
        said, ways = [f"{'' if all_of_them else 'more than '}{counted(number - shown, 'more row')}"], ["--limit"]
    if columns:
        said.append(f"{counted(columns, 'more column')}")
        ways.append("--columns")
    return f"and {', '.join(said)}: {', '.join([*ways, '--output'])}" if said else ""


def _pieces(rows: Iterable[Any]) -> Iterator[Any]:
    """Tables of few enough rows to be made into text at once."""
    for table in rows:
        for start in range(0, table.num_rows, _AT_ONCE):
            yield table.slice(start, _AT_ONCE)


def _print(lines: Iterable[str]) -> None:
    if text := "\n".join(lines):
        click.echo(text)


def write_file(table: Any, path: Path) -> None:
    """Write a table to a file, as its name ends."""
    RowOutput(chosen_format(None, path, False), path).write([table], table.schema, People(""))


def compare_rows(compared: Any, schema: Any, output: Path | None) -> tuple[Any, str, list[str]]:
    """Compare, with what differs to a file if there is one; report, what became of what is gone, a last line."""
    from ztfmatch.query.formats import format_of, write_rows

    if output is None:
        for _ in compared.rows():
            pass
    else:
        write_rows(compared.rows(), schema, format_of(output), output)
    report = compared.report()
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in report.lineage.items())
    of_gone = f", of which {report.succeeded:,} have a successor (lineage: {kinds})" if kinds else ""
    return report, of_gone, [] if output is None else [f"Written: {output}"]


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
