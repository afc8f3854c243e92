"""Base of most tasks: one tile of a snapshot, whose files are looked up where the task runs."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from ztfmatch.core.io.parquet import DataFile, Destination
from ztfmatch.core.io.snapshot import OfSnapshot, SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import Table


@dataclass(frozen=True)
class TileTask(OfSnapshot):
    """One tile; small to send, whatever the number of its files."""

    key: str
    snapshot: SnapshotFiles
    tile: Tile

    def files(self, table: Table) -> list[DataFile]:
        """Files that the tile has of a table."""
        return self.snapshot.of_tile(table.name, self.tile)

    def rows(self, table: Table) -> int:
        """Rows that the tile has of a table."""
        return sum(file.rows for file in self.files(table))

    def read(self, table: Table) -> pa.Table:
        """All rows that the tile has of a table."""
        return self.snapshot.read(table.name, tile=self.tile).cast(table.schema)


@dataclass(frozen=True)
class WritingTask(TileTask):
    """One tile for which files are written, one of each table at most."""

    part: str
    """What distinguishes them from those of other operations."""

    def to(self, table: Table) -> Destination:
        """Where the file of a table goes."""
        return Destination(self.storage, table, self.tile, self.commit, self.part)
