"""Run tasks on a Dask client.

Dask carries tasks and small results, never tables. A bounded number of calls is in flight, so the scheduler holds a
few hundred whatever the job's size. A call costs the main process and the scheduler some milliseconds, whatever it
does, so short tasks go many a call; a long one goes alone, and none waits behind another for longer than CALL_S.
"""

from __future__ import annotations

import itertools
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic

from ztfmatch.core.errors import JobFailedError
from ztfmatch.core.runner.jobs import Job, after
from ztfmatch.core.runner.workers import Workers, agreed
from ztfmatch.core.tasks.agreement import CALL_S, Agreement, Call
from ztfmatch.core.tasks.staging import Outcome, Result, Task

_CALLS_IN_FLIGHT_PER_THREAD: Final = 3
_TASKS_PER_CALL: Final = 64
_LOOK_S: Final = 0.1
"""How often it is looked after the workers while no task ends; the end of one wakes at once."""


@dataclass(frozen=True)
class DaskExecutor:
    """A Dask client; its cluster is someone else's to start and stop."""

    client: Any
    retries: int = 0
    workers: Workers | None = None
    """Those of the client; by default whatever there is, for as long as it takes."""

    def outcomes(self, job: Job[Result]) -> Iterator[Outcome[Result]]:
        """Outcomes as they come, with a bounded number of tasks submitted.

        Raises
        ------
        ConfigError
            If a worker has another version of ztfmatch, or does not see the files of the job.
        JobFailedError
            If the scheduler is lost, or no worker is left and none came for too long.
        """
        from concurrent.futures import CancelledError

        from distributed.comm import CommClosedError

        if not job.tasks:
            return
        workers = self.workers or Workers(self.client)
        workers.want(len(job.tasks))
        try:
            with agreed(workers, job.storage, job.operation_id, job.tasks, job.reads) as agreement:
                for left, outcome in zip(
                    itertools.count(len(job.tasks) - 1, -1), self._outcomes(job, workers, agreement)
                ):
                    workers.want(left)
                    yield outcome
        except (CancelledError, CommClosedError, TimeoutError) as error:
            address = self.client.scheduler.address if self.client.scheduler else "its address"
            raise JobFailedError(f"{job.title}: the Dask scheduler at {address} is lost{after(job)}") from error
        finally:
            workers.want(0)

    def _outcomes(self, job: Job[Result], workers: Workers, agreement: Agreement) -> Iterator[Outcome[Result]]:
        from distributed import as_completed

        left = _Left(job, self.retries)
        calls, run = itertools.count(), uuid.uuid4().hex[:12]
        running: dict[str, list[Task]] = {}
        stream = as_completed(loop=self.client.loop)

        def submit() -> None:
            window = max(workers.threads(), 1) * _CALLS_IN_FLIGHT_PER_THREAD
            given: dict[str, list[Task]] = {}
            while len(running) + len(given) < window and (tasks := left.take(window)):
                given[f"{job.function.__name__}-{run}-{next(calls)}-{tasks[0].key}"] = tasks
            if given:
                stream.update(self._submit(job, agreement, given))
                running.update(given)

        submit()
        while running:
            for key, answer in self._answers(stream, workers):
                yield from left.settle(running.pop(key), answer)
            submit()

    def _submit(self, job: Job[Any], agreement: Agreement, given: dict[str, list[Task]]) -> list[Any]:
        """Futures of calls, under keys that no other job on the scheduler has, of this command or of another."""
        calls = [Call(agreement, job.function, tasks, job.storage, job.operation_id) for tasks in given.values()]
        futures: list[Any] = self.client.map(Call.run, calls, key=list(given), pure=False)
        return futures

    def _answers(self, stream: Any, workers: Workers) -> list[tuple[str, Any]]:
        """Of all calls that have ended: the key, and what came of its tasks or the error of the call itself."""
        ended = _ended(stream, workers)
        failed = [(future.key, future.exception()) for future in ended if future.status == "error"]
        whole = [future for future in ended if future.status != "error"]
        answers = zip((future.key for future in whole), self.client.gather(whole), strict=True)
        for future in ended:
            future.release()
        return [*failed, *answers]


class _Left(Generic[Result]):
    """Tasks of a job that wait for a call: new ones, and those to be tried again, each alone."""

    def __init__(self, job: Job[Result], retries: int) -> None:
        self._waiting = deque(job.tasks)
        self._again: deque[Task] = deque()
        self._tries: dict[str, int] = {}
        self._retries = retries
        self._seconds: float | None = None
        """Of a task, by the calls that ended last."""

    def take(self, window: int) -> list[Task]:
        """Tasks of the next call where so many are in flight; none if none are left."""
        if self._again:
            return [self._again.popleft()]
        short = 1 if self._seconds is None else CALL_S / max(self._seconds, CALL_S / _TASKS_PER_CALL)
        number = max(1, min(int(short), len(self._waiting) // window))
        return [self._waiting.popleft() for _ in range(min(number, len(self._waiting)))]

    def settle(self, tasks: list[Task], answer: list[Outcome[Result]] | BaseException) -> Iterator[Outcome[Result]]:
        """Outcomes of the tasks of a call; those that it did not come to, or failed, wait again."""
        if isinstance(answer, BaseException):
            if len(tasks) == 1:
                yield Outcome(tasks[0].key, None, answer)
            else:
                self._again.extend(tasks)  # one of them killed its worker: alone it will be known which
            return
        seconds = sum(outcome.seconds for outcome in answer) / len(answer)
        self._seconds = seconds if self._seconds is None else (self._seconds + seconds) / 2.0
        self._waiting.extendleft(reversed(tasks[len(answer) :]))
        for task, outcome in zip(tasks, answer, strict=False):
            if outcome.error is not None and self._tries.get(task.key, 0) < self._retries:
                self._tries[task.key] = self._tries.get(task.key, 0) + 1
                self._again.append(task)
            else:
                yield outcome


def _ended(stream: Any, workers: Workers) -> list[Any]:
    """The futures that have ended, one or more; meanwhile it is seen to that there are workers."""
    while not stream.has_ready():
        workers.check()
        with stream.thread_condition:
            if not stream.has_ready():
                stream.thread_condition.wait(_LOOK_S)
    ended: list[Any] = stream.next_batch(block=False)
    return ended
