"""Matchfiles made up for tests, written by PyTables alone; how tests read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ztfmatch.core.kernels.calibration import observer_vectors
from ztfmatch.core.survey import Unit, fracday_of_mjd, matchfile_name
from ztfmatch.matchfile import schema as layout

UNIT = Unit(300, 20, 2)
ARCSEC = 1.0 / 3600.0
Tables = dict[str, np.ndarray]


@dataclass
class Content:
    """What a matchfile is to hold; may be changed before it is written."""

    unit: Unit
    tables: Tables
    attributes: dict[str, Any] = field(default_factory=dict)


def make_content(
    unit: Unit = UNIT, sources: int = 20, exposures: int = 12, transients: int = 5, seed: int = 0,
    centre: tuple[float, float] = (150.0, 20.0), first_mjd: float = 58300.25,
) -> Content:  # fmt: skip
    """Sources on a grid 20 arcsec apart, each seen in most exposures; transients between them."""
    rng = np.random.default_rng(seed)
    ra, dec = _grid(sources, centre)
    tables = {name: np.zeros(0, dtype) for name, dtype in layout.TABLES.items()}
    tables["sources"] = _sources(ra, dec, rng)
    tables["exposures"] = _exposures(unit, exposures, first_mjd)
    pairs = [(i, j) for i in range(sources) for j in rng.permutation(exposures)[: rng.integers(0, exposures + 1)]]
    tables["sourcedata"] = _epochs(layout.SOURCEDATA, pairs, ra, dec, tables["exposures"], rng)
    away = [(i, j) for i in range(transients) for j in rng.permutation(exposures)[: rng.integers(1, 4)]]
    seen = _epochs(layout.TRANSIENTDATA, away, ra[:transients] + 10.0 * ARCSEC, dec[:transients] + 10.0 * ARCSEC,
                   tables["exposures"], rng)  # fmt: skip
    for name in ("psfmag", "psfmagerr", "snr", "x", "y", "z"):
        seen[name] = rng.normal(size=len(seen))
    seen["sid"] = rng.integers(0, 2**63, len(seen))
    tables["transientdata"] = seen
    tables["transients"] = _sources(ra[:transients] + 10.0 * ARCSEC, dec[:transients] + 10.0 * ARCSEC, rng)
    return Content(unit, tables, _attributes(unit))


def _grid(number: int, centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    side = int(np.ceil(np.sqrt(number)))
    column, row = np.divmod(np.arange(number), side)
    return centre[0] + column * 20.0 * ARCSEC, centre[1] + row * 20.0 * ARCSEC


def _sources(ra: np.ndarray, dec: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows = np.zeros(len(ra), layout.SOURCES)
    rows["matchid"], rows["ra"], rows["dec"] = np.arange(len(ra)), ra, dec
    for name in ("refmag", "refmagerr", "refsnr", "refchi", "refsharp"):
        rows[name] = rng.uniform(0.1, 20.0, len(ra))
    return rows


def _exposures(unit: Unit, number: int, first_mjd: float) -> np.ndarray:
    rows = np.zeros(number, layout.EXPOSURES)
    mjd = first_mjd + np.arange(number) * 1.01
    rows["obsmjd"], rows["obshjd"] = mjd, mjd + 2400000.5
    rows["expid"] = np.floor((mjd - 57754) * 1e5)
    rows["fracday"] = [fracday_of_mjd(time - 1e-4) for time in mjd]
    rows["fieldid"], rows["rcid"], rows["filterid"] = unit.field, unit.rcid, unit.fid
    rows["exptime"], rows["magzp"], rows["airmass"], rows["programid"] = 30.0, 26.25, 1.25, 1 + np.arange(number) % 3
    rows["pcolor"], rows["programpi"] = b"g-R", b"Kulkarni"
    for name in ("clrmed", "gmedian", "zpmed", "limitmag", "diq"):
        rows[name] = 1.0 + np.arange(number) / 8.0
    return rows


def _epochs(dtype: np.dtype, pairs: list[tuple[int, int]], ra: np.ndarray, dec: np.ndarray, exposures: np.ndarray,
            rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    rows = np.zeros(len(pairs), dtype)
    if not pairs:
        return rows
    which, when = np.array(pairs).T
    rows["matchid"], rows["expid"] = which, exposures["expid"][when]
    rows["programid"] = exposures["programid"][when]
    rows["mjd"] = exposures["obsmjd"][when] + 15.0 / 86400.0
    rows["ra"] = ra[which] + rng.normal(0.0, 0.1, len(rows)) * ARCSEC
    rows["dec"] = dec[which] + rng.normal(0.0, 0.1, len(rows)) * ARCSEC
    for name in ("psfflux", "psffluxerr", "mag", "magerr", "magerrmodel", "chi", "sharp", "xpos", "ypos"):
        rows[name] = rng.uniform(1.0, 20.0, len(rows))
    rows["catflags"] = np.where(when % 5 == 0, 32768, 0) | np.where(rng.random(len(rows)) < 0.1, 4, 0)
    rows["catflags"][rng.random(len(rows)) < 0.05] = 65535
    set_times(rows)
    return rows


def set_times(rows: np.ndarray) -> None:
    """Set hjd of where and when the rows are."""
    lon, lat = np.radians(rows["ra"]), np.radians(rows["dec"])
    xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    times, when = np.unique(rows["mjd"], return_inverse=True)
    rows["hjd"] = rows["mjd"] + (xyz * observer_vectors(times)[when]).sum(axis=1) + 2400000.5


def _attributes(unit: Unit) -> dict[str, Any]:
    return {
        "fieldID": np.int64(unit.field), "rcID": np.int64(unit.rcid), "filterID": np.int64(unit.fid),
        "ccdID": np.int64(unit.ccdid), "quadrantID": np.int64(unit.qid), "referenceImageID": np.int64(3000220),
        "referenceZeroPoint": np.float64(26.5), "globalMaglimit": np.float32(20.75), "datetimeMatched": "2020-10-22",
        "A": np.float64(0.02), "B": np.float64(-6e-4), "C": np.float64(1.7e-9), "D": np.float64(-4.4e-18),
    }  # fmt: skip


def write_matchfile(directory: Path, content: Content, name: str | None = None, compression: str | None = None) -> Path:
    """Write a matchfile and return its path; the survey does not compress."""
    import tables

    path = Path(directory) / (name or matchfile_name(content.unit))
    filters = tables.Filters(5, compression) if compression else None
    with tables.open_file(str(path), "w") as file:
        group = file.create_group("/", "matches", "Matched Sources")
        for table, rows in content.tables.items():
            file.create_table(group, table, obj=rows, title=table, filters=filters)
        for key, value in content.attributes.items():
            (file.root.matches.sourcedata.attrs if key in "ABCD" else group._v_attrs)[key] = value
    return path


def read_matchfile(path: Path) -> Tables:
    """All tables of a matchfile, by PyTables alone."""
    import tables

    with tables.open_file(str(path)) as file:
        return {node.name: node.read() for node in file.iter_nodes("/matches")}
