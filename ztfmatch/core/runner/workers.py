"""The workers of a Dask client: whether they are there, and agree with the planning process.

Nobody waits silently, or for ever: who waits says for what, and gives up after a limit.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ztfmatch.core.config import WORKER_WAIT_S
from ztfmatch.core.display import duration_text
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.io import paths
from ztfmatch.core.io.storage import Storage, is_url, writes_are_forced
from ztfmatch.core.tasks.agreement import Agreement, Sight, versions
from ztfmatch.core.tasks.staging import Task

logger = logging.getLogger("ztfmatch")

_ASK_AGAIN_S: Final = 1.0
_ANSWER_S: Final = 10.0
"""Longest wait for an answer of the scheduler."""
_FIRST_WORD_S: Final = 10.0
_NEXT_WORD_S: Final = 60.0
_POLL_S: Final = 0.1


def nothing_known() -> str:
    """Of workers that someone else starts nothing is known."""
    return ""


def no_trouble() -> Exception | None:
    """Nothing is known to hinder them."""
    return None


def no_demand(tasks: int) -> None:
    """Their number does not follow the work."""


@dataclass
class Workers:
    """Workers of a client."""

    client: Any
    place: str = "the Dask scheduler"
    """Where they are, for people."""
    wait_s: float = WORKER_WAIT_S
    """Longest time without any."""
    elsewhere: bool = True
    """Whether they may be of another installation, or on machines that see other files."""
    forced: bool = True
    """Whether those on other machines force what they write to disk."""
    news: Callable[[], str] = nothing_known
    """What is known of those that are to come."""
    trouble: Callable[[], Exception | None] = no_trouble
    """The error to raise where none will come."""
    want: Callable[[int], None] = no_demand
    """Told how many tasks are left."""
    on_demand: bool = False
    """Whether none comes before there are tasks."""
    _threads: int = 0
    _answers: bool = True
    _asked: float = -math.inf
    _without_since: float | None = None
    _word_at: float = 0.0
    _known: set[str] = field(default_factory=set)

    def threads(self) -> int:
        """Threads of all workers, as of a second ago or less."""
        now = time.monotonic()
        if now - self._asked >= min(_ASK_AGAIN_S, self.wait_s / 10.0):
            patience = min(_ANSWER_S, self.wait_s)
            try:
                threads = self.client.sync(self.client.scheduler.ncores, callback_timeout=patience)
                self._threads, self._answers = sum(threads.values()), True
            except TimeoutError:
                self._threads, self._answers = 0, False
            self._asked = time.monotonic()
        return self._threads

    def check(self) -> bool:
        """Whether there are workers; who waits for them calls this again and again.

        Raises
        ------
        ServiceError
            If there was none for too long.
        """
        if (trouble := self.trouble()) is not None:
            raise trouble
        here, now = self.threads() > 0, time.monotonic()
        if here:
            self._without_since = None
            return True
        if self._without_since is None:
            self._without_since, self._word_at = now, min(_FIRST_WORD_S, self.wait_s / 3.0)
        waited = now - self._without_since
        if waited >= self.wait_s:
            raise ServiceError(f"{self._state()}: gave up after {duration_text(self.wait_s)} (--wait)")
        if waited >= self._word_at:
            left = duration_text(self.wait_s - waited)
            logger.warning("%s; waiting for them since %s, for %s more", self._state(), duration_text(waited), left)
            self._word_at = waited + _NEXT_WORD_S
        return False

    def await_first(self) -> None:
        """Wait until there is a worker, unless they come with the tasks.

        Raises
        ------
        ServiceError
            If none comes for too long, or the scheduler is lost.
        """
        while not self.on_demand and not self._checked():
            time.sleep(_POLL_S)

    def _checked(self) -> bool:
        try:
            return self.check()
        except ServiceError:
            raise
        except OSError as error:
            raise ServiceError(f"{self.place} is lost: {error}") from error

    def _state(self) -> str:
        if not self._answers:
            return f"{self.place} does not answer"
        return ": ".join(filter(None, (f"{self.place} has no workers", self.news())))

    def agree(self, agreement: Agreement) -> None:
        """Ask every worker whether it agrees, before any task.

        Raises
        ------
        ConfigError
            If one does not; the message names it.
        """
        self._check_scheduler()
        for address, answer in self.client.run(agreement.fault, on_error="return").items():
            if isinstance(answer, OSError):
                continue  # it is gone; each task asks again
            if isinstance(answer, Exception):
                ours = versions()["ztfmatch"]
                raise ConfigError(
                    f"worker {address} of {self.place} has no ztfmatch {ours} ({answer}): install it everywhere"
                )
            if answer:
                raise ConfigError(f"worker {address} of {self.place}: {answer}")

    def _check_scheduler(self) -> None:
        """The scheduler needs no ztfmatch; if it has one, it is to be the same."""
        try:
            fault = self.client.run_on_scheduler(Agreement.here().fault)
        except Exception:  # noqa: BLE001  (whatever an installation without ztfmatch, or a closed scheduler, says)
            return
        if fault:
            raise ConfigError(f"{self.place}: {fault}")


@contextlib.contextmanager
def agreed(
    workers: Workers, storage: Storage | None, operation_id: str, tasks: Sequence[Task], reads: Sequence[str]
) -> Iterator[Agreement]:
    """What workers have to agree in while they do some tasks; those that are there were asked.

    They must see the stores of the tasks, what the planner writes to where results are staged, and a file of each kind
    that they will read.

    Raises
    ------
    ConfigError
        If a worker does not agree.
    """
    if not workers.elsewhere:
        yield Agreement.here(forced=writes_are_forced())
        return
    with _token(storage, operation_id) as token:
        agreement = Agreement.here([Sight.of(path) for path in (*seen_by_all(tasks, reads), *token)], workers.forced)
        workers.agree(agreement)
        yield agreement


def seen_by_all(tasks: Sequence[Task], reads: Sequence[str]) -> list[str]:
    """Local files that whoever does some tasks must see: the record of their store, and what they read beside it."""
    seen = [path for path in reads if not is_url(path)]
    of = getattr(tasks[0], "snapshot", tasks[0])
    store = getattr(of if hasattr(of, "storage") else tasks[0], "storage", None)
    if store is not None and store.local_root is not None and (store.local_root / paths.STORE_FILE).is_file():
        seen.append(str(store.local_root / paths.STORE_FILE))
    return seen


@contextlib.contextmanager
def _token(storage: Storage | None, operation_id: str) -> Iterator[list[str]]:
    """A small file in a directory that workers are to write to, which no other directory has."""
    if storage is None or storage.local_root is None:
        yield []
        return
    name = uuid.uuid4().hex
    path = paths.staged_result(operation_id, f"seen-{name}")
    storage.put(path, name.encode())
    try:
        yield [str(storage.local_root / path)]
    finally:
        with contextlib.suppress(OSError):
            storage.delete([path])
