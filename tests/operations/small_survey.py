"""A few small catalogs and what each of them must look like in a store, found from each alone and by brute force."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from helpers import UNIT, append, brute_force, epochal_file, fate_in, make_store, reference_file, rows_at, table

from ztfmatch.survey import Unit

OTHER = Unit(1550, 63, 1)
BARE = Unit(500, 21, 2)
"""Has no reference."""

EXPOSURES = [(unit, night) for night in range(4) for unit in (UNIT, OTHER)] + [(BARE, 0)]
SEEDS_PER_TILE = 16
EXTENT_ARCSEC = 60.0
CONTENT = ("detections", "orphans", "exposures")
CODES = {"cut": "truncated", "junk": "not-fits"}
"""Contents that cannot be used, and what a store says of them."""


@dataclass(frozen=True)
class SmallSurvey:
    """Catalogs by content: ``good``, ``other`` (another catalog of the same exposure), and the damaged ones."""

    references: list[Path]
    names: list[str]
    data: dict[tuple[int, str], bytes]
    """By exposure and content."""
    pieces: dict[tuple[int, str], dict[str, pa.Table]]
    """By exposure and usable content: its rows of CONTENT in a store that holds nothing else."""
    ids: list[int]
    """Key of each exposure in the ledger."""
    objects: pa.Table
    template: Path
    """A store of the references, to be copied."""


def make_survey(directory: Path) -> SmallSurvey:
    """Write references, make the contents of all catalogs, and learn from each alone what a store makes of it."""
    rng = np.random.default_rng(2018)
    seeds = {unit: rng.uniform(-EXTENT_ARCSEC, EXTENT_ARCSEC, (2, 40)) for unit in (UNIT, OTHER)}
    references = [reference_file(directory, rows_at(*_sky(*xy)), unit) for unit, xy in seeds.items()]
    template = make_store(directory / "template", references, seeds_per_tile=SEEDS_PER_TILE)
    names: list[str] = []
    data: dict[tuple[int, str], bytes] = {}
    pieces: dict[tuple[int, str], dict[str, pa.Table]] = {}
    for i, (unit, night) in enumerate(EXPOSURES):
        for content in ("good", "other"):
            rows = _detections(rng, seeds.get(unit, seeds[UNIT]))
            program = 1 + (night + (unit is OTHER)) % 2
            path = epochal_file(directory, rows, night, unit, PROGRMID=program, NMATCHES=500 if night != 2 else 3)
            data[i, content] = path.read_bytes()
            pieces[i, content] = _alone(directory / f"alone-{i}-{content}", references, path)
        names.append(path.name)
        data[i, "cut"], data[i, "junk"] = data[i, "good"][: -2880 - 1], b"junk" * i + b"!"
    ids = [pieces[i, "good"]["exposures"]["exposureid"][0].as_py() for i in range(len(EXPOSURES))]
    return SmallSurvey(references, names, data, pieces, ids, table(template, "objects"), Path(template.root))


def _sky(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in arcsec about a place where three base pixels meet, on both sides of RA 0."""
    dec = math.degrees(math.asin(2.0 / 3.0)) + y / 3600.0
    return (x / 3600.0 / np.cos(np.radians(dec))) % 360.0, dec


def _detections(rng: np.random.Generator, seeds: np.ndarray) -> np.ndarray:
    """Some seeds seen, a few of them twice, strays, and rows that cannot be used."""
    seen = rng.random(seeds.shape[1]) < 0.7
    near = seeds[:, seen] + rng.normal(0.0, 0.5, (2, seen.sum()))
    twice = seeds[:, :4] + rng.uniform(-1.0, 1.0, (2, 4))
    x, y = np.concatenate([near, twice, rng.uniform(-EXTENT_ARCSEC, EXTENT_ARCSEC, (2, 6))], axis=1)
    n = len(x)
    rows = rows_at(*_sky(x, y), flux=rng.uniform(-20.0, 4000.0, n), sigflux=rng.uniform(1.0, 30.0, n))
    rows["flags"] = rng.choice([0, 0, 0, 2, 4, -1], n)
    rows["ra"][-2:] = [np.nan, 400.0]
    return rows[rng.permutation(n)]


def _alone(place: Path, references: list[Path], catalog: Path) -> dict[str, pa.Table]:
    storage = make_store(place, references)
    append(storage, [catalog])
    assert fate_in(storage) == brute_force(references, [catalog])
    return {name: table(storage, name) for name in CONTENT}


# Statistics, as schema/statistics.py defines them, by numpy alone.

Row = dict[str, float | None]


def statistics_from_scratch(epochs: pa.Table, objectids: list[int], public: set[int]) -> dict[int, Row]:
    """Some statistics of every object, by objectid; ``epochs`` are detections, ``public`` released exposures."""
    columns = {
        name: epochs[name].to_numpy()
        for name in ("objectid", "exposureid", "hmjd", "mag", "magerr", "catflags", "psfflux")
    }
    order = np.lexsort([columns["exposureid"], columns["hmjd"]])
    columns = {name: values[order] for name, values in columns.items()}
    return {
        objectid: _statistics({name: v[columns["objectid"] == objectid] for name, v in columns.items()}, public)
        for objectid in objectids
    }


def _statistics(epochs: dict[str, np.ndarray], public: set[int]) -> Row:
    released = np.isin(epochs["exposureid"], list(public))
    good = (epochs["catflags"] == 0) & np.isfinite(epochs["mag"]) & np.isfinite(epochs["magerr"])
    m, e, t = (epochs[name][good].astype(np.float64) for name in ("mag", "magerr", "hmjd"))
    n = len(m)
    row: Row = {"nobs": len(good), "nobsrel": released.sum(), "ngoodobs": n, "ngoodobsrel": (good & released).sum()}
    undefined = ("minmag", "maxmag", "meanmag", "medianmag", "medmagerr", "weightedmeanmag", "medianabsdev")
    undefined += ("percentiles_25", "magrms", "chisq", "lineartrend", "vonneumannratio")
    row |= dict.fromkeys(undefined)
    if n >= 1:
        mean, w = m.mean(), e**-2.0
        weighted = (w * m).sum() / w.sum()
        row |= {"minmag": m.min(), "maxmag": m.max(), "meanmag": mean, "weightedmeanmag": weighted}
        row |= {"medianmag": np.median(m), "medianabsdev": np.median(abs(m - np.median(m)))}
        row |= {"medmagerr": np.sort(e)[(n - 1) // 2], "percentiles_25": np.percentile(m, 25.0)}
    if n >= 2:
        row |= {"magrms": m.std(ddof=1), "chisq": (((m - weighted) / e) ** 2).sum() / (n - 1)}
        row["lineartrend"] = ((t - t.mean()) * (m - mean)).sum() / ((t - t.mean()) ** 2).sum()
        row["vonneumannratio"] = (np.diff(m) ** 2).sum() / (n - 1) / m.var(ddof=1)
    return row


@functools.cache
def tolerance(name: str) -> float:
    """Relative difference allowed for a float32 made from sums in float64; slopes and ratios cancel digits."""
    return 1e-3 if name in ("lineartrend", "chisq", "vonneumannratio", "magrms", "medianabsdev") else 1e-6
