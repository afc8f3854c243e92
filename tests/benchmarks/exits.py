"""How a command ends, run over and over: exit codes and sizes of its output, counted.

    python tests/benchmarks/exits.py RUNS query STORE --select lightcurves --format csv

A thread that reads on while Python ends can abort the process after all of its output (exit code 134, here -6), now and
then on a busy machine. Each run is a fork of one process that has imported everything, and ends as Python ends: a third
of a second of one core, so that thousands can be had. To compare another version, put its tree first in PYTHONPATH.
"""

from __future__ import annotations

import collections
import importlib
import json
import os
import sys
import tempfile
import time

os.environ |= dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)  # forks want no threads

from ztfmatch.cli import main

SHOWN_RUNS = 50


def run(arguments: list[str], output: int, modules: int | None = None) -> int:
    """Exit code of the command in a fork, negative for a signal; its output, and the names it imported, to files."""
    pid = os.fork()
    if pid == 0:
        os.dup2(output, 1)
        try:
            main(arguments)
        finally:
            if modules is not None:
                os.write(modules, json.dumps(list(sys.modules)).encode())
        sys.exit(99)  # never: main ends Python itself
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def import_all(arguments: list[str]) -> None:
    """Import what the command imports."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as modules:
        run(arguments, output.fileno(), modules.fileno())
        modules.seek(0)
        for name in json.load(modules):
            importlib.import_module(name)


def show(runs: int, arguments: list[str]) -> None:
    """Run the command, and print what came of it now and then."""
    import_all(arguments)
    ends: collections.Counter[tuple[int, int]] = collections.Counter()
    began = time.monotonic()
    for number in range(1, runs + 1):
        with tempfile.TemporaryFile() as output:
            ends[run(arguments, output.fileno()), os.fstat(output.fileno()).st_size] += 1
        if number % SHOWN_RUNS == 0 or number == runs:
            told = ", ".join(f"{count} exit {code} after {size} bytes" for (code, size), count in ends.items())
            print(f"{number} runs in {time.monotonic() - began:.0f} s: {told}", flush=True)


if __name__ == "__main__":
    show(int(sys.argv[1]), sys.argv[2:])
