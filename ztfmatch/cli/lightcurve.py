"""The command that shows lightcurves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ztfmatch.cli.common import handle_errors, print_table

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


@click.command()
@click.argument("store")
@click.option("--objectid", "-o", type=int, multiple=True, help="Object; may be given more than once.")
@click.option(
    "--cone",
    type=float,
    nargs=3,
    metavar="RA DEC RADIUS_ARCSEC",
    help="All objects in a circle: centre in degrees (ICRS), radius in arcsec.",
)
@click.option("--snapshot", type=click.IntRange(0), help="Number of the snapshot; the newest by default.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="How to write the epochs.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write to, instead of the terminal.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the lightcurves to this file (.png, .pdf, .svg).",
)
@click.option("--period", type=float, help="Days; the plot is folded with it.")
@click.option("--statistics", is_flag=True, help="Give each object's statistics instead of its epochs.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@handle_errors
def lightcurve(store: str, objectid: tuple[int, ...], cone: tuple[float, float, float] | None, snapshot: int | None,
               form: str, output: Path | None, plot: Path | None, period: float | None, statistics: bool,
               as_json: bool) -> None:  # fmt: skip
    """Show lightcurves of a STORE, by --objectid or --cone.

    All epochs are given, flagged ones too: catflags = 0 are the clean ones.

    \b
    Examples:
      ztfmatch lightcurve survey.store --objectid 679205100005000
      ztfmatch lightcurve survey.store --cone 247.45455 32.95796 2 --plot star.png
      ztfmatch lightcurve survey.store --cone 247.45455 32.95796 2 --format parquet --output star.parquet
    """
    from ztfmatch import api

    if bool(objectid) == bool(cone):
        raise click.UsageError("Give either --objectid or --cone RA DEC RADIUS_ARCSEC.")
    opened = api.open_store(store).snapshot(snapshot)
    select: dict[str, Any] = {"objectid": objectid} if objectid else {"cone": cone}
    rows = opened.sources(**select) if statistics else opened.lightcurves(**select)
    form = "json" if as_json else form
    if plot is not None:
        _draw(opened.lightcurves(**select) if statistics else rows, plot, period)
        click.echo(f"wrote {plot}", err=True)
    if plot is None or output is not None or form != "table":
        _write(rows, form, output, list(rows.schema.names) if statistics else list(_SHOWN))
    if not rows.num_rows:
        click.echo(
            "ztfmatch: no object there has an epoch" if not statistics else "ztfmatch: no object there",
            err=True,
        )


def _draw(epochs: Any, path: Path, period: float | None) -> None:
    from ztfmatch.products.plot import PlotOptions, plot_lightcurves

    plot_lightcurves(epochs, path, PlotOptions(period=period))


def _write(rows: Any, form: str, output: Path | None, shown: list[str]) -> None:
    from ztfmatch.products import tables

    if form == "parquet":
        if output is None:
            raise click.UsageError("--format parquet needs --output FILE.")
        tables.write_parquet(rows, output)
    elif form == "csv":
        with tables.binary_output(output) as stream:
            tables.write_csv(rows, stream)
    elif form == "json":
        text = tables.as_json_text(rows)
        output.write_text(text) if output else click.echo(text)
    elif output is not None:
        raise click.UsageError("--output needs --format csv, json or parquet.")
    elif sys.stdout.isatty() or rows.num_rows:
        print_table(shown, tables.as_rows(rows, shown))
