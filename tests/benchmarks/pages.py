"""Layout of pages: what smaller row groups, or pages with an index, cost and save.

    python tests/benchmarks/pages.py STORE --rows 1000000 --json pages.json

takes detections of a STORE (of its tile with most of them), writes a file of so many rows in each layout, and prints
bytes a row, the tail, CPU milliseconds to write, and those of reads: one lightcurve, all columns; twenty neighbouring
objects; the whole file; one lightcurve and the whole file by DuckDB, Polars and pyarrow, where they are installed.
Contenders take turns, medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.io import encoding
from ztfmatch.core.io.parquet import DataFile, Destination, OpenFile, read_file_rows, read_rows, write_file
from ztfmatch.core.io.scan import Wanted, scan
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import DETECTIONS

LAYOUTS = {
    "131k, a page": (131_072, 131_072, False),
    "131k, 16k pages, index": (131_072, 16_384, True),
    "65k, a page": (65_536, 65_536, False),
    "32k, a page": (32_768, 32_768, False),
    "16k, a page": (16_384, 16_384, False),
}
"""Rows of a row group, rows of a page, whether there is a page index."""


def detections(store: Path, rows: int) -> pa.Table:
    """Rows in the order of a compacted file."""
    snapshot = open_snapshot(Storage.at(store))
    held = snapshot.files.by_tile("detections")
    tile = max((one for one in held if one is not None), key=lambda one: held[one].rows)
    table = read_rows(snapshot.storage, snapshot.of_tile("detections", tile), DETECTIONS.names)
    assert table is not None
    return table.sort_by([(name, "ascending") for name in DETECTIONS.sorted_by]).slice(0, rows)


def write(storage: Storage, layout: str, rows: pa.Table) -> DataFile:
    """File of a layout."""
    group, page, index = LAYOUTS[layout]
    original = pq.ParquetWriter
    more = {"max_rows_per_page": page, "write_page_index": index, "data_page_size": 8 * page + (1 << 16)}
    encoding.pq.ParquetWriter = lambda *a, **k: original(*a, **{**k, **more})
    try:
        part, table = layout.replace(" ", "-").replace(",", ""), replace(DETECTIONS, row_group_rows=group)
        if not index:
            return write_file(Destination(storage, table, None, 0, part), rows)
        content = encoding.encode(table, rows)
        storage.put(f"data/{part}.parquet", content)
        footer = int.from_bytes(content[content.size - 8 : content.size - 4].to_pybytes(), "little")
        path = f"data/{part}.parquet"
        return DataFile("detections", -1, -1, path, len(rows), content.size, *[None] * 4, "", 0, footer, "")
    finally:
        encoding.pq.ParquetWriter = original


def reads(storage: Storage, file: DataFile, ids: Any) -> dict[str, Callable[[int], Any]]:
    """What is measured, of the n-th object."""
    path = str(Path(storage.root) / file.path)
    names = DETECTIONS.names
    ours: dict[str, Callable[[int], Any]] = {
        "lightcurve": lambda n: scan([OpenFile(storage, file)], DETECTIONS, names, Wanted(ids=ids[n : n + 1])),
        "20 objects": lambda n: scan([OpenFile(storage, file)], DETECTIONS, names, Wanted(ids=ids[n : n + 20])),
        "whole": lambda n: read_file_rows(storage, file, names),
    }
    made = {
        **(ours if file.seal else {}),  # with an index it is not sealed
        "pyarrow lightcurve": lambda n: pq.read_table(path, filters=[("objectid", "=", ids[n])], use_threads=False),
        "pyarrow whole": lambda n: pq.read_table(path, use_threads=False),
    }
    try:
        import duckdb

        connection = duckdb.connect(config={"threads": 1})
        one, every = (f"select {what} from '{path}'" for what in ("*", "sum(mag), sum(ra), sum(psfflux)"))
        made["duckdb lightcurve"] = lambda n: connection.sql(f"{one} where objectid = {ids[n]}").fetchall()
        made["duckdb whole"] = lambda n: connection.sql(every).fetchall()
    except ImportError:
        pass
    try:
        import polars

        lazy, column = polars.scan_parquet(path), polars.col("objectid")
        made["polars lightcurve"] = lambda n: lazy.filter(column == int(ids[n])).collect()
        made["polars whole"] = lambda n: polars.read_parquet(path)
    except ImportError:
        pass
    return made


def measure(storage: Storage, files: dict[str, DataFile], ids: Any, repeat: int) -> dict[str, Any]:
    """Median CPU milliseconds of each read of each layout."""
    every = {layout: reads(storage, file, ids) for layout, file in files.items()}
    times: dict[str, dict[str, list[float]]] = {layout: {name: [] for name in of} for layout, of in every.items()}
    picks = np.random.default_rng(3).integers(0, len(ids) - 20, repeat)
    for turn, n in enumerate(picks.tolist()):
        for layout, of in every.items():
            for name, read in of.items():
                if "whole" in name and turn % 10:
                    continue
                started = time.process_time()
                read(n)
                times[layout][name].append((time.process_time() - started) * 1e3)
    return {
        layout: {name: round(statistics.median(of), 2) for name, of in held.items()} for layout, held in times.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = detections(arguments.store, arguments.rows)
    ids = np.unique(rows["objectid"].to_numpy())
    with tempfile.TemporaryDirectory() as place:
        storage = Storage.at(place)
        files, encoding = {}, {}
        for layout in LAYOUTS:
            started = time.process_time()
            files[layout] = write(storage, layout, rows)
            encoding[layout] = round((time.process_time() - started) * 1e3)
        results = measure(storage, files, ids, arguments.repeat)
        for layout, file in files.items():
            size = {"bytes a row": round(file.size / file.rows, 2), "tail kB": round(file.tail / 1e3, 1)}
            results[layout] = size | {"write": encoding[layout]} | results[layout]
    print(f"{rows.num_rows} rows of {len(ids)} objects")
    for name in next(iter(results.values())):
        print(f"{name:22}", *(f"{layout}: {of.get(name, '-'):<9}" for layout, of in results.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
