"""Sets of photometric corrections as rows of a store."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Floats, Ints
from ztfmatch.core.io.corrections import NUMBERS, CorrectionSet, float_column
from ztfmatch.core.io.parquet import DataFile, read_file_rows
from ztfmatch.core.io.smoothsets import MODEL_SCHEMA, smooth_set_of
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.corrections import CorrectionTables
from ztfmatch.core.schema import CORRECTIONS
from ztfmatch.core.schema.corrections import DATA, ERROR_MODEL, FIELD, GRID, MAGNITUDE, POSITION, PROGRAM
from ztfmatch.core.survey import Unit


def store_rows(corrections: CorrectionSet) -> pa.Table:
    """Rows of the store's table ``corrections``."""
    tables, channels = corrections.tables, np.array(corrections.channels, np.int64).reshape(-1, 2)
    none = np.zeros((0, 3), np.int64)
    parts = [
        _part(GRID, none, np.array([tables.shape], np.float64)),
        _part(MAGNITUDE, channels, tables.magnitude),
        _part(POSITION, channels, tables.maps),
        _part(FIELD, _unit_rows(corrections.offsets), np.array([[v] for _, v in sorted(corrections.offsets.items())])),
        _part(
            ERROR_MODEL, _unit_rows(corrections.errors), np.array([v for _, v in sorted(corrections.errors.items())])
        ),
        *([] if corrections.programs is None else [_part(PROGRAM, none, np.array([corrections.programs], np.float64))]),
        *([_part(DATA, none, np.array([[corrections.data]], np.float64))] if corrections.data else []),
        *([] if corrections.smooth is None else [corrections.smooth.rows().select(MODEL_SCHEMA.names)]),
    ]
    rows = pa.concat_tables(parts)
    return rows.add_column(0, "corrections", pa.array([corrections.digest] * len(rows))).cast(CORRECTIONS.schema)


def _unit_rows(units: Iterable[Unit]) -> Ints:
    """rcid, fid, field of each unit, ascending by unit."""
    return np.array([(unit.rcid, unit.fid, unit.field) for unit in sorted(units)], np.int64).reshape(-1, 3)


def _part(term: str, keys: Ints, values: Floats) -> pa.Table:
    """Rows of one term: keys rcid, fid, field as far as there are any, shape (K, 0..3); values of shape (K, places)."""
    values = values.reshape(len(values), -1 if len(values) else 1)
    places = values.shape[1]
    flat = values.ravel()

    def column(i: int, kind: pa.DataType) -> pa.Array:
        if i >= keys.shape[1] or not len(keys):
            return pa.nulls(len(flat), kind)
        return pa.array(np.repeat(keys[:, i], places), kind)

    return pa.table(
        {
            "term": pa.array([term] * len(flat), pa.string()),
            "field": column(2, pa.int16()),
            "rcid": column(0, pa.int8()),
            "fid": column(1, pa.int8()),
            "place": pa.array(np.tile(np.arange(places), len(values)), pa.int32()),
            "value": pa.array(flat, pa.float64(), mask=np.isnan(flat)),
        }
    )


def set_of_store_rows(rows: pa.Table) -> CorrectionSet:
    """Set whose rows :func:`store_rows` made."""
    columns = {name: rows[name].fill_null(0).to_numpy() for name in ("field", "rcid", "fid", "place")}
    value = float_column(rows, "value")
    terms = np.array(rows["term"].cast(pa.string()).to_pylist(), object)

    def of(term: str) -> Ints:
        return np.flatnonzero(terms == term)

    def key(at: Ints, *names: str) -> list[Any]:
        return list(zip(*(columns[name][at].tolist() for name in names), strict=True))

    grid = dict(zip(columns["place"][of(GRID)].tolist(), value[of(GRID)].tolist(), strict=True))
    shape = (int(grid[0]), int(grid[1]))
    channels = sorted(set(key(of(MAGNITUDE), "rcid", "fid")))
    row_of = {channel: row for row, channel in enumerate(channels)}
    magnitude = np.full((len(channels), NUMBERS), np.nan)
    maps = np.full((len(channels), shape[0] * shape[1]), np.nan)
    for term, target in ((MAGNITUDE, magnitude), (POSITION, maps)):
        at = of(term)
        target[[row_of[channel] for channel in key(at, "rcid", "fid")], columns["place"][at]] = value[at]
    offsets = {
        Unit(*unit): float(offset)
        for unit, offset in zip(key(of(FIELD), "field", "rcid", "fid"), value[of(FIELD)], strict=True)
    }
    models: dict[Unit, list[float]] = {}
    at = of(ERROR_MODEL)
    for unit, place, number in zip(key(at, "field", "rcid", "fid"), columns["place"][at], value[at], strict=True):
        models.setdefault(Unit(*unit), [np.nan] * NUMBERS)[place] = float(number)
    return CorrectionSet(
        channels=tuple(channels),
        tables=CorrectionTables(magnitude, maps, shape),
        offsets=offsets,
        errors={unit: (a, b, c, d) for unit, (a, b, c, d) in models.items()},
        programs=tuple(value[of(PROGRAM)].astype(int).tolist()) or None,
        smooth=smooth_set_of(rows),
        data=int(value[of(DATA)].sum()),
    )


@functools.lru_cache(maxsize=4)
def read_store_set(storage: Storage, file: DataFile) -> CorrectionSet:
    """Set that a file of the store's table ``corrections`` holds; the last ones read are kept."""
    return set_of_store_rows(read_file_rows(storage, file, CORRECTIONS.names))


def read_store_sets(storage: Storage, files: Iterable[DataFile]) -> dict[str, CorrectionSet]:
    """Sets of a store by name."""
    sets = [read_store_set(storage, file) for file in files]
    return {one.digest: one for one in sets}
