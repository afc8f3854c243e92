"""What a task costs the main process: ``python tests/benchmarks/tasks.py --number N --seconds S --tree OTHER ...``.

A local cluster of one worker, or of more and by a profile, runs N tasks that do nothing for S seconds. The clock is
the CPU time of the main process, its scheduler and client included, from the first task to the last result. With other
trees of ztfmatch they take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Idle:
    """A task that does nothing for a while."""

    key: str
    seconds: float


def idle(task: Idle) -> dict[str, Any]:
    """Return what a small result is."""
    time.sleep(task.seconds)
    return {"files": [], "counts": [1, 2, 3]}


def measure(number: int, seconds: float, workers: int, cluster: str | None) -> float:
    """Milliseconds of the main process for a task."""
    import tasks  # under a name that workers have, too

    from ztfmatch.core.config import Resources
    from ztfmatch.core.runner import Job, open_runner

    with open_runner(Resources(workers, cluster=cluster)) as runner:
        runner.run(Job("first", tasks.idle, [tasks.Idle(f"first-{i}", 0.0) for i in range(10)], "first"))
        started = time.process_time()
        runner.run(Job("test", tasks.idle, [tasks.Idle(f"task-{i}", seconds) for i in range(number)], "test"))
        return (time.process_time() - started) / number * 1e3


def main() -> None:
    """Measure each tree, in turns, and print the milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--tree", type=Path, action="append", default=[])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cluster", help="a profile, such as one whose workers speak TLS")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--once", action="store_true", help="measure this process's own ztfmatch, once")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(options.number, options.seconds, options.workers, options.cluster)))
        return
    words = [sys.executable, __file__, "--once", "--number", str(options.number), "--seconds", str(options.seconds)]
    words += ["--workers", str(options.workers), *(["--cluster", options.cluster] if options.cluster else [])]
    for _ in range(options.rounds):
        for tree in [*options.tree, _HERE.parents[1]]:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(_HERE)])}
            done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            print(f"{json.loads(done.stdout):6.3f} ms a task, {tree}", flush=True)


if __name__ == "__main__":
    main()
