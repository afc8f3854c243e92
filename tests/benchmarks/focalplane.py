"""Append into a survey as it is: ``python tests/benchmarks/focalplane.py --workdir W``.

Five overlapping fields, 64 channels and three filters each: 960 units of 43,000 seeds, some 200 tiles. What is taken
in is of one of them: one exposure (64 catalogs of 18,000 rows), a night (one exposure in each filter: 192), and so many
of each. Beside them the single unit of ``run.py`` in the same rounds. ``--other TREE`` measures another version of
ztfmatch too, in turn with this one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contenders import ROOT, Bench, Settings
from measure import own_cpu, run
from report import Figure, say

from ztfmatch.simulate import SimulationConfig, Simulator
from ztfmatch.simulate.catalogs import UnitSky
from ztfmatch.simulate.dataset import write_reference
from ztfmatch.simulate.fitsout import write_catalog
from ztfmatch.simulate.layout import catalog_path, epochal_keys

FIELDS = (679, 1677, 1721, 1720, 1676)
"""They overlap; catalogs are made of the first."""
FILTERS = (1, 2, 3)
UNIT, ONE, CATALOG = "unit", "exposure", "catalog"
GOALS = {ONE: 0.5, "1": 0.7, "30": 1.0}
"""Million detections/s where the unit runs at 1.1."""
UNIT_RATE = 1.1


def config(exposures: int) -> SimulationConfig:
    """The five fields; the first ones of many exposures are not those of few."""
    return SimulationConfig(
        fields=FIELDS,
        rcids=tuple(range(64)),
        filters=FILTERS,
        n_exposures=exposures,
        stars_per_quadrant=43_000,
        epoch_depth=0.42,
        depth_scatter=0.005,
        bad_fraction=0.0,
        truth=False,
    )


@dataclass(frozen=True)
class Tree:
    """One version of ztfmatch."""

    name: str
    root: Path


@dataclass
class FocalPlane:
    """Data, stores and runs."""

    place: Path
    trees: list[Tree]
    exposures: int
    runs: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.data, self.cpu = self.place / f"fields-{self.exposures}", own_cpu()
        self.place.mkdir(parents=True, exist_ok=True)
        self.numbers = itertools.count()
        self.clear()
        self.unit = Bench(Settings(self.place, progress=_say), 1000)

    def prepare(self) -> None:
        """Make the data, once (minutes, 2.4 GB and 0.2 GB for each exposure of each unit), and fresh stores."""
        self.unit.make_data()
        if not (self.data / "made").exists():
            _say("making the data")
            shutil.rmtree(self.data, ignore_errors=True)
            self._make()
            (self.data / "made").touch()
        for tree in self.trees:
            for name, references in ((UNIT, self.unit.data), (ONE, self.data)):
                store = self._initial(tree, name)
                shutil.rmtree(store, ignore_errors=True)
                _say(f"init of {store.name}")
                self._ztfmatch(tree, "init", str(store), "--references", str(references / "references"))

    def _make(self) -> None:
        simulator = Simulator(config(self.exposures))
        for sky in simulator.units():
            write_reference(self.data / "references", simulator, sky, 0)
            if sky.unit.field == FIELDS[0]:
                self._make_catalogs(simulator, sky)

    def _make_catalogs(self, simulator: Simulator, sky: UnitSky) -> None:
        for number, exposure in enumerate(simulator.exposures_of(sky.unit)):
            found, state = sky.detect(exposure)
            path = self._of(number, sky.unit.fid) / catalog_path(sky.unit, exposure.fracday)
            write_catalog(path, epochal_keys(sky, exposure, state, len(found.rows)), found.rows)

    def _of(self, number: int, fid: int) -> Path:
        return self.data / "catalogs" / f"{number:03d}-{fid}"

    def _initial(self, tree: Tree, name: str) -> Path:
        return self.place / f"initial-{name}-{tree.name}"

    def _inputs(self, case: str) -> Iterator[Path]:
        if case == UNIT:
            yield self.unit.data / "catalogs"
        elif case == ONE:
            yield self._of(0, FILTERS[0])
        elif case == CATALOG:
            yield min(self._of(0, FILTERS[0]).rglob("*.fits"))
        else:
            yield from (self._of(number, fid) for number in range(int(case)) for fid in FILTERS)

    def measure(self, case: str, tree: Tree, keep: bool) -> None:
        """Append to a fresh copy of the store.

        It is only emptied afterwards: for a minute or more ext4 looks at the number of every file and directory that
        was removed whenever it makes one, by a profile a twentieth of one exposure.
        """
        store = self.place / "runs" / str(next(self.numbers))
        shutil.copytree(self._initial(tree, UNIT if case == UNIT else ONE), store, copy_function=os.link)
        for path in (file for place in self._inputs(case) for file in place.rglob("*.fits")):
            path.read_bytes()
        measured = self._ztfmatch(tree, "append", str(store), *map(str, self._inputs(case)), "--json")
        for path in store.rglob("*.parquet"):
            if path.stat().st_nlink == 1:
                os.truncate(path, 0)
        _say(f"{case}, {tree.name}: {measured['rate'] / 1e6:.3f} million/CPU s")
        if keep:
            self.runs.setdefault(case, {}).setdefault(tree.name, []).append(measured)

    def clear(self) -> None:
        """Remove what runs left."""
        shutil.rmtree(self.place / "runs", ignore_errors=True)

    def _ztfmatch(self, tree: Tree, *command: str) -> dict[str, Any]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(self.place / "numba-cache"), "PYTHONPATH": str(tree.root)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # Without -P the tree in which this runs would go before that which is to be measured.
        program = [sys.executable, "-P", "-m", "ztfmatch", *command]
        measured = run(program, self.place / "log.txt", environment, self.cpu)
        cpu = measured.user_s + measured.system_s
        shown = json.loads(measured.output[measured.output.index("{") :]) if "--json" in command else {"rows": 0}
        return {**measured.to_json(), "cpu_s": cpu, "rows": shown["rows"], "rate": shown["rows"] / cpu}

    def figures(self) -> list[Figure]:
        """Of this tree: rates, and what they are of the unit's; of pairs, the ratio of the new to the old."""
        rows = []
        mine = self.trees[0].name
        for case in self.runs:
            goal = GOALS.get(case)
            rows.append(Figure(f"{_named(case)}, CPU", self._rate(case, mine) / 1e6, None, "million/s"))
            rows.append(Figure(f"{_named(case)}, CPU", statistics.median(self._seconds(case, mine)), None, "s"))
            if UNIT in self.runs and case != UNIT:
                of_unit = self._rate(case, mine) / self._rate(UNIT, mine)
                rows.append(Figure(f"{_named(case)}, of the unit", of_unit, goal and goal / UNIT_RATE, ""))
            for other in self.trees[1:]:
                times = [a["rate"] / b["rate"] for a, b in zip(*self.runs[case].values(), strict=True)]
                rows.append(Figure(f"{_named(case)}, times {other.name}", statistics.median(times), None, ""))
        return rows

    def _seconds(self, case: str, tree: str) -> list[float]:
        return [one["cpu_s"] for one in self.runs[case][tree]]

    def _rate(self, case: str, tree: str) -> float:
        return statistics.median(one["rate"] for one in self.runs[case][tree])


def _named(case: str) -> str:
    names = {UNIT: "single unit", CATALOG: "one catalog", ONE: "one exposure", "1": "a night"}
    return names.get(case, f"{case} exposures of each unit")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where data and stores go, kept (12 GB and more)")
    cases = [UNIT, CATALOG, ONE, "1", "2", "4", "8", "30"]
    parser.add_argument("--cases", nargs="+", default=cases, help="numbers: exposures of each unit")
    parser.add_argument("--exposures", type=int, default=30, help="made of each unit")
    parser.add_argument("--repeat", type=int, default=3, help="counted rounds")
    parser.add_argument("--other", type=Path, help="another tree of ztfmatch, to be measured in turn with this one")
    parser.add_argument("--stores", action="store_true", help="keep the initialised stores of a run before")
    parser.add_argument("--json", type=Path, help="write all runs there")
    arguments = parser.parse_args(argv)
    trees = [Tree("this", ROOT)] + ([Tree("other", arguments.other.absolute())] if arguments.other else [])
    bench = FocalPlane(arguments.workdir.absolute(), trees, arguments.exposures)
    if not arguments.stores:
        bench.prepare()
    for number in range(arguments.repeat):
        for case in arguments.cases:
            for tree in trees:
                if not number and case == arguments.cases[0]:
                    bench.measure(case, tree, keep=False)
                bench.measure(case, tree, keep=True)
    bench.clear()
    say(bench.figures(), bench.runs, arguments.json)


if __name__ == "__main__":
    main()
