"""What it costs that the writer of a file forces it to disk: ``python tests/benchmarks/fsync.py DIRECTORY``.

Files of 400 kB are written below the directory, by one process, and are all on disk at the end: forced one by one as
each is written (``writer``), or all together after the last (``commit``). The two take turns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

from ztfmatch.core.io.storage import Storage, forced_writes

SIZE_BYTES = 400_000


def measure(root: Path, number: int, forced: bool) -> tuple[float, float]:
    """Milliseconds of a file: wall and CPU."""
    storage, content = Storage.at(root), os.urandom(SIZE_BYTES)
    names = [f"data/detections/Norder=5/Dir=0/Npix={i % 200}/{i}.parquet" for i in range(number)]
    started, used = time.perf_counter(), time.process_time()
    with forced_writes(forced):
        for name in names:
            storage.put(name, content)
    storage.sync(names)
    return (time.perf_counter() - started) / number * 1e3, (time.process_time() - used) / number * 1e3


def main() -> None:
    """Measure both, in turns, and print the milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--number", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for _ in range(options.rounds):
        for who in ("commit", "writer"):
            root = options.directory / f"fsync-{os.getpid()}"
            wall, cpu = measure(root, options.number, who == "writer")
            shutil.rmtree(root)
            print(f"{who}: {wall:.2f} ms a file, {cpu:.2f} ms of CPU", flush=True)


if __name__ == "__main__":
    main()
