"""Ledgers of any size without catalogs: exposures of fields all over the sky, and stores that have nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.io import log, storefile
from ztfmatch.core.io.parquet import Destination, write_file
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tiling, whole_sky
from ztfmatch.core.schema import EXPOSURES, Table

QUADRANT_DEG = 0.87
RADIUS_DEG = 0.62


def ledger_rows(**columns: Any) -> pa.Table:
    """Rows of the ledger, sorted; columns that are not given are null, or empty, or 0."""
    n = len(next(iter(columns.values())))
    filled = {column.name: _filled(column, n) for column in EXPOSURES.columns} | columns
    rows = pa.table({column.name: pa.array(filled[column.name], column.type) for column in EXPOSURES.columns})
    return rows.cast(EXPOSURES.schema).sort_by([(name, "ascending") for name in EXPOSURES.sorted_by])


def _filled(column: Any, n: int) -> pa.Array:
    if column.nullable:
        return pa.nulls(n, column.type)
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), pa.array(["good"]))
    if pa.types.is_string(column.type):
        return pa.array([""] * n, column.type)
    return pa.array(np.zeros(n), pa.float64()).cast(column.type)


def survey_rows(n: int, first_mjd: float, seed: int, fields: int = 1200) -> pa.Table:
    """Exposures of a survey: whole pointings of 64 quadrants of random fields, one a minute."""
    pointings = -(-n // 64)
    centre_ra, centre_dec = _centres(fields)
    field = np.repeat(np.random.default_rng(seed).integers(0, fields, pointings), 64)[:n]
    rcid = np.tile(np.arange(64), pointings)[:n]
    minute = np.repeat(np.arange(pointings), 64)[:n]
    dec = np.clip(centre_dec[field] + (rcid // 8 - 3.5) * QUADRANT_DEG, -90.0, 90.0)
    ra = centre_ra[field] + (rcid % 8 - 3.5) * QUADRANT_DEG / np.cos(np.radians(np.clip(dec, -85.0, 85.0)))
    fracday = (20180101 + int(first_mjd - 58119)) * 10**6 + minute
    return ledger_rows(
        exposureid=fracday * 100 + rcid, fracday=fracday, field=field + 200, rcid=rcid, fid=minute % 3 + 1,
        ccdid=rcid // 4 + 1, qid=rcid % 4 + 1, obsmjd=first_mjd + minute / 1440.0, programid=np.ones(n, np.int8),
        magzp=np.full(n, 26.0), ra=ra % 360.0, dec=dec, radius=np.full(n, RADIUS_DEG), nrows=np.full(n, 18_000),
        nmatched=np.full(n, 15_000), norphans=np.full(n, 3_000), source=_names(fracday, rcid),
        filename=_names(fracday, rcid), sha256=_names(fracday, rcid),
    )  # fmt: skip


def _names(fracday: npt.NDArray[np.int64], rcid: npt.NDArray[np.int64]) -> list[str]:
    return [
        f"ztf_{day}_{channel:02d}_psfcat.fits" for day, channel in zip(fracday.tolist(), rcid.tolist(), strict=True)
    ]


def _centres(fields: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fields are numbered along bands of declination, as the survey's are."""
    bands = np.arange(-28.0, 90.0, 7.0)
    of_band = np.maximum(np.cos(np.radians(bands)), 0.05)
    counts = np.maximum(np.round(fields * of_band / of_band.sum()).astype(int), 1)
    ra = np.concatenate([np.arange(count) * 360.0 / count for count in counts])
    dec = np.repeat(bands, counts)
    return np.resize(ra, fields), np.resize(dec, fields)


def store_of_ledgers(
    place: Path, ledgers: Iterable[pa.Table], table: Table = EXPOSURES, tiling: Tiling | None = None
) -> SnapshotFiles:
    """A store that has nothing but some files of the ledger."""
    storage = Storage.at(place)
    storefile.create_store(storage, StoreConfig())
    files = [
        write_file(Destination(storage, table, None, 0, f"{number:05d}"), rows) for number, rows in enumerate(ledgers)
    ]
    log.commit(storage, None, log.Change("append", "f" * 32, {}, {}, files, tiling=tiling or whole_sky()))
    return open_snapshot(storage)
