"""Fingerprint of the environment in which planner and workers must agree, on whatever machines they run.

A worker of another version would compute what is committed as the work of this one; one that does not see the store
would take it for damaged, and one that sees another file system under the same path would write where nobody reads.
Each worker is checked before the first task, and each task checks again: workers may join later.
"""

from __future__ import annotations

import hashlib
import pickle
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Generic

import ztfmatch
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io import corrections, storefile
from ztfmatch.core.io.storage import Storage, forced_writes
from ztfmatch.core.tasks.ownprocess import make_own
from ztfmatch.core.tasks.staging import Function, Outcome, Result, Task, attempt

Versions = dict[str, str | int]

CALL_S: Final = 0.25
"""How long a worker begins one task of a call after the other: a call costs the main process 2 to 4 ms."""

_BEGINNING_BYTES: Final = 4096


def versions() -> Versions:
    """Versions of this process: of the program, and of what it writes."""
    return {
        "ztfmatch": ztfmatch.__version__,
        "store format": storefile.FORMAT_VERSION,
        "corrections format": corrections.FORMAT_VERSION,
    }


def differences(mine: Versions, theirs: Versions) -> str:
    """What differs, for people; empty where nothing does."""
    names = sorted(mine.keys() | theirs.keys())
    return ", ".join(f"{n} {theirs.get(n)} instead of {mine.get(n)}" for n in names if theirs.get(n) != mine.get(n))


@dataclass(frozen=True)
class Sight:
    """A file, and how it begins, for the process that plans."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> Sight:
        """What this process sees."""
        return cls(str(path), _digest(path))

    def fault(self) -> str:
        """What is wrong with it where this is called; empty if it is the same."""
        try:
            return "" if _digest(self.path) == self.sha256 else f"{self.path} is another file"
        except OSError as error:
            return f"{self.path} cannot be read ({error.strerror or error})"


def _digest(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.sha256(file.read(_BEGINNING_BYTES), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Agreement:
    """What a worker must agree in with the process that planned a job."""

    versions: tuple[tuple[str, Any], ...]
    sights: tuple[Sight, ...] = ()
    forced: bool = False
    """Whether the worker forces what it writes to disk, as the planner cannot do that for another machine."""

    @classmethod
    def here(cls, sights: Sequence[Sight] = (), forced: bool = False) -> Agreement:
        """As this process has it."""
        return cls(tuple(versions().items()), tuple(sights), forced)

    def fault(self) -> str:
        """In what the process where this is called does not agree; empty if in nothing."""
        if differing := differences(dict(self.versions), versions()):
            return f"{socket.gethostname()} has {differing}: install the same version everywhere"
        faults = [fault for sight in self.sights if (fault := sight.fault())]
        if not faults:
            return ""
        return (
            f"on {socket.gethostname()} {faults[0]}: workers need stores, products and catalogs on a file system that "
            "all machines share under the same path, or in an object store"
        )


@lru_cache(maxsize=64)
def _require(agreement: Agreement) -> None:
    """Asked once a process and job, if the answer is good."""
    if fault := agreement.fault():
        raise ConfigError(fault)


@dataclass(frozen=True)
class Call(Generic[Result]):
    """Tasks of a job that a worker does one after the other, as long as they are short."""

    agreement: Agreement
    function: Function[Result]
    tasks: list[Task]
    storage: Storage | None
    operation_id: str

    def run(self) -> list[Outcome[Result]]:
        """What came of the first tasks: of as many as were begun within CALL_S; others may have a worker for the rest.

        Raises
        ------
        ConfigError
            If the worker does not agree; nothing is computed.
        """
        _require(self.agreement)
        make_own()
        done: list[Outcome[Result]] = []
        started = time.monotonic()
        with forced_writes(self.agreement.forced):
            for task in self.tasks:
                if done and time.monotonic() - started > CALL_S:
                    break
                done.append(_portable(attempt(self.function, task, self.storage, self.operation_id)))
        return done


def _portable(outcome: Outcome[Result]) -> Outcome[Result]:
    """With an error that can be sent, whatever the task raised."""
    try:
        pickle.loads(pickle.dumps(outcome.error))  # noqa: S301  (its own)
    except Exception:  # noqa: BLE001  (an exception of any class may fail in any way)
        error = RuntimeError(f"{type(outcome.error).__name__}: {outcome.error}")
        return replace(outcome, error=error)
    return outcome
