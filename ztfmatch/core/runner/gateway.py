"""Clusters of a Dask Gateway: a running one, or one started for a command."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

from ztfmatch.core.config import WORKER_WAIT_S, Resources
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.runner.workers import Workers

_ADDRESS: Final = r"gateway(\+http)?://(?:([^/\s]+)(?:/([^/\s]+))?)?"
_EXPECTED: Final = "gateway://HOST[:PORT][/CLUSTER], gateway+http://... where it has no certificate, or gateway://"


@contextlib.contextmanager
def gateway_cluster(address: str, resources: Resources) -> Iterator[Workers]:
    """Workers of a cluster of a gateway, which authenticates as Dask's configuration (``gateway.auth``) says.

    Parameters
    ----------
    address : str
        ``gateway://HOST:PORT`` starts a cluster and ends it, ``gateway://HOST:PORT/NAME`` uses one that runs;
        ``gateway://`` is the gateway of Dask's configuration.
    resources : Resources
        ``workers`` of a cluster to be started.

    Raises
    ------
    ConfigError
        If dask-gateway is not installed, the address is none, or no workers are asked for.
    ServiceError
        If the gateway does not answer, or refuses.
    """
    plain, host, name = _parts(address)
    if name is None and not resources.workers:
        raise ConfigError(f"--scheduler {address} starts a cluster there: say of how many workers with --workers")
    if name is not None and resources.workers:
        raise ConfigError(f"--scheduler {address} has workers of its own: give it without --workers")
    try:
        from dask_gateway import Gateway
        from dask_gateway.client import GatewayClusterError, GatewayServerError
    except ImportError:
        raise ConfigError(f"--scheduler {address} needs dask-gateway: pip install 'ztfmatch[gateway]'") from None
    where = None if host is None else f"{'http' if plain else 'https'}://{host}"
    with contextlib.ExitStack() as stack:
        try:
            gateway = Gateway(where)  # closed as it is collected: closed before, it complains then
            cluster = stack.enter_context(gateway.connect(name) if name else gateway.new_cluster())
            if not name:
                cluster.scale(resources.workers)
            client: Any = stack.enter_context(cluster.get_client(set_as_default=False))
        except (GatewayClusterError, GatewayServerError, OSError, TimeoutError) as error:
            raise ServiceError(f"the Dask gateway of {address}: {error or type(error).__name__}") from error
        except (ValueError, TypeError) as error:
            raise ConfigError(f"--scheduler {address}: {error}") from error
        yield Workers(client, f"cluster {cluster.name} of {address}", resources.wait_s or WORKER_WAIT_S)


def is_gateway(address: str) -> bool:
    """Whether an address is of a gateway."""
    return address.startswith(("gateway:", "gateway+"))


def _parts(address: str) -> tuple[bool, str | None, str | None]:
    match = re.fullmatch(_ADDRESS, address)
    if match is None:
        raise ConfigError(f"--scheduler {address}: expected {_EXPECTED}")
    return match[1] is not None, match[2], match[3]
