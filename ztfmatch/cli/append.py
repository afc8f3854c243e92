"""The command that ingests catalogs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, bad_files, counted, emit, open_store, size_text, warning_lines
from ztfmatch.core.config import CATALOGS_PER_COMMIT, ROWS_PER_TASK

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs
    from ztfmatch.core.operations.appendreport import AppendReport

_SHOWN_UNITS = 5


@click.command(cls=Command)
@click.argument("store")
@options.catalogs
@options.file(
    "--exposures",
    "Metadata missing from headers (programid, exptime, airmass ...) by filefracday and rcid: CSV, IPAC or Parquet.",
)
@options.file(
    "--error-model",
    "Coefficients fieldid ccdid qid A B C D of one filter; the file name ends in zg, zr or zi.",
    "error_models",
    multiple=True,
)
@options.file(
    "--zp-thresholds", "Zero-point thresholds 'rcid g r i' below which exposures are bad; the survey's by default."
)
@options.file(
    "--quality-rule", "TOML with other criteria for bad exposures: [zg] upper, slope, max_magzprms, min_nmatches."
)
@click.option(
    "--corrections",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Photometric corrections made by 'calibrate', or the survey's own tables; by default those of the store.",
)
@options.strict(
    "a catalog is unusable, misnamed, or has no program or no row in --exposures, or a table has no row for these "
    "catalogs, instead of quarantining or warning"
)
@options.fail_if_empty("catalogs")
@options.number(
    "--rows-per-task",
    click.IntRange(1),
    ROWS_PER_TASK,
    "Rows that one task holds in memory at a time.",
)
@options.number(
    "--catalogs-per-commit",
    click.IntRange(1),
    CATALOGS_PER_COMMIT,
    "Larger appends are committed in groups of fields.",
)
@options.flag("--replace", "Reprocessed catalogs replace what the store has of their exposures, in the same commit.")
@options.note
@options.runs
def append(store: str, catalogs: tuple[str, ...], running: Runs, as_json: bool, **options: object) -> None:
    """Ingest epochal catalogs into a STORE.

    CATALOGS are psfcat FITS files, directories to be searched for them, or globs, on disk or in an object store. They
    may be gzipped. - reads them from standard input, one per line.

    Every detection is matched to the nearest seed of its unit (field, readout channel, filter) within the match radius,
    and everything is committed at once. Catalogs already in the store are skipped; unusable ones are quarantined with
    the reason, and the others are ingested.

    A catalog of an exposure that the store has with other content is quarantined as a conflict; with --replace it
    replaces the old detections, which older snapshots keep. Everything else is unchanged, to the bit; statistics of the
    tiles it touches become out of date.

    Very many catalogs are committed in groups of fields, which bounds memory and the number of files per tile. An
    interrupted command resumes with the next group.

    \b
    Examples:
      ztfmatch append survey.store /data/ztf/sci/2019/0107 --workers 8
      ztfmatch append survey.store 'night/*_psfcat.fits' --exposures night/exposures.csv
      find /data/ztf/sci -newer last -name '*_psfcat.fits' | ztfmatch append survey.store -
      ztfmatch append s3://lightcurves/survey.store s3://ztf/sci/2019/0107/
    """
    from ztfmatch.core.config import AppendConfig

    config = AppendConfig(**options)  # type: ignore[arg-type]
    with running as how:
        report = open_store(store).append(catalogs, config, **how)
    emit(report, as_json, append_lines(report, catalogs))


def append_lines(report: AppendReport, catalogs: tuple[str, ...]) -> list[str]:
    """Report of an append as lines."""
    headline = (
        f"Snapshot {report.snapshot}: {counted(report.exposures, 'exposure')}, {report.rows:,} rows = "
        f"{report.matched:,} matched + {report.orphans:,} orphans + {report.rejected:,} rejected; "
        f"{size_text(report.bytes)} in {counted(report.tiles, 'tile')}, {report.seconds:.1f} s."
        if report.committed
        else f"{_nothing(report.catalogs, catalogs)}; the store stays at snapshot {report.snapshot}."
    )
    known = [f"In place of an older content: {counted(report.replaced, 'exposure')}."] if report.replaced else []
    known += [f"In the store already: {counted(report.known, 'catalog')}."] if report.known else []
    notes = [*known, *_lacking(report.without_reference), *warning_lines(report.warnings)]
    return [headline, *notes, *bad_files(report.quarantined)]


def _nothing(found: int, places: tuple[str, ...]) -> str:
    if found:
        return f"Nothing new in {counted(found, 'catalog')}"
    from ztfmatch.core.io.sources import EPOCHAL_PATTERN

    return f"No catalogs ({EPOCHAL_PATTERN}) in {', '.join(places) or 'the list'}"


def _lacking(units: list[str]) -> list[str]:
    if not units:
        return []
    more = " ..." if len(units) > _SHOWN_UNITS else ""
    named = ", ".join(units[:_SHOWN_UNITS])
    return [f"No reference yet, so that all rows are orphans: {counted(len(units), 'unit')}, {named}{more}"]
