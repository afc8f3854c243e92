"""Load exports into Kowalski's MongoDB in order, file by file; each file may be loaded again.

What was loaded is kept beside the documents, so that a load that was stopped goes on with the next file, and an export
that does not go on from there is refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from ztfmatch.core.errors import BadInputError, ConfigError
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.plain import Json
from ztfmatch.core.runner import Progress, no_progress
from ztfmatch.kowalski.io.jsonlines import LinesFile, read_lines
from ztfmatch.kowalski.io.mongo import Database
from ztfmatch.kowalski.schema import EXPOSURES, LINEAGE, REMOVE, SOURCES, UPSERT
from ztfmatch.kowalski.sequence import Export, State, collection_name, find_exports, next_export

INDEXES: Final = {
    SOURCES: (
        (("coordinates.radec_geojson", "2dsphere"), ("_id", 1)),
        (("field", 1), ("ccd", 1), ("quad", 1)),
        (("nobs", 1), ("_id", 1)),
    ),
    EXPOSURES: ((("expid", 1),),),
    LINEAGE: ((("old", 1),), (("new", 1),)),
}
"""Those of sources and exposures are Kowalski's."""

_BATCH: Final = 500
"""Most documents of a bulk write."""
_BATCH_BYTES: Final = 8 << 20
"""With so many bytes of lines it is written, too."""
_STATE: Final = "state"

Line = Json


@dataclass(frozen=True)
class LoadReport:
    """What a load did."""

    tag: str
    exports: list[str]
    """Names of those loaded, in order."""
    snapshot: int | None
    """The snapshot whose documents the collections hold now."""
    documents: int
    """Upserted, updated and removed."""
    files: int
    retries: int
    """How often a request was repeated that MongoDB failed."""
    seconds: float

    @property
    def documents_per_s(self) -> float:
        """How fast."""
        return self.documents / max(self.seconds, 1e-3)


def load_exports(place: str, database: Database, tag: str, progress: Progress = no_progress) -> LoadReport:
    """Load all exports of a directory that go on from what is loaded, or its newest full one into empty collections.

    Raises
    ------
    ConfigError
        If there is no export, or none that fits.
    BadInputError
        If a file is damaged, or the documents are not those that an export goes on from.
    StorageError
        If no MongoDB answers, or it failed too often; a rerun goes on with the file that it failed at.
    """
    watch = Stopwatch()
    if not tag or not tag.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"tag {tag!r}: expected letters, digits, - and _")
    exports = find_exports(place)
    database.greet()
    before = database.retries
    loader = _Loader(database, tag, progress)
    names = []
    while (export := loader.next_of(exports)) is not None:
        loader.load(export)
        names.append(export.span.name)
    held = loader.state.snapshot if loader.state else None
    return LoadReport(
        tag=tag,
        exports=names,
        snapshot=held,
        documents=loader.documents,
        files=loader.files,
        retries=database.retries - before,
        seconds=watch.seconds,
    )


@dataclass(frozen=True)
class LoadStatus:
    """What the collections of a tag hold, and what a load would do."""

    tag: str
    snapshot: int | None
    """The snapshot whose documents they are; None before a full export is complete."""
    scope: Json | None
    loading: str | None
    """Name of the export that is being loaded, or was when a load was stopped."""
    files_done: int
    """Of it."""
    collections: dict[str, int]
    """Documents in each, about."""
    next: list[str]
    """Names of the exports that a load would take, in order."""
    documents: int
    """In these."""


def load_status(place: str, database: Database, tag: str) -> LoadStatus:
    """Say what is loaded and what a load would do; nothing is written.

    Raises
    ------
    As :func:`load_exports`.
    """
    exports = find_exports(place)
    loader = _Loader(database, tag, no_progress)
    state = loader.state
    coming = list(loader.coming(exports))
    names = [collection_name(collection, tag) for collection in INDEXES]
    counts = {name: database.attempt(name, database.handle[name].estimated_document_count) for name in names}
    return LoadStatus(
        tag=tag,
        snapshot=state.snapshot if state else None,
        scope=state.scope if state else None,
        loading=state.loading if state else None,
        files_done=state.done if state else 0,
        collections=counts,
        next=[export.span.name for export in coming],
        documents=sum(file.documents for export in coming for file in export.manifest.files),
    )


class _Bar:
    """Progress of an export, in documents."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress, self._what, self._total, self._done = progress, what, total, 0
        self.advance(0)

    def advance(self, documents: int) -> None:
        """Some more are in."""
        self._done += documents
        self._progress(self._what, self._done, self._total)


class _Loader:
    """Loads exports into the collections of a tag.

    Attributes
    ----------
    state : State or None
        None where nothing was ever loaded.
    documents, files : int
        Done so far.
    """

    def __init__(self, database: Database, tag: str, progress: Progress) -> None:
        self._database, self._tag, self._progress = database, tag, progress
        self._states = collection_name("loads", tag)
        self.documents = self.files = 0
        raw = database.attempt("what was loaded", lambda: database.handle[self._states].find_one({"_id": _STATE}))
        self.state = (
            None if raw is None else State(**{one.name: raw[one.name] for one in fields(State) if one.name in raw})
        )

    def next_of(self, exports: Sequence[Export]) -> Export | None:
        """The export to be loaded now; None if all are."""
        export = next_export(exports, self.state, self._tag)
        if self.state is None:
            self._check_empty()
        return export

    def _check_empty(self) -> None:
        for name in map(self._named, (SOURCES, EXPOSURES)):
            if self._database.attempt(name, self._database.handle[name].estimated_document_count):
                raise ConfigError(
                    f"{name} has documents that no export wrote: a full export needs empty collections, so that no "
                    "stale ones stay; choose another --tag"
                )

    def coming(self, exports: Sequence[Export]) -> Iterator[Export]:
        """Those that are to be loaded, one after the other; nothing is."""
        while (export := self.next_of(exports)) is not None:
            yield export
            span = export.span
            self.state = State(span.store, span.scope, span.snapshot, None)

    def load(self, export: Export) -> None:
        """Load all files of an export that are not in yet, then say that it is."""
        manifest, span, state = export.manifest, export.span, self.state
        digest = short_digest(manifest.encode())
        if state is None or state.loading is None or state.manifest != digest:
            state = self._keep(
                State(span.store, span.scope, state.snapshot if state else None, span.name, manifest=digest)
            )
        self._make_indexes()
        bar = _Bar(self._progress, f"loading {span.name}", sum(file.documents for file in manifest.files))
        for done, file in enumerate(manifest.files):
            if done < state.done:
                bar.advance(file.documents)
                continue
            self._load_file(export.storage, file, bar)
            state = self._keep(replace(state, done=done + 1))
        self._keep(State(span.store, span.scope, span.snapshot, None))

    def _keep(self, state: State) -> State:
        record = {"_id": _STATE, **asdict(state)}
        collection = self._database.handle[self._states]
        self._database.attempt(
            "what was loaded", lambda: collection.replace_one({"_id": _STATE}, record, upsert=True)
        )  # fmt: skip
        self.state = state
        return state

    def _make_indexes(self) -> None:
        for collection, indexes in INDEXES.items():
            for keys in indexes:
                self._database.make_index(self._named(collection), keys)

    def _named(self, collection: str) -> str:
        return collection_name(collection, self._tag)

    def _load_file(self, storage: Storage, file: LinesFile, bar: _Bar) -> None:
        loaded = 0
        for batch in _batches(file, read_lines(storage, file)):
            self._load_batch(file, batch)
            loaded += len(batch)
            bar.advance(len(batch))
        if loaded != file.documents:
            raise BadInputError(f"{storage.root}/{file.path} has {loaded} lines; its manifest says {file.documents}")
        self.documents += loaded
        self.files += 1

    def _load_batch(self, file: LinesFile, lines: Sequence[Line]) -> None:
        name = self._named(file.collection)
        with _documents(file):
            operations = [operation for line in lines for operation in _operations(file.action, line)]
        result = self._database.write(file.path, name, operations)
        if file.action not in (UPSERT, REMOVE) and result.matched_count != len(operations):
            self._complain_of_missing(file, name, lines)

    def _complain_of_missing(self, file: LinesFile, name: str, lines: Sequence[Line]) -> None:
        ids = [line["_id"] for line in lines]
        there = self._database.attempt(
            name,
            lambda: {found["_id"] for found in self._database.handle[name].find({"_id": {"$in": ids}}, {"_id": 1})},
        )
        missing = [one for one in ids if one not in there]
        raise BadInputError(
            f"{file.path}: {name} lacks {len(missing)} of the documents that it updates, for instance "
            f"{missing[0] if missing else ids[0]}: they were removed by someone else; load a full export under another "
            "--tag"
        )


@contextlib.contextmanager
def _documents(file: LinesFile) -> Iterator[None]:
    """Name the file of a line that is not what its manifest says."""
    try:
        yield
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        said = f"{type(error).__name__}: {str(error)[:100]}"
        raise BadInputError(f"{file.path} has a line that is no {file.action} of {file.collection} ({said})") from error


def _batches(file: LinesFile, lines: Iterator[bytes]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        with _documents(file):
            batch.append(_parsed(line))
        size += len(line)
        if len(batch) == _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parsed(line: bytes) -> Line:
    """A document; only lines with types that JSON lacks take the slow way."""
    if b'{"$' in line:
        from bson import json_util

        slow: Line = json_util.loads(line.decode())
        return slow
    document: Line = json.loads(line)
    return document


def _operations(action: str, line: Line) -> list[Any]:
    """What to do for a line; done twice it is as done once."""
    from pymongo import DeleteOne, ReplaceOne, UpdateOne

    this = {"_id": line["_id"]}
    if action == UPSERT:
        return [ReplaceOne(this, line, upsert=True)]
    if action == REMOVE:
        return [DeleteOne(this)]
    epochs = line["push"]["data"]
    again = {"$pull": {"data": {"uexpid": {"$in": [epoch["uexpid"] for epoch in epochs]}}}}
    push = {"$push": {"data": {"$each": epochs, "$sort": {"hjd": 1, "uexpid": 1}}}, "$set": line["set"]}
    return [UpdateOne(this, again), UpdateOne(this, push)]
