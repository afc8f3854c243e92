"""The command lightcurve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, open_store
from ztfmatch.cli.rows import (
    COUNTING_S,
    People,
    RowOutput,
    columns_option,
    is_transient,
    listed_columns,
    refuse_unknown,
    row_options,
    some_columns,
)
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Keywords


@click.command(cls=Command, stray="--cone RA DEC RADIUS, or --objectid")
@click.argument("store")
@click.option("--objectid", type=int, multiple=True, help="Object or transient. Repeatable.")
@options.place(
    "All objects in a circle (ICRS): degrees or sexagesimal (16:28:19.9 +32:57:17); radius in arcsec or with a unit."
)
@click.option(
    "--star", "stars", multiple=True, metavar="ID", help="Star: its starid, its name, or an objectid of it. Repeatable."
)
@options.flag("--by-star", "Select the stars in the --cone: epochs of all their objects, by star.")
@options.flag("--transients", "Select the transients in the --cone instead of objects.")
@options.snapshot
@options.filters()
@columns_option
@row_options
@options.plot("Plot the lightcurves to this file (.png, .pdf, .svg).")
@click.option("--period", type=float, metavar="DAYS", help="Fold the plot with this period.")
@options.flag("--statistics", "Give objects with their statistics instead of epochs.")
@options.flag("--follow", "Replace a retired --objectid by its successors.")
@options.as_json
def lightcurve(store: str, objectid: tuple[int, ...], cone: tuple[str, str, str] | None, stars: tuple[str, ...],
               by_star: bool, transients: bool, snapshot: int | None, filters: tuple[int, ...] | None,
               columns: str | None, to: RowOutput, plot: Path | None, period: float | None, statistics: bool,
               follow: bool, as_json: bool) -> None:  # fmt: skip  # noqa: ARG001
    """Show lightcurves of a STORE.

    Select objects by --objectid or --cone, or stars by --star; a star has the epochs of all its objects, over fields
    and filters (see 'ztfmatch link'). All epochs are given, including flagged ones: clean ones have catflags = 0. With
    only --plot nothing is printed. An object retired by a regenerated reference has no epochs any more: the command
    reports its successors, and with --follow gives their lightcurves; --star always does.

    \b
    Examples:
      ztfmatch lightcurve survey.store --objectid 679205100001438
      ztfmatch lightcurve survey.store --cone 247.08291 32.95480 2 --plot star.png
      ztfmatch lightcurve survey.store --cone 247.08291 32.95480 2 --output star.parquet
      ztfmatch lightcurve survey.store --star "ZTF J162819.89+325717.2" --plot folded.png --period 0.42735
      ztfmatch lightcurve survey.store --cone 246.78784 32.95253 2 --transients --statistics
    """
    _check_usage(objectid, cone, stars, by_star, transients)
    if period is not None and plot is None:
        raise click.UsageError("--period folds the plot: give it with --plot FILE.")
    opened = open_store(store).snapshot(snapshot)
    if stars or by_star:
        shown = _Shown(to, plot, period, listed_columns(columns), filters)
        _of_stars(opened, shown, {"starid": _named(opened, stars)} if stars else {"cone": cone}, statistics)
        return
    objectid = _told_of_retired(opened, objectid, follow) if objectid else objectid
    if cone and transients:
        objectid = tuple(opened.transients(cone=cone)["transientid"].to_pylist())
    select: Keywords = {"objectid": objectid} if objectid or transients else {"cone": cone}
    _require_known(objectid, opened)
    if plot is not None:
        title = _title(cone, "Transients" if transients else "Objects")
        _draw(_in_filters(opened.lightcurves(**select), filters), plot, title, period, _place(cone))
        if to.is_table:
            return
    of_transients = all(map(is_transient, objectid)) if objectid else transients
    wanted = listed_columns(columns)
    if statistics:
        found = _in_filters(_statistics(opened, select), filters)
        number = _write(to, found, People("transients" if of_transients else "statistics", wanted, side=True))
    elif transients or any(map(is_transient, objectid)):
        found = _in_filters(opened.lightcurves(**select), filters)
        number = _write(to, _headed(found) if of_transients else found, People("lightcurves", wanted))
    else:
        number = _write_epochs(to, opened, {**select, "filters": filters}, wanted)
    if not number:
        kind = ("transient" if transients else "object") if statistics else "epoch"
        around = f"; {opened.near(cone)}" if cone and not transients and filters is None else ""
        click.echo(f"ztfmatch: no {kind} found{around}", err=True)


def _in_filters(rows: Any, filters: tuple[int, ...] | None) -> Any:
    """Rows that are of some filters."""
    from ztfmatch.query.tables import of_filters

    return rows if filters is None else of_filters(rows, filters)


def _check_usage(objectid: Any, cone: Any, stars: Any, by_star: bool, transients: bool) -> None:
    """Refuse what does not go together."""
    if [bool(objectid), bool(cone), bool(stars)].count(True) != 1:
        raise click.UsageError("Give one of --objectid, --star, --cone RA DEC RADIUS and --name NAME RADIUS.")
    if by_star and (not cone or transients):
        raise click.UsageError("--by-star is about the stars in a --cone.")
    if transients and not cone:
        raise click.UsageError("--transients is about a --cone; of one that is known give the id with --objectid.")


@dataclass(frozen=True)
class _Shown:
    """How to give what was found."""

    to: RowOutput
    plot: Path | None
    period: float | None
    columns: list[str] | None
    filters: tuple[int, ...] | None


def _named(snapshot: Any, names: tuple[str, ...]) -> tuple[int, ...]:
    """Starids of what names stars; says what was followed."""
    named = snapshot.named_stars(*names)
    for text in named.followed:
        click.echo(f"ztfmatch: {text}", err=True)
    starids: tuple[int, ...] = named.starids
    return starids


def _of_stars(snapshot: Any, shown: _Shown, select: Keywords, statistics: bool) -> None:
    """Give stars' epochs, or what is known of the stars."""
    epochs = None
    if shown.plot is not None or not statistics:
        epochs = _in_filters(snapshot.star_lightcurves(**select), shown.filters)
    if shown.plot is not None:
        cone = select.get("cone")
        _draw(epochs, shown.plot, None if cone is None else _title(cone, "Stars"), shown.period, _place(cone))
        if shown.to.is_table:
            return
    rows = snapshot.stars(**select) if statistics else epochs
    if not _write(shown.to, rows, People("stars" if statistics else "star epochs", shown.columns, side=statistics)):
        click.echo(f"ztfmatch: no {'star' if statistics else 'epoch'} found", err=True)


def _write(to: RowOutput, rows: Any, people: People) -> int:
    """Write rows of a table."""
    rows = rows if people.columns is None else some_columns(rows, people.columns)
    return to.write([rows], rows.schema, replace(people, total=lambda: (rows.num_rows, True)))


def _write_epochs(to: RowOutput, snapshot: Any, select: Keywords, columns: list[str] | None) -> int:
    """Write epochs of objects as they are found; of few they are in order over tiles, too."""
    from ztfmatch.query.request import Query
    from ztfmatch.query.tables import in_order

    asked = {"objectids" if name == "objectid" else name: value for name, value in select.items()}
    answer = snapshot.query(Query("lightcurves", columns=columns, **asked))
    people = People("lightcurves", columns, lambda: answer.count(COUNTING_S))
    return to.write(in_order(to.rows_of(answer), ("objectid", "hmjd")), answer.schema, people)


def _headed(rows: Any) -> Any:
    """Epochs of transients alone, whose numbers are no objectids."""
    return rows.rename_columns(["transientid" if name == "objectid" else name for name in rows.column_names])


def _title(cone: tuple[str, str, str] | None, what: str) -> str | None:
    """What was asked for, to head a picture; objects that were named do it themselves."""
    from ztfmatch.query.kernels.angles import circle_of

    if not cone:
        return None
    ra, dec, radius = circle_of(cone)
    return f"{what} within {radius:g} arcsec of RA {ra:.5f}  Dec {dec:+.5f}"


def _place(cone: tuple[str, str, str] | None) -> tuple[float, float] | None:
    """Centre of a cone in degrees."""
    from ztfmatch.query.kernels.angles import circle_of

    return circle_of(cone)[:2] if cone else None


def _statistics(snapshot: Any, select: Keywords) -> Any:
    """Objects with their statistics; transients where only such are asked for."""
    ids = select.get("objectid")
    kinds = {is_transient(number) for number in ids or ()}
    if kinds == {True, False}:
        raise ConfigError("the statistics of objects and of transients have other columns: ask for one kind")
    return snapshot.transients(ids) if kinds == {True} else snapshot.sources(**select)


def _told_of_retired(snapshot: Any, objectids: tuple[int, ...], follow: bool) -> tuple[int, ...]:
    """Say which of the objects are retired and what became of them; the objects to show."""
    from ztfmatch.core.schema.sky import RETIRED
    from ztfmatch.query.lineage import describe

    transients = [number for number in objectids if is_transient(number)]
    objects = [number for number in objectids if not is_transient(number)]
    rows = snapshot.objects(objectid=objects).select(["objectid", "status"]).to_pylist() if objects else []
    retired = [row["objectid"] for row in rows if row["status"] == RETIRED]
    retired += sorted(set(transients) - set(snapshot.transients(transients)["transientid"].to_pylist()))
    if not retired:
        return objectids
    links = snapshot.successors(retired).to_pylist()
    for link in links:
        click.echo(f"ztfmatch: {describe(link)}", err=True)
    if not follow:
        return objectids
    heirs = [link["newobjectid"] for link in links if link["newobjectid"] is not None]
    return tuple(dict.fromkeys([*(i for i in objectids if i not in retired), *heirs])) or objectids


def _require_known(objectids: tuple[int, ...], snapshot: Any) -> None:
    """Refuse an objectid that is no object's; an object without epochs is one, and a transient that became one."""
    missing = {number for number in objectids if is_transient(number)}
    missing -= set(snapshot.transients(missing)["transientid"].to_pylist()) if missing else set()
    missing -= set(snapshot.lineage(objectid=missing)["objectid"].to_pylist()) if missing else set()
    refuse_unknown(missing | {number for number in objectids if not is_transient(number)}, snapshot)


def _draw(epochs: Any, path: Path, title: str | None, period: float | None, place: tuple[float, float] | None) -> None:
    from ztfmatch.plot import PlotOptions, plot_lightcurves

    plot_lightcurves(epochs, path, PlotOptions(title, period, place))
    click.echo(f"wrote {path}", err=True)
