"""Bytes in and out of a store, on local disk or an object store: the only module that knows which.

A contract of six calls (read, read_range, put, put_if_absent, list, delete), all atomic per object. Objects are
immutable but for those under ``staging/``. Endpoint and credentials of object stores come from the environment or
their own configuration files.
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
from obstore.store import LocalStore, from_url

from ztfmatch.errors import ZtfmatchError
from ztfmatch.io import localfiles


class StorageError(ZtfmatchError, OSError):
    """The storage refused or lost a request."""


def is_url(place: str) -> bool:
    """Whether a place is a URL of an object store rather than a local path."""
    return "://" in place and not place.startswith("file://")


@dataclass(frozen=True)
class Entry:
    """One object, as a listing has it."""

    path: str
    size: int
    modified: float
    """Seconds since 1970."""


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
        """Storage at a path or URL; relative paths are made absolute, nothing is created."""
        text = os.fspath(place)
        if is_url(text):
            return cls(text.rstrip("/"))
        return cls(str(Path(text.removeprefix("file://")).expanduser().absolute()))

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        """Pickle the place, not the open connection."""
        return Storage, (self.root,)

    @property
    def local_root(self) -> Path | None:
        """Directory of a local store, else None."""
        return None if is_url(self.root) else Path(self.root)

    @functools.cached_property
    def _backend(self) -> Any:
        local = self.local_root
        if local is None:
            with _failures(f"cannot open {self.root}"):
                return from_url(self.root)
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
        if local is not None:
            return (local / path).read_bytes()
        with _failures(f"cannot read {path} in {self.root}"):
            return bytes(obstore.get(self._backend, path).bytes())

    def read_range(self, path: str, start: int, length: int) -> pa.Buffer:
        """Bytes of an object from one on, as many as asked for or as there are; one request.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        """
        if (local := self.local_root) is not None:
            with _failures(f"cannot read {path} in {self.root}"), pa.OSFile(str(local / path)) as file:
                file.seek(start)
                return file.read_buffer(length)
        with _failures(f"cannot read {path} in {self.root}"):
            return pa.py_buffer(obstore.get_range(self._backend, path, start=start, length=length))

    def put(self, path: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Write an object, replacing one of the same name; :meth:`sync` makes it durable."""
        content = memoryview(data).cast("B")
        with _failures(f"cannot write {path} in {self.root}"):
            if (local := self.local_root) is None:
                obstore.put(self._backend, path, content)
            else:
                localfiles.replace(local / path, content)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object unless one of that name is there, durably; False if there is one."""
        try:
            with _failures(f"cannot write {path} in {self.root}"):
                if (local := self.local_root) is None:
                    obstore.put(self._backend, path, data, mode="create")
                else:
                    localfiles.create(local / path, memoryview(data))
        except (AlreadyExistsError, FileExistsError):
            return False
        self.sync([path])
        return True

    def sync(self, paths: Sequence[str]) -> None:
        """Force local files to disk, so that a commit never names what a power cut took away."""
        if (local := self.local_root) is None:
            return
        places = {local / path for path in paths}
        with _failures(f"cannot force files to disk in {self.root}"), ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(localfiles.force_to_disk, places))
            list(pool.map(localfiles.force_to_disk, localfiles.directories_of(places, local)))

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Path and size in bytes of every object below a prefix."""
        for entry in self.entries(prefix):
            yield entry.path, entry.size

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below a prefix, with its size and time."""
        if not (self.local_root is None or self.local_root.is_dir()):
            return
        with _failures(f"cannot list {prefix or 'the objects'} in {self.root}"):
            for batch in obstore.list(self._backend, prefix or None):
                for entry in batch:
                    yield Entry(entry["path"], entry["size"], entry["last_modified"].timestamp())

    def unfinished(self) -> Iterator[Entry]:
        """Files that a writer left when it was killed; no listing has them. Object stores keep none."""
        if (local := self.local_root) is not None:
            for path, size, modified in localfiles.unfinished(local):
                yield Entry(path, size, modified)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; those already gone are no error."""
        for path in paths:
            with _failures(f"cannot delete {path} in {self.root}"), contextlib.suppress(FileNotFoundError):
                if (local := self.local_root) is None:
                    obstore.delete(self._backend, path)
                else:
                    (local / path).unlink()


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turn what the backend raises into one error of ours; a missing or existing object is for the caller."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, AlreadyExistsError):
        raise
    except (BaseError, OSError, ValueError) as error:
        raise StorageError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
