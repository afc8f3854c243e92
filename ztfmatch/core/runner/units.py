"""Units of work in a directory: an operation is planned, run in parts anywhere and at any time, and finished.

An operation runs up to its first job that decides nothing about other jobs; the tasks of that job, and of those that
can follow it at once, are written as units, numbered from 0. Each unit stages its result as a task of any runner does.
Then the operation runs again and takes what is staged; what little follows is done there. What the first run found
out and others may change meanwhile is noted (:mod:`ztfmatch.core.io.noted`).

No process waits for another, so nothing has to live as long as the work takes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import msgspec

from ztfmatch.core.errors import ConfigError, JobFailedError, StoreDamagedError, WorkDividedError
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.noted import notes, noting
from ztfmatch.core.io.records import decode, encode, short_digest
from ztfmatch.core.io.snapshot import check_noted_snapshots, newest_name
from ztfmatch.core.io.storage import Storage, forced_writes
from ztfmatch.core.plain import Json
from ztfmatch.core.runner.jobs import Executor, Job, Runner
from ztfmatch.core.runner.workers import seen_by_all
from ztfmatch.core.tasks.agreement import Agreement, Sight, Versions
from ztfmatch.core.tasks.serialization import decode_task, encode_task, function_of, name_of, shared_fields
from ztfmatch.core.tasks.staging import Outcome, Result, keep, read_kept

_PER_FILE: Final = 1000
_NOTES: Final = paths.units_file("notes")


@dataclass(frozen=True)
class _PlannedJob:
    """A job whose tasks are units."""

    title: str
    function: str
    operation_id: str
    storage: str
    first: int
    """Number of its first unit."""
    units: int
    shared: str
    """Path of the fields that all its tasks have in common."""
    keys: str
    """Path of the keys of its tasks."""


@dataclass(frozen=True)
class _Plan:
    versions: Versions
    sights: list[Sight]
    jobs: list[_PlannedJob]
    kept: list[dict[str, str]]
    """Path and checksum of every other file of the plan."""

    @property
    def units(self) -> int:
        return sum(job.units for job in self.jobs)


@dataclass(frozen=True)
class WorkReport:
    """What was done of some work."""

    directory: str
    units: int
    """That were asked for."""
    of: int


@dataclass(frozen=True)
class Units:
    """A directory, or prefix of an object store, with the units of work of one operation."""

    storage: Storage

    @classmethod
    def at(cls, place: str) -> Units:
        """Those at a place; nothing is created."""
        return cls(Storage.at(place))

    @functools.cached_property
    def _plan(self) -> _Plan | None:
        try:
            return decode(self.storage.read(paths.PLAN_FILE), _Plan)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreDamagedError(f"{self.storage.root}/{paths.PLAN_FILE} is damaged: {error}") from None

    @property
    def plan(self) -> _Plan:
        """What was planned.

        Raises
        ------
        ConfigError
            If nothing was.
        """
        if self._plan is None:
            raise ConfigError(f"{self.storage.root} holds no units of work: a command with --units writes them")
        return self._plan

    @property
    def is_planned(self) -> bool:
        """Whether there is a plan."""
        return self._plan is not None

    def notes(self) -> Json:
        """What was found out as it was planned; nothing before."""
        if self._plan is None:
            return {}
        found: Json = msgspec.msgpack.decode(self._read(_NOTES))
        return found

    def write(self, jobs: Sequence[Job[Any]]) -> None:
        """Write the tasks of some jobs as units, and last of all the plan."""
        kept: list[dict[str, str]] = []
        planned: list[_PlannedJob] = []
        first = 0
        for number, job in enumerate(jobs):
            planned.append(self._write_job(number, first, job, kept))
            first += len(job.tasks)
        own = (_own_fields(job) for job in jobs)
        for name, chunk in zip(itertools.count(), _chunks(itertools.chain.from_iterable(own)), strict=False):
            kept.append(self._keep(f"{name * _PER_FILE:08d}", chunk))
        kept.append(self._keep("notes", notes() or {}))
        sights = {path: Sight.of(path) for job in jobs for path in seen_by_all(job.tasks, job.reads)}
        plan = _Plan(dict(Agreement.here().versions), list(sights.values()), planned, kept)
        self.storage.sync([file["path"] for file in kept])
        self.storage.put(paths.PLAN_FILE, encode(asdict(plan)))
        self.__dict__.pop("_plan", None)

    def _write_job(self, number: int, first: int, job: Job[Any], kept: list[dict[str, str]]) -> _PlannedJob:
        assert job.storage is not None
        if type(job.storage) is not Storage:
            raise ConfigError(
                f"{job.storage.root}: nothing can be staged there, so its work cannot be divided (--units)"
            )
        kept.append(self._keep(f"job-{number}", encode_task(job.tasks[0], only=shared_fields(job.tasks))))
        kept.append(self._keep(f"job-{number}-keys", [task.key for task in job.tasks]))
        return _PlannedJob(
            job.title, name_of(job.function), job.operation_id, job.storage.root, first, len(job.tasks),
            *(file["path"] for file in kept[-2:]),
        )  # fmt: skip

    def _keep(self, name: str, content: Any) -> dict[str, str]:
        return keep(self.storage, paths.units_file(name), msgspec.msgpack.encode(content))

    def _read(self, path: str) -> bytes:
        sha256 = next(file["sha256"] for file in self.plan.kept if file["path"] == path)
        return read_kept(self.storage, path, sha256)

    def jobs(self, numbers: Sequence[int]) -> Iterator[Job[Any]]:
        """The jobs of some units, with no other tasks.

        Raises
        ------
        ConfigError
            If there is no such unit, or this process does not agree with the one that planned.
        """
        plan = self.plan
        if wrong := [n for n in numbers if not 0 <= n < plan.units]:
            some = f"units 0 to {plan.units - 1}" if plan.units else "no units"
            raise ConfigError(f"unit {wrong[0]}: {self.storage.root} has {some}")
        if fault := Agreement(tuple(plan.versions.items()), tuple(plan.sights)).fault():
            raise ConfigError(fault)
        for job in plan.jobs:
            mine = [n for n in numbers if job.first <= n < job.first + job.units]
            if mine:
                yield self._job(job, mine)

    def _job(self, job: _PlannedJob, numbers: Sequence[int]) -> Job[Any]:
        try:
            function = function_of(job.function)
            shared = msgspec.msgpack.decode(self._read(job.shared), type=bytes)
            tasks = [decode_task(function, shared, own) for own in self._own(numbers)]
        except ValueError as error:
            raise StoreDamagedError(f"units of {self.storage.root} cannot be read: {error}") from None
        return Job(job.title, function, tasks, job.operation_id, Storage(job.storage))

    def _own(self, numbers: Sequence[int]) -> Iterator[bytes]:
        for start, some in itertools.groupby(numbers, lambda number: number // _PER_FILE * _PER_FILE):
            chunk = msgspec.msgpack.decode(self._read(paths.units_file(f"{start:08d}")), type=list[bytes])
            yield from (chunk[number - start] for number in some)

    def share(self, number: int, of: int) -> range:
        """Units of one of some parts, which together have all: consecutive ones, which read the same catalogs."""
        units = self.plan.units
        return range(number * units // of, (number + 1) * units // of)

    def missing(self) -> list[int]:
        """Numbers of the units that are not done."""
        return [number for job in self.plan.jobs for number in self._missing_of(job)]

    def _missing_of(self, job: _PlannedJob) -> Iterator[int]:
        staged = {path for path, _ in Storage(job.storage).list(paths.staging_of(job.operation_id))}
        for number, key in enumerate(self.keys(job), job.first):
            if paths.staged_result(job.operation_id, key) not in staged:
                yield number

    def keys(self, job: _PlannedJob) -> list[str]:
        """Keys of the tasks of a planned job."""
        return msgspec.msgpack.decode(self._read(job.keys), type=list[str])

    def work(self, numbers: Sequence[int], runner: Runner) -> WorkReport:
        """Do some units; those that are done already are not done again.

        Raises
        ------
        ConfigError
            As :meth:`jobs`.
        JobFailedError
            If a unit failed after its retries; the others are done.
        SnapshotNotFoundError
            If a vacuum removed the snapshot that they are planned on.
        """
        check_noted_snapshots(self.notes())
        with forced_writes():  # who commits may be on another machine
            for job in self.jobs(sorted(set(numbers))):
                runner.run(job)
        return WorkReport(self.storage.root, len(set(numbers)), self.plan.units)


def _own_fields(job: Job[Any]) -> Iterator[bytes]:
    shared = shared_fields(job.tasks)
    for task in job.tasks:
        yield encode_task(task, without=shared)


def _chunks(units: Iterable[bytes]) -> Iterator[list[bytes]]:
    left = iter(units)
    while chunk := list(itertools.islice(left, _PER_FILE)):
        yield chunk


@dataclass
class UnitsExecutor:
    """Writes units instead of doing them; once they are written, takes their results and does what follows."""

    units: Units
    inner: Executor
    """Runs what is not a unit."""
    _taken: bool = False

    def outcomes(self, job: Job[Result]) -> Iterator[Outcome[Result]]:
        """Outcomes of the inner executor.

        Raises
        ------
        WorkDividedError
            If the units were written now, or what they make was committed before.
        JobFailedError
            If some units are not done, or are not of this job.
        """
        if job.tasks:
            homed = self._homed(job)
            if not job.preparing:
                self._meet(homed)
            yield from self.inner.outcomes(homed)

    def _homed(self, job: Job[Result]) -> Job[Result]:
        """The job, with its results staged beside the units where it stages none."""
        if job.storage is not None:
            return job
        digest = short_digest(b"".join(encode_task(task) for task in job.tasks))
        return replace(job, storage=self.units.storage, operation_id=f"{job.operation_id}-{digest}")

    def _meet(self, job: Job[Any]) -> None:
        if not self.units.is_planned:
            self.units.write([job, *(self._homed(then) for then in job.ahead() if then.tasks)])
            raise planned(self.units)
        if not self._taken:
            self._check(job)
        self._taken = True

    def _check(self, job: Job[Any]) -> None:
        units = self.units
        of_operation = (one for one in units.plan.jobs if one.operation_id == job.operation_id)
        if [task.key for task in job.tasks] not in map(units.keys, of_operation):
            raise JobFailedError(
                f"{job.title}: what is to be done is not what was planned in {units.storage.root}: its inputs or the "
                "store have changed since. Plan it again, in another directory"
            )
        if missing := units.missing():
            if (number := _committed(job)) is not None:
                raise WorkDividedError(
                    f"This was finished before: it is snapshot {number}.", {"finished": True, "snapshot": number}
                )
            some = ranges_text(missing)
            raise JobFailedError(
                f"{job.title}: {len(missing)} of {units.plan.units} units of work are not done: {some}; nothing was "
                f"committed. ztfmatch work {units.storage.root} --unit {some}"
            )


def _committed(job: Job[Any]) -> int | None:
    """Number of the snapshot that an operation has become since it was planned; None if it has not."""
    assert job.storage is not None
    planned_on = (notes() or {}).get(newest_name(job.storage), -1)
    for number in reversed(log.commit_numbers(job.storage)):
        if number <= planned_on:
            break
        with contextlib.suppress(StoreDamagedError):
            if log.read_commit(job.storage, number).operation_id == job.operation_id:
                return number
    return None


def planned(units: Units) -> WorkDividedError:
    """What ends an operation whose units are written."""
    place, number = units.storage.root, units.plan.units
    if not number:
        return WorkDividedError(
            f"There is nothing to divide: ztfmatch finish {place}", {"units": 0, "directory": place}
        )
    return WorkDividedError(
        f"{number:,} unit{'' if number == 1 else 's'} of work in {place}: ztfmatch work {place} --unit 0-{number - 1}, "
        f"then ztfmatch finish {place}",
        {"units": number, "directory": place},
    )


def ranges_text(numbers: Sequence[int]) -> str:
    """Ascending numbers as batch systems take them: ``3,17-20``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


@contextlib.contextmanager
def divided(place: str, inner: Executor) -> Iterator[Executor]:
    """An executor that divides an operation at a place, or finishes one that was divided there."""
    units = Units.at(place)
    with contextlib.nullcontext() if notes() is not None else noting(units.notes()):
        yield UnitsExecutor(units, inner)
        if not units.is_planned:
            units.write([])
