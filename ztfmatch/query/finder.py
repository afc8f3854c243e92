"""Find objects of a snapshot, and rows of its tables, tile by tile: the engine behind all queries.

Of a small cone the positions are kept in memory, so that the next one there reads no objects at all. Everything else is
left to :mod:`ztfmatch.core.io.scan`, which reads no more than the wanted rows need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.scan import Wanted, scan
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile, in_sky_order
from ztfmatch.core.schema import OBJECTS, Table
from ztfmatch.core.survey import IDS_OF_A_UNIT, unit_of_objectid
from ztfmatch.query.area import Area, Cone
from ztfmatch.query.expression import Condition
from ztfmatch.query.positions import Spots

MAX_CONE_ARCSEC: Final = 10 * 3600.0
"""Largest cone for which positions are kept."""

SEARCHING: Final = "searching tiles"
READING: Final = "reading epochs of tiles"
"""What a question does, as progress calls it."""


@dataclass(frozen=True)
class ObjectSieve:
    """Passes the objects of a status in an area that meet a condition on their own columns."""

    status: str | None = None
    area: Area | None = None
    condition: Condition | None = None

    @property
    def columns(self) -> frozenset[str]:
        """Columns that decide."""
        own = frozenset([*(["status"] if self.status else []), *(["ra", "dec"] if self.area else [])])
        return own if self.condition is None else own | self.condition.columns

    @property
    def bounded(self) -> frozenset[str]:
        """Columns whose bounds tell something."""
        return frozenset() if self.condition is None else self.condition.bounded

    def may_hold(self, bounds: pa.Table) -> Mask:
        """Whether rows within bounds can be wanted."""
        return np.ones(bounds.num_rows, bool) if self.condition is None else self.condition.may_hold(bounds)

    def mask(self, rows: pa.Table) -> Mask:
        """Whether each row is wanted."""
        kept = np.ones(rows.num_rows, bool)
        if self.status is not None:
            kept &= pc.equal(rows["status"], self.status).to_numpy()
        if self.area is not None:
            kept[kept] = self.area.contains(rows["ra"].to_numpy()[kept], rows["dec"].to_numpy()[kept])
        return kept if self.condition is None else kept & self.condition.mask(rows)


@dataclass(frozen=True)
class Finder:
    """Objects of a snapshot by objectid, area, status and condition; what is None does not restrict them."""

    snapshot: SnapshotFiles
    ids: Ids | None = None
    """Ascending, each once."""
    area: Area | None = None
    status: str | None = None
    condition: Condition | None = None

    def tiles(self) -> list[Tile]:
        """Tiles that can hold any of the objects, in order of the sky."""
        if self.area is None and self.ids is None:
            return self.snapshot.tiles_with(OBJECTS.name)
        either = [] if self.area is None else [set(self.area.tiles(self.snapshot.tiling))]
        either += [] if self.ids is None else [tiles_of_ids(self.snapshot, self.ids.tolist())]
        wanted = set.intersection(*either)
        return in_sky_order(tile for tile in wanted if self.snapshot.of_tile(OBJECTS.name, tile))

    def rows(self, table: Table, tile: Tile, columns: Sequence[str], wanted: Wanted) -> pa.Table:
        """Wanted rows of any table in a tile, in the order of the table."""
        files = wanted.files(self.snapshot.of_tile(table.name, tile))
        rows = scan(map(self.snapshot.opened, files), table, columns, wanted, self.snapshot.id_runs)
        keys = [(name, "ascending") for name in table.sorted_by if name in columns]
        return rows if len(files) == 1 else rows.sort_by(keys)  # a file is in that order

    def objects(self, tile: Tile, columns: Sequence[str]) -> pa.Table:
        """The objects in a tile, by objectid."""
        near = self._near(tile)
        if near is not None:
            return self.rows(OBJECTS, tile, columns, Wanted(near, self.condition))
        restricted = (self.status, self.area, self.condition) != (None, None, None)
        sieve = ObjectSieve(self.status, self._area_in(tile), self.condition) if restricted else None
        return self.rows(OBJECTS, tile, columns, Wanted(self.ids, sieve))

    def _area_in(self, tile: Tile) -> Area | None:
        """What of the area can touch a tile."""
        return self.area.of_tile(self.snapshot.tiling, tile) if isinstance(self.area, Spots) else self.area

    def objectids(self) -> Iterator[tuple[Tile, Ids]]:
        """Tiles that have any of the objects, with their objectids, ascending."""
        for tile in self.tiles():
            ids = self._near(tile) if self.condition is None else None
            ids = self.objects(tile, ["objectid"])["objectid"].to_numpy() if ids is None else ids
            if len(ids):
                yield tile, ids

    def _near(self, tile: Tile) -> Ids | None:
        """Objectids in a cone by the kept positions; None where the objects have to be scanned."""
        if not (isinstance(self.area, Cone) and self.area.radius_arcsec <= MAX_CONE_ARCSEC):
            return None
        near = self.area.rows(self.snapshot.object_positions(tile))
        ids = np.sort(near["objectid"].to_numpy()[ObjectSieve(self.status).mask(near)])
        return ids if self.ids is None else np.intersect1d(ids, self.ids)


def distinct_ids(objectids: Sequence[int]) -> Ids:
    """Ids, ascending, without duplicates.

    Raises
    ------
    ConfigError
        If one is not a signed integer of 64 bits.
    """
    ids = np.array(list(objectids))
    if ids.size and (ids.dtype.kind not in "iu" or ids.max() >= 2**63):
        raise ConfigError(f"objectids {', '.join(map(str, ids[:3].tolist()))} ...: expected integers of 64 bits")
    return np.unique(ids.astype(np.int64))


def tiles_of_ids(snapshot: SnapshotFiles, ids: Iterable[int]) -> set[Tile]:
    """Tiles that the references of these objects touch.

    Raises
    ------
    ConfigError
        If a number is not an objectid.
    """
    try:
        units = {unit_of_objectid(one) for one in {int(one) // IDS_OF_A_UNIT: int(one) for one in ids}.values()}
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return set().union(*map(snapshot.tiles_of_unit, units))
