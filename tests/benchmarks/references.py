"""How long the selection and the plan of a survey take, whole processes on one core: prints a table.

    python tests/benchmarks/references.py --workdir /scratch/bench/references [--images 10600000] [--units 122000]

Makes, once, metadata of so many images, an audit of the units in which 13 % are suspect, and the images of one more
night. Then: select, plan, plan with --retune, and the update of the plan with that night. Peak memory is that of the
process.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.references.schema import AUDIT
from ztfmatch.simulate.metadata import MetadataConfig, simulate_metadata

SUSPECT = 0.13


def make(place: Path, images: int, units: int) -> None:
    """Metadata, the last night apart, and an audit."""
    place.mkdir(parents=True, exist_ok=True)
    table, _ = simulate_metadata(MetadataConfig(images, units))
    night = table["exposureid"].to_numpy() // 10**8
    last = night == night.max()
    pq.write_table(table.filter(pa.array(~last)), place / "images.parquet", row_group_size=1_000_000)
    pq.write_table(table.filter(pa.array(last)), place / "night.parquet")
    rng = np.random.default_rng(1)
    rows = table.group_by(["field", "rcid", "fid"]).aggregate([])
    n = rows.num_rows
    said = {
        **{name: rows[name] for name in ("field", "rcid", "fid")},
        "rank": np.arange(1, n + 1),
        "nsources": np.full(n, 18_000),
        "depth": rng.uniform(21.5, 23.0, n),
        "nwon": rng.integers(0, 50_000, n),
        "suspect": rng.random(n) < SUSPECT,
        **{name: np.zeros(n, bool) for name in ("shallow", "confused", "unknown")},
    }
    columns = [
        pa.array(said[f.name]).cast(f.type) if f.name in said and not isinstance(said[f.name], pa.ChunkedArray)
        else said[f.name].cast(f.type) if f.name in said else pa.nulls(n, f.type)
        for f in AUDIT.schema
    ]  # fmt: skip
    pq.write_table(pa.table(columns, schema=AUDIT.schema), place / "audit.parquet")


def run(name: str, words: list[str]) -> None:
    """Run a command and print seconds and peak memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-m", "ztfmatch", "references", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed: exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name:<28}{time.perf_counter() - start:8.1f} s{cpu:8.1f} s{used.ru_maxrss / 2**20:8.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_600_000)
    parser.add_argument("--units", type=int, default=122_000)
    options = parser.parse_args()
    place = options.workdir / f"{options.images}-{options.units}"
    if not (place / "audit.parquet").exists():
        make(place, options.images, options.units)
    images = ["--metadata", str(place / "images.parquet")]
    audit = ["--audit", str(place / "audit.parquet")]
    plan = ["--output", str(place / "plan.parquet")]
    night = pq.read_metadata(place / "night.parquet").num_rows
    print(f"{options.images:,} images, {options.units:,} units")
    print(f"{'':<28}{'wall':>10}{'CPU':>10}{'peak':>12}")
    run("select", ["select", *images, "--images", str(place / "i.parquet"), "--counts", str(place / "u.parquet")])
    run("plan", ["plan", *images, *audit, *plan])
    run("plan --retune", ["plan", *images, *audit, "--retune", str(place / "loss.csv")])
    update = ["--update", str(place / "plan.parquet"), "--output", str(place / "plan-2.parquet")]
    run(f"plan --update ({night:,} new)", ["plan", "--metadata", str(place / "night.parquet"), *update])


if __name__ == "__main__":
    main()
