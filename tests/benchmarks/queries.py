"""How long queries take, beside plain reads of the same files and beside DuckDB: prints a table, and JSON.

    python tests/benchmarks/queries.py --workdir /scratch/bench/queries [--stars 60000] [--nights 20] [--repeat 7]

Makes, once, a store of six units (two fields in three filters) at one place of the sky, one append a night, and a copy
of it that is compacted. Then one process on one core asks, in turns: ztfmatch; pyarrow, which only reads all columns of
the same tables; and DuckDB, on the list of files. The number of rows of every answer is checked against DuckDB's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import ztfmatch
from ztfmatch import Query

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from helpers import append, epochal_file, make_store, reference_file, rows_at, runner

from ztfmatch.core.config import CompactConfig
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.survey import Unit, psfcat_name

UNITS = [Unit(field, 20, fid) for field in (500, 501) for fid in (1, 2, 3)]
RA, DEC = 45.0, 41.0


@dataclass(frozen=True)
class Case:
    """A question, and the same in SQL."""

    name: str
    query: Query
    sql: str
    """Objectids of the rows, from the tables objects, statistics, detections."""
    tables: tuple[str, ...]
    """What a plain read has to read."""


def cases(nights: int) -> list[Case]:
    """What is asked."""
    joined = "objects join statistics using (objectid)"
    variable, faint = "magrms > 0.1 and nobs > 10", "magrms > 1.5"
    near = f"abs(dec - {DEC}) < 0.05 and abs(ra - {RA}) < 0.05"
    recent = f"hmjd > {58515.25 + nights - 2}"
    box = (RA - 0.05, RA + 0.05, DEC - 0.05, DEC + 0.05)
    of_both, of_all = ("objects", "statistics"), ("objects", "statistics", "detections")
    some = ["objectid", "hmjd", "mag"]
    return [
        Case("objects, variable", Query("objects", variable), f"from {joined} where {variable}", of_both),
        Case("statistics, variable", Query("statistics", variable), f"from {joined} where {variable}", of_both),
        Case("statistics, very variable", Query("statistics", faint), f"from {joined} where {faint}", of_both),
        Case("statistics, one field", Query("statistics", "field == 501"), f"from {joined} where field = 501", of_both),
        Case("objects, a box", Query("objects", box=box), f"from objects where {near}", ("objects",)),
        Case("statistics, a box", Query("statistics", box=box), f"from {joined} where {near}", of_both),
        Case("lightcurves, variable, 3 columns", Query("lightcurves", variable, columns=some),
             f"from detections semi join (from {joined} where {variable}) using (objectid)", of_all),
        Case("lightcurves, the last nights", Query("lightcurves", "fid == 2", epochs=recent, columns=some),
             f"from detections semi join (from objects where fid = 2) using (objectid) where {recent}",
             ("objects", "detections")),
    ]  # fmt: skip


def make_stores(place: Path, stars: int, nights: int) -> dict[str, Path]:
    """A store with a file a night, and one that is compacted."""
    stores = {name: place / name for name in ("nightly", "compacted")}
    if stores["compacted"].exists():
        return stores
    shutil.rmtree(place, ignore_errors=True)
    (place / "catalogs").mkdir(parents=True)
    rng, references, catalogs = np.random.default_rng(1), [], [[] for _ in range(nights)]
    for number, unit in enumerate(UNITS):
        ra, dec = RA + rng.uniform(-0.5, 0.5, stars) / np.cos(np.radians(DEC)), DEC + rng.uniform(-0.5, 0.5, stars)
        references.append(reference_file(place, rows_at(ra, dec, mag=rng.uniform(-9, -5, stars)), unit))
        scatter = 0.02 * 10 ** rng.exponential(0.25, stars)
        for night in range(nights):
            seen = rng.random(stars) < 0.7
            rows = rows_at(ra[seen], dec[seen])
            rows["flux"] = 1000.0 * 10 ** (0.4 * rng.normal(0.0, scatter[seen]))
            name = psfcat_name(unit, 20190201250000 + night * 10**6 + number * 1000)
            time = {"OBSMJD": 58515.25 + night + number / 1000}
            catalogs[night].append(epochal_file(place / "catalogs", rows, night, unit, name, **time))
    storage = make_store(place / "new", references)
    for night in catalogs:
        append(storage, night)
    update_statistics(storage, runner())
    shutil.copytree(place / "new", stores["nightly"])
    (place / "new").rename(place / "being")
    ztfmatch.open_store(place / "being").compact(CompactConfig(min_files=2, full=True))
    (place / "being").rename(stores["compacted"])
    shutil.rmtree(place / "catalogs")
    return stores


def by_ztfmatch(store: Path, case: Case) -> int:
    return sum(part.num_rows for part in ztfmatch.open_store(store).snapshot().query(case.query))


def by_pyarrow(paths: dict[str, list[str]], case: Case) -> int:
    """All columns of all files; what filters and joins would take after that is not counted."""
    return sum(pq.ParquetFile(path).read(use_threads=False).num_rows for name in case.tables for path in paths[name])


def by_duckdb(paths: dict[str, list[str]], case: Case) -> int:
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, files in paths.items():
            connection.sql(f"create view {name} as from read_parquet({files}, hive_partitioning = false)")
        columns = ", ".join(case.query.columns or ["*"])
        return int(connection.sql(f"select {columns} {case.sql}").to_arrow_table().num_rows)


def measure(store: Path, nights: int, repeat: int) -> list[dict[str, Any]]:
    """CPU seconds of each way, the median; ratios are of pairs."""
    snapshot = ztfmatch.open_store(store).snapshot()
    paths = {name: snapshot.paths(name) for name in ("objects", "statistics", "detections")}
    found = []
    for case in cases(nights):
        ways: dict[str, Callable[[], int]] = {
            "ztfmatch": lambda case=case: by_ztfmatch(store, case),
            "pyarrow": lambda case=case: by_pyarrow(paths, case),
            "duckdb": lambda case=case: by_duckdb(paths, case),
        }  # fmt: skip
        rows = by_duckdb(paths, case)
        if by_ztfmatch(store, case) != rows:
            raise RuntimeError(f"{case.name}: {by_ztfmatch(store, case)} rows; DuckDB finds {rows}")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeat):
            for name, way in ways.items():
                started = time.process_time()
                way()
                times[name].append(time.process_time() - started)
        ratio = {
            name: statistics.median(a / b for a, b in zip(times[name], times["ztfmatch"], strict=True))
            for name in ("pyarrow", "duckdb")
        }
        seconds = {name: statistics.median(of) for name, of in times.items()}
        found.append({"store": store.name, "case": case.name, "rows": rows, **seconds, "ratios": ratio, "runs": times})
    return found


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where the stores go, kept for the next time")
    parser.add_argument("--stars", type=int, default=60_000, help="of each of six units")
    parser.add_argument("--nights", type=int, default=20, help="one append each")
    parser.add_argument("--repeat", type=int, default=7, help="rounds")
    parser.add_argument("--json", type=Path, help="write all runs there")
    options = parser.parse_args()
    stores = make_stores(options.workdir, options.stars, options.nights)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    every = [row for store in stores.values() for row in measure(store, options.nights, options.repeat)]
    print(f"{'':48}{'rows':>10}{'CPU s':>9}{'plain read':>12}{'DuckDB':>9}")
    for row in every:
        ratios = "".join(f"{row['ratios'][name]:>{width}.1f}x" for name, width in (("pyarrow", 11), ("duckdb", 8)))
        print(f"{row['store'] + ': ' + row['case']:48}{row['rows']:>10,}{row['ztfmatch']:>9.3f}{ratios}")
    if options.json:
        options.json.write_text(json.dumps(every, indent=1) + "\n")


if __name__ == "__main__":
    main()
