"""Measure photometric corrections: ``python tests/benchmarks/corrections.py --workdir DIR``; see README.md beside this.

Whole processes on one core: calibrate, append without and with corrections in turns, correct in place. What is compared
is the time that each operation reports of itself, and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contenders import HERE
from measure import own_cpu, run
from report import machine, versions

from ztfmatch.simulate import simulate
from ztfmatch.simulate.dataset import benchmark_config


@dataclass(frozen=True)
class Bench:
    """Where to work, and how often to measure."""

    workdir: Path
    repeat: int

    @property
    def sky(self) -> Path:
        """The unit's catalogs and the PS1 catalog of its stars."""
        return self.workdir / "sky"

    def make(self, catalogs: int) -> None:
        """Simulate the unit, once."""
        if not self.sky.exists():
            simulate(self.sky, replace(benchmark_config(catalogs), truth=True))

    def command(self, name: str, *words: object) -> dict[str, Any]:
        """Run a command of ztfmatch; what it reports, with its peak memory."""
        import os

        line = [sys.executable, "-m", "ztfmatch", name, *map(str, words), "--json"]
        got = run(line, self.workdir / f"{name}.log", {**os.environ, "PYTHONPATH": str(HERE.parents[1])}, own_cpu())
        return {**json.loads(got.output), **got.to_json()}

    def fresh(self, name: str) -> Path:
        """A store without detections."""
        store = self.workdir / name
        shutil.rmtree(store, ignore_errors=True)
        self.command("init", store, "--references", self.sky / "references")
        return store

    def measure(self) -> dict[str, list[dict[str, Any]]]:
        """Every run, the first of each not counted: it may compile."""
        runs: dict[str, list[dict[str, Any]]] = {}
        corrections, exposures = self.workdir / "corrections", self.sky / "exposures.csv"
        for turn in range(self.repeat + 1):
            plain, with_set = self.fresh("plain"), self.fresh("corrected")
            got = {"append": self.command("append", plain, self.sky / "catalogs", "--exposures", exposures)}
            shutil.rmtree(corrections, ignore_errors=True)
            ps1 = self.sky / "truth" / "ps1.parquet"
            got["calibrate"] = self.command("calibrate", plain, "--ps1", ps1, "--output", corrections)
            words = ("--exposures", exposures, "--corrections", corrections)
            got["append with corrections"] = self.command("append", with_set, self.sky / "catalogs", *words)
            got["correct"] = self.command("correct", plain, corrections)
            if turn:
                for name, one in got.items():
                    runs.setdefault(name, []).append(one)
        return runs


def figures(runs: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Medians: detections a second and core, by the time of the operation; how much slower an append becomes."""
    rows = runs["append"][0]["rows"]
    taken = {name: statistics.median(one["seconds"] for one in of) for name, of in runs.items()}
    speed = {f"{name}, detections/s": rows / seconds for name, seconds in taken.items()}
    slower = statistics.median(
        second["seconds"] / first["seconds"]
        for first, second in zip(runs["append"], runs["append with corrections"], strict=True)
    )
    memory = {f"{name}, MiB": max(one["main_rss_mib"] for one in of) for name, of in runs.items()}
    return {**speed, "append with corrections over append": slower, **memory}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--catalogs", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    options.workdir.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.workdir, options.repeat)
    bench.make(options.catalogs)
    runs = bench.measure()
    for name, value in figures(runs).items():
        print(f"{name:<40}{value:>14,.3f}" if value < 100 else f"{name:<40}{value:>14,.0f}")
    if options.json:
        about = {"machine": machine(), "versions": versions(), "runs": runs, "figures": figures(runs)}
        options.json.write_text(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
