"""Partitions of a HATS catalog: count what each tile has, write partitions, their margins and the index.

A partition is written by the task that reads its tile, or all tiles that it covers. What it has near its borders goes
into a file for each neighbour, from which that neighbour's margin is made; where its objects are goes into a file, from
which the index is made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztfmatch.core.arrays import Ints
from ztfmatch.core.io.parquet import IdRange
from ztfmatch.core.io.paths import STAGING
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, fine_pixels
from ztfmatch.core.schema import DETECTIONS, Table
from ztfmatch.core.schema import OBJECTS as SEEDED
from ztfmatch.core.survey import IDS_OF_A_UNIT
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.release.io import hats
from ztfmatch.release.io.outputs import Output, Written, place_of, write_table
from ztfmatch.release.kernels.alignment import Alignment, Limits, Piece, in_ring, pieces_of_tile
from ztfmatch.release.schema import HEALPIX_COLUMN, INDEX, RELEASED_LIGHTCURVES, RELEASED_OBJECTS, RELEASED_STARS
from ztfmatch.release.tasks.nested import nested_rows
from ztfmatch.release.tasks.objects import OBJECT_COLUMNS, object_rows
from ztfmatch.release.tasks.partition import Partitioner, fine_of
from ztfmatch.release.tasks.released import (
    LEDGER_COLUMNS,
    Product,
    Source,
    exposures_in_scope,
    objects_in_scope,
    released,
)
from ztfmatch.release.tasks.stars import star_epochs, star_rows, stars_of_tile

LIGHTCURVES: Final = "lightcurves"
OBJECTS: Final = "objects"
STARLIGHTCURVES: Final = "stars"

_TABLES: Final = {LIGHTCURVES: RELEASED_LIGHTCURVES, OBJECTS: RELEASED_OBJECTS, STARLIGHTCURVES: RELEASED_STARS}

BYTES_PER_ROW: Final = 64
BYTES_PER_EPOCH: Final = 24
BYTES_PER_STAR_EPOCH: Final = 36
BYTES_PER_OBJECT_ROW: Final = 400
"""Of a row and an epoch in memory: what partitions are measured by."""

EPOCHS_PER_ROW_GROUP: Final = 2_000_000

ALIGNMENT_FILE: Final = f"{STAGING}alignment.json"
_POSITION: Final = ("objectid", "ra", "dec")
_STARS_TOGETHER: Final = 10**13
"""Starids of a minute of right ascension: what the index is divided by."""


@dataclass(frozen=True)
class Catalog(Product):
    """A HATS catalog to be made."""

    content: str
    """LIGHTCURVES, OBJECTS or STARLIGHTCURVES."""
    name: str
    """Directory of the primary catalog."""
    margin: str
    """Directory of its margin cache."""
    index: str
    """Directory of its index."""
    magerr_bits: int

    @property
    def table(self) -> Table:
        """Layout of its rows."""
        return _TABLES[self.content]

    @property
    def is_nested(self) -> bool:
        """Whether rows have lightcurves."""
        return self.content != OBJECTS

    @property
    def id_column(self) -> str:
        """What identifies a row: an object, or a star."""
        return {LIGHTCURVES: "objectid", OBJECTS: "oid", STARLIGHTCURVES: "starid"}[self.content]

    def rows(self, table: Table, tile: Tile) -> int:
        """Rows of a table that the snapshot has in a tile."""
        return sum(file.rows for file in self.snapshot.of_tile(table.name, tile))


@dataclass(frozen=True)
class CountTask:
    """One tile."""

    key: str
    catalog: Catalog
    tile: Tile
    limits: Limits


@dataclass(frozen=True)
class TileCounts:
    """What a tile has in scope."""

    pieces: tuple[Piece, ...]
    units: dict[int, int]
    """Rows by the smallest objectid of their unit; stars by the smallest starid of their minute."""
    epochs: int


def count_tile(task: CountTask) -> TileCounts:
    """Count what a tile has in scope."""
    catalog = task.catalog
    if catalog.content == STARLIGHTCURVES:
        return _count_stars(task)
    objects, source = _open(catalog, task.tile, _POSITION)
    epochs = _epochs(source, objects.num_rows) if catalog.content == LIGHTCURVES else np.zeros(0, np.int64)
    if catalog.content == LIGHTCURVES:
        objects = objects.filter(pa.array(epochs > 0))
        size = BYTES_PER_ROW + BYTES_PER_EPOCH * epochs[epochs > 0]
    else:
        size = np.full(objects.num_rows, BYTES_PER_OBJECT_ROW)
    fine = fine_pixels(objects["ra"].to_numpy(), objects["dec"].to_numpy()) if objects.num_rows else size
    pieces = pieces_of_tile(task.tile, fine, size, task.limits)
    return TileCounts(tuple(pieces), _rows_by_unit(objects["objectid"].to_numpy()), int(epochs.sum()))


def _count_stars(task: CountTask) -> TileCounts:
    """Count the stars and epochs that a tile has in scope."""
    stars = stars_of_tile(task.catalog, task.tile)
    epochs = star_epochs(task.catalog, task.tile, stars)
    seen = epochs > 0
    size = BYTES_PER_ROW + BYTES_PER_STAR_EPOCH * epochs[seen]
    fine = fine_pixels(stars.ra[seen], stars.dec[seen]) if seen.any() else size
    heads, counts = np.unique(stars.starid[seen] // _STARS_TOGETHER, return_counts=True)
    rows = dict(zip((heads * _STARS_TOGETHER).tolist(), counts.tolist(), strict=True))
    return TileCounts(tuple(pieces_of_tile(task.tile, fine, size, task.limits)), rows, int(epochs.sum()))


def _open(catalog: Catalog, tile: Tile, columns: Sequence[str]) -> tuple[pa.Table, Source]:
    """Objects of a tile in scope, and their epochs."""
    snapshot = catalog.snapshot
    objects = objects_in_scope(snapshot.storage, snapshot.of_tile(SEEDED.name, tile), catalog.scope, columns)
    ledger = exposures_of_tile(snapshot, tile, LEDGER_COLUMNS)
    exposures = exposures_in_scope(ledger, catalog.scope)
    objectid = objects["objectid"].to_numpy()
    return objects, Source(
        snapshot.storage, snapshot.of_tile(DETECTIONS.name, tile), catalog.scope, exposures, objectid
    )


def _epochs(source: Source, objects: int) -> Ints:
    """Epochs in scope of each object."""
    epochs = np.zeros(objects, np.int64)
    for part in released(source, []):
        epochs[part.row] = np.diff(part.lightcurves.offsets)
    return epochs


def _rows_by_unit(objectid: Ints) -> dict[int, int]:
    """Number of objects by the smallest objectid of their unit."""
    heads, counts = np.unique(objectid // IDS_OF_A_UNIT, return_counts=True)
    return dict(zip((heads * IDS_OF_A_UNIT).tolist(), counts.tolist(), strict=True))


@dataclass(frozen=True)
class WriteTask:
    """A tile and the partitions in it, or a partition and the tiles that it covers."""

    key: str
    catalog: Catalog
    tiles: tuple[Tile, ...]
    targets: tuple[Tile, ...]
    """In order of the sky."""
    first_row: tuple[int, ...]
    """Number of the first row of each target among all rows, from 0."""


@dataclass(frozen=True)
class PartitionsWritten(Written):
    """Partitions, and what the margins and the index are made of."""

    kept: tuple[Output, ...] = ()
    """Pieces of margins and of the index."""
    margins: tuple[Tile, ...] = ()
    """Partitions for whose margins there are pieces."""
    skymap: dict[int, int] = field(default_factory=dict)
    """Rows by pixel of the sky map."""
    ids: IdRange = (0, 0)


def write_partitions(task: WriteTask) -> PartitionsWritten:
    """Write the partitions of a task, and what the margins and the index are made of."""
    catalog = task.catalog
    alignment = read_alignment(catalog.out)
    partitioner = Partitioner(task.targets, Storage.at(f"{catalog.out.root}/{STAGING}spill/{task.key}"))
    for tile in task.tiles:
        for rows in _content(catalog, tile):
            partitioner.add(rows)
    first_row = dict(zip(task.targets, task.first_row, strict=True))
    outputs: list[Output] = []
    kept: list[Output] = []
    margins: set[Tile] = set()
    skymap = Counter[int]()
    index = []
    for tile, placed in partitioner.partitions(catalog.table.sorted_by):
        rows = _numbered(catalog, placed, first_row[tile])
        outputs.append(_write(catalog, hats.pixel_file(catalog.name, tile), rows))
        borders = _write_border(catalog, alignment, tile, rows)
        margins |= borders.keys()
        kept += borders.values()
        skymap.update(hats.skymap_counts(rows[HEALPIX_COLUMN].to_numpy()))
        index.append(_index_rows(rows[catalog.id_column], tile))
    located = hats.in_order(pa.concat_tables(index), ["objectid"]) if index else INDEX.schema.empty_table()
    kept.append(write_table(catalog.out, index_piece(task.key), INDEX, located))
    ids = pc.min_max(located["objectid"]).as_py()
    return PartitionsWritten(
        tuple(outputs), tuple(kept), tuple(sorted(margins)), dict(skymap), (ids["min"], ids["max"])
    )


def _content(catalog: Catalog, tile: Tile) -> Iterator[pa.Table]:
    if catalog.content == STARLIGHTCURVES:
        return star_rows(catalog, tile, catalog.magerr_bits)
    if catalog.content == LIGHTCURVES:
        objects, source = _open(catalog, tile, _POSITION)
        return nested_rows(source, objects, catalog.magerr_bits)
    objects, source = _open(catalog, tile, OBJECT_COLUMNS)
    return object_rows(source, objects)


def _numbered(catalog: Catalog, rows: pa.Table, first: int) -> pa.Table:
    """Rows of objects with their number."""
    if catalog.is_nested:
        return rows
    at = rows.schema.get_field_index("cntr")
    numbers = pa.array(np.arange(first + 1, first + 1 + rows.num_rows), pa.int64())
    return rows.set_column(at, rows.schema.field(at), numbers)


def _write(catalog: Catalog, path: str, rows: pa.Table) -> Output:
    return write_table(catalog.out, path, catalog.table, rows, _cuts(catalog, rows))


def _cuts(catalog: Catalog, rows: pa.Table) -> list[int]:
    """Where row groups begin: none has more rows or epochs than it should."""
    number = np.arange(rows.num_rows) // catalog.table.row_group_rows
    if catalog.is_nested:
        number = np.maximum(number, np.cumsum(rows["nepochs"].to_numpy()) // EPOCHS_PER_ROW_GROUP)
    return (np.flatnonzero(np.diff(number)) + 1).tolist()


def _write_border(catalog: Catalog, alignment: Alignment, tile: Tile, rows: pa.Table) -> dict[Tile, Output]:
    """Write the rows that are in the margin of each neighbour."""
    fine = fine_of(rows)
    written = {}
    for other in alignment.neighbours(tile):
        near = np.flatnonzero(in_ring(fine, other))
        if len(near):
            near_rows = rows.take(pa.array(near))
            written[other] = write_table(catalog.out, margin_piece(other, tile), catalog.table, near_rows)
    return written


def _index_rows(objectid: pa.ChunkedArray, tile: Tile) -> pa.Table:
    columns = [
        objectid.combine_chunks(),
        pa.array(np.full(len(objectid), tile.order, np.uint8)),
        pa.array(np.full(len(objectid), tile.npix, np.uint64)),
    ]
    return pa.Table.from_arrays(columns, schema=INDEX.schema)


def margin_piece(of: Tile, source: Tile) -> str:
    """Rows of one partition that are in the margin of another."""
    return f"{STAGING}margins/{of.order}-{of.npix}/{source.order}-{source.npix}.parquet"


def index_piece(key: str) -> str:
    """Where the objects of a task's partitions are."""
    return f"{STAGING}index/{key}.parquet"


def write_alignment(storage: Storage, tiles: Sequence[Tile]) -> None:
    """Keep the list of all partitions for the tasks."""
    storage.put(ALIGNMENT_FILE, json.dumps([[tile.order, tile.npix] for tile in tiles]).encode())


def read_alignment(storage: Storage) -> Alignment:
    """All partitions."""
    return Alignment([Tile(*pair) for pair in json.loads(storage.read(ALIGNMENT_FILE))])


@dataclass(frozen=True)
class MarginTask:
    """The margin of a partition, and the partitions from which it comes."""

    key: str
    catalog: Catalog
    tile: Tile
    sources: tuple[Tile, ...]


def write_margin(task: MarginTask) -> Written:
    """Write the margin of a partition, sorted."""
    catalog = task.catalog
    parts = (_read(catalog, margin_piece(task.tile, source)) for source in task.sources)
    rows = hats.in_order(pa.concat_tables(part.cast(catalog.table.schema) for part in parts), catalog.table.sorted_by)
    return Written((_write(catalog, hats.pixel_file(catalog.margin, task.tile), rows),))


def _read(catalog: Catalog, path: str) -> pa.Table:
    return pq.ParquetFile(place_of(catalog.out, path)).read(use_threads=False)


@dataclass(frozen=True)
class IndexTask:
    """One part of the index: a range of objectids."""

    key: str
    catalog: Catalog
    number: int
    ids: IdRange
    pieces: tuple[str, ...]
    """Keys of the tasks that have some of them."""


def write_index(task: IndexTask) -> Written:
    """Write a part of the index."""
    catalog = task.catalog
    low, high = task.ids
    parts = []
    for key in task.pieces:
        rows = _read(catalog, index_piece(key))
        first, last = np.searchsorted(rows["objectid"].to_numpy(), [low, high + 1])
        parts.append(rows.slice(first, last - first))
    rows = hats.in_order(pa.concat_tables(parts), ["objectid"]).rename_columns([catalog.id_column, "Norder", "Npix"])
    return Written((write_table(catalog.out, hats.index_file(catalog.index, task.number), INDEX, rows),))
