"""Commands that exchange data with other formats: groups import and export, one command a format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, bad_files, counted, emit, open_store, size_text, unchanged, warning_lines
from ztfmatch.cli.kowalski import kowalski
from ztfmatch.cli.paramtypes import PLACE, OutputFile, OutputPlace
from ztfmatch.cli.terminal import cell, print_table

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs
    from ztfmatch.core.config import StoreConfig


@click.group("import")
def import_() -> None:
    """Import other formats into a store."""


@click.group("export")
def export() -> None:
    """Export a store to other formats."""


@import_.command("matchfile", cls=Command)
@click.argument("store", type=OutputPlace())
@click.argument("files", nargs=-1, required=True)
@options.flag("--create", "Make the store if there is none.")
@options.store_config(", with --create")
@options.strict("a matchfile cannot be used, instead of quarantining it")
@options.fail_if_empty("matchfiles")
@options.note
@options.runs
def import_matchfile(store: str, files: tuple[str, ...], create: bool, store_config: StoreConfig,
                     strict: bool, fail_if_empty: bool, note: str | None, running: Runs,
                     as_json: bool) -> None:  # fmt: skip
    """Import the survey's matchfiles into a STORE.

    FILES are *_match.pytable files, directories or globs on local disks; needs ztfmatch[matchfile]. Sources become
    objects with IRSA's objectids, their epochs become detections with all values unchanged, and transients become
    orphans. In units of which the store already has objects, epochs are matched to those. A rerun with the same files
    changes nothing; exposures already in the store are skipped.

    \b
    Examples:
      ztfmatch import matchfile legacy.store /data/ztf/srcmatch --create --workers 8
      ztfmatch import matchfile survey.store ztf_000245_zr_c10_q1_match.pytable
    """
    from ztfmatch import api
    from ztfmatch.matchfile.ingest import ImportConfig

    new = store_config if create else None
    config = ImportConfig(create=new, strict=strict, note=note, fail_if_empty=fail_if_empty)
    with running as how:
        _, report = api.import_matchfiles(store, files, config, **how)
    taken = f"{counted(report.imported, 'matchfile')}, {counted(report.objects, 'object')}"
    rows = f"{report.matched:,} matched + {report.orphans:,} orphans + {report.rejected:,} rejected"
    size = f"{size_text(report.bytes)}, {report.seconds:.1f} s"
    lines = [f"Snapshot {report.snapshot}: {taken}, {counted(report.exposures, 'exposure')} = {rows}; {size}."]
    if not report.committed:
        lines = [f"Nothing new in {counted(report.files, 'matchfile')}: {report.known:,} known."]
    if not report.files:
        lines = [unchanged(f"No matchfiles in {', '.join(files)}", report.snapshot)]
    if report.known_exposures:
        lines.append(f"Skipped: {counted(report.known_exposures, 'exposure')} already in the store.")
    if report.moved:
        lines.append(f"Not of the object that the file has them of: {counted(report.moved, 'epoch')}.")
    emit(report, as_json, [*lines, *warning_lines(report.warnings), *bad_files(report.quarantined)])


@export.command("matchfile", cls=Command)
@click.argument("store")
@click.option("--field", type=int, help="Only this field.")
@options.filters("Only this filter: g, r or i (zg or 1 do as well).")
@click.option("--ccd", "ccdid", type=click.IntRange(1, 16), help="Only this CCD.")
@click.option("--quad", "qid", type=click.IntRange(1, 4), help="Only this quadrant of the CCD.")
@click.option("--objectid", type=int, help="Only the unit of this object.")
@click.option(
    "--output",
    "-o",
    type=OutputFile(dir_okay=True),
    default=Path(),
    help="File to write, or an existing directory for files with the survey's names; by default the current one.",
)
@options.flag("--overwrite", "Overwrite existing output files.")
@options.snapshot
@options.runs
def export_matchfile(store: str, field: int | None, filters: tuple[int, ...] | None, ccdid: int | None, qid: int | None,
                     objectid: int | None, output: Path, overwrite: bool, snapshot: int | None, running: Runs,
                     as_json: bool) -> None:  # fmt: skip
    """Export units of a STORE as matchfiles of the survey.

    One PyTables file per field, filter, CCD and quadrant, with the survey's tables, columns, types and attributes;
    needs ztfmatch[matchfile]. Imported epochs keep all their values. Statistics are computed on the fly, under the
    survey's names; the transients table has the groups of 'ztfmatch transients'.

    \b
    Examples:
      ztfmatch export matchfile survey.store --field 679 --filter r --ccd 5 --quad 1 -o match.pytable
      ztfmatch export matchfile survey.store --field 679 -o matchfiles/ --workers 8
    """
    from ztfmatch.matchfile.export import UnitFilter

    if filters is not None and len(filters) > 1:
        raise click.UsageError("--filter: give one filter, or none for all.")
    units = UnitFilter(field=field, fid=filters[0] if filters else None, ccdid=ccdid, qid=qid, objectid=objectid)
    with running as how:
        report = open_store(store).snapshot(snapshot).export_matchfiles(output, units, overwrite, **how)
    emit(report, as_json, [_written(file) for file in report.files])


@export.command("corrections", cls=Command)
@click.argument("corrections", type=PLACE)
@options.directory("Directory for the tables.")
@click.option("--mjd", type=float, help="Time at which time-dependent terms are evaluated; by default the latest.")
@options.as_json
def export_corrections(corrections: Path, output: Path, mjd: float | None, as_json: bool) -> None:
    """Export CORRECTIONS as the survey's own tables.

    Mag_Bias.txt, Field_Corrections.txt and a spline of 21 x 21 coefficients per readout channel and filter, which the
    survey's pipeline adds to magnitudes. This format has no time, colour or exposure terms and a lower resolution: the
    differences from the corrections are reported per channel. 'ztfmatch correct' can apply such tables, too.

    \b
    Example:
      ztfmatch export corrections corrections-2019 -o survey-tables
    """
    from ztfmatch.photometry.surveyform import export_survey_tables

    report = export_survey_tables(corrections, output, mjd)
    left_out = f"; without the terms of {', '.join(report.left_out)}" if report.left_out else ""
    channels, units = counted(len(report.channels), "channel"), counted(report.units, "unit")
    emit(report, as_json, [f"Corrections {report.corrections} in {report.output}: {channels}, {units}{left_out}."])
    if not as_json:
        rows = [list(map(cell, vars(row).values())) for row in report.channels]
        print_table(["rcid", "filter", "map RMS mmag", "map most mmag", "magnitude most mmag"], rows)


def _written(file: Any) -> str:
    nouns = {"sources": "source", "sourcedata": "epoch", "exposures": "exposure", "transients": "transient"}
    rows = ", ".join(counted(getattr(file, name), noun) for name, noun in nouns.items())
    return f"{file.path}: {rows}; {size_text(file.size)}"


export.add_command(kowalski)
