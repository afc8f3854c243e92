"""Read the FITS bytes and write the Parquet files of a finished store, with nothing in between.

Called by ``run.py`` as a process of its own. The clock runs while the bytes of the catalogs are read, while the very
tables of the store are encoded with the store's own writer, and while the files are written and forced to disk. It
stands still while the tables are loaded from the finished store, which no append has to do.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.io.encoding import encode
from ztfmatch.core.schema import TABLES

_TABLES = ("exposures", "orphans", "detections")
_CHUNK = 1 << 24


class Clock:
    """Seconds spent in each part of the work."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("read", "encode", "write", "sync"), 0.0)

    def time(self, part: str, action: Callable[[], Any]) -> Any:
        """Do something on the clock."""
        started = time.perf_counter()
        result = action()
        self.seconds[part] += time.perf_counter() - started
        return result


def read_bytes(paths: list[Path]) -> int:
    """Read whole files; return how many bytes."""
    held = 0
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        size = os.fstat(handle).st_size
        data = os.read(handle, size)
        os.close(handle)
        held += np.frombuffer(data, np.uint8).size
    return held


def write_bytes(path: Path, buffer: pa.Buffer) -> None:
    """Write a file, not yet forced to disk."""
    with path.open("wb", buffering=0) as file:
        view = memoryview(buffer)
        while view:
            view = view[file.write(view[:_CHUNK]) :]


def force_to_disk(paths: list[Path]) -> None:
    """Sync files, then their directory."""
    for path in [*paths, *{path.parent for path in paths}]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def main(catalogs: Path, store: Path, out: Path) -> None:
    """Do it, file after file, each preceded by its share of the catalogs; print one line of JSON."""
    sources = sorted(catalogs.rglob("*_psfcat.fits"))
    files = [(name, file) for name in _TABLES for file in sorted((store / "data" / name).rglob("*.parquet"))]
    shares = np.array_split(np.arange(len(sources)), len(files))
    clock, written, same, read = Clock(), [], True, 0
    out.mkdir(parents=True)
    for (name, file), share in zip(files, shares, strict=True):
        table = pq.ParquetFile(file).read().combine_chunks()
        mine = [sources[i] for i in share]
        read += clock.time("read", lambda mine=mine: read_bytes(mine))
        buffer = clock.time("encode", lambda name=name, table=table: encode(TABLES[name], table))
        written.append(out / f"{name}-{file.name}")
        clock.time("write", lambda path=written[-1], buffer=buffer: write_bytes(path, buffer))
        same &= buffer.equals(pa.py_buffer(file.read_bytes()))
    clock.time("sync", lambda: force_to_disk(written))
    print(
        json.dumps(
            {
                "seconds": sum(clock.seconds.values()),
                "parts": clock.seconds,
                "bytes_read": read,
                "bytes_written": sum(path.stat().st_size for path in written),
                "same_files": same,
            }
        )
    )


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
