"""Workers in SLURM jobs, by dask-jobqueue."""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from typing import Any, Final

from ztfmatch.core.clusters import SlurmProfile, duration_seconds
from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Keywords
from ztfmatch.core.runner.certificates import credentials_for, spoken
from ztfmatch.core.runner.network import ONE_BY_ONE, check_free, dashboard_settings, scheduler_host
from ztfmatch.core.runner.slurmjobs import Elastic, JobKeeper, refusal
from ztfmatch.core.runner.workers import Workers

logger = logging.getLogger("ztfmatch")

_KEEP_JOBS_S: Final = 15.0
_OPEN: Final = 'security = "none": whoever reaches %s, or a port of a worker, can run code as you'


@contextlib.contextmanager
def slurm_cluster(profile: SlurmProfile, resources: Resources) -> Iterator[Workers]:
    """Start a scheduler here, and submit the jobs of its workers; at the end they are cancelled.

    Raises
    ------
    ConfigError
        If SLURM or dask-jobqueue is not there, or refuses.
    ServiceError
        If a port is in use.
    """
    import dask
    from distributed import Client

    cluster_class = slurm_cluster_class()
    if shutil.which("sbatch") is None:
        raise ConfigError("--cluster slurm submits its jobs with sbatch, which is not on this machine's PATH")
    wait_s, lifetime_s = resources.wait_s or duration_seconds(profile.wait), profile.certificate_lifetime
    arguments, settings = _arguments(profile, resources), dashboard_settings(profile.dashboard) | ONE_BY_ONE
    with (
        dask.config.set({**settings, "distributed.scheduler.worker-ttl": profile.worker_silence}),
        credentials_for(profile.security, profile.certificates, duration_seconds(lifetime_s)) as credentials,
        cluster_class(**arguments, **spoken(credentials)) as cluster,
        _kept(cluster, profile, resources.workers, wait_s) as keeper,
        Client(cluster) as client,
    ):
        if cluster.scheduler_address.startswith("tcp:"):
            logger.warning(_OPEN, cluster.scheduler_address)

        def trouble() -> Exception | None:
            return keeper.trouble() or (None if credentials is None else credentials.expired())

        yield Workers(
            client, "the cluster of SLURM jobs", wait_s, forced=profile.fsync == "writer", news=keeper.news,
            trouble=trouble, want=keeper.want, on_demand=profile.elastic and not profile.minimum,
        )  # fmt: skip


def _arguments(profile: SlurmProfile, resources: Resources) -> Keywords:
    """Keyword arguments of the cluster, whose scheduler listens on one address."""
    arguments = profile.arguments(resources.workers, resources.memory_bytes)
    host = scheduler_host(profile)
    check_free(host, profile.scheduler_port, "scheduler_port")
    arguments["scheduler_options"]["host"] = host
    return arguments


@contextlib.contextmanager
def _kept(cluster: Any, profile: SlurmProfile, workers: int, wait_s: float) -> Iterator[JobKeeper]:
    """A block in which the cluster has its jobs."""
    elastic = Elastic(profile.per_job(workers), profile.minimum, duration_seconds(profile.idle))
    every_s, jobs, stop = min(_KEEP_JOBS_S, wait_s / 10.0), profile.jobs(workers), threading.Event()
    keeper = JobKeeper(cluster, jobs, every_s, elastic if profile.elastic else None)
    keeper.check()
    thread = threading.Thread(target=keeper.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield keeper
    finally:
        stop.set()
        keeper.wake.set()
        thread.join()


def slurm_cluster_class() -> Any:
    """dask-jobqueue's cluster, whose jobs keep what sbatch said where it refused them.

    Raises
    ------
    ConfigError
        If dask-jobqueue is not installed.
    """
    kept = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue.slurm import SLURMCluster, SLURMJob
    except ImportError:
        raise ConfigError("--cluster slurm needs dask-jobqueue: pip install 'ztfmatch[slurm]'") from None
    finally:
        if signal.getsignal(signal.SIGINT) is not kept:  # its import makes SIGINT an exit with success
            signal.signal(signal.SIGINT, kept)

    from distributed import Status

    class Job(SLURMJob):  # type: ignore[misc]
        refusal = ""

        async def start(self) -> None:
            """Submit it; an error would be a traceback of Dask's, and an endless wait."""
            try:
                await super().start()
            except (RuntimeError, ValueError, OSError) as error:
                self.refusal, self.status = refusal(error), Status.running

        async def close(self) -> None:
            """Cancel it."""
            await super().close()
            self.status = Status.closed

    class Cluster(SLURMCluster):  # type: ignore[misc]
        job_cls = Job

    return Cluster
