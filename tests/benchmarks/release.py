"""Measure a release: ``python tests/benchmarks/release.py --workdir DIR``, where lsdb and hats-import are installed.

See README.md beside this file. Publishes a compacted store of one unit as HATS, again and again, each a whole process
on one core; imports the same rows with hats-import; and asks both catalogs the same cones with LSDB, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from contenders import HERE, ROOT, last_json
from measure import own_cpu, run
from report import Figure, say
from store import table_of_runs

from ztfmatch.release.schema import HEALPIX_COLUMN

SCOPE = 'release = "all"\n[[programs]]\nid = 1\n[[programs]]\nid = 2\n[[programs]]\nid = 3\n'
PUBLISH, BULK, OURS, THEIRS = "publish hats", "publish bulk", "LSDB cone", "LSDB cone, hats-import's catalog"


@dataclass
class ReleaseBench:
    """A store to publish, and what was measured."""

    workdir: Path
    catalogs: int
    repeat: int
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    epochs: int = 0

    def measure(self) -> None:
        """Publish, then ask."""
        store = self._store()
        for turn in range(self.repeat + 1):
            for name, product in ((PUBLISH, "hats"), (BULK, "bulk")):
                measured = self._publish(store, product)
                self.epochs = measured["epochs"]
                if turn:
                    self.runs.setdefault(name, []).append(measured)
        imported = self._imported()
        for turn in range(self.repeat + 1):
            for name, place in ((OURS, self.workdir / "out-hats"), (THEIRS, imported)):
                measured = self._script("cone", place)
                if turn:
                    self.runs.setdefault(name, []).append(measured)

    def _publish(self, store: Path, product: str) -> dict[str, Any]:
        output = self.workdir / f"out-{product}"
        shutil.rmtree(output, ignore_errors=True)
        scope = self.workdir / "all.toml"
        scope.write_text(SCOPE)
        arguments = [str(store), str(output), "--release", str(scope), "--json"]
        return self._run(product, [sys.executable, "-m", "ztfmatch", "publish", product, *arguments], own_cpu())

    def _store(self) -> Path:
        """A compacted store of one unit."""
        place, store = self.workdir, self.workdir / "store"
        if not store.exists():
            code = "import sys; from pathlib import Path; from ztfmatch.simulate import benchmark_unit as f; "
            code += "f(Path(sys.argv[1]), int(sys.argv[2]))"
            if not (place / "data").exists():
                self._run("simulate", [sys.executable, "-c", code, str(place / "data"), str(self.catalogs)])
            data, new = place / "data", str(place / "new")
            for command in (
                ["init", new, "--references", str(data / "references")],
                ["append", new, str(data / "catalogs"), "--exposures", str(data / "exposures.csv")],
                ["compact", new, "--full", "--min-files", "2"],
            ):
                self._run(command[0], [sys.executable, "-m", "ztfmatch", *command])
            (place / "new").rename(store)
        return store

    def _imported(self) -> Path:
        """The rows of the release as hats-import makes a catalog of them, with partitions of as many rows."""
        rows, catalog = self.workdir / "rows", self.workdir / "imported"
        shutil.rmtree(rows, ignore_errors=True)
        shutil.rmtree(catalog, ignore_errors=True)
        rows.mkdir()
        files = sorted((self.workdir / "out-hats").glob("*-hats/dataset/Norder*/**/*.parquet"))
        most = 0
        for i, path in enumerate(files):
            table = pq.ParquetFile(path).read().drop_columns([HEALPIX_COLUMN])
            most = max(most, table.num_rows)
            pq.write_table(table.replace_schema_metadata(None), rows / f"{i:04d}.parquet")
        self._script("import", rows, catalog, most)
        return catalog

    def _script(self, what: str, *arguments: object) -> dict[str, Any]:
        words = [str(argument) for argument in arguments]
        return self._run(f"lsdb-{what}", [sys.executable, str(HERE / "release_lsdb.py"), what, *words])

    def _run(self, name: str, command: Sequence[str], cpu: int | None = None) -> dict[str, Any]:
        print(" ".join(command[1:5]), file=sys.stderr, flush=True)
        logs = self.workdir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(self.workdir / "numba-cache")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        measured = run(command, logs / f"{name}.txt", environment, cpu)
        own = json.loads(measured.output[measured.output.index("{") :]) if "--json" in command else _last(measured)
        return {**own, **measured.to_json()}

    def figures(self) -> list[Figure]:
        """What was measured against what it should reach."""
        walls = [self.epochs / one["wall_s"] for one in self.runs[PUBLISH]]
        spent = [self.epochs / (one["user_s"] + one["system_s"]) for one in self.runs[PUBLISH]]
        pairs = zip(self.runs[OURS], self.runs[THEIRS], strict=True)
        ratio = statistics.median(ours["warm_s"] / theirs["warm_s"] for ours, theirs in pairs)
        files = list((self.workdir / "out-hats").glob("*-hats/dataset/Norder*/**/*.parquet"))
        size = sum(path.stat().st_size for path in files) / self.epochs
        return [
            Figure("publish hats", statistics.median(walls), 1e6, "detections/s/core"),
            Figure("publish hats, by CPU time", statistics.median(spent), None, "detections/s/core"),
            Figure("LSDB cone, ours over hats-import's", ratio, 1.0, "", True),
            Figure("nested release", size, None, "bytes/epoch", True),
        ]


def _last(measured: Any) -> dict[str, Any]:
    try:
        return dict(last_json(measured))
    except (ValueError, IndexError):
        return {}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where data go, kept for the next time (2 GB)")
    parser.add_argument("--catalogs", type=int, default=600, help="catalogs of the unit: 10 million rows")
    parser.add_argument("--repeat", type=int, default=3, help="counted rounds")
    parser.add_argument("--json", type=Path, help="write all runs there")
    arguments = parser.parse_args(argv)
    bench = ReleaseBench(arguments.workdir.absolute(), arguments.catalogs, arguments.repeat)
    bench.measure()
    print(f"{bench.epochs:,} epochs; {pa.__name__} {pa.__version__}")
    print(table_of_runs(bench.runs), end="\n\n")
    say(bench.figures(), bench.runs, arguments.json)


if __name__ == "__main__":
    main()
