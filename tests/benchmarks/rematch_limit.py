"""Read the Parquet files that a rematch replaced and write those that it wrote, with nothing in between.

Called by ``run.py`` as a process of its own. The clock runs while all columns of the replaced files are read and
decoded, without the store's checks; while the very tables of the rematched store are encoded with the store's own
writer; and while the files are written and forced to disk. It stands still while these tables are loaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
from limit import Clock, force_to_disk, write_bytes

from ztfmatch.core.io.encoding import encode
from ztfmatch.core.io.sealed import seal
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import TABLES


def changed_files(before: Path, after: Path) -> tuple[list[str], list[str]]:
    """Live files of a store that another has no more, and those that it has instead."""
    old, new = (set(open_snapshot(Storage.at(store)).files.paths()) for store in (before, after))
    return sorted(old - new), sorted(new - old)


def main(before: Path, after: Path, out: Path) -> None:
    """Do it, file after file; print one line of JSON."""
    gone, fresh = changed_files(before, after)
    clock, written, same, rows = Clock(), [], True, 0
    out.mkdir(parents=True)
    for path in gone:
        table = clock.time("read", lambda path=path: pq.ParquetFile(before / path).read(use_threads=False))
        rows += table.num_rows if path.split("/")[1] in ("detections", "orphans") else 0
        del table
    for path in fresh:
        name, file = path.split("/")[1], after / path
        table = pq.ParquetFile(file).read().combine_chunks()
        buffer = clock.time("encode", lambda name=name, table=table: encode(TABLES[name], table))
        written.append(out / f"{name}-{file.name}")
        clock.time("write", lambda path=written[-1], buffer=buffer: write_bytes(path, buffer))
        same &= b"".join(bytes(part) for part in seal(buffer).parts) == file.read_bytes()
    clock.time("sync", lambda: force_to_disk(written))
    print(
        json.dumps(
            {
                "seconds": sum(clock.seconds.values()),
                "parts": clock.seconds,
                "rows_read": rows,
                "bytes_read": sum((before / path).stat().st_size for path in gone),
                "bytes_written": sum(path.stat().st_size for path in written),
                "same_files": same,
            }
        )
    )


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
