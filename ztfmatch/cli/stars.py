"""The command that links objects into stars."""

# ruff: noqa: D301  (click reads the character \b in a docstring: do not wrap this paragraph)

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ztfmatch.cli.common import Command, counted, emit, open_store
from ztfmatch.cli.options import note_option, run_options

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs
    from ztfmatch.core.operations.link import LinkReport


@click.command(cls=Command)
@click.argument("store")
@note_option
@run_options
def link(store: str, note: str | None, running: Runs, as_json: bool) -> None:
    """Link objects that are one source into stars.

    An object of a STORE is of one field, readout channel and filter; the same source is several. Objects of different
    units that are each other's nearest, within five times the error of their separation and 1.5 arcsec, become one
    star, with at most one object of each unit. A rematch keeps the stars of a store that has any; run it again after
    an import. A star keeps its id: through a rematch the id stays with most of its epochs. 'ztfmatch schema stars' has
    the columns, 'schema members' the objects of each, 'schema starlineage' what became of former stars.

    \b
    Example:
      ztfmatch link survey.store --workers 8
    """
    with running as how:
        report = open_store(store).link_stars(note=note, **how)
    emit(report, as_json, link_lines(report))


def link_lines(report: LinkReport) -> list[str]:
    """What to say of linking."""
    if not report.committed:
        return [f"All stars are up to date; the store stays at snapshot {report.snapshot}."]
    found = f"{counted(report.stars, 'star')} of {counted(report.members, 'object')}, {report.new:,} of them new"
    lines = [f"Snapshot {report.snapshot}: {found}, in {counted(report.tiles, 'tile')}, {report.seconds:.1f} s."]
    if report.split + report.merged + report.lost:
        lines.append(f"Of former stars {report.split:,} split, {report.merged:,} merged, {report.lost:,} were lost.")
    return lines + ([f"{counted(report.changed, 'tile')} changed meanwhile: run it again."] if report.changed else [])
