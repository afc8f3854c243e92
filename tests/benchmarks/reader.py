"""How long the raw read of one epochal catalog takes, beside astropy's and the disk's: prints a table.

    python tests/benchmarks/reader.py [--rows 17000] [--repeat 200]

Each figure is the median over the repeats, in one process that has read the file before. "Read and check" is what
``append`` does first: bytes, SHA-256, header, layout, identity, sourceids. astropy's is ``fits.open`` with the columns
that the store keeps turned to native byte order.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

from ztfmatch.core.io.catalogs import read_epochal
from ztfmatch.core.kernels.rows import MEASURED, summarise
from ztfmatch.simulate import benchmark_unit

TARGET_MS = 2.0


def with_astropy(path: str) -> list[np.ndarray]:
    """Columns of the catalog by astropy, native."""
    with fits.open(path, memmap=False) as hdus:
        table = hdus[1].data
        return [table[source].astype(table[source].dtype.newbyteorder("=")) for source, _ in MEASURED.values()]


def median_ms(work: Callable[[], object], repeat: int) -> float:
    """Median wall time in milliseconds."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=17_000)
    parser.add_argument("--repeat", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        benchmark_unit(Path(place) / "unit", 1, options.rows)
        path = next((Path(place) / "unit" / "catalogs").rglob("*_psfcat.fits"))
        rows = len(read_epochal(str(path)).records)
        figures = {
            "bytes from the page cache": median_ms(path.read_bytes, options.repeat),
            "read and check": median_ms(lambda: read_epochal(str(path)), options.repeat),
            "read, check and digest": median_ms(lambda: summarise(read_epochal(str(path)).records), options.repeat),
            "astropy": median_ms(lambda: with_astropy(str(path)), max(options.repeat // 10, 3)),
        }
    print(f"{rows:,} rows, {rows * 58 / 1e6:.2f} MB; median of {options.repeat}")
    for name, value in figures.items():
        print(f"{name:28}{value:8.2f} ms")
    met = figures["read, check and digest"] < TARGET_MS
    print(f"target {TARGET_MS:.0f} ms: {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
