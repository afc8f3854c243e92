"""Commands for Kowalski: export documents, load them into its MongoDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, InOrder, as_plain, counted, emit, emit_json, open_store, size_text
from ztfmatch.cli.messages import is_quiet
from ztfmatch.cli.paramtypes import OutputPlace
from ztfmatch.cli.progress import progress_shown
from ztfmatch.cli.terminal import print_table

if TYPE_CHECKING:
    from ztfmatch.cli.options import Runs
    from ztfmatch.kowalski.export import KowalskiPreview, KowalskiReport
    from ztfmatch.kowalski.load import LoadReport, LoadStatus

_database_options = options.together(
    options.file(
        "--mongo-uri-file", "File with the URI of the MongoDB; by default ZTFMATCH_MONGO_URI of the environment."
    ),
    click.option(
        "--tag",
        default="ztfmatch",
        show_default=True,
        help="Suffix of the collections: ZTF_sources_TAG, ZTF_exposures_TAG, ZTF_lineage_TAG.",
    ),
)


@click.command(cls=Command)
@click.argument("store")
@click.argument("output", metavar="OUT", type=OutputPlace(file_okay=False))
@click.option("--since", type=click.IntRange(0), metavar="SNAPSHOT", help="Export what changed since this snapshot.")
@click.option(
    "--cursor",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that records the last export: created by the first, full export, updated by each completed one.",
)
@options.flag("--full", "Export everything, whatever the cursor says, and restart the cursor.")
@click.option(
    "--only",
    "limits",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Only exposures whose field, filter (zg, zr, zi), program (1, 2, 3) or quality (good, bad, unknown) is among "
    "the values. Repeatable: all conditions must hold.",
)
@options.flag("--starids", "Add the field starid to each source; only in full exports without cursor.")
@options.flag("--whole", "Write objects with new epochs as complete documents, for mongoimport, instead of updates.")
@options.choice(
    "--compression",
    ("zstd", "gzip", "none"),
    "Compression of the files; pipe them to mongoimport with zstdcat, zcat or cat.",
)
@options.number("--documents-per-file", click.IntRange(1), 20_000, "Approximate maximum.")
@options.dry_run("Only report the snapshots it would span and the number of tasks.")
@options.flag("--load", "Then load the exports in OUT into MongoDB, as 'ztfmatch load' does.")
@_database_options
@options.runs
def kowalski(store: str, output: str, since: int | None, cursor: Path | None, full: bool, limits: tuple[str, ...],
             starids: bool, whole: bool, compression: str, documents_per_file: int, dry_run: bool, load: bool,
             mongo_uri_file: Path | None, tag: str, running: Runs, as_json: bool) -> None:  # fmt: skip
    """Export the documents of a STORE for Kowalski.

    Each export is a directory below OUT: JSON Lines with sources, exposures and lineage as in Kowalski's MongoDB, and a
    manifest, which is written last. Without --since and --cursor everything is exported; with either, only changes: new
    objects as complete documents, new epochs and statistics of known ones as updates, and deletions.

    \b
    Examples:
      ztfmatch export kowalski survey.store exports --cursor exports/cursor.json --workers 8
      ztfmatch export kowalski survey.store exports --since 12 --whole --compression gzip
      ztfmatch export kowalski survey.store partners --cursor partners.json --only program=1,2 --load
    """
    from ztfmatch.kowalski.export import KowalskiConfig
    from ztfmatch.kowalski.io.jsonlines import LinesForm
    from ztfmatch.kowalski.tasks.scope import Scope

    form = LinesForm(compression, documents_per_file)
    config = KowalskiConfig(
        since=since, cursor=cursor, full=full, scope=Scope.parse(limits), whole=whole, form=form, starids=starids
    )
    if dry_run:
        from ztfmatch.kowalski.export import preview_export

        preview = preview_export(open_store(store).storage, output, config)
        emit(preview, as_json, [_described_preview(preview)])
        return
    with _database(mongo_uri_file, load) as database, running as how:
        report = open_store(store).export_kowalski(output, config, **how)
        loaded = _load(output, database, tag, how["progress"]) if load else None
    for name, private in report.private_corrections.items():
        said = f"magnitudes have corrections {name}, derived from epochs of {private}, which are not exported"
        click.echo(f"ztfmatch: {said} ('ztfmatch calibrate --program')", err=True)
    if as_json:
        emit_json({"export": as_plain(report), "load": as_plain(loaded)} if load else report)
        return
    click.echo(described_export(report))
    if report.unfinished:
        click.echo(f"Interrupted earlier, to be deleted if no job writes them: {', '.join(report.unfinished)}.")
    if loaded is not None:
        click.echo(described_load(loaded))


@click.command(cls=Command)
@click.argument("exports")
@options.flag("--status", "Only report what the collections hold and what would be loaded.")
@_database_options
@options.as_json
def load(exports: str, status: bool, mongo_uri_file: Path | None, tag: str, as_json: bool) -> None:
    """Load EXPORTS into Kowalski's MongoDB.

    EXPORTS is the output directory of 'ztfmatch export kowalski', or one export in it. All exports that continue what
    the collections hold are loaded, in order; empty collections get the newest full export first. An interrupted load
    resumes where it stopped.

    \b
    Examples:
      ztfmatch load exports --tag 20260101
      ztfmatch load exports --tag 20260101 --status
    """
    if status:
        from ztfmatch.kowalski.load import load_status

        with _database(mongo_uri_file) as database:
            found = load_status(exports, database, tag)
        emit(found, as_json, _described_status(found))
        return
    with _database(mongo_uri_file) as database, progress_shown(is_quiet()) as progress:
        report = _load(exports, database, tag, progress)
    emit(report, as_json, [described_load(report)])


@contextmanager
def _database(uri_file: Path | None, wanted: bool = True) -> Iterator[Any]:
    if not wanted:
        yield None
        return
    from ztfmatch.kowalski.io.mongo import connect, read_uri

    with closing(connect(read_uri(uri_file))) as database:
        database.tell = lambda text: click.echo(f"ztfmatch: {text}", err=True)
        database.greet()
        yield database


def _load(exports: str, database: Any, tag: str, progress: Any) -> LoadReport:
    from ztfmatch.kowalski.load import load_exports

    return load_exports(exports, database, tag, progress)


def _described_preview(preview: KowalskiPreview) -> str:
    """Report of a dry run."""
    of = f"snapshot {preview.snapshot}" + ("" if preview.since is None else f" since {preview.since}")
    if preview.there:
        return f"Nothing to export: {of} is exported already, or nothing was committed since. Nothing was written."
    tasks = ", ".join(f"{title} {number:,}" for title, number in preview.tasks.items())
    return f"Would export {of} to {preview.export} (tasks: {tasks}). Nothing was written."


def _described_status(status: LoadStatus) -> list[str]:
    """Report of what is loaded, as lines."""
    holds = "no export" if status.snapshot is None else f"snapshot {status.snapshot}"
    lines = [f"The collections of {status.tag} hold {holds}."]
    if status.loading is not None:
        lines.append(f"{status.loading} was begun: {counted(status.files_done, 'file')} are in.")
    lines += [f"  {name}: {counted(number, 'document')}" for name, number in status.collections.items()]
    what = f"{', '.join(status.next)}: {counted(status.documents, 'document')}" if status.next else "nothing"
    return [*lines, f"A load would take {what}."]


@click.group(cls=InOrder)
def exports() -> None:
    """List Kowalski exports and delete old ones."""


@exports.command("list", cls=Command)
@click.argument("exports", metavar="DIR")
@options.as_json
def list_(exports: str, as_json: bool) -> None:
    """List the exports in DIR in loading order.

    \b
    Example:
      ztfmatch exports list exports
    """
    from ztfmatch.kowalski.exports import list_exports

    found = list_exports(exports)
    if as_json:
        emit_json(found)
        return
    rows = [
        (one.name, f"{one.documents:,}", f"{one.epochs:,}", one.files, size_text(one.bytes)) if one.whole
        else (one.name, "unfinished", "", "", "")
        for one in found
    ]  # fmt: skip
    print_table(["export", "documents", "epochs", "files", "size"], rows)


@exports.command(cls=Command)
@click.argument("exports", metavar="DIR")
@options.number("--keep", click.IntRange(1), 1, "Number of full exports to keep.")
@options.dry_run("Only report what would be deleted.")
@options.as_json
def prune(exports: str, keep: int, dry_run: bool, as_json: bool) -> None:
    """Delete the exports in DIR that no load needs.

    For each store and each --only: deletes the exports before the newest full one, and unfinished exports; increments
    of the newest full export are kept. Do not run it during an export or a load.

    \b
    Examples:
      ztfmatch exports prune exports --dry-run
      ztfmatch exports prune exports --keep 2
    """
    from ztfmatch.kowalski.exports import prune_exports

    report = prune_exports(exports, keep, dry_run)
    done = "Would delete" if dry_run else "Deleted"
    what = f"{', '.join(report.deleted)} ({size_text(report.bytes)})" if report.deleted else "nothing"
    emit(report, as_json, [f"{done} {what}; kept {', '.join(report.kept) or 'nothing'}."])


def described_export(report: KowalskiReport) -> str:
    """Report of an export."""
    of = f"snapshot {report.snapshot}" + ("" if report.since is None else f" since {report.since}")
    if report.since == report.snapshot:
        return f"Nothing to export: the store is at snapshot {report.snapshot} still."
    if not report.written:
        return f"Exported before: {of}, in {report.export}."
    counts = [
        f"{counted(number, collection[:-1] if collection.endswith('s') else collection + ' link')} to {action}"
        for collection, actions in report.counts.items()
        for action, number in actions.items()
        if number
    ]
    return (
        f"Exported {of}: {', '.join(counts) or 'no change'}; {counted(report.epochs, 'epoch')}, "
        f"{counted(report.files, 'file')}, {size_text(report.bytes)}, {report.seconds:.1f} s, in {report.export}."
    )


def described_load(report: LoadReport) -> str:
    """Report of a load."""
    if not report.exports:
        return f"Nothing to load: the collections of {report.tag} hold snapshot {report.snapshot}."
    repeated = f", {counted(report.retries, 'request')} repeated" if report.retries else ""
    return (
        f"Loaded {', '.join(report.exports)}: {counted(report.documents, 'document')} of "
        f"{counted(report.files, 'file')} into the collections of {report.tag}, which hold snapshot "
        f"{report.snapshot} now; {report.seconds:.1f} s, {report.documents_per_s:,.0f} documents/s{repeated}."
    )
