"""The process that local workers are forked from."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ztfmatch.core import prefork
from ztfmatch.core.tasks.ownprocess import ONE_THREAD

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")


def test_preloaded_process_has_started_no_thread_of_its_own() -> None:
    """Forking a process with threads may hang the child: only numba's and the allocator's idle helpers are allowed."""
    code = (
        "import os, threading; import distributed, ztfmatch.core.tasks.preload;"
        "print(threading.active_count(), len(os.listdir('/proc/self/task')))"
    )
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    python_threads, system_threads = map(int, done.stdout.split())
    assert python_threads == 1
    assert system_threads <= 2


def test_start_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert prefork.start() == "forkserver"
    assert prefork.start() == "forkserver"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
