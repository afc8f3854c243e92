"""What holds for a whole process is set in commands and workers alone, never in a process that uses the Python API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ztfmatch.core.config import Resources
from ztfmatch.core.runner import Job, open_runner

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="freed memory is kept by glibc alone")

_STATE = """
import gc, json, locale, os, signal, sys
import numba, numpy as np, pyarrow as pa

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def keeps_freed_memory():
    # By itself glibc gives 48 MB back at once: its threshold grows to 32 MB at most. A thread's arena holds 64 MB.
    before = resident_bytes()
    np.ones(6 << 20)
    return resident_bytes() - before > 24 << 20

def state():
    return {
        "environment": dict(os.environ),
        "pool": pa.default_memory_pool().backend_name,
        "threads": [pa.cpu_count(), pa.io_thread_count(), numba.get_num_threads()],
        "numba": [str(numba.config.CACHE_DIR), str(numba.config.CPU_NAME)],
        "numpy": [np.geterr(), np.get_printoptions()["precision"]],
        "collections": [gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()],
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "freed memory is kept": keeps_freed_memory(),
    }
"""

_NOTEBOOK = """
before = state()
import ztfmatch
from ztfmatch.core.config import Resources
from ztfmatch.simulate import SimulationConfig, simulate
place, workers = sys.argv[1], int(sys.argv[2])
simulate(place + "/sky", SimulationConfig(n_exposures=2, stars_per_quadrant=50, fields=(679,), rcids=(16,)))
resources = Resources(workers=workers, memory_bytes=1 << 30)
store = ztfmatch.init_store(place + "/store", place + "/sky/references", resources=resources)
store.append(place + "/sky/catalogs", resources=resources)
for _ in range(2):
    store.update_statistics(resources=resources)
    store.verify(resources=resources)
    store.snapshot().table("statistics")
print(json.dumps([before, state()]))
"""

_COMMAND = """
from click.testing import CliRunner
from ztfmatch.cli import main
assert CliRunner().invoke(main, ["schema"]).exit_code == 0
print(json.dumps(state()))
"""


def run(code: str, *arguments: str, **environment: str) -> Any:
    plain = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    command = [sys.executable, "-c", _STATE + code, *arguments]
    ended = subprocess.run(command, env=plain | environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("workers", [0, 2])
def test_api_changes_nothing_of_the_process_that_uses_it(workers: int, tmp_path: Path) -> None:
    """In a loop in this process, and with processes of workers."""
    before, after = run(_NOTEBOOK, str(tmp_path), str(workers))
    assert after == before
    assert not after["freed memory is kept"]


def test_command_keeps_freed_memory_and_lets_arrow_use_it() -> None:
    state = run(_COMMAND)
    assert (state["pool"], state["environment"]["ARROW_DEFAULT_MEMORY_POOL"]) == ("system", "system")
    assert state["freed memory is kept"]


def test_what_a_process_keeps_is_given_back_when_that_is_asked_for() -> None:
    before, kept, given_back = run(
        "from ztfmatch.core.tasks.heap import give_back_freed_memory, keep_freed_memory\n"
        "keep_freed_memory()\n"
        "sizes = [resident_bytes()]\n"
        "blocks = [np.ones(1 << 10) for _ in range(8_000)]\n"
        "least = blocks[::100]\n"  # between them memory is free
        "del blocks\n"
        "sizes.append(resident_bytes())\n"
        "give_back_freed_memory()\n"
        "print(json.dumps([*sizes, resident_bytes()]))"
    )
    assert kept - before > 60 << 20
    assert given_back - before < 16 << 20


def test_command_leaves_the_pool_that_the_user_chose() -> None:
    assert run(_COMMAND, ARROW_DEFAULT_MEMORY_POOL="mimalloc")["pool"] == "mimalloc"


def test_command_loads_pandas_only_where_it_is_needed() -> None:
    before, after = run(
        _COMMAND + "before = 'pandas' in sys.modules\n"
        "print(json.dumps([before, pa.table({'x': [1, 2]}).to_pandas()['x'].sum().item()]))"
    )
    assert not before
    assert after == 3


@dataclass(frozen=True)
class Look:
    """A task that looks at its process."""

    key: str


def look(task: Look) -> dict[str, Any]:
    """As :data:`_STATE` tells of the process that this runs in."""
    namespace: dict[str, Any] = {}
    exec(_STATE, namespace)
    return {**namespace["state"](), "process": os.getpid()}


def test_worker_keeps_freed_memory_and_lets_arrow_use_it() -> None:
    with open_runner(Resources(workers=2)) as runner:
        (state,) = runner.run(Job("looking", look, [Look("look")], "look"))
    assert state["process"] != os.getpid()
    assert state["pool"] == "system"
    assert state["freed memory is kept"]
