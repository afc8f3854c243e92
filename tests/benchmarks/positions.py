"""Rate of many positions asked at once, against one command each.

Run as: python tests/benchmarks/positions.py STORE [--positions 100000] [--commands 5]

STORE is any store, such as that of ``ztfmatch demo``; positions are its objects', moved by a third of an arcsec.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

import ztfmatch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--positions", type=int, default=100_000)
    parser.add_argument("--commands", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        stars = _stars(given.store, given.positions, Path(place) / "stars.csv")
        for select in ("objects", "statistics"):
            words = (
                "--select",
                select,
                "--positions",
                str(stars),
                "--radius",
                "1.5",
                "-o",
                f"{place}/{select}.parquet",
            )
            seconds = _seconds(given.store, *words)
            rate = given.positions / seconds
            each = [
                _seconds(given.store, "--select", select, "--cone", str(ra), str(dec), "1.5", "-f", "csv")
                for ra, dec in _first(stars, given.commands)
            ]
            one = float(np.median(each))
            print(f"{select}: {given.positions:,} positions in {seconds:.1f} s, {rate:,.0f}/s; "
                  f"one command {one:.2f} s; {rate * one:,.0f} times the rate")  # fmt: skip


def _stars(store: str, number: int, path: Path) -> Path:
    objects = ztfmatch.open_store(store).snapshot().table("objects", columns=["ra", "dec"])
    rng = np.random.default_rng(1)
    rows = rng.integers(0, objects.num_rows, number)
    ra, dec = (objects[name].to_numpy()[rows] + rng.normal(0.0, 1e-4, number) for name in ("ra", "dec"))
    pyarrow.csv.write_csv(pa.table({"id": np.arange(number), "ra": ra, "dec": dec}), path)
    return path


def _first(path: Path, number: int) -> list[tuple[float, float]]:
    rows = pyarrow.csv.read_csv(path).slice(0, number)
    return list(zip(rows["ra"].to_pylist(), rows["dec"].to_pylist(), strict=True))


def _seconds(store: str, *words: str) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "ztfmatch", "query", store, *words], check=True, capture_output=True)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
