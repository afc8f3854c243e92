"""What corrections leave: ``python tests/benchmarks/systematics.py --workdir DIR``; see README.md beside this.

For each sky, simulated with its truth: four fifths of the exposures are stored and calibrated, then all are, and
corrected. What is left of the true systematics of bright constants is printed for the exposures that were fitted and
for those that were held out, and for these once more with corrections that were extended to them: the value that 68 %
of the detections lie within, so a robust root mean square. Bound is what an estimator leaves of the fitted that knows
the form of all terms and all noise; see bound.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from bound import least_error_of_errors, left_by_the_best

import ztfmatch
from ztfmatch.core.config import AppendConfig, CalibrateConfig
from ztfmatch.photometry.calibrate import CalibrateInputs
from ztfmatch.simulate import SimulationConfig, simulate
from ztfmatch.simulate.systematics import model_error

BRIGHT = (13.5, 17.5)
FAINT_MAG = 19.0
HELD = 5
"""Every so many exposures one is held out."""

SKY = SimulationConfig(
    seed=11, fields=(679,), rcids=(16,), filters=(2,), n_exposures=80, stars_per_quadrant=40_000, epoch_depth=0.15,
    n_nights=365, bad_fraction=0.0,
)  # fmt: skip
SKIES = {
    "constant": SKY,
    "step": replace(SKY, flat_step=1.0),
    "drift": replace(SKY, flat_drift=0.010, n_nights=730),
    "colour": replace(SKY, colour_bias=0.06),
    "few": replace(SKY, n_exposures=10, stars_per_quadrant=14_000),
    "clouds": replace(SKY, cloudy_fraction=0.2),
    "variables": replace(SKY, variable_fraction=0.3),
    "outliers": replace(SKY, ps1_outliers=0.05),
}
AIMS = {"constant": 1.0, "step": 1.5, "drift": 1.5, "colour": 2.0, "few": 2.5, "clouds": 2.0, "variables": 1.7,
        "outliers": 1.7}  # fmt: skip

HEADS = ("before", "fitted", "held out", "extended", "bound", "aim", "median", "repeat", "pull", "worst", "errors",
         "unsure", "CPU s")  # fmt: skip


@dataclass(frozen=True)
class Left:
    """Of one sky, mag."""

    before: float
    fitted: float
    held: float
    extended: float
    """Of those held out, when corrections have been extended to them."""
    bound: float
    """Of the fitted, by an estimator that knows the form of all terms; NaN where there is none."""
    median: float
    """Of what is left of the fitted."""
    repeat: float
    """Scatter of bright constants in their lightcurves over what the noise alone gives."""
    pull: float
    """Robust width of the error of bright constants over magerr."""
    worst: float
    """The same in the bin of half a magnitude, 13.5 to 19, where it is farthest from 1."""
    errors: float
    """Of magerr over the noise that was simulated and what is left, root mean squares, in the bin farthest from 1."""
    unsure: float
    """Standard error of magerr by the best estimator, relative, in the bin where it is largest."""
    seconds: float
    """CPU time of calibrate."""


def within(values: np.ndarray | pd.Series) -> float:
    """Value that 68 % lie within."""
    return float(np.percentile(np.abs(values), 68.27))


def robust_width(values: np.ndarray | pd.Series) -> float:
    """Half the distance of the 16th and 84th percentile."""
    low, high = np.percentile(values, [15.865, 84.135])
    return float(0.5 * (high - low))


def make(place: Path, config: SimulationConfig) -> tuple[list[str], list[str]]:
    """The sky, once; its catalogs, fitted and held out."""
    sky = place / "sky"
    if not (sky / "simulation.json").exists():
        simulate(sky, config)
    catalogs = sorted(map(str, (sky / "catalogs").rglob("*.fits")), key=lambda path: Path(path).name)
    return [c for i, c in enumerate(catalogs) if i % HELD != 2], [c for i, c in enumerate(catalogs) if i % HELD == 2]


def left(place: Path, config: SimulationConfig, cuts: CalibrateConfig) -> Left:
    """Calibrate, correct, compare with the truth."""
    fitted, held = make(place, config)
    exposures = AppendConfig(exposures=place / "sky" / "exposures.csv")
    store = place / "store"
    if not store.exists():
        ztfmatch.init_store(store, str(place / "sky" / "references")).append(fitted, exposures)
    work, corrections = place / "work", place / "set"
    for old in (work, corrections):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(store, work)
    opened = ztfmatch.open_store(work)
    ps1 = place / "sky" / "truth" / "ps1.parquet"
    start = time.process_time()
    opened.calibrate(CalibrateInputs(ps1, corrections), cuts)
    seconds = time.process_time() - start
    opened.correct(corrections)
    opened.append(held, exposures)
    found = compared(opened, (place / "sky", config), held, seconds)
    extended = place / "extended"
    shutil.rmtree(extended, ignore_errors=True)
    opened.extend_corrections(CalibrateInputs(ps1, extended, corrections), cuts)
    opened.correct(extended)
    return replace(found, extended=compared(opened, (place / "sky", config), held, seconds).held)


def compared(store: ztfmatch.Store, of: tuple[Path, SimulationConfig], held: Sequence[str], seconds: float) -> Left:
    """What is left of the truth of a sky."""
    sky, config = of
    names = ["objectid", "exposureid", "sourceid", "psfflux", "mag", "magerr", "catflags", "xpos", "ypos"]
    rows = store.snapshot().table("detections", names).to_pandas()
    truth = {name: pq.read_table(sky / "truth" / f"{name}.parquet").to_pandas()
             for name in ("detections", "exposures", "stars", "ps1")}  # fmt: skip
    rows = rows.merge(truth["detections"], on=["exposureid", "sourceid"])
    rows = rows.merge(truth["exposures"][["exposureid", "clrcoeff", "magzp", "fracday", "obsmjd"]], on="exposureid")
    stars = truth["stars"][["star_id", "g", "r", "kind"]].rename(columns={"kind": "variability"})
    rows = rows.merge(stars, on="star_id")
    rows = rows[(rows.catflags == 0) & (rows.variability == "constant")]
    out = {int(Path(path).name.split("_")[1]) for path in held}
    middles = np.arange(BRIGHT[0] + 0.25, FAINT_MAG, 0.5)
    unsure = least_error_of_errors(rows[~rows.fracday.isin(out)], config.filters[0], middles).max()
    rows = rows[rows.true_mag.between(BRIGHT[0], FAINT_MAG)]
    mine = rows.fracday.isin(out)
    best = left_by_the_best(rows, truth["ps1"], config, ~mine.to_numpy())
    every = (rows.mag + rows.clrcoeff * (rows.g - rows.r) - rows.true_mag) / rows.magerr
    off = rows.systematic - (rows.magzp - 2.5 * np.log10(rows.psfflux) - rows.mag)
    half = np.floor(2.0 * rows.true_mag)
    pulls = every.groupby(half).agg(robust_width)
    noise = off**2 + model_error(rows.true_mag.to_numpy(), SKY.filters[0]) ** 2
    errors = np.sqrt((rows.magerr.astype(float) ** 2).groupby(half).mean() / noise.groupby(half).mean())
    worst, false = (float(of.iloc[np.abs(of - 1.0).argmax()]) for of in (pulls, errors))
    bright = rows.true_mag.between(*BRIGHT)
    rows, off, mine, best = rows[bright], off[bright], mine[bright], best[bright]
    error = rows.mag + rows.clrcoeff * (rows.g - rows.r) - rows.true_mag
    parts = (rows.systematic, off[~mine], off[mine], np.full(1, np.nan), best[~mine])
    repeat, pull = _repeat(rows, error, off), robust_width(error / rows.magerr)
    return Left(*map(within, parts), float(off[~mine].median()), repeat, pull, worst, false, unsure, seconds)


def _repeat(rows: pd.DataFrame, error: pd.Series, off: pd.Series) -> float:
    """Median scatter of lightcurves with what is left of the systematics, over that without."""
    both = pd.DataFrame({"objectid": rows.objectid, "now": error, "free": error - off})
    scatter = both.groupby("objectid").agg(n=("now", "size"), now=("now", "std"), free=("free", "std"))
    scatter = scatter[scatter.n >= 5]
    return float(scatter.now.median() / scatter.free.median())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--skies", nargs="+", choices=list(SKIES), default=list(SKIES))
    parser.add_argument("--seed", type=int, default=SKY.seed)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    print(f"{'mmag':<12}" + "".join(f"{word:>9}" for word in HEADS))
    found = {}
    for name in options.skies:
        place = options.workdir / f"{name}-{options.seed}"
        place.mkdir(parents=True, exist_ok=True)
        got = found[name] = left(place, replace(SKIES[name], seed=options.seed), CalibrateConfig())
        numbers = [1e3 * got.before, 1e3 * got.fitted, 1e3 * got.held, 1e3 * got.extended, 1e3 * got.bound]
        numbers += [AIMS[name], 1e3 * got.median]
        shares = [got.repeat, got.pull, got.worst, got.errors, got.unsure]
        line = "".join(f"{value:>9.2f}" for value in numbers) + "".join(f"{value:>9.3f}" for value in shares)
        print(f"{name:<12}{line}{got.seconds:>9.1f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({name: vars(got) for name, got in found.items()}, indent=1))


if __name__ == "__main__":
    main()
