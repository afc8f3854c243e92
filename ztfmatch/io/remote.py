"""Requests to an object store, repeated where that helps, with errors that say what was asked and no secret.

The client (obstore) repeats what it can by itself, as :class:`ztfmatch.config.RequestConfig` says; what it does not
(an answer that breaks off in a listing or a bulk delete) is repeated here. Every request can be repeated safely: a
write puts the same bytes in the same place.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from ztfmatch.config import RequestConfig
from ztfmatch.errors import BucketNotFoundError, ConfigError, StorageError
from ztfmatch.io.awsconfig import s3_settings
from ztfmatch.io.urls import ObjectUrl, parse_url

if TYPE_CHECKING:  # which is all that they are there for
    from obstore.store import ClientConfig

_TRIES: Final = 4
_DELETED_AT_ONCE: Final = 1000
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_SETTINGS: Final = ("AWS_", "GOOGLE_", "AZURE_", "ZTFMATCH_", "HOME")
"""How variables begin that say where an object store is and who asks."""
_METADATA_SERVICE: Final = "169.254.169.254"

Answer = TypeVar("Answer")
Bytes: TypeAlias = "bytes | memoryview | pa.Buffer"


@dataclass(frozen=True)
class Entry:
    """One object, as a listing has it."""

    path: str
    size: int
    modified: float
    """Seconds since 1970."""


def open_backend(url: ObjectUrl) -> Any:
    """The client's store for a URL, with endpoint and credentials of the environment or their configuration files.

    Raises
    ------
    ConfigError
        If they are not usable.
    """
    requests = RequestConfig.of_environment(os.environ)
    common: dict[str, Any] = {"prefix": url.key or None, "retry_config": _retries(requests)}
    options: ClientConfig = {
        "timeout": timedelta(seconds=requests.timeout_s),
        "connect_timeout": timedelta(seconds=requests.connect_timeout_s),
    }
    try:
        if url.scheme == "gs":
            return GCSStore(url.bucket, **common, client_options=options)
        if url.scheme == "az":
            return AzureStore(url.bucket, **common, client_options=options)
        settings = s3_settings(os.environ)
        options["allow_http"] = settings.allow_http
        return S3Store(url.bucket, **common, client_options=options, **dict[str, Any](settings.options()))
    except (BaseError, ValueError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{url} cannot be opened: {reason_of(error)}") from None


def _retries(requests: RequestConfig) -> dict[str, Any]:
    return {
        "max_retries": requests.retries,
        "retry_timeout": timedelta(seconds=requests.give_up_after_s),
        "backoff": {
            "init_backoff": timedelta(seconds=requests.first_wait_s),
            "max_backoff": timedelta(seconds=requests.longest_wait_s),
            "base": 3,
        },
    }


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

    def put(self, path: str, data: Bytes) -> None:
        """Write an object, replacing one of the same name.

        In one request: it can be repeated, and leaves no parts of an upload that was broken off.
        """
        view = memoryview(data).cast("B")
        self._ask("write", path, lambda: obstore.put(self._backend, path, view, use_multipart=False))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object unless another content is there; False if there is.

        An answer can be lost though the object was made, and the repeated request then finds it there: if it has
        exactly these bytes, it was ours. So it was if no answer at all came to the end, but the bytes are there.
        """
        for _ in range(_TRIES):
            try:
                self._ask("write", path, lambda: obstore.put(self._backend, path, data, mode="create"))
            except AlreadyExistsError:
                pass
            except StorageError:
                if self._holds(path, data):
                    return True
                raise
            else:
                return True
            try:
                return self.read(path) == data
            except FileNotFoundError:  # S3 answers 409 where another request for the same name is under way
                continue
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


def environment() -> dict[str, str]:
    """Variables of the environment that say where an object store is and who asks: what another process needs too."""
    return {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}


@functools.lru_cache(maxsize=16)
def _connected(url: str, settings: tuple[tuple[str, str], ...]) -> Remote:  # noqa: ARG001 (part of the key)
    return Remote(parse_url(url))


def _is_interrupted(error: Exception) -> bool:
    """Whether a connection broke within an answer, which the client leaves to its caller."""
    text = str(error).split("\n\n", 1)[0]
    return isinstance(error, BaseError) and "body error" in text and not re.search(r"after \d+ retries", text)


def reason_of(error: Exception) -> str:
    """What a client's error says, in one line without anything that signs a request.

    Services quote requests in their answers, session tokens included, and the client quotes URLs with their
    queries; only the answer's code and message are repeated, and URLs without queries.
    """
    text = str(error).split("\n\nDebug source", 1)[0]
    if _METADATA_SERVICE in text:
        return (
            "there are no credentials, and no service of the machine that gives some: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws with AWS_PROFILE"
        )
    line = text.splitlines()[0].split("<", 1)[0] if text else type(error).__name__
    line = re.sub(r"(status code: \d+[^:]*).*", r"\1", line)
    line = re.sub(r"\?\S*|^Generic \S+ error: |, max_retries.*?(?= +- )", "", line)
    code, message = (re.search(rf"<{tag}>([^<]*)</{tag}>", text) for tag in ("Code", "Message"))
    if code:
        line += f": {code[1]}" + (f", {message[1]}" if message else "")
    return re.sub(r"\s+", " ", line)


@dataclass
class RangeReader:
    """A seekable file over ranged requests, as pyarrow reads them: columns of a row group lie one behind the other.

    A request takes more than it is asked for, up to ``ahead`` bytes, and what was read last is kept.
    """

    remote: Remote
    path: str
    length: int
    ahead: int = 1 << 20
    closed: bool = False

    def __post_init__(self) -> None:
        self._at = 0
        self._start, self._held = 0, b""

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Bytes at the position, fewer at the end; all that are left for None or -1."""
        left = max(0, self.length - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if size and not (self._start <= self._at and self._at + size <= self._start + len(self._held)):
            end = min(self.length, self._at + max(size, self.ahead))
            self._start, self._held = self._at, self.remote.read_range(self.path, self._at, end)
        begin = self._at - self._start
        self._at += size
        return self._held[begin : begin + size] if size else b""

    def flush(self) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Forget what was read."""
        self.closed, self._held = True, b""
