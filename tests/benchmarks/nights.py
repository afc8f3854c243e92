"""A store of very many nights, each small: ``python tests/benchmarks/nights.py PLACE NIGHTS...``.

One field, four readout channels, fifty exposures of each a night. A catalog has some 100 rows: a thousand nights are
200,000 catalogs and 20 million detections. The catalogs of a night are written, taken in and deleted.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

import ztfmatch
from ztfmatch.core.survey import Unit, psfcat_name, refpsfcat_name
from ztfmatch.simulate.fitsout import ROW, write_catalog

UNITS = tuple(Unit(679, rcid, 2) for rcid in (0, 1, 2, 3))
SEEDS = 110
EXPOSURES = 50
_FIRST = datetime(2018, 3, 25, 3)
_MJD_OF_FIRST = 58202.125


def seeds_of(unit: Unit) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the seeds of a unit, degrees."""
    rng = np.random.default_rng(unit.rcid)
    return 245.0 + unit.rcid + rng.uniform(0.0, 0.8, SEEDS), 32.0 + rng.uniform(0.0, 0.8, SEEDS)


def _identity(unit: Unit) -> dict[str, int]:
    return {"FIELDID": unit.field, "CCDID": unit.ccdid, "QID": unit.qid, "RCID": unit.rcid, "FILTERID": unit.fid}


def _rows(ra: np.ndarray, dec: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows = np.zeros(len(ra), ROW)
    rows["sourceid"] = np.arange(len(ra))
    rows["ra"] = ra + rng.normal(0.0, 0.1 / 3600.0, len(ra))
    rows["dec"] = dec + rng.normal(0.0, 0.1 / 3600.0, len(ra))
    rows["xpos"], rows["ypos"] = rng.uniform(1, 3072, len(ra)), rng.uniform(1, 3080, len(ra))
    rows["flux"], rows["sigflux"] = rng.lognormal(7.0, 1.0, len(ra)), 20.0
    rows["chi"], rows["sharp"] = 1.0, 0.1
    return rows


def write_references(place: Path) -> None:
    """Reference catalogs of all units."""
    place.mkdir(parents=True)
    for unit in UNITS:
        rows = _rows(*seeds_of(unit), np.random.default_rng(unit.rcid + 100))
        header = {"MAGZP": 26.3, "RFID": 1, "INFOBITS": 0, **_identity(unit)}
        write_catalog(place / refpsfcat_name(unit), header, rows)


def write_night(place: Path, number: int) -> list[str]:
    """The catalogs of a night; return their paths."""
    place.mkdir(parents=True)
    rng = np.random.default_rng(1_000_000 + number)
    paths = []
    for exposure in range(EXPOSURES):
        start = number + exposure * 300.0 / 86400.0
        time = _FIRST + timedelta(days=start)
        fraction = (time - datetime(time.year, time.month, time.day)).total_seconds() / 86400.0
        fracday = int(time.strftime("%Y%m%d")) * 10**6 + round(fraction * 10**6)
        for unit in UNITS:
            ra, dec = seeds_of(unit)
            seen = np.flatnonzero(rng.random(SEEDS) < 0.92)
            header = {"OBSMJD": _MJD_OF_FIRST + start, "MAGZP": 26.2, "MAGZPRMS": 0.03, "NMATCHES": 500}
            header |= {"EXPTIME": 30.0, "AIRMASS": 1.2, "PROGRMID": 1, **_identity(unit)}
            paths.append(str(place / psfcat_name(unit, fracday)))
            write_catalog(Path(paths[-1]), header, _rows(ra[seen], dec[seen], rng))
    return paths


def build(place: Path, checkpoints: list[int]) -> None:
    """Append night after night; at each checkpoint keep a copy of the store as ``nights-<n>``."""
    store = place / "growing"
    shutil.rmtree(store, ignore_errors=True)
    shutil.rmtree(place / "references", ignore_errors=True)
    write_references(place / "references")
    growing = ztfmatch.init_store(store, str(place / "references"))
    for number in range(max(checkpoints)):
        night = place / "night"
        shutil.rmtree(night, ignore_errors=True)
        growing.append(write_night(night, number))
        shutil.rmtree(night)
        if number + 1 in checkpoints:
            copy = place / f"nights-{number + 1}"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(store, copy, copy_function=os.link)
            print(f"{number + 1} nights", flush=True)
    shutil.rmtree(store)


if __name__ == "__main__":
    build(Path(sys.argv[1]), sorted(int(argument) for argument in sys.argv[2:]))
