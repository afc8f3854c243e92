"""Rematch one unit in a store of itself and in stores of many units: ``python tests/benchmarks/units.py --workdir W``.

The unit is that of ``run.py`` with 100 catalogs of 17,000 rows; the others lie elsewhere on the sky, with 60 catalogs
of some 5,000 rows each. What a rematch costs should follow the unit, not the store. All catalogs of a store are taken
in by one append; then the store's ledger is one file.
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

from contenders import Bench, Settings
from measure import run
from report import Figure, say

from ztfmatch.simulate import SimulationConfig, simulate

CATALOGS = 100
FIELDS = tuple(range(310, 660, 9))
"""Of the other units, so many as there are: two neighbours have no tile in common."""


@dataclass
class UnitsBench:
    """Stores of few and of many units."""

    settings: Settings
    units: list[int]
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bench = Bench(self.settings, CATALOGS)
        self.place = self.settings.workdir / "units"
        self.place.mkdir(parents=True, exist_ok=True)

    def measure(self) -> None:
        """Rematch the unit in each store in turn, once uncounted."""
        self.bench.make_data()
        stores = {number: self._store(number) for number in self.units}
        for turn in range(self.settings.repeat + 1):
            for number, store in stores.items():
                copy = self.place / "run"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(store, copy, copy_function=os.link)
                new = str(self.bench.data / "references_1")
                measured = self._run("rematch", str(copy), "--references", new, "--json")
                if turn:
                    self.runs.setdefault(f"rematch in {number} units", []).append(measured)

    def _store(self, number: int) -> Path:
        """The store of the unit and so many less one others."""
        store, others = self.place / f"store-{number}", self._others(number - 1)
        if not store.exists():
            new = self.place / "new"
            shutil.rmtree(new, ignore_errors=True)
            places = [self.bench.data, *others]
            self._run("init", str(new), *(word for place in places for word in ("-r", str(place / "references"))))
            self._run("append", str(new), *(str(place / "catalogs") for place in places))
            new.rename(store)
        return store

    def _others(self, number: int) -> list[Path]:
        made = []
        for unit in FIELDS[:number]:
            place = self.place / f"field-{unit}"
            if not (place / "simulation.json").exists():
                shutil.rmtree(place, ignore_errors=True)
                simulate(place, SimulationConfig(fields=(unit,), rcids=(16,), filters=(2,), n_exposures=60,
                                                 stars_per_quadrant=5500, epoch_depth=0.9, truth=False))  # fmt: skip
            made.append(place)
        return made

    def _run(self, command: str, *arguments: str) -> dict[str, Any]:
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[2])]))
        cache = str(self.settings.workdir / "numba-cache")
        environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        words = [*self.settings.ztfmatch, command, *arguments]
        measured = run(words, self.bench.logs / f"units-{command}.txt", environment, self.bench.cpu)
        own = json.loads(measured.output) if "--json" in arguments else {}
        return {**measured.to_json(), "own_s": own.get("seconds"), "tiles": own.get("tiles")}

    def figures(self) -> list[Figure]:
        """The largest store over the smallest: by the clock of whole processes, and of the operation alone."""
        few, many = (self.runs[f"rematch in {number} units"] for number in (min(self.units), max(self.units)))
        name = f"rematch, {max(self.units)} units over {min(self.units)}"
        return [
            Figure(f"{name}, whole process", _ratio(many, few, "wall_s"), 1.15, "", at_most=True),
            Figure(f"{name}, operation", _ratio(many, few, "own_s"), None, ""),
        ]


def _ratio(above: list[dict[str, Any]], below: list[dict[str, Any]], value: str) -> float:
    return statistics.median(a[value] / b[value] for a, b in zip(above, below, strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="that of run.py: its data are used (1 GB more)")
    parser.add_argument("--units", type=int, nargs="+", default=[1, 25], help=f"sizes of the stores, to {len(FIELDS)}")
    parser.add_argument("--repeat", type=int, default=3, help="counted rounds")
    parser.add_argument("--json", type=Path, help="write all runs there")
    arguments = parser.parse_args(argv)
    settings = Settings(arguments.workdir.absolute(), (sys.executable, "-m", "ztfmatch"), arguments.repeat)
    bench = UnitsBench(settings, sorted(set(arguments.units)))
    bench.measure()
    for name, measured in bench.runs.items():
        walls, own = ([one[key] for one in measured] for key in ("wall_s", "own_s"))
        tiles = measured[0]["tiles"]
        print(f"{name:28} {statistics.median(walls):6.2f} s, operation {statistics.median(own):6.2f} s, {tiles} tiles")
    print()
    say(bench.figures(), bench.runs, arguments.json)


if __name__ == "__main__":
    main()
