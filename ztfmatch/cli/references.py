"""Commands on the quality of references: audit, flatness, select, plan, page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.calibration import ps1_options
from ztfmatch.cli.common import Command, InOrder, bad_files, counted, emit, open_store, size_text, unchanged
from ztfmatch.cli.paramtypes import FILE, PLACE, OutputFile
from ztfmatch.cli.rows import People, RowOutput, row_options, write_file
from ztfmatch.cli.terminal import cell, print_table
from ztfmatch.core.plain import Keywords, Row

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs

_SHOWN = 50
_WITH_LISTS = ("json", "parquet", "arrow")
_AUDIT_COLUMNS = (
    *("rank", "field", "rcid", "fid", "nsources", "delta", "rms", "depth", "lcdelta", "nmissing", "nwon", "verdict"),
)

settings_option = options.file("--settings", "Thresholds and criteria (TOML); the survey's by default.")


@click.group(cls=InOrder)
def references() -> None:
    """Find bad references, choose images, plan new ones.

    \b
    In this order:
      ztfmatch references audit STORE --ps1 FILE     which are suspect, and which fifty to mend first
      ztfmatch references flatness STORE --ps1 FILE  keep in the ledger how flat exposures are
      ztfmatch references select STORE               which images are good enough
      ztfmatch references plan STORE --audit FILE    what to make of each unit, of which images
      ztfmatch references page STORE --audit FILE    all of it on one page
    """


@references.command(cls=Command)
@click.argument("store", required=False)
@click.option(
    "--references", "-r", "places", multiple=True, metavar="PLACE",
    help="Reference catalogs, instead of a store: a directory, file or glob. May be given more than once.",
)  # fmt: skip
@ps1_options()
@click.option(
    "--against",
    type=click.Choice(["ps1", "lightcurves", "both"]),
    help="What seeds are compared with; by default with all that is given.",
)
@options.file("--images", "Of what references are made (.parquet, .csv): field, rcid, fid, nimages, maglimit.")
@settings_option
@options.strict("a catalog cannot be used, instead of listing it")
@options.snapshot
@row_options
@options.runs
def audit(store: str | None, places: tuple[str, ...], ps1: Path | None, columns: dict[str, str], against: Any,
          images: Path | None, settings: Path | None, strict: bool, snapshot: int | None, to: RowOutput,
          running: Runs, as_json: bool) -> None:  # fmt: skip  # noqa: ARG001
    """Say which references are suspect.

    Of each reference it is measured how much PS1's magnitudes differ from its own over a grid of 3 x 3 bins, how deep
    it is and how crowded; of a store also what its lightcurves say: seeds that exposures do not see, sources that have
    no seed, offsets of positions and magnitudes, and the epochs that a new reference would win. A row a reference; of
    a table for people the first to be mended.

    \b
    Examples:
      ztfmatch references audit survey.store --ps1 ps1.parquet --output audit.parquet --workers 8
      ztfmatch references audit survey.store --against lightcurves
      ztfmatch references audit --references /data/ztf/ref --ps1 ps1.parquet --output audit.parquet
    """
    from ztfmatch.references.audit import AuditInputs, audit_files
    from ztfmatch.references.schema.settings import read_settings

    if (store is None) == (not places):
        raise click.UsageError("give either a STORE or --references")
    inputs, limits = AuditInputs(ps1, columns, against, images=images), read_settings(settings)
    with running as how:
        if store is not None:
            report = open_store(store).audit_references(inputs, limits, snapshot=snapshot, **how)
        else:
            from ztfmatch.core.runner import open_runner

            with open_runner(**how) as runner:
                report = audit_files(places, inputs, limits, runner, strict)
    _write(report.table, to)
    line = (
        f"{counted(report.references, 'reference')}: {report.suspect:,} suspect, {report.shallow:,} shallow, "
        f"{report.confused:,} confused, {report.unknown:,} unknown; {report.seconds:.1f} s."
    )
    for text in [line, *(f"Note: {note}." for note in report.notes), *bad_files(report.refused)]:
        click.echo(text, err=not to.is_table)


def _write(table: Any, to: RowOutput) -> None:
    """An audit as rows; for people the first in rank."""
    if not to.is_table:
        from ztfmatch.references.schema import without_lists

        table = without_lists(table) if to.form not in _WITH_LISTS else table
        to.write([table], table.schema, People("audit"))
        return
    rows = table.sort_by("rank").slice(0, _SHOWN).to_pylist()
    if rows:
        shown = [[cell(_verdict(row) if name == "verdict" else row[name]) for name in _AUDIT_COLUMNS] for row in rows]
        print_table(list(_AUDIT_COLUMNS), shown)
    if table.num_rows > _SHOWN:
        click.echo(f"and {table.num_rows - _SHOWN:,} more: --output FILE has all")


def _verdict(row: Row) -> str:
    flags = [name for name in ("suspect", "shallow", "confused", "unknown") if row[name]]
    return ", ".join(flags) or "good"


@references.command(cls=Command)
@click.argument("store")
@ps1_options(required=True)
@settings_option
@options.note
@options.runs
def flatness(store: str, ps1: Path, columns: dict[str, str], settings: Path | None, note: str | None, running: Runs,
             as_json: bool) -> None:  # fmt: skip
    """Measure how flat the exposures of a STORE are.

    What an audit measures of references, of exposures: differences of their stored detections from PS1 over 3 x 3 bins.
    In one commit the ledger gets flatdelta, flatrms and nflat of exposures that were not measured before; every
    morning those of the night. The criterion 'flatness' of 'references select' needs them.

    \b
    Examples:
      ztfmatch references flatness survey.store --ps1 ps1.parquet --workers 8
    """
    from ztfmatch.references.flatness import FlatnessInputs
    from ztfmatch.references.schema.settings import read_settings

    limits = read_settings(settings)
    with running as how:
        report = open_store(store).measure_flatness(FlatnessInputs(ps1, columns), limits, note=note, **how)
    if report.committed:
        line = (
            f"Snapshot {report.snapshot}: {counted(report.exposures, 'exposure')} measured, {report.decided:,} with "
            f"PS1 stars enough in every bin; {size_text(report.bytes)}, {report.seconds:.1f} s."
        )
    else:
        line = unchanged("All exposures with a reference are measured already", report.snapshot)
    emit(report, as_json, [line])


images_options = options.together(
    click.option("--metadata", type=PLACE, metavar="FILE",
                 help="Of images, CSV or Parquet: instead of a store, or beside it for what its ledger lacks."),
    settings_option,
    click.option("--without", multiple=True, metavar="CRITERION",
                 help="Leave a criterion out: fwhm, status, infobits, magzp, clrcoeff, maglimit, median, rms, night, "
                 "flatness. May be given more than once."),
    click.option("--nmin", type=click.IntRange(1), help="Fewest images of a reference, in place of the settings' 15."),
)  # fmt: skip
"""Which images, and what is good; the command gets what :func:`_images` takes."""


def _images(store: str | None, metadata: Path | None, settings: Path | None, without: tuple[str, ...],
            nmin: int | None) -> Any:  # fmt: skip
    """Source of images, and settings."""
    from ztfmatch.references.io.images import ImageSource
    from ztfmatch.references.schema.settings import read_settings
    from ztfmatch.references.selection import with_limits

    if store is None and metadata is None:
        raise click.UsageError("give a STORE, or --metadata, or both")
    read = read_settings(settings)
    changes: Keywords = {"without": (*read.select.without, *without)}
    changes |= {} if nmin is None else {"nmin": nmin}
    snapshot = None if store is None else open_store(store).snapshot().files
    return ImageSource(snapshot, metadata), with_limits(read, **changes)


@references.command(cls=Command)
@click.argument("store", required=False)
@images_options
@options.new_file("--images", "A row an image (.parquet, .csv): its first failing criterion, or its place.")
@options.new_file("--counts", "A row a unit (.parquet, .csv): its images by criterion, predicted depth.")
@options.overwrite
@options.as_json
def select(store: str | None, images: Path | None, counts: Path | None, as_json: bool, **which: Any) -> None:
    """Say which images are good enough for references.

    Every image is held to the criteria of the settings; of those of a unit that meet all of them the sharpest are
    taken. Images are those of the ledger of a STORE, of a table of metadata, or both.

    \b
    Examples:
      ztfmatch references select --metadata images.parquet --images judged.parquet --counts units.parquet
      ztfmatch references select survey.store --metadata pixels.parquet --settings ours.toml
      ztfmatch references select survey.store --without status --without median --without rms
    """
    from ztfmatch.references.selection import select_images

    source, settings = _images(store, **which)
    selection = select_images(source, settings)
    for path, table in ((images, selection.image_table), (counts, selection.unit_table)):
        if path is not None:
            write_file(table(), path)
    figures = selection.figures()
    taken = sum(row["selected"] for row in figures)
    total = sum(row["images"] for row in figures)
    emit({"figures": figures}, as_json, [f"{taken:,} of {total:,} images selected."])
    if not as_json:
        print_table(["", *(row["filter"] for row in figures)],
                    [[name, *(row[name] for row in figures)] for name in figures[0] if name != "filter"])  # fmt: skip


@references.command(cls=Command)
@click.argument("store", required=False)
@images_options
@options.file("--audit", "What 'references audit' wrote (.parquet): today's references.", "audit_file")
@click.option("--update", type=FILE, metavar="PLAN", help="Bring this plan up to date with new images alone.")
@options.new_file("--retune", "Loss against each threshold, one at a time, as rows (.parquet, .csv).")
@click.option("--output", "-o", type=OutputFile(), metavar="FILE", help="The plan (.parquet): a row a unit.")
@options.overwrite
@options.as_json
def plan(store: str | None, audit_file: Path | None, update: Path | None, retune: Path | None, output: Path | None,
         as_json: bool, **which: Any) -> None:  # fmt: skip
    """Say what to make of each unit, of which images, at what cost.

    make: there is no reference, and images enough; wait: too few; regenerate: it is suspect, and images are enough;
    potentially updatable: too few; deepen: it is good, and a new one would be deeper; keep: all others.
    With --update, every morning, only units with new images are looked at, and those that became possible are listed.

    \b
    Examples:
      ztfmatch references plan --metadata images.parquet --audit audit.parquet --output plan.parquet
      ztfmatch references plan --metadata images.parquet --audit audit.parquet --retune loss.csv
      ztfmatch references plan --metadata yesterday.parquet --update plan.parquet --output plan-2.parquet
    """
    from ztfmatch.references.planning import plan_references, update_references

    source, settings = _images(store, **which)
    if update is not None and (audit_file is not None or retune is not None):
        raise click.UsageError("--update has its references from the plan: give it without --audit and --retune")
    if update is not None:
        report = update_references(update, source, settings)
        losses: list[Row] = []
        tuned = None
    else:
        report, losses, tuned = plan_references(source, audit_file, settings, retune is not None)
    for path, table in ((output, report.table), (retune, tuned)):
        if path is not None:
            write_file(table, path)
    line = (
        f"{counted(report.units, 'unit')}, {counted(report.images, 'image')}; what is to be made wins "
        f"{report.won:,} epochs; {report.seconds:.1f} s."
    )
    told = f"{counted(report.passed_over, 'image')} not newer than the plan passed over: make a new one to count them."
    shown = {name: value for name, value in vars(report).items() if name not in ("table", "judged")}
    emit({**shown, "loss": losses}, as_json, [line, *([told] if report.passed_over else [])])
    tables = () if as_json else ((report.actions, "units"), (losses, "sky coverage"), (report.possible, "possible now"))
    for rows, title in tables:
        if rows:
            cells = [[cell(value) for value in row.values()] for row in rows]
            print_table([name.replace("_", " ") for name in rows[0]], cells, title)


@references.command(cls=Command)
@click.argument("store", required=False)
@options.file("--audit", "What 'references audit' wrote.", "audit_file", required=True)
@options.file("--plan", "What 'references plan' wrote.", "plan_file")
@options.number("--visits", click.IntRange(1), 20, "Visits from which a unit is counted in the survey's table.")
@settings_option
@options.directory("Where the page goes; made new.")
@options.as_json
def page(store: str | None, audit_file: Path, plan_file: Path | None, visits: int, settings: Path | None, output: Path,
         as_json: bool) -> None:  # fmt: skip
    """Show coverage and quality of references on one page.

    A page of HTML that needs nothing but itself: maps of the sky in galactic coordinates, flatness with the thresholds,
    what is planned, those to be mended first; of a STORE also the survey's summary table.

    \b
    Examples:
      ztfmatch references page survey.store --audit audit.parquet --plan plan.parquet --output references-page
    """
    from ztfmatch.references.page import PageInputs, make_page
    from ztfmatch.references.schema.settings import read_settings

    snapshot = None if store is None else open_store(store).snapshot().files
    report = make_page(PageInputs(output, audit_file, plan_file), read_settings(settings), snapshot, visits)
    line = (
        f"{report.page}: {counted(report.references, 'reference')}, {report.suspect:,} suspect; "
        f"{size_text(report.bytes)}, {report.seconds:.1f} s."
    )
    emit(report, as_json, [line])
