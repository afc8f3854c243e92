"""The ledger: the rows that one tile needs, and how its small files are merged."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Floats, Ints
from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.parquet import DataFile, Destination, OpenFile, read_file_rows, read_table, write_file
from ztfmatch.core.io.rows import FOOTPRINT, UNIT, codes_of_rows, codes_of_units
from ztfmatch.core.io.sealed import Tail, leaf_paths
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import find_sorted, is_among
from ztfmatch.core.kernels.tiling import Boxes, Tile, boxes_touch_tile, caps_touch_any
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.survey import DEFAULT_EXPTIME_S, Unit
from ztfmatch.core.tasks.results import Replaced, Written

_BOXES_KEPT: Final = 4096
_FILES_KEPT: Final = 128
"""Their footers, some ten kB each."""
_AREA_ORDER: Final = 3
"""Of the pixels, seven degrees wide, for which the ledger is read: a tile's neighbours are in up to four of them."""
_AREAS_KEPT: Final = 4
_FIELDS_KEPT: Final = 2
_EMPTY: Final = pa.Table.from_batches([], EXPOSURES.schema)
_ROWS_OF_FEW: Final = 1024
"""A ledger file of no more, as nights leave it, is read at once."""

_UNPACKED: Final = pa.schema(
    field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
    for field in EXPOSURES.schema
)
"""The ledger without dictionaries: equal values in dictionaries of another order are not equal to Arrow."""


def exposures_of_tile(snapshot: SnapshotFiles, tile: Tile, columns: Sequence[str]) -> pa.Table:
    """Ledger rows of the exposures whose footprint may touch a tile."""
    return exposures_of_tiles(snapshot, [tile], columns)


def exposures_of_tiles(
    snapshot: SnapshotFiles | StagedFiles, tiles: Sequence[Tile], columns: Sequence[str]
) -> pa.Table:
    """Ledger rows of the exposures whose footprint may touch any of some tiles, each once.

    What is read follows the exposures of that part of the sky, not the survey: those of an area are read for all tiles
    in it that a process is asked for one after the other.
    """
    ledger, wanted = tuple(snapshot.ledger), tuple(dict.fromkeys(["exposureid", *columns, *FOOTPRINT]))
    by_area: dict[Tile, list[Tile]] = {}
    for tile in tiles:
        by_area.setdefault(_area_of(tile), []).append(tile)
    parts = [_touching(_of_area(snapshot.storage, ledger, area, wanted), held) for area, held in by_area.items()]
    rows = pa.concat_tables(parts or [_EMPTY.select(wanted)])
    if len(parts) > 1:
        rows = rows.take(np.sort(np.unique(rows["exposureid"].to_numpy(), return_index=True)[1]))
    return rows.select(list(columns))


def _area_of(tile: Tile) -> Tile:
    """Pixel of _AREA_ORDER that a tile is in, or the tile if it is larger."""
    down = tile.order - _AREA_ORDER
    return Tile(_AREA_ORDER, tile.npix >> 2 * down) if down > 0 else tile


@functools.lru_cache(_AREAS_KEPT)
def _of_area(storage: Storage, ledger: tuple[DataFile, ...], area: Tile, columns: tuple[str, ...]) -> pa.Table:
    """Ledger rows of the exposures whose footprint may touch an area; only row groups that may have one are read."""
    parts = [_EMPTY.select(columns)]
    for file in ledger:
        groups = np.flatnonzero(boxes_touch_tile(area, _boxes(storage, file))).tolist()
        if groups:
            rows = OpenFile(storage, file, _tail(storage, file)).read(groups, columns)
            parts.append(_touching(rows, [area]).cast(parts[0].schema))
    return pa.concat_tables(parts).combine_chunks()


def _touching(rows: pa.Table, tiles: Sequence[Tile]) -> pa.Table:
    """Those of ledger rows whose footprint may touch any of some tiles."""
    ra, dec, radius = (rows[name].to_numpy().astype(np.float64) for name in FOOTPRINT)
    return rows.filter(pa.array(caps_touch_any(tiles, ra, dec, radius)))


@functools.lru_cache(_BOXES_KEPT)
def _boxes(storage: Storage, file: DataFile) -> Boxes:
    """Where the footprints of each row group of a ledger file are, as its footer says; anywhere if it does not."""
    metadata = _tail(storage, file).metadata
    anywhere = {"ra": (0.0, 360.0), "dec": (-90.0, 90.0), "radius": (0.0, 180.0)}
    names = leaf_paths(metadata)
    places = [names.index(name) for name in anywhere]
    bounds = np.empty((len(anywhere), 2, metadata.num_row_groups))
    for i, (place, (low, high)) in enumerate(zip(places, anywhere.values(), strict=True)):
        for group in range(metadata.num_row_groups):
            said = metadata.row_group(group).column(place).statistics
            bounds[i, :, group] = (said.min, said.max) if said is not None and said.has_min_max else (low, high)
    (min_ra, max_ra), (min_dec, max_dec), (_, max_radius) = bounds
    return Boxes(min_ra, max_ra, min_dec, max_dec, max_radius)


@functools.lru_cache(_FILES_KEPT)
def _tail(storage: Storage, file: DataFile) -> Tail:
    return Tail(storage, file)


def mid_exposures(obsmjd: Sequence[float], exptime: Sequence[float | None]) -> Floats:
    """Middle of each exposure, MJD, by its ledger; one without an exposure time is taken to have the usual one."""
    seconds = np.array([DEFAULT_EXPTIME_S if value is None else value for value in exptime], np.float64)
    return np.asarray(np.array(obsmjd, np.float64) + 0.5 * seconds / 86400.0)


def exposures_of_fields(snapshot: SnapshotFiles, fields: Iterable[int], columns: Sequence[str]) -> pa.Table:
    """Ledger rows of some fields; of each file only the row groups that hold any, and once for units of one field."""
    return _of_fields(snapshot.storage, tuple(snapshot.ledger), tuple(sorted(set(fields))), tuple(columns))


@functools.lru_cache(_FIELDS_KEPT)
def _of_fields(
    storage: Storage, ledger: tuple[DataFile, ...], fields: tuple[int, ...], columns: tuple[str, ...]
) -> pa.Table:
    return read_table(storage, ledger, EXPOSURES, columns, [(field, field) for field in fields], "field")


def exposures_of_unit(snapshot: SnapshotFiles, unit: Unit, columns: Sequence[str]) -> pa.Table:
    """Ledger rows of a unit, by exposureid; those of its field are read once for all its units."""
    codes, rows = _by_unit(snapshot.storage, tuple(snapshot.ledger), unit.field, tuple(columns))
    low, high = np.searchsorted(codes, codes_of_units([unit])[0] + np.arange(2))
    return rows.slice(low, high - low)


@functools.lru_cache(_FIELDS_KEPT)
def _by_unit(
    storage: Storage, ledger: tuple[DataFile, ...], field: int, columns: tuple[str, ...]
) -> tuple[Ints, pa.Table]:
    """Ledger rows of a field, by unit and exposureid, and the code of the unit of each."""
    names = dict.fromkeys([*columns, *UNIT, "exposureid"])
    rows = read_table(storage, ledger, EXPOSURES, list(names), [(field, field)], "field")
    rows = rows.sort_by([(name, "ascending") for name in (*UNIT, "exposureid")]).combine_chunks()
    return codes_of_rows(rows), rows.select(columns)


@dataclass(frozen=True)
class CompactLedgerTask:
    """Ledger files to be made one."""

    key: str
    storage: Storage
    files: tuple[DataFile, ...]
    commit: int
    part: str


def compact_ledger(task: CompactLedgerTask) -> Written:
    """Write the rows of some ledger files into one, sorted, and read it back.

    Raises
    ------
    StoreDamagedError
        If what was read back is not what was there.
    """
    rows = read_table(task.storage, task.files, EXPOSURES)
    if not rows.num_rows:
        return Written([])
    rows = rows.cast(EXPOSURES.schema).sort_by(EXPOSURES.order)
    file = write_file(Destination(task.storage, EXPOSURES, None, task.commit, task.part), rows)
    back = read_file_rows(task.storage, file, EXPOSURES.names)
    if not back.cast(_UNPACKED).equals(rows.cast(_UNPACKED)):
        raise StoreDamagedError(f"compaction of the ledger: {file.path} reads back otherwise than it was written")
    return Written([file])


@dataclass(frozen=True)
class ReviseTask:
    """Ledger files some of whose exposures get new values in some columns."""

    key: str
    snapshot: SnapshotFiles
    numbers: tuple[int, ...]
    """Which files of the snapshot's ledger."""
    values: str
    """Staged arrays: ``exposureid`` of all exposures with new values, ascending, and these by column; NaN is null."""
    part: str
    drop: bool = False
    """Write the files without these exposures."""


def revise(task: ReviseTask) -> Replaced:
    """Write one file, with the new values, in place of those that hold any of the exposures."""
    storage, ledger = task.snapshot.storage, task.snapshot.ledger
    columns = read_arrays(storage, task.values)
    ids = columns.pop("exposureid")
    held, parts = list[DataFile](), list[pa.Table]()
    for file in (ledger[number] for number in task.numbers):
        parquet = OpenFile(storage, file)
        groups = range(parquet.metadata.num_row_groups)
        few = file.rows <= _ROWS_OF_FEW
        rows = parquet.read(groups, EXPOSURES.names if few else ["exposureid"])
        if is_among(rows["exposureid"].to_numpy(), ids).any():
            held.append(file)
            parts.append(rows if few else parquet.read(groups, EXPOSURES.names))
    if not held:
        return Replaced([], [])
    rows = pa.concat_tables(parts).cast(EXPOSURES.schema).sort_by(EXPOSURES.order)
    at = find_sorted(ids, rows["exposureid"].to_numpy())
    known = at >= 0
    if task.drop:
        rows = rows.filter(pa.array(~known))
    if not rows.num_rows:
        return Replaced([], [file.path for file in held])
    for name, values in columns.items():
        field = rows.schema.field(name)
        new = pa.array(values[at], from_pandas=True).cast(field.type)
        column = pc.if_else(pa.array(known), new, rows[name].combine_chunks())
        rows = rows.set_column(rows.schema.get_field_index(name), field, column)
    file = write_file(Destination(storage, EXPOSURES, None, task.snapshot.number + 1, task.part), rows)
    return Replaced([file], [file.path for file in held])
