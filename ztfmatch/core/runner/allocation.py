"""Workers in the tasks of one SLURM job: all run the same command, the first plans, the others work for it.

``srun ztfmatch append ... --cluster allocation`` starts the command once a task of the job. The first writes where its
scheduler is into a file that only the user can read; the others wait for that, and become workers. dask-jobqueue's
SLURMRunner and dask-mpi do the same, but spend two tasks on a scheduler and a client, end processes by a signal that a
batch system takes for a failure, and know nothing of the certificates of a run.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn

from ztfmatch.core.clusters import LOOPBACK, MEETING, QUIET_WORKERS, WORKER_PROGRAM, AllocationProfile, duration_seconds
from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.io import localfiles
from ztfmatch.core.io.records import decode, encode
from ztfmatch.core.runner.certificates import Credentials, credentials_for, spoken
from ztfmatch.core.runner.network import ONE_BY_ONE, dashboard_settings, scheduler_host
from ztfmatch.core.runner.workers import Workers

_PREFIX: Final = ".ztfmatch-allocation-"
_LOOK_S: Final = 0.2
_DAY_S: Final = 86_400.0
_LIFETIME_S: Final = 30 * _DAY_S


@dataclass(frozen=True)
class Meeting:
    """Where the tasks of a step of a job find each other."""

    task: int
    tasks: int
    """Number of this task, from 0, and how many there are."""
    path: Path
    """The file that says where the scheduler is."""

    @classmethod
    def here(cls, profile: AllocationProfile) -> Meeting:
        """That of the step that this process is of.

        Raises
        ------
        ConfigError
            If it is of none, or of one of a single task.
        """
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID", "SLURM_STEP_ID")
        try:
            task, tasks, job, step = (int(os.environ[name]) for name in names)
        except (KeyError, ValueError):
            raise ConfigError(
                "--cluster allocation uses the tasks of a SLURM job: start the command there with srun, as in "
                "'srun ztfmatch append ... --cluster allocation'"
            ) from None
        if tasks < 2:
            raise ConfigError(
                "--cluster allocation: this step has one task; expected one that plans and others that work, as in "
                "'sbatch --ntasks=65' with 'srun ztfmatch ...'"
            )
        again = os.environ.get("SLURM_RESTART_COUNT", "0")
        place = Path(profile.certificates or "~").expanduser().absolute()
        return cls(task, tasks, place / f"{_PREFIX}{job}-{step}-{again}.json")


@dataclass(frozen=True)
class _Scheduler:
    """What the first task tells the others, as stored."""

    address: str
    credentials: str | None
    """Directory of the certificates."""


@contextlib.contextmanager
def allocation_cluster(profile: AllocationProfile, resources: Resources) -> Iterator[Workers]:
    """Start a scheduler in the first task of a step; the others become its workers, and do not come back.

    Raises
    ------
    ConfigError
        If this is no step of several tasks, or nothing can be written where they meet.
    ServiceError
        If the first task does not come.
    """
    meeting = Meeting.here(profile)
    wait_s = resources.wait_s or duration_seconds(profile.wait)
    if meeting.task:
        os.environ[MEETING] = str(meeting.path)
        _work(profile, resources, _met(meeting, wait_s))
    import dask
    from distributed import Client, LocalCluster

    settings = dashboard_settings(profile.dashboard) | ONE_BY_ONE
    with (
        dask.config.set({**settings, "distributed.scheduler.worker-ttl": profile.worker_silence}),
        credentials_for(profile.security, profile.certificates, _LIFETIME_S) as credentials,
        LocalCluster(
            n_workers=0, host=scheduler_host(profile), dashboard_address=profile.dashboard or f"{LOOPBACK}:0",
            **spoken(credentials),
        ) as cluster,
        _announced(meeting, str(cluster.scheduler_address), credentials),
        Client(cluster) as client,
    ):  # fmt: skip
        yield Workers(client, "the SLURM job", wait_s, forced=profile.fsync == "writer")


@contextlib.contextmanager
def _announced(meeting: Meeting, address: str, credentials: Credentials | None) -> Iterator[None]:
    """A block in which the other tasks find the scheduler."""
    found = _Scheduler(address, None if credentials is None else str(credentials.directory))
    try:
        meeting.path.parent.mkdir(parents=True, exist_ok=True)
        _remove_old(meeting.path.parent)
        localfiles.replace(meeting.path, memoryview(encode(asdict(found))), durable=False)
    except OSError as error:
        raise ConfigError(f"cannot write {meeting.path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        meeting.path.unlink(missing_ok=True)


def _remove_old(place: Path) -> None:
    """Take away what jobs left that were killed."""
    for path in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LIFETIME_S:
                path.unlink()


def _met(meeting: Meeting, wait_s: float) -> _Scheduler:
    """What the first task says, as soon as it does."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            return decode(_own(meeting.path), _Scheduler)
        time.sleep(_LOOK_S)
    raise ServiceError(f"task {meeting.task} of {meeting.tasks}: the first task did not write {meeting.path}")


def _own(path: Path) -> bytes:
    """Content of a file of this user: whoever else wrote it would have this process run his code."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        if os.fstat(file.fileno()).st_uid != os.getuid():
            raise ConfigError(f"{path} is another user's: give the profile a directory for certificates that is yours")
        return file.read()


def _work(profile: AllocationProfile, resources: Resources, found: _Scheduler) -> NoReturn:
    """Become a worker."""
    limit = int(resources.memory_bytes * profile.memory_headroom) if profile.memory_limit else 0
    words = [
        *("--nworkers", "1", "--nthreads", "1", "--nanny", "--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0"),
        *("--memory-limit", str(limit), "--death-timeout", str(duration_seconds(profile.scheduler_wait))),
        *("--preload", QUIET_WORKERS),
        *(("--local-directory", profile.local_directory) if profile.local_directory else ()),
        *(("--interface", profile.interface) if profile.interface else ()),
    ]
    if found.credentials is not None:
        place = Path(found.credentials)
        certificate, key = str(place / "certificate.pem"), str(place / "key.pem")
        words += ["--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")  # the job's log is the command's, too
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", WORKER_PROGRAM, found.address, *words])  # noqa: S606
