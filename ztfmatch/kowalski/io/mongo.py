"""MongoDB: connect without leaking a secret, and retry what failed because of the service.

pymongo is imported only here, and only when a connection is opened.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from ztfmatch.core.errors import BadInputError, ConfigError, StorageError, first_line

URI_VARIABLE: Final = "ZTFMATCH_MONGO_URI"
DATABASE: Final = "kowalski"
"""Where the URI names none."""

_PASSING: Final = frozenset({6, 7, 89, 262, 9001})
"""Codes of a server that did not reach another, which MongoDB's drivers take for passing too."""

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
    greet_timeout_s: float = 5.0
    """Longest wait for the first answer of any server: a wrong address is not worth a retry."""

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


def _say_nothing(text: str) -> None:
    """Tell nobody."""


@dataclass
class Database:
    """A database of a MongoDB service."""

    handle: Any
    """pymongo's."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    sleep: Callable[[float], None] = time.sleep
    tell: Callable[[str], None] = _say_nothing
    """Called with a line when a request failed and is to be repeated."""
    retries: int = 0
    """How often a request was repeated."""

    def greet(self) -> None:
        """Make sure that a service is there and lets us in.

        Raises
        ------
        StorageError
            If no server answers.
        BadInputError
            If the service refuses us.
        """
        import pymongo
        from pymongo.errors import ConnectionFailure, PyMongoError

        limit = self.retry.greet_timeout_s
        try:
            with pymongo.timeout(limit):
                self.handle.command("ping", read_preference=pymongo.ReadPreference.NEAREST)
        except ConnectionFailure as error:
            raise StorageError(
                f"no MongoDB answers within {limit:g} s ({self._unreached() or _told(error)}): check the URI's address "
                "and port, tls=true in it if the service wants TLS, and that the service runs; "
                "serverSelectionTimeoutMS in the URI sets another limit"
            ) from error
        except PyMongoError as error:
            raise BadInputError(f"MongoDB refuses the connection: {_told(error)}") from error

    def _unreached(self) -> str:
        """What the driver met at each server, in short."""
        servers = self.handle.client.topology_description.server_descriptions()
        met = {address: server.error for address, server in servers.items() if server.error is not None}
        return "; ".join(
            f"{host}:{port}: {_told(error).removeprefix(f'{host}:{port}: ')}" for (host, port), error in met.items()
        )

    def attempt(self, what: str, request: Callable[[], Result]) -> Result:
        """Result of a request that may be made more than once.

        Raises
        ------
        StorageError
            If the service failed it too often.
        BadInputError
            If the service refuses the request.
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
                wait_s = self.retry.wait_s(failures)
                again = f"try {failures + 1} of {self.retry.tries} in {wait_s:g} s"
                self.tell(f"{what}: MongoDB failed: {_told(error)}; {again}")
                self.retries += 1
                self.sleep(wait_s)
        raise AssertionError("unreachable")

    def write(self, what: str, collection: str, operations: Sequence[Any]) -> Any:
        """Write some operations, all of which may be done again, in their order.

        Raises
        ------
        BadInputError
            If MongoDB has no type for a value, or a document is too large for it.
        """
        from bson.errors import BSONError

        try:
            return self.attempt(what, lambda: self.handle[collection].bulk_write(list(operations), ordered=True))
        except (BSONError, OverflowError) as error:
            raise BadInputError(f"{what}: MongoDB cannot hold it: {_told(error)}") from error

    def close(self) -> None:
        """End the connection."""
        self.handle.client.close()

    def make_index(self, collection: str, keys: Index) -> None:
        """Make an index unless one has the same keys, whatever its name: MongoDB refuses them under a second one."""
        there = self.attempt(f"indexes of {collection}", self.handle[collection].index_information)
        if list(keys) not in (list(index["key"]) for index in there.values()):
            self.attempt(f"index of {collection}", lambda: self.handle[collection].create_index(list(keys)))


def connect(uri: str, retry: RetryConfig | None = None) -> Database:
    """Open the database that a URI names; the service is contacted only when it has something to do.

    Raises
    ------
    ConfigError
        If pymongo is not installed, or the URI cannot be used.
    """
    retry = retry or RetryConfig()
    own_limit = "serverselectiontimeoutms=" in uri.lower()
    limits = {} if own_limit else {"serverSelectionTimeoutMS": int(retry.select_timeout_s * 1000)}
    try:
        import pymongo
        from pymongo.errors import PyMongoError
    except ImportError:
        raise ConfigError("MongoDB needs pymongo: pip install 'ztfmatch[kowalski]'") from None
    try:
        # what fails is repeated here, where a whole batch is written again
        client: Any = pymongo.MongoClient(uri, retryWrites=False, **limits)
    except (PyMongoError, ValueError) as error:
        raise ConfigError(f"the MongoDB URI cannot be used: {type(error).__name__}") from None
    if own_limit:
        retry = replace(retry, greet_timeout_s=client.options.server_selection_timeout)
    return Database(client.get_default_database(DATABASE), retry)


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure

    if isinstance(error, ConnectionFailure):
        return True
    if isinstance(error, BulkWriteError):
        return not error.details.get("writeErrors") and bool(error.details.get("writeConcernErrors"))
    return isinstance(error, OperationFailure) and (
        error.code in _PASSING or error.has_error_label("RetryableWriteError")
    )


def _told(error: Exception) -> str:
    """First line of what went wrong; of a bulk write the first document that failed."""
    details = getattr(error, "details", None) or {}
    if failed := details.get("writeErrors"):
        first = failed[0]
        return f"{first.get('errmsg')} (operation {first.get('index')}, {len(failed)} failed)"
    return re.split(r", full error: | \(configured timeouts: |, Timeout: ", first_line(error))[0][:300]
