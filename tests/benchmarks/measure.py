"""Run a command as a whole process and take its time and peak memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SAMPLE_SECONDS = 0.1
_PROC = Path("/proc")


class CommandFailedError(RuntimeError):
    """A measured command ended with an error."""


@dataclass(frozen=True)
class Measurement:
    """What one run took."""

    wall_s: float
    user_s: float
    system_s: float
    main_rss_mib: float
    """Peak resident memory of the process itself."""
    worker_rss_mib: float | None
    """Largest peak among its descendants; None if it had none, or the platform does not tell."""
    output: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the output."""
        values = asdict(self)
        del values["output"]
        return {name: round(v, 4) if isinstance(v, float) else v for name, v in values.items()}


def own_cpu() -> int | None:
    """CPU that contenders of one core are pinned to: the last that we may use."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def run(command: Sequence[str], log: Path, environment: Mapping[str, str], cpu: int | None = None) -> Measurement:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
    log : Path
        Where its standard output and error go.
    environment : mapping
        All its environment variables.
    cpu : int, optional
        The only CPU that it may use; by default it has all.

    Raises
    ------
    CommandFailedError
        If it exits with an error; the message ends with the end of its output.
    """
    os.sync()
    with log.open("w+", encoding="utf-8") as out:
        started = time.perf_counter()
        with _born_on(cpu):
            quiet = {"ZTFMATCH_PROGRESS_S": "60"}  # what is printed is read
            child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**environment, **quiet})
        with _watch_descendants(child.pid) as peaks:
            _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(encoding="utf-8", errors="replace")
    if child.returncode:
        raise CommandFailedError(f"{' '.join(command)} ended with {child.returncode}: {text[-2000:]}")
    kib = 1024 if sys.platform == "darwin" else 1  # ru_maxrss is in bytes there, in KiB elsewhere
    own = peaks.pop(child.pid, 0) or usage.ru_maxrss // kib
    worker = max(peaks.values(), default=0) / 1024
    return Measurement(wall, usage.ru_utime, usage.ru_stime, own / 1024, worker or None, text)


@contextlib.contextmanager
def _born_on(cpu: int | None) -> Iterator[None]:
    """Pin processes made within to one CPU: they inherit ours, which is given back."""
    if cpu is None:
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


@contextlib.contextmanager
def _watch_descendants(pid: int) -> Iterator[dict[int, int]]:
    """Peak resident KiB of a process and each of its descendants, by pid.

    The kernel keeps each process's peak (VmHWM), so a sample tells the peak of all the time before it: only what
    happens in the last tenth of a second of a process can be missed.
    """
    peaks: dict[int, int] = {}
    done = threading.Event()

    def sample() -> None:
        while True:
            for process in _family(pid):
                peaks[process] = max(peaks.get(process, 0), peak_kib(process))
            if done.wait(_SAMPLE_SECONDS):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    family, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        family.append(process)
        with contextlib.suppress(OSError):
            for thread in (_PROC / str(process) / "task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
    return family


def peak_kib(pid: int) -> int:
    """Peak memory of a process as the kernel has it."""
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
