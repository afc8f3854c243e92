"""The snapshot log: numbered commits that make a set of immutable files a database.

A commit is a small JSON object whose name is its number; to create it where none of that name is is the only step
that changes what readers see. It names the manifests (lists of live files) and the tiling of its snapshot. A commit
adds one small manifest, of the files that it adds and removes, to its parent's. Small ones are merged as they gather,
so that each is more than twice as long as the next newer: the cost of a commit follows what changes, and that of
finding the files of a tile the logarithm of their number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import ztfmatch
from ztfmatch.core.errors import CommitConflictError, StorageError, StoreDamagedError
from ztfmatch.core.io import paths, storefile
from ztfmatch.core.io.manifest import FileList
from ztfmatch.core.io.manifestpart import encode as encode_part
from ztfmatch.core.io.manifestpart import open_part, part_of
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.records import decode, encode, short_digest, utc_now
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, Tiling
from ztfmatch.core.plain import Json

_GROWTH: Final = 2
"""A manifest is merged into the new one unless it is longer than so many times that."""


@dataclass(frozen=True)
class ManifestPart:
    """One manifest, and how many files it adds to those before it, and removes of them."""

    id: str
    files: int
    removed: int
    size: int
    """Bytes of the manifest."""
    tail: int
    """Bytes of its tail, see :mod:`ztfmatch.core.io.sealed`."""

    @property
    def rows(self) -> int:
        """Length of the manifest."""
        return self.files + self.removed

    @property
    def path(self) -> str:
        """Where it is in the store."""
        return paths.manifest(self.id)

    @property
    def seal(self) -> str:
        """Digest of its tail, which its name ends in."""
        return self.id.rsplit("-", 1)[-1]

    @property
    def described(self) -> str:
        """What it is, for people."""
        return f"{self.path} (a manifest)"


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One entry of the log, as stored."""

    number: int
    parent: int | None
    operation: str
    operation_id: str
    arguments: Json
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
class _Retained:
    """What a vacuum left, as stored."""

    oldest: int


@dataclass(frozen=True)
class Change:
    """What an operation wants to commit."""

    operation: str
    operation_id: str
    arguments: Json
    counts: dict[str, int]
    added: Sequence[DataFile]
    removed: frozenset[str] = frozenset()
    """Paths of files that the new snapshot no longer names."""
    tiling: Tiling | None = None
    """New tiling; None keeps the parent's."""
    started: float = field(default_factory=time.time)
    note: str | None = None

    def __post_init__(self) -> None:
        """A note that is not text, such as the number of a night, becomes one."""
        object.__setattr__(self, "note", None if self.note is None else str(self.note))


def check_store(storage: Storage, entry: Commit) -> None:
    """Check that a snapshot is of this store.

    Raises
    ------
    StoreDamagedError
        If the store's own file, or the snapshot's record, was altered or is another store's.
    """
    if entry.store != storefile.identity(storage):
        raise StoreDamagedError(
            f"{paths.STORE_FILE} in {storage.root} is damaged, or {paths.commit(entry.number)} is of another store: "
            f"they do not belong together"
        )


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
        entry = decode(storage.read(paths.commit(number)), Commit)
    except FileNotFoundError:
        raise StoreDamagedError(f"{paths.commit(number)} is missing from {storage.root}") from None
    except ValueError as error:
        raise StoreDamagedError(f"{paths.commit(number)} in {storage.root} is damaged: {error}") from None
    if entry.number != number:
        raise StoreDamagedError(f"{paths.commit(number)} in {storage.root} is damaged: it is of {entry.number}")
    return entry


def oldest_retained(storage: Storage) -> int:
    """Number of the oldest snapshot that a vacuum left; 0 before the first vacuum."""
    try:
        return decode(storage.read(paths.RETAINED_FILE), _Retained).oldest
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise StoreDamagedError(f"{paths.RETAINED_FILE} in {storage.root} is damaged: {error}") from None


def retain_from(storage: Storage, oldest: int) -> None:
    """Declare that snapshots before this one can no longer be opened."""
    storage.put(paths.RETAINED_FILE, encode(asdict(_Retained(oldest))))


def read_manifests(storage: Storage, parts: Iterable[ManifestPart]) -> FileList:
    """Live files of some manifests, the oldest first.

    Raises
    ------
    StoreDamagedError
        If one is missing or not what was written; also when the files are asked for.
    """
    return FileList([open_part(storage, part, part.removed > 0) for part in parts])


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
        number=0 if parent is None else parent.number + 1,
        parent=None if parent is None else parent.number,
        operation=change.operation,
        operation_id=change.operation_id,
        arguments=change.arguments,
        counts=change.counts,
        manifests=manifests,
        tiling=tiling,
        time=utc_now(),
        duration_s=round(time.time() - change.started, 3),
        store=storefile.identity(storage),
        note=change.note,
    )
    record = encode(asdict(entry))
    decode(record, Commit)  # or no reader could open the store any more
    if _created(storage, paths.commit(entry.number), record):
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
    before = () if parent is None else parent.manifests
    kept, rows = list(before), len(change.added) + len(change.removed)
    while rows and kept and kept[-1].rows <= _GROWTH * rows:
        rows += kept.pop().rows
    merged = [open_part(storage, part, part.removed > 0) for part in before[len(kept) :]]
    new = encode_part(FileList([*merged, part_of(change.added, change.removed)]).merged(last=not kept))
    if not new.files + new.removed:
        return tuple(kept)
    part = ManifestPart(f"{prefix}-{new.sealed.seal}", new.files, new.removed, new.sealed.size, new.sealed.tail)
    storage.put(part.path, *new.sealed.parts)
    return (*kept, part)


def _named_by_content(prefix: str, content: bytes) -> str:
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
