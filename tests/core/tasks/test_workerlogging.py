"""What a worker that shares the command's terminal says there."""

from __future__ import annotations

import logging

import pytest
from distributed import Client, LocalCluster

from ztfmatch.core.clusters import QUIET_WORKERS


def _log_a_death() -> None:
    """What the thread in a worker that awaits the nanny's word logs if the worker has closed its queue before."""
    logger = logging.getLogger("distributed.nanny")
    try:
        raise TypeError("'NoneType' object cannot be interpreted as an integer")
    except TypeError:
        logger.exception("Worker process died unexpectedly")
    logger.error("worth reading")


def test_a_worker_ends_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        LocalCluster(1, threads_per_worker=1, preload=[QUIET_WORKERS], dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.submit(_log_a_death).result()
    printed = capfd.readouterr().err
    assert "worth reading" in printed
    assert "Traceback" not in printed
