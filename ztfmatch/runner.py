"""Run tasks: in a plain loop, on a local cluster, or on a Dask scheduler. The only module that imports Dask.

Dask carries tasks and small results, never tables. A bounded number of tasks is in flight, so the scheduler holds a
few hundred whatever the job's size. A task that fails is tried again; when it keeps failing the others are finished,
then the job stops with an error that names it. A lost worker's tasks run elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ztfmatch import prefork
from ztfmatch.clusters import LocalProfile, SlurmProfile, read_profile
from ztfmatch.config import Resources
from ztfmatch.errors import ConfigError, JobFailedError, MemoryBudgetError
from ztfmatch.io.client import environment
from ztfmatch.io.storage import Storage
from ztfmatch.tasks.quiet import is_news
from ztfmatch.tasks.staging import Function, Task, run_staged

Progress = Callable[[str, int, int], None]
"""Called with what is being done, tasks finished, and their number."""

_TASKS_IN_FLIGHT_PER_WORKER: Final = 3
_NAMED_FAILURES: Final = 5
_QUIET: Final = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "500ms",
}
"""Dask looks at itself fifty times a second by default; on a laptop the workers need the cores."""
_QUIET_WORKERS: Final = "ztfmatch.tasks.quiet"
_KEEP_JOBS_S: Final = 15.0


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Job:
    """Tasks of one kind.

    Parameters
    ----------
    title : str
        What is being done, for people.
    function : Function
    tasks : sequence of Task
        Keys must differ.
    operation_id : str
        Under which results are staged.
    storage : Storage or None
        Where; None stages nothing.
    """

    title: str
    function: Function
    tasks: Sequence[Task]
    operation_id: str
    storage: Storage | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of one task, or the error of its last try."""

    key: str
    result: dict[str, Any] | None
    error: BaseException | None = None


class Executor(Protocol):
    """How tasks are run; one interface for the loop and for Dask."""

    def outcomes(self, job: Job) -> Iterator[Outcome]:
        """Outcomes in any order."""
        ...


@dataclass(frozen=True)
class Runner:
    """Runs jobs on an executor and turns failures into one error."""

    executor: Executor
    memory_bytes: int
    progress: Progress = no_progress

    def run(self, job: Job) -> list[dict[str, Any]]:
        """Results in order of the job's tasks.

        Raises
        ------
        JobFailedError
            If any task failed after its retries; what the others did is staged, so a rerun resumes.
        """
        total, results, failures = len(job.tasks), {}, []
        self.progress(job.title, 0, total)
        for done, outcome in enumerate(self.executor.outcomes(job), 1):
            if outcome.error is not None:
                failures.append(outcome)
            else:
                results[outcome.key] = outcome.result
            self.progress(job.title, done, total)
        if failures:
            raise _job_error(job, failures) from failures[0].error
        return [results[task.key] or {} for task in job.tasks]

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


def _job_error(job: Job, failures: list[Outcome]) -> JobFailedError:
    named = "; ".join(f"{f.key}: {type(f.error).__name__}: {f.error}" for f in failures[:_NAMED_FAILURES])
    more = f"; and {len(failures) - _NAMED_FAILURES} more" if len(failures) > _NAMED_FAILURES else ""
    return JobFailedError(
        f"{job.title}: {len(failures)} of {len(job.tasks)} tasks failed after retries{_after(job)}. {named}{more}"
    )


def _after(job: Job) -> str:
    return "" if job.storage is None else ", nothing was committed; a rerun resumes"


@dataclass(frozen=True)
class LoopExecutor:
    """A plain loop in this process."""

    retries: int = 0

    def outcomes(self, job: Job) -> Iterator[Outcome]:
        """Outcomes in order of the tasks."""
        for task in job.tasks:
            yield self._try(job, task)

    def _try(self, job: Job, task: Task) -> Outcome:
        for attempt in range(self.retries + 1):
            try:
                return Outcome(task.key, run_staged(job.function, task, job.storage, job.operation_id))
            except Exception as error:  # noqa: BLE001  (collected, chained and raised by Runner.run)
                if attempt == self.retries:
                    return Outcome(task.key, None, error)
        raise AssertionError("unreachable")


@dataclass(frozen=True)
class DaskExecutor:
    """A Dask client; its cluster is someone else's to start and stop."""

    client: Any
    retries: int = 0

    def outcomes(self, job: Job) -> Iterator[Outcome]:
        """Outcomes as they come, with a bounded number of tasks submitted."""
        from concurrent.futures import CancelledError

        from distributed.comm import CommClosedError

        try:
            yield from self._outcomes(job)
        except (CancelledError, CommClosedError, TimeoutError) as error:
            address = self.client.scheduler.address if self.client.scheduler else "its address"
            raise JobFailedError(f"{job.title}: the Dask scheduler at {address} is lost{_after(job)}") from error

    def _outcomes(self, job: Job) -> Iterator[Outcome]:
        from distributed import as_completed

        waiting = iter(job.tasks)
        running: dict[str, str] = {}
        stream = as_completed()
        for task in itertools.islice(waiting, self._window()):
            self._submit(job, task, stream, running)
        for future in stream:
            key = running.pop(future.key)
            error = future.exception() if future.status == "error" else None
            yield Outcome(key, None if error else future.result(), error)
            future.release()
            for task in itertools.islice(waiting, max(0, self._window() - len(running))):
                self._submit(job, task, stream, running)

    def _window(self) -> int:
        threads: int = sum(self.client.nthreads().values())
        return max(threads, 1) * _TASKS_IN_FLIGHT_PER_WORKER

    def _submit(self, job: Job, task: Task, stream: Any, running: dict[str, str]) -> None:
        future = self.client.submit(
            run_staged,
            job.function,
            task,
            job.storage,
            job.operation_id,
            key=f"{job.function.__name__}-{job.operation_id[:12]}-{task.key}",
            pure=False,
            retries=self.retries,
        )
        running[future.key] = task.key
        stream.add(future)


@contextlib.contextmanager
def open_runner(resources: Resources, progress: Progress = no_progress) -> Iterator[Runner]:
    """Runner for the resources; a cluster that it started is stopped at the end.

    Raises
    ------
    ConfigError
        If the resources contradict each other or a scheduler cannot be reached.
    """
    resources.validate()
    with contextlib.ExitStack() as stack:
        executor = _executor(resources, stack)
        yield Runner(executor, resources.memory_bytes, progress)


def _executor(resources: Resources, stack: contextlib.ExitStack) -> Executor:
    if resources.scheduler is None and resources.cluster is None and resources.workers == 0:
        return LoopExecutor(resources.retries)
    if resources.scheduler is None and resources.cluster in (None, "local"):
        prefork.start()
    from distributed import Client

    logger = logging.getLogger("distributed.client")
    logger.addFilter(is_news)
    stack.callback(logger.removeFilter, is_news)
    if resources.scheduler is not None:
        try:
            client = stack.enter_context(Client(resources.scheduler, timeout="20s"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"no Dask scheduler answers at {resources.scheduler}: {error}") from error
    else:
        try:
            cluster = stack.enter_context(start_cluster(resources))
        except RuntimeError as error:
            raise ConfigError(f"cluster {resources.cluster or 'local'} does not start: {error}") from error
        client = stack.enter_context(Client(cluster))
    return DaskExecutor(client, resources.retries)


def start_cluster(resources: Resources) -> contextlib.AbstractContextManager[Any]:
    """Start the cluster that the resources name: a profile of this package or a file, ``local`` by default."""
    profile = read_profile(resources.cluster or "local")
    if isinstance(profile, SlurmProfile):
        return _slurm_cluster(profile, resources)
    return _local_cluster(profile, resources)


@contextlib.contextmanager
def _local_cluster(profile: LocalProfile, resources: Resources) -> Iterator[Any]:
    method = prefork.start()
    import dask
    from distributed import LocalCluster

    settings = {**_QUIET, "distributed.worker.multiprocessing-method": method}
    arguments = profile.arguments(resources.workers, resources.memory_bytes) | {"preload": [_QUIET_WORKERS]}
    env = environment()  # the process that workers are forks of may be older than what was set since
    with dask.config.set(settings), LocalCluster(**arguments, env=env) as cluster:
        yield cluster


@contextlib.contextmanager
def _slurm_cluster(profile: SlurmProfile, resources: Resources) -> Iterator[Any]:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ConfigError("--cluster slurm needs dask-jobqueue: pip install 'ztfmatch[slurm]'") from None
    if shutil.which("sbatch") is None:
        raise ConfigError("--cluster slurm submits its jobs with sbatch, which is not on this machine's PATH")
    stop = threading.Event()
    with SLURMCluster(**profile.arguments(resources.workers, resources.memory_bytes)) as cluster:
        keeper = JobKeeper(cluster, profile.jobs(resources.workers))
        keeper.check()
        thread = threading.Thread(target=keeper.run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield cluster
        finally:
            stop.set()
            thread.join()


@dataclass
class JobKeeper:
    """Keeps so many jobs of a cluster of dask-jobqueue, which itself never replaces one whose workers have left."""

    cluster: Any
    jobs: int
    _seen: set[str] = field(default_factory=set)
    _absent: set[str] = field(default_factory=set)

    def run(self, stop: threading.Event) -> None:
        """Check every while until stopped."""
        while not stop.wait(_KEEP_JOBS_S):
            self.check()

    def check(self) -> None:
        """Give up each job whose workers have all left, and submit what is missing."""
        self.cluster.sync(self._check)

    async def _check(self) -> None:
        here = {str(worker["name"]) for worker in self.cluster.scheduler_info["workers"].values()}
        members = {
            name: {f"{name}{suffix}" for suffix in spec.get("group", [""])}
            for name, spec in self.cluster.worker_spec.items()
        }
        alive = {name for name, workers in members.items() if workers & here}
        self._seen |= alive
        absent = {name for name in members if name in self._seen - alive}
        left = absent & self._absent  # twice: a worker that its nanny ended is soon back
        self._absent = absent - left
        self._seen -= left  # the new job may get its name
        if left:
            await self.cluster.scale_down(left)
        self.cluster.scale(jobs=self.jobs)
