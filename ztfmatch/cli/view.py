"""Commands for views of a snapshot's files in other formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, InOrder, counted, emit, open_store, size_text
from ztfmatch.cli.paramtypes import PRODUCT

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs


@click.group(cls=InOrder)
def view() -> None:
    """Make a STORE readable by other tools without a copy.

    \b
    Examples:
      ztfmatch view delta survey.store survey.delta
      ztfmatch view hats survey.store survey.hats
    """


@view.command("delta", cls=Command)
@click.argument("store")
@click.argument("output", type=PRODUCT)
@options.snapshot
@options.as_json
def view_delta(store: str, output: str, snapshot: int | None, as_json: bool) -> None:
    """Write Delta tables over the files of a snapshot.

    Each table in OUTPUT has links to the files and a log that lists exactly those of the snapshot. A rerun adds a
    version with the changes. Rows of retired objects and statistics that are not up to date are left out.

    \b
    Example:
      ztfmatch view delta survey.store survey.delta
    """
    report = open_store(store).snapshot(snapshot).view_delta(output)
    stale = f"; statistics of {counted(report.stale_statistics, 'tile')} are not up to date and left out"
    headline = (
        f"Snapshot {report.snapshot}: {counted(sum(report.tables.values()), 'file')} in "
        f"{counted(len(report.tables), 'Delta table')}, {len(report.changed)} changed, "
        f"{counted(report.copied, 'file')} without retired objects written; {report.seconds:.1f} s: {report.output}"
    )
    emit(report, as_json, [f"{headline}{stale if report.stale_statistics else ''}"])


@view.command("hats", cls=Command)
@click.argument("store")
@click.argument("output", type=PRODUCT)
@options.snapshot
@options.runs
def view_hats(store: str, output: str, snapshot: int | None, running: Runs, as_json: bool) -> None:
    """Write a HATS view of a compacted snapshot for LSDB.

    Two HATS catalogs, objects and detections (as links), with the store's tiles as partitions; joined by objectid they
    give lightcurves. A view shows one snapshot: make a new one for the next.

    \b
    Example:
      ztfmatch view hats survey.store survey.hats
    """
    with running as how:
        report = open_store(store).snapshot(snapshot).view_hats(output, **how)
    headline = (
        f"Snapshot {report.snapshot}: {counted(report.objects, 'object')}, {counted(report.detections, 'detection')} "
        f"in {counted(report.partitions, 'partition')}; {counted(report.linked, 'file')} linked, "
        f"{size_text(report.bytes)} written, {report.seconds:.1f} s: {report.output}"
    )
    emit(report, as_json, [headline])
