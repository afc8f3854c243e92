"""Group catalog: check catalogs before ingesting them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, counted, emit_json, warning_lines
from ztfmatch.cli.terminal import print_table

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs
    from ztfmatch.core.operations.catalogcheck import CheckReport


@click.group("catalog")
def catalog() -> None:
    """Check catalogs before ingesting them."""


@catalog.command("check", cls=Command)
@options.catalogs
@click.option("--store", metavar="STORE", help="Store to compare with: which catalogs it has, which have no reference.")
@options.file("--exposures", "Metadata missing from headers, as for 'append'.")
@options.workers
def check(catalogs: tuple[str, ...], store: str | None, exposures: Path | None, running: Runs, as_json: bool) -> None:
    """Check how an append would treat CATALOGS.

    CATALOGS are files, directories or globs, as for 'append'; reference catalogs (*_refpsfcat.fits) are checked as by
    'init', and directories without epochal catalogs are searched for them. Each file is read completely: header,
    checksums, columns, positions, values. The verdict of each is 'new', 'known' (already in --store, or given twice),
    'reference', or the code with which it would be quarantined; reasons follow. Nothing is written. Exit code 1 if any
    would be quarantined.

    \b
    Examples:
      ztfmatch catalog check night/*_psfcat.fits
      ztfmatch catalog check /data/ztf/sci/2019/0107 --store survey.store --json
    """
    from ztfmatch.api.catalogs import check_catalogs
    from ztfmatch.core.config import AppendConfig

    with running as how:
        report = check_catalogs(catalogs, store, AppendConfig(exposures), **how)
    if as_json:
        emit_json(report)
    else:
        _print(report)
    sys.exit(1 if report.refused else 0)


def _print(report: CheckReport) -> None:
    rows = []
    for one in report.catalogs:
        figures = (one.unit, one.rows, one.rejected, one.programid)
        rows.append([one.verdict, Path(one.source).name, *("-" if value is None else value for value in figures)])
    if rows:
        print_table(["verdict", "catalog", "unit", "rows", "rejected", "program"], rows)
    for one in report.catalogs:
        if one.reason is not None:
            click.echo(f"{one.source}\n  {one.verdict}: {one.reason}")
    lacking = sorted({one.unit for one in report.catalogs if one.has_reference is False and one.unit is not None})
    if lacking:
        click.echo(f"No reference in the store, so that all rows would be orphans: {', '.join(lacking)}")
    for line in warning_lines(report.warnings):
        click.echo(line)
    click.echo(f"{counted(len(report.catalogs), 'catalog')}: {report.usable:,} usable, {report.refused:,} refused.")
