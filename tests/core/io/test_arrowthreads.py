"""Arrow's threads and the end of Python."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pytest

from ztfmatch.core.io import arrowthreads
from ztfmatch.core.io.parquet import Destination, write_file
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import STATISTICS

ABANDON = """
import atexit, sys, threading
import pyarrow as pa
import pyarrow.dataset as ds
from ztfmatch.core.io.sealed import SealedFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import STATISTICS

storage, files = Storage.at(sys.argv[1]), [DataFile(**eval(text)) for text in sys.argv[2:]]
ended, reading, inside = threading.Event(), threading.Event(), []
read = SealedFile.read_buffer

def read_until_the_end(self, size=-1):
    if self._file.path != files[0].path:
        inside.append(1)
        reading.set()
        ended.wait(60)
        data = read(self, size)
        inside.pop()
        return data
    return read(self, size)

class Snapshot(SnapshotFiles):
    def of_table(self, table):
        return files

SealedFile.read_buffer = read_until_the_end
atexit.register(lambda: print(len(inside), "reads go on"))  # comes last
dataset = Snapshot(storage, None, None).dataset(STATISTICS.name)
atexit.register(ended.set)  # comes first
print(dataset.scanner().to_reader().read_next_batch().num_rows, "rows", reading.wait(60))
"""
"""Take the first batch of a dataset of two files while Arrow reads the second one ahead, and end."""


def test_dataset_that_is_read_ahead_at_the_end_of_python_aborts_nothing(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    rows = pa.Table.from_pylist([dict.fromkeys(STATISTICS.names, 0)] * 10, STATISTICS.schema)
    files = [write_file(Destination(storage, STATISTICS, Tile(2, 5), 3, part), rows) for part in "ab"]
    ended = subprocess.run(
        [sys.executable, "-c", ABANDON, str(tmp_path), *(str(asdict(file)) for file in files)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["10 rows True", "0 reads go on"]
    assert ended.returncode == 0


def test_task_counters_are_those_of_this_arrow() -> None:
    assert [tasks() for tasks in arrowthreads.task_counters()] == [0, 0]
    assert arrowthreads.wait_for_threads()


def test_wait_for_threads_of_an_endless_task_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrowthreads, "task_counters", lambda: (lambda: 1,))
    assert not arrowthreads.wait_for_threads(longest_s=0.0)
