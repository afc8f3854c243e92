"""Stars of the objects in reach of a tile, before they are named."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.io.parquet import DataFile, IdRange
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.sphere import Floats, lonlats_of, unit_vectors
from ztfmatch.core.kernels.starlinks import Positions, Stars, link_objects, position_errors, star_positions
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile, neighbours
from ztfmatch.core.schema import LINEAGE, Table
from ztfmatch.core.survey import IDS_OF_A_UNIT
from ztfmatch.core.tasks.starobjects import NO_OBJECTS, Objects, objects_in_reach
from ztfmatch.core.tasks.tile import WritingTask


@dataclass(frozen=True)
class LinkTask(WritingTask):
    """One tile of the snapshot whose objects are linked."""

    staged: StagedFiles | None = None
    """Where the objects are to be others than those of the snapshot."""
    around: tuple[Tile, ...] | None = None
    """Tiles beside it, of a store that has no tiling yet."""

    @functools.cached_property
    def near(self) -> list[Tile]:
        """The tile and its neighbours."""
        if self.around is not None:
            return [self.tile, *self.around]
        return neighbours(self.snapshot.tiling, self.tile)

    def now(self, table: Table) -> list[DataFile]:
        """Files near, as they are to be."""
        return [file for tile in self.near for file in self.now_of(table, tile)]

    def now_of(self, table: Table, tile: Tile) -> list[DataFile]:
        """Files of a tile, as they are to be."""
        return (self.staged or self.snapshot).of_tile(table.name, tile)

    def before(self, table: Table) -> list[DataFile]:
        """Files near, of the snapshot."""
        return self.snapshot.of_tiles(table.name, self.near)

    def lineage_files(self, ranges: Sequence[IdRange]) -> list[DataFile]:
        """Of objects in some ranges, those retired just now too."""
        return (self.staged or self.snapshot).files.of_ids(LINEAGE.name, ranges)


@dataclass(frozen=True)
class Linked:
    """Stars of the active objects in reach of a tile."""

    objectid: Ids
    """Ascending, shape (N,)."""
    unit: npt.NDArray[np.int32]
    """Row of each object's unit in ``units``, shape (N,)."""
    units: Ids
    """Units that there are, as the digits of an objectid before the last eight."""
    own: Mask
    """Whether each object lies in the tile, shape (N,)."""
    retired: Ids
    """Objects in reach that are no longer active, ascending."""
    stars: Stars
    positions: Positions
    ra: Floats
    dec: Floats
    """Of the stars, shape (S,)."""

    @property
    def first(self) -> Ids:
        """Lowest objectid of each star, shape (S,)."""
        return self.objectid[self.stars.row[self.stars.offsets[:-1]]]


def linked_objects(storage: Storage, tile: Tile, files: list[DataFile]) -> Linked:
    """Link the active objects in reach of a tile, of files of it and its neighbours."""
    return link(in_order(objects_in_reach(storage, file, tile) for file in files))


def in_order(parts: Iterable[Objects]) -> Objects:
    """Objects of several files, ascending by objectid."""
    rows = np.concatenate([NO_OBJECTS, *parts])
    return rows.take(np.argsort(rows["objectid"], kind="stable"))


def link(rows: Objects) -> Linked:
    """Link the active ones of the objects in reach of a tile, which are in order of objectid."""
    active = rows["active"]
    retired = rows["objectid"][~active]
    objectid, ra, dec, snr, own = (rows[name][active] for name in ("objectid", "ra", "dec", "snr", "own"))
    error = position_errors(snr)
    xyz = unit_vectors(ra, dec)
    head = objectid // IDS_OF_A_UNIT
    begins = np.diff(head, prepend=-1) != 0
    unit = (np.cumsum(begins) - 1).astype(np.int32)
    stars = link_objects(xyz, unit, error)
    positions = star_positions(xyz, error, stars)
    return Linked(objectid, unit, head[begins], own, retired, stars, positions, *lonlats_of(positions.xyz))


def stars_in_tile(linked: Linked, tile: Tile) -> Mask:
    """Whether the position of each star lies in the tile, shape (S,)."""
    return in_tile(fine_pixels(linked.ra, linked.dec), tile)
