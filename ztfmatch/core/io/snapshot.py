"""A snapshot: one committed state of a store, with its files, tiling and rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Ints
from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import SnapshotNotFoundError, StoreDamagedError
from ztfmatch.core.io import log, storefile
from ztfmatch.core.io.arrowthreads import ScannedFile
from ztfmatch.core.io.manifest import FileList
from ztfmatch.core.io.noted import noted, notes
from ztfmatch.core.io.parquet import DataFile, IdRange, OpenFile, read_file_rows, read_table
from ztfmatch.core.io.rows import FOOTPRINT, UNIT, codes_of_rows, codes_of_units
from ztfmatch.core.io.scan import IdRuns
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.kernels.sphere import unit_vector
from ztfmatch.core.kernels.tiling import Tile, Tiling, in_sky_order
from ztfmatch.core.recent import Recent
from ztfmatch.core.schema import TABLES
from ztfmatch.core.settings import checked_value
from ztfmatch.core.survey import Unit

if TYPE_CHECKING:  # it brings pandas with it
    import pyarrow.dataset as ds

T = TypeVar("T")

_NEWEST_OF: Final = "newest snapshot of "
_SNAPSHOTS_KEPT: Final = 4
"""A worker is asked for one, or two where changes between snapshots are exported; operations may share it."""
_TILES_KEPT: Final = 16
_FOOTER_BYTES_KEPT: Final = 1 << 22
"""As they are in files, 45 kB of a million detections; decoded they take some times as much."""
_ID_BYTES_KEPT: Final = 1 << 25
"""Of a million objects 16 MB, of their epochs about as much."""
_UNITS_KEPT: Final = 4096
_LEDGER_BYTES_KEPT: Final = 1 << 26
"""A field of the survey has up to a hundred thousand exposures, of 60 bytes each where all columns are asked for."""


@dataclass(frozen=True)
class SnapshotFiles:
    """The files of one snapshot; it never changes, whatever is committed later.

    Cheap to pickle: a task holds it, and asks it for its tile's files where it runs. A process opens each that it is
    sent once, however many tasks hold it.
    """

    storage: Storage
    config: StoreConfig
    commit: log.Commit

    def __reduce__(self) -> tuple[Callable[..., SnapshotFiles], tuple[Storage, StoreConfig, str, int]]:
        """Pickle which snapshot it is, not the files that it lists nor what has been read of them."""
        return _opened, (self.storage, self.config, self.commit.store, self.number)

    @property
    def number(self) -> int:
        """Number of the snapshot."""
        return self.commit.number

    @functools.cached_property
    def files(self) -> FileList:
        """All live files."""
        return log.read_manifests(self.storage, self.commit.manifests)

    @functools.cached_property
    def tiling(self) -> Tiling:
        """Tiles of the snapshot."""
        return log.read_tiling(self.storage, self.commit.tiling)

    def of_table(self, table: str) -> list[DataFile]:
        """Live files of a table."""
        return self.files.of_table(table)

    def of_tile(self, table: str, tile: Tile) -> list[DataFile]:
        """Live files of one tile of a table, oldest first."""
        return self.files.of_tile(table, tile)

    def of_tiles(self, table: str, tiles: Iterable[Tile], ids: Sequence[IdRange] | None = None) -> list[DataFile]:
        """Live files of some tiles of a table; given ranges of ids, only those that can hold any of them."""
        files = (file for tile in tiles for file in self.of_tile(table, tile))
        return [file for file in files if ids is None or file.holds_id(ids)]

    def tiles_with(self, *tables: str) -> list[Tile]:
        """Tiles that have files of any of these tables, in order of the sky."""
        tiles = {tile for table in tables for tile in self.files.by_tile(table) if tile is not None}
        return in_sky_order(tiles)

    def rows(self, table: str) -> int:
        """Number of rows of a table."""
        return self.files.total(table, "rows")

    def size(self, table: str) -> int:
        """Bytes of a table's files."""
        return self.files.total(table, "size")

    @functools.cached_property
    def referenced(self) -> Ints:
        """Codes of the units that have a reference, ascending; kept."""
        return np.unique(codes_of_rows(self.read("references", UNIT)))

    def has_reference(self, unit: Unit) -> bool:
        """Whether a unit has a reference."""
        return bool(is_among(codes_of_units([unit]), self.referenced)[0])

    @functools.cached_property
    def footprints(self) -> pa.Table:
        """``unit`` (its code), ``field``, ``ra``, ``dec``, ``radius`` of each reference with sources, by unit; kept."""
        rows = self.read("references", (*UNIT, *FOOTPRINT)).drop_null()
        rows = rows.append_column("unit", pa.array(codes_of_rows(rows)))
        return rows.select(["unit", "field", *FOOTPRINT]).sort_by("unit").combine_chunks()

    @functools.cached_property
    def _tiles_of_units(self) -> Recent[Unit, frozenset[Tile]]:
        return Recent(_UNITS_KEPT)

    def tiles_of_unit(self, unit: Unit) -> frozenset[Tile]:
        """Tiles that its references touch; those of the units last asked for are kept."""

        def find() -> frozenset[Tile]:
            low, high = np.searchsorted(self.footprints["unit"].to_numpy(), codes_of_units([unit])[0] + np.arange(2))
            rows = self.footprints.slice(low, high - low)
            caps = zip(*(rows[name].to_pylist() for name in FOOTPRINT), strict=True)
            touched = (self.tiling.touched_by_cap(unit_vector(ra, dec), math.radians(r)) for ra, dec, r in caps)
            return frozenset[Tile]().union(*touched)

        return self._tiles_of_units.get(unit, find)

    @functools.cached_property
    def _kept(self) -> dict[Hashable, Recent[Tile, Any]]:
        return {}

    def kept(self, what: Hashable, tile: Tile, read: Callable[[Tile], T]) -> T:
        """What is read of a tile; that of the last tiles asked for is kept."""
        kept: Recent[Tile, T] = self._kept.setdefault(what, Recent(_TILES_KEPT))
        return kept.get(tile, lambda: read(tile))

    @functools.cached_property
    def _opened(self) -> Recent[str, OpenFile]:
        return Recent(_FOOTER_BYTES_KEPT, lambda parquet: parquet.file.tail)

    def opened(self, file: DataFile) -> OpenFile:
        """One of its files, to be read from; the footers of those last asked for are kept."""
        return self._opened.get(file.path, lambda: OpenFile(self.storage, file))

    @functools.cached_property
    def id_runs(self) -> IdRuns:
        """Objectids of the row groups in which some were looked for last; kept."""
        return Recent(_ID_BYTES_KEPT, lambda runs: sum(array.nbytes for array in runs))

    def kept_rows(self, table: str, tile: Tile, columns: tuple[str, ...]) -> pa.Table:
        """Columns of all that a tile has of a table; kept."""
        return self.kept((table, columns), tile, lambda tile: self.read(table, columns, tile=tile).combine_chunks())

    def object_positions(self, tile: Tile) -> pa.Table:
        """``objectid``, ``ra``, ``dec``, ``status`` of a tile's objects, by ``dec``; kept."""
        columns = ("objectid", "ra", "dec", "status")
        read = functools.partial(self.read, "objects", columns)
        return self.kept(columns, tile, lambda tile: read(tile=tile).sort_by("dec").combine_chunks())

    @functools.cached_property
    def ledger(self) -> list[DataFile]:
        """Files of the exposures."""
        return self.of_table("exposures")

    @functools.cached_property
    def _ledger(self) -> Recent[tuple[str, tuple[str, ...], tuple[int, ...]], pa.Table]:
        return Recent(_LEDGER_BYTES_KEPT, lambda rows: rows.nbytes)

    def ledger_of_fields(self, file: DataFile, columns: tuple[str, ...], fields: Sequence[int]) -> pa.Table:
        """``exposureid``, ascending, and columns of some fields in a file of the ledger; the last are kept."""

        def read() -> pa.Table:
            names = ["exposureid", *columns]
            rows = read_file_rows(self.storage, file, names, [(field, field) for field in fields], "field")
            schema = pa.schema([TABLES["exposures"].schema.field(name) for name in names])
            return rows.cast(schema).sort_by("exposureid").combine_chunks()

        return self._ledger.get((file.path, columns, tuple(fields)), read)

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        ranges: Sequence[IdRange] | None = None,
        tile: Tile | None = None,
    ) -> pa.Table:
        """Rows of a whole table or of a tile of it, or of some ranges of its ids; sorted only within each file."""
        files = self.of_table(table) if tile is None else self.of_tile(table, tile)
        return read_table(self.storage, files, TABLES[table], columns, ranges)

    def dataset(self, table: str) -> ds.Dataset:
        """A table that has files, as a lazy dataset; every byte is verified as it is read."""
        import pyarrow.dataset as ds

        remote = self.storage.local_root is None
        form = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=remote))
        files = (pa.PythonFile(ScannedFile(self.storage, file), mode="r") for file in self.of_table(table))
        return ds.FileSystemDataset([form.make_fragment(file) for file in files], TABLES[table].schema, form)


def before_first(storage: Storage, config: StoreConfig) -> SnapshotFiles:
    """What a store is before its first commit: numbered -1, without files and without a tiling."""
    return SnapshotFiles(
        storage,
        config,
        log.Commit(
            number=-1,
            parent=None,
            operation="",
            operation_id="",
            arguments={},
            counts={},
            manifests=(),
            tiling="",
            time="",
            duration_s=0.0,
            store="",
        ),
    )


def _newest(storage: Storage) -> int:
    numbers = log.commit_numbers(storage)
    if not numbers:
        raise StoreDamagedError(f"{storage.root} has no snapshot yet: its 'init' did not finish; run it again")
    return numbers[-1]


def newest_name(storage: Storage) -> str:
    """Name under which the number of the newest snapshot is noted."""
    return f"{_NEWEST_OF}{storage.root}"


def check_noted_snapshots(noted: Mapping[str, Any]) -> None:
    """Refuse work that was planned on a snapshot which a vacuum removed since.

    Raises
    ------
    SnapshotNotFoundError
    """
    for name, number in noted.items():
        if name.startswith(_NEWEST_OF):
            _check_retained(Storage.at(name.removeprefix(_NEWEST_OF)), number)


def newest_snapshot(storage: Storage) -> SnapshotFiles:
    """Open the newest snapshot there is now, whatever was noted."""
    return open_snapshot(storage, _newest(storage))


def open_snapshot(storage: Storage, number: int | None = None) -> SnapshotFiles:
    """Open the newest snapshot, or one by number.

    Raises
    ------
    StoreNotFoundError, StoreFormatError
        If there is no store that this version reads.
    SnapshotNotFoundError
        If there is no such snapshot, or no more.
    StoreDamagedError
        If its files are not what was written.
    ConfigError
        If ``number`` is not a whole number.
    """
    config = storefile.read_config(storage)
    if number is None:
        number = noted(newest_name(storage), int, lambda: _newest(storage))
        if notes() is not None:
            _check_retained(storage, number)
        return _of_commit(storage, config, number)
    number = checked_value(number, int, "snapshot")
    _check_retained(storage, number)
    if number not in (numbers := log.commit_numbers(storage)):
        raise SnapshotNotFoundError(
            f"{storage.root} has no snapshot {number}; the newest is {max(numbers, default=-1)}"
        )
    return _of_commit(storage, config, number)


def _check_retained(storage: Storage, number: int) -> None:
    oldest = log.oldest_retained(storage)
    if 0 <= number < oldest:
        raise SnapshotNotFoundError(
            f"{storage.root}: snapshot {number} was removed by a vacuum; the oldest is {oldest}"
        )


def _of_commit(storage: Storage, config: StoreConfig, number: int) -> SnapshotFiles:
    entry = log.read_commit(storage, number)
    log.check_store(storage, entry)
    return SnapshotFiles(storage, config, entry)


@functools.lru_cache(_SNAPSHOTS_KEPT)
def _opened(storage: Storage, config: StoreConfig, store: str, number: int) -> SnapshotFiles:
    """Snapshot that another process sent, which opened it before.

    Raises
    ------
    StoreDamagedError
        If this process finds another store at that place.
    """
    if number < 0:
        return before_first(storage, config)
    found = _of_commit(storage, config, number)
    if found.commit.store != store:
        raise StoreDamagedError(
            f"{storage.root} is not the store that this task is of: its place must be the same for every worker, and "
            f"no other store be made there while tasks run"
        )
    return found


class OfSnapshot:
    """Base of what is of a ``snapshot``."""

    snapshot: SnapshotFiles

    @property
    def storage(self) -> Storage:
        """Of the store."""
        return self.snapshot.storage

    @property
    def commit(self) -> int:
        """Number of the snapshot to be."""
        return self.snapshot.number + 1
