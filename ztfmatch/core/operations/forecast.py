"""Estimate the cost of an operation: its tasks, bytes, files, memory, and wall time by number of workers.

What is to be done is counted as the operation itself counts it, or from names and bounds alone where that would read
what is to be ingested; the constants of :mod:`ztfmatch.core.costs` make times of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core import costs
from ztfmatch.core.costs import Cost
from ztfmatch.core.display import Displayable
from ztfmatch.core.io import log
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.plain import Json

WORKERS: Final = (1, 8, 64, 512)
"""Numbers of workers for which the wall time is estimated by default."""
_COMMITS_LOOKED_AT: Final = 400
_WORK: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "init": ("objects", ("objects",)),
    "append": ("rows", ("detections", "orphans", "rejected")),
    "statistics": ("epochs", ("epochs",)),
    "rematch": ("exposures", ("exposures",)),
}
"""Of the operations whose commits count it: what the work is, and the counts that add up to it."""


@dataclass(frozen=True)
class JobForecast:
    """What the tasks of one kind will take."""

    job: str
    tasks: int
    cpu_s: float
    longest_s: float
    """Of a task."""
    bytes_read: int
    bytes_written: int
    files: int
    """Written."""
    memory_bytes: int
    """Peak of a worker."""

    @classmethod
    def of(
        cls, job: str, seconds: Sequence[float] | npt.NDArray[Any], io: tuple[float, float, float], memory_bytes: float
    ) -> JobForecast:
        """Of the seconds of each task, and what all read, write, and make of files."""
        each = np.asarray(seconds, np.float64)
        read, written, files = (round(value) for value in io)
        longest = float(each.max(initial=0.0))
        return cls(
            job=job,
            tasks=len(each),
            cpu_s=float(each.sum()),
            longest_s=longest,
            bytes_read=read,
            bytes_written=written,
            files=files,
            memory_bytes=round(memory_bytes),
        )

    @property
    def longest_over_mean(self) -> float:
        """How uneven its tasks are; 1 if all take as long."""
        return self.longest_s * self.tasks / self.cpu_s if self.cpu_s else 1.0

    def wall_s(self, workers: int) -> float:
        """Seconds with so many workers: of their time, of the longest task, or of the process that sends the tasks."""
        return max(self.cpu_s / workers, self.longest_s, self.tasks * costs.SENT_TASK.seconds)


@dataclass(frozen=True)
class WallTime:
    """How long it will take."""

    workers: int
    seconds: float
    dominated_by: str
    """Job, or ``main process``, that takes most of it."""


@dataclass(frozen=True)
class OwnHistory:
    """How fast the same operation was on this store before, with whatever workers it had."""

    snapshots: int
    work: str
    """What is counted."""
    amount: int
    seconds: float
    """Of wall time."""

    @property
    def rate(self) -> float:
        """Work for each second of wall time."""
        return self.amount / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Forecast(Displayable):
    """What an operation will take."""

    operation: str
    store: str
    what: str
    """To be done, in a few words."""
    amount: float
    """Of it: seeds, rows, epochs, orphans, or exposures of a rematch."""
    commits: int
    tasks: int
    bytes_read: int
    bytes_written: int
    files: int
    memory_bytes: int
    """Peak of a worker."""
    main_memory_bytes: int
    main_s: float
    """Seconds of the main process, while no worker works."""
    core_hours: float
    wall: list[WallTime]
    jobs: list[JobForecast]
    history: OwnHistory | None
    history_s: float | None
    """Wall time at the rate of the store's history."""
    assumed: list[str]
    """What is not known before."""
    costs: list[Cost]


@dataclass
class Draft:
    """A forecast in the making."""

    operation: str
    what: str
    amount: float
    """Of the work that commits count (_WORK)."""
    jobs: list[JobForecast]
    main_s: float = 0.0
    """Of planning, beside what each command and file takes."""
    main_bytes: float = 0.0
    """Beside what the main process has in any case."""
    main_written: float = 0.0
    """Bytes that it writes itself, a file each commit, as of the ledger."""
    commits: int = 1
    assumed: list[str] | None = None
    used: tuple[Cost, ...] = ()

    def finished(self, storage: Storage, workers: Sequence[int]) -> Forecast:
        """Add up."""
        jobs = [job for job in self.jobs if job.tasks]
        files = sum(job.files for job in jobs) + (self.commits if jobs and self.main_written else 0)
        main_s = costs.STARTED.seconds + self.main_s + files * costs.COMMITTED_FILE.seconds
        history = own_history(storage, self.operation)
        return Forecast(
            operation=self.operation,
            store=storage.root,
            what=self.what,
            amount=self.amount,
            commits=self.commits if jobs else 0,
            tasks=sum(job.tasks for job in jobs),
            bytes_read=sum(job.bytes_read for job in jobs),
            bytes_written=sum(job.bytes_written for job in jobs) + round(self.main_written if jobs else 0.0),
            files=files,
            memory_bytes=max((job.memory_bytes for job in jobs), default=0),
            main_memory_bytes=round(costs.MAIN_BYTES + self.main_bytes),
            main_s=main_s,
            core_hours=(main_s + sum(job.cpu_s for job in jobs)) / 3600.0,
            wall=[_wall(jobs, main_s, number) for number in workers],
            jobs=jobs,
            history=history,
            history_s=self.amount / history.rate if history is not None and history.rate else None,
            assumed=self.assumed or [],
            costs=[*self.used, costs.STARTED, costs.SENT_TASK, costs.COMMITTED_FILE],
        )


def _wall(jobs: Sequence[JobForecast], main_s: float, workers: int) -> WallTime:
    parts = {"main process": main_s} | {job.job: job.wall_s(workers) for job in jobs}
    return WallTime(workers, sum(parts.values()), max(parts, key=lambda name: parts[name]))


def own_history(storage: Storage, operation: str) -> OwnHistory | None:
    """What the commits of an operation on a store tell; None if there is none that counts its work."""
    if operation not in _WORK or not storage.exists():
        return None
    work, names = _WORK[operation]
    entries = [entry for entry in _commits(storage) if entry.operation == operation]
    amounts = [sum(entry.counts.get(name, 0) for name in names) for entry in entries]
    if not sum(amounts):
        return None
    return OwnHistory(len(entries), work, sum(amounts), sum(entry.duration_s for entry in entries))


def _commits(storage: Storage) -> Iterable[log.Commit]:
    return (log.read_commit(storage, number) for number in log.commit_numbers(storage)[-_COMMITS_LOOKED_AT:])


def as_machine(forecast: Forecast) -> Json:
    """Plain values, with what follows from them."""
    import dataclasses

    plain = dataclasses.asdict(forecast)
    for job, row in zip(forecast.jobs, plain["jobs"], strict=True):
        row["longest_over_mean"] = job.longest_over_mean
    return plain
