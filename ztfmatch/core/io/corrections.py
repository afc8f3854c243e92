"""Sets of photometric corrections, and directories of small Parquet files that hold them.

A set is named by the digest of all numbers that it applies and of the programs that these were derived from, so that
equal corrections have one name wherever they are.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import ztfmatch
from ztfmatch.core.arrays import Floats
from ztfmatch.core.errors import CorrectionsError
from ztfmatch.core.io import surveytables
from ztfmatch.core.io.localfiles import write_directory
from ztfmatch.core.io.records import decode, encode, short_digest, utc_now
from ztfmatch.core.io.rows import units_of_rows
from ztfmatch.core.io.smoothsets import SmoothSet, digest_of_data, smooth_set_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.corrections import CorrectionTables
from ztfmatch.core.kernels.smoothcorrections import SmoothTables
from ztfmatch.core.plain import Json
from ztfmatch.core.schema import COLOURS, EXPOSURETERMS
from ztfmatch.core.survey import Channel, Unit

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

Coefficients = tuple[float, float, float, float]
_MAGNITUDE_COLUMNS: Final = ("bright", "faint", "slope", "curvature")
NUMBERS: Final = 4
"""Of a magnitude term, and of an error model."""


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

    def private_programs(self, public: Collection[int]) -> str:
        """The programs that are not public of which epochs were used, as text; empty if there are none."""
        if self.programs is None:
            return "programs that are not known"
        private = (number for number in self.programs if number not in public)
        return ", ".join(f"program {number}" if number else "no known program" for number in private)

    def has(self, unit: Unit) -> bool:
        """Whether there is anything for exposures of a unit: a term of its channel, or an error model."""
        return (unit.rcid, unit.fid) in self.row_of or unit in self.errors


def _canonical(values: Floats) -> bytes:
    """Bytes of numbers, all NaN alike."""
    return np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()


@dataclass(frozen=True)
class CorrectionFiles:
    """What a directory of corrections holds."""

    place: str
    about: Json
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
    values = np.full((len(channels), NUMBERS), np.nan)
    maps = np.full((len(channels), shape[0] * shape[1]), np.nan)
    values[[row_of[pair] for pair in _pairs(magnitude)]] = np.stack(
        [float_column(magnitude, name) for name in _MAGNITUDE_COLUMNS], axis=-1
    ).reshape(-1, NUMBERS)
    rows = np.array([row_of[pair] for pair in _pairs(position)], np.int64)
    maps[rows, position["column"].to_numpy() + shape[0] * position["row"].to_numpy()] = float_column(position, "value")
    offsets = {
        unit: value
        for unit, value in zip(units_of_rows(tables["field"]), tables["field"]["value"].to_pylist(), strict=True)
        if value is not None
    }
    errors = tables["errormodel"]
    coefficients = zip(*(errors[name].to_pylist() for name in "abcd"), strict=True)
    return CorrectionSet(
        channels=tuple(channels),
        tables=CorrectionTables(values, maps, shape),
        offsets=offsets,
        errors=dict(zip(units_of_rows(errors), coefficients, strict=True)),
        programs=None if programs is None else tuple(programs),
        smooth=smooth_set_of(tables[MODEL]) if MODEL in tables else None,
        data=digest_of_data([tables[name] for name in DATA_FILES if name in tables]),
    )


def _pairs(table: pa.Table) -> list[Channel]:
    return list(zip(table["rcid"].to_pylist(), table["fid"].to_pylist(), strict=True))


def float_column(table: pa.Table, name: str) -> Floats:
    """Column of numbers; NaN for null."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False))


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


def provenance(snapshot: SnapshotFiles, ps1: str, cells: tuple[int, int], **more: Any) -> Json:
    """What a new set is made from, for :func:`write_corrections`: a snapshot, PS1, a map of so many cells."""
    return {
        "store": snapshot.commit.store,
        "root": snapshot.storage.root,
        "snapshot": snapshot.number,
        "ps1": ps1,
        "ps1_columns": {},
        "cuts": {},
        "cells_x": cells[0],
        "cells_y": cells[1],
        "updated": None,
        **made_now(),
        **more,
    }


def made_now() -> Json:
    """When and by which version a set is made."""
    return {"time": utc_now(), "ztfmatch": ztfmatch.__version__}


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


def _read_about(place: Path) -> Json:
    if not place.is_dir():
        said = "is a file" if place.exists() else "does not exist"
        raise CorrectionsError(
            f"{place} {said}; expected a directory of corrections, as 'ztfmatch calibrate' makes them"
        )
    try:
        about: Json = decode((place / ABOUT).read_bytes(), dict)
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
