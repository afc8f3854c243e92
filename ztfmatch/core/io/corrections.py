"""Sets of photometric corrections: as a directory of small Parquet files, and as rows of a store.

A set is named by the digest of all numbers that it applies and of the programs that these were derived from, so that
equal corrections have one name wherever they are.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.errors import CorrectionsError
from ztfmatch.core.io import surveytables
from ztfmatch.core.io.localfiles import write_directory
from ztfmatch.core.io.parquet import DataFile, read_file_rows
from ztfmatch.core.io.records import decode, encode, short_digest
from ztfmatch.core.io.smoothsets import SmoothSet, digest_of_data, smooth_set_of
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.corrections import CorrectionTables
from ztfmatch.core.kernels.smoothcorrections import SmoothTables
from ztfmatch.core.schema import COLOURS, CORRECTIONS, EXPOSURETERMS
from ztfmatch.core.schema.corrections import DATA, ERROR_MODEL, FIELD, GRID, MAGNITUDE, POSITION, PROGRAM
from ztfmatch.core.survey import Unit

FORMAT: Final = "ztfmatch-corrections"
FORMAT_VERSION: Final = 3
"""2: programs are a part of what a set is named by; sets without them, of version 1, are read too. 3: continuous
corrections, in a table ``model``; sets without it are applied as before."""
MODEL: Final = "model"
"""Table of continuous corrections; sets of older versions have none."""
ABOUT: Final = "about.json"
DATA_FILES: Final = (EXPOSURETERMS.name, COLOURS.name)
"""What is of single exposures and objects; without the name of the set, which it has in a store."""
FILES_OF_ALL: Final = ("magnitude", "position", "field", "errormodel", "exposures", "sums")
"""Parquet files that directories of every version have; what lacks others is applied, but not updated."""
FILES: Final = (*FILES_OF_ALL, "curve", "heldout", MODEL, *DATA_FILES)
"""Parquet files of a directory."""

ABOUT_WRITTEN: Final = ("format", "version", "corrections", "files")
"""What a record says beside the provenance that is given."""

Channel = tuple[int, int]
"""Readout channel and filter."""

Coefficients = tuple[float, float, float, float]
_MAGNITUDE_COLUMNS: Final = ("bright", "faint", "slope", "curvature")
_NUMBERS: Final = 4
_STORE_COLUMNS: Final = ["term", "field", "rcid", "fid", "place", "value"]


@dataclass(frozen=True)
class CorrectionSet:
    """All numbers that are applied.

    Attributes
    ----------
    channels : tuple of Channel
        Ascending.
    tables : CorrectionTables
        Rows in order of ``channels``.
    offsets : Mapping of Unit to float
        mag.
    errors : Mapping of Unit to Coefficients
        A, B, C, D of the error model.
    programs : tuple of int, optional
        Whose epochs it was derived from, ascending, 0 for exposures of no known program; None if that is not known.
    """

    channels: tuple[Channel, ...]
    tables: CorrectionTables
    offsets: Mapping[Unit, float]
    errors: Mapping[Unit, Coefficients]
    programs: tuple[int, ...] | None = None
    smooth: SmoothSet | None = None
    """Continuous terms, in place of those of ``tables``, which only say where they are known; None of older sets."""
    data: int = 0
    """Digest of what it has of single exposures and objects, in tables of their own; 0 for nothing."""

    @functools.cached_property
    def smooth_tables(self) -> SmoothTables | None:
        """Continuous terms as arrays."""
        if self.smooth is None:
            return None
        valid = {channel: ~np.isnan(self.tables.maps[row]) for channel, row in self.row_of.items()}
        return self.smooth.tables(valid, self.tables.shape)

    @functools.cached_property
    def row_of(self) -> dict[Channel, int]:
        """Row of each channel in the tables."""
        return {channel: row for row, channel in enumerate(self.channels)}

    @functools.cached_property
    def digest(self) -> str:
        """Name of the set."""
        hasher = hashlib.sha256(usedforsecurity=False)
        hasher.update(np.array([*self.tables.shape, len(self.channels)], "<i8").tobytes())
        hasher.update(np.array(self.channels, "<i8").tobytes())
        hasher.update(_canonical(self.tables.magnitude) + _canonical(self.tables.maps))
        for unit in sorted(self.offsets):
            hasher.update(f"{unit}".encode() + _canonical(np.array([self.offsets[unit]])))
        for unit in sorted(self.errors):
            hasher.update(f"{unit} error".encode() + _canonical(np.array(self.errors[unit])))
        if self.programs is not None:
            hasher.update(f"programs {self.programs}".encode())
        if self.smooth is not None:
            hasher.update(self.smooth.canonical())
        if self.data:
            hasher.update(f"data {self.data}".encode())
        return hasher.hexdigest()[:16]

    def told_by(self, public: Collection[int]) -> str:
        """Of which other programs it was derived, in words; empty if of none."""
        if self.programs is None:
            return "programs that are not known"
        private = (number for number in self.programs if number not in public)
        return ", ".join(f"program {number}" if number else "no known program" for number in private)

    def has(self, unit: Unit) -> bool:
        """Whether there is anything for exposures of a unit: a term of its channel, or an error model."""
        return (unit.rcid, unit.fid) in self.row_of or unit in self.errors


def _canonical(values: npt.NDArray[np.float64]) -> bytes:
    """Bytes of numbers, all NaN alike."""
    return np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()


@dataclass(frozen=True)
class CorrectionFiles:
    """What a directory of corrections holds."""

    place: str
    about: dict[str, Any]
    tables: dict[str, pa.Table]
    """By name, see FILES."""

    @functools.cached_property
    def set(self) -> CorrectionSet:
        """What is applied of it."""
        return set_of_tables(self.tables, self.about)

    @property
    def of_survey(self) -> bool:
        """Whether it holds the survey's own tables."""
        return bool(self.about["format"] == surveytables.FORMAT)


def set_of_tables(tables: Mapping[str, pa.Table], about: Mapping[str, Any]) -> CorrectionSet:
    """What is applied of the tables of a directory.

    Parameters
    ----------
    tables : mapping of str to Table
        ``magnitude``, ``position``, ``field`` and ``errormodel``.
    about : mapping
        Provenance: ``cells_x``, ``cells_y`` and, if they are known, ``programs``.
    """
    shape, programs = (about["cells_x"], about["cells_y"]), about.get("programs")
    magnitude, position = tables["magnitude"], tables["position"]
    channels = sorted(set(_pairs(magnitude)) | set(_pairs(position)))
    row_of = {channel: row for row, channel in enumerate(channels)}
    values = np.full((len(channels), _NUMBERS), np.nan)
    maps = np.full((len(channels), shape[0] * shape[1]), np.nan)
    values[[row_of[pair] for pair in _pairs(magnitude)]] = np.stack(
        [_floats(magnitude, name) for name in _MAGNITUDE_COLUMNS], axis=-1
    ).reshape(-1, _NUMBERS)
    rows = np.array([row_of[pair] for pair in _pairs(position)], np.int64)
    maps[rows, position["column"].to_numpy() + shape[0] * position["row"].to_numpy()] = _floats(position, "value")
    offsets = {
        unit: value
        for unit, value in zip(_units(tables["field"]), tables["field"]["value"].to_pylist(), strict=True)
        if value is not None
    }
    errors = tables["errormodel"]
    coefficients = zip(*(errors[name].to_pylist() for name in "abcd"), strict=True)
    return CorrectionSet(
        tuple(channels),
        CorrectionTables(values, maps, shape),
        offsets,
        dict(zip(_units(errors), coefficients, strict=True)),
        None if programs is None else tuple(programs),
        smooth_set_of(tables[MODEL]) if MODEL in tables else None,
        digest_of_data([tables[name] for name in DATA_FILES if name in tables]),
    )


def _pairs(table: pa.Table) -> list[Channel]:
    return list(zip(table["rcid"].to_pylist(), table["fid"].to_pylist(), strict=True))


def _units(table: pa.Table) -> list[Unit]:
    columns = (table[name].to_pylist() for name in ("field", "rcid", "fid"))
    return [Unit(*values) for values in zip(*columns, strict=True)]


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False))


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
        *([] if corrections.smooth is None else [corrections.smooth.rows().select(_STORE_COLUMNS)]),
    ]
    rows = pa.concat_tables(parts)
    return rows.add_column(0, "corrections", pa.array([corrections.digest] * len(rows))).cast(CORRECTIONS.schema)


def _unit_rows(units: Iterable[Unit]) -> npt.NDArray[np.int64]:
    """rcid, fid, field of each unit, ascending by unit."""
    return np.array([(unit.rcid, unit.fid, unit.field) for unit in sorted(units)], np.int64).reshape(-1, 3)


def _part(term: str, keys: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> pa.Table:
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
    value = _floats(rows, "value")
    terms = np.array(rows["term"].cast(pa.string()).to_pylist(), object)

    def of(term: str) -> npt.NDArray[np.int64]:
        return np.flatnonzero(terms == term)

    def key(at: npt.NDArray[np.int64], *names: str) -> list[Any]:
        return list(zip(*(columns[name][at].tolist() for name in names), strict=True))

    grid = dict(zip(columns["place"][of(GRID)].tolist(), value[of(GRID)].tolist(), strict=True))
    shape = (int(grid[0]), int(grid[1]))
    channels = sorted(set(key(of(MAGNITUDE), "rcid", "fid")))
    row_of = {channel: row for row, channel in enumerate(channels)}
    magnitude = np.full((len(channels), _NUMBERS), np.nan)
    maps = np.full((len(channels), shape[0] * shape[1]), np.nan)
    for term, target in ((MAGNITUDE, magnitude), (POSITION, maps)):
        at = of(term)
        target[[row_of[channel] for channel in key(at, "rcid", "fid")], columns["place"][at]] = value[at]
    units = {
        Unit(*unit): float(offset)
        for unit, offset in zip(key(of(FIELD), "field", "rcid", "fid"), value[of(FIELD)], strict=True)
    }
    models: dict[Unit, list[float]] = {}
    at = of(ERROR_MODEL)
    for unit, place, number in zip(key(at, "field", "rcid", "fid"), columns["place"][at], value[at], strict=True):
        models.setdefault(Unit(*unit), [np.nan] * _NUMBERS)[place] = float(number)
    errors: dict[Unit, Coefficients] = {unit: (m[0], m[1], m[2], m[3]) for unit, m in models.items()}
    programs = tuple(value[of(PROGRAM)].astype(int).tolist()) or None
    data = value[of(DATA)].astype(np.int64).tolist()
    return CorrectionSet(
        tuple(channels),
        CorrectionTables(magnitude, maps, shape),
        units,
        errors,
        programs,
        smooth_set_of(rows),
        data[0] if data else 0,
    )


@functools.lru_cache(maxsize=4)
def read_store_set(storage: Storage, file: DataFile) -> CorrectionSet:
    """Set that a file of the store's table ``corrections`` holds; the last ones read are kept."""
    return set_of_store_rows(read_file_rows(storage, file, CORRECTIONS.names))


def read_store_sets(storage: Storage, files: Iterable[DataFile]) -> dict[str, CorrectionSet]:
    """Sets of a store by name."""
    sets = [read_store_set(storage, file) for file in files]
    return {one.digest: one for one in sets}


def write_corrections(
    place: Path, tables: Mapping[str, pa.Table], about: Mapping[str, Any], others: Mapping[str, bytes] | None = None
) -> str:
    """Write a directory of corrections, whole or not at all; return the name of the set.

    Parameters
    ----------
    place : Path
        Must not exist, or be empty.
    tables : mapping of str to Table
        One for each of FILES; those of older versions may lack ``model``.
    about : mapping
        Provenance: plain values, among them ``cells_x``, ``cells_y`` and ``programs``.
    others : mapping of str to bytes, optional
        Content of more files, by name.
    """
    content = {name: _parquet(tables[name]) for name in FILES if name in tables}
    checksums = {name: short_digest(data) for name, data in content.items()}
    digest = set_of_tables(tables, about).digest
    record = {"format": FORMAT, "version": FORMAT_VERSION, "corrections": digest, **about, "files": checksums}
    files = {f"{name}.parquet": data for name, data in content.items()}
    write_directory(place, {**files, ABOUT: encode(record), **(others or {})})
    return digest


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def read_corrections(place: Path, names: Sequence[str] = FILES) -> CorrectionFiles:
    """Read a directory of corrections, or of the survey's own tables, as a set of ours; perhaps some tables alone.

    Raises
    ------
    CorrectionsError
        If it is not one, of a newer version, or any of its files is not as it was written.
    """
    if not (place / ABOUT).exists() and surveytables.is_there(place):
        return _of_survey(place)
    about = _read_about(place)
    tables = {name: _read_table(place, name, about) for name in names if name in FILES_OF_ALL or name in about["files"]}
    files = CorrectionFiles(str(place), about, tables)
    whole = all(name in tables for name in FILES if name in about["files"])  # each file has its checksum besides
    if whole and files.set.digest != about["corrections"]:
        raise CorrectionsError(f"{place}: the corrections are not those that {ABOUT} names, {about['corrections']}")
    return files


def _of_survey(place: Path) -> CorrectionFiles:
    """The survey's own tables as a set."""
    held, digests = surveytables.read_survey_tables(place)
    files = CorrectionFiles(str(place), surveytables.record_of(place, digests), held.correction_tables())
    files.about["corrections"] = files.set.digest
    return files


@dataclass(frozen=True)
class _About:
    """What is read of a record; where the set is from is for people, and for updates."""

    format: Literal["ztfmatch-corrections"]
    version: int
    corrections: str
    cells_x: int
    cells_y: int
    files: dict[str, str]
    programs: tuple[int, ...] | None = None


def _read_about(place: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = decode((place / ABOUT).read_bytes(), dict)
        version = msgspec.convert(about, _About).version
    except FileNotFoundError:
        raise CorrectionsError(
            f"{place}: no corrections: it has no {ABOUT}; make them with 'ztfmatch calibrate'"
        ) from None
    except (ValueError, OSError) as error:
        raise CorrectionsError(f"{place / ABOUT} is damaged, or not that of corrections: {error}") from None
    if version > FORMAT_VERSION:
        raise CorrectionsError(
            f"{place}: corrections of format {version}; this ztfmatch reads up to {FORMAT_VERSION}: upgrade it"
        )
    return about


def _read_table(place: Path, name: str, about: Mapping[str, Any]) -> pa.Table:
    path = place / f"{name}.parquet"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorrectionsError(f"{path} is missing or cannot be read: {error.strerror or error}") from None
    if short_digest(content) != about["files"].get(name):
        raise CorrectionsError(f"{path} is damaged: its checksum is not the one in {ABOUT}; make the corrections again")
    return pq.read_table(pa.BufferReader(content))
