"""Storage of a store, on local disk or in an object store: the only module that knows which.

A contract of six calls (read, read_range, put, put_if_absent, list, delete), all atomic per object. Objects are
immutable but for those under ``staging/``. Local files are written by :mod:`ztfmatch.core.io.localfiles`, requests
to object stores are in :mod:`ztfmatch.core.io.remote`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import obstore
import pyarrow as pa
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from ztfmatch.core.errors import StorageError, first_line
from ztfmatch.core.io import localfiles
from ztfmatch.core.io.client import environment, if_absent_of
from ztfmatch.core.io.paths import STAGING
from ztfmatch.core.io.remote import Bytes, Entry, Remote, connect
from ztfmatch.core.io.urls import check_text, is_url, parse_url

__all__ = ["Entry", "Storage", "StorageError", "forced_writes", "is_url", "writes_are_forced"]

_PROBE_IN_BUCKET: Final = "staging/probe-"
_TRIED: Final[set[tuple[object, ...]]] = set()
"""Places, and how they are reached, that refused a second writer when this process tried."""


_FORCED: Final[ContextVar[bool]] = ContextVar("forced", default=False)


@contextlib.contextmanager
def forced_writes(forced: bool = True) -> Iterator[None]:
    """A block in which what is written to a local disk is on disk when it is written.

    For a process on another machine than the one that commits, whose :meth:`Storage.sync` cannot reach the memory of
    this one. Where one machine does both, to sync once is quicker.
    """
    token = _FORCED.set(forced)
    try:
        yield
    finally:
        _FORCED.reset(token)


def writes_are_forced() -> bool:
    """Whether this is within :func:`forced_writes`."""
    return _FORCED.get()


@dataclass(frozen=True)
class Storage:
    """A directory or an object-store prefix; cheap to pickle, opened on first use."""

    root: str
    """Absolute local path, or a URL (s3://bucket/prefix, gs://, az://)."""

    @classmethod
    def at(cls, place: str | os.PathLike[str]) -> Storage:
        """Storage at a path or URL; relative paths are made absolute, nothing is created.

        Raises
        ------
        ConfigError
            If it is a URL of something else than an object store, or carries a secret, or a path that is not UTF-8.
        """
        check_text(place)
        text = os.fspath(place)
        if is_url(text):
            return cls(str(parse_url(text)))
        return cls(str(Path(text.removeprefix("file://")).expanduser().absolute()))

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        """Pickle the place, not the open connection."""
        return Storage, (self.root,)

    @property
    def local_root(self) -> Path | None:
        """Directory of a local store, else None."""
        return None if is_url(self.root) else Path(self.root)

    @property
    def _remote(self) -> Remote:
        return connect(self.root)

    @functools.cached_property
    def _local(self) -> LocalStore:
        local = Path(self.root)
        local.mkdir(parents=True, exist_ok=True)
        return LocalStore(prefix=local)

    def exists(self) -> bool:
        """Whether anything is at this place; creates nothing."""
        local = self.local_root
        if local is not None:
            return local.is_dir()
        return next(iter(self.list("")), None) is not None

    def is_empty(self) -> bool:
        """Whether nothing is at this place, or only what a writer left who was killed as it made a store here."""
        if (local := self.local_root) is None:
            return all(path.startswith(_PROBE_IN_BUCKET) for path, _ in self.list(""))
        with _failures(f"cannot list {self.root}"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return all(localfiles.is_unfinished(path.name) for path in local.iterdir())
        return True

    def has(self, path: str) -> bool:
        """Whether there is an object of that name."""
        with contextlib.suppress(FileNotFoundError):
            self.read(path)
            return True
        return False

    def read(self, path: str) -> bytes:
        """Whole content of an object.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        """
        local = self.local_root
        return self._remote.read(path) if local is None else (local / path).read_bytes()

    def read_range(self, path: str, start: int, length: int) -> pa.Buffer:
        """Bytes of an object from one on, as many as asked for or as there are; one request.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        """
        if is_url(self.root):
            return pa.py_buffer(self._remote.read_range(path, start, start + length))
        # One call for each column of each row group: to make a Path of it took longer than to read it.
        with _failures(f"cannot read {path} in {self.root}"), pa.OSFile(f"{self.root}/{path}") as file:
            file.seek(start)
            return file.read_buffer(length)

    def put(self, path: str, *parts: Bytes) -> None:
        """Write an object of some parts, replacing one of the same name; :meth:`sync` makes it durable.

        Within :func:`forced_writes` it is so at once, but for what is staged. So is a record at the top of a place
        (``retained.json`` ...), which readers find by its name alone: after a power cut there is the old or the new
        one, whole.
        """
        if (local := self.local_root) is None:
            self._remote.put(path, parts[0] if len(parts) == 1 else b"".join(parts))
            return
        with _failures(f"cannot write {path} in {self.root}"):
            record = path.endswith(".json") and "/" not in path
            durable = record or (_FORCED.get() and not path.startswith(STAGING))
            localfiles.replace(local / path, *(memoryview(part).cast("B") for part in parts), durable=durable)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object, durably, unless one of that name and another content is there; False if there is one.

        One of exactly these bytes is our own: an answer can be lost though the object was made.

        Raises
        ------
        StorageError
            If this place lets a second writer of a name win, which is tried once a process.
        """
        place = (self.root, *sorted(environment().items()))
        if place not in _TRIED:
            self._try_refusal(path)
            _TRIED.add(place)
        made = self._make_if_absent(path, data)
        if made:
            self.sync([path])
        return made

    def _make_if_absent(self, path: str, data: bytes) -> bool:
        if (local := self.local_root) is None:
            return self._remote.put_if_absent(path, data)
        try:
            with _failures(f"cannot write {path} in {self.root}"):
                localfiles.create(local / path, memoryview(data))
        except FileExistsError:
            return self.read(path) == data
        return True

    def try_commit(self) -> None:
        """Raise unless commits are safe here: a file is made, refused to a second writer, and deleted.

        Raises
        ------
        StorageError
        """
        self._try_refusal(f"{STAGING}probe")

    def _try_refusal(self, path: str) -> None:
        """Raise unless the second writer of a name is refused: all that makes a commit safe from another rests on it.

        Every file system and service claims so, and some services only read over the condition of a request. What is
        tried with is, where we are killed, taken away by a vacuum: it is staged, or has a name of what is unfinished.
        """
        number = f"{secrets.randbelow(10**12):012d}"
        name = f"{_PROBE_IN_BUCKET}{number}" if self.local_root is None else f"{path}#{number}"
        try:
            made = [self._make_if_absent(name, content) for content in (b"first", b"second")]
        except StorageError as error:
            if not re.search(r"not.?implemented", str(error), re.IGNORECASE):
                raise
            made = []
        finally:
            with contextlib.suppress(OSError):
                self.delete([name])
        if made != [True, False]:
            raise StorageError(_unsafe(self))

    def sync(self, paths: Sequence[str]) -> None:
        """Force local files to disk, so that a commit never names what a power cut took away.

        What another machine wrote lies in that one's memory, which this does not reach: see :func:`forced_writes`.
        """
        if (local := self.local_root) is None:
            return
        places = {local / path for path in paths}
        with _failures(f"cannot force files to disk in {self.root}"):
            localfiles.force_all(places)
            localfiles.force_all(localfiles.directories_of(places, local))

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Path and size in bytes of every object below a prefix."""
        for entry in self.entries(prefix):
            yield entry.path, entry.size

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below a prefix, with its size and time."""
        if self.local_root is None:
            yield from self._remote.entries(prefix)
            return
        if not self.local_root.is_dir():
            return
        with _failures(f"cannot list {prefix or 'the objects'} in {self.root}"):
            for batch in obstore.list(self._local, prefix or None):
                for entry in batch:
                    yield Entry(entry["path"], entry["size"], entry["last_modified"].timestamp())

    def clock(self) -> float:
        """Time by which this place dates its objects, in seconds since 1970: that of one that is written for it."""
        path = f"{STAGING}clock-{secrets.token_hex(6)}"
        self.put(path, b"clock")
        try:
            return next(entry.modified for entry in self.entries(STAGING) if entry.path == path)
        finally:
            self.delete([path])

    def unfinished(self) -> Iterator[Entry]:
        """Files that a writer left when it was killed; no listing has them. Object stores keep none."""
        if (local := self.local_root) is not None:
            for path, size, modified in localfiles.unfinished(local):
                yield Entry(path, size, modified)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; those already gone are no error."""
        if (local := self.local_root) is None:
            self._remote.delete(paths)
            return
        for path in paths:
            with _failures(f"cannot delete {path} in {self.root}"), contextlib.suppress(FileNotFoundError):
                (local / path).unlink()


def _unsafe(storage: Storage) -> str:
    who, way, instead = "this file system", "hard links or renames that replace nothing", "another file system"
    if storage.local_root is None:
        who, header = if_absent_of(parse_url(storage.root))
        way, instead = f"the header '{header}'", "a service, or a version of it, that does (conditional writes)"
    return (
        f"{storage.root}: {who} cannot hold a store: it does not keep {way}, so that of two writers at once both would "
        f"commit and one would lose what it wrote; nothing is committed. Use {instead}"
    )


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turn what the backend raises into one error of ours; a missing or existing object is for the caller."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except (BaseError, OSError, ValueError) as error:
        raise StorageError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return first_line(error)
