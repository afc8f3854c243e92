"""Read lists of positions: CSV, Parquet, or astropy formats, with columns of right ascension and declination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Floats
from ztfmatch.core.errors import ConfigError, MetadataError, first_line
from ztfmatch.core.schema.types import plain_type
from ztfmatch.query.kernels.angles import dec_degrees, ra_degrees

_RA: Final = ("ra", "raj2000", "_raj2000", "ra_deg", "ra_icrs", "ra_j2000")
_DEC: Final = ("dec", "dej2000", "_dej2000", "dec_deg", "de_icrs", "dec_j2000", "decj2000", "decl", "de")
_ID: Final = ("id", "name", "objectid", "source_id", "object_id", "oid", "star", "target")
_ASTROPY: Final = {".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits", ".xml": "votable", ".vot": "votable"}


@dataclass(frozen=True)
class PositionList:
    """Positions in degrees, ICRS, and the id of each."""

    ids: pa.Array
    ra: Floats
    """Shape (N,)."""
    dec: Floats
    """Shape (N,)."""


def position_list(given: Any) -> PositionList:
    """Positions of a file, a table, or a SkyCoord.

    Parameters
    ----------
    given : path, SkyCoord, or table
        A path of .csv, .parquet, .ecsv, .fits or .xml (VOTable). A table is of Arrow, pandas, Polars or astropy, or a
        mapping of columns: ``ra`` and ``dec`` (or names such as RAJ2000) in degrees or sexagesimal, and perhaps ``id``,
        ``name``, ``source_id`` and the like; without such a column, and of a SkyCoord, ids are rows, from 0.

    Raises
    ------
    MetadataError
        If a file cannot be read.
    ConfigError
        If columns lack, or a position is none.
    """
    if isinstance(given, PositionList):
        return given
    if isinstance(given, str | Path):
        return read_positions(Path(given))
    if hasattr(given, "icrs"):
        place = given.icrs.reshape(-1)
        columns = {"ra": np.asarray(place.ra.deg, np.float64), "dec": np.asarray(place.dec.deg, np.float64)}
        return _of_columns(columns, "positions")
    names = next((getattr(given, key) for key in ("column_names", "colnames", "columns") if hasattr(given, key)), given)
    if not isinstance(names, Iterable):
        raise ConfigError(f"positions {given!r}; expected a file, a table or a SkyCoord")
    return _of_columns({str(name): given[name] for name in names}, "positions")


def read_positions(path: Path, names: Sequence[str] = _ID) -> PositionList:
    """Positions of a file; ids are of the first column of some names that it has."""
    return _of_columns(_read(path), str(path), names)


def _read(path: Path) -> Mapping[str, Any]:
    """Columns of a file."""
    suffix = path.suffix.lower()
    try:
        if suffix in _ASTROPY:
            from astropy.table import Table

            table = Table.read(path, format=_ASTROPY[suffix])
            table.convert_bytestring_to_unicode()
            return {name: table[name] for name in table.colnames}
        read = pq.read_table(path) if suffix in (".parquet", ".pq") else pyarrow.csv.read_csv(path)
    except FileNotFoundError:
        raise MetadataError(f"{path}: no such file") from None
    except (pa.ArrowException, ValueError, OSError, TypeError) as error:
        said = first_line(error)
        kinds = "CSV, Parquet, ECSV, FITS, VOTable"
        raise MetadataError(f"{path}: expected a table of positions ({kinds}); {said}") from None
    return {name: read[name] for name in read.column_names}


def _of_columns(columns: Mapping[str, Any], where: str, id_names: Sequence[str] = _ID) -> PositionList:
    ra, dec = (_named(columns, names, where) for names in (_RA, _DEC))
    at = _degrees(columns[ra], ra_degrees, where), _degrees(columns[dec], dec_degrees, where)
    known = _match(columns, id_names)
    ids = pa.array(np.arange(len(at[0]))) if known is None else _ids(columns[known])
    if not len(at[0]) == len(at[1]) == len(ids):
        raise ConfigError(f"{where}: columns of {len(at[0])}, {len(at[1])} and {len(ids)} values; expected one length")
    return PositionList(ids, *at)


def _match(columns: Mapping[str, Any], names: Sequence[str]) -> str | None:
    lower = {name.strip().lower(): name for name in columns}
    return next((lower[name] for name in names if name in lower), None)


def _named(columns: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    found = _match(columns, names)
    if found is None:
        raise ConfigError(f"{where}: no column {names[0]!r}, nor {', '.join(names[1:])}; it has {', '.join(columns)}")
    return found


def _ids(column: Any) -> pa.Array:
    """Ids of any type, as Arrow has them."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.Array):
        return column.cast(plain_type(column.type))
    return pa.array(np.ma.asarray(column).tolist())


def _degrees(column: Any, convert: Any, where: str) -> Floats:
    """Degrees of a column of numbers, in its unit if it has one, or of sexagesimal texts."""
    values = np.ma.asarray(column)
    try:
        numbers: Floats = np.ma.filled(values.astype(np.float64), np.nan)
    except (TypeError, ValueError):
        texts = ("" if value is None else str(value) for value in values.tolist())
        return np.array([_converted(text, convert, where, row) for row, text in enumerate(texts)], np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise ConfigError(f"{where}: row {bad[0]} (from 0) has no position")
    numbers = _from_unit(numbers, getattr(column, "unit", None), where)
    for row in (numbers.argmin(), numbers.argmax()) if len(numbers) else ():
        _converted(float(numbers[row]), convert, where, int(row))
    return numbers


def _from_unit(numbers: Floats, unit: Any, where: str) -> Floats:
    """Numbers in a unit of astropy as degrees; without a unit, or in one that astropy does not know, they are that."""
    if unit is None or getattr(unit, "physical_type", "unknown") == "unknown":
        return numbers
    try:
        return np.asarray(unit.to("deg", numbers), np.float64)
    except ValueError as error:
        raise ConfigError(f"{where}: {first_line(error)}; expected positions in degrees") from None


def _converted(value: float | str, convert: Any, where: str, row: int) -> float:
    """Degrees of one value; an error says of which row."""
    try:
        return float(convert(value))
    except ConfigError as error:
        raise ConfigError(f"{where}: row {row} (from 0): {error}") from None
