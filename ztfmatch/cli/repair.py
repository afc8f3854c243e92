"""Commands for troubleshooting: repair, doctor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, counted, emit, emit_json, first_lines, open_store
from ztfmatch.cli.terminal import print_table

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs
    from ztfmatch.core.operations.repair import RepairReport

_ALL = ": --json has all"


@click.command(cls=Command)
@click.argument("store")
@click.option(
    "--from",
    "catalogs",
    multiple=True,
    metavar="CATALOGS",
    help="Restore lost rows from these catalogs: files, directories or globs. Repeatable.",
)
@options.flag("--deep", "Also compare every file with its checksum.")
@options.note
@options.workers
def repair(store: str, catalogs: tuple[str, ...], deep: bool, note: str | None, running: Runs, as_json: bool) -> None:
    """Find lost files of a STORE and restore their rows.

    Reports which files are missing (with --deep also damaged) and how many rows of which exposures they held. --from
    restores these rows from the catalogs, to the last bit, and commits them; rows of exposures whose catalogs are not
    given remain lost. Lost statistics and transients are dropped, to be recomputed by their commands. Everything else
    stays readable. Exit code 1 while anything is lost.

    \b
    Examples:
      ztfmatch repair survey.store
      ztfmatch repair survey.store --from /data/ztf/sci --workers 8
    """
    with running as how:
        report = open_store(store).repair(catalogs, deep=deep, note=note, **how)
    emit(report, as_json, _lines(report))
    sys.exit(0 if report.whole else 1)


def _lines(report: RepairReport) -> list[str]:
    if not report.lost:
        return [f"Nothing is lost: all files of snapshot {report.snapshot} are there."]
    lines = first_lines([f"Lost: {text}" for text in report.lost], "")
    if report.exposures:
        lines.append(f"{report.rows:,} rows of {counted(len(report.exposures), 'exposure')}:")
        lines += first_lines([f"{one.source}  {one.rows:,} rows" for one in report.exposures], rest=_ALL)
    if report.beyond:
        lines.append(f"{counted(len(report.beyond), 'file')} can't be made again: bring back a copy, or roll back.")
    elif report.committed:
        lines.append(f"Snapshot {report.snapshot}: {report.restored:,} rows are back, {report.seconds:.1f} s.")
        lines += _left(report)
    else:
        lines.append("Give the catalogs of these exposures (--from) to bring the rows back.")
    return lines


def _left(report: RepairReport) -> list[str]:
    """What stays lost."""
    if not report.left:
        return []
    rows = sum(one.rows for one in report.left)
    head = f"{rows:,} rows of {counted(len(report.left), 'exposure')} stay lost; run it again with their catalogs:"
    return [head, *first_lines([one.source for one in report.left], rest=_ALL)]


@click.command(cls=Command)
@click.argument("store", required=False)
@options.as_json
def doctor(store: str | None, as_json: bool) -> None:
    """Check the environment, and the storage of a STORE.

    Checks versions of Python and packages, the cache of compiled kernels, cores, memory and time; for a store, whether
    its storage has the guarantees that commits need (it creates and deletes a file), free space, staged files of
    running or interrupted operations, and unfinished files. Exit code 1 if something needs fixing.

    \b
    Examples:
      ztfmatch doctor
      ztfmatch doctor survey.store --json
    """
    from ztfmatch.core.operations.doctor import examine

    findings = examine(store)
    if as_json:
        emit_json(findings)
    else:
        print_table(["", "what", "found"], [(one.verdict, one.what, one.found) for one in findings])
        for one in findings:
            if one.advice:
                click.echo(f"{one.what}: {one.advice}")
    sys.exit(1 if any(finding.verdict == "BAD" for finding in findings) else 0)
