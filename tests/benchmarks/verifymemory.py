"""What verify's main process holds for the survey: ``python tests/benchmarks/verifymemory.py --workdir W``.

It compares what the tiles hold with the ledger of 10.6 million exposures of a store that has nothing else; the sums of
its 18,400 tiles are made up, each of 2,100 exposures. Printed are the CPU seconds and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rematchmemory import add_ledger
from surveylist import UNITS, make_store, units

from ztfmatch.core.io.merge import Arrays
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.findings import Found
from ztfmatch.core.operations.verifysums import check_sums

TILES = 18_400
EXPOSURES_OF_A_TILE = 2_100
UNITS_OF_A_TILE = 20


def sums(snapshot: SnapshotFiles) -> Iterator[Arrays]:
    """Of each tile, in which some exposures of one file of the ledger have no rows."""
    rng = np.random.default_rng(0)
    for number, file in enumerate(snapshot.ledger):
        ids = read_file_rows(snapshot.storage, file, ["exposureid"])["exposureid"].to_numpy()
        for _ in range(number, TILES, len(snapshot.ledger)):
            some = np.unique(rng.choice(ids, EXPOSURES_OF_A_TILE))
            none, of_units = np.zeros(len(some), np.int64), np.zeros(UNITS_OF_A_TILE, np.int64)
            yield {"exposureid": some, "matched": none, "orphans": none, "digest": none.astype(np.uint64),
                   "unit": of_units, "objects": of_units}  # fmt: skip


def _peak_mib() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Make the store, once; measure in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--units", type=int, default=UNITS)
    options = parser.parse_args()
    place = options.workdir / f"verify-{options.units}"
    if not place.exists():
        try:
            make_store(place, units(options.units))
            add_ledger(place, options.units, 1)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        print("made; run it again to measure")
        return
    snapshot, before, started = open_snapshot(Storage.at(place)), _peak_mib(), time.process_time()
    check_sums(snapshot, sums(snapshot), Found())
    print(json.dumps({"exposures": snapshot.rows("exposures"), "before_mib": before, "peak_mib": _peak_mib(),
                      "cpu_s": round(time.process_time() - started, 1)}))  # fmt: skip


if __name__ == "__main__":
    main()
