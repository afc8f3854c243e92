"""The SLURM jobs of workers: kept at their number, and given up where they cannot start."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ztfmatch.core.errors import ConfigError, ServiceError

_CALL_S: Final = 30.0
_FRUITLESS: Final = 3
"""So many jobs in a row that ended before any worker came are no accident."""
_UNREACHABLE: Final = ("Unable to contact", "Socket timed out", "Zero Bytes", "Connection refused", "Communication")


def called(*words: str) -> str | None:
    """Output of one of SLURM's programs; None if it is not there or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_CALL_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def states(jobs: Sequence[str]) -> dict[str, str] | None:
    """State of each of some jobs that is queued or runs, with its reason if it has one; None if SLURM does not say."""
    listed = called("squeue", "--noheader", "--me", "--format=%i|%T|%r")
    if listed is None:
        return None
    rows = (line.split("|") for line in listed.split("\n") if line.count("|") == 2)
    found = {job: state if reason == "None" else f"{state}, {reason}" for job, state, reason in rows}
    return {job: found[job] for job in jobs if job in found}


def ending(job: str) -> str:
    """How a job ended, and the last line of its log, as far as SLURM tells."""
    output = called("scontrol", "--oneliner", "show", "job", job) or ""
    facts = dict(re.findall(r"(\w+)=(\S*)", output))
    code = facts.get("ExitCode", "").partition(":")[0]
    state = f"{facts.get('JobState', 'ended')}, exit code {code}" if code else "ended"
    logs = [Path(re.sub("%[jJ]", job, facts[name])) for name in ("StdErr", "StdOut") if facts.get(name)]
    return ": ".join(filter(None, (f"job {job} {state}", next(filter(None, map(_last_line, logs)), ""))))


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def refusal(error: Exception) -> str:
    """What sbatch said, of the error of dask-jobqueue that tells all about its call."""
    said = str(error).partition("stderr:\n")[2] or str(error)
    return " ".join(said.split())


@dataclass(frozen=True)
class Elastic:
    """How the number of jobs follows the work."""

    per_job: int
    minimum: int
    """Workers of a job, and those that are kept without any task."""
    idle_s: float
    """How long there must be too many before one goes."""


@dataclass
class JobKeeper:
    """Keeps so many jobs of a cluster of dask-jobqueue, which itself never replaces one whose workers have left."""

    cluster: Any
    """Its jobs have a ``refusal``: what sbatch said, or nothing."""
    jobs: int
    """Most of them."""
    every_s: float = 15.0
    """How often they are looked after."""
    elastic: Elastic | None = None
    """How their number follows the work; None for always as many."""
    wake: threading.Event = field(default_factory=threading.Event)
    _tasks: int = 0
    _less_since: float | None = None
    _seen: set[str] = field(default_factory=set)
    _absent: set[str] = field(default_factory=set)
    _fruitless: int = 0
    _last: str = ""
    _states: dict[str, str] | None = None
    _trouble: Exception | None = None

    def run(self, stop: threading.Event) -> None:
        """Check every while until stopped, or until no worker will come."""
        while not stop.is_set() and self._trouble is None:
            if self.wake.wait(self.every_s):
                self.wake.clear()
            if not stop.is_set():
                self.check()

    def want(self, tasks: int) -> None:
        """Take the number of tasks that are left."""
        more, self._tasks = tasks > self._tasks, tasks
        if more and self.elastic is not None:
            self.wake.set()

    def _wanted(self) -> int:
        """How many jobs there should be; fewer than there are only when that has lasted."""
        if self.elastic is None:
            return self.jobs
        least = max(self._tasks, self.elastic.minimum)
        wanted, there = min(self.jobs, -(-least // self.elastic.per_job)), len(self.cluster.worker_spec)
        if wanted >= there:
            self._less_since = None
            return wanted
        now = time.monotonic()
        if self._less_since is None:
            self._less_since = now
        return wanted if now - self._less_since >= self.elastic.idle_s else there

    def trouble(self) -> Exception | None:
        """Why no worker will come, if so."""
        return self._trouble

    def news(self) -> str:
        """What becomes of the jobs, for people."""
        queued = Counter((self._states or {}).values())
        counts = [f"{number} SLURM job{'s' * (number > 1)} {state}" for state, number in queued.items()]
        return "; ".join(filter(None, (", ".join(counts), self._last)))

    def check(self) -> None:
        """Give up each job whose workers have all left or will not come, and submit what is missing."""
        left, waiting = self.cluster.sync(self._look)
        self._states = states(list(waiting.values()))
        ended = {} if self._states is None else {n: job for n, job in waiting.items() if job not in self._states}
        if ended:
            self._fruitless += len(ended)
            self._last = ending(max(ended.values(), key=int))
        if not self._seen and not self._states and self._fruitless >= _FRUITLESS:
            message = f"{self._fruitless} SLURM jobs ended before a worker came, the last: {self._last}"
            self._trouble = ConfigError(f"{message}: see the profile's python and job_script_prologue")
            return
        wanted = self._wanted()
        refused = self.cluster.sync(self._replace, left | ended.keys(), wanted)
        if refused and not self._seen and len(refused) == wanted:
            self._trouble = _refused(refused[0])
        elif refused:
            self._last = f"sbatch refuses: {refused[0]}"

    def _members(self) -> dict[str, set[str]]:
        """Names of the workers of each job."""
        return {
            str(name): {f"{name}{suffix}" for suffix in spec.get("group", [""])}
            for name, spec in self.cluster.worker_spec.items()
        }

    def _idle(self, number: int, but: set[str]) -> set[str]:
        """As many jobs, or as there are, whose workers have nothing to do, those without any worker first."""
        workers = {str(worker.name): worker for worker in self.cluster.scheduler.workers.values()}
        here = {job: [workers[name] for name in names if name in workers] for job, names in self._members().items()}
        free = [job for job, them in here.items() if job not in but and not any(one.processing for one in them)]
        return set(sorted(free, key=lambda job: len(here[job]))[: max(0, number)])

    async def _look(self) -> tuple[set[str], dict[str, str]]:
        """Names of the jobs whose workers have left; of those that never had one the job ids by name."""
        here = {str(worker["name"]) for worker in self.cluster.scheduler_info["workers"].values()}
        members = self._members()
        alive = {name for name, workers in members.items() if workers & here}
        if alive:
            self._fruitless, self._last = 0, ""
        self._seen |= alive
        absent = {name for name in members if name in self._seen - alive}
        left = absent & self._absent  # twice: a worker that its nanny ended is soon back
        self._absent = absent - left
        self._seen -= left  # the new job may get its name
        jobs = {name: job.job_id for name, job in self.cluster.workers.items() if name not in self._seen}
        left |= {name for name, job in self.cluster.workers.items() if job.refusal}
        return left, {name: job for name, job in jobs.items() if job is not None and name not in left}

    async def _replace(self, names: set[str], wanted: int) -> list[str]:
        """Give up some jobs, and idle ones that are too many, submit what is missing; what sbatch said in refusal."""
        idle = self._idle(len(self.cluster.worker_spec) - len(names) - wanted, names)
        if idle:
            members = self._members()
            await self.cluster.scheduler.retire_workers(names=[name for job in idle for name in members[job]])
            self._seen -= idle
        if names | idle:
            await self.cluster.scale_down(names | idle)
        if len(self.cluster.worker_spec) < wanted:
            self.cluster.scale(jobs=wanted)
        await self.cluster
        return [job.refusal for job in self.cluster.workers.values() if job.refusal]


def _refused(said: str) -> Exception:
    """The error for what sbatch said where it took no job at all."""
    if any(word in said for word in _UNREACHABLE):
        return ServiceError(f"SLURM does not answer: {said}")
    return ConfigError(f"SLURM refuses the jobs: {said}")
