"""The ledger: the part of it that one tile needs, and how its small files become large ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ztfmatch.errors import StoreDamagedError
from ztfmatch.io.parquet import DataFile, Destination, read_file_rows, read_rows, write_file
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.tiling import Tile, caps_touch_tile
from ztfmatch.schema import EXPOSURES

_FOOTPRINT = ("ra", "dec", "radius")

_UNPACKED: Final = pa.schema(
    field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
    for field in EXPOSURES.schema
)
"""The ledger without dictionaries: equal values in dictionaries of another order are not equal to Arrow."""


def exposures_of_tile(storage: Storage, ledger: Sequence[DataFile], tile: Tile, columns: Sequence[str]) -> pa.Table:
    """Ledger rows of the exposures whose footprint may touch a tile.

    Memory follows the exposures of the tile and the largest ledger file, not the survey.
    """
    return exposures_of_tiles(storage, ledger, [tile], columns)


def exposures_of_tiles(
    storage: Storage, ledger: Sequence[DataFile], tiles: Sequence[Tile], columns: Sequence[str]
) -> pa.Table:
    """Ledger rows of the exposures whose footprint may touch any of some tiles, each once."""
    wanted = list(dict.fromkeys([*columns, *_FOOTPRINT]))
    parts = [EXPOSURES.schema.empty_table().select(list(columns))]
    for file in ledger:
        rows = read_file_rows(storage, file, wanted)
        ra, dec, radius = (rows[name].to_numpy().astype(np.float64) for name in _FOOTPRINT)
        touching = np.any([caps_touch_tile(tile, ra, dec, radius) for tile in tiles], axis=0)
        parts.append(rows.filter(pa.array(touching)).select(list(columns)).cast(parts[0].schema))
    return pa.concat_tables(parts)


@dataclass(frozen=True)
class CompactLedgerTask:
    """Ledger files to be made one."""

    key: str
    storage: Storage
    files: tuple[DataFile, ...]
    commit: int
    part: str


def compact_ledger(task: CompactLedgerTask) -> dict[str, Any]:
    """Write the rows of some ledger files into one, sorted, and read it back; return ``files``.

    Raises
    ------
    StoreDamagedError
        If what was read back is not what was there.
    """
    rows = read_rows(task.storage, task.files, EXPOSURES.names)
    if rows is None:
        return {"files": []}
    rows = rows.cast(EXPOSURES.schema).sort_by([(name, "ascending") for name in EXPOSURES.sorted_by])
    file = write_file(Destination(task.storage, EXPOSURES, None, task.commit, task.part), rows)
    back = read_file_rows(task.storage, file, EXPOSURES.names)
    if not back.cast(_UNPACKED).equals(rows.cast(_UNPACKED)):
        raise StoreDamagedError(f"compaction of the ledger: {file.path} reads back otherwise than it was written")
    return {"files": [file.to_json()]}


@dataclass(frozen=True)
class RecountTask:
    """A ledger file some of whose exposures were matched again."""

    key: str
    storage: Storage
    file: DataFile
    counts: dict[int, tuple[int, int]]
    """``nmatched`` and ``norphans`` by exposureid, of all that were matched again."""
    commit: int
    part: str


def recount(task: RecountTask) -> dict[str, Any]:
    """Write the file with the new counts; return ``files`` and ``removed``, the one that they replace."""
    rows = read_file_rows(task.storage, task.file, EXPOSURES.names).cast(EXPOSURES.schema)
    ids = rows["exposureid"].to_pylist()
    if not any(exposureid in task.counts for exposureid in ids):
        return {"files": [], "removed": []}
    before = zip(rows["nmatched"].to_pylist(), rows["norphans"].to_pylist(), strict=True)
    counts = [task.counts.get(exposureid, old) for exposureid, old in zip(ids, before, strict=True)]
    for i, name in enumerate(("nmatched", "norphans")):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array([pair[i] for pair in counts], pa.int64()))
    file = write_file(Destination(task.storage, EXPOSURES, None, task.commit, task.part), rows)
    return {"files": [file.to_json()], "removed": [task.file.path]}
