"""Small scenes on disk, stores made of them, and a matcher to judge the stores by.

The matcher is brute force over all pairs of a unit, from files read by astropy: it shares no code with the package.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits

from ztfmatch.core.config import AppendConfig, StoreConfig
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.appendreport import AppendReport
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.runner import Job, LoopExecutor, Runner
from ztfmatch.core.survey import Unit, psfcat_name, refpsfcat_name
from ztfmatch.simulate.fitsout import ROW, write_catalog

ARCSEC = 1.0 / 3600.0
UNIT = Unit(500, 20, 2)
MJD = 58300.25
FRACDAY = 20180701250000


@dataclass
class Interrupted:
    """Does something else after the tasks of a job, of any or of one by its title, and before the commit."""

    meanwhile: Callable[[], Any]
    title: str | None = None

    def outcomes(self, job: Job[Any]) -> Iterator[Any]:
        yield from LoopExecutor().outcomes(job)
        if self.title in (None, job.title):
            self.meanwhile()


def runner() -> Runner:
    """A plain loop without retries."""
    return Runner(LoopExecutor(), 2 << 30)


def interrupted(title: str, what: Callable[[], object]) -> Runner:
    """A runner that does something else once, when a job of this title begins."""
    pending = [what]

    def progress(job: str, done: int, total: int) -> None:
        if job == title and pending:
            pending.pop()()

    return Runner(LoopExecutor(), 2 << 30, progress)


def rows_at(ra: Any, dec: Any, **columns: Any) -> np.ndarray:
    """Catalog rows at positions; the other columns vary from row to row unless given."""
    ra, dec = np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
    n = len(ra)
    rows = np.zeros(n, ROW)
    rows["sourceid"] = np.arange(n)
    rows["ra"], rows["dec"] = ra, dec
    rows["xpos"] = 1.0 + np.arange(n) % 3072
    rows["ypos"] = 1.0 + np.arange(n) % 3080
    rows["flux"] = 500.0 + np.arange(n)
    rows["sigflux"] = 10.0 + np.arange(n) / 8.0
    rows["chi"], rows["sharp"] = 1.0 + np.arange(n) % 7 / 8.0, -0.25
    rows["mag"], rows["sigmag"], rows["snr"] = -6.0, 0.02, 50.0
    for name, values in columns.items():
        rows[name] = values
    return rows


def identity_keys(unit: Unit) -> dict[str, Any]:
    return {"FIELDID": unit.field, "CCDID": unit.ccdid, "QID": unit.qid, "RCID": unit.rcid, "FILTERID": unit.fid}


def reference_file(directory: Path, rows: np.ndarray, unit: Unit = UNIT, name: str | None = None, **keys: Any) -> Path:
    """Write a reference catalog."""
    path = Path(directory) / (name or refpsfcat_name(unit))
    write_catalog(path, {"MAGZP": 26.325, "RFID": 1, "INFOBITS": 0, **identity_keys(unit), **keys}, rows)
    return path


def epochal_file(
    directory: Path, rows: np.ndarray, night: int = 0, unit: Unit = UNIT, name: str | None = None, **keys: Any
) -> Path:
    """Write an epochal catalog of a night, from 2019-02-01 on."""
    date = datetime.date(2019, 2, 1) + datetime.timedelta(night)
    path = Path(directory) / (name or psfcat_name(unit, int(f"{date:%Y%m%d}250000")))
    header = {"OBSMJD": 58515.25 + night, "MAGZP": 26.0 + night / 64.0, "MAGZPRMS": 0.03, "NMATCHES": 500}
    header |= {"AIRMASS": 1.2, "EXPTIME": 30.0, "PROGRMID": 1, **identity_keys(unit), **keys}
    write_catalog(path, {key: value for key, value in header.items() if value is not None}, rows)
    return path


def make_store(place: Path, references: Sequence[Path | str], link: bool = True, **settings: Any) -> Storage:
    """Make a store and return its storage."""
    storage = Storage.at(place)
    init_store(storage, [str(path) for path in references], StoreConfig(**settings), runner(), link=link)
    return storage


def append(storage: Storage, catalogs: Iterable[Path | str], **settings: Any) -> AppendReport:
    """Append catalogs in a plain loop."""
    return append_catalogs(storage, [str(path) for path in catalogs], AppendConfig(**settings), runner())


_KEYS = {
    "detections": ["exposureid", "sourceid"],
    "orphans": ["exposureid", "sourceid"],
    "objects": ["objectid"],
    "exposures": ["exposureid"],
    "imported": ["exposureid", "sourceid"],
    "quarantine": ["source"],
    "references": ["field", "rcid", "fid"],
}


def table(storage: Storage, name: str, number: int | None = None, without: Sequence[str] = ()) -> pa.Table:
    """Rows of a table of a snapshot, sorted by key, dictionaries unpacked: equal content gives equal tables."""
    got = open_snapshot(storage, number).read(name)
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column for column in got.columns
    ]
    got = pa.table(dict(zip(got.column_names, plain, strict=True)))
    return got.sort_by([(key, "ascending") for key in _KEYS[name]]).drop_columns(list(without)).combine_chunks()


def sky_content(storage: Storage) -> dict[str, pa.Table]:
    """What a store says about the sky, whatever the history that led there."""
    return {
        "objects": table(storage, "objects"),
        "detections": table(storage, "detections"),
        "orphans": table(storage, "orphans"),
        "exposures": table(storage, "exposures", without=["commit", "source"]),
    }


def assert_same(first: dict[str, pa.Table], second: dict[str, pa.Table]) -> None:
    """Equal to the bit, NaN to NaN."""
    assert first.keys() == second.keys()
    for name, rows in first.items():
        assert rows.column_names == second[name].column_names
        for column in rows.column_names:
            left, right = rows[column], second[name][column]
            assert left.null_count == right.null_count
            if pa.types.is_floating(left.type):
                assert left.to_numpy().tobytes() == right.to_numpy().tobytes(), (name, column)
            else:
                assert left.equals(right), (name, column)


@dataclass
class Fate:
    """What brute force says of every usable detection, by (exposureid, sourceid)."""

    matched: dict[tuple[int, int], int] = field(default_factory=dict)
    orphans: dict[tuple[int, int], tuple[str, int | None]] = field(default_factory=dict)
    rejected: dict[int, int] = field(default_factory=dict)


def read_by_astropy(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    with fits.open(path) as hdus:
        header = {key: hdus[0].header.get(key) for key in ("FIELDID", "FILTERID", "CCDID", "QID", "RCID")}
        return header, np.array(hdus[1].data)


def cartesian(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def brute_force(references: Iterable[Path], catalogs: Iterable[Path], radius_arcsec: float = 1.5) -> Fate:
    """Judge every detection against every seed of its unit."""
    seeds: dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray]] = {}
    for path in references:
        header, rows = read_by_astropy(path)
        base = header["FIELDID"] * 10**12 + header["FILTERID"] * 10**11 + header["CCDID"] * 10**9
        rows = np.sort(rows[_usable(rows)], order="sourceid")
        ids = base + header["QID"] * 10**8 + rows["sourceid"].astype(np.int64)
        seeds[_unit(header)] = ids, cartesian(rows["ra"], rows["dec"])
    fate = Fate()
    for path in catalogs:
        header, rows = read_by_astropy(path)
        number = re.fullmatch(r"ztf_(\d{14})_.*_psfcat\.fits", Path(path).name)
        assert number is not None
        exposureid = int(number[1]) * 100 + header["RCID"]
        usable = rows[_usable(rows)]
        fate.rejected[exposureid] = len(rows) - len(usable)
        judge(fate, exposureid, usable, seeds.get(_unit(header)), radius_arcsec)
    return fate


def _unit(header: dict[str, Any]) -> tuple[int, int, int]:
    return header["FIELDID"], header["RCID"], header["FILTERID"]


def _usable(rows: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (rows["ra"] >= 0) & (rows["ra"] <= 360) & (rows["dec"] >= -90) & (rows["dec"] <= 90)


def judge(
    fate: Fate,
    exposureid: int,
    rows: Mapping[str, np.ndarray] | np.ndarray,
    seeds: tuple[np.ndarray, np.ndarray] | None,
    radius: float,
) -> None:
    """Add what becomes of the rows of an exposure, given objectids and unit vectors of the seeds of its unit."""
    keys = [(exposureid, sourceid) for sourceid in rows["sourceid"].tolist()]
    if seeds is None:
        fate.orphans |= dict.fromkeys(keys, ("no_reference", None))
        return
    ids, xyz = seeds
    nearest, away = _nearest(cartesian(rows["ra"], rows["dec"]), xyz)
    within = away <= (2.0 * np.sin(np.radians(radius / 3600.0) / 2.0)) ** 2
    best: dict[int, int] = {}
    for row in np.lexsort([rows["sourceid"], away]).tolist():
        if within[row]:
            best.setdefault(int(nearest[row]), row)
    for row, key in enumerate(keys):
        if not within[row]:
            fate.orphans[key] = ("no_seed", None)
        elif best[int(nearest[row])] == row:
            fate.matched[key] = int(ids[nearest[row]])
        else:
            fate.orphans[key] = ("nearer_detection", int(ids[nearest[row]]))


def _nearest(points: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row of the nearest seed and its squared chord; of equally near ones the first."""
    nearest, away = np.zeros(len(points), int), np.full(len(points), np.inf)
    if not len(seeds):
        return nearest, away
    for part in _parts(len(points), max(1, 4_000_000 // len(seeds))):
        square = ((points[part, None, :] - seeds[None, :, :]) ** 2).sum(axis=-1)
        nearest[part] = square.argmin(axis=1)
        away[part] = square.min(axis=1)
    return nearest, away


def _parts(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def fate_in(storage: Storage) -> Fate:
    """What a store says of every detection."""
    detections, orphans, exposures = (table(storage, name) for name in ("detections", "orphans", "exposures"))
    keys = zip(detections["exposureid"].to_pylist(), detections["sourceid"].to_pylist(), strict=True)
    lost = zip(orphans["exposureid"].to_pylist(), orphans["sourceid"].to_pylist(), strict=True)
    why = zip(orphans["reason"].to_pylist(), orphans["nearestid"].to_pylist(), strict=True)
    fate = Fate(
        dict(zip(keys, detections["objectid"].to_pylist(), strict=True)),
        dict(zip(lost, why, strict=True)),
        dict(zip(exposures["exposureid"].to_pylist(), exposures["nrejected"].to_pylist(), strict=True)),
    )
    assert len(fate.matched) == detections.num_rows
    assert len(fate.orphans) == orphans.num_rows
    return fate
