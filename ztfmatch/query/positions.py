"""Many circles at once: which tiles the positions of a list are near, and which objects are near them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Mask, Rows
from ztfmatch.core.kernels.coverage import runs
from ztfmatch.core.kernels.sphere import Floats, enclosing_cap, unit_vector
from ztfmatch.core.kernels.tiling import Tile, Tiling
from ztfmatch.query.area import check_radius
from ztfmatch.query.io.positionlist import PositionList
from ztfmatch.query.kernels.pairs import pairs_within

MAX_RADIUS_ARCSEC: Final = 3600.0
ID: Final = "id"
SEPARATION: Final = pa.field("separation", pa.float64(), metadata={"unit": "arcsec", "ucd": "pos.angDistance"})

_ZONE_DEG: Final = 1.0
"""Size of the groups of positions whose tiles are looked up together."""


@dataclass(frozen=True)
class Spots:
    """Circles of one radius about the positions of a list; the border belongs to them."""

    listed: PositionList
    radius_arcsec: float
    found: Mask = field(repr=False, compare=False)
    """Whether a position has had a match yet, shape (N,); of all positions of the list."""
    rows: Rows = field(repr=False, compare=False)
    """Which of the list's positions these are."""
    _known: list[tuple[Tiling, dict[Tile, Rows]]] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, listed: PositionList, radius_arcsec: float) -> Spots:
        """Circles about all positions of a list.

        Raises
        ------
        ConfigError
            If the radius is none, or too large.
        """
        check_radius(radius_arcsec, MAX_RADIUS_ARCSEC, "arcsec")
        return cls(listed, radius_arcsec, np.zeros(len(listed.ra), bool), np.arange(len(listed.ra)))

    @property
    def id_field(self) -> pa.Field:
        """Column that says which position a row is near to."""
        return pa.field(ID, self.listed.ids.type, metadata={"description": "Position of the list", "ucd": "meta.id"})

    @property
    def _positions(self) -> tuple[Floats, Floats]:
        return self.listed.ra[self.rows], self.listed.dec[self.rows]

    def contains(self, ra: Floats, dec: Floats) -> Mask:
        """Whether each position in degrees is in any of the circles, shape (N,)."""
        inside: Mask = np.zeros(len(ra), bool)
        inside[pairs_within(self._positions, (ra, dec), self.radius_arcsec)[1]] = True
        return inside

    def tiles(self, tiling: Tiling) -> list[Tile]:
        """Tiles that the circles touch, and perhaps some that they do not."""
        return list(self._by_tile(tiling))

    def of_tile(self, tiling: Tiling, tile: Tile) -> Spots:
        """Those circles that may touch a tile."""
        rows = self._by_tile(tiling).get(tile, np.zeros(0, np.int64))
        return Spots(self.listed, self.radius_arcsec, self.found, rows)

    def _by_tile(self, tiling: Tiling) -> dict[Tile, Rows]:
        """Positions by tile of a tiling, found once for the tiles of a snapshot."""
        if not self._known or self._known[0][0] is not tiling:
            self._known[:] = [(tiling, self._found_by_tile(tiling))]
        return self._known[0][1]

    def _found_by_tile(self, tiling: Tiling) -> dict[Tile, Rows]:
        """Positions by tile; looked up by groups of those that are near each other."""
        parts: dict[Tile, list[Rows]] = {}
        for rows in _groups(*self._positions):
            centre, radius = enclosing_cap(unit_vector(self.listed.ra[rows], self.listed.dec[rows]))
            for tile in tiling.touched_by_cap(centre, radius + np.radians(self.radius_arcsec / 3600.0) + 1e-9):
                parts.setdefault(tile, []).append(rows)
        return {tile: np.sort(np.concatenate(each)) for tile, each in parts.items()}

    def links(self, objects: pa.Table) -> pa.Table:
        """Which positions objects are near to: ``objectid``, row of the list and separation, by objectid.

        Parameters
        ----------
        objects : pyarrow.Table
            ``objectid``, ``ra`` and ``dec`` in degrees.
        """
        at = objects["ra"].to_numpy(), objects["dec"].to_numpy()
        one, other, separation = pairs_within(self._positions, at, self.radius_arcsec)
        self.found[self.rows[one]] = True
        ids = objects["objectid"].to_numpy()[other]
        order = np.argsort(ids, kind="stable")
        return pa.table({"objectid": ids[order], "row": self.rows[one][order], "separation": separation[order]})

    def joined(self, rows: pa.Table, links: pa.Table) -> pa.Table:
        """Rows of objects, each once for every position near it, with the position's id and the separation."""
        known, ids = links["objectid"].to_numpy(), rows["objectid"].to_numpy()
        first, last = np.searchsorted(known, ids, "left"), np.searchsorted(known, ids, "right")
        counts = last - first
        found = links.take(pa.array(runs(first, counts)))
        made = rows.take(pa.array(np.repeat(np.arange(len(ids)), counts)))
        made = made.add_column(0, SEPARATION, found["separation"])
        return made.add_column(0, self.id_field, self.listed.ids.take(found["row"].combine_chunks()))

    def without_match(self) -> list[Any]:
        """Ids of positions that nothing was found near, once all has been looked at."""
        return list(self.listed.ids.filter(pa.array(~self.found)).to_pylist())


def _groups(ra: Floats, dec: Floats) -> Sequence[Rows]:
    """Rows of positions that are within a degree or so of each other."""
    if not len(ra):
        return []
    zone = np.floor((dec + 90.0) / _ZONE_DEG)
    parts = np.maximum(np.floor(360.0 * np.cos(np.radians(np.minimum(np.abs(dec), 89.5)))), 1.0)
    cell = zone * 1000.0 + np.floor(ra % 360.0 / 360.0 * np.maximum(np.round(parts / 10.0) * 10.0, 1.0))
    order = np.argsort(cell, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)
