"""What planning an append costs the main process: ``python tests/benchmarks/planning.py --catalogs N --tree OTHER``.

Catalogs that are not there are said to be found, of 64 channels and 3 filters in each of 50 fields. The clock counts
the CPU time from when they are inspected to when the tasks of matching are made; memory is how far the peak grows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_PER_TASK = 32


class _PlannedError(Exception):
    """The tasks are made."""


def _row(i: int) -> dict[str, Any]:
    channel, place, night = i % 64, i // 64 % 150, i // 9600
    row = dict.fromkeys(("expid", "magzpunc", "clrcoeff", "clrcounc", "pcolor", "seeing", "maglimit", "infobits"))
    fracday = (20180101 + night % 28) * 10**6 + place * 6000 + night // 28
    name = f"ztf_{fracday}_{300 + place // 3:06d}_zg_c{channel // 4 + 1:02d}_o_q{channel % 4 + 1}_psfcat.fits"
    return row | {
        "exposureid": fracday * 100 + channel, "fracday": fracday, "field": 300 + place // 3, "rcid": channel,
        "fid": place % 3 + 1, "ccdid": channel // 4 + 1, "qid": channel % 4 + 1, "obsmjd": 58000.0 + fracday * 1e-6,
        "exptime": 30.0, "programid": 1, "magzp": 26.0, "magzprms": 0.03, "nmatches": 500, "airmass": 1.2,
        "ra": 7.0 * (place // 3) + channel % 8 * 0.85, "dec": 20.0 + channel // 8 * 0.85, "radius": 0.62,
        "nrows": 17000, "nrejected": 0, "nrejectednan": 0, "nrejectedrange": 0, "digest": i,
        "filename": name, "source": f"/data/ztf/sci/2018/0101/{fracday % 10**6:06d}/{name}", "size": 900000,
        "sha256": f"{i:064x}",
    }  # fmt: skip


@dataclass
class _Planning:
    """Says that catalogs were inspected, and stops at the matching."""

    started: float = 0.0
    rss_kib: int = 0
    seconds: float = field(default=0.0)

    def outcomes(self, job: Any) -> Iterator[Any]:
        from ztfmatch.core.runner import Outcome

        if job.title == "matching":
            self.seconds = time.process_time() - self.started
            raise _PlannedError
        self.rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for k, task in enumerate(job.tasks):
            yield Outcome(task.key, _inspected([_row(k * _PER_TASK + i) for i in range(len(task.catalogs))]))
        self.started = time.process_time()


def _inspected(rows: list[dict[str, Any]]) -> Any:
    """What a task returns, in this tree or in one before."""
    import pyarrow as pa

    from ztfmatch.core.tasks import inspect

    if not hasattr(inspect, "FOUND"):
        return inspect.Inspected([{**row, "origin": "catalog"} for row in rows], [])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, inspect.FOUND) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=inspect.FOUND))
    return inspect.FoundCatalogs(sink.getvalue().to_pybytes())


def measure(number: int) -> dict[str, float]:
    """Milliseconds and bytes of a catalog."""
    import ztfmatch.core.operations.append as module
    from ztfmatch.core.config import StoreConfig
    from ztfmatch.core.io.sources import Found
    from ztfmatch.core.io.storage import Storage
    from ztfmatch.core.operations.init import init_store
    from ztfmatch.core.runner import LoopExecutor, Runner

    with tempfile.TemporaryDirectory() as place:
        sys.path.insert(0, str(_HERE))
        import nights

        nights.write_references(Path(place) / "references")
        storage = Storage.at(Path(place) / "store")
        init_store(storage, [f"{place}/references"], StoreConfig(), Runner(LoopExecutor(), 2 << 30))
        names = [f"/data/ztf/sci/2018/0101/{i:012d}_psfcat.fits" for i in range(number)]
        module.find = lambda *_: Found(names, "catalog", [])
        planning = _Planning()
        with contextlib.suppress(_PlannedError):
            module.append_catalogs(storage, ["/data"], module.AppendConfig(), Runner(planning, 4 << 30))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - planning.rss_kib
    return {"ms": planning.seconds / number * 1e3, "bytes": grown * 1024 / number}


def main() -> None:
    """Measure each tree, in turns, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalogs", type=int, default=40_000)
    parser.add_argument("--tree", type=Path, action="append", default=[])
    parser.add_argument("--once", action="store_true", help="measure this process's own ztfmatch, once")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(options.catalogs)))
        return
    words = [sys.executable, __file__, "--once", "--catalogs", str(options.catalogs)]
    for tree in [*options.tree, _HERE.parents[1]]:
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        got = json.loads(done.stdout)
        print(f"{got['ms']:6.3f} ms and {got['bytes']:6.0f} bytes a catalog, {tree}", flush=True)


if __name__ == "__main__":
    main()
