"""The command query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, open_store
from ztfmatch.cli.rows import COUNTING_S, People, RowOutput, columns_option, listed_columns, row_options

_NAMED = 5
_KINDS = ("objects", "statistics", "lightcurves", "stars")


@click.command(cls=Command, stray="--where EXPR")
@click.argument("store")
@options.choice("--select", _KINDS, "What to return: objects, objects with statistics, epochs, or stars.")
@click.option("--where", metavar="EXPR", help="Condition on columns of objects and statistics, or of stars.")
@click.option("--epochs", metavar="EXPR", help="Condition on the epochs of lightcurves, such as 'catflags == 0'.")
@options.place(
    "Circle (ICRS): degrees or sexagesimal (16:28:19.9 +32:57:17); radius in arcsec, or with a unit (2deg, 3arcmin)."
)
@options.file("--positions", "Table of positions (.csv, .parquet, .ecsv, .fits, .xml) with ra, dec and optionally id.")
@click.option(
    "--radius",
    "around",
    default="2arcsec",
    show_default=True,
    help="Radius around --positions: arcsec, or with a unit.",
)
@click.option(
    "--box",
    type=float,
    nargs=4,
    metavar="WEST EAST SOUTH NORTH",
    help="Right ascensions and declinations in degrees; west > east crosses RA 0.",
)
@options.polygon
@options.moc
@click.option("--objectid", type=int, multiple=True, help="Object. Repeatable.")
@options.file("--objectids", "File of objectids: one per line, or a column objectid of CSV or Parquet.")
@click.option(
    "--status",
    type=click.Choice(("active", "retired", "any")),
    help="Only active objects (default), only those retired by a regenerated reference, or any (default with "
    "objectids).",
)
@options.filters()
@columns_option
@options.snapshot
@row_options
@options.as_json
def query(store: str, select: str, where: str | None, epochs: str | None, cone: tuple[str, str, str] | None,
          positions: Path | None, around: str,
          box: tuple[float, ...] | None, polygon: str | None, moc: Path | None, objectid: tuple[int, ...],
          objectids: Path | None, status: str | None, filters: tuple[int, ...] | None, columns: str | None,
          snapshot: int | None, to: RowOutput, as_json: bool) -> None:  # fmt: skip  # noqa: ARG001
    """Query objects of a STORE by position, id and condition.

    Returns objects, their statistics, their lightcurves, or stars. Conditions consist of column names, numbers,
    strings, comparisons, and, or, not, + - * /, in [..], abs(), sqrt(), log10() and isnull(); for the columns see
    'ztfmatch schema objects' and 'schema statistics', for stars 'schema stars' and 'schema starstatistics'. Unknown
    objectids are reported, and with --select lightcurves also those of retired objects, which have no epochs. Parquet
    and CSV are written tile by tile, so results may be larger than memory.

    \b
    Examples:
      ztfmatch query survey.store --where "magrms > 0.1 and nobs > 50" --select statistics
      ztfmatch query survey.store --box 359 1 -5 5 --where "refmag < 18" --output bright.parquet
      ztfmatch query survey.store --positions stars.csv --radius 1.5 --output matched.parquet
      ztfmatch query survey.store --select lightcurves --objectids mine.csv --epochs "catflags == 0" -f csv
      ztfmatch query survey.store --select stars --where "n_g > 50 and g_r < 0.3 and g_scatter > 0.1"
    """
    from ztfmatch.query.request import Query

    wanted = listed_columns(columns)
    asked = Query(
        select=select,  # type: ignore[arg-type]
        where=where,
        epochs=epochs,
        cone=cone,
        positions=positions,
        radius=around,
        box=box or None,  # type: ignore[arg-type]
        polygon=options.polygon_numbers(polygon),
        moc=moc,
        objectids=_ids(objectid, objectids),
        columns=wanted,
        status=status,  # type: ignore[arg-type]
        filters=filters,
    )
    snap = open_store(store).snapshot(snapshot)
    answer = snap.query(asked)
    people = People(select, wanted and answer.schema.names, lambda: answer.count(COUNTING_S))
    rows = to.write(to.rows_of(answer), answer.schema, people)
    if not rows:
        only_place = cone is not None and where is None and status is None and filters is None
        click.echo(f"ztfmatch: nothing found{f'; {snap.near(cone)}' if only_place else ''}", err=True)
    elif missed := answer.without_match() if to.limit is None else []:
        click.echo(f"ztfmatch: nothing within {around} of {_named(missed)}", err=True)
    if objectid or objectids:
        _tell(answer, store, select)


def _tell(answer: Any, store: str, select: str) -> None:
    """Say which objectids are of none that has epochs, and fail for those that are of none."""
    states = answer.states()
    retired = [number for number, state in states.items() if state == "retired"]
    if retired and select == "lightcurves":
        said = f"retired, without epochs: {_named(retired)}; 'ztfmatch lineage' says what became of them"
        click.echo(f"ztfmatch: {said}", err=True)
    if unknown := [number for number, state in states.items() if state is None]:
        click.echo(f"ztfmatch: {store} has no object {_named(unknown)} in snapshot {answer.snapshot}", err=True)
        click.get_current_context().exit(2)  # the rows of the others are given: no error in JSON after them


def _named(numbers: list[Any]) -> str:
    """The first of some objectids, and how many more there are."""
    more = f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else ""
    return ", ".join(map(str, numbers[:_NAMED])) + more


def _ids(objectid: tuple[int, ...], objectids: Path | None) -> tuple[int, ...] | None:
    if objectids is None:
        return objectid or None
    from ztfmatch.query.io.idlist import read_objectids

    return (*objectid, *read_objectids(objectids).tolist())
