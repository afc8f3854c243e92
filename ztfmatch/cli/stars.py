"""Commands for stars: link, offsets, stars."""

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
    """Link objects of the same source into stars.

    An object belongs to one field, readout channel and filter, so that one source has several. Objects of different
    units that are each other's nearest neighbour, within five times the error of their separation and 1.5 arcsec,
    become one star, with at most one object per unit. A rematch updates existing stars; run this again after an import.
    Stars keep their ids: in a rematch an id stays with most of its epochs. 'ztfmatch stars' computes their magnitudes.
    For the columns see 'ztfmatch schema stars', 'schema members' (the objects of each star) and 'schema starlineage'
    (former stars).

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

    For each star of a STORE and each filter: number of good epochs, median, scatter, first and last time; also colours,
    and whether the medians of its objects disagree. Offsets measured by 'ztfmatch offsets' are subtracted. Only tiles
    with new epochs or stars are computed. For the columns see 'ztfmatch schema starstatistics'.

    \b
    Examples:
      ztfmatch stars survey.store --workers 8
      ztfmatch query survey.store --select stars --where "g_mag < 18 and n_g > 50 and g_scatter > 0.1"
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
    """Measure zero-point offsets between units.

    Solves for the offset of each unit of a STORE from the median magnitudes of stars shared by several units of a
    filter, over all overlaps at once. The mean over connected units is 0: a common offset of a connected group is not
    determined. Needs the statistics of objects ('ztfmatch statistics'); existing statistics of stars are dropped.
    'ztfmatch calibrate --internal' turns the offsets into corrections.

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
