"""Requests to an object store, retried where that helps, with errors that name the request and no secret.

The client (obstore) repeats what it can, as :class:`ztfmatch.core.config.RequestConfig` says; what it does not
(an answer that breaks off in a listing or a bulk delete) is repeated here. Every request can be repeated safely: a
write puts the same bytes in the same place.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError

from ztfmatch.core.config import RequestConfig
from ztfmatch.core.errors import BucketNotFoundError, ConfigError, StorageError
from ztfmatch.core.io.client import environment, open_backend, reason_of
from ztfmatch.core.io.urls import ObjectUrl, parse_url

_TRIES: Final = 4
_DELETED_AT_ONCE: Final = 1000
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")

Answer = TypeVar("Answer")
Bytes: TypeAlias = "bytes | memoryview | pa.Buffer"


@dataclass(frozen=True)
class Entry:
    """One object, as a listing has it."""

    path: str
    size: int
    modified: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Remote:
    """A prefix of an object store; connects on first use.

    Its calls raise FileNotFoundError for an object that is not there, BucketNotFoundError for a bucket, and
    StorageError for all else.
    """

    url: ObjectUrl

    @functools.cached_property
    def _backend(self) -> Any:
        return open_backend(self.url)

    def read(self, path: str) -> bytes:
        """Whole content of an object."""
        return self._ask("read", path, lambda: obstore.get(self._backend, path).bytes().to_bytes())

    def read_up_to(self, path: str, most: int) -> tuple[int, bytes | None]:
        """Size of an object, and its whole content, or None if it has more bytes than that."""

        def request() -> tuple[int, bytes | None]:
            got = obstore.get(self._backend, path)
            size: int = got.meta["size"]
            return size, bytes(got.bytes()) if size <= most else None

        return self._ask("read", path, request)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes from ``start`` to before ``end``; the object must have them."""
        return self._ask("read", path, lambda: bytes(obstore.get_range(self._backend, path, start=start, end=end)))

    def size(self, path: str) -> int:
        """Bytes of an object."""
        return self._ask("read", path, lambda: int(obstore.head(self._backend, path)["size"]))

    def stamp(self, path: str) -> tuple[int, int]:
        """Bytes of an object, and when it was written, in nanoseconds."""
        meta = self._ask("read", path, lambda: obstore.head(self._backend, path))
        return int(meta["size"]), round(meta["last_modified"].timestamp() * 1e9)

    def put(self, path: str, data: Bytes) -> None:
        """Write an object, replacing one of the same name.

        In one request: it can be repeated, and leaves no parts of an upload that was broken off.
        """
        view = memoryview(data).cast("B")
        self._ask("write", path, lambda: obstore.put(self._backend, path, view, use_multipart=False))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object unless another content is there; False if there is.

        What is there in the end decides, not the answer. One can be lost though the object was made: the request that
        is repeated finds it there, and if it has exactly these bytes, it was ours, as it was if no answer came at all.
        And a service that races can accept two writers, of whom it keeps one.
        """
        for tries in range(_TRIES):
            try:
                self._ask("write", path, lambda: obstore.put(self._backend, path, data, mode="create"))
            except AlreadyExistsError:
                pass
            except StorageError:
                if self._holds(path, data):
                    return True
                raise
            try:
                return self.read(path) == data
            except FileNotFoundError:  # S3 answers 409 where another request for the same name is under way
                time.sleep(RequestConfig.of_environment(os.environ).first_wait_s * 2**tries)
        raise StorageError(f"cannot write {path} in {self.url}: the service says that it is there, but has none")

    def _holds(self, path: str, data: bytes) -> bool:
        """Whether these very bytes are there, as far as the service answers."""
        try:
            return self.read(path) == data
        except (FileNotFoundError, StorageError):
            return False

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below a prefix; a listing that breaks off goes on behind the last object that it gave."""
        last: str | None = None
        tries = 0
        batches = self._listing(prefix, last)
        while True:
            try:
                batch = next(batches, None)
            except (BaseError, OSError, ValueError) as error:
                tries += 1
                if tries == _TRIES or not _is_interrupted(error):
                    raise self._failure("list", prefix or "the objects", error) from None
                batches = self._listing(prefix, last)
                continue
            if batch is None:
                return
            for entry in batch:
                yield Entry(entry["path"], entry["size"], entry["last_modified"].timestamp())
            last, tries = (batch[-1]["path"] if batch else last), 0

    def _listing(self, prefix: str, after: str | None) -> Iterator[Any]:
        return iter(obstore.list(self._backend, prefix or None, offset=after))

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects, many in a request where the service knows how; those already gone are no error."""
        for start in range(0, len(paths), _DELETED_AT_ONCE):
            some = list(dict.fromkeys(paths[start : start + _DELETED_AT_ONCE]))
            try:
                self._delete(some)
            except FileNotFoundError:  # some services stop at the first that is gone
                for path in some:
                    self._delete_one(path)

    def _delete_one(self, path: str) -> None:
        try:
            self._delete([path])
        except FileNotFoundError:
            return

    def _delete(self, paths: list[str]) -> None:
        what = paths[0] if len(paths) == 1 else f"{len(paths)} objects"
        self._ask("delete", what, lambda: obstore.delete(self._backend, paths))

    def _ask(self, verb: str, path: str, request: Callable[[], Answer]) -> Answer:
        """Answer to a request; one whose answer broke off is repeated."""
        for tries in range(1, _TRIES + 1):
            try:
                return request()
            except AlreadyExistsError:
                raise
            except (BaseError, OSError, ValueError) as error:
                if tries == _TRIES or not _is_interrupted(error):
                    raise self._failure(verb, path, error) from None
        raise AssertionError("unreachable")

    def _failure(self, verb: str, path: str, error: Exception) -> Exception:
        """Our error for the client's, which is not chained: its text may have what the service quotes of a request."""
        if isinstance(error, ConfigError):
            return error
        if any(mark in str(error) for mark in _NO_BUCKET):
            return BucketNotFoundError(f"{self.url}: there is no bucket {self.url.bucket!r}")
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, "no such object", f"{self.url}/{path}")
        return StorageError(f"cannot {verb} {path} in {self.url}: {reason_of(error)}")


def connect(url: str) -> Remote:
    """A place by its URL; its connections are kept as long as the environment names the same service.

    Raises
    ------
    ConfigError
        If it is no URL of an object store, or carries a secret.
    """
    return _connected(url, tuple(sorted(environment().items())))


@functools.lru_cache(maxsize=16)
def _connected(url: str, settings: tuple[tuple[str, str], ...]) -> Remote:  # noqa: ARG001 (part of the key)
    return Remote(parse_url(url))


def _is_interrupted(error: Exception) -> bool:
    """Whether a connection broke within an answer, which the client leaves to its caller."""
    text = str(error).split("\n\n", 1)[0]
    return isinstance(error, BaseError) and "body error" in text and not re.search(r"after \d+ retries", text)
