"""A worker that the network cuts off in the middle of a task: it is replaced, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import Judge, append_rest, copy, init, make_sky
from tcpgate import Gate

from ztfmatch.core.io.log import commit_numbers
from ztfmatch.core.io.storage import Storage

DASK = [sys.executable, "-m", "dask"]
SOON = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}

FAR = """
import functools, os
import ztfmatch.core.tasks.match

there, matched = {place!r}, ztfmatch.core.tasks.match.match_group
matched = getattr(matched, "__wrapped__", matched)  # Dask loads this again and again

@functools.wraps(matched)
def match_group(task):
    open(there + "/began", "w").close()
    while not os.path.exists(there + "/cut"):
        pass
    result = matched(task)
    open(there + "/wrote", "w").close()
    return result

ztfmatch.core.tasks.match.match_group = match_group
"""
"""Loaded by the worker that is cut off: it begins a task, is cut off, and works on, as it does not know."""


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()


@contextlib.contextmanager
def started(*words: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    given = [str(word) for word in words]
    process = subprocess.Popen(given, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def announced(process: subprocess.Popen[str], pattern: str) -> int:
    """Port that a process says."""
    assert process.stderr is not None
    return int(next(found[1] for line in process.stderr if (found := re.search(pattern, line))))


def free_port() -> int:
    with Gate(0) as gate:
        return gate.port


@pytest.mark.timeout(180)
def test_worker_cut_off_in_a_task_is_replaced_and_nothing_is_doubled(tmp_path: Path) -> None:
    sky = make_sky(tmp_path)
    init(tmp_path / "store", sky)
    append_rest(copy(tmp_path / "store", tmp_path / "undisturbed"), sky)
    (tmp_path / "far.py").write_text(FAR.format(place=str(tmp_path)))
    own = free_port()
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(
            started(*DASK, "scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", **SOON)
        )
        port = announced(scheduler, r"tcp://127.0.0.1:(\d+)")
        there, back = stack.enter_context(Gate(port)), stack.enter_context(Gate(own))
        worker = (*DASK, "worker", "--no-nanny", "--no-dashboard", "--nthreads", 1, "--local-directory", tmp_path)
        far = (f"tcp://127.0.0.1:{there.port}", "--preload", tmp_path / "far.py", "--listen-address",
               f"tcp://127.0.0.1:{own}", "--contact-address", f"tcp://127.0.0.1:{back.port}")  # fmt: skip
        stack.enter_context(started(*worker, *far))
        append = (sys.executable, "-m", "ztfmatch", "append", tmp_path / "store", *sky.catalogs,
                  "--scheduler", f"tcp://127.0.0.1:{port}")  # fmt: skip
        main = stack.enter_context(started(*append))
        wait_for(tmp_path / "began", main)
        there.cut()
        back.cut()
        (tmp_path / "cut").touch()
        wait_for(tmp_path / "wrote", main)
        stack.enter_context(started(*worker, f"tcp://127.0.0.1:{port}"))
        said = main.communicate(timeout=120)[1]
        assert main.returncode == 0, said
    assert there.passed > 0
    assert commit_numbers(Storage.at(tmp_path / "store")) == [0, 1]
    assert Judge().content(tmp_path / "store") == Judge().content(tmp_path / "undisturbed")
