"""All errors that ztfmatch raises on purpose: one base class, each also a fitting built-in exception.

A message states the value, what was expected, and what to do about it.
"""

from collections.abc import Sequence
from typing import Any

from ztfmatch.core.plain import Json


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class ZtfmatchError(Exception):
    """Base of all errors raised on purpose; the command line prints it as one line."""


class CatalogError(ZtfmatchError, ValueError):
    """A catalog file that cannot be used: truncated, not FITS, wrong layout, contradictory ...

    Parameters
    ----------
    code : str
        Short stable reason, as written to the quarantine (``truncated``, ``not-fits`` ...).
    message : str
        What was found, what was expected.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class BadInputError(ZtfmatchError, ValueError):
    """Input files none of which can be used, or one, where that was asked to stop the work (``--strict``).

    Parameters
    ----------
    message : str
    refused : sequence of Refused
        Those that cannot be used; nothing of them is committed.
    """

    def __init__(self, message: str, refused: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.refused = list(refused)


class MetadataError(ZtfmatchError, ValueError):
    """An auxiliary table (exposures, error model, thresholds) that cannot be used."""


class CorrectionsError(ZtfmatchError, ValueError):
    """Photometric corrections that cannot be used: damaged, or not a set of them."""


class ConfigError(ZtfmatchError, ValueError):
    """A setting outside its range, or settings that contradict each other."""


class ScopeError(ConfigError):
    """A release scope that cannot be, or that holds nothing."""


class OutputExistsError(ZtfmatchError, FileExistsError):
    """Something is already where a product is to be made."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "output exists"


class StoreNotFoundError(ZtfmatchError, FileNotFoundError):
    """No store at this place."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "no store"


class StoreExistsError(ZtfmatchError, FileExistsError):
    """A store is there already, made with other arguments."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "store exists"


class StoreFormatError(ZtfmatchError, ValueError):
    """Not a store, or a store of a format that this version cannot read."""


class SnapshotNotFoundError(ZtfmatchError, LookupError):
    """No snapshot of this number, or none any more."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "no such snapshot"


class StoreDamagedError(ZtfmatchError, OSError):
    """A file that the snapshot names is missing, truncated or altered."""


class CommitConflictError(ZtfmatchError, RuntimeError):
    """Another writer committed first."""


class StorageError(ZtfmatchError, OSError):
    """The storage refused or lost a request."""


class ServiceError(ZtfmatchError, ConnectionError):
    """A service (a scheduler, its workers, a batch system) did not answer, or for too long."""


class BucketNotFoundError(ConfigError):
    """No bucket (container) of this name."""


class MemoryBudgetError(ZtfmatchError, MemoryError):
    """A task's projected memory is above the budget."""


class WorkDividedError(ZtfmatchError):
    """No failure: an operation ends here since others go on, or did already.

    Parameters
    ----------
    message : str
    facts : dict
        The same for machines.
    """

    def __init__(self, message: str, facts: Json) -> None:
        super().__init__(message)
        self.facts = facts


class JobFailedError(ZtfmatchError, RuntimeError):
    """Tasks failed after their retries; nothing was committed."""
