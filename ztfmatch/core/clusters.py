"""Cluster profiles for ``--cluster``, read from TOML. Starting them, like all of Dask, is up to the runner.

A profile of this package (``local``, ``slurm``) holds every setting and so the defaults; a site's file names its
``kind`` and what differs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Keywords
from ztfmatch.core.settings import AtLeastOne, checked, read_toml

PROFILES: Final = ("local", "slurm", "allocation")

_DURATION: Final = r"^(\d+)([smhd])\Z"
_DURATION_WORDS: Final = "a whole number with s, m, h or d, such as 55m"
_WALLTIME: Final = r"^(?:(\d+)-)?(\d+):(\d\d):(\d\d)\Z"
_WALLTIME_WORDS: Final = "hours:minutes:seconds, such as 01:00:00 or 1-12:00:00"
_HOST_PORT: Final = r"^(?:[^:\s]+:\d{1,5})?\Z"
_HOST_PORT_WORDS: Final = "host:port, such as 127.0.0.1:8787, or nothing"
_PORTS: Final = r"^(?:\d{1,5}:\d{1,5})?\Z"
_PORTS_WORDS: Final = "first:last, such as 40000:40099, or nothing"

_Headroom = Annotated[float, Meta(ge=1.0, description="at least 1.0")]
_Duration = Annotated[str, Meta(pattern=_DURATION, description=_DURATION_WORDS)]
_Walltime = Annotated[str, Meta(pattern=_WALLTIME, description=_WALLTIME_WORDS)]
_Security = Annotated[Literal["tls", "none"], Meta(description="tls or none")]
_Dashboard = Annotated[str, Meta(pattern=_HOST_PORT, description=_HOST_PORT_WORDS)]
_Port = Annotated[int, Meta(ge=0, le=65535, description="0 (a free port) to 65535")]
_Fsync = Annotated[Literal["writer", "commit"], Meta(description="writer or commit")]
_Retries = Annotated[int, Meta(ge=0, description="0 or more")]
_Ports = Annotated[str, Meta(pattern=_PORTS, description=_PORTS_WORDS)]

LOOPBACK: Final = "127.0.0.1"
WORKER_PROGRAM: Final = "ztfmatch.core.runner.slurmworker"
QUIET_WORKERS: Final = "ztfmatch.core.tasks.workerlogging"
MEETING: Final = "ZTFMATCH_MEETING"
"""Variable with the path of a file that is there as long as the run of an allocation's worker is."""
_NO_DASHBOARD: Final = f"{LOOPBACK}:0"
"""Where Dask's web server, which nothing turns off, bothers nobody."""
_WORKERS_PER_CORE: Final = 16
"""More processes of this machine are a mistake, which would take minutes to start and all of its memory."""
_LAST_PORT: Final = 65535
_LEAST_SILENCE_S: Final = 10
"""Workers of a large cluster speak every few seconds."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class LocalProfile:
    """Worker processes on this machine; ztfmatch/data/clusters/local.toml explains and sets each."""

    workers: Annotated[int, Meta(ge=0, description="0 (one a core) or more")]
    """Processes; 0 is one for each usable core."""
    memory_limit: bool
    """Whether Dask watches the memory of a worker."""
    memory_headroom: _Headroom
    """A worker's memory limit over its budget."""
    security: _Security
    """How scheduler and workers speak; "none" is without encryption."""
    dashboard: _Dashboard
    """Address of the dashboard; empty for none."""

    def arguments(self, workers: int, memory_bytes: int) -> Keywords:
        """Keyword arguments of ``distributed.LocalCluster``.

        Raises
        ------
        ConfigError
            If there would be so many processes that starting them does not end.
        """
        number, cores = workers or self.workers or usable_cores(), usable_cores()
        if number > (most := _WORKERS_PER_CORE * cores):
            raise ConfigError(
                f"{number} workers on the {cores} cores of this machine; expected at most {most}, "
                "and one a core to be fast; for workers on other machines give --cluster or --scheduler"
            )
        return {
            "n_workers": number,
            "threads_per_worker": 1,
            "processes": True,
            "memory_limit": int(memory_bytes * self.memory_headroom) if self.memory_limit else None,
            "host": LOOPBACK,
            "dashboard_address": self.dashboard or _NO_DASHBOARD,
        }


@dataclass(frozen=True, kw_only=True)
class _OnNodes:
    """What is set of workers that SLURM puts on nodes, whoever asks for these."""

    memory_limit: bool
    """Whether Dask watches the memory of a worker."""
    memory_headroom: _Headroom
    """Memory that is asked for, or a worker's limit, over its budget."""
    local_directory: str
    """For what workers spill; empty for Dask's own."""
    security: _Security
    """How scheduler and workers speak; "none" is without encryption."""
    certificates: str
    """Directory, seen by all nodes, for the certificates of a run."""
    interface: str
    host: str
    """Network interface of scheduler and workers, or address of the scheduler alone; empty for the one that leads
    out."""
    dashboard: _Dashboard
    """Address of the scheduler's dashboard; empty for none."""
    fsync: _Fsync
    """Who forces files to disk: the worker that writes them, or only the process that commits."""
    retries: _Retries
    """How often a failed task is tried again."""
    wait: _Duration
    """Longest time without any worker, in the queue too."""
    worker_silence: _Duration
    scheduler_wait: _Duration
    """After so long without a word a worker is given up, and without a scheduler a worker leaves."""

    def __post_init__(self) -> None:
        """Check that times and addresses can be."""
        if self.interface and self.host:
            raise ConfigError(f"interface {self.interface!r} and host {self.host!r}: expected one of them")
        self._check_least(wait=1, scheduler_wait=1, worker_silence=_LEAST_SILENCE_S)

    def _check_least(self, **least: int) -> None:
        """Refuse times that are shorter than so many seconds."""
        for name, seconds in least.items():
            if duration_seconds(getattr(self, name)) < seconds:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected at least {seconds}s")


@dataclass(frozen=True, kw_only=True)
class SlurmProfile(_OnNodes):
    """Workers in SLURM jobs; ztfmatch/data/clusters/slurm.toml explains and sets each."""

    workers: AtLeastOne
    workers_per_job: AtLeastOne
    """Processes, and how many of them share a job; one core each."""
    elastic: bool
    """Whether workers come with tasks and go with them, instead of staying from the start to the end."""
    minimum: Annotated[int, Meta(ge=0, description="0 or more")]
    """Elastic workers that stay without tasks."""
    idle: _Duration
    """How long there must be too few tasks before an elastic worker goes."""
    partition: str
    account: str
    walltime: _Walltime
    job_name: str
    """Of sbatch."""
    lifetime: _Duration
    lifetime_stagger: _Duration
    """When a worker leaves of itself, such as ``55m``."""
    job_extra_directives: list[str]
    job_directives_skip: list[str]
    job_script_prologue: list[str]
    """Lines of the job script to add, to leave out, and to run before the worker."""
    log_directory: str
    python: str
    """Empty for Dask's own."""
    certificate_lifetime: _Duration
    """How long the certificates of a run are good."""
    scheduler_port: _Port
    worker_ports: _Ports
    """Range of the ports of the workers of a node; empty for free ones."""

    def __post_init__(self) -> None:
        """Check that a job is waited for, that workers leave before it ends, and that times and ports can be."""
        super().__post_init__()
        if self.minimum > (self.workers if self.elastic else 0):
            most = f"at most workers, {self.workers}" if self.elastic else "0 without elastic"
            raise ConfigError(f"minimum is {self.minimum}; expected {most}")
        self._check_times()
        self._check_network()

    def _check_times(self) -> None:
        self._check_least(lifetime=1)
        if duration_seconds(self.certificate_lifetime) < duration_seconds(self.wait):
            raise ConfigError(
                f"certificate_lifetime {self.certificate_lifetime} is shorter than wait {self.wait}: workers that come "
                "out of the queue late could not join"
            )
        walltime = walltime_seconds(self.walltime)
        leaving = duration_seconds(self.lifetime) + duration_seconds(self.lifetime_stagger)
        if leaving >= walltime:
            raise ConfigError(
                f"lifetime {self.lifetime} and lifetime_stagger {self.lifetime_stagger} are together not shorter than "
                f"walltime {self.walltime}: SLURM would end workers in the middle of a task"
            )

    def _check_network(self) -> None:
        if self.worker_ports:
            first, last = map(int, self.worker_ports.split(":"))
            if not 0 < first <= last <= _LAST_PORT or last - first + 1 < 2 * self.workers_per_job:
                raise ConfigError(
                    f"worker_ports is {self.worker_ports!r}; expected at least {2 * self.workers_per_job} ports from 1 "
                    f"to {_LAST_PORT}, two for each of the {self.workers_per_job} workers of a job"
                )

    def jobs(self, workers: int) -> int:
        """How many jobs hold so many workers; of 0 the profile's own number."""
        return -(-(workers or self.workers) // self.per_job(workers))

    def per_job(self, workers: int) -> int:
        """How many workers a job holds: no more than asked for."""
        return min(self.workers_per_job, workers or self.workers)

    def arguments(self, workers: int, memory_bytes: int) -> Keywords:
        """Keyword arguments of ``dask_jobqueue.SLURMCluster``; a job is no larger than the workers asked for."""
        per_job = self.per_job(workers)
        limit = [] if self.memory_limit else ["--memory-limit", "0"]
        ports = ["--worker-port", self.worker_ports, "--nanny-port", self.worker_ports] if self.worker_ports else []
        return {
            "cores": per_job,
            "processes": per_job,
            "memory": f"{int(per_job * memory_bytes * self.memory_headroom)}B",
            "queue": self.partition or None,
            "account": self.account or None,
            "walltime": self.walltime,
            "job_name": self.job_name,
            "worker_command": WORKER_PROGRAM,
            "worker_extra_args": [
                *("--nworkers", str(per_job), "--nanny", "--no-dashboard", "--dashboard-address", _NO_DASHBOARD),
                *("--lifetime", self.lifetime, "--lifetime-stagger", self.lifetime_stagger, *ports, *limit),
            ],
            "death_timeout": duration_seconds(self.scheduler_wait),
            "job_extra_directives": self.job_extra_directives,
            "job_directives_skip": self.job_directives_skip,
            "job_script_prologue": self.job_script_prologue,
            "local_directory": self.local_directory or None,
            "log_directory": self.log_directory or None,
            "interface": self.interface or None,
            "python": self.python or None,
            "scheduler_options": {"port": self.scheduler_port, "dashboard_address": self.dashboard or _NO_DASHBOARD},
        }


@dataclass(frozen=True, kw_only=True)
class AllocationProfile(_OnNodes):
    """Workers in the tasks of one SLURM job; ztfmatch/data/clusters/allocation.toml explains and sets each."""


Profile = LocalProfile | SlurmProfile | AllocationProfile

_KINDS: Final[dict[str, type[Profile]]] = {
    "local": LocalProfile,
    "slurm": SlurmProfile,
    "allocation": AllocationProfile,
}


def read_profile(name: str) -> Profile:
    """Read a profile of this package by name, or a site's by the path of its TOML file, and check it.

    Raises
    ------
    ConfigError
        If there is none, or a setting is unknown, of another type, or out of range.
    """
    if name not in PROFILES and not Path(name).is_file():
        raise ConfigError(f"no cluster profile {name!r}: expected {', '.join(PROFILES)}, or the path of a TOML file")
    given = {"kind": name} if name in PROFILES else read_toml(Path(name), "cluster profile")
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(f"cluster profile {name}: kind is {kind!r}; expected one of {', '.join(PROFILES)}")
    with resources.as_file(resources.files("ztfmatch").joinpath("data", "clusters", f"{kind}.toml")) as path:
        defaults = read_toml(path, "cluster profile")
    defaults.pop("kind")
    return checked(defaults | given, _KINDS[kind], place=f"cluster profile {name}: ")


def duration_seconds(text: str) -> int:
    """Seconds of a duration like ``55m`` or ``2h``.

    Raises
    ------
    ConfigError
    """
    match = re.match(_DURATION, text)
    if match is None:
        raise ConfigError(f"duration {text!r}: expected {_DURATION_WORDS}")
    return int(match[1]) * _SECONDS[match[2]]


def walltime_seconds(text: str) -> int:
    """Seconds of a SLURM time limit: ``hours:minutes:seconds``, with ``days-`` before it if need be.

    Raises
    ------
    ConfigError
    """
    match = re.match(_WALLTIME, text)
    if match is None:
        raise ConfigError(f"walltime {text!r}: expected {_WALLTIME_WORDS}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def usable_cores() -> int:
    """Cores that this process may use, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
