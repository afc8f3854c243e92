"""Files of a group of tiles to which successive batches add rows: one per table and tile, until it is full.

Epochs are kept encoded, 33 bytes each. Batches are in order of their units, and so of objectids: row groups of one
follow on those of the last. Where they don't, as where a unit was divided by time, a file ends. Orphans are in another
order: they are kept as they are, 90 bytes each, a bounded number of them, and sorted when they are written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.joining import file_of, joined, piece_of
from ztfmatch.core.io.parquet import DataFile, Destination, put_sealed, write_file
from ztfmatch.core.io.sealed import Sealed
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, ORPHANS, Table


@dataclass
class _Epochs:
    """Encoded rows of one file."""

    files: list[Sealed] = field(default_factory=list)
    """Of each batch one."""
    rows: int = 0
    ids: tuple[int, int] = (0, -1)
    times: tuple[float, float] = (0.0, 0.0)

    def add(self, rows: pa.Table) -> None:
        first, last = rows["objectid"][0].as_py(), rows["objectid"][-1].as_py()
        times = pc.min_max(rows["hmjd"]).as_py()
        low, high = self.times if self.files else (times["min"], times["max"])
        self.times = min(low, times["min"]), max(high, times["max"])
        self.ids = (self.ids[0] if self.files else first), last
        self.files.append(file_of(DETECTIONS, rows))
        self.rows += rows.num_rows

    def file(self) -> Sealed:
        """All rows."""
        return self.files[0] if len(self.files) == 1 else joined([piece_of(file) for file in self.files], self.rows)


class GroupFiles:
    """Writes them.

    Parameters
    ----------
    destination : callable
        Where the files of a table in a tile go.
    most_rows : int
        Of a file, unless one batch has more.
    most_orphans : int
        That are kept, over all tiles; where there are more, the tile that has most gets its file.
    """

    def __init__(self, destination: Callable[[Table, Tile], Destination], most_rows: int, most_orphans: int) -> None:
        self._destination, self._most_rows, self._most_orphans = destination, most_rows, most_orphans
        self._epochs: dict[Tile, _Epochs] = {}
        self._orphans: dict[Tile, list[pa.Table]] = {}
        self._written: list[DataFile] = []

    def add_epochs(self, tile: Tile, rows: pa.Table) -> None:
        """Add rows, by objectid and time."""
        held = self._epochs.setdefault(tile, _Epochs())
        follows = held.ids[1] < rows["objectid"][0].as_py()
        if held.files and not (follows and held.rows + rows.num_rows <= self._most_rows):
            self._write_epochs(tile)
            held = self._epochs[tile] = _Epochs()
        held.add(rows)

    def add_orphans(self, tile: Tile, rows: pa.Table) -> None:
        """Add rows, each batch's in order."""
        self._orphans.setdefault(tile, []).append(rows)
        held = {one: sum(part.num_rows for part in parts) for one, parts in self._orphans.items()}
        if sum(held.values()) > self._most_orphans:
            self._write_orphans(max(held, key=lambda one: held[one]))

    def close(self) -> list[DataFile]:
        """Write what is left; all files, oldest first."""
        for tile in list(self._epochs):
            self._write_epochs(tile)
        for tile in list(self._orphans):
            self._write_orphans(tile)
        return self._written

    def _write_epochs(self, tile: Tile) -> None:
        held = self._epochs.pop(tile)
        to = self._destination(DETECTIONS, tile)
        self._written.append(put_sealed(to, held.file(), held.ids, held.times))

    def _write_orphans(self, tile: Tile) -> None:
        held = self._orphans.pop(tile)
        rows = held[0] if len(held) == 1 else pa.concat_tables(held).sort_by(ORPHANS.order)
        self._written.append(write_file(self._destination(ORPHANS, tile), rows))
