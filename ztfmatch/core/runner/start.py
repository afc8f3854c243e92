"""Start what runs tasks: a plain loop, a local cluster, SLURM jobs, or the way to a scheduler that runs already."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import ssl
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ztfmatch.core import prefork
from ztfmatch.core.clusters import LocalProfile, SlurmProfile, duration_seconds, read_profile
from ztfmatch.core.config import RETRIES, WORKER_WAIT_S, Resources
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.io.client import environment
from ztfmatch.core.runner.certificates import Credentials, credentials_for_run
from ztfmatch.core.runner.executor import DaskExecutor
from ztfmatch.core.runner.jobs import Executor, LoopExecutor, Progress, Runner, no_progress
from ztfmatch.core.runner.network import check_free, dashboard_settings, scheduler_host
from ztfmatch.core.runner.slurmjobs import JobKeeper, refusal
from ztfmatch.core.runner.workers import Workers
from ztfmatch.core.tasks.quiet import is_news

logger = logging.getLogger("ztfmatch")

_QUIET: Final = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "500ms",
}
"""Dask looks at itself fifty times a second by default; on a laptop the workers need the cores."""
_ONE_BY_ONE: Final = {"distributed.scheduler.worker-saturation": 1.0}
"""No call waits on a worker behind another, so that where a worker is killed it is known by which."""
_QUIET_WORKERS: Final = "ztfmatch.core.tasks.quiet"
_GREETING_S: Final = 20.0
"""Longest wait for the first word of a scheduler that is said to run."""
_KEEP_JOBS_S: Final = 15.0
_LOCAL_LIFETIME_S: Final = 30 * 86_400.0
_OPEN: Final = 'security = "none": whoever reaches %s, or a port of a worker, can run code as you'


@contextlib.contextmanager
def open_runner(resources: Resources | None = None, progress: Progress = no_progress) -> Iterator[Runner]:
    """Runner for the resources, by default a plain loop; a cluster that it started is stopped at the end.

    Raises
    ------
    ConfigError
        If the resources contradict each other, or workers are of another version of ztfmatch.
    ServiceError
        If no scheduler or no worker answers.
    """
    resources = resources or Resources()
    resources.validate()
    with contextlib.ExitStack() as stack:
        executor = _executor(resources, stack)
        yield Runner(executor, resources.memory_bytes, progress)


def _executor(resources: Resources, stack: contextlib.ExitStack) -> Executor:
    if resources.scheduler is None and resources.cluster is None and resources.workers == 0:
        return LoopExecutor(_retries(resources))
    if resources.scheduler is None and resources.cluster in (None, "local"):
        prefork.start()
    for name in ("distributed.client", "distributed.nanny"):
        of_dask = logging.getLogger(name)
        of_dask.addFilter(is_news)
        stack.callback(of_dask.removeFilter, is_news)
    if resources.scheduler is not None:
        workers = stack.enter_context(_running_scheduler(resources.scheduler, resources.wait_s or WORKER_WAIT_S))
    else:
        try:
            workers = stack.enter_context(start_cluster(resources))
        except RuntimeError as error:
            raise ConfigError(f"cluster {resources.cluster or 'local'} does not start: {error}") from error
    workers.await_first()
    return DaskExecutor(workers.client, _retries(resources), workers)


def _retries(resources: Resources) -> int:
    """How often a failed task is tried again: as asked for, as the profile has it, or as usual."""
    if resources.retries is not None:
        return resources.retries
    profile = None if resources.cluster is None else read_profile(resources.cluster)
    return profile.retries if isinstance(profile, SlurmProfile) else RETRIES


@contextlib.contextmanager
def _running_scheduler(address: str, wait_s: float) -> Iterator[Workers]:
    """The workers of a scheduler that runs already."""
    from distributed import Client

    greeting_s = min(_GREETING_S, wait_s)
    _greet(address, greeting_s)
    try:
        client = Client(address, timeout=greeting_s)
    except (OSError, ValueError) as error:
        raise ServiceError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield Workers(client, f"the Dask scheduler at {address}", wait_s)


def _greet(address: str, wait_s: float) -> None:
    """Exchange first words with a scheduler, which a client would await for ever.

    Raises
    ------
    ConfigError
        If the address is none, or needs certificates.
    ServiceError
        If no scheduler answers.
    """
    from distributed.comm import connect
    from distributed.security import Security

    async def greet() -> None:
        comm = await connect(address, timeout=wait_s, **arguments)
        await comm.close()

    try:
        arguments = Security().get_connection_args("client")
    except OSError as error:
        raise ConfigError(f"--scheduler {address}: the certificates of Dask's configuration: {error}") from error
    if address.startswith("tls://") and arguments["ssl_context"] is None:
        raise ConfigError(
            f"--scheduler {address} needs certificates: name them in distributed.comm.tls.ca-file, .client.cert and "
            ".client.key of Dask's configuration (or DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ...__CLIENT__CERT, "
            "...__CLIENT__KEY)"
        )
    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own in this one
            thread.submit(asyncio.run, asyncio.wait_for(greet(), wait_s)).result()
    except TimeoutError:
        raise ServiceError(f"no Dask scheduler answers at {address} within {wait_s:g} s") from None
    except OSError as error:
        raise _unreached(address, error) from error
    except ValueError as error:
        raise ConfigError(f"--scheduler {address}: {error}; expected an address such as tcp://host:8786") from error
    except Exception as error:
        raise ServiceError(f"what answers at {address} is no Dask scheduler: {error}") from error


def _unreached(address: str, error: OSError) -> ConfigError | ServiceError:
    """The error for what went wrong on the way to a scheduler."""
    if isinstance(error.__cause__, ssl.SSLError):
        why = getattr(error.__cause__, "verify_message", "") or error.__cause__.reason
        return ConfigError(f"--scheduler {address}: its certificates and those of Dask's configuration disagree: {why}")
    reset = address.startswith("tcp://") and "reset" in str(error)
    hint = f"; one with certificates is at {address.replace('tcp', 'tls', 1)}" if reset else ""
    return ServiceError(f"no Dask scheduler answers at {address}: {error}{hint}")


def start_cluster(resources: Resources) -> contextlib.AbstractContextManager[Workers]:
    """Start the cluster that the resources name: a profile of this package or a file, ``local`` by default."""
    profile = read_profile(resources.cluster or "local")
    if isinstance(profile, SlurmProfile):
        return _slurm_cluster(profile, resources)
    return _local_cluster(profile, resources)


@contextlib.contextmanager
def _local_cluster(profile: LocalProfile, resources: Resources) -> Iterator[Workers]:
    method = prefork.start()
    import dask
    from distributed import Client, LocalCluster

    settings = {
        **(_QUIET | _ONE_BY_ONE | dashboard_settings(profile.dashboard)),
        "distributed.worker.multiprocessing-method": method,
    }
    arguments = profile.arguments(resources.workers, resources.memory_bytes) | {"preload": [_QUIET_WORKERS]}
    env = environment()  # the process that workers are forks of may be older than what was set since
    # Dask sets variables for its workers in the environment of this process, which is the user's, and leaves them set.
    set_by_dask = (*dask.config.get("distributed.nanny.pre-spawn-environ"), "PYTHONHASHSEED", "__DASK_PARENT_PID")
    with (
        prefork.kept_environment(set_by_dask),
        dask.config.set(settings),
        _credentials(profile.security, tempfile.gettempdir(), _LOCAL_LIFETIME_S) as credentials,
        LocalCluster(**arguments, **_spoken(credentials), env=env) as cluster,
        Client(cluster) as client,
    ):
        yield Workers(client, "the cluster on this machine", resources.wait_s or WORKER_WAIT_S, elsewhere=False)


@contextlib.contextmanager
def _credentials(security: str, place: str, lifetime_s: float) -> Iterator[Credentials | None]:
    """Certificates of the run, where there are to be any."""
    if security == "none":
        yield None
        return
    with credentials_for_run(place, lifetime_s) as credentials:
        yield credentials


def _spoken(credentials: Credentials | None) -> dict[str, Any]:
    """Keywords of a cluster of Dask that say how its processes speak; without any, as Dask's configuration says."""
    return {} if credentials is None else {"protocol": "tls://", "security": credentials.security}


@contextlib.contextmanager
def _slurm_cluster(profile: SlurmProfile, resources: Resources) -> Iterator[Workers]:
    cluster_class = slurm_cluster_class()
    if shutil.which("sbatch") is None:
        raise ConfigError("--cluster slurm submits its jobs with sbatch, which is not on this machine's PATH")
    import dask
    from distributed import Client

    stop, wait_s = threading.Event(), resources.wait_s or duration_seconds(profile.wait)
    lifetime_s, settings = duration_seconds(profile.certificate_lifetime), _ONE_BY_ONE | dashboard_settings(profile.dashboard)
    settings["distributed.scheduler.worker-ttl"] = profile.worker_silence
    arguments = profile.arguments(resources.workers, resources.memory_bytes)
    arguments["scheduler_options"]["host"] = host = scheduler_host(profile)
    check_free(host, profile.scheduler_port, "scheduler_port")
    with (
        dask.config.set(settings),
        _credentials(profile.security, profile.certificates, lifetime_s) as credentials,
        cluster_class(**arguments, **_spoken(credentials)) as cluster,
    ):
        if cluster.scheduler_address.startswith("tcp:"):
            logger.warning(_OPEN, cluster.scheduler_address)
        keeper = JobKeeper(cluster, profile.jobs(resources.workers), min(_KEEP_JOBS_S, wait_s / 10.0))
        keeper.check()
        thread = threading.Thread(target=keeper.run, args=(stop,), daemon=True)
        thread.start()

        def trouble() -> Exception | None:
            return keeper.trouble() or (None if credentials is None else credentials.expired())

        try:
            with Client(cluster) as client:
                place, forced = "the cluster of SLURM jobs", profile.fsync == "writer"
                yield Workers(client, place, wait_s, forced=forced, news=keeper.news, trouble=trouble)
        finally:
            stop.set()
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
