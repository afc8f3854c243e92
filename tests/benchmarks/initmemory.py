"""What an init of the survey's references holds in the main process: ``python tests/benchmarks/initmemory.py``.

102,000 references that are not there are said to be found, as dense as the sky is (``surveylist.units``); it ends
where the tasks that write objects are made. Printed are the CPU seconds, how often each seed is read for these, and
the peak memory of the process, and of a process that has read nothing but the names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hpgeom
import numpy as np
import pyarrow as pa
from surveylist import UNITS, Units, references, units

import ztfmatch.core.operations.references as module
from ztfmatch.core.config import StoreConfig
from ztfmatch.core.io.sources import Found
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.seedcounts import GRID_ORDER
from ztfmatch.core.kernels.sphere import lonlats_of
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.runner import Outcome, Runner
from ztfmatch.core.survey import unit_of_code
from ztfmatch.core.tasks.inspect import FOUND_REFERENCES, FoundCatalogs, pack_grid


class _PlannedError(Exception):
    """The tasks are made."""


@dataclass
class _Saying:
    """Says that references were inspected, and stops at the objects."""

    units: Units
    tasks: int = 0
    reads: float = 0.0
    """How often a seed is read to be written."""

    def outcomes(self, job: Any) -> Iterator[Any]:
        if job.title == "objects":
            self.tasks = len(job.tasks)
            read = sum(reference.nrows for task in job.tasks for reference in task.references)
            self.reads = read / int(self.units.seeds.sum())
            raise _PlannedError
        at = 0
        for task in job.tasks:
            rows = [self._row(at + i, catalog.source) for i, catalog in enumerate(task.catalogs)]
            at += len(rows)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, FOUND_REFERENCES) as writer:
                writer.write_table(pa.Table.from_pylist(rows, schema=FOUND_REFERENCES))
            yield Outcome(task.key, FoundCatalogs(sink.getvalue().to_pybytes()))

    def _row(self, i: int, source: str) -> dict[str, Any]:
        unit, seeds = unit_of_code(int(self.units.code[i])), int(self.units.seeds[i])
        ra, dec = (float(value[0]) for value in lonlats_of(self.units.xyz[i : i + 1]))
        pixels = np.sort(hpgeom.query_circle_vec(1 << GRID_ORDER, self.units.xyz[i], np.radians(0.485)))
        each = np.random.default_rng(i).poisson(seeds / len(pixels), len(pixels))
        return {
            "field": unit.field, "rcid": unit.rcid, "fid": unit.fid, "ccdid": unit.ccdid, "qid": unit.qid,
            "rfid": i, "magzp": 26.3, "ra": ra, "dec": dec, "radius": 0.62, "nseeds": seeds, "digest": i,
            "filename": source.rsplit("/", 1)[-1], "source": source, "size": 58 * seeds, "sha256": f"{i:064x}",
            "wrapped": 0, "grid": pack_grid(pixels[each > 0], each[each > 0]),
        }  # fmt: skip


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=int, default=UNITS)
    options = parser.parse_args()
    found = units(options.references)
    names = list(references(found))
    module.find = lambda *_: Found(names, "catalog", [])
    before, started, saying = _peak_mib(), time.process_time(), _Saying(found)
    with tempfile.TemporaryDirectory() as place, contextlib.suppress(_PlannedError):
        init_store(Storage.at(Path(place) / "store"), ["/data"], StoreConfig(), Runner(saying, 4 << 30))
    seconds = time.process_time() - started
    print(json.dumps({"references": len(names), "tasks": saying.tasks, "cpu_s": round(seconds, 1),
                      "reads_of_a_seed": round(saying.reads, 2),
                      "before_mib": round(before), "peak_mib": round(_peak_mib())}))  # fmt: skip


if __name__ == "__main__":
    main()
