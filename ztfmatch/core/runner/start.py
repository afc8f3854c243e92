"""Start workers: a local cluster, SLURM jobs, or connect to a running scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ztfmatch.core import prefork
from ztfmatch.core.clusters import QUIET_WORKERS, AllocationProfile, LocalProfile, SlurmProfile, read_profile
from ztfmatch.core.config import RETRIES, STARTING, WORKER_WAIT_S, Resources
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.io.client import environment
from ztfmatch.core.progress import Progress
from ztfmatch.core.runner.allocation import allocation_cluster
from ztfmatch.core.runner.certificates import credentials_for, spoken
from ztfmatch.core.runner.executor import DaskExecutor
from ztfmatch.core.runner.gateway import gateway_cluster, is_gateway
from ztfmatch.core.runner.network import ONE_BY_ONE, dashboard_settings
from ztfmatch.core.runner.slurm import slurm_cluster
from ztfmatch.core.runner.workers import Workers
from ztfmatch.core.tasks.workerlogging import is_news

_QUIET: Final = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "500ms",
}
"""Dask looks at itself fifty times a second by default; on a laptop the workers need the cores."""
_GREETING_S: Final = 20.0
"""Longest wait for the first word of a scheduler that is said to run."""
_LOCAL_LIFETIME_S: Final = 30 * 86_400.0


def dask_executor(resources: Resources, stack: contextlib.ExitStack, progress: Progress) -> DaskExecutor:
    """Executor on the workers that the resources name, as soon as one is there; the stack ends them."""
    for name in ("distributed.client", "distributed.nanny"):
        of_dask = logging.getLogger(name)
        of_dask.addFilter(is_news)
        stack.callback(of_dask.removeFilter, is_news)
    if resources.client is not None:
        workers = _of_client(resources.client, resources.wait_s or WORKER_WAIT_S)
    elif resources.scheduler is not None and is_gateway(resources.scheduler):
        workers = stack.enter_context(gateway_cluster(resources.scheduler, resources))
    elif resources.scheduler is not None:
        workers = stack.enter_context(_running_scheduler(resources.scheduler, resources.wait_s or WORKER_WAIT_S))
    else:
        try:
            workers = stack.enter_context(start_cluster(resources))
        except RuntimeError as error:
            raise ConfigError(f"cluster {resources.cluster or 'local'} does not start: {error}") from error
    progress(STARTING, 0, 1)
    workers.await_first()
    progress(STARTING, 1, 1)
    if resources.performance_report is not None:
        stack.enter_context(_reported(resources.performance_report))
    return DaskExecutor(workers.client, _retries(resources), workers)


@contextlib.contextmanager
def _reported(path: str) -> Iterator[None]:
    """A block of which Dask writes what its workers did."""
    try:
        import bokeh  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        raise ConfigError("--performance-report needs bokeh: pip install bokeh") from None
    from distributed import performance_report

    with performance_report(filename=path):
        yield


def _retries(resources: Resources) -> int:
    """How often a failed task is tried again: as asked for, as the profile has it, or as usual."""
    if resources.retries is not None:
        return resources.retries
    profile = None if resources.cluster is None else read_profile(resources.cluster)
    return profile.retries if isinstance(profile, SlurmProfile | AllocationProfile) else RETRIES


def _of_client(client: Any, wait_s: float) -> Workers:
    """The workers of a client that the caller made, and closes."""
    if getattr(client, "asynchronous", True):
        raise ConfigError(f"client {client!r}: expected a distributed.Client that is not asynchronous")
    return Workers(client, "the Dask client", wait_s)


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
        return slurm_cluster(profile, resources)
    if isinstance(profile, AllocationProfile):
        return allocation_cluster(profile, resources)
    return local_cluster(profile, resources)


@contextlib.contextmanager
def local_cluster(profile: LocalProfile, resources: Resources) -> Iterator[Workers]:
    """Worker processes on this machine."""
    method = prefork.start()
    import dask
    from distributed import Client, LocalCluster

    settings = {
        **(_QUIET | ONE_BY_ONE | dashboard_settings(profile.dashboard)),
        "distributed.worker.multiprocessing-method": method,
    }
    arguments = profile.arguments(resources.workers, resources.memory_bytes) | {"preload": [QUIET_WORKERS]}
    env = environment()  # the process that workers are forks of may be older than what was set since
    # Dask sets variables for its workers in the environment of this process, which is the user's, and leaves them set.
    set_by_dask = (*dask.config.get("distributed.nanny.pre-spawn-environ"), "PYTHONHASHSEED", "__DASK_PARENT_PID")
    with (
        prefork.kept_environment(set_by_dask),
        dask.config.set(settings),
        credentials_for(profile.security, tempfile.gettempdir(), _LOCAL_LIFETIME_S) as credentials,
        LocalCluster(**arguments, **spoken(credentials), env=env) as cluster,
        Client(cluster) as client,
    ):
        yield Workers(client, "the cluster on this machine", resources.wait_s or WORKER_WAIT_S, elsewhere=False)
