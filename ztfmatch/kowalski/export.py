"""Export a snapshot, or the changes since another, as files for Kowalski's MongoDB."""

from __future__ import annotations

import shutil
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import ztfmatch
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError, SnapshotNotFoundError
from ztfmatch.core.io import paths
from ztfmatch.core.io.correctionrows import read_store_sets
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.common import OperationId, Stopwatch
from ztfmatch.core.operations.link import unlinked_tiles
from ztfmatch.core.plain import Json
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import CORRECTIONS, STARS
from ztfmatch.core.settings import Validated
from ztfmatch.core.tasks.staging import clear
from ztfmatch.kowalski.io.jsonlines import SUFFIXES, LinesFile, LinesForm
from ztfmatch.kowalski.manifest import (
    MANIFEST,
    Cursor,
    Manifest,
    Span,
    check_cursor,
    is_name,
    read_cursor,
    read_manifest,
)
from ztfmatch.kowalski.plan import Request, plan_export, projected_bytes
from ztfmatch.kowalski.schema import ACTIONS, COLLECTIONS
from ztfmatch.kowalski.tasks.scope import Scope, json_text
from ztfmatch.kowalski.tasks.sources import SourcesTask

_OFFER: Final = "Make a full export (--full), into an empty collection"


@dataclass(frozen=True)
class KowalskiConfig(Validated):
    """What to export, and how.

    Parameters
    ----------
    since : int, optional
        Export what changed since this snapshot; else all.
    cursor : Path, optional
        File that says since which snapshot, and is moved when the export is complete; where there is none yet, or with
        ``full``, all is exported.
    full : bool
        Export all, whatever the cursor says.
    scope : Scope
        Limits by field, filter, program and quality.
    whole : bool
        Write objects with new epochs as whole documents, which mongoimport takes, not as updates.
    form : LinesForm
        Compression, and documents of a file.
    starids : bool
        Give every source the field ``starid``, the id of its star. Of a full export alone: a rematch can give an object
        another star without any other change to its document.
    """

    since: int | None = None
    cursor: Path | None = None
    full: bool = False
    _: KW_ONLY
    scope: Scope = field(default_factory=Scope)
    whole: bool = False
    form: LinesForm = field(default_factory=LinesForm)
    starids: bool = False

    def _validate(self) -> None:
        if self.since is not None and (self.cursor is not None or self.full):
            raise ConfigError("--since says where to go on from, as --cursor and --full do: give one of them")
        if self.starids and (self.since is not None or self.cursor is not None):
            raise ConfigError("starids are of full exports: leave out --since and --cursor")
        if self.form.compression not in SUFFIXES:
            raise ConfigError(f"compression {self.form.compression!r} is none of {', '.join(SUFFIXES)}")
        if self.form.documents < 1:
            raise ConfigError(f"documents per file {self.form.documents} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class KowalskiReport(Displayable):
    """What an export wrote."""

    store: str
    export: str
    """Where it is."""
    since: int | None
    snapshot: int
    written: bool
    """False if it was there already, or nothing was committed since."""
    counts: dict[str, dict[str, int]]
    """Documents by collection and action."""
    epochs: int
    files: int
    bytes: int
    unfinished: list[str]
    """Exports beside it that were interrupted and that this one did not go on with, since snapshots came between."""
    seconds: float
    private_corrections: dict[str, str]
    """Sets of corrections in the store that epochs of programs which are not exported went into, and of which."""


def export_kowalski(storage: Storage, output: str, config: KowalskiConfig, runner: Runner) -> KowalskiReport:
    """Write an export into a directory of its own below ``output``; its manifest comes last.

    Raises
    ------
    ConfigError
        If the cursor is another store's or of another scope, or another export is in its place. Nothing is written.
    SnapshotNotFoundError
        If the snapshot to go on from was vacuumed, or is newer than the store's newest.
    JobFailedError
        If a task failed after its retries; the cursor stays, a rerun resumes.
    """
    watch = Stopwatch()
    config.validate()
    after = open_snapshot(storage)
    _require_directory(config.cursor, output)
    if config.starids and (not after.files.has(STARS.name) or unlinked_tiles(after)):
        raise ConfigError(f"{storage.root} has objects that are of no star: run 'ztfmatch link' first")
    span = _span(after, config)
    place = Storage.at(f"{output.rstrip('/')}/{span.name}")
    if span.since == after.number:
        none = Manifest(span, after.commit.time, ztfmatch.__version__, "", ())
        return _report(after, place, none, False, watch, config.scope)
    manifest = read_manifest(place)
    written = manifest is None
    if manifest is None:
        manifest = _run(_request(storage, after, place, span, config), span, runner)
    _require_same(place, manifest, span, config.form.compression)
    if config.cursor is not None:
        Cursor(span.store, span.snapshot, _digest_of(after), span.scope).write(config.cursor)
    return _report(after, place, manifest, written, watch, config.scope)


@dataclass(frozen=True, kw_only=True)
class KowalskiPreview(Displayable):
    """What an export would be of."""

    store: str
    export: str
    """Where it would be."""
    since: int | None
    snapshot: int
    there: bool
    """Whether it is there already, whole, or nothing was committed since."""
    tasks: dict[str, int]
    """By what they do; those that an earlier run finished are among them."""
    most_memory_bytes: int
    """Of a task."""


def preview_export(storage: Storage, output: str, config: KowalskiConfig) -> KowalskiPreview:
    """Say what an export would be of; nothing is written.

    Raises
    ------
    As :func:`export_kowalski`, before its tasks.
    """
    config.validate()
    after = open_snapshot(storage)
    span = _span(after, config)
    place = Storage.at(f"{output.rstrip('/')}/{span.name}")
    there = span.since == after.number or read_manifest(place) is not None
    work = [] if there else plan_export(_request(storage, after, place, span, config))
    largest = max((projected_bytes(task) for one in work for task in one.tasks if _is_large(task)), default=0)
    return KowalskiPreview(
        store=storage.root,
        export=place.root,
        since=span.since,
        snapshot=span.snapshot,
        there=there,
        tasks={one.title: len(one.tasks) for one in work},
        most_memory_bytes=largest,
    )


def _span(after: SnapshotFiles, config: KowalskiConfig) -> Span:
    """Which snapshots an export is to span."""
    scope = config.scope.to_json() | ({"starids": True} if config.starids else {})
    return Span(after.commit.store, _since(after, config, scope), after.number, scope, config.whole)


def _request(storage: Storage, after: SnapshotFiles, place: Storage, span: Span, config: KowalskiConfig) -> Request:
    before = None if span.since is None else _open_before(storage, span.since)
    return Request(
        before=before,
        after=after,
        output=place,
        scope=config.scope,
        form=config.form,
        whole=config.whole,
        starids=config.starids,
    )


def _require_directory(cursor: Path | None, output: str) -> None:
    """A cursor beside the exports may be the first file there; elsewhere a wrong path is refused before any work."""
    parent = None if cursor is None else cursor.absolute().parent
    if parent is not None and not parent.is_dir() and parent != Path(output).absolute():
        raise ConfigError(f"the directory of the cursor {cursor} does not exist")


def _since(after: SnapshotFiles, config: KowalskiConfig, scope: Json) -> int | None:
    """Number of the snapshot to go on from."""
    cursor = None if config.cursor is None else read_cursor(config.cursor)
    if cursor is None or config.cursor is None or config.full:
        return config.since
    check_cursor(config.cursor, cursor, after.commit.store, after.storage.root, scope)
    if _digest_of(_open_before(after.storage, cursor.snapshot)) != cursor.commit:
        raise ConfigError(
            f"{config.cursor}: snapshot {cursor.snapshot} of {after.storage.root} is not the one that was exported: "
            f"the store was restored from an older copy. {_OFFER}"
        )
    return cursor.snapshot


def _digest_of(snapshot: SnapshotFiles) -> str:
    return short_digest(snapshot.storage.read(paths.commit(snapshot.number)))


def _open_before(storage: Storage, number: int) -> SnapshotFiles:
    """The snapshot to go on from, with an offer where it is gone."""
    try:
        return open_snapshot(storage, number)
    except SnapshotNotFoundError as error:
        raise SnapshotNotFoundError(f"{error}, so what changed since then is unknown. {_OFFER}") from None


def _require_same(place: Storage, manifest: Manifest, span: Span, compression: str) -> None:
    if (manifest.span, manifest.compression) == (span, compression):
        return
    there, asked = (
        f"{json_text(of.scope)}{', whole' if of.whole else ''}, store {of.store}, {name}"
        for of, name in ((manifest.span, manifest.compression), (span, compression))
    )
    raise ConfigError(f"{place.root} is an export of {there}, not of {asked}: choose another directory")


def _run(request: Request, span: Span, runner: Runner) -> Manifest:
    """Run all tasks, then write the manifest; what finished tasks wrote is used again by a rerun."""
    output = request.output
    files: list[LinesFile] = []
    work = plan_export(request)
    runner.check_memory({task.key: projected_bytes(task) for one in work for task in one.tasks if _is_large(task)})
    jobs = [Job(one.title, one.function, one.tasks, _operation_id(request, span, one.title), output) for one in work]
    for i, job in enumerate(jobs, 1):
        others = partial(tuple, jobs[i:])
        files += [file for result in runner.run(replace(job, ahead=others)) for file in result.files]
    files.sort(key=lambda file: (ACTIONS.index(file.action), COLLECTIONS.index(file.collection), file.path))
    manifest = Manifest(
        span, request.after.commit.time, ztfmatch.__version__, request.form.compression, tuple(files)
    )  # fmt: skip
    output.sync([file.path for file in files])
    output.put(MANIFEST, manifest.encode())
    for job in jobs:
        clear(output, job.operation_id)
    _tidy(output)
    return manifest


def _is_large(task: Any) -> bool:
    return isinstance(task, SourcesTask)


def _operation_id(request: Request, span: Span, title: str) -> str:
    """The same export in the same form resumes."""
    inputs = [span.name, span.scope, span.whole, request.form.compression, request.form.documents]
    return OperationId(f"kowalski {title}", span.snapshot, [span.store, inputs]).value


def _tidy(output: Storage) -> None:
    """Take away the directories in which results were staged, and files that a killed writer left unfinished."""
    output.delete([entry.path for entry in output.unfinished()])
    if output.local_root is not None:
        shutil.rmtree(output.local_root / paths.STAGING, ignore_errors=True)


def _unfinished(place: Storage) -> list[str]:
    """Exports without a manifest beside one in a directory."""
    if place.local_root is None or not place.local_root.parent.is_dir():
        return []
    beside = (path for path in sorted(place.local_root.parent.iterdir()) if is_name(path.name))
    return [path.name for path in beside if not (path / MANIFEST).exists()]


def _report(
    after: SnapshotFiles, place: Storage, manifest: Manifest, written: bool, watch: Stopwatch, scope: Scope
) -> KowalskiReport:
    counts = {name: {action: manifest.count(name, action) for action in ACTIONS} for name in COLLECTIONS}
    span = manifest.span
    return KowalskiReport(
        store=after.storage.root,
        export=place.root,
        since=span.since,
        snapshot=span.snapshot,
        written=written,
        counts=counts,
        epochs=manifest.epochs,
        files=len(manifest.files),
        bytes=manifest.size,
        unfinished=_unfinished(place),
        seconds=watch.seconds,
        private_corrections=_private_corrections(after, scope),
    )


def _private_corrections(after: SnapshotFiles, scope: Scope) -> dict[str, str]:
    if scope.programs is None:
        return {}
    held = read_store_sets(after.storage, after.of_table(CORRECTIONS.name))
    found = {name: corrections.private_programs(scope.programs) for name, corrections in sorted(held.items())}
    return {name: private for name, private in found.items() if private}
