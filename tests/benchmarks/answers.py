"""Rates of large answers on the command line, beside pyarrow's writer of CSV, and what forty rows on a terminal cost.

Run as: python tests/benchmarks/answers.py STORE --cone RA DEC RADIUS [--repeat 3]

STORE is any store, such as that of ``ztfmatch demo`` (its stars are about 247.083 32.955). Figures are CPU seconds; the
start of the command, an empty cone, is taken off its rates.
"""

from __future__ import annotations

import argparse
import os
import pty
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.csv

import ztfmatch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--cone", nargs=3, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    for _ in range(given.repeat):  # first, since a process counts what its parent held when it was started
        seconds, first, peak = _on_terminal(given.store, given.cone)
        print(f"on a terminal {seconds:.1f} s, first line after {first:.1f} s, {peak / 1024:,.0f} MiB at most")
    rows = ztfmatch.open_store(given.store).snapshot().lightcurves(cone=tuple(given.cone))
    with tempfile.TemporaryDirectory() as place:
        for _ in range(given.repeat):
            start = _cpu(given.store, ["10", "-80", "1", "-f", "csv"])[0]
            began = time.process_time()
            pyarrow.csv.write_csv(rows, Path(place) / "theirs.csv")
            theirs = rows.num_rows / (time.process_time() - began)
            ours = rows.num_rows / (_cpu(given.store, [*given.cone, "-f", "csv"])[0] - start)
            table = rows.num_rows / (_cpu(given.store, [*given.cone])[0] - start)
            print(f"{rows.num_rows:,} rows: CSV {ours:,.0f} rows/s, pyarrow's writer alone {theirs:,.0f}, "
                  f"ratio {theirs / ours:.2f}; table into a pipe {table:,.0f} rows/s")  # fmt: skip


def _words(store: str, rest: list[str]) -> list[str]:
    return [sys.executable, "-m", "ztfmatch", "lightcurve", store, "--cone", *rest]


def _cpu(store: str, rest: list[str]) -> tuple[float, float]:
    """CPU seconds of a command whose output goes into a pipe."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(_words(store, rest), check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss


def _on_terminal(store: str, cone: list[str]) -> tuple[float, float, float]:
    """Wall seconds of a command on a terminal, those to its first line, and its largest memory in KiB."""
    near, far = pty.openpty()
    began = time.monotonic()
    process = subprocess.Popen(_words(store, cone), stdout=far, stderr=far)
    os.close(far)
    first = 0.0
    while _read(near):
        first = first or time.monotonic() - began
    _, _, usage = os.wait4(process.pid, 0)
    os.close(near)
    return time.monotonic() - began, first, usage.ru_maxrss


def _read(stream: int) -> bytes:
    try:
        return os.read(stream, 65536)
    except OSError:  # the other end is closed
        return b""


if __name__ == "__main__":
    main()
