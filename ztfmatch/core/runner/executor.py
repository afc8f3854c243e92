"""Run tasks on a Dask client.

Dask carries tasks and small results, never tables. A bounded number of tasks is in flight, so the scheduler holds a
few hundred whatever the job's size.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ztfmatch.core.errors import JobFailedError
from ztfmatch.core.runner.jobs import Job, Outcome, after
from ztfmatch.core.runner.workers import Workers, agreed
from ztfmatch.core.tasks.agreement import Agreement, run_agreed
from ztfmatch.core.tasks.staging import Result, Task

_TASKS_IN_FLIGHT_PER_WORKER: Final = 3
_LOOK_S: Final = 0.1
"""How often it is looked after the workers while no task ends; the end of one wakes at once."""


@dataclass(frozen=True)
class DaskExecutor:
    """A Dask client; its cluster is someone else's to start and stop.

    Parameters
    ----------
    client : distributed.Client
    retries : int
    workers : Workers, optional
        Those of the client; by default whatever there is, for as long as it takes.
    """

    client: Any
    retries: int = 0
    workers: Workers | None = None

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
        try:
            with agreed(workers, job.storage, job.operation_id, job.tasks, job.reads) as agreement:
                yield from self._outcomes(job, workers, agreement)
        except (CancelledError, CommClosedError, TimeoutError) as error:
            address = self.client.scheduler.address if self.client.scheduler else "its address"
            raise JobFailedError(f"{job.title}: the Dask scheduler at {address} is lost{after(job)}") from error

    def _outcomes(self, job: Job[Result], workers: Workers, agreement: Agreement) -> Iterator[Outcome[Result]]:
        from distributed import as_completed

        waiting, run = iter(job.tasks), uuid.uuid4().hex[:12]
        running: dict[str, str] = {}
        stream = as_completed()

        def submit(number: int) -> None:
            for task in itertools.islice(waiting, max(0, number)):
                future = self._submit(job, task, agreement, run)
                running[future.key] = task.key
                stream.add(future)

        submit(_window(workers))
        while running:
            future = _next(stream, workers)
            key = running.pop(future.key)
            error = future.exception() if future.status == "error" else None
            yield Outcome(key, None if error else future.result(), error)
            future.release()
            submit(_window(workers) - len(running))

    def _submit(self, job: Job[Any], task: Task, agreement: Agreement, run: str) -> Any:
        """Future of a task, under a key that no other job on the scheduler has, of this command or of another."""
        return self.client.submit(
            run_agreed,
            agreement,
            job.function,
            task,
            job.storage,
            job.operation_id,
            key=f"{job.function.__name__}-{run}-{task.key}",
            pure=False,
            retries=self.retries,
        )


def _window(workers: Workers) -> int:
    return max(workers.threads(), 1) * _TASKS_IN_FLIGHT_PER_WORKER


def _next(stream: Any, workers: Workers) -> Any:
    """The next finished future; meanwhile it is seen to that there are workers."""
    while not stream.has_ready():
        workers.check()
        with stream.thread_condition:
            if not stream.has_ready():
                stream.thread_condition.wait(_LOOK_S)
    return next(stream)
