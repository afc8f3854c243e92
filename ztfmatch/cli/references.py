"""Commands on the quality of references: audit, flatness, select, plan, page."""

# ruff: noqa: D301  (click reads the character \b in a docstring: do not wrap this paragraph)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli.calibration import columns_option
from ztfmatch.cli.common import Command, InOrder, bad_files, counted, open_store, print_table
from ztfmatch.cli.options import run_options, snapshot_option
from ztfmatch.cli.paramtypes import FILE, PLACE
from ztfmatch.cli.rows import chosen_format, row_options, write_rows

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs

_SHOWN = 50
_AUDIT_COLUMNS = (
    *("rank", "field", "rcid", "fid", "nsources", "delta", "rms", "depth", "lcdelta", "nmissing", "nwon", "verdict"),
)

settings_option = click.option(
    "--settings", type=FILE, metavar="FILE", help="Thresholds and criteria (TOML); the survey's by default."
)
ps1_option = click.option(
    "--ps1", type=PLACE, metavar="FILE", help="PS1: Parquet file or directory, HATS catalog, or SQLite."
)


@click.group(cls=InOrder)
def references() -> None:
    """Find bad references, choose better images, plan their regeneration.

    \b
    In this order:
      ztfmatch references audit STORE --ps1 FILE     which are suspect, and which fifty to mend first
    """


@references.command(cls=Command)
@click.argument("store", required=False)
@click.option(
    "--references", "-r", "places", multiple=True, metavar="PLACE",
    help="Reference catalogs, instead of a store: a directory, file or glob. May be given more than once.",
)  # fmt: skip
@ps1_option
@columns_option
@click.option(
    "--against",
    type=click.Choice(["ps1", "lightcurves", "both"]),
    help="What seeds are compared with; by default with all that is given.",
)
@settings_option
@click.option("--strict", is_flag=True, help="Fail if a catalog cannot be used, instead of listing it.")
@snapshot_option
@row_options
@run_options
def audit(store: str | None, places: tuple[str, ...], ps1: Path | None, columns: dict[str, str], settings: Path | None,
          against: Any, strict: bool, snapshot: int | None, form: str | None, output: Path | None, running: Runs,
          as_json: bool) -> None:  # fmt: skip
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
    form = chosen_format(form, output, as_json)
    inputs, limits = AuditInputs(ps1, columns, against), read_settings(settings)
    with running as how:
        if store is not None:
            report = open_store(store).audit_references(inputs, limits, snapshot=snapshot, **how)
        else:
            from ztfmatch.core.runner import open_runner

            with open_runner(**how) as runner:
                report = audit_files(places, inputs, limits, runner, strict)
    _write(report.table, form, output)
    line = (
        f"{counted(report.references, 'reference')}: {report.suspect:,} suspect, {report.shallow:,} shallow, "
        f"{report.confused:,} confused, {report.unknown:,} unknown; {report.seconds:.1f} s."
    )
    for text in [line, *(f"Note: {note}." for note in report.notes), *bad_files(report.refused)]:
        click.echo(text, err=form != "table" or output is not None)


def _write(table: Any, form: str, output: Path | None) -> None:
    """An audit as rows; for people the first in rank."""
    if form != "table":
        from ztfmatch.references.schema import without_lists

        write_rows(without_lists(table) if form == "csv" else table, form, output, [])
        return
    rows = table.sort_by("rank").slice(0, _SHOWN).to_pylist()
    if rows:
        shown = [[_cell(_verdict(row) if name == "verdict" else row[name]) for name in _AUDIT_COLUMNS] for row in rows]
        print_table(list(_AUDIT_COLUMNS), shown)
    if table.num_rows > _SHOWN:
        click.echo(f"and {table.num_rows - _SHOWN:,} more: --output FILE has all")


def _verdict(row: dict[str, Any]) -> str:
    flags = [name for name in ("suspect", "shallow", "confused", "unknown") if row[name]]
    return ", ".join(flags) or "good"


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else value
