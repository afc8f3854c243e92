"""What it takes to ask a store as large as the survey's: ``python tests/benchmarks/surveyanswers.py --workdir W``.

A store of 102,000 references, their tiles and 10.6 million exposures in the 104 files of the ledger, in which one unit
has a thousand objects, each with an epoch in every exposure of it. Commands are processes of their own; of Python's
methods, called in one process, the first call and the median of those after it. Printed are CPU milliseconds and the
peak memory of the process. ``--other TREE`` measures another version of ztfmatch too, after this one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from contenders import ROOT
from measure import CommandFailedError, peak_kib, run
from rematchmemory import add_ledger
from surveylist import UNITS, make_store, units

import ztfmatch
from ztfmatch.core.io import log
from ztfmatch.core.io.parquet import Destination, write_file
from ztfmatch.core.io.rows import rows_of_unit
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.sphere import lonlats_of, unit_vector
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS, Table
from ztfmatch.core.survey import Unit, objectid_range, refpsfcat_name, unit_of_code

OBJECTS_MADE = 1_000
SPREAD_DEG = 0.008
CALLS = 30


@dataclass(frozen=True)
class Place:
    """The unit that has objects, the place about which they are, the first of them."""

    field: int
    rcid: int
    fid: int
    ra: float
    dec: float
    objectid: int


def make(store: Path, number: int) -> Place:
    """Make the store."""
    found = units(number)
    make_store(store, found)
    add_ledger(store, number, 1)
    middle = len(found.code) // 2
    unit = unit_of_code(int(found.code[middle]))
    ra, dec = (float(value[0]) for value in lonlats_of(found.xyz[middle : middle + 1]))
    place = Place(unit.field, unit.rcid, unit.fid, ra, dec, objectid_range(unit)[0] + 1)
    storage, rng = Storage.at(store), np.random.default_rng(0)
    snapshot = open_snapshot(storage)
    ledger = rows_of_unit(snapshot.read(EXPOSURES.name, ["field", "rcid", "fid", "exposureid", "obsmjd"]), unit)
    ids = place.objectid + np.arange(OBJECTS_MADE)
    each = np.repeat(np.arange(len(ids)), len(ledger))
    at = {
        "ra": ra + rng.uniform(-SPREAD_DEG, SPREAD_DEG, len(ids)),
        "dec": dec + rng.uniform(-SPREAD_DEG, SPREAD_DEG, len(ids)),
    }
    unit_columns = {name: np.full(len(ids), getattr(unit, name)) for name in ("field", "rcid", "fid")}
    epochs = {
        "objectid": ids[each], "exposureid": np.tile(ledger["exposureid"].to_numpy(), len(ids)),
        "hmjd": np.tile(ledger["obsmjd"].to_numpy(), len(ids)), "ra": at["ra"][each], "dec": at["dec"][each],
        "mag": rng.normal(18.0, 0.1, len(each)), "magerr": np.full(len(each), 0.05),
    }  # fmt: skip
    tile = snapshot.tiling.touched_by_cap(unit_vector(ra, dec), 1e-9)[0]
    files = [
        write_file(Destination(storage, table, tile, snapshot.number + 1, "0" * 12), _rows(table, columns))
        for table, columns in ((OBJECTS, {"objectid": ids, **unit_columns, **at}), (DETECTIONS, epochs))
    ]
    log.commit(storage, snapshot.commit, log.Change("simulated", "2" * 32, {}, {}, files))
    return place


def _rows(table: Table, columns: dict[str, Any]) -> pa.Table:
    """Rows of a table; of a column that is not given nulls, zeros, or its first label."""
    number = len(columns["objectid"])
    arrays = []
    for field in table.schema:
        if field.name not in columns and field.nullable:
            arrays.append(pa.nulls(number, field.type))
        elif pa.types.is_dictionary(field.type):
            arrays.append(pa.DictionaryArray.from_arrays(np.zeros(number, np.int8), ["active"]))
        else:
            arrays.append(pa.array(columns.get(field.name, np.zeros(number))).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=table.schema).sort_by(table.order)


def commands(store: Path, place: Place, out: Path) -> dict[str, list[str]]:
    """What is asked on a command line."""
    cone = ["--cone", str(place.ra), str(place.dec)]
    kowalski = ["export", "kowalski", str(store), str(out / "kowalski")]
    scope, listed = out / "scope.toml", out / "references.txt"
    scope.write_text(f'release = "dr0"\nfields = [{place.field}]\n[[programs]]\nid = 1\n')
    listed.write_text(f"/data/ztf/ref/{refpsfcat_name(Unit(place.field, place.rcid, place.fid))}\n")
    return {
        "lightcurve by id": ["lightcurve", str(store), "--objectid", str(place.objectid)],
        "lightcurve by cone": ["lightcurve", str(store), *cone, "5"],
        "near": ["lightcurve", str(store), "--cone", str(place.ra), str(place.dec + 0.1), "1"],
        "query in a cone": ["query", str(store), *cone, "10"],
        "status": ["status", str(store)],
        "publish bulk, dry run": [
            "publish",
            "bulk",
            str(store),
            str(out / "bulk"),
            "--release",
            str(scope),
            "--dry-run",
        ],
        "plan rematch, one unit": ["plan", "rematch", str(store), "--from-file", str(listed)],
        "export kowalski, dry run": [*kowalski, "--dry-run"],
        "export kowalski --since, dry run": [*kowalski, "--since", "1", "--dry-run"],
        "history": ["history", str(store)],
        "export matchfiles, one unit": [
            "export",
            "matchfile",
            str(store),
            "--objectid",
            str(place.objectid),
            "-o",
            str(out),
            "--overwrite",
        ],
    }


def calls(place: Place) -> dict[str, Callable[[ztfmatch.Snapshot, int], Any]]:
    """What is asked in Python, of one object after the other."""
    rng = np.random.default_rng(1)
    ra, dec = (centre + rng.uniform(-SPREAD_DEG, SPREAD_DEG, CALLS + 1) for centre in (place.ra, place.dec))
    return {
        "lightcurves(id)": lambda snapshot, i: snapshot.lightcurves(place.objectid + i),
        "lightcurves(cone)": lambda snapshot, i: snapshot.lightcurves(cone=(ra[i], dec[i], 10.0)),
        "sources(id)": lambda snapshot, i: snapshot.sources(place.objectid + i),
        "near": lambda snapshot, i: snapshot.near((ra[i], dec[i])),
    }


def plans(store: str, out: Path) -> Iterator[tuple[str, float, int]]:
    """Plan jobs of the whole survey; CPU milliseconds, and tasks or places."""
    from ztfmatch.core.runner import LoopExecutor, Runner
    from ztfmatch.references.units import active_references
    from ztfmatch.release.bulk import bulk_tasks
    from ztfmatch.release.io.scope import ReleaseScope, Window
    from ztfmatch.release.publication import Publishing

    scope, runner = ReleaseScope("dr0", (Window(1),)), Runner(LoopExecutor(), 2 << 30)
    for name, plan in (
        ("publish", lambda snapshot: bulk_tasks(Publishing(snapshot, scope, out / "bulk", "bulk"), runner)),
        ("references audit", active_references),
    ):
        snapshot, started = open_snapshot(Storage.at(store)), time.process_time()
        found = plan(snapshot)
        yield name, (time.process_time() - started) * 1e3, len(found)


def call(store: str, place: Place) -> Iterator[tuple[str, float, float]]:
    """Call them; milliseconds of the first and of others."""
    for name, ask in calls(place).items():
        snapshot, taken = ztfmatch.open_store(store).snapshot(), []
        for i in range(CALLS + 1):
            started = time.process_time()
            ask(snapshot, i)
            taken.append((time.process_time() - started) * 1e3)
        yield name, taken[0], statistics.median(taken[1:])


def _measure(store: Path, place: Place, tree: Path, name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    with tempfile.TemporaryDirectory() as out:
        for what, words in commands(store, place, Path(out)).items():
            try:
                taken = run([sys.executable, "-P", "-m", "ztfmatch", *words], Path(out) / "log.txt", environment)
            except CommandFailedError as error:
                print(f"{name:6} {what:30} failed: {str(error).strip().splitlines()[-1]}")
                continue
            print(f"{name:6} {what:30} {(taken.user_s + taken.system_s) * 1e3:8.0f} ms {taken.main_rss_mib:6.0f} MiB")
        script = [sys.executable, "-P", str(Path(__file__)), "--calls", str(store), json.dumps(asdict(place))]
        environment["PYTHONPATH"] += f":{Path(__file__).parent}"
        for line in run(script, Path(out) / "log.txt", environment).output.splitlines():
            print(f"{name:6} {line}")


def main() -> None:
    """Make the store, once, and measure."""
    if sys.argv[1:2] == ["--calls"]:
        for what, taken, found in plans(sys.argv[2], Path(tempfile.gettempdir())):
            print(
                f"{f'plan of all: {what}':30} {taken:8.0f} ms, {found:,} tasks; {peak_kib(os.getpid()) / 1024:.0f} MiB"
            )
        for what, first, other in call(sys.argv[2], Place(**json.loads(sys.argv[3]))):
            print(f"{what:30} {first:8.1f} ms, then {other:.2f} ms; {peak_kib(os.getpid()) / 1024:.0f} MiB")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where the store is made, and kept (130 MB)")
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--other", type=Path, help="another tree of ztfmatch, to be measured after this one")
    options = parser.parse_args()
    store = (options.workdir / f"answers-{options.units}").absolute()
    made = store.with_suffix(".json")
    if not made.exists():
        shutil.rmtree(store, ignore_errors=True)
        made.write_text(json.dumps(asdict(make(store, options.units))))
    place = Place(**json.loads(made.read_text()))
    for name, tree in (("this", ROOT), *((("other", options.other.absolute()),) if options.other else ())):
        _measure(store, place, tree, name)


if __name__ == "__main__":
    main()
