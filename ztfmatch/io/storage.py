"""Bytes in and out of a store, on local disk or an object store: the only module that knows which.

A contract of few calls (read, put, put_if_absent, list, delete, open_input), all atomic per object. Objects are
immutable but for those under ``staging/``. Requests to object stores are in :mod:`ztfmatch.io.remote`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from ztfmatch.errors import StorageError, StoreDamagedError
from ztfmatch.io.ranges import RangeReader
from ztfmatch.io.remote import Bytes, Entry, Remote, connect
from ztfmatch.io.urls import is_url, parse_url

__all__ = ["Entry", "Storage", "StorageError", "is_url"]


@dataclass(frozen=True)
class Storage:
    """A directory or an object-store prefix; cheap to pickle, opened on first use.

    Parameters
    ----------
    root : str
        Absolute local path, or a URL (s3://bucket/prefix, gs://, az://).
    """

    root: str

    @classmethod
    def at(cls, place: str | os.PathLike[str]) -> Storage:
        """Storage at a path or URL; relative paths are made absolute, nothing is created.

        Raises
        ------
        ConfigError
            If it is a URL of something else than an object store, or carries a secret.
        """
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

    def read(self, path: str) -> bytes:
        """Whole content of an object.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        """
        local = self.local_root
        return self._remote.read(path) if local is None else (local / path).read_bytes()

    def put(self, path: str, data: Bytes) -> None:
        """Write an object, replacing one of the same name; :meth:`sync` makes it durable."""
        if self.local_root is None:
            self._remote.put(path, data)
            return
        with _failures(f"cannot write {path} in {self.root}"):
            obstore.put(self._local, path, memoryview(data).cast("B"))
        _begin_writing(self.local_root / path)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object, durably, unless one of that name and another content is there; False if there is one.

        One of exactly these bytes is our own: an answer can be lost though the object was made.
        """
        if self.local_root is None:
            return self._remote.put_if_absent(path, data)
        try:
            with _failures(f"cannot write {path} in {self.root}"):
                obstore.put(self._local, path, data, mode="create")
        except AlreadyExistsError:
            if self.read(path) != data:
                return False
        self.sync([path])
        return True

    def sync(self, paths: Sequence[str]) -> None:
        """Force local files to disk, so that a commit never names what a power cut took away."""
        if (local := self.local_root) is None:
            return
        places = {local / path for path in paths}
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(_force_to_disk, places))
            list(pool.map(_force_to_disk, _directories_of(places, local)))

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

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; those already gone are no error."""
        if self.local_root is None:
            self._remote.delete(paths)
            return
        for path in paths:
            with contextlib.suppress(FileNotFoundError), _failures(f"cannot delete {path} in {self.root}"):
                obstore.delete(self._local, path)

    def open_input(self, path: str, size: int | None = None) -> Any:
        """A seekable file over one object, for pyarrow's readers; its size, where that is known, saves a request.

        Raises
        ------
        StoreDamagedError
            If it is not there: the snapshot names it.
        """
        try:
            if self.local_root is not None:
                return pa.OSFile(str(self.local_root / path))
            size = self._remote.size(path) if size is None else size
            return pa.PythonFile(RangeReader(self._remote, path, size), mode="r")
        except FileNotFoundError:
            raise StoreDamagedError(f"{path} is missing from {self.root}, though a snapshot names it") from None


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turn what the backend raises into one error of ours; a missing or existing object is for the caller."""
    try:
        yield
    except (FileNotFoundError, AlreadyExistsError):
        raise
    except (BaseError, OSError, ValueError) as error:
        raise StorageError(f"{what}: {_first_line(error)}") from error


def _begin_writing(place: Path) -> None:
    """Ask the kernel to write a file to disk by and by, so that :meth:`Storage.sync` has little left to wait for."""
    if not hasattr(os, "posix_fadvise"):
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _directories_of(places: set[Path], root: Path) -> set[Path]:
    """Every directory on the way from a root to some files: one newly made is durable once its parent is."""
    return {above for place in places for above in place.parents if above.is_relative_to(root)}


def _force_to_disk(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
