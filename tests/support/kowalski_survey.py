"""A small survey over tile borders, and what can be done to a store of it, one commit each."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import corrected
import numpy as np
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at, runner

import ztfmatch
from ztfmatch.core.config import CompactConfig
from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io import log
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.correct import correct
from ztfmatch.core.operations.history import rollback
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.survey import Unit

OTHER = Unit(1550, 63, 1)
LATE = Unit(500, 21, 3)
"""Has no reference at first."""
UNITS = (UNIT, OTHER, LATE)
NIGHTS = 4
VERSIONS = 3
EXTENT_ARCSEC = 60.0


def sky(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets in arcsec about a place where three base pixels meet, on both sides of RA 0."""
    dec = math.degrees(math.asin(2.0 / 3.0)) + y / 3600.0
    return (x / 3600.0 / np.cos(np.radians(dec))) % 360.0, dec


@dataclass(frozen=True)
class Survey:
    """Files of references by unit and version, and of catalogs by unit, night and content (0 or 1)."""

    references: dict[tuple[Unit, int], Path]
    catalogs: dict[tuple[Unit, int, int], Path]
    corrections: dict[Unit, Path]
    template: Path
    """A store of the first references, to be copied."""

    def store(self, place: Path) -> Storage:
        shutil.copytree(self.template, place)
        return Storage.at(place)


def make_survey(directory: Path, seeds: int = 24) -> Survey:
    rng = np.random.default_rng(7)
    references, catalogs = {}, {}
    for number, unit in enumerate(UNITS):
        places = rng.uniform(-EXTENT_ARCSEC, EXTENT_ARCSEC, (2, seeds))
        for version in range(VERSIONS):
            moved = places + version * rng.normal(0.0, 0.3, places.shape)
            rows = rows_at(*sky(*moved[:, version:]), sourceid=np.arange(seeds - version) + (unit is OTHER) * 999_990)
            into = directory / f"references-{version}"
            into.mkdir(exist_ok=True)
            references[unit, version] = reference_file(into, rows, unit)
        for night in range(NIGHTS):
            for content in range(2):
                into = directory / f"catalogs-{content}"
                into.mkdir(exist_ok=True)
                keys = {"EXPID": 76_125_000 + night * 100_000 + number} if night % 2 else {}
                keys |= {"PROGRMID": None if night == 3 else 1 + (night + number) % 3}
                keys |= {"NMATCHES": 3 if night == 2 else 500}
                path = epochal_file(into, _detections(rng, places), night, unit, **keys)
                catalogs[unit, night, content] = path
    first = [references[unit, 0] for unit in (UNIT, OTHER)]
    template = make_store(directory / "template", first, seeds_per_tile=10)
    corrections = {unit: directory / f"corrections-{unit}" for unit in UNITS}
    for unit, place in corrections.items():
        corrected.write_set(place, [unit])
    return Survey(references, catalogs, corrections, Path(template.root))


def _detections(rng: np.random.Generator, places: np.ndarray) -> np.ndarray:
    seen = rng.random(places.shape[1]) < 0.6
    x, y = places[:, seen] + rng.normal(0.0, 0.4, (2, seen.sum()))
    n = len(x)
    rows = rows_at(*sky(x, y), flux=rng.uniform(-20.0, 4000.0, n), sigflux=rng.uniform(1.0, 30.0, n))
    rows["flags"] = rng.choice([0, 0, 0, 4, -1], n)
    rows["sharp"], rows["chi"] = rng.normal(0.0, 0.3, n).round(3), rng.uniform(0.5, 2.0, n).round(3)
    rows["ra"], rows["dec"] = rows["ra"].round(7) % 360.0, rows["dec"].round(7)
    return rows


@dataclass(frozen=True)
class Append:
    catalogs: tuple[tuple[Unit, int], ...]
    content: int

    def do(self, survey: Survey, storage: Storage) -> None:
        """Of exposures that the store has with other content, there is nothing to ingest."""
        try:
            append(storage, [survey.catalogs[unit, night, self.content] for unit, night in self.catalogs])
        except BadInputError as error:
            if {one.code for one in error.refused} != {"conflict"}:
                raise


@dataclass(frozen=True)
class Rematch:
    unit: Unit
    version: int

    def do(self, survey: Survey, storage: Storage) -> None:
        rematch(storage, [str(survey.references[self.unit, self.version])], RematchConfig(), runner())


@dataclass(frozen=True)
class Compact:
    max_rows_per_tile: int

    def do(self, survey: Survey, storage: Storage) -> None:
        compact(storage, CompactConfig(2, self.max_rows_per_tile, full=True), runner())


@dataclass(frozen=True)
class Rollback:
    back: int

    def do(self, survey: Survey, storage: Storage) -> None:
        newest = log.commit_numbers(storage)[-1]
        rollback(storage, newest - self.back % (newest + 1))


@dataclass(frozen=True)
class Statistics:
    def do(self, survey: Survey, storage: Storage) -> None:
        update_statistics(storage, runner())


@dataclass(frozen=True)
class Correct:
    """A set of corrections of a unit's channel; of no unit none."""

    unit: Unit | None

    def do(self, survey: Survey, storage: Storage) -> None:
        correct(storage, None if self.unit is None else survey.corrections[self.unit], runner())


Operation = Append | Rematch | Compact | Rollback | Statistics | Correct


def everything(survey: Survey, place: Path, nights: int = NIGHTS) -> ztfmatch.Store:
    """A store of all catalogs."""
    storage = survey.store(place)
    Append(tuple((unit, night) for unit in UNITS for night in range(nights)), 0).do(survey, storage)
    return ztfmatch.Store(storage)
