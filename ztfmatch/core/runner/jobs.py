"""Jobs and how they run on any executor: results in order, failures collected into one error."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from ztfmatch.core.errors import JobFailedError, MemoryBudgetError
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.progress import Progress, no_progress
from ztfmatch.core.runner.heartbeat import Beat, beating
from ztfmatch.core.runner.outcomes import log_outcome, reasons
from ztfmatch.core.tasks.staging import Function, Outcome, Result, Task, attempt

Kept = TypeVar("Kept")

_FOR_GOOD: Final = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    errno.ELOOP,
}


@dataclass(frozen=True)
class Job(Generic[Result]):
    """Tasks of one kind."""

    title: str
    """What is being done, for people."""
    function: Function[Result]
    tasks: Sequence[Task]
    """Keys must differ."""
    operation_id: str
    """Under which results are staged."""
    storage: Storage | None = None
    """Where; None stages nothing."""
    reads: Sequence[str] = ()
    """Paths or URLs of files, beside the storage's, that every worker must see: of many of a kind one does."""
    preparing: bool = False
    """Whether its results decide what else is to be done: it is never divided into units of work."""
    ahead: Callable[[], Sequence[Job[Any]]] = tuple
    """Gives jobs that follow and need none of its results, so that units of work can be theirs, too."""


class Executor(Protocol):
    """How tasks are run; one interface for the loop and for Dask."""

    def outcomes(self, job: Job[Result]) -> Iterator[Outcome[Result]]:
        """Outcomes in any order."""
        ...


@dataclass(frozen=True)
class Runner:
    """Runs jobs on an executor and turns failures into one error."""

    executor: Executor
    memory_bytes: int
    progress: Progress = no_progress

    def run(self, job: Job[Result]) -> list[Result]:
        """Results in order of the job's tasks; raises as :meth:`run_and` does."""
        return self.run_and(lambda result: result, job)

    def run_and(self, take: Callable[[Result], Kept], job: Job[Result]) -> list[Kept]:
        """What is made of each result as it comes, in order of the job's tasks: of large ones less need be held.

        Raises
        ------
        JobFailedError
            If any task failed after its retries; what the others did is staged, so a rerun resumes.
        """
        total = len(job.tasks)
        results: dict[str, Kept] = {}
        failures: list[Outcome[Result]] = []
        self.progress(job.title, 0, total)
        beat = Beat(job.operation_id, job.title, total)
        with beating(beat, job.storage):
            for done, outcome in enumerate(self.executor.outcomes(job), 1):
                if outcome.error is not None:
                    failures.append(outcome)
                else:
                    results[outcome.key] = take(outcome.result)  # type: ignore[arg-type]  # there is one
                beat.done, beat.failed = done, len(failures)
                log_outcome(job.title, outcome)
                self.progress(job.title, done, total)
        if failures:
            raise _job_error(job, failures) from failures[0].error
        return [results[task.key] for task in job.tasks]

    def check_memory(self, projected: dict[str, int]) -> None:
        """Refuse a job before it starts if a task would need more than a worker's budget.

        Parameters
        ----------
        projected : dict
            Peak bytes by task key.

        Raises
        ------
        MemoryBudgetError
        """
        if not projected:
            return
        key, most = max(projected.items(), key=lambda item: item[1])
        if most > self.memory_bytes:
            raise MemoryBudgetError(
                f"task {key} would need {most / 2**20:.0f} MiB of memory; the budget of a worker is "
                f"{self.memory_bytes / 2**20:.0f} MiB: raise --memory"
            )


def _job_error(job: Job[Result], failures: list[Outcome[Result]]) -> JobFailedError:
    said = after(job, all(_is_for_good(f.error) for f in failures))
    return JobFailedError(
        f"{job.title}: {len(failures)} of {len(job.tasks)} tasks failed after retries{said}. {reasons(failures)}"
    )


def _is_for_good(error: BaseException | None) -> bool:
    """Whether a rerun must fail in the same way: a place that cannot be written to."""
    return isinstance(error, OSError) and (error.errno in _FOR_GOOD or _is_for_good(error.__cause__))


def after(job: Job[Any], for_good: bool = False) -> str:
    """What to tell of a job that failed: what became of its work, and whether to run it again as it is."""
    if job.storage is None:
        return ""
    return ", nothing was committed; " + ("mend that and run it again" if for_good else "a rerun resumes")


@dataclass(frozen=True)
class LoopExecutor:
    """A plain loop in this process."""

    retries: int = 0

    def outcomes(self, job: Job[Result]) -> Iterator[Outcome[Result]]:
        """Outcomes in order of the tasks."""
        for task in job.tasks:
            yield self._try(job, task)

    def _try(self, job: Job[Result], task: Task) -> Outcome[Result]:
        for _ in range(self.retries):
            outcome = attempt(job.function, task, job.storage, job.operation_id)
            if outcome.error is None:
                return outcome
        return attempt(job.function, task, job.storage, job.operation_id)
