"""Sort rows that come by objectid into spatial partitions, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import FINE_ORDER, Pixels, Tile
from ztfmatch.release.io.hats import HEALPIX_ORDER, in_order
from ztfmatch.release.io.outputs import place_of
from ztfmatch.release.kernels.alignment import Alignment
from ztfmatch.release.schema import HEALPIX_COLUMN

HELD_BYTES: Final = 320 << 20
"""Rows are held in memory up to so many bytes; then they go to files, one for each partition."""

_TO_FINE: Final = 2 * (HEALPIX_ORDER - FINE_ORDER)


def fine_of(rows: pa.Table) -> Pixels:
    """Fine pixel of each row with ``_healpix_29``."""
    pixels: Pixels = rows[HEALPIX_COLUMN].to_numpy() >> _TO_FINE
    return pixels


class Partitioner:
    """Takes rows in any order and gives the rows of each partition, sorted.

    Parameters
    ----------
    targets : sequence of Tile
        Partitions that all rows lie in.
    spill : Storage
        Local directory for what does not fit into memory; of this one only.
    """

    def __init__(self, targets: Sequence[Tile], spill: Storage, held_bytes: int = HELD_BYTES) -> None:
        self._alignment = Alignment(targets)
        self._spill, self._limit = spill, held_bytes
        self._held: list[list[pa.Table]] = [[] for _ in targets]
        self._files: list[list[Path]] = [[] for _ in targets]
        self._bytes = self._spills = 0

    def add(self, rows: pa.Table) -> None:
        """Add some rows."""
        index = self._alignment.index_of_fine(fine_of(rows))
        for i in np.unique(index).tolist():
            if i < 0:
                raise ValueError("a row lies in none of the partitions that were counted")
            part = rows if len(self._held) == 1 else rows.filter(pa.array(index == i))
            self._held[i].append(part)
            self._bytes += part.nbytes
        if self._bytes > self._limit and len(self._held) > 1:
            self._write_held()

    def _write_held(self) -> None:
        """Write what is held to one file for each partition."""
        root = place_of(self._spill, "")
        root.mkdir(parents=True, exist_ok=True)
        for i, tables in enumerate(self._held):
            if tables:
                path = root / f"{i:06d}-{self._spills:06d}.arrow"
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, tables[0].schema, options=options) as to:
                    for table in tables:
                        to.write_table(table)
                self._files[i].append(path)
                tables.clear()
        self._bytes, self._spills = 0, self._spills + 1

    def partitions(self, sorted_by: Sequence[str]) -> Iterator[tuple[Tile, pa.Table]]:
        """Every partition that has rows, in order of the sky, its rows sorted; it can be asked for once."""
        for i, tile in enumerate(self._alignment.tiles):
            tables = [*(_read(path) for path in self._files[i]), *self._held[i]]
            self._held[i] = []
            for path in self._files[i]:
                path.unlink()
            if tables:
                rows = pa.concat_tables(tables)
                tables.clear()
                yield tile, in_order(rows, sorted_by)


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as file:
        return pa.ipc.open_file(file).read_all()
