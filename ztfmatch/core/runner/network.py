"""Network interface on which a cluster listens, and whether it can."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Final

from ztfmatch.core.clusters import AllocationProfile, SlurmProfile
from ztfmatch.core.errors import ConfigError, ServiceError
from ztfmatch.core.plain import Json

logger = logging.getLogger("ztfmatch")

ONE_BY_ONE: Final[Json] = {"distributed.scheduler.worker-saturation": 1.0}
"""No call waits on a worker behind another, so that where a worker is killed it is known by which."""
_NO_ROUTES: Final[dict[str, list[str]]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


def scheduler_host(profile: SlurmProfile | AllocationProfile) -> str:
    """Address that the scheduler listens on: one alone.

    Raises
    ------
    ConfigError
        If there is no such interface.
    """
    from distributed.utils import get_ip, get_ip_interface

    try:
        return str(profile.host or (get_ip_interface(profile.interface) if profile.interface else get_ip()))
    except ValueError as error:
        raise ConfigError(f"interface: {error}") from error


def check_free(host: str, port: int, key: str) -> None:
    """Refuse a port that another command, perhaps with the same profile, listens on.

    Raises
    ------
    ServiceError
    """
    if not port:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                said = (
                    "is in use, perhaps by another command with the same profile: wait for its end, or choose another"
                )
            else:
                said = f"cannot be listened on: {error.strerror}"
            raise ServiceError(f"{key}: port {port} of {host} {said}") from None


def dashboard_settings(address: str) -> Json:
    """Settings of Dask for a dashboard at an address, which is announced, or for none.

    Raises
    ------
    ServiceError
        If something else is there.
    """
    if not address:
        return dict(_NO_ROUTES)
    host, _, port = address.rpartition(":")
    check_free(host, int(port), "dashboard")
    logger.info("Dask's dashboard: http://%s/status", address)
    return {}
