"""Commands init, statistics, transients, verify, status, quarantine and schema."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import (
    Command,
    as_plain,
    bad_files,
    changed_meanwhile,
    counted,
    emit,
    emit_json,
    first_lines,
    open_store,
    size_text,
    unchanged,
    warning_lines,
)
from ztfmatch.cli.paramtypes import OutputPlace
from ztfmatch.cli.terminal import print_table
from ztfmatch.core.config import MIN_NEW_PERCENT, StoreConfig

if TYPE_CHECKING:
    from ztfmatch.api import Snapshot
    from ztfmatch.cli.options import Runs
    from ztfmatch.core.operations.statistics import StatisticsReport
    from ztfmatch.core.operations.transients import TransientsReport


@click.command(cls=Command)
@click.argument("store", type=OutputPlace())
@options.references("Reference PSF catalogs: a directory, file or glob, or s3://BUCKET/PREFIX. Repeatable.")
@options.store_config()
@options.strict("a reference is unusable or misnamed")
@click.option(
    "--link/--no-link",
    default=True,
    show_default=True,
    help="Link objects of the same source into stars, as 'ztfmatch link' does.",
)
@options.runs
def init(store: str, references: tuple[str, ...], store_config: StoreConfig, strict: bool, link: bool, running: Runs,
         as_json: bool) -> None:  # fmt: skip
    """Create a STORE from reference PSF catalogs (refpsfcat FITS).

    Reads the seeds, divides the sky into HEALPix tiles by seed density, and writes one object per seed. Links objects
    of the same source in different fields, channels and filters into stars. A rerun with the same references changes
    nothing.

    \b
    Examples:
      ztfmatch init survey.store --references /data/ztf/ref
      ztfmatch init survey.store --references /data/ztf/ref --no-link
    """
    from ztfmatch import api

    with running as how:
        _, report = api.create(store, references, store_config, strict=strict, link=link, **how)
    done = "The store was made of these references before; nothing to do." if report.already_done else "Store made."
    headline = (
        f"{done} {counted(report.objects, 'object')} of {counted(report.references, 'reference')} in "
        f"{counted(report.tiles, 'tile')}, {size_text(report.bytes)}, {report.seconds:.1f} s."
    )
    headline += f" The objects are of {counted(report.stars, 'star')}." if report.stars else ""
    emit(report, as_json, [headline, *warning_lines(report.warnings), *bad_files(report.quarantined)])


@click.command(cls=Command)
@click.argument("store")
@click.option(
    "--min-new",
    type=click.FloatRange(0),
    default=MIN_NEW_PERCENT,
    show_default=True,
    metavar="PERCENT",
    help="Skip tiles with fewer new epochs; 0 updates all.",
)
@options.note
@options.runs
def statistics(store: str, min_new: float, note: str | None, running: Runs, as_json: bool) -> None:
    """Update the statistics of lightcurves.

    Computes all columns of the matchfile's sources table for the objects with new epochs; for the formulas see
    'ztfmatch schema statistics'. Tiles whose epochs have grown by less than --min-new are skipped, so that a nightly
    run does not read every lightcurve for one epoch each: 'ztfmatch status' reports how old statistics are, and queries
    recompute those that are out of date.

    \b
    Examples:
      ztfmatch statistics survey.store --workers 8
      ztfmatch statistics survey.store --workers 8 --min-new 0
    """
    with running as how:
        report = open_store(store).update_statistics(min_new, note=note, **how)
    emit(report, as_json, statistics_lines(report, min_new))


def statistics_lines(report: StatisticsReport, min_new: float) -> list[str]:
    """What to say of statistics."""
    if report.committed:
        headline = (
            f"Snapshot {report.snapshot}: statistics of {counted(report.objects, 'object')} from "
            f"{counted(report.epochs, 'epoch')} in {counted(report.tiles, 'tile')}, {report.seconds:.1f} s."
        )
    else:
        found = "No statistics are due" if report.waiting else "All statistics are up to date"
        headline = unchanged(found, report.snapshot)
    waiting = [f"{counted(report.waiting, 'tile')} with less than {min_new:g} % new epochs wait (--min-new)."]
    return [headline, *(waiting if report.waiting else []), *changed_meanwhile(report.changed)]


@click.command(cls=Command)
@click.argument("store")
@options.note
@options.runs
def transients(store: str, note: str | None, running: Runs, as_json: bool) -> None:
    """Group the orphans of a STORE into transients.

    A transient consists of detections of a unit that matched no object and recur at a position: they are linked over
    exposures within the match radius. A transient within the radius of a seed, whose detections lost to nearer ones, is
    flagged as beside that object. Only units with new orphans are processed; transients keep their ids.
    'ztfmatch lightcurve --transients' shows them; for the columns see 'ztfmatch schema transients'.

    \b
    Examples:
      ztfmatch transients survey.store --workers 8
      ztfmatch lightcurve survey.store --transients --cone 246.78784 32.95253 2
    """
    with running as how:
        report = open_store(store).update_transients(note=note, **how)
    emit(report, as_json, transients_lines(report))


def transients_lines(report: TransientsReport) -> list[str]:
    """What to say of transients."""
    lines = [
        f"Snapshot {report.snapshot}: {counted(report.transients, 'transient')} of "
        f"{counted(report.detections, 'detection')} in {counted(report.tiles, 'tile')}, {report.seconds:.1f} s."
        if report.committed else unchanged("All transients are up to date", report.snapshot)
    ]  # fmt: skip
    if report.undecided:
        lines.append(f"Left out, since their detections go on beyond the reach of a tile: {report.undecided:,} groups.")
    return lines + changed_meanwhile(report.changed)


@click.command(cls=Command)
@click.argument("store")
@options.flag("--deep", "Also compare every file with its checksum.")
@options.snapshot
@options.runs
def verify(store: str, deep: bool, snapshot: int | None, running: Runs, as_json: bool) -> None:
    """Verify the invariants of a STORE.

    Recomputes every match, magnitude, time and digest from the stored rows and compares them: no detection is lost or
    duplicated, every measured value is that of the catalog, every match is the nearest. Exit code 1 if a check fails.

    \b
    Example:
      ztfmatch verify survey.store --deep --workers 8
    """
    with running as how:
        report = open_store(store).verify(deep, snapshot=snapshot, **how)
    if as_json:
        emit_json(report)
    else:
        rows = [("ok" if c.passed else "FAILED", c.check, c.checked, c.violations, c.proves) for c in report.checks]
        print_table(["", "check", "checked", "wrong", "proves that"], rows)
        for check in report.checks:
            if not check.passed:
                click.echo(f"{check.check}: for instance {check.example}")
        for text in first_lines([f"damaged: {text}" for text in report.damaged], ""):
            click.echo(text)
        if report.damaged:
            click.echo(f"{counted(len(report.damaged), 'damaged file')}; rows were not checked.")
        outcome = "All checks passed" if report.passed else "Some checks FAILED"
        click.echo(
            f"{outcome}: snapshot {report.snapshot}, {counted(report.exposures, 'exposure')}, "
            f"{counted(report.detections, 'detection')}, {counted(report.orphans, 'orphan')}, {report.seconds:.1f} s."
        )
    sys.exit(0 if report.passed else 1)


@click.command(cls=Command)
@click.argument("store")
@options.snapshot
@options.overwrite
@options.plot("Plot a map of the number of exposures to this file (.png, .pdf, .svg).")
@options.flag("--watch", "Report the progress of running operations until they end.")
@options.as_json
def status(store: str, snapshot: int | None, plot: Path | None, watch: bool, as_json: bool) -> None:
    """Summarize a STORE.

    Reports its size, times and tables, how many exposures are good, and whether the statistics are up to date. --plot
    draws a map of the whole sky in galactic coordinates.

    \b
    Examples:
      ztfmatch status survey.store
      ztfmatch status survey.store --json | jq .detections
      ztfmatch status survey.store --plot coverage.png
      ztfmatch status survey.store --watch
    """
    if watch:
        from ztfmatch.cli.watching import watch_operations

        watch_operations(store, as_json)
        return
    opened = open_store(store).snapshot(snapshot)
    if plot is not None:
        _draw(opened, plot)
    report = opened.status
    if as_json:
        emit_json(report)
        return
    shown = {name: value for name, value in as_plain(report).items() if name not in ("tables", "drift")}
    for name, value in shown.items():
        text = ", ".join(f"{k} {v:,}" for k, v in value.items()) if isinstance(value, dict) else value
        text = "none" if text in (None, "") else f"{text:,}" if isinstance(text, int) else text
        click.echo(f"{name.replace('_', ' '):<22}{text}")
    click.echo()
    print_table(
        ["table", "rows", "files", "size"], [(t.table, t.rows, t.files, size_text(t.bytes)) for t in report.tables]
    )


def _draw(snapshot: Snapshot, path: Path) -> None:
    from ztfmatch.plot import CoverageOptions, plot_coverage

    plot_coverage(snapshot.table("exposures", columns=["field", "rcid"]), path, CoverageOptions(zoom=True))
    click.echo(f"wrote {path}", err=True)


@click.command(cls=Command)
@click.argument("store")
@options.as_json
def quarantine(store: str, as_json: bool) -> None:
    """List the quarantined files of a STORE with the reasons.

    The next append of a repaired file ingests it and clears its entry.

    \b
    Example:
      ztfmatch quarantine survey.store
    """
    from ztfmatch.core.io.refused import Refused

    rows = open_store(store).snapshot().table("quarantine").to_pylist()
    files = [Refused.read(row, row["code"], row["reason"]) for row in rows]
    emit(rows, as_json, bad_files(files) or ["No file is in quarantine."])


@click.command(cls=Command)
@click.argument("table", required=False)
@options.flag("--markdown", "Print as Markdown.")
@options.as_json
def schema(table: str | None, markdown: bool, as_json: bool) -> None:
    """Describe the columns of the tables of a store, or of one TABLE.

    The tables of releases are lightcurves, starlightcurves, bulk, releasedobjects and association.

    \b
    Examples:
      ztfmatch schema detections
      ztfmatch schema statistics --markdown
    """
    from ztfmatch import documentation

    tables = documentation.tables(table)
    if as_json:
        emit_json([documentation.as_json(one) for one in tables])
    elif markdown:
        click.echo("\n".join(documentation.as_markdown(one) for one in tables))
    else:
        for one in tables:
            click.echo(f"{one.name}: {one.description}\nsorted by {', '.join(one.sorted_by)}")
            rows = [(c.name, documentation.type_text(c), c.unit, c.description, c.source) for c in one.columns]
            print_table(["column", "type", "unit", "description", "source"], rows)
            click.echo()
