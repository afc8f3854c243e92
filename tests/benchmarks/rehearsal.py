"""Rehearse the survey: ``python tests/benchmarks/rehearsal.py --workdir W [--scale S] --json FILE``.

A part of the sky over the whole focal plane, one field of it in the galactic plane, where stars are 20 times denser:
init, a bulk append, two nights with statistics and transients after each, compaction, a rematch of every eighth unit,
verification and a release, each a whole process on one core. Before each, ``ztfmatch plan`` says what it will take.
Printed are what was measured beside what was planned, what the survey would take at that rate, and the constants of
``ztfmatch/core/costs.py`` as these runs give them. With ``--scale 1`` it is 1 % of a year of the survey.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measure import own_cpu, run
from release import SCOPE

from ztfmatch.core import camera, costs
from ztfmatch.release.forecast import COUNTING
from ztfmatch.simulate import SimulationConfig, Simulator
from ztfmatch.simulate.catalogs import UnitSky
from ztfmatch.simulate.dataset import write_reference
from ztfmatch.simulate.fitsout import write_catalog
from ztfmatch.simulate.layout import catalog_path, epochal_keys

NIGHTS = 2
EVERY = 8
"""Of so many units one gets a new reference: 13 %."""
DENSER = 20.0

YEAR_ROWS, YEAR_CATALOGS, SEEDS = 183e9, 10.6e6, 4.5e9
NIGHT_ROWS = 40_000 * YEAR_ROWS / YEAR_CATALOGS
MATCHED = 0.83
"""Of the rows, over the survey."""
READS = 10.0
"""How often an epoch is read for statistics, if they wait for a tenth of new epochs."""
REREADS = 5.26
"""How often init reads a seed to write it (initmemory.py)."""
PASSES_A_NIGHT = 0.165
"""Of a tile, in the first year: log(365) / log(1.1) passes in 365 nights."""


@dataclass(frozen=True)
class Scale:
    """How much is made."""

    fields: tuple[int, ...]
    filters: tuple[int, ...]
    stars: int
    exposures: int

    @classmethod
    def of(cls, scale: float) -> Scale:
        """1 for 1 % of a year: 1,020 units of 44,000 seeds, 104 exposures each; less first of filters and stars."""
        plane = _plane_field()
        if scale >= 0.5:
            return cls((679, 1677, 1721, 1720, plane), (1, 2, 3), round(44_000 / 4.8), round(104 * scale))
        stars = 2_200 if scale < 0.05 else 9_000
        rows = 64 * stars * 0.4 * (2 + DENSER)
        return cls((679, 1677, plane), (2,), stars, max(round(1.83e9 * scale / rows), NIGHTS + 1))


def _plane_field() -> int:
    """The northern field that is nearest to the galactic plane, by the pole of the Galaxy."""
    pole_ra, pole_dec = np.radians((192.85948, 27.12825))
    grid = {number: np.radians(place) for number, place in camera.field_grid().items() if number < 900 and place[1] > 0}

    def sin_b(place: np.ndarray) -> float:
        ra, dec = place
        return float(np.sin(dec) * np.sin(pole_dec) + np.cos(dec) * np.cos(pole_dec) * np.cos(ra - pole_ra))

    return min(grid, key=lambda number: abs(sin_b(grid[number])))


@dataclass
class Step:
    """One process."""

    name: str
    command: str
    cpu_s: float
    wall_s: float
    peak_mib: float
    amount: float
    """Of its work."""
    jobs: dict[str, list[float]]
    """Seconds of each task."""
    plan: dict[str, Any]

    @property
    def planned_s(self) -> float:
        """CPU seconds by the plan."""
        return float(self.plan["core_hours"]) * 3600.0

    @property
    def longest_over_mean(self) -> float:
        """Of the job that takes most."""
        seconds = self.of_dominant
        return max(seconds) * len(seconds) / sum(seconds) if sum(seconds) else 1.0

    @property
    def dominant(self) -> str:
        """The job that takes most, unless start, plan and commit do."""
        spent = {job: sum(seconds) for job, seconds in self.jobs.items()}
        other = self.wall_s - sum(spent.values())
        most = max(spent, key=lambda job: spent[job], default="")
        return most if spent and spent[most] > other else "start, plan, commit"

    @property
    def of_dominant(self) -> list[float]:
        """Seconds of the tasks of that job."""
        return self.jobs.get(self.dominant, [])

    def job_s(self, job: str) -> float:
        """CPU seconds of a job: its part of the wall time is that of the CPU time."""
        return sum(self.jobs.get(job, [])) * self.cpu_s / self.wall_s


@dataclass
class Rehearsal:
    """Data, store, and what was measured."""

    place: Path
    scale: Scale
    steps: dict[str, Step] = field(default_factory=dict)
    start_s: float = 0.0

    def __post_init__(self) -> None:
        self.data, self.store, self.cpu = self.place / "data", self.place / "store", own_cpu()

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "NUMBA_CACHE_DIR": str(self.place / "numba-cache")}

    def prepare(self) -> None:
        """Make the data, once."""
        if (self.data / "made").exists() and json.loads((self.data / "made").read_text()) == str(self.scale):
            return
        shutil.rmtree(self.data, ignore_errors=True)
        config = SimulationConfig(
            fields=self.scale.fields, rcids=tuple(range(64)), filters=self.scale.filters,
            n_exposures=self.scale.exposures, stars_per_quadrant=self.scale.stars,
            dense_field=self.scale.fields[-1], dense_factor=DENSER, depth_scatter=0.05, bad_fraction=0.0, truth=False,
            full_headers=True,
        )  # fmt: skip
        simulator = Simulator(config)
        for number, sky in enumerate(simulator.units()):
            write_reference(self.data / "references", simulator, sky, 0)
            if number % EVERY == 0:
                write_reference(self.data / "regenerated", simulator, sky, 1)
            self._make_catalogs(simulator, sky)
        (self.data / "made").write_text(json.dumps(str(self.scale)))

    def _make_catalogs(self, simulator: Simulator, sky: UnitSky) -> None:
        bulk = self.scale.exposures - NIGHTS
        for number, exposure in enumerate(simulator.exposures_of(sky.unit)):
            found, state = sky.detect(exposure)
            group = "bulk" if number < bulk else f"night-{number - bulk}"
            path = self.data / group / catalog_path(sky.unit, exposure.fracday)
            write_catalog(path, epochal_keys(sky, exposure, state, len(found.rows)), found.rows)

    def all_steps(self) -> Iterator[Step]:
        """Run them, one after the other, with all kernels compiled."""
        run([sys.executable, "-m", "ztfmatch.precompile"], self.place / "log.txt", self._environment, self.cpu)
        store, data = self.store, self.data
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(self.place / "release", ignore_errors=True)
        references = str(data / "references")
        yield self._step("init", "init", "objects", ["--references", references], [references])
        yield self._step("bulk append", "append", "rows", [str(data / "bulk")])
        yield self._step("all statistics", "statistics", "epochs", ["--min-new", "0"], [])
        yield self._step("all transients", "transients", "orphans", [])
        for night in range(NIGHTS):
            yield self._step(f"night {night + 1}: append", "append", "rows", [str(data / f"night-{night}")])
            yield self._step(f"night {night + 1}: statistics", "statistics", "epochs", ["--min-new", "0"], [])
            yield self._step(f"night {night + 1}: transients", "transients", "orphans", [])
        yield self._step("compaction", "compact", "rows", ["--min-files", "2"], [])
        regenerated = str(data / "regenerated")
        yield self._step("rematch of 13 %", "rematch", "rows", ["--references", regenerated], [regenerated])
        yield self._step("verify", "verify", "rows", [])
        (self.place / "all.toml").write_text(SCOPE)
        release = [str(self.place / "release"), "--release", str(self.place / "all.toml")]
        yield self._step("publish hats", "publish", "epochs", release, [], ["publish", "hats"])
        self.start_s = self._run(["history", str(store)])[0].user_s

    def _step(
        self, name: str, operation: str, work: str, words: list[str], places: list[str] | None = None,
        command: list[str] | None = None,
    ) -> Step:  # fmt: skip
        store, log = str(self.store), self.place / "tasks.jsonl"
        log.unlink(missing_ok=True)
        plan = self._run(["plan", operation, store, *(words if places is None else places), "--json"])[1]
        heading = [*(command or [operation]), store, *words]
        measured, told = self._run([*heading, "--json", "--log-file", str(log), "--memory", "6GiB"])
        jobs: dict[str, list[float]] = {}
        for line in log.read_text().splitlines() if log.exists() else []:
            entry = json.loads(line)
            if entry["event"] == "task":
                jobs.setdefault(entry["job"], []).append(entry["seconds"])
        step = Step(name, operation, measured.user_s + measured.system_s, measured.wall_s, measured.main_rss_mib,
                    _amount(told, plan, work), jobs, plan)  # fmt: skip
        self.steps[name] = step
        print(f"{name}: {step.cpu_s:.1f} CPU s, planned {step.planned_s:.1f}", file=sys.stderr, flush=True)
        return step

    def _run(self, words: list[str]) -> tuple[Any, Any]:
        command = [sys.executable, "-m", "ztfmatch", *words]
        measured = run(command, self.place / "log.txt", self._environment, self.cpu)
        text = measured.output
        return measured, json.loads(text[text.index("{") :]) if "--json" in words else None


def _amount(told: dict[str, Any], plan: dict[str, Any], work: str) -> float:
    """What was done, as the command says; else as the plan does."""
    if work in told and isinstance(told[work], int):
        return float(told[work])
    if "bytes_before" in told:
        return float(told["bytes_before"]) / costs.STORED_ROW_BYTES
    if "matched" in told:
        return float(told["matched"] + told["orphans"])
    if "detections" in told and "orphans" in told:
        return float(told["detections"] + told["orphans"])
    return float(plan["amount"])


def survey(steps: dict[str, Step], start_s: float) -> list[tuple[str, float, float, float]]:
    """Core-hours of the survey: at the rates that were measured, by the constants of costs.py, and the aim.

    Rates are of rows: where objects have few epochs, as in a rehearsal of few nights, what each object costs makes them
    low. The constants tell rows from objects: of the survey's objects each has 34 epochs.
    """

    def rate(*names: str) -> float:
        some = [steps[name] for name in names]
        return sum(max(step.cpu_s - start_s, 0.0) for step in some) / max(sum(step.amount for step in some), 1.0)

    nights = [f"night {night + 1}: " for night in range(NIGHTS)]
    rows = sum(steps[f"{night}append"].amount for night in nights)
    transients = sum(max(steps[f"{night}transients"].cpu_s - start_s, 0.0) for night in nights) / max(rows, 1.0)
    statistics = rate("all statistics", *(f"{night}statistics" for night in nights))
    row, epochs = costs.INSPECTED_ROW.seconds + costs.MATCHED_ROW.seconds, YEAR_ROWS * MATCHED
    night_epochs = NIGHT_ROWS * MATCHED * READS
    hours = [
        ("init, 4.5 billion seeds", SEEDS * rate("init"),
         SEEDS * (costs.REFERENCE_SEED.seconds + REREADS * costs.REREAD_SEED.seconds + costs.WRITTEN_OBJECT.seconds
                  + costs.LINKED_OBJECT.seconds), 1.5),
        ("first year", YEAR_ROWS * rate("bulk append"), YEAR_ROWS * row + 2 * SEEDS * costs.LAID_SEED.seconds, 60.0),
        ("nightly append of 40,000 catalogs", NIGHT_ROWS * rate(*(f"{n}append" for n in nights)),
         NIGHT_ROWS * (row + 2.2 * costs.LAID_SEED.seconds), 0.4),
        ("nightly statistics", night_epochs * statistics,
         night_epochs * costs.EPOCH.seconds + SEEDS * PASSES_A_NIGHT * costs.OBJECT.seconds, 1.0),
        ("nightly transients", NIGHT_ROWS * transients, float("nan"), 0.5),
        ("monthly compaction", YEAR_ROWS / 12 * rate("compaction"), YEAR_ROWS / 12 * costs.MERGED_ROW.seconds, 12.0),
        ("rematch of 13 % of the units", 0.13 * YEAR_ROWS * rate("rematch of 13 %"),
         0.13 * (YEAR_ROWS * costs.REMATCHED_ROW.seconds + SEEDS * costs.TRACED_SEED.seconds)
         + YEAR_ROWS * costs.RETIRED_ROW.seconds, 20.0),
        ("verify", YEAR_ROWS * rate("verify"),
         YEAR_ROWS * costs.VERIFIED_ROW.seconds
         + SEEDS * (costs.VERIFIED_OBJECT.seconds + costs.VERIFIED_MEMBER.seconds), 27.0),
        ("publish hats", epochs * rate("publish hats"),
         (1.0 + COUNTING) * (epochs * costs.PUBLISHED_EPOCH.seconds + SEEDS * costs.PUBLISHED_OBJECT.seconds), 30.0),
    ]  # fmt: skip
    return [(name, measured / 3600.0, modelled / 3600.0, aim) for name, measured, modelled, aim in hours]


def constants(steps: dict[str, Step]) -> dict[str, float]:
    """Of ztfmatch/core/costs.py, as these runs give them.

    Of objects, which dominate where each has few epochs; what rows cost is taken from there, and measured by run.py.

    Matching, in bulk and by night, gives two equations for rows and seeds.
    """
    bulk, nights = steps["bulk append"], [steps[f"night {night + 1}: append"] for night in range(NIGHTS)]
    seeds = steps["init"].amount
    spent = [
        (step.amount, seeds, step.job_s("matching") - costs.MATCHING.seconds * len(step.jobs.get("matching", [])))
        for step in (bulk, *nights)
    ]
    left = np.array([[rows, seeds_] for rows, seeds_, _ in spent])
    row, seed = np.linalg.lstsq(left, np.array([seconds for *_, seconds in spent]), rcond=None)[0]
    init, first, verify = steps["init"], steps["all statistics"], steps["verify"]
    return {
        "INSPECTED_ROW": bulk.job_s("reading catalogs") / bulk.amount,
        "MATCHED_ROW": float(row),
        "LAID_SEED": float(seed),
        "REFERENCE_SEED": init.job_s("reading references") / init.amount,
        "REREAD_SEED + WRITTEN_OBJECT": init.job_s("objects") / init.amount,
        "LINKED_OBJECT": init.job_s("stars") / init.amount,
        "OBJECT": (first.job_s("statistics") - first.amount * costs.EPOCH.seconds) / seeds,
        "MERGED_ROW": steps["compaction"].job_s("merging") / max(steps["compaction"].amount, 1.0),
        "VERIFIED_OBJECT + VERIFIED_MEMBER": (verify.job_s("verifying") - verify.amount * costs.VERIFIED_ROW.seconds)
        / seeds,
        "PUBLISHED_OBJECT": (
            steps["publish hats"].job_s("partitions") - steps["publish hats"].amount * costs.PUBLISHED_EPOCH.seconds
        )
        / seeds,
    }


def show(rehearsal: Rehearsal) -> dict[str, Any]:
    """Print the tables; returns them."""
    steps = rehearsal.steps
    print(
        "| step | work | CPU seconds | planned | peak MiB | mostly | tasks | longest, s | over mean |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for step in steps.values():
        print(f"| {step.name} | {step.amount:,.0f} | {step.cpu_s:.1f} | {step.planned_s:.1f} | {step.peak_mib:.0f} | "
              f"{step.dominant} | {len(step.of_dominant)} | "
              f"{max(step.of_dominant, default=0.0):.2f} | {step.longest_over_mean:.1f} |")  # fmt: skip
    rows = survey(steps, rehearsal.start_s)
    print("\n| core-hours on the survey | at these rates | by the constants | aim |\n|---|---|---|---|")
    for name, hours, modelled, aim in rows:
        print(f"| {name} | {hours:.2g} | {'' if modelled != modelled else f'{modelled:.2g}'} | {aim:g} |")
    measured = constants(steps)
    print("\n| constant | measured, 1e-6 s | in costs.py |\n|---|---|---|")
    for name, seconds in measured.items():
        known = sum(getattr(costs, one).seconds for one in name.split(" + "))
        print(f"| {name} | {seconds * 1e6:.2f} | {known * 1e6:.2f} |")
    told = {
        name: {**vars(step), "planned_s": step.planned_s, "dominant": step.dominant} for name, step in steps.items()
    }
    return {"scale": vars(rehearsal.scale), "steps": told, "survey": rows, "constants": measured}


def main() -> None:
    """Make, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where data and store go, kept")
    parser.add_argument("--scale", type=float, default=0.005, help="part of 1 %% of a year of the survey")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rehearsal = Rehearsal(options.workdir.absolute(), Scale.of(options.scale))
    rehearsal.place.mkdir(parents=True, exist_ok=True)
    rehearsal.prepare()
    for _ in rehearsal.all_steps():
        pass
    told = show(rehearsal)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
