"""Commands for stars: link objects, measure the offsets of units, compute the magnitudes of stars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, changed_meanwhile, counted, emit, open_store, unchanged

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs
    from ztfmatch.core.operations.link import LinkReport
    from ztfmatch.stars.offsets import OffsetsReport
    from ztfmatch.stars.statistics import StarStatisticsReport


@click.command(cls=Command)
@click.argument("store")
@options.note
@options.runs
def link(store: str, note: str | None, running: Runs, as_json: bool) -> None:
    """Link objects that are one source into stars.

    An object of a STORE is of one field, readout channel and filter; the same source is several. Objects of different
    units that are each other's nearest, within five times the error of their separation and 1.5 arcsec, become one
    star, with at most one object of each unit. A rematch keeps the stars of a store that has any; run it again after
    an import. 'ztfmatch stars' gives the stars their magnitudes. A star keeps its id: through a rematch the
    id stays with most of its epochs. 'ztfmatch schema stars' has the columns, 'schema members' the objects of each,
    'schema starlineage' what became of former stars.

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
        return [unchanged("All stars are up to date", report.snapshot)]
    found = f"{counted(report.stars, 'star')} of {counted(report.members, 'object')}, {report.new:,} of them new"
    lines = [f"Snapshot {report.snapshot}: {found}, in {counted(report.tiles, 'tile')}, {report.seconds:.1f} s."]
    if report.split + report.merged + report.lost:
        lines.append(f"Of former stars {report.split:,} split, {report.merged:,} merged, {report.lost:,} were lost.")
    return lines + changed_meanwhile(report.changed)


@click.command(cls=Command)
@click.argument("store")
@options.note
@options.runs
def stars(store: str, note: str | None, running: Runs, as_json: bool) -> None:
    """Compute the magnitudes of stars from all their objects.

    For each star of a STORE and each filter the number of good epochs, their median, scatter, first and last time, the
    colours, and whether the medians of its objects disagree. Offsets that 'ztfmatch offsets' measured are taken off.
    Tiles with new epochs or stars are computed; 'ztfmatch schema starstatistics' has the columns.

    \b
    Examples:
      ztfmatch stars survey.store --workers 8
      ztfmatch query survey.store --select stars --where "n_g > 50 and g_r < 0.3 and g_scatter > 0.1"
    """
    with running as how:
        report = open_store(store).update_star_statistics(note=note, **how)
    emit(report, as_json, star_lines(report))


def star_lines(report: StarStatisticsReport) -> list[str]:
    """What to say of statistics of stars."""
    if not report.committed:
        return [unchanged("All statistics of stars are up to date", report.snapshot)]
    done = f"{counted(report.stars, 'star')} from {counted(report.epochs, 'good epoch')}"
    where = f"{counted(report.tiles, 'tile')}, {report.seconds:.1f} s."
    return [f"Snapshot {report.snapshot}: statistics of {done} in {where}", *changed_meanwhile(report.changed)]


@click.command(cls=Command)
@click.argument("store")
@options.note
@options.runs
def offsets(store: str, note: str | None, running: Runs, as_json: bool) -> None:
    """Measure how the zero points of units differ.

    Solves for one offset for each unit of a STORE from the median magnitudes of stars that several units of a filter
    share, over all overlaps at once. The mean over units that overlaps connect is 0: what they have in common, and how
    such groups differ, cannot be told. Statistics of objects must be there ('ztfmatch statistics'); those of stars that
    were computed before are dropped. 'ztfmatch calibrate --internal' makes corrections of the offsets.

    \b
    Examples:
      ztfmatch offsets survey.store --workers 8
      ztfmatch calibrate survey.store --internal --output corrections
    """
    with running as how:
        report = open_store(store).update_offsets(note=note, **how)
    emit(report, as_json, offset_lines(report))


def offset_lines(report: OffsetsReport) -> list[str]:
    """What to say of offsets."""
    if not report.committed:
        return [unchanged("No two units share a star that counts", report.snapshot)]
    found = f"offsets of {counted(report.units, 'unit')} in {counted(report.groups, 'group')} from"
    found = f"Snapshot {report.snapshot}: {found} {counted(report.stars, 'shared star')}"
    scatter = f"scatter {1000.0 * (report.scatter or 0.0):.1f} mmag"
    return [f"{found}, {scatter}, reduced chi-square {report.reduced_chi_square or 0.0:.2f}, {report.seconds:.1f} s."]
