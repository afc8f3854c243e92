"""The command that shows lightcurves."""

# ruff: noqa: D301  (click reads the character \b in a docstring: do not wrap this paragraph)

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ztfmatch.cli.common import Command, OutputFile, counted, json_option, open_store, print_table
from ztfmatch.errors import ConfigError

_SHOWN = (
    "objectid",
    "fid",
    "hmjd",
    "mag",
    "magerr",
    "catflags",
    "clrcoeff",
    "programid",
    "expid",
    "ra",
    "dec",
)

_FORMATS = ("table", "csv", "json", "parquet")
_OBJECTS_ABREAST = 4
"""Of --statistics: they have too many columns for one row an object."""


@click.command(cls=Command)
@click.argument("store")
@click.option("--objectid", "-o", type=int, multiple=True, help="Object; may be given more than once.")
@click.option(
    "--cone",
    type=float,
    nargs=3,
    metavar="RA DEC RADIUS",
    help="All objects in a circle: centre in degrees (ICRS), radius in arcsec.",
)
@click.option("--snapshot", type=click.IntRange(0), help="Number of the snapshot; the newest by default.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(_FORMATS),
    help="How to write the rows; by default as the name of --output ends, or a table.",
)
@click.option("--output", type=OutputFile(), help="File to write to (.csv, .json, .parquet), instead of the terminal.")
@click.option("--plot", type=OutputFile(), help="Draw the lightcurves to this file (.png, .pdf, .svg).")
@click.option("--period", type=float, metavar="DAYS", help="Fold the plot with this period.")
@click.option("--statistics", is_flag=True, help="Give each object with its statistics instead of its epochs.")
@json_option
def lightcurve(store: str, objectid: tuple[int, ...], cone: tuple[float, float, float] | None, snapshot: int | None,
               form: str | None, output: Path | None, plot: Path | None, period: float | None, statistics: bool,
               as_json: bool) -> None:  # fmt: skip
    """Show lightcurves of a STORE.

    Select objects by --objectid or --cone. All epochs are given, flagged ones too: catflags = 0 are the clean ones.
    With --plot alone nothing is printed.

    \b
    Examples:
      ztfmatch lightcurve survey.store --objectid 679205100005000
      ztfmatch lightcurve survey.store --cone 247.45455 32.95796 2 --plot star.png
      ztfmatch lightcurve survey.store --cone 247.45455 32.95796 2 --output star.parquet
    """
    if bool(objectid) == bool(cone):
        raise click.UsageError("Give either --objectid or --cone RA DEC RADIUS.")
    if period is not None and plot is None:
        raise click.UsageError("--period folds the plot: give it with --plot FILE.")
    form = _format(form, output, as_json)
    opened = open_store(store).snapshot(snapshot)
    select: dict[str, Any] = {"objectid": objectid} if objectid else {"cone": cone}
    rows = opened.sources(**select) if statistics else opened.lightcurves(**select)
    _require_known(objectid, opened, rows)
    if plot is not None:
        _draw(opened.lightcurves(**select) if statistics else rows, plot, period)
    if plot is None or output is not None or form != "table":
        _write(rows, form, output, list(rows.schema.names) if statistics else list(_SHOWN))
    if not rows.num_rows:
        click.echo(f"ztfmatch: no {'object' if statistics else 'epoch'} found", err=True)


def _format(form: str | None, output: Path | None, as_json: bool) -> str:
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


def _require_known(objectids: tuple[int, ...], snapshot: Any, rows: Any) -> None:
    """Refuse an objectid that is no object's; an object without epochs is one."""
    missing = set(objectids) - set(rows["objectid"].to_pylist())
    if missing:
        missing -= set(snapshot.objects(objectid=missing)["objectid"].to_pylist())
    if missing:
        named = ", ".join(str(objectid) for objectid in sorted(missing))
        raise ConfigError(f"{snapshot.files.storage.root} has no object {named} in snapshot {snapshot.number}")


def _draw(epochs: Any, path: Path, period: float | None) -> None:
    from ztfmatch.products.plot import PlotOptions, plot_lightcurves

    plot_lightcurves(epochs, path, PlotOptions(period=period))
    click.echo(f"wrote {path}", err=True)


def _write(rows: Any, form: str, output: Path | None, shown: list[str]) -> None:
    from ztfmatch.products import tables

    if form == "parquet" and output is not None:
        tables.write_parquet(rows, output)
    elif form == "csv":
        with tables.binary_output(output) as stream:
            tables.write_csv(rows, stream)
    elif form == "json":
        text = tables.as_json_text(rows)
        output.write_text(text + "\n") if output else click.echo(text)
    elif len(shown) > len(_SHOWN):
        _print_abreast(tables.as_rows(rows, shown), shown)
    elif rows.num_rows:
        print_table(shown, tables.as_rows(rows, shown))
    if output is not None:
        click.echo(f"wrote {counted(rows.num_rows, 'row')} to {output}", err=True)


def _print_abreast(rows: list[list[str]], names: list[str]) -> None:
    """Print rows as columns, some beside each other."""
    for start in range(0, len(rows), _OBJECTS_ABREAST):
        first, *others = zip(names, *rows[start : start + _OBJECTS_ABREAST], strict=True)
        print_table(first, others)
        click.echo()
