"""Shared by operations: operation ids, batches, footprints, conversion of results."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from ztfmatch.core.arrays import Ints
from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.io.parquet import DataFile, Destination, write_file
from ztfmatch.core.io.rows import FOOTPRINT, UNIT, codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.sphere import unit_vector
from ztfmatch.core.kernels.tiling import Tile, Tiling
from ztfmatch.core.plain import Json
from ztfmatch.core.schema import REFERENCES, Table
from ztfmatch.core.schema.types import plain_type
from ztfmatch.core.survey import Unit, unit_of_code
from ztfmatch.core.tasks.results import Written

_PLACES_KEPT: Final = 20
_FOOTPRINTS: Final = pa.schema([(name, pa.float64()) for name in FOOTPRINT])

WORKER_BASE_BYTES: Final = 450 << 20
"""Memory of a worker that does nothing: the interpreter, the libraries, compiled kernels."""


@dataclass(frozen=True)
class OperationId:
    """What an operation is to do, and on what: the same again is the same operation, which resumes."""

    name: str
    parent: int | None
    inputs: Any

    @property
    def value(self) -> str:
        """Hexadecimal digest."""
        text = json.dumps([self.name, self.parent, self.inputs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass
class Stopwatch:
    """When an operation began."""

    started: float = field(default_factory=time.time)

    @property
    def seconds(self) -> float:
        """Seconds since, to the millisecond."""
        return round(time.time() - self.started, 3)


@dataclass(frozen=True)
class CommitInfo:
    """What the history records of an operation, besides its result."""

    arguments: Json
    started: float
    note: str | None


def abridged_places(places: Sequence[str]) -> list[str]:
    """The first places, for the history, which every reader of the store reads."""
    more = len(places) - _PLACES_KEPT
    return list(places) if more <= 0 else [*places[:_PLACES_KEPT], f"and {more} more"]


def files_of(results: Iterable[Written]) -> list[DataFile]:
    """Files that tasks wrote."""
    return [file for result in results for file in result.files]


def same_files(one: SnapshotFiles, other: SnapshotFiles, *tables: Table) -> bool:
    """Whether two snapshots have the same files of some tables."""
    return all(set(one.files.paths(table.name)) == set(other.files.paths(table.name)) for table in tables)


def paths_of(snapshot: SnapshotFiles, tiles: Iterable[Tile], tables: Collection[str]) -> frozenset[str]:
    """Files of some tiles and tables."""
    return frozenset(file.path for tile in tiles for name in tables for file in snapshot.of_tile(name, tile))


def write_rows(
    storage: Storage, table: Table, rows: Sequence[Mapping[str, Any]], commit: int, part: str
) -> list[DataFile]:
    """Write rows of a table that is not divided over the sky; nothing if there are none."""
    return write_table(storage, table, pa.Table.from_pylist(list(rows), schema=table.schema), commit, part)


def write_table(storage: Storage, table: Table, data: pa.Table, commit: int, part: str) -> list[DataFile]:
    """The same of rows that are Arrow's."""
    if not data.num_rows:
        return []
    data = data.sort_by(table.order)
    return [write_file(Destination(storage, table, None, commit, part), data)]


def total(table: pa.Table, column: str) -> int:
    """Sum of a column of counts."""
    return int(np.sum(table[column].to_numpy(), dtype=np.int64))


def units_of(table: pa.Table) -> tuple[list[Unit], Ints]:
    """The units of some rows of the ledger, each once and in order, and which of them each row is of."""
    codes, which = np.unique(codes_of_rows(table), return_inverse=True)
    return [unit_of_code(code) for code in codes.tolist()], which


def references_by_unit(snapshot: SnapshotFiles, columns: Sequence[str]) -> pa.Table:
    """Rows of the newest reference of each unit, by field, readout channel and filter, which are the first columns."""
    rows = snapshot.read(REFERENCES.name, [*UNIT, "generation", *columns])
    rows = rows.sort_by([(name, "ascending") for name in (*UNIT, "generation")])
    return rows.take(np.flatnonzero(np.diff(codes_of_rows(rows), append=-1) != 0))


def digest_of(table: pa.Table) -> str:
    """Digest of a table's values, whatever pieces it is made of."""
    digest = hashlib.sha256(usedforsecurity=False)
    plain = [column.cast(plain_type(column.type)) for column in table.columns]
    with pa.PythonFile(_Digested(digest), mode="w") as sink:
        pyarrow.csv.write_csv(pa.table(plain, table.column_names), sink)
    return digest.hexdigest()


class _Digested(io.RawIOBase):
    """A file of which only the digest is kept."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return len(content)


def footprint_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Columns ``ra``, ``dec`` and ``radius``, degrees, of ledger or reference rows."""
    return pa.Table.from_pylist([{name: row[name] for name in FOOTPRINT} for row in rows], _FOOTPRINTS)


def tiles_of_footprints(tiling: Tiling, footprints: pa.Table) -> list[list[Tile]]:
    """Tiles that each footprint touches, or comes within MARGIN_ARCSEC of.

    A detection just outside a tile can match a seed inside, and that tile is the one that writes it.

    Parameters
    ----------
    tiling : Tiling
    footprints : pa.Table
        With ``ra``, ``dec`` and ``radius``, degrees; null for a catalog without usable rows.
    """
    ra, dec, radius = (footprints[name].to_numpy().astype(np.float64) for name in FOOTPRINT)
    placed = np.flatnonzero(np.isfinite(ra))
    reach = np.radians(radius[placed] + MARGIN_ARCSEC / 3600.0)
    cap, touched = tiling.touched_by_caps(unit_vector(ra[placed], dec[placed]), reach)
    tiles: list[list[Tile]] = [[] for _ in range(footprints.num_rows)]
    for row, at in zip(placed[cap].tolist(), touched.tolist(), strict=True):
        tiles[row].append(tiling.tiles[at])
    return tiles
