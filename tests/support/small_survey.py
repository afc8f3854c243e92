"""A few small catalogs and what each of them must look like in a store, checked by brute force."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import corrected
import numpy as np
import pyarrow as pa
from helpers import (
    UNIT,
    Fate,
    append,
    brute_force,
    cartesian,
    epochal_file,
    fate_in,
    judge,
    make_store,
    reference_file,
    rows_at,
    runner,
    table,
)
from matchfiles import Content, make_content, write_matchfile

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.survey import Unit, matchfile_name, refpsfcat_name
from ztfmatch.matchfile.ingest import ImportConfig, import_matchfiles

OTHER = Unit(1551, 63, 1)
"""Of a field whose offset in a set of corrections is not zero, so that one with it differs from one without."""
BARE = Unit(500, 21, 2)
"""Has no reference at first."""

FILED = Unit(1551, 62, 1)
"""Comes from matchfiles."""

UNITS = (UNIT, OTHER, BARE, FILED)
EXPOSURES = [(unit, night) for night in range(4) for unit in (UNIT, OTHER)] + [(BARE, 0), (FILED, 0)]
"""Those of catalogs."""

MATCHFILES = {"young": 2, "grown": 3}
"""Matchfiles of FILED, as contents of its exposures: how many of them each has."""

SEEDS_PER_TILE = 40
EXTENT_ARCSEC = 60.0
CONTENT = ("detections", "orphans", "exposures")
CODES = {"cut": "truncated", "junk": "not-fits"}
"""Contents that cannot be used, and what a store says of them."""

FIRST = "first"
REFERENCES = (FIRST, "second", "third", "cut")
"""Directories of references: those that a store is made of, those regenerated, and damaged ones."""

LATER = (BARE, FILED)
"""Units without a reference at first."""

FOREIGN = Unit(777, 3, 3)
MODEL = (0.02, -5e-4, 1.7e-9, -4.4e-18)


@dataclass(frozen=True)
class SetOfCorrections:
    """What a directory of corrections has."""

    units: tuple[Unit, ...]
    offsets: tuple[Unit, ...]
    errors: tuple[Unit, ...]
    measured: Mapping[int, tuple[float, float, int]]
    """Columns of RELATIVE by exposure."""


RELATIVE = ("relzp", "relzprms", "nrelzp")
SETS = {
    "early": SetOfCorrections((UNIT, OTHER), (UNIT,), (UNIT,), {0: (0.0125, 0.03, 77), 1: (-0.02, 0.01, 9)}),
    "late": SetOfCorrections((OTHER, BARE, FILED), (OTHER, BARE), (), {1: (0.004, 0.02, 50), 3: (0.001, 0.5, 2)}),
    "foreign": SetOfCorrections((FOREIGN,), (), (), {}),
}
"""Sets of corrections; the last has nothing for any catalog."""


@dataclass(frozen=True)
class SmallSurvey:
    """Catalogs by content: ``good``, ``other`` (another catalog of the same exposure), and the damaged ones."""

    directory: Path
    names: list[str]
    data: dict[tuple[int, str], bytes]
    """By exposure and content."""
    pieces: dict[tuple[int, str, str], dict[str, pa.Table]]
    """By exposure, usable content and directory of references: its rows of CONTENT, uncorrected."""
    photometry: dict[tuple[int, str, str], pa.Table]
    """By exposure, usable content and set of corrections: MADE of all its rows, by sourceid."""
    ids: list[int]
    """Key of each exposure in the ledger: those of EXPOSURES, then those of matchfiles."""
    objects: dict[tuple[Unit, str], pa.Table]
    """By unit and directory of references: its rows, as of generation 0."""
    template: Path
    """A store of the first references, to be copied."""
    digests: dict[str, str] = field(default_factory=dict)
    """Names of the sets of corrections."""

    def reference(self, unit: Unit, variant: str) -> Path:
        """Where a reference is, or the matchfile whose sources a unit has."""
        return self.directory / variant / (matchfile_name if variant in MATCHFILES else refpsfcat_name)(unit)

    def corrections(self, name: str) -> Path:
        return self.directory / "sets" / name


MADE = ("mag", "magerr", "corrflags")
"""Columns that corrections change."""


def make_survey(directory: Path) -> SmallSurvey:
    """Write references, corrections and catalogs, and learn what a store makes of each catalog."""
    rng = np.random.default_rng(2018)
    filed = _filed()
    seeds = {unit: _seeds(rng) for unit in (UNIT, OTHER)} | {FILED: _of_matchfile(filed)}
    survey = SmallSurvey(directory, [], {}, {}, {}, [], {}, directory / "template")
    _write_references(survey, rng, seeds)
    paths = {content: _write_catalogs(survey, rng, seeds, content) for content in ("good", "other")}
    make_store(survey.template, _references(survey, FIRST), seeds_per_tile=SEEDS_PER_TILE)
    survey.names.extend(path.name for path in paths["good"])
    for i in range(len(EXPOSURES)):
        survey.data[i, "cut"], survey.data[i, "junk"] = survey.data[i, "good"][: -2880 - 1], b"junk" * i + b"!"
    for variant in REFERENCES[:3]:
        for content, catalogs in paths.items():
            _learn_matches(survey, variant, content, catalogs)
    survey.ids.extend(_exposureids(paths["good"]))
    _learn_matchfiles(survey, filed)
    for name in SETS:
        _write_set(survey, name)
        for content, catalogs in paths.items():
            _learn_photometry(survey, name, content, catalogs)
    return survey


@dataclass(frozen=True)
class _Seeds:
    """Places on the sky, arcsec, shape (2, N)."""

    sources: np.ndarray
    strays: np.ndarray
    """No reference has them at first, but many catalogs."""


def _seeds(rng: np.random.Generator) -> _Seeds:
    sources = rng.uniform(-EXTENT_ARCSEC, EXTENT_ARCSEC, (2, 40))
    sources[:, -2:] = sources[:, :2] + 0.9  # blends
    return _Seeds(sources, rng.uniform(-EXTENT_ARCSEC, EXTENT_ARCSEC, (2, 3)))


def _regenerated(rng: np.random.Generator, seeds: _Seeds, variant: str) -> np.ndarray:
    """Places of a variant's sources, in another order than before."""
    x = seeds.sources
    if variant == FIRST:
        return x
    if variant == "third":
        parts = [x[:, :20], x[:, 26:], seeds.strays]
    else:  # two blends merged, some split, some moved, some gone, some new
        merged, split = (x[:, :2] + x[:, -2:]) / 2, x[:, 2:5]
        new = rng.uniform(-EXTENT_ARCSEC, EXTENT_ARCSEC, (2, 3))
        parts = [merged, split - 0.5, split + 0.5, x[:, 5:12] + 0.6, x[:, 12:15] + 0.03, x[:, 15:30], new]
    places = np.concatenate(parts, axis=1)
    return places[:, rng.permutation(places.shape[1])]


def _write_references(survey: SmallSurvey, rng: np.random.Generator, seeds: dict[Unit, _Seeds]) -> None:
    for variant in REFERENCES[:3]:
        (survey.directory / variant).mkdir()
        for unit in (unit for unit in UNITS if variant != FIRST or unit not in LATER):
            places = _regenerated(rng, seeds.get(unit, seeds[UNIT]), variant)
            mag = rng.uniform(-9.0, -4.0, places.shape[1])
            reference_file(survey.directory / variant, rows_at(*_sky(*places), mag=mag), unit)
    (survey.directory / "cut").mkdir()
    for unit in UNITS:
        survey.reference(unit, "cut").write_bytes(survey.reference(unit, "second").read_bytes()[: -2880 - 1])


def _references(survey: SmallSurvey, variant: str) -> list[Path]:
    return sorted((survey.directory / variant).iterdir())


def _write_catalogs(
    survey: SmallSurvey, rng: np.random.Generator, seeds: dict[Unit, _Seeds], content: str
) -> list[Path]:
    (survey.directory / content).mkdir()
    paths = []
    for i, (unit, night) in enumerate(EXPOSURES):
        rows = _detections(rng, seeds.get(unit, seeds[UNIT]))
        program = 1 + (night + (unit is OTHER)) % 2
        keys = {"PROGRMID": program, "NMATCHES": 500 if night != 2 else 3}
        paths.append(epochal_file(survey.directory / content, rows, night, unit, **keys))
        survey.data[i, content] = paths[-1].read_bytes()
    return paths


def _sky(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in arcsec about a place where three base pixels meet, on both sides of RA 0."""
    dec = math.degrees(math.asin(2.0 / 3.0)) + y / 3600.0
    return (x / 3600.0 / np.cos(np.radians(dec))) % 360.0, dec


def _detections(rng: np.random.Generator, seeds: _Seeds) -> np.ndarray:
    """Some seeds and strays seen, a few seeds twice, what is never seen again, and rows that cannot be used."""
    places = np.concatenate([seeds.sources, seeds.strays], axis=1)
    seen = rng.random(places.shape[1]) < 0.7
    near = places[:, seen] + rng.normal(0.0, 0.5, (2, seen.sum()))
    twice = seeds.sources[:, :4] + rng.uniform(-1.0, 1.0, (2, 4))
    x, y = np.concatenate([near, twice, rng.uniform(-EXTENT_ARCSEC, EXTENT_ARCSEC, (2, 6))], axis=1)
    n = len(x)
    rows = rows_at(*_sky(x, y), flux=rng.uniform(-20.0, 4000.0, n), sigflux=rng.uniform(1.0, 30.0, n))
    rows["xpos"], rows["ypos"] = rng.uniform(0.6, 3072.4, n), rng.uniform(0.6, 3080.4, n)
    rows["flags"] = rng.choice([0, 0, 0, 2, 4, -1], n)
    rows["ra"][-2:] = [np.nan, 800.0]
    return rows[rng.permutation(n)]


def _learn_matches(survey: SmallSurvey, variant: str, content: str, catalogs: Sequence[Path]) -> None:
    """What a store of some references makes of all catalogs of a content."""
    references = _references(survey, variant)
    storage = make_store(survey.directory / f"{variant}-{content}", references)
    append(storage, catalogs)
    assert fate_in(storage) == brute_force(references, catalogs)
    rows = {name: _by_exposure(table(storage, name)) for name in CONTENT}
    for i, exposureid in enumerate(_exposureids(catalogs)):
        pieces = {name: parts.get(exposureid, parts[None]) for name, parts in rows.items()}
        survey.pieces[i, content, variant] = pieces
    objects = table(storage, "objects")
    columns = np.stack([objects[name].to_numpy() for name in ("field", "rcid", "fid")], axis=1)
    for unit in UNITS:
        mine = (columns == (unit.field, unit.rcid, unit.fid)).all(axis=1)
        survey.objects[unit, variant] = objects.filter(pa.array(mine)).combine_chunks()


def _exposureids(catalogs: Iterable[Path]) -> list[int]:
    return [int(path.name[4:18]) * 100 + unit.rcid for path, (unit, _) in zip(catalogs, EXPOSURES, strict=True)]


def _by_exposure(rows: pa.Table) -> dict[int | None, pa.Table]:
    ids = rows["exposureid"].to_numpy()
    parts: dict[int | None, pa.Table] = {i: rows.filter(pa.array(ids == i)).combine_chunks() for i in set(ids.tolist())}
    return parts | {None: rows.slice(0, 0)}


# Matchfiles.


def _filed() -> Content:
    """The sky of FILED, near the others, on both sides of a border of tiles."""
    return make_content(FILED, 30, MATCHFILES["grown"], 4, centre=(0.001, 41.80), first_mjd=58515.3)


def _of_matchfile(content: Content) -> _Seeds:
    """Its sources, and its transients as strays."""
    return _Seeds(*(_plane(content.tables[name]) for name in ("sources", "transients")))


def _plane(rows: np.ndarray) -> np.ndarray:
    """Offsets that _sky turns into the positions of some rows."""
    y = (rows["dec"] - math.degrees(math.asin(2.0 / 3.0))) * 3600.0
    return np.stack([rows["ra"] * 3600.0 * np.cos(np.radians(rows["dec"])), y])


def _learn_matchfiles(survey: SmallSurvey, content: Content) -> None:
    """Write the matchfiles, and learn what a store makes of each, with its own sources or with references."""
    for name, number in MATCHFILES.items():
        (survey.directory / name).mkdir()
        part = Content(FILED, dict(content.tables), content.attributes)
        expids = np.sort(content.tables["exposures"]["expid"])[:number]
        for rows in ("exposures", "sourcedata", "transientdata"):
            part.tables[rows] = content.tables[rows][np.isin(content.tables[rows]["expid"], expids)]
        path = write_matchfile(survey.directory / name, part)
        for variant in (name, *REFERENCES[1:3]):
            storage = Storage.at(survey.directory / f"{variant}-{name}")
            if variant != name:
                make_store(Path(storage.root), [survey.reference(FILED, variant)])
            import_matchfiles(storage, [str(path)], ImportConfig(create=StoreConfig()), runner())
            _assert_judged(storage)
            _learn_matchfile(survey, variant, name, storage)
            for of_catalog in ("good", "other") if variant == name else ():
                _learn_catalog(survey, name, of_catalog, path)
    for variant in MATCHFILES:  # any of the epochs can be of the sources of either
        for name in MATCHFILES:
            for i in matchfile_exposures(name):
                survey.pieces[i, name, variant] = survey.pieces[i, name, name]


def _learn_catalog(survey: SmallSurvey, name: str, content: str, matchfile: Path) -> None:
    """What a store makes of the catalog of FILED whose objects are of a matchfile."""
    exposure = EXPOSURES.index((FILED, 0))
    storage = Storage.at(survey.directory / f"{name}-{content}")
    import_matchfiles(storage, [str(matchfile)], ImportConfig(create=StoreConfig()), runner())
    append(storage, [survey.directory / content / survey.names[exposure]])
    _assert_judged(storage)
    rows = {kind: _by_exposure(table(storage, kind)) for kind in CONTENT}
    survey.pieces[exposure, content, name] = {kind: parts[survey.ids[exposure]] for kind, parts in rows.items()}


def _assert_judged(storage: Storage) -> None:
    """Every epoch is of the object that brute force gives it, or of none."""
    stored, objects = fate_in(storage), table(storage, "objects")
    seeds = objects["objectid"].to_numpy(), cartesian(objects["ra"].to_numpy(), objects["dec"].to_numpy())
    columns = ["exposureid", "sourceid", "ra", "dec"]
    rows = pa.concat_tables([table(storage, name).select(columns) for name in ("detections", "orphans")])
    fate = Fate()
    for exposureid, part in _by_exposure(rows).items():
        if exposureid is not None:
            judge(fate, exposureid, {name: part[name].to_numpy() for name in columns}, seeds, 1.5)
    assert (fate.matched, fate.orphans) == (stored.matched, stored.orphans)
    assert fate.matched


def _learn_matchfile(survey: SmallSurvey, variant: str, name: str, storage: Storage) -> None:
    rows = {kind: _by_exposure(table(storage, kind)) for kind in (*CONTENT, "imported")}
    ids = sorted(exposureid for exposureid in rows["exposures"] if exposureid is not None)
    assert survey.ids[len(EXPOSURES) :] in (ids, ids[:-1], [])
    survey.ids[len(EXPOSURES) :] = ids
    for i, exposureid in zip(matchfile_exposures(name), ids, strict=True):
        survey.pieces[i, name, variant] = {kind: parts[exposureid] for kind, parts in rows.items()}
    if variant == name:
        survey.objects[FILED, variant] = table(storage, "objects")


def matchfile_exposures(name: str) -> range:
    """Numbers of the exposures of a matchfile."""
    return range(len(EXPOSURES), len(EXPOSURES) + MATCHFILES[name])


def unit_of(exposure: int) -> Unit:
    return FILED if is_imported(exposure) else EXPOSURES[exposure][0]


def is_imported(exposure: int) -> bool:
    return exposure >= len(EXPOSURES)


# Corrections, by plain Python.


def _write_set(survey: SmallSurvey, name: str) -> None:
    held = SETS[name]
    survey.digests[name] = corrected.write_set(
        survey.corrections(name), held.units, held.offsets, dict.fromkeys(held.errors, MODEL),
        {survey.ids[i]: values for i, values in held.measured.items()},
    )  # fmt: skip


def _learn_photometry(survey: SmallSurvey, name: str, content: str, catalogs: Sequence[Path]) -> None:
    """What a set makes of the magnitudes of all catalogs of a content."""
    storage = make_store(survey.directory / f"{name}-{content}", _references(survey, FIRST))
    append(storage, catalogs, corrections=survey.corrections(name))
    columns = ["exposureid", "sourceid", *MADE]
    rows = pa.concat_tables([table(storage, kind).select(columns) for kind in ("detections", "orphans")])
    for i, (unit, _) in enumerate(EXPOSURES):
        mine = rows.filter(pa.array(rows["exposureid"].to_numpy() == survey.ids[i])).sort_by("sourceid")
        survey.photometry[i, content, name] = mine.select(["sourceid", *MADE]).combine_chunks()
        if unit in SETS[name].units:
            _assert_corrected(survey, i, content, name)


def _assert_corrected(survey: SmallSurvey, i: int, content: str, name: str) -> None:
    """Every magnitude, error and flag is what plain Python makes of the measured values and the set."""
    unit, piece = EXPOSURES[i][0], survey.pieces[i, content, FIRST]
    magzp = piece["exposures"]["magzp"][0].as_py()
    rows = [row for kind in ("detections", "orphans") for row in piece[kind].to_pylist()]
    made = {row["sourceid"]: row for row in survey.photometry[i, content, name].to_pylist()}
    assert len(made) == len(rows) > 0
    for row in rows:
        got = made[row["sourceid"]]
        mag, flags = corrected.expected(unit, magzp, row, unit in SETS[name].offsets)
        assert got["corrflags"] == flags
        assert (got["mag"] is None) == (mag is None)
        if mag is None:
            continue
        assert abs(got["mag"] - float(mag)) <= float(np.spacing(mag))
        if unit not in SETS[name].errors:
            assert got["magerr"] == row["magerr"]
        elif got["mag"] <= 20.5:
            a, b, c, d = MODEL
            error = a + b * float(mag) + c * 10 ** (0.4 * float(mag)) + d * 10 ** (0.8 * float(mag))
            assert abs(got["magerr"] / error - 1) < 1e-5


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
