"""Measure what a store costs as it grows: ``python tests/benchmarks/store.py``.

See README.md beside this file. Prints a table and writes JSON; the first run takes half an hour to make its stores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nights
import pyarrow.parquet as pq
from contenders import HERE, ROOT, last_json
from measure import own_cpu, run
from report import Figure, say

from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import build_map, find_rows

PARTS = ("nights", "manifest", "cone")


@dataclass
class StoreBench:
    """Stores to measure, and what was measured."""

    workdir: Path
    nights: list[int]
    catalogs: int
    repeat: int
    peer_python: str | None
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def measure_nights(self) -> None:
        """Append the night after the last to stores of few and of many nights, in turns."""
        place = self.workdir / "nights"
        stores = {number: place / f"nights-{number}" for number in self.nights}
        if not all(store.exists() for store in stores.values()):
            self._script("nights.py", place, *self.nights)
        night = place / "new"
        shutil.rmtree(night, ignore_errors=True)
        nights.write_night(night, max(self.nights))
        for turn in range(self.repeat + 1):
            for number, store in stores.items():
                copy = place / "run"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(store, copy, copy_function=os.link)
                command = [sys.executable, "-m", "ztfmatch", "append", str(copy), str(night)]
                if (measured := self._run(f"append-{number}", command, own_cpu())) and turn:
                    self.runs.setdefault(f"append to {number} nights", []).append(measured)

    def measure_manifest(self) -> None:
        """Commit to, open and query a store of 200,000 live files."""
        store, filled = self._compacted(), self.workdir / "cone" / "filled"
        if not filled.exists():
            shutil.copytree(store, filled, copy_function=os.link)
            self._script("probes.py", "fill", filled)
        for turn in range(self.repeat + 1):
            for name, what in (("commit, 200,000 live files", "commit"), ("cone, 200,000 live files", "cone")):
                measured = self._script("probes.py", what, filled)
                if turn:
                    self.runs.setdefault(name, []).append(measured)

    def measure_cone(self) -> None:
        """Cones on the store alone and, with a peer's interpreter, by LSDB on the same rows."""
        store = self._compacted()
        catalog = self._hats(store) if self.peer_python else None
        for turn in range(self.repeat + 1):
            measured = self._script("probes.py", "cone", store)
            if turn:
                self.runs.setdefault("cone", []).append(measured)
            if catalog is not None and turn:
                theirs = self._peer("cone", catalog, store.with_suffix(".centres.json"))
                self.runs.setdefault("cone, LSDB", []).append(theirs)

    def _compacted(self) -> Path:
        """A compacted store of one unit."""
        place = self.workdir / "cone"
        store = place / "store"
        if not store.exists():
            code = "import sys; from pathlib import Path; from ztfmatch.simulate import benchmark_unit as f; "
            code += "f(Path(sys.argv[1]), int(sys.argv[2]))"
            self._say("making the data of the cones")
            if not (place / "data").exists():
                self._run("simulate", [sys.executable, "-c", code, str(place / "data"), str(self.catalogs)])
            for command in (
                ["init", str(place / "new"), "--references", str(place / "data" / "references")],
                ["append", str(place / "new"), str(place / "data" / "catalogs")],
                ["compact", str(place / "new"), "--full"],
            ):
                self._run(command[0], [sys.executable, "-m", "ztfmatch", *command])
            (place / "new").rename(store)
        return store

    def _hats(self, store: Path) -> Path:
        """The detections with the positions of their objects, as a HATS catalog."""
        rows, catalog = store.parent / "rows", store.parent / "hats"
        if not catalog.exists():
            self._say("importing the detections with hats-import")
            shutil.rmtree(rows, ignore_errors=True)
            _write_rows(store, rows)
            self._peer("import", rows, catalog)
            shutil.rmtree(rows)
        return catalog

    def _peer(self, what: str, *arguments: Path) -> dict[str, Any]:
        script = [str(self.peer_python), str(HERE / "peers_cone.py"), what, *(str(argument) for argument in arguments)]
        return self._run(f"peer-{what}", script)

    def _script(self, script: str, *arguments: object) -> dict[str, Any]:
        return self._run(script, [sys.executable, str(HERE / script), *(str(argument) for argument in arguments)])

    def _run(self, name: str, command: Sequence[str], cpu: int | None = None) -> dict[str, Any]:
        self._say(" ".join(command[1:4]))
        logs = self.workdir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(self.workdir / "numba-cache")}
        measured = run(command, logs / f"{name}.txt", environment, cpu)
        try:
            own = last_json(measured)
        except (ValueError, IndexError):
            own = {}
        return {**measured.to_json(), **own}

    def _say(self, text: str) -> None:
        print(f"[store] {text}", file=sys.stderr, flush=True)

    def figures(self) -> list[Figure]:
        """What was measured against what it should reach."""
        few, many = (f"append to {number} nights" for number in (min(self.nights), max(self.nights)))
        found = [
            Figure(
                f"append, {max(self.nights)} nights over {min(self.nights)}", self._ratio(many, few), 1.15, "", True
            ),
            Figure("commit, 200,000 live files", self._of("commit, 200,000 live files", "compact_s"), 2.0, "s", True),
            Figure("commit, peak memory", self._of("commit, 200,000 live files", "peak_mib"), 477, "MiB", True),
            Figure(
                "open and first cone, 200,000 files", self._of("cone, 200,000 live files", "cold_s"), 0.5, "s", True
            ),
            Figure("cone, warm", self._of("cone", "warm_s", 1e3), 8, "ms", True),
            Figure("lightcurve by objectid, warm", self._of("cone", "object_s", 1e3), 5, "ms", True),
            Figure("cone, LSDB over ours", self._ratio("cone, LSDB", "cone", "warm_s"), 5, ""),
        ]
        return [figure for figure in found if figure.value is not None]

    def _of(self, name: str, value: str, scale: float = 1.0) -> float | None:
        runs = self.runs.get(name)
        return statistics.median(run[value] for run in runs) * scale if runs else None

    def _ratio(self, above: str, below: str, value: str = "wall_s") -> float | None:
        pairs = zip(self.runs.get(above, []), self.runs.get(below, []), strict=False)
        ratios = [a[value] / b[value] for a, b in pairs]
        return statistics.median(ratios) if ratios else None


def _write_rows(store: Path, out: Path) -> None:
    """Detections joined with the positions of their objects, file by file."""
    out.mkdir()
    snapshot = open_snapshot(Storage.at(store))
    objects = snapshot.read("objects", ["objectid", "ra", "dec"])
    row_of = build_map(objects["objectid"].to_numpy())
    for i, file in enumerate(snapshot.of_table("detections")):
        rows = pq.read_table(store / file.path, partitioning=None).rename_columns(
            {"ra": "detection_ra", "dec": "detection_dec"}
        )
        place = find_rows(row_of, rows["objectid"].to_numpy())
        for name in ("ra", "dec"):
            rows = rows.append_column(name, objects[name].take(place))
        pq.write_table(rows, out / f"{i:04d}.parquet")


def table_of_runs(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Medians of every run."""
    lines = [f"{'':32}{'wall s':>9}{'(min..max)':>16}{'CPU s':>8}{'MiB':>7}"]
    for name, measured in runs.items():
        walls = [one["wall_s"] for one in measured]
        cpu = statistics.median(one["user_s"] + one["system_s"] for one in measured)
        spread = f"({min(walls):.2f}..{max(walls):.2f})"
        most = max(one["main_rss_mib"] for one in measured)
        lines.append(f"{name:32}{statistics.median(walls):9.2f}{spread:>16}{cpu:8.2f}{most:7.0f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where stores go, kept for the next time (5 GB)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--nights", type=int, nargs="+", default=[10, 100, 1000], help="sizes of the growing store")
    parser.add_argument("--catalogs", type=int, default=1250, help="catalogs of the store for cones: 20 million rows")
    parser.add_argument("--repeat", type=int, default=5, help="counted rounds")
    parser.add_argument("--peer-python", help="interpreter that has hats-import and lsdb; without it they are left out")
    parser.add_argument("--json", type=Path, help="write all runs there")
    arguments = parser.parse_args(argv)
    bench = StoreBench(
        arguments.workdir.absolute(), arguments.nights, arguments.catalogs, arguments.repeat, arguments.peer_python
    )
    actions: dict[str, Callable[[], None]] = {
        "nights": bench.measure_nights,
        "manifest": bench.measure_manifest,
        "cone": bench.measure_cone,
    }
    for part in arguments.only:
        actions[part]()
    print(table_of_runs(bench.runs), end="\n\n")
    say(bench.figures(), bench.runs, arguments.json)


if __name__ == "__main__":
    main()
