"""Commands for regenerated references: rematch, lineage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, bad_files, counted, emit, open_store, size_text, warning_lines
from ztfmatch.cli.rows import (
    People,
    RowOutput,
    columns_option,
    listed_columns,
    refuse_unknown,
    row_options,
    some_columns,
)
from ztfmatch.cli.terminal import print_table

if TYPE_CHECKING:
    from ztfmatch.api.running import Running
    from ztfmatch.cli.options import Runs

_UNITS_SHOWN = 40


@click.command(cls=Command, stray="--references PLACE")
@click.argument("store")
@options.references("New reference PSF catalogs, of any units: a directory, file or glob. Repeatable.")
@options.strict("a reference is unusable, instead of quarantining it")
@options.file("--plan", "Accept only references requested by this plan ('references plan'), and report shallower ones.")
@options.note
@options.dry_run("Only report what would become of objects and epochs.")
@options.runs
def rematch(store: str, references: tuple[str, ...], strict: bool, plan: Path | None, note: str | None,
            dry_run: bool, running: Runs, as_json: bool) -> None:  # fmt: skip
    """Rematch the epochs of a STORE to new references.

    One commit matches every detection and orphan of the units with a new reference to its seeds; no epochal catalog is
    read. New objects get objectids of the next generation, the old ones are retired, and the lineage links them. Other
    units are unchanged. A unit without a reference gets its first.

    For each unit, reports how many old objects are the same, moved, split, merged or lost, how many new ones have no
    ancestor, how many transients become objects, and how many epochs do not go to their object's successor.

    \b
    Examples:
      ztfmatch rematch survey.store --references /data/ztf/ref/new --dry-run
      ztfmatch rematch survey.store --references /data/ztf/ref/new --workers 8 --note "references of May"
    """
    from ztfmatch.core.operations.rematch import RematchConfig
    from ztfmatch.core.schema.lineage import LINEAGE_KINDS

    with running as how:
        checked = [] if plan is None else _checked(plan, references, how)
        config = RematchConfig(strict=strict, note=note)
        report = open_store(store).rematch(references, config, dry_run=dry_run, **how)
    what = (
        f"{counted(len(report.units), 'unit')} in {counted(report.tiles, 'tile')}, "
        f"{counted(report.exposures, 'exposure')} = {report.matched:,} matched + {report.orphans:,} orphans"
    )
    if report.committed:
        line = f"Snapshot {report.snapshot}: {what}; {size_text(report.bytes)}, {report.seconds:.1f} s."
    elif report.units:
        line = f"Would match again: {what}."
    else:
        line = f"Nothing to match again: {counted(report.known, 'reference')} known."
    emit(report, as_json, [*checked, line])
    if not as_json and report.units:
        names = ("unit", "generation", "seeds", *LINEAGE_KINDS, "transients", "epochs", "epochs_moved")
        rows = [[getattr(unit, name) for name in names] for unit in report.units]
        print_table([name.replace("_", " ") for name in names], rows, most=_UNITS_SHOWN)
    for line in [] if as_json else [*warning_lines(report.warnings), *bad_files(report.quarantined)]:
        click.echo(line)


def _checked(plan: Path, references: tuple[str, ...], how: Running) -> list[str]:
    """Lines that say how references that came back agree with a plan."""
    from ztfmatch.core.runner import open_runner
    from ztfmatch.references.returned import check_returned

    with open_runner(**how) as runner:
        report = check_returned(plan, references, runner)
    line = f"{counted(report.references, 'reference')} came back as planned, {report.missing:,} not yet."
    return [
        line,
        *(f"  {row['unit']}: depth {row['depth']:.2f}, planned {row['predicted']:.2f}" for row in report.shallower),
    ]


@click.command(cls=Command)
@click.argument("store")
@click.option("--objectid", type=int, multiple=True, help="Object to trace, forwards and backwards; by default all.")
@options.snapshot
@options.plot("Plot retired objects before and after to this .png, .pdf or .svg.")
@columns_option
@row_options
@options.as_json
def lineage(store: str, objectid: tuple[int, ...], snapshot: int | None, plot: Path | None, columns: str | None,
            to: RowOutput, as_json: bool) -> None:  # fmt: skip  # noqa: ARG001
    """Trace retired objects of a STORE to their successors.

    One row per link between an old and a new object: same, moved, split, merged, lost or new, with separation,
    magnitude difference, the number of shared epochs, and how many epochs of the old one now belong to objects, to
    transients, or are plain orphans. --plot draws the lightcurve of each --objectid, which must be retired, beside that
    of its successor.

    \b
    Examples:
      ztfmatch lineage survey.store --objectid 679205100000017
      ztfmatch lineage survey.store --output lineage.parquet
      ztfmatch lineage survey.store --objectid 679205100000017 --plot before-and-after.png
    """
    if plot is not None and not objectid:
        raise click.UsageError("--plot draws retired objects: name them with --objectid.")
    opened = open_store(store)
    at = opened.snapshot(snapshot)
    rows = at.lineage(objectid or None)
    _require_known(objectid, at, rows)
    if plot is not None:
        _draw(opened.regenerations(objectid), plot)
    wanted = listed_columns(columns)
    rows = rows if wanted is None else some_columns(rows, wanted)
    to.write([rows], rows.schema, People("lineage", wanted, lambda: (rows.num_rows, True), side=True))
    if not rows.num_rows:
        click.echo("ztfmatch: no lineage found: no reference of these units was regenerated", err=True)


def _require_known(objectids: tuple[int, ...], snapshot: Any, rows: Any) -> None:
    """Refuse an objectid that is no object's; one that no rematch has touched is one."""
    linked = {*rows["objectid"].to_pylist(), *rows["newobjectid"].to_pylist()}
    refuse_unknown(set(objectids) - linked, snapshot)


def _draw(changes: Any, path: Path) -> None:
    from ztfmatch.plot import Story, plot_regenerations

    plot_regenerations([Story("Object", change) for change in changes], path, "What regenerated references changed")
