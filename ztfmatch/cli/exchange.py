"""Commands that exchange data with other formats: groups import and export, one command a format."""

# ruff: noqa: D301  (click reads the character \b in a docstring: do not wrap this paragraph)

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ztfmatch.cli.angles import Radius
from ztfmatch.cli.common import (
    Command,
    OutputPlace,
    bad_files,
    counted,
    emit,
    json_option,
    open_store,
    progress_bar,
    resource_options,
    size_text,
    warning_lines,
)
from ztfmatch.core.config import Resources, StoreConfig


@click.group("import")
def import_() -> None:
    """Take other formats into a store."""


@click.group("export")
def export() -> None:
    """Write what a store holds in other formats."""


@import_.command("matchfile", cls=Command)
@click.argument("store", type=OutputPlace())
@click.argument("files", nargs=-1, required=True)
@click.option("--create", is_flag=True, help="Make the store if there is none.")
@click.option(
    "--radius",
    type=Radius(),
    default=StoreConfig.radius_arcsec,
    show_default=True,
    help="Match radius of a store that is made, in arcsec.",
)
@click.option(
    "--seeds-per-tile",
    type=int,
    default=StoreConfig.seeds_per_tile,
    show_default=True,
    help="A HEALPix tile with more seeds is split, in a store that is made.",
)
@click.option("--strict", is_flag=True, help="Fail if a matchfile cannot be used, instead of quarantining it.")
@click.option("--fail-if-empty", is_flag=True, help="Fail if there are no matchfiles, instead of saying so.")
@click.option("--note", help="Kept in the history.")
@resource_options
@json_option
def import_matchfile(store: str, files: tuple[str, ...], create: bool, radius: float, seeds_per_tile: int,
                     strict: bool, fail_if_empty: bool, note: str | None, resources: Resources,
                     as_json: bool) -> None:  # fmt: skip
    """Take the survey's matchfiles into a STORE.

    FILES are *_match.pytable files, directories or globs on local disks; they need ztfmatch[matchfile]. Sources become
    objects with the objectids that IRSA gave them, their epochs detections with every value as it is there, transients
    orphans. Of a unit that the store has objects of, the epochs are matched to those. Done again with the same files
    it changes nothing; exposures that the store has are passed over.

    \b
    Examples:
      ztfmatch import matchfile legacy.store /data/ztf/srcmatch --create --workers 8
      ztfmatch import matchfile survey.store ztf_000245_zr_c10_q1_match.pytable
    """
    from ztfmatch import api
    from ztfmatch.matchfile.ingest import ImportConfig

    new = StoreConfig(radius, seeds_per_tile) if create else None
    config = ImportConfig(new, strict, note=note, fail_if_empty=fail_if_empty)
    with progress_bar(as_json) as progress:
        _, report = api.import_matchfiles(store, files, config, resources, progress)
    taken = f"{counted(report.imported, 'matchfile')}, {counted(report.objects, 'object')}"
    rows = f"{report.matched:,} matched + {report.orphans:,} orphans + {report.rejected:,} rejected"
    size = f"{size_text(report.bytes)}, {report.seconds:.1f} s"
    lines = [f"Snapshot {report.snapshot}: {taken}, {counted(report.exposures, 'exposure')} = {rows}; {size}."]
    if not report.committed:
        lines = [f"Nothing new in {counted(report.files, 'matchfile')}: {report.known:,} known."]
    if not report.files:
        lines = [f"No matchfiles in {', '.join(files)}; the store stays at snapshot {report.snapshot}."]
    if report.known_exposures:
        lines.append(f"Passed over: {counted(report.known_exposures, 'exposure')} that the store has.")
    if report.moved:
        lines.append(f"Not of the object that the file has them of: {counted(report.moved, 'epoch')}.")
    emit(report, as_json, [*lines, *warning_lines(report.warnings), *bad_files(report.quarantined)])


@export.command("matchfile", cls=Command)
@click.argument("store")
@click.option("--field", type=int, help="Only this field.")
@click.option("--fid", type=click.IntRange(1, 3), help="Only this filter: 1 = g, 2 = r, 3 = i.")
@click.option("--ccd", "ccdid", type=click.IntRange(1, 16), help="Only this CCD.")
@click.option("--quad", "qid", type=click.IntRange(1, 4), help="Only this quadrant of the CCD.")
@click.option("--objectid", type=int, help="The unit of this object.")
@click.option(
    "--output",
    "-o",
    type=OutputPlace(path_type=Path),
    default=Path(),
    help="File to write, or a directory that is there (by default this one): files get the survey's names in it.",
)
@click.option("--snapshot", type=click.IntRange(0), help="Number of the snapshot; the newest by default.")
@resource_options
@json_option
def export_matchfile(store: str, field: int | None, fid: int | None, ccdid: int | None, qid: int | None,
                     objectid: int | None, output: Path, snapshot: int | None, resources: Resources,
                     as_json: bool) -> None:  # fmt: skip
    """Write units of a STORE as the survey's matchfiles.

    One PyTables file for each field, filter, CCD and quadrant, with the tables, columns, types and attributes of the
    survey's; needs ztfmatch[matchfile]. Epochs that were imported have every value that they had. Statistics are
    computed now, under the survey's names; orphans are in transients, as 'ztfmatch transients' grouped them.

    \b
    Examples:
      ztfmatch export matchfile survey.store --field 679 --fid 2 --ccd 5 --quad 1 -o match.pytable
      ztfmatch export matchfile survey.store --field 679 -o matchfiles/ --workers 8
    """
    from ztfmatch.matchfile.export import UnitFilter

    units = UnitFilter(field, fid, ccdid, qid, objectid)
    with progress_bar(as_json) as progress:
        report = open_store(store).snapshot(snapshot).export_matchfiles(output, units, resources, progress)
    emit(report, as_json, [_written(file) for file in report.files])


def _written(file: Any) -> str:
    nouns = {"sources": "source", "sourcedata": "epoch", "exposures": "exposure", "transients": "transient"}
    rows = ", ".join(counted(getattr(file, name), noun) for name, noun in nouns.items())
    return f"{file.path}: {rows}; {size_text(file.size)}"
