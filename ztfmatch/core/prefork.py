"""Start a local cluster's workers as forks of one process that is ready for tasks.

A worker that starts from nothing imports and loads for two seconds, and every worker does it anew. The fork server of
Python's multiprocessing does it once, while this process is still setting up the cluster.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from multiprocessing import forkserver
from typing import Final

from ztfmatch.core.tasks.ownprocess import ONE_THREAD

_PRELOADED: Final = ["distributed", "ztfmatch.core.tasks.preload"]


def start() -> str:
    """Start the process to fork workers from, and return the start method to ask Dask for.

    Returns at once: that process gets ready meanwhile. Where forking is not safe (all but Linux) it is ``spawn``.
    """
    if not sys.platform.startswith("linux"):
        return "spawn"
    multiprocessing.set_forkserver_preload(_PRELOADED)
    with kept_environment(ONE_THREAD):  # a process that is to be forked must not have started threads
        os.environ.update(ONE_THREAD)
        forkserver.ensure_running()
    return "forkserver"


@contextlib.contextmanager
def kept_environment(names: Iterable[str]) -> Iterator[None]:
    """Give some variables of the environment back the values that they had, or none, at the end."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
