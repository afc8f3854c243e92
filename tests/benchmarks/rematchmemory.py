"""What a rematch of the survey's size is planned in: ``python tests/benchmarks/rematchmemory.py --workdir W``.

A store that has nothing but 102,000 references, their tiles, and the ledger of 104 exposures of every eighth unit, of
which all get a new reference. Printed are the CPU seconds of the plan and of its tasks, and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from surveylist import UNITS, make_store, units

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

EXPOSURES = 104
EVERY = 8


def add_ledger(place: Path, number: int, every: int = EVERY) -> None:
    """Append the exposures of every eighth unit, or other part, in files of a night's size."""
    from ledgers import ledger_rows

    from ztfmatch.core.io import log
    from ztfmatch.core.io.parquet import Destination, write_file
    from ztfmatch.core.io.snapshot import open_snapshot
    from ztfmatch.core.io.storage import Storage
    from ztfmatch.core.kernels.sphere import lonlats_of
    from ztfmatch.core.schema import EXPOSURES as LEDGER

    found = units(number)
    found = found.of(np.arange(0, len(found.code), every))
    ra, dec = lonlats_of(found.xyz)
    storage = Storage.at(place)
    files = []
    for night in range(EXPOSURES):
        fracday = (20180101 + night % 28 + 100 * (night // 28)) * 10**6 + np.arange(len(ra))
        names = [f"/data/ztf/sci/{day}_psfcat.fits" for day in fracday.tolist()]
        rows = ledger_rows(
            exposureid=fracday * 100 + found.code // 4 % 64, fracday=fracday, field=found.code // 256,
            rcid=found.code // 4 % 64, fid=found.code % 4, ccdid=np.ones(len(ra)), qid=np.ones(len(ra)),
            obsmjd=58300.0 + night + np.arange(len(ra)) * 1e-6, programid=np.ones(len(ra), np.int8),
            magzp=np.full(len(ra), 26.0), ra=ra, dec=dec, radius=np.degrees(found.radius),
            nrows=(0.39 * found.seeds).astype(np.int64), nmatched=np.zeros(len(ra)), norphans=np.zeros(len(ra)),
            source=names, filename=names, sha256=names,
        )  # fmt: skip
        files.append(write_file(Destination(storage, LEDGER, None, 1, f"{night:05d}"), rows))
    log.commit(storage, open_snapshot(storage).commit, log.Change("append", "1" * 32, {}, {}, files))


def measure(place: Path) -> dict[str, Any]:
    """Plan."""
    from ztfmatch.core.io.snapshot import open_snapshot
    from ztfmatch.core.io.storage import Storage
    from ztfmatch.core.operations.rematchplan import plan_rematch, rematch_tasks, retire_tasks
    from ztfmatch.core.schema import REFERENCES

    snapshot = open_snapshot(Storage.at(place))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = snapshot.read(REFERENCES.name)
    rows = rows.take(pa.array(np.arange(0, rows.num_rows, EVERY))).to_pylist()
    started = time.process_time()
    plan = plan_rematch(snapshot, [{**row, "generation": 1} for row in rows], "0" * 32)
    planned = time.process_time()
    tasks = [*rematch_tasks(plan, 6_000_000, True), *retire_tasks(plan)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "references": len(rows), "exposures": len(plan.exposures), "tasks": len(tasks),
        "plan_s": round(planned - started, 1), "tasks_s": round(time.process_time() - planned, 1),
        "before_mib": round(before), "peak_mib": round(peak),
    }  # fmt: skip


def main() -> None:
    """Make the store, once; measure in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--units", type=int, default=UNITS)
    options = parser.parse_args()
    place = options.workdir / f"rematch-{options.units}"
    if not place.exists():
        try:
            make_store(place, units(options.units))
            add_ledger(place, options.units)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        print("made; run it again to measure")
        return
    print(json.dumps(measure(place)))


if __name__ == "__main__":
    main()
