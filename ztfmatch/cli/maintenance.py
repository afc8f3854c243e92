"""Commands for maintaining a store: compact, history, diff, rollback, vacuum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, counted, emit, emit_json, open_store, size_text
from ztfmatch.cli.paramtypes import OutputFile
from ztfmatch.cli.rows import compare_rows
from ztfmatch.cli.terminal import print_table
from ztfmatch.core.config import VACUUM_GRACE_HOURS, CompactConfig

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs


@click.command(cls=Command)
@click.argument("store")
@options.number(
    "--min-files",
    click.IntRange(2),
    CompactConfig.min_files,
    "Number of runs of similar size that are merged into one. With --full: minimum number of files of a tile.",
)
@options.number(
    "--max-rows-per-tile",
    click.IntRange(1),
    CompactConfig.max_rows_per_tile,
    "Split tiles with more detections and orphans; tiles with too many objects are split in any case.",
)
@options.flag("--full", "Rewrite every tile with enough files, and its statistics.")
@options.note
@options.dry_run()
@options.runs
def compact(store: str, min_files: int, max_rows_per_tile: int, full: bool, note: str | None, dry_run: bool,
            running: Runs, as_json: bool) -> None:  # fmt: skip
    """Merge the small files of each tile of a STORE.

    Files are merged in levels, small ones often and large ones rarely, so that a run writes about as much as was added
    since the last one, and a tile keeps about ten files per level; --full sorts each tile completely. Tiles that
    outgrew their budget are split into four. The content does not change: written files are decoded and compared before
    the commit. Safe during reads and appends.

    \b
    Example:
      ztfmatch compact survey.store --workers 8
    """
    config = CompactConfig(min_files, max_rows_per_tile, full=full)
    with running as how:
        report = open_store(store).compact(config, dry_run=dry_run, note=note, **how)
    what = f"{counted(len(report.tiles), 'tile')} with {counted(report.files_before - report.ledger_files, 'file')}"
    what += f" and {counted(report.ledger_files, 'file')} of the ledger" if report.ledger_files else ""
    split = f", {len(report.split)} of them split" if report.split else ""
    waiting = f" {counted(report.waiting, 'large merge')} left for the next time." if report.waiting else ""
    if report.committed:
        line = (
            f"Snapshot {report.snapshot}: {what}{split} became {counted(report.files_after, 'file')}, "
            f"{size_text(report.bytes_after)}, {report.seconds:.1f} s.{waiting}"
        )
    else:
        none = "Nothing to compact: no tile has files enough."
        size = size_text(report.bytes_before)
        line = f"Would compact {what}{split}, {size}.{waiting}" if report.files_before else none
    emit(report, as_json, [line])


@click.command(cls=Command)
@click.argument("store")
@options.as_json
def history(store: str, as_json: bool) -> None:
    """List the snapshots of a STORE and their operations.

    \b
    Example:
      ztfmatch history survey.store
    """
    commits = open_store(store).commits()
    if as_json:
        emit_json(commits)
        return
    noted = any(commit.note for commit in commits)
    rows = [
        (
            commit.number,
            commit.time,
            commit.operation,
            ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in commit.counts.items() if number),
            f"{commit.duration_s:.1f} s",
            *([commit.note or ""] if noted else []),
        )
        for commit in commits
    ]
    print_table(["snapshot", "time (UTC)", "operation", "counts", "took", *(["note"] if noted else [])], rows)


@click.command(cls=Command)
@click.argument("store")
@click.argument("before", type=click.IntRange(0))
@click.argument("after", type=click.IntRange(0))
@options.flag("--objects", "Compare object by object: new, gone and changed ones.")
@click.option(
    "--output", "-o", type=OutputFile(), help="With --objects: file for all of them; its suffix selects the format."
)
@options.overwrite
@options.as_json
def diff(store: str, before: int, after: int, objects: bool, output: Path | None, as_json: bool) -> None:
    """Compare two snapshots of a STORE.

    Reports rows and files by table and tile that differ between the snapshots BEFORE and AFTER. With --objects,
    compares object by object: an object is changed if its epochs or any of their values differ. Files that both
    snapshots share are not read.

    \b
    Examples:
      ztfmatch diff survey.store 11 12
      ztfmatch diff survey.store 11 12 --objects -o changes.parquet
    """
    if output is not None and not objects:
        raise click.UsageError("--output is for the objects: give --objects too.")
    if objects:
        _diff_objects(store, (before, after), output, as_json)
        return
    differences = open_store(store).compare(before, after)
    if as_json:
        emit_json(differences)
        return
    rows = [(d.table, d.tile or "-", d.rows_before, d.rows_after, d.files_removed, d.files_added) for d in differences]
    print_table(["table", "tile", "rows before", "rows after", "files removed", "files added"], rows)
    if not differences:
        click.echo(f"Snapshots {before} and {after} hold the same files.")


def _diff_objects(store: str, numbers: tuple[int, int], output: Path | None, as_json: bool) -> None:
    from ztfmatch.release import SnapshotComparison
    from ztfmatch.release.changes import SCHEMA

    opened = open_store(store)
    compared = SnapshotComparison(opened.snapshot(numbers[0]).files, opened.snapshot(numbers[1]).files)
    report, of_gone, written = compare_rows(compared, SCHEMA, output)
    lines = [
        f"Objects from snapshot {numbers[0]} to {numbers[1]}, epochs {report.epochs:+,}:",
        f"  new:     {report.new:,}",
        f"  gone:    {report.gone:,}{of_gone}",
        f"  changed: {report.changed:,}",
        *written,
    ]
    emit(report, as_json, lines)


@click.command(cls=Command)
@click.argument("store")
@click.argument("snapshot", type=click.IntRange(0))
@options.note
@options.dry_run()
@options.as_json
def rollback(store: str, snapshot: int, note: str | None, dry_run: bool, as_json: bool) -> None:
    """Roll a STORE back to an older SNAPSHOT.

    Nothing is deleted: the rollback is a commit and can itself be rolled back. What was appended after that snapshot
    can be appended again.

    \b
    Example:
      ztfmatch rollback survey.store 11 --note "night 2019-01-07 was processed with the wrong flats"
    """
    report = open_store(store).rollback(snapshot, dry_run=dry_run, note=note)
    if report.committed:
        line = f"Snapshot {report.snapshot} has the state of snapshot {snapshot} again."
    elif report.differences:
        added = sum(d.rows_after - d.rows_before for d in report.differences if d.table == "detections")
        changed = f"{counted(abs(added), 'detection')} {'more' if added > 0 else 'fewer'}"
        line = f"Would commit the state of snapshot {snapshot} again: {changed}."
    else:
        line = f"The newest snapshot, {report.snapshot}, has that state already."
    emit(report, as_json, [line])


@click.command(cls=Command)
@click.argument("store")
@click.option(
    "--keep", type=click.IntRange(1), required=True, help="Number of snapshots to keep, including the newest."
)
@options.number(
    "--grace-hours",
    click.FloatRange(0),
    VACUUM_GRACE_HOURS,
    "Keep unreferenced files younger than this: a running job may be about to commit them.",
)
@options.dry_run()
@options.as_json
def vacuum(store: str, keep: int, grace_hours: float, dry_run: bool, as_json: bool) -> None:
    """Delete files that no retained snapshot of a STORE uses.

    Older snapshots can no longer be opened or rolled back to; they stay in the history.

    \b
    Example:
      ztfmatch vacuum survey.store --keep 10 --dry-run
    """
    report = open_store(store).vacuum(keep, grace_hours=grace_hours, dry_run=dry_run)
    spared = f"; {counted(report.spared, 'young file')} spared" if report.spared else ""
    line = (
        f"{'Deleted' if report.deleted else 'Would delete'} {counted(report.files, 'file')}, "
        f"{size_text(report.bytes)}{spared}. Snapshots {report.oldest} to {report.newest} are kept."
    )
    emit(report, as_json, [line])
