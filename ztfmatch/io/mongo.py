"""MongoDB: connect without telling a secret, and repeat what failed because the service did.

pymongo is imported only here, and only when a connection is asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from ztfmatch.errors import BadInputError, ConfigError, StorageError

URI_VARIABLE: Final = "ZTFMATCH_MONGO_URI"
DATABASE: Final = "kowalski"
"""Where the URI names none."""

Result = TypeVar("Result")
Index = Sequence[tuple[str, int | str]]


@dataclass(frozen=True)
class RetryConfig:
    """How a request that failed for the service's sake is repeated; the waits double from the first to the longest."""

    tries: int = 8
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    select_timeout_s: float = 30.0
    """Longest wait for a server that takes writes."""

    def wait_s(self, failures: int) -> float:
        """Wait after so many failures."""
        return float(min(self.longest_wait_s, self.first_wait_s * 2.0 ** (failures - 1)))


def read_uri(file: Path | None) -> str:
    """The connection string: of a file, else of the environment; never of a command line, which others can see.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if file is not None:
        try:
            uri = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the MongoDB URI in {file}: {getattr(error, 'strerror', error)}") from None
        where = str(file)
    else:
        uri, where = os.environ.get(URI_VARIABLE, "").strip(), URI_VARIABLE
        if not uri:
            raise ConfigError(f"no MongoDB to load into: set {URI_VARIABLE}, or give --mongo-uri-file")
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        raise ConfigError(f"{where} does not hold a MongoDB URI, which begins with mongodb:// or mongodb+srv://")
    return uri


@dataclass(frozen=True)
class Database:
    """A database of a MongoDB service."""

    handle: Any
    """pymongo's."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    sleep: Callable[[float], None] = time.sleep

    def attempt(self, what: str, request: Callable[[], Result]) -> Result:
        """Result of a request that may be made more than once.

        Raises
        ------
        StorageError
            If the service failed it too often.
        BadInputError
            If the service refuses what was asked.
        """
        from pymongo.errors import PyMongoError

        for failures in range(1, self.retry.tries + 1):
            try:
                return request()
            except PyMongoError as error:
                if not _may_pass(error):
                    raise BadInputError(f"{what}: MongoDB refuses it: {_told(error)}") from error
                if failures == self.retry.tries:
                    raise StorageError(f"{what}: MongoDB failed {failures} times, the last: {_told(error)}") from error
                self.sleep(self.retry.wait_s(failures))
        raise AssertionError("unreachable")

    def write(self, what: str, collection: str, operations: Sequence[Any]) -> Any:
        """Write some operations, all of which may be done again, in their order."""
        return self.attempt(what, lambda: self.handle[collection].bulk_write(list(operations), ordered=True))

    def close(self) -> None:
        """End the connection."""
        self.handle.client.close()

    def make_index(self, collection: str, keys: Index) -> None:
        """Make an index unless there is the same."""
        self.attempt(f"index of {collection}", lambda: self.handle[collection].create_index(list(keys)))


def connect(uri: str, retry: RetryConfig | None = None) -> Database:
    """Open the database that a URI names; the service is asked only when it is to do something.

    Raises
    ------
    ConfigError
        If pymongo is not installed, or the URI cannot be used.
    """
    retry = retry or RetryConfig()
    try:
        import pymongo
        from pymongo.errors import PyMongoError
    except ImportError:
        raise ConfigError("MongoDB needs pymongo: pip install 'ztfmatch[kowalski]'") from None
    try:
        client: Any = pymongo.MongoClient(
            uri,
            serverSelectionTimeoutMS=int(retry.select_timeout_s * 1000),
            retryWrites=False,  # repeated here, where a whole batch is written again
        )
    except (PyMongoError, ValueError) as error:
        raise ConfigError(f"the MongoDB URI cannot be used: {type(error).__name__}") from None
    return Database(client.get_default_database(DATABASE), retry)


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure

    if isinstance(error, ConnectionFailure):
        return True
    if isinstance(error, BulkWriteError):
        return not error.details.get("writeErrors") and bool(error.details.get("writeConcernErrors"))
    return isinstance(error, OperationFailure) and error.has_error_label("RetryableWriteError")


def _told(error: Exception) -> str:
    """First line of what went wrong; of a bulk write the first document that failed."""
    details = getattr(error, "details", None) or {}
    if failed := details.get("writeErrors"):
        first = failed[0]
        return f"{first.get('errmsg')} (operation {first.get('index')}, {len(failed)} failed)"
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
