"""What a tile's task spends on the ledger: ``python tests/benchmarks/ledger.py --against /path/to/another/tree``.

Ledgers of 10,000 to 1,000,000 exposures of 1,200 fields, in files of one night of 40,000. The CPU time of the first
tile of a process, which opens the files, and the mean of 50 tiles of order 6 beside each other, as a worker gets them.
Each tree is measured in processes of its own, which make their own stores.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

NIGHT = 40_000
TILES = 50
COLUMNS = ("exposureid", "field", "rcid", "fid", "obsmjd", "exptime", "magzp", "origin", "quality", "corrections")


def measure(place: Path, exposures: int) -> dict[str, Any]:
    """Milliseconds of CPU of the tree that is imported."""
    from ledgers import store_of_ledgers, survey_rows

    from ztfmatch.core.io.snapshot import open_snapshot
    from ztfmatch.core.kernels.tiling import Tile
    from ztfmatch.core.tasks.ledger import exposures_of_tile

    sizes = [min(NIGHT, exposures - first) for first in range(0, exposures, NIGHT)]
    nights = (survey_rows(size, 58300.0 + number, seed=number) for number, size in enumerate(sizes))
    snapshot = open_snapshot(store_of_ledgers(place, nights).storage)
    snapshot.of_table("exposures")

    def read(tile: Tile) -> int:
        if "snapshot" in inspect.signature(exposures_of_tile).parameters:
            return int(exposures_of_tile(snapshot, tile, COLUMNS).num_rows)
        ledger = snapshot.of_table("exposures")
        return int(exposures_of_tile(snapshot.storage, ledger, tile, COLUMNS).num_rows)  # type: ignore[call-arg, arg-type]

    read(Tile(6, 20_000))
    started = time.process_time()
    rows = [read(Tile(6, 20_000 + number)) for number in range(TILES)]
    later = (time.process_time() - started) / TILES
    return {"exposures": exposures, "tile_ms": round(1e3 * later, 2), "rows": sum(rows) / TILES}


def first_tile(place: Path) -> float:
    """Milliseconds of the first tile of a process that has everything imported."""
    from ztfmatch.core.io.snapshot import open_snapshot
    from ztfmatch.core.io.storage import Storage
    from ztfmatch.core.kernels.tiling import Tile, neighbours
    from ztfmatch.core.tasks.ledger import exposures_of_tile

    snapshot = open_snapshot(Storage.at(place))
    neighbours(snapshot.tiling, Tile(0, 0))  # loads what it is computed with
    ledger = snapshot.of_table("exposures")
    started = time.process_time()
    if "snapshot" in inspect.signature(exposures_of_tile).parameters:
        exposures_of_tile(snapshot, Tile(6, 20_000), COLUMNS)
    else:
        exposures_of_tile(snapshot.storage, ledger, Tile(6, 20_000), COLUMNS)  # type: ignore[call-arg, arg-type]
    return round(1e3 * (time.process_time() - started), 2)


def of_tree(tree: Path, sizes: list[int], workdir: Path) -> list[dict[str, Any]]:
    """Figures of a tree, each in a new process."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=workdir) as place:
            command = [sys.executable, __file__, "--one", str(size), f"{place}/s"]
            runs = [json.loads(subprocess.check_output(command, env=environment, text=True)) for _ in range(2)]
            found.append(runs[0] | {"first_ms": runs[1]})
    return found


def main() -> None:
    """Print a table, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        place = Path(options.one[1])
        print(json.dumps(first_tile(place) if place.exists() else measure(place, int(options.one[0]))))
        return
    trees = [Path(__file__).parents[2], *([options.against] if options.against else [])]
    figures = {str(tree): of_tree(tree, options.sizes, options.workdir) for tree in trees}
    for tree, rows in figures.items():
        print(tree)
        for row in rows:
            print(f"{row['exposures']:>10,} exposures {row['first_ms']:>9} ms first {row['tile_ms']:>9} ms a tile "
                  f"{row['rows']:>9.0f} rows")  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
