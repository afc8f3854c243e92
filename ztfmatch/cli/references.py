"""Commands on the quality of references: audit, flatness, select, plan, page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.calibration import ps1_options
from ztfmatch.cli.common import Command, InOrder, bad_files, counted, emit, open_store, size_text, unchanged
from ztfmatch.cli.paramtypes import FILE, PLACE, OutputFile
from ztfmatch.cli.rows import People, RowOutput, chosen_format, row_options, write_file
from ztfmatch.cli.terminal import cell, print_table
from ztfmatch.core.plain import Keywords, Row

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs

_SHOWN = 50
_WITH_LISTS = ("json", "parquet", "arrow")
_AUDIT_COLUMNS = (
    *("rank", "field", "rcid", "fid", "nsources", "delta", "rms", "depth", "lcdelta", "nmissing", "nwon", "verdict"),
)

settings_option = options.file("--settings", "Thresholds and criteria (TOML); by default the survey's.")


@click.group(cls=InOrder)
def references() -> None:
    """Audit references, select images, plan regenerations.

    \b
    In this order:
      ztfmatch references audit STORE --ps1 FILE     which references are suspect, the worst fifty first
      ztfmatch references flatness STORE --ps1 FILE  measure the flatness of exposures
      ztfmatch references select STORE               which images are good enough
      ztfmatch references plan STORE --audit FILE    what to do for each unit, with which images
      ztfmatch references page STORE --audit FILE    an HTML report of all this
    """


@references.command(cls=Command)
@click.argument("store", required=False)
@click.option(
    "--references", "-r", "places", multiple=True, metavar="PLACE",
    help="Reference catalogs instead of a store: a directory, file or glob. Repeatable.",
)  # fmt: skip
@ps1_options()
@click.option(
    "--against",
    type=click.Choice(["ps1", "lightcurves", "both"]),
    help="What seeds are compared with; by default everything available.",
)
@options.file(
    "--images", "Table of the images in each reference (.parquet, .csv): field, rcid, fid, nimages, maglimit."
)
@settings_option
@options.strict("a catalog is unusable, instead of listing it")
@options.snapshot
@row_options
@options.runs
def audit(store: str | None, places: tuple[str, ...], ps1: Path | None, columns: dict[str, str], against: Any,
          images: Path | None, settings: Path | None, strict: bool, snapshot: int | None, to: RowOutput,
          running: Runs, as_json: bool) -> None:  # fmt: skip  # noqa: ARG001
    """Audit references: find the suspect ones.

    For each reference, measures its differences from PS1 magnitudes over a grid of 3 x 3 bins, its depth and its
    crowding; in a store also, from the lightcurves, seeds not seen in exposures, sources without a seed, offsets of
    positions and magnitudes, and the epochs that a new reference would recover. One row per reference; on a terminal
    the most urgent ones.

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
        table = _as_form_has_it(table, to.form)
        to.write([table], table.schema, People("audit"))
        return
    rows = table.sort_by("rank").slice(0, _SHOWN).to_pylist()
    if rows:
        shown = [[cell(_verdict(row) if name == "verdict" else row[name]) for name in _AUDIT_COLUMNS] for row in rows]
        print_table(list(_AUDIT_COLUMNS), shown)
    if table.num_rows > _SHOWN:
        click.echo(f"and {table.num_rows - _SHOWN:,} more: --output FILE has all")


def _as_form_has_it(table: Any, form: str) -> Any:
    """A table, with texts for its lists where the format has none."""
    from ztfmatch.references.schema import without_lists

    return table if form in _WITH_LISTS else without_lists(table)


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
    """Measure the flatness of the exposures of a STORE.

    Measures for exposures what an audit measures for references: differences of their stored detections from PS1 over
    3 x 3 bins. One commit adds flatdelta, flatrms and nflat of all unmeasured exposures to the ledger. The criterion
    'flatness' of 'references select' needs them.

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
                 help="Table of images (CSV or Parquet): instead of a store, or for columns missing from its ledger."),
    settings_option,
    click.option("--without", multiple=True, metavar="CRITERION",
                 help="Skip a criterion: fwhm, status, infobits, magzp, clrcoeff, maglimit, median, rms, night, "
                 "flatness. Repeatable."),
    click.option("--nmin", type=click.IntRange(1), help="Minimum number of images (overrides --settings)."),
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
@options.new_file("--images", "One row per image (.parquet, .csv): the first criterion it fails, or its place.")
@options.new_file("--counts", "One row per unit (.parquet, .csv): images by criterion, predicted depth.")
@options.overwrite
@options.as_json
def select(store: str | None, images: Path | None, counts: Path | None, as_json: bool, **which: Any) -> None:
    """Select images for references.

    Tests every image against the criteria of the settings, and selects the sharpest images of each unit that meet all
    of them. Images come from the ledger of a STORE, from a table of metadata, or from both.

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
@options.file("--audit", "Output of 'references audit' (.parquet) for the current references.", "audit_file")
@click.option("--update", type=FILE, metavar="PLAN", help="Update this plan with new images only.")
@options.new_file("--retune", "Write the loss of coverage as a function of each threshold (.parquet, .csv).")
@click.option("--output", "-o", type=OutputFile(), metavar="FILE", help="The plan (.parquet): one row per unit.")
@options.overwrite
@options.as_json
def plan(store: str | None, audit_file: Path | None, update: Path | None, retune: Path | None, output: Path | None,
         as_json: bool, **which: Any) -> None:  # fmt: skip
    """Plan new references: for which units, of which images.

    The action for a unit is make (no reference, enough images), wait (no reference, too few images), regenerate
    (suspect reference, enough images), potentially updatable (suspect reference, too few images), deepen (good
    reference, but a new one would be deeper) or keep. --update, for daily runs, only reconsiders units with new images
    and lists those that became possible.

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
            write_file(_as_form_has_it(table, chosen_format(None, path, False)), path)
    line = (
        f"{counted(report.units, 'unit')}, {counted(report.images, 'image')}; what is to be made wins "
        f"{report.won:,} epochs; {report.seconds:.1f} s."
    )
    skipped = (
        f"{counted(report.passed_over, 'image')} not newer than the plan passed over: make a new one to count them."
    )
    shown = {name: value for name, value in vars(report).items() if name not in ("table", "judged")}
    emit({**shown, "loss": losses}, as_json, [line, *([skipped] if report.passed_over else [])])
    tables = () if as_json else ((report.actions, "units"), (losses, "sky coverage"), (report.possible, "possible now"))
    for rows, title in tables:
        if rows:
            cells = [[cell(value) for value in row.values()] for row in rows]
            print_table([name.replace("_", " ") for name in rows[0]], cells, title)


@references.command(cls=Command)
@click.argument("store", required=False)
@options.file("--audit", "Output of 'references audit'.", "audit_file", required=True)
@options.file("--plan", "Output of 'references plan'.", "plan_file")
@options.number("--visits", click.IntRange(1), 20, "Minimum number of visits for a unit to count in the summary table.")
@settings_option
@options.directory("Directory for the page; must not exist.")
@options.as_json
def page(store: str | None, audit_file: Path, plan_file: Path | None, visits: int, settings: Path | None, output: Path,
         as_json: bool) -> None:  # fmt: skip
    """Write an HTML report on the coverage and quality of references.

    A self-contained page with sky maps in galactic coordinates, flatness against the thresholds, the plan, and the most
    urgent references; with a STORE also the survey's summary table.

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
