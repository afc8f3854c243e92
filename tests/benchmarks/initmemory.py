"""What an init of the survey's references holds in the main process: ``python tests/benchmarks/initmemory.py``.

102,000 references that are not there are said to be found, as dense as the sky is (``surveylist.units``), and the
objects of each tile to be written; it ends where the tasks that link them are made. The process is set up as that of a
command with workers, and has loaded Dask. Printed are the CPU seconds of it all and, apart, of its last part from where
the references are read; how often each seed is read to be written; and the peak memory of the process, and before it
read anything but the names.
"""

from __future__ import annotations

import asacommand  # noqa: F401

# isort: split
import argparse
import contextlib
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hpgeom
import numpy as np
import pyarrow as pa
from measure import peak_kib
from surveylist import UNITS, Units, references, units

import ztfmatch.core.operations.references as module
from ztfmatch.core.config import StoreConfig
from ztfmatch.core.io import paths
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.sources import Found
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.seedcounts import GRID_ORDER
from ztfmatch.core.kernels.sphere import lonlats_of
from ztfmatch.core.operations.forecastunits import image_corners
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.runner import Outcome, Runner
from ztfmatch.core.survey import unit_of_code
from ztfmatch.core.tasks.inspect import FOUND_REFERENCES, FoundCatalogs, pack_grid
from ztfmatch.core.tasks.results import WrittenObjects
from ztfmatch.core.tasks.seeds import SeedTask


class _PlannedError(Exception):
    """The tasks are made."""


@dataclass
class _Saying:
    """Says that references were inspected and objects written, and stops at the stars."""

    units: Units
    tasks: int = 0
    reads: float = 0.0
    """How often a seed is read to be written."""
    read_s: float = 0.0
    """CPU seconds at which all references were said to be read."""

    def outcomes(self, job: Any) -> Iterator[Any]:
        if job.title == "stars":
            raise _PlannedError
        if job.title == "objects":
            yield from map(self._written, job.tasks)
            return
        at = 0
        for task in job.tasks:
            rows = [self._row(at + i, catalog.source) for i, catalog in enumerate(task.catalogs)]
            at += len(rows)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, FOUND_REFERENCES) as writer:
                writer.write_table(pa.Table.from_pylist(rows, schema=FOUND_REFERENCES))
            yield Outcome(task.key, FoundCatalogs(sink.getvalue().to_pybytes()))
        self.read_s = time.process_time()

    def _written(self, task: SeedTask) -> Outcome[WrittenObjects]:
        self.tasks += 1
        self.reads += sum(reference.nrows for reference in task.references) / int(self.units.seeds.sum())
        tile, digest = task.tile, f"{self.tasks:064x}"
        path = paths.data_file("objects", tile, 0, task.part)
        ids = (self.tasks * 10**12, self.tasks * 10**12 + 1)
        file = DataFile("objects", tile.order, tile.npix, path, 1, 1, *ids, None, None, digest, 0, 1, digest[-32:])
        return Outcome(task.key, WrittenObjects([file], 1))

    def _row(self, i: int, source: str) -> dict[str, Any]:
        unit, seeds = unit_of_code(int(self.units.code[i])), int(self.units.seeds[i])
        ra, dec = (float(value[0]) for value in lonlats_of(self.units.xyz[i : i + 1]))
        pixels = hpgeom.query_polygon_vec(1 << GRID_ORDER, image_corners(unit).T)
        each = np.random.default_rng(i).poisson(seeds / len(pixels), len(pixels))
        return {
            "field": unit.field, "rcid": unit.rcid, "fid": unit.fid, "ccdid": unit.ccdid, "qid": unit.qid,
            "rfid": i, "magzp": 26.3, "ra": ra, "dec": dec, "radius": 0.62, "nseeds": seeds, "digest": i,
            "filename": source.rsplit("/", 1)[-1], "source": source, "size": 58 * seeds, "sha256": f"{i:064x}",
            "wrapped": 0, "grid": pack_grid(pixels[each > 0], each[each > 0]),
        }  # fmt: skip


def _peak_mib() -> float:
    return peak_kib(os.getpid()) / 1024  # getrusage would tell that of the process that started this, if it is larger


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=int, default=UNITS)
    options = parser.parse_args()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:  # what it takes is none of init's
        found = alone.submit(units, options.references).result()
    names = list(references(found))
    module.find = lambda *_: Found(names, "catalog", [])
    before, started, saying = _peak_mib(), time.process_time(), _Saying(found)
    with tempfile.TemporaryDirectory() as place, contextlib.suppress(_PlannedError):
        init_store(Storage.at(Path(place) / "store"), ["/data"], StoreConfig(), Runner(saying, 4 << 30))
    ended = time.process_time()
    print(json.dumps({"references": len(names), "tasks": saying.tasks, "cpu_s": round(ended - started, 1),
                      "after_reading_s": round(ended - saying.read_s, 1), "reads_of_a_seed": round(saying.reads, 2),
                      "before_mib": round(before), "peak_mib": round(_peak_mib())}))  # fmt: skip


if __name__ == "__main__":
    main()
