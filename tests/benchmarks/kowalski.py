"""How fast documents for Kowalski are written: prints a table, and JSON.

    python tests/benchmarks/kowalski.py --workdir /scratch/bench/kowalski [--rows 60000] [--catalogs 55] [--load]

Makes, once, a store of one unit in seven tiles with about 50 epochs an object, and measures whole processes on one
core, in turns: a full export with zstd and with gzip, and one of one night more, ``--since`` the snapshot before.
"Plain Python" makes the documents of 2,000 of the objects as the ingester does, row by row in dictionaries, from tables
in memory; only that is on its clock. ``--load`` also loads the full export into a MongoDB engine on the loopback, a
process of its own beside it: the rate follows the engine, that for each CPU second is of the command alone.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from kowalski_oracle import store_documents
from measure import Measurement, own_cpu, run
from mongoserver import mongo_engine

import ztfmatch
from ztfmatch.simulate import benchmark_unit

TARGET = 8_000
"""Documents of 50 epochs for each second and core."""
_PLAIN = 2_000


def make_store(place: Path, rows: int, catalogs: int) -> Path:
    """A store of all catalogs, the last one in a commit of its own."""
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        benchmark_unit(place / "sky", catalogs, rows)
        files = sorted(str(path) for path in (place / "sky" / "catalogs").rglob("*.fits"))
        store = ztfmatch.init_store(
            place / "store", str(place / "sky" / "references"), ztfmatch.StoreConfig(seeds_per_tile=20_000)
        )  # fmt: skip
        store.append(files[:-1])
        store.append(files[-1:])
        shutil.rmtree(place / "sky")
        (place / "done").touch()
    return place / "store"


def export(store: Path, out: Path, *options: str) -> tuple[Measurement, dict[str, int]]:
    """Run an export; its documents, epochs and bytes."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "ztfmatch", "export", "kowalski", str(store), str(out), "--json", *options]
    measured = run(command, out.with_suffix(".log"), os.environ, own_cpu())
    report = json.loads(measured.output)
    documents = sum(report["counts"]["sources"].values())
    return measured, {"documents": documents, "epochs": report["epochs"], "bytes": report["bytes"]}


_TAGS = itertools.count()


def load(exported: Path, port: int) -> tuple[Measurement, dict[str, int]]:
    """Load a full export into empty collections; its documents, epochs and bytes."""
    command = [sys.executable, "-m", "ztfmatch", "load", str(exported), "--tag", f"t{next(_TAGS)}", "--json"]
    environment = {**os.environ, "ZTFMATCH_MONGO_URI": f"mongodb://127.0.0.1:{port}/"}
    measured = run(command, exported.with_suffix(".log"), environment, own_cpu())
    manifest = json.loads(next(exported.glob("*/manifest.json")).read_text())
    size = sum(file["bytes"] for file in manifest["files"])
    made = {"documents": json.loads(measured.output)["documents"], "epochs": manifest["epochs"], "bytes": size}
    return measured, made


def plain_rate(store: Path) -> float:
    """Documents for each second that the rules of the ingester make in plain Python."""
    snapshot = ztfmatch.open_store(store).snapshot()
    objects = snapshot.table("objects").slice(0, _PLAIN)
    ids = objects["objectid"].to_pylist()
    rows = snapshot.lightcurves(objectid=ids)
    tables = {"objects": objects.to_pylist(), "exposures": snapshot.table("exposures").to_pylist()}
    tables["detections"] = [
        row | {"hjd": row["hmjd"] + 2_400_000.5} for row in rows.to_pylist() if row["mag"] is not None
    ]
    began = time.perf_counter()
    documents = store_documents(tables)["sources"]
    return len(documents) / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--catalogs", type=int, default=55)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory())
        place = options.workdir or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        store = make_store(place, options.rows, options.catalogs)
        contenders: dict[str, Callable[[], tuple[Measurement, dict[str, int]]]] = {
            "full, zstd": lambda: export(store, place / "zstd"),
            "full, gzip": lambda: export(store, place / "gzip", "--compression", "gzip"),
            "one night more": lambda: export(store, place / "since", "--since", "1"),
        }
        if options.load:
            port = stack.enter_context(mongo_engine(Path(temporary) / "mongo"))
            contenders["load of full, zstd"] = lambda: load(place / "zstd", port)
        contenders["full, zstd"]()  # compiles, and fills the page cache
        runs: dict[str, list[tuple[Measurement, dict[str, int]]]] = {name: [] for name in contenders}
        for _ in range(options.repeat):
            for name, contender in contenders.items():
                runs[name].append(contender())
        plain = plain_rate(store)
    print_figures(runs, plain)
    if options.json:
        raw = {name: [{**measured.to_json(), **made} for measured, made in of] for name, of in runs.items()}
        options.json.write_text(json.dumps({"runs": raw, "plain": plain}, indent=1))


def print_figures(runs: dict[str, list[tuple[Measurement, dict[str, int]]]], plain: float) -> None:
    """A line each."""
    print(
        f"{'':<28}{'documents':>10}{'epochs each':>13}{'wall s':>8}{'/s':>9}{'/CPU s':>9}{'MiB':>7}{'bytes/epoch':>13}"
    )
    for name, of in runs.items():
        made = of[0][1]
        wall = statistics.median(measured.wall_s for measured, _ in of)
        cpu = statistics.median(measured.user_s + measured.system_s for measured, _ in of)
        peak = max(max(m.main_rss_mib, m.worker_rss_mib or 0.0) for m, _ in of)
        n, epochs = made["documents"], made["epochs"]
        print(
            f"{name:<24}{n:>10,}{epochs / n:>13.1f}{wall:>8.2f}{n / wall:>9,.0f}{n / cpu:>9,.0f}{peak:>7.0f}"
            f"{made['bytes'] / epochs:>13.1f}"
        )
    print(f"{'plain Python, no files':<24}{_PLAIN:>10,}{'':>13}{'':>8}{plain:>9,.0f}")
    print(f"aim: {TARGET:,} documents of 50 epochs a second and core")


if __name__ == "__main__":
    main()
