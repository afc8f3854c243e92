"""How long audit, selection and plan of a survey's references take, whole processes on one core: prints a table.

    python tests/benchmarks/references.py --workdir /scratch/bench/references [--images 10600000] [--units 122000]

Makes, once, metadata of so many images, an audit of the units in which 13 % are suspect, and the images of one more
night; and a sky of 12 references of 18,800 seeds with 20 exposures each. Then: audit of these references, audit and
flatness of their store, with what they would take of the survey; select, plan, plan with --retune, and the update of
the plan with that night. Peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import multiprocessing
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
RCIDS, EXPOSURES = (0, 21, 42, 63), 20
SURVEY_REFERENCES, SURVEY_CATALOGS = 122_000, 10_600_000


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


def make_sky(place: Path) -> None:
    """References as dense as real ones, and their store."""
    sky, store = str(place / "sky"), str(place / "store")
    size = ["--stars", "18800", "--exposures", str(EXPOSURES), "--bad-references", str(SUSPECT)]
    where = ["--fields", "679", "--rcids", ",".join(map(str, RCIDS)), "--filters", "zg,zr,zi"]
    ztfmatch("simulate", sky, *where, *size)
    ztfmatch("init", store, "--references", f"{sky}/references")
    ztfmatch("append", store, f"{sky}/catalogs", "--exposures", f"{sky}/exposures.csv")
    ztfmatch("transients", store)


def ztfmatch(*words: str) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "ztfmatch", *words], stdout=subprocess.DEVNULL, check=True)


def measure_sky(place: Path) -> None:
    """Audit and flatness, and what they would take of the survey."""
    if not (place / "store").exists():
        make_sky(place)
    ps1, store = ["--ps1", str(place / "sky" / "truth" / "ps1.parquet")], str(place / "store")
    units, catalogs = 3 * len(RCIDS), ["--references", str(place / "sky" / "references")]
    for name, words, number, survey in (
        ("audit of catalogs", ["audit", *catalogs, *ps1], units, SURVEY_REFERENCES),
        ("audit of a store", ["audit", store, *ps1], units, SURVEY_REFERENCES),
        ("flatness", ["flatness", store, *ps1], EXPOSURES * units, SURVEY_CATALOGS),
    ):
        if name == "flatness":
            ztfmatch("rollback", store, "2")
        cpu_s = run(f"{name} ({number})", words)
        print(f"{'':<28}the survey's {survey:,}: {cpu_s / number * survey / 3600:.0f} core-hours")


def run(name: str, words: list[str]) -> float:
    """Run a command and print seconds and peak memory; its CPU seconds."""
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
    return cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_600_000)
    parser.add_argument("--units", type=int, default=122_000)
    options = parser.parse_args()
    place = options.workdir / f"{options.images}-{options.units}"
    if not (place / "audit.parquet").exists():
        # in a process of its own: what this one holds counts in the peak of those that it starts
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(place, options.images, options.units))
        maker.start()
        maker.join()
    print(f"{'':<28}{'wall':>10}{'CPU':>10}{'peak':>12}")
    measure_sky(options.workdir)
    print(f"{options.images:,} images, {options.units:,} units")
    images = ["--metadata", str(place / "images.parquet")]
    audit = ["--audit", str(place / "audit.parquet")]
    plan = ["--output", str(place / "plan.parquet")]
    night = pq.read_metadata(place / "night.parquet").num_rows
    run("select", ["select", *images, "--images", str(place / "i.parquet"), "--counts", str(place / "u.parquet")])
    run("plan", ["plan", *images, *audit, *plan])
    run("plan --retune", ["plan", *images, *audit, "--retune", str(place / "loss.csv")])
    update = ["--update", str(place / "plan.parquet"), "--output", str(place / "plan-2.parquet")]
    run(f"plan --update ({night:,} new)", ["plan", "--metadata", str(place / "night.parquet"), *update])


if __name__ == "__main__":
    main()
