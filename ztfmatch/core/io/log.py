"""The snapshot log: numbered commits that make a set of immutable files a database.

A commit is a small JSON object whose name is its number; to create it where none of that name is is the only step
that changes what readers see. It names the manifests (lists of live files) and the tiling of its snapshot. A commit
that only adds files adds one small manifest to its parent's; small ones are merged as they gather, so the cost of a
commit follows what is new.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa

import ztfmatch
from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import (
    BucketNotFoundError,
    CommitConflictError,
    StorageError,
    StoreDamagedError,
    StoreExistsError,
    StoreFormatError,
    StoreNotFoundError,
)
from ztfmatch.core.io import paths
from ztfmatch.core.io.manifest import FileList
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.records import decode, encode, short_digest
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, Tiling

FORMAT: Final = "ztfmatch-store"
FORMAT_VERSION: Final = 4


@dataclass(frozen=True)
class ManifestPart:
    """One manifest and how many files it lists."""

    id: str
    files: int


@dataclass(frozen=True)
class Commit:
    """One entry of the log, as stored."""

    number: int
    parent: int | None
    operation: str
    operation_id: str
    arguments: dict[str, Any]
    counts: dict[str, int]
    manifests: tuple[ManifestPart, ...]
    tiling: str
    time: str
    duration_s: float
    store: str
    """Digest of the store's own file, which no other store has."""
    note: str | None = None
    ztfmatch: str = field(default_factory=lambda: ztfmatch.__version__)


@dataclass(frozen=True)
class Change:
    """What an operation wants to commit."""

    operation: str
    operation_id: str
    arguments: dict[str, Any]
    counts: dict[str, int]
    added: Sequence[DataFile]
    removed: frozenset[str] = frozenset()
    """Paths of files that the new snapshot no longer names."""
    tiling: Tiling | None = None
    """New tiling; None keeps the parent's."""
    started: float = field(default_factory=time.time)
    note: str | None = None


def create_store(storage: Storage, config: StoreConfig) -> None:
    """Write what a store is, once.

    Raises
    ------
    StoreFormatError
        If a store of other settings is there.
    StoreExistsError
        If something is there that is no store.
    """
    check_free(storage)
    text = json.dumps(
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "survey": "ZTF",
            "id": uuid.uuid4().hex,
            "radius_arcsec": config.radius_arcsec,
            "seeds_per_tile": config.seeds_per_tile,
            "max_order": config.max_order,
        },
        indent=1,
    )
    if not storage.put_if_absent(paths.STORE_FILE, text.encode()):
        there = read_config(storage)
        if there != config:
            raise StoreFormatError(
                f"{storage.root} is a store with other settings ({_settings(there)}); asked for {_settings(config)}"
            )


def check_free(storage: Storage) -> None:
    """Check that a place holds nothing but a store, if anything.

    Raises
    ------
    StoreExistsError
    """
    if not storage.is_empty() and not storage.has(paths.STORE_FILE):
        raise StoreExistsError(f"{storage.root} is not empty, and no store: choose a new or an empty place for one")


def _settings(config: StoreConfig) -> str:
    return (
        f"radius {config.radius_arcsec} arcsec, {config.seeds_per_tile} seeds per tile, "
        f"maximum order {config.max_order}"
    )


def read_config(storage: Storage) -> StoreConfig:
    """Settings of the store.

    Raises
    ------
    StoreNotFoundError
        If there is nothing.
    StoreFormatError
        If what is there is not a store, or of a newer format version.
    """
    try:
        text = storage.read(paths.STORE_FILE)
    except FileNotFoundError:
        if not storage.exists():
            raise StoreNotFoundError(f"{storage.root}: no such store; make one with 'ztfmatch init'") from None
        raise _no_store(storage, f"it has no {paths.STORE_FILE}") from None
    except BucketNotFoundError as error:
        raise StoreNotFoundError(str(error)) from None
    except StorageError:
        raise
    except OSError as error:
        raise StoreFormatError(f"{storage.root} is not a ztfmatch store: {error.strerror or error}") from None
    foreign = f"{paths.STORE_FILE} is not one's"
    try:
        content = json.loads(text)
        ours, version = content["format"] == FORMAT, int(content["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _no_store(storage, foreign) from None
    if not ours:
        raise _no_store(storage, foreign)
    _check_version(storage, version)
    try:
        return StoreConfig(content["radius_arcsec"], content["seeds_per_tile"], content["max_order"])
    except KeyError:
        raise _no_store(storage, foreign) from None


def _check_version(storage: Storage, version: int) -> None:
    if version > FORMAT_VERSION:
        raise StoreFormatError(
            f"{storage.root} has store format {version}; this ztfmatch {ztfmatch.__version__} reads up to "
            f"{FORMAT_VERSION}: upgrade ztfmatch"
        )
    if version < FORMAT_VERSION:
        raise StoreFormatError(
            f"{storage.root} has store format {version}, of before the first release; this ztfmatch "
            f"{ztfmatch.__version__} reads format {FORMAT_VERSION}: make the store again"
        )


def _no_store(storage: Storage, reason: str) -> StoreFormatError | StoreDamagedError:
    """Where there are snapshots, the store's own file was lost or altered."""
    if commit_numbers(storage):
        return StoreDamagedError(f"{paths.STORE_FILE} in {storage.root} is missing or damaged, though it has snapshots")
    return StoreFormatError(f"{storage.root} is not a ztfmatch store: {reason}")


def check_store(storage: Storage, entry: Commit) -> None:
    """Check that a snapshot is of this store.

    Raises
    ------
    StoreDamagedError
        If the store's own file, or the snapshot's record, was altered or is another store's.
    """
    if entry.store != _identity(storage):
        raise StoreDamagedError(
            f"{paths.STORE_FILE} in {storage.root} is damaged, or {paths.commit(entry.number)} is of another store: "
            f"they do not belong together"
        )


def _identity(storage: Storage) -> str:
    try:
        return short_digest(storage.read(paths.STORE_FILE))
    except FileNotFoundError:
        raise StoreDamagedError(f"{paths.STORE_FILE} is missing from {storage.root}") from None


def commit_numbers(storage: Storage) -> list[int]:
    """Numbers of all commits, ascending."""
    numbers = (paths.number_of_commit(path) for path, _ in storage.list(paths.COMMITS))
    return sorted(number for number in numbers if number is not None)


def read_commit(storage: Storage, number: int) -> Commit:
    """One entry of the log.

    Raises
    ------
    StoreDamagedError
        If it is missing or not what was written.
    """
    try:
        raw = decode(storage.read(paths.commit(number)))
        raw["manifests"] = tuple(ManifestPart(**part) for part in raw["manifests"])
        entry = Commit(**raw)
    except FileNotFoundError:
        raise StoreDamagedError(f"{paths.commit(number)} is missing from {storage.root}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise StoreDamagedError(f"{paths.commit(number)} in {storage.root} is damaged: {error}") from None
    if entry.number != number:
        raise StoreDamagedError(f"{paths.commit(number)} in {storage.root} is damaged: it is of {entry.number}")
    return entry


def oldest_retained(storage: Storage) -> int:
    """Number of the oldest snapshot that a vacuum left; 0 before the first vacuum."""
    try:
        return int(decode(storage.read(paths.RETAINED_FILE))["oldest"])
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError) as error:
        raise StoreDamagedError(f"{paths.RETAINED_FILE} in {storage.root} is damaged: {error}") from None


def retain_from(storage: Storage, oldest: int) -> None:
    """Declare that snapshots before this one can no longer be opened."""
    storage.put(paths.RETAINED_FILE, encode({"oldest": oldest}))


def read_manifests(storage: Storage, parts: Iterable[ManifestPart]) -> FileList:
    """Live files of some manifests.

    Raises
    ------
    StoreDamagedError
        If one is missing or not what was written.
    """
    return FileList.joined(_read_manifest(storage, part) for part in parts)


def _read_manifest(storage: Storage, part: ManifestPart) -> FileList:
    try:
        return FileList.decode(_read_named_by_content(storage, paths.manifest(part.id), part.id))
    except (pa.ArrowException, ValueError) as error:
        raise StoreDamagedError(
            f"{paths.manifest(part.id)} in {storage.root} is missing or damaged: {error}"
        ) from error


def read_tiling(storage: Storage, identity: str) -> Tiling:
    """Tiles of a snapshot."""
    try:
        pairs = json.loads(_read_named_by_content(storage, paths.tiling(identity), identity))
        return Tiling(tuple(Tile(order, npix) for order, npix in pairs))
    except (ValueError, TypeError) as error:
        raise StoreDamagedError(f"{paths.tiling(identity)} in {storage.root} is missing or damaged: {error}") from error


def _read_named_by_content(storage: Storage, path: str, identity: str) -> bytes:
    try:
        content = storage.read(path)
    except FileNotFoundError:
        raise StoreDamagedError(f"{path} in {storage.root} is missing or damaged: a snapshot names it") from None
    if not identity.endswith(f"-{short_digest(content)}"):
        raise StoreDamagedError(
            f"{path} in {storage.root} is missing or damaged: its content is not what its name says"
        )
    return content


def commit(storage: Storage, parent: Commit | None, change: Change) -> Commit:
    """Make a change visible, all of it or nothing.

    Raises
    ------
    CommitConflictError
        If another writer committed since ``parent``; its work stands, ours is not visible.
    """
    number = 0 if parent is None else parent.number + 1
    prefix = f"{number:010d}-{change.operation_id[:12]}"
    manifests = _write_manifests(storage, parent, change, prefix)
    tiling = _write_tiling(storage, parent, change, prefix)
    names = [paths.manifest(part.id) for part in manifests if part.id.startswith(prefix)]
    storage.sync([*(file.path for file in change.added), *names, paths.tiling(tiling)])
    return _publish(storage, parent, change, manifests, tiling)


def restore(storage: Storage, head: Commit, target: Commit, change: Change) -> Commit:
    """Commit the state of an older snapshot again, on top of the newest.

    Raises
    ------
    CommitConflictError
        If another writer committed since ``head``.
    """
    return _publish(storage, head, change, target.manifests, target.tiling)


def _publish(
    storage: Storage, parent: Commit | None, change: Change, manifests: tuple[ManifestPart, ...], tiling: str
) -> Commit:
    """Create the commit record, the one step that readers see."""
    entry = Commit(
        0 if parent is None else parent.number + 1,
        None if parent is None else parent.number,
        change.operation,
        change.operation_id,
        change.arguments,
        change.counts,
        manifests,
        tiling,
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        round(time.time() - change.started, 3),
        _identity(storage),
        change.note,
    )
    if _created(storage, paths.commit(entry.number), encode(asdict(entry))):
        return entry
    there = read_commit(storage, entry.number)
    if (there.operation_id, there.manifests, there.tiling) == (entry.operation_id, manifests, tiling):
        return there  # the very same operation, run twice: the same files, at another time
    raise CommitConflictError(
        f"{storage.root}: another writer committed snapshot {entry.number} meanwhile; nothing of this "
        f"{change.operation} is visible: run it again"
    )


def _created(storage: Storage, path: str, record: bytes) -> bool:
    """Whether a commit record was created; where that failed, the error says what has become of it."""
    try:
        return storage.put_if_absent(path, record)
    except StorageError as error:
        number = paths.number_of_commit(path)
        try:
            stands = storage.read(path) == record
        except FileNotFoundError:
            raise error from None
        except StorageError:
            raise StorageError(
                f"{error}; whether snapshot {number} was committed is not known: see 'ztfmatch history'"
            ) from error
        if not stands:
            raise
        raise StorageError(
            f"snapshot {number} was committed and stands, but is not known to be on disk, so that a power cut may take "
            f"it ({error}): see to the disk, then run 'ztfmatch verify --deep'"
        ) from error


def _write_manifests(storage: Storage, parent: Commit | None, change: Change, prefix: str) -> tuple[ManifestPart, ...]:
    """Manifests of the new snapshot: the parent's that stay as they are, and one new."""
    kept = list(parent.manifests) if parent else []
    files = FileList.of(change.added)
    if change.removed:
        files = FileList.joined([read_manifests(storage, kept).without(change.removed), files])
        kept = []
    while kept and kept[-1].files <= 2 * len(files):
        files = FileList.joined([read_manifests(storage, [kept.pop()]), files])
    if not len(files):
        return tuple(kept)
    content = files.encode()
    identity = _named_by_content(prefix, content)
    storage.put(paths.manifest(identity), content)
    return (*kept, ManifestPart(identity, len(files)))


def _named_by_content(prefix: str, content: bytes | pa.Buffer) -> str:
    """Name of an object that no other content can have, so that a writer who loses replaces nothing of the winner's."""
    return f"{prefix}-{short_digest(content)}"


def _write_tiling(storage: Storage, parent: Commit | None, change: Change, prefix: str) -> str:
    if change.tiling is None:
        if parent is None:
            raise ValueError("the first commit needs a tiling")
        return parent.tiling
    pairs = [[tile.order, tile.npix] for tile in change.tiling.tiles]
    content = json.dumps(pairs).encode()
    identity = _named_by_content(prefix, content)
    storage.put(paths.tiling(identity), content)
    return identity
