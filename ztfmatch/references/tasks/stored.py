"""A reference of a snapshot, whose files and exposures are looked up where it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import OfSnapshot, SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.survey import MAX_SOURCEID, Unit, objectid_base
from ztfmatch.core.tasks.ledger import exposures_of_unit


@dataclass(frozen=True)
class StoredReference(OfSnapshot):
    """The reference of a unit in a snapshot."""

    snapshot: SnapshotFiles
    unit: Unit
    generation: int
    clrcoeff: float | None
    tiles: tuple[Tile, ...]
    """That its footprint touches."""

    @property
    def span(self) -> tuple[int, int]:
        """Its objectids, both inclusive."""
        base = objectid_base(self.unit, self.generation)
        return base, base + MAX_SOURCEID

    def files(self, table: str) -> list[DataFile]:
        """Files of a table of its tiles that may hold rows of its objects."""
        return self.snapshot.of_tiles(table, self.tiles, [self.span])

    def exposures(self, columns: Sequence[str]) -> pa.Table:
        """Ledger rows of its unit, ascending by exposureid, which is the first column."""
        return exposures_of_unit(self.snapshot, self.unit, ["exposureid", *columns])
