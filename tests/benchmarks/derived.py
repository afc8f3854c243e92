"""What statistics, transients, a rematch and verify cost beside the append of one more night: prints a table.

    python tests/benchmarks/derived.py --workdir /scratch/bench/derived [--tree old=/path/to/another/tree ...]

Makes, once, the catalogs of six units (two fields in three filters) at one place of the sky: nights that are appended
in ten commits, and one more in which one unit of the six is observed. Every tree makes its own store of them, with
statistics and transients up to date. Then, in turns, each in a process of its own on one core and on a fresh copy of
hard links: the append of the last night; after it all statistics, those that are due by default, and the transients;
and without it the rematch of one unit of the six, and verify. CPU seconds are of the operation, without the start of
the process and the loading of kernels. Last, for this tree, what a rematch takes to write the rows of the tile's other
units.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

UNITS = [(field, 20, fid) for field in (500, 501) for fid in (1, 2, 3)]
RA, DEC = 45.0, 41.0
COMMITS = 10
STEPS = ("append", "all statistics", "statistics", "transients", "rematch", "verify")


def make_catalogs(place: Path, stars: int, nights: int) -> None:
    """References, and the catalogs of each commit in a directory of its own; the last night in ``last``."""
    from helpers import epochal_file, reference_file, rows_at

    from ztfmatch.core.survey import Unit, psfcat_name

    rng = np.random.default_rng(1)
    for number, unit in enumerate(Unit(*unit) for unit in UNITS):
        there = [(RA + rng.uniform(-0.5, 0.5, n) / np.cos(np.radians(DEC)), DEC + rng.uniform(-0.5, 0.5, n))
                 for n in (stars, stars // 4)]  # fmt: skip
        (ra, dec), (lost_ra, lost_dec) = there
        (place / "references").mkdir(parents=True, exist_ok=True)
        reference_file(place / "references", rows_at(ra, dec, mag=rng.uniform(-9, -5, stars)), unit)
        if number == 0:
            (place / "regenerated").mkdir()
            shifted = dec + rng.normal(0.0, 0.1 / 3600.0, stars)
            reference_file(place / "regenerated", rows_at(ra, shifted, mag=rng.uniform(-9, -5, stars)), unit)
        for night in range(nights + (number == 0)):
            seen, found = rng.random(stars) < 0.7, rng.random(len(lost_ra)) < 0.3
            spurious = stars // 20
            rows = rows_at(
                np.concatenate([ra[seen], lost_ra[found], RA + rng.uniform(-0.5, 0.5, spurious)]),
                np.concatenate([dec[seen], lost_dec[found], DEC + rng.uniform(-0.5, 0.5, spurious)]),
            )
            rows["flux"] = 1000.0 * 10 ** (0.4 * rng.normal(0.0, 0.05, len(rows)))
            where = place / ("last" if night == nights else f"night{night * COMMITS // nights:02d}")
            where.mkdir(exist_ok=True)
            day = int((date(2019, 1, 1) + timedelta(days=night)).strftime("%Y%m%d"))
            name = psfcat_name(unit, day * 10**6 + 250000 + number * 1000)
            epochal_file(where, rows, night, unit, name, OBSMJD=58484.25 + night + number / 1000)


def make_store(store: Path, catalogs: Path) -> None:
    """A store that is up to date but for the last night."""
    import ztfmatch

    made = ztfmatch.init_store(store, str(catalogs / "references"))
    for where in sorted(catalogs.glob("night*")):
        made.append(str(where))
    made.update_statistics()
    made.update_transients()


def probe(step: str, store: Path, catalogs: Path) -> float:
    """CPU seconds of one step; the same on a copy goes first and isn't counted, so that all is loaded."""
    import pyarrow as pa

    import ztfmatch

    pa.set_cpu_count(1)
    copies = [store.with_name(f"{store.name}-{step.replace(' ', '-')}-{i}") for i in range(2)]
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store, copy, copy_function=os.link)
        opened = ztfmatch.open_store(copy)
        chooses = "min_new_percent" in inspect.signature(opened.update_statistics).parameters
        if step not in ("append", "rematch", "verify"):
            opened.append(str(catalogs / "last"))
        started = time.process_time()
        if step == "append":
            opened.append(str(catalogs / "last"))
        elif step == "transients":
            opened.update_transients()
        elif step == "rematch":
            opened.rematch(str(catalogs / "regenerated"))
        elif step == "verify":
            opened.verify()
        else:
            opened.update_statistics(**({"min_new_percent": 0} if chooses and step == "all statistics" else {}))
        seconds = time.process_time() - started
    for copy in copies:
        shutil.rmtree(copy)
    return seconds


def retiring(store: Path, catalogs: Path) -> str:
    """CPU seconds of the rows that stay in a tile, as a rematch of one unit writes them."""
    from helpers import runner

    from ztfmatch.core.io.snapshot import open_snapshot
    from ztfmatch.core.io.storage import Storage
    from ztfmatch.core.operations.references import find_references, inspect_all
    from ztfmatch.core.operations.rematchplan import plan_rematch, retire_tasks
    from ztfmatch.core.schema import DETECTIONS, OBJECTS, ORPHANS
    from ztfmatch.core.tasks.retire import retire_tile

    copy = store.with_name(f"{store.name}-retiring")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy, copy_function=os.link)
    snapshot = open_snapshot(Storage.at(copy))
    sources, _ = find_references([str(catalogs / "regenerated")], False)
    found = inspect_all(sources, runner()).rows.to_pylist()
    tasks = retire_tasks(plan_rematch(snapshot, [{**row, "generation": 1} for row in found], "0" * 32))
    rows = sum(file.rows for task in tasks for table in (DETECTIONS, ORPHANS, OBJECTS) for file in task.files(table))
    for _ in range(2):
        started = time.process_time()
        for task in tasks:
            retire_tile(task)
        seconds = time.process_time() - started
    return f"{rows:,} rows of {len(tasks)} tiles written without those of a unit: {seconds / rows * 1e6:.3f} us a row"


def child(tree: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": tree}
    command = [sys.executable, __file__, *(str(argument) for argument in arguments)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where catalogs and stores go, kept for next time")
    parser.add_argument("--tree", action="append", default=[], help="NAME=DIRECTORY of another tree to compare with")
    parser.add_argument("--stars", type=int, default=10_000, help="of each of six units")
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--json", type=Path, help="write all runs there")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--probe", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    catalogs = options.workdir / "catalogs"
    if options.make:
        make_store(options.make, catalogs)
        return
    if options.probe:
        step, store = options.probe[0], Path(options.probe[1])
        print(retiring(store, catalogs) if step == "retiring" else probe(step, store, catalogs))
        return
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    trees = dict(tree.split("=", 1) for tree in options.tree) | {"new": str(Path(__file__).parents[2])}
    if not catalogs.exists():
        make_catalogs(catalogs, options.stars, options.nights)
    for name, tree in trees.items():
        store = options.workdir / name
        if not store.exists():
            child(tree, "--workdir", options.workdir, "--make", store.with_suffix(".being"))
            store.with_suffix(".being").rename(store)
    runs: dict[str, dict[str, list[float]]] = {name: {step: [] for step in STEPS} for name in trees}
    for _ in range(options.repeat):
        for step in STEPS:
            for name, tree in trees.items():
                answer = child(tree, "--workdir", options.workdir, "--probe", step, options.workdir / name)
                runs[name][step].append(float(answer))
    print(f"{'':12}" + "".join(f"{step:>18}" for step in STEPS) + "   CPU s (times the append)")
    for name, steps in runs.items():
        median = {step: statistics.median(of) for step, of in steps.items()}
        shown = [f"{value:.2f} ({value / median['append']:.1f})" for value in median.values()]
        print(f"{name:12}" + "".join(f"{text:>18}" for text in shown))
    print(child(trees["new"], "--workdir", options.workdir, "--probe", "retiring", options.workdir / "new"), end="")
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
