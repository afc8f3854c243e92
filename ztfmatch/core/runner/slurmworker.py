"""The program in a SLURM job: Dask's worker, restricted to the network interface of the scheduler.

``python -m ztfmatch.core.runner.slurmworker ADDRESS OPTIONS...``; without --host or --interface Dask would listen on
every interface of the node.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ztfmatch.core.clusters import MEETING
from ztfmatch.core.tasks.workerlogging import is_news


def arguments(given: Sequence[str]) -> list[str]:
    """Arguments of ``dask worker``, with the address by which this node reaches the scheduler if none is named.

    Raises
    ------
    OSError
        If the scheduler's address is none.
    """
    from distributed.comm import get_address_host
    from distributed.utils import get_ip

    if {"--host", "--interface"} & set(given):
        return list(given)
    return [*given, "--host", get_ip(get_address_host(given[0]))]


def main() -> None:
    """Run it; one that begins when the run has ended, and finds no certificates, has not failed."""
    from distributed.cli.dask_worker import main as dask_worker

    if MEETING in os.environ:
        logging.getLogger("distributed.nanny").addFilter(is_news)
    try:
        dask_worker(arguments(sys.argv[1:]), prog_name="ztfmatch worker")
    except RuntimeError:
        meeting = os.environ.get(MEETING)
        if meeting is None or Path(meeting).exists():
            raise
        print("ztfmatch worker: the run ended before this worker had begun", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
