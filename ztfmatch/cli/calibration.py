"""Commands for photometric corrections: calibrate, correct."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, counted, emit, open_store, size_text, unchanged
from ztfmatch.cli.paramtypes import PLACE
from ztfmatch.cli.terminal import cell, print_table
from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.plain import Keywords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ztfmatch.cli.options import Option, Runs
    from ztfmatch.photometry.calibrate import CalibrateInputs, CalibrateReport, HeldOut
    from ztfmatch.photometry.extend import ExtendReport

_CHANNELS_SHOWN = 40


def _mapping(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for value, (ours, equals, theirs) in zip(values, pairs, strict=True):
        if not (ours and equals and theirs):
            raise click.BadParameter(f"{value!r} is not NAME=COLUMN")
    return {ours: theirs for ours, _, theirs in pairs}


def _ps1(ps1: Path | None, columns: dict[str, str]) -> Keywords:
    if columns and ps1 is None:
        raise click.UsageError("--ps1-column names columns of a --ps1 catalog: give that too")
    return {"ps1": ps1, "columns": columns}


def ps1_options(
    said: str = "PS1 catalog: Parquet file or directory, HATS, or SQLite.", required: bool = False
) -> Option:
    """Add --ps1 and names of its columns; the command gets ``ps1`` and ``columns``."""
    return options.together(
        click.option("--ps1", required=required, type=PLACE, metavar="FILE", help=said),
        click.option("--ps1-column", "columns", multiple=True, callback=_mapping, metavar="NAME=COLUMN",
                     help="Column of the PS1 catalog for ra, dec, g, r, i, g_err, r_err, i_err or star; table=NAME in "
                     "SQLite. Repeatable."),
        options.gathered(_ps1),
    )  # fmt: skip


def _setting(name: str, said: str, option: str | None = None, metavar: str | None = None) -> Option:
    """Option of a number in CalibrateConfig."""
    option = option or f"--{name.replace('_', '-')}"
    return click.option(option, default=getattr(CalibrateConfig, name), show_default=True, metavar=metavar, help=said)


cut_options = options.together(
    _setting("bright", "Brightest magnitude used."),
    _setting("faint", "Faintest magnitude used."),
    _setting("cells_x", "Cells of a quadrant map along x and along y.", "--cells"),
    _setting("min_epochs", "Minimum number of epochs of a lightcurve."),
)
"""Which detections count, and how they are binned."""


@click.command(cls=Command)
@click.argument("store")
@ps1_options()
@options.flag("--internal", "Without PS1: only the offsets of units measured by 'ztfmatch offsets'.")
@options.directory("Directory for the corrections; must not exist.")
@click.option(
    "--update", type=PLACE, metavar="DIR", help="Earlier corrections of this store, to be refined with its newer data."
)
@click.option(
    "--extend",
    type=PLACE,
    metavar="DIR",
    help="Corrections of this store, kept as they are; only terms of newer exposures are added.",
)
@click.option(
    "--program",
    "programs",
    type=click.Choice(["1", "2", "3"]),
    multiple=True,
    help="Use only epochs of this program; all by default. For a release: the programs in its scope. Repeatable.",
)
@cut_options
@options.file("--eras", "CSV of camera eras: begin, end as ISO dates or MJD. Corrections may step at each begin.")
@click.option(
    "--find-eras/--no-find-eras", default=True, show_default=True, help="Search for steps beyond those of --eras."
)
@click.option(
    "--terms",
    default="auto",
    show_default=True,
    metavar="WORDS",
    help="Terms besides magnitude, position and unit: time, colour, exposure, comma-separated; 'none'; or 'auto': those"
    " that improve held-out data.",
)
@options.choice("--beyond", ("constant", "fade"), "How the magnitude term continues beyond its bright end.")
@_setting("min_stars", "Minimum number of stars of a unit, and of a magnitude bin with its neighbours.")
@_setting("max_error", "Largest error of a cell or an offset that is applied.", metavar="MAG")
@options.runs
def calibrate(store: str, ps1: Path | None, internal: bool, output: Path, update: Path | None,
              extend: Path | None, columns: dict[str, str], cells: int, programs: tuple[str, ...], eras: Path | None,
              terms: str, running: Runs, as_json: bool, **cuts: Any) -> None:  # fmt: skip
    """Derive photometric corrections for a STORE from PS1.

    Compares the lightcurves of constant, isolated stars with PS1 and fits a magnitude-dependent bias and a map over the
    quadrant for each readout channel and filter, an offset for each unit, and an error model. Bias and map may vary
    with time, with steps (--eras, --find-eras); colour terms and exposure gradients are included where they improve
    held-out data. The store is not changed: 'ztfmatch correct' applies the corrections. Corrected magnitudes depend on
    all epochs used: for a release use only the programs in its scope (--program).

    --internal makes fields agree with each other rather than with PS1: it fits only the field term, from shared stars.
    --extend keeps existing corrections and adds zero points and gradients of newer exposures where they have any.

    The output directory holds Parquet files of every term with errors and counts, their provenance (about.json), and
    error models for 'append --error-model'. If --update or --extend find nothing newer, nothing is written.

    \b
    Examples:
      ztfmatch calibrate survey.store --ps1 ps1.parquet --output corrections --workers 8
      ztfmatch calibrate survey.store --ps1 ps1.parquet --output corrections-public --program 1 --workers 8
      ztfmatch calibrate survey.store --internal --output corrections-internal
      ztfmatch calibrate survey.store --ps1 ps1.parquet --extend corrections --output corrections-night
      ztfmatch calibrate survey.store --ps1 ps1.sqlite --ps1-column ra=raMean --update corrections -o corrections-2
    """
    if internal:
        if ps1 is not None or update is not None or extend is not None or programs:
            raise click.UsageError("--internal goes without --ps1, --update, --extend and --program.")
        _calibrate_internal(store, output, as_json)
        return
    if update is not None and extend is not None:
        raise click.UsageError("Give either --update or --extend.")
    if ps1 is None:
        raise click.UsageError("Give either --ps1 FILE or --internal.")
    from ztfmatch.photometry.calibrate import CalibrateInputs, summary_of
    from ztfmatch.photometry.io.eras import read_eras

    asked = tuple(sorted({int(number) for number in programs})) or None
    wanted = None if terms == "auto" else () if terms == "none" else tuple(word.strip() for word in terms.split(","))
    steps = () if eras is None else read_eras(eras)
    config = CalibrateConfig(cells_x=cells, cells_y=cells, programs=asked, eras=steps, terms=wanted, **cuts)
    inputs = CalibrateInputs(ps1, output, update or extend, columns=columns)
    if extend is not None:
        _extend(store, inputs, config, running, as_json)
        return
    with running as how:
        report = open_store(store).calibrate(inputs, config, **how)
    if not report.written:
        line = f"Nothing to update: no star has {config.min_epochs} usable epochs newer than {_named(report)}."
        emit(report, as_json, [line])
        return
    total = summary_of(report.channels)
    line = (
        f"Corrections {report.corrections} in {report.output}: {counted(len(report.channels), 'channel')}, "
        f"{total['cells_valid']:,} of {total['cells']:,} cells, {total['units_valid']:,} of {total['units']:,} units, "
        f"{counted(report.error_models, 'error model')}; from {report.used:,} of {report.detections:,} detections, "
        f"{counted(report.stars, 'object')} with a PS1 star, {report.seconds:.1f} s."
    )
    used = ", ".join(str(number) if number else "none that is known" for number in report.programs)
    emit(report, as_json, [line, f"Programs of the epochs used: {used}.", *_held_lines(report.held_out)])
    if not as_json and report.channels:
        rows = [list(map(_shown, vars(row).values())) for row in report.channels]
        print_table([name.replace("_", " ") for name in vars(report.channels[0])], rows, most=_CHANNELS_SHOWN)


def _extend(store: str, inputs: CalibrateInputs, config: CalibrateConfig, running: Runs, as_json: bool) -> None:
    """Write corrections with terms of newer exposures."""
    with running as how:
        report = open_store(store).extend_corrections(inputs, config, **how)
    line = (
        f"Corrections {report.corrections} in {report.output}: {report.extended}, and terms of {report.gradients:,} of "
        f"{counted(report.exposures, 'newer exposure')}; {report.seconds:.1f} s."
    )
    if not report.written:
        line = f"Nothing to add: {_named(report)} have every usable exposure of the store."
    emit(report, as_json, [line])


def _named(report: CalibrateReport | ExtendReport) -> str:
    return f"corrections {report.corrections} in {report.output}"


def _calibrate_internal(store: str, output: Path, as_json: bool) -> None:
    """Write corrections of the offsets of units."""
    report = open_store(store).calibrate_internal(output)
    terms = f"the field term of {counted(report.units, 'unit')} in {counted(report.groups, 'group')}"
    line = f"{terms} that overlaps connect; no term of magnitude or position."
    emit(report, as_json, [f"Corrections {report.corrections} in {report.output}: {line}"])


def _held_lines(rows: Sequence[HeldOut]) -> list[str]:
    """What terms take away on data that were held out, of bright stars and by magnitude, for exposures and stars."""
    lines = []
    for held in dict.fromkeys(row.held for row in rows):
        mine = {row.term: row.taken_mmag for row in rows if row.held == held and row.taken_mmag is not None}
        for of, by_magnitude in (("systematics", False), ("these by magnitude", True)):
            said = ", ".join(f"{term} {taken:z.1f}" for term, taken in mine.items() if (" at " in term) == by_magnitude)
            if said:
                lines.append(f"Taken away of {of} on a fifth of the {held}, held out, mmag: {said}.")
    return lines


def _shown(value: Any) -> Any:
    return len(value) if isinstance(value, tuple) else cell(value, ".4g")


@click.command(cls=Command)
@click.argument("store", required=False)
@click.argument("corrections", required=False, type=PLACE)
@click.option("--corrections", "named", type=PLACE, metavar="DIR", help="CORRECTIONS, given as an option.")
@options.file("--catalog", "Instead of a STORE: correct the catalog X_psfcat.fits, as X_psfcatscorr.fits.")
@ps1_options("With --catalog: plot its residuals from this PS1 catalog before and after.")
@options.file("--exposures", "With --catalog: metadata missing from its header, as for 'append'.")
@options.directory("With --catalog: directory for the output; by default that of the catalog.", required=False)
@options.flag("--none", "Remove corrections: restore the original magnitudes, to the last bit.", "take_off")
@options.note
@options.runs
def correct(store: str | None, corrections: Path | None, named: Path | None, take_off: bool, note: str | None,
            running: Runs, as_json: bool, **of_catalog: Any) -> None:  # fmt: skip
    """Apply CORRECTIONS to all magnitudes of a STORE.

    One commit recomputes mag, magerr and corrflags of every detection and orphan from the measured values, records the
    corrections of each exposure in the ledger, and drops statistics that became stale. Later appends get the same
    corrections. Applying them twice has no further effect; --none removes them.

    CORRECTIONS is the output of 'calibrate', or a directory of the survey's own tables: Mag_Bias.txt,
    Field_Corrections.txt, ztf_zg_c01_q1.out.txt.spline and so on, whose values are added to magnitudes.

    --catalog corrects a single catalog without a store: it writes the same file with corrected magnitudes.

    \b
    Examples:
      ztfmatch correct survey.store corrections --workers 8
      ztfmatch correct survey.store --corrections /data/ztf/calibration/tables
      ztfmatch correct survey.store --none
      ztfmatch correct --catalog ztf_20190107351123_000679_zr_c05_o_q1_psfcat.fits --corrections corrections
    """
    if of_catalog["catalog"] is not None:
        if store is not None or take_off or note or named is None:
            raise click.UsageError("--catalog goes with --corrections DIR, without STORE, --none and --note")
        _correct_catalog(named, as_json, **of_catalog)
        return
    if store is None:
        raise click.UsageError("Missing argument 'STORE', or --catalog.")
    if any(of_catalog.values()):
        raise click.UsageError("--ps1, --ps1-column, --exposures and --output go with --catalog")
    if [corrections is not None, named is not None, take_off].count(True) != 1:
        raise click.UsageError("give either CORRECTIONS or --none")
    corrections = corrections or named
    with running as how:
        report = open_store(store).correct(corrections, note=note, **how)
    if not report.applies:
        line = f"Nothing applied: corrections {report.corrections} have no unit of this store."
    elif not report.committed:
        line = unchanged("All magnitudes are so already", report.snapshot)
    else:
        what = "uncorrected" if report.corrections is None else f"corrections {report.corrections}"
        line = (
            f"Snapshot {report.snapshot}: {what}, {counted(report.changed, 'exposure')} changed, {report.rows:,} rows "
            f"in {counted(report.tiles, 'tile')}; {size_text(report.bytes)}, {report.seconds:.1f} s."
        )
    emit(report, as_json, [line])


def _correct_catalog(corrections: Path, as_json: bool, *, catalog: Path, ps1: Path | None, columns: dict[str, str],
                     exposures: Path | None, output: Path | None) -> None:  # fmt: skip
    """Write a corrected catalog."""
    from ztfmatch.photometry.catalog import CatalogInputs, correct_catalog

    report = correct_catalog(catalog, CatalogInputs(corrections, output, ps1, columns=columns, exposures=exposures))
    terms = ", ".join(f"{name} {n:,}" for name, n in report.terms.items())
    lines = [
        f"{report.output}: {counted(report.rows, 'row')}, corrections {report.corrections}; rows by term: {terms}."
    ]
    if report.picture is not None:
        rms = f"robust RMS {report.before_mmag:.1f} mmag before, {report.after_mmag:.1f} after"
        lines.append(f"{report.picture}: {counted(report.stars, 'star')} of PS1, {rms}.")
    emit(report, as_json, lines)
