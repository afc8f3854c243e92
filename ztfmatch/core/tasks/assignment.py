"""The outcome of detections in a group of tiles: matched to one of its seeds, or an orphan.

A tile decides alone. It considers its own detections and those of the margin around it, against its own seeds and
those of the margin: all that can take part in the fate of a detection or a seed of its own (a seed within a radius
of the detection, that seed's other detections, and their seeds, up to three radii away). It writes a matched
detection if the seed is its own, an orphan if the detection is. So each row is written by exactly one tile, and the
result does not depend on the tiling. Detections and seeds from farther away change nothing.

A group of tiles decides as one tile of all its area would. What it writes goes to the tile of the seed or the orphan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.io.parquet import Columns, DataFile, Destination, table_from_columns, write_file
from ztfmatch.core.kernels.crossmatch import NO_SEED as TARGET_NONE
from ztfmatch.core.kernels.crossmatch import SeedGrid, Targets, match_exposure, match_exposures
from ztfmatch.core.kernels.order import order_by_group
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.kernels.targets import Noted, note_targets
from ztfmatch.core.kernels.tiling import Tile, fine_pixels
from ztfmatch.core.schema import DETECTIONS, ORPHANS
from ztfmatch.core.schema.sky import ORPHAN_REASONS
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.results import ExposureCounts
from ztfmatch.core.tasks.seedgrids import MARGIN, Seeds

_NO_SEED, _NEARER, _NO_REFERENCE = range(len(ORPHAN_REASONS))

Rows = npt.NDArray[np.int64]


class Exposed(Protocol):
    """What has to be known of an exposure to decide on its detections."""

    @property
    def exposureid(self) -> int:
        """Key."""
        ...

    @property
    def unit(self) -> Unit:
        """Of its reference; the scope in which its detections match."""
        ...

    @property
    def has_reference(self) -> bool:
        """Whether its unit has one."""
        ...

    @property
    def straddles(self) -> bool:
        """Whether its footprint touches other tiles too."""
        ...


@dataclass(frozen=True)
class Positions:
    """Where detections are."""

    ra: Floats
    """Degrees, ICRS, shape (N,)."""
    dec: Floats
    xyz: Floats
    """The same as unit vectors, shape (N, 3)."""


class Fates:
    """What becomes of the rows of some exposures in a group of tiles.

    Parameters
    ----------
    tiles : sequence of Tile
        In order of their first fine pixels; those of a group may leave gaps.
    exposures : sequence of Exposed
        Ordered by unit, then time.
    seeds : mapping of Unit to Seeds
        Those of the tiles and their margin.
    rows : int
        Most rows to decide on.

    Attributes
    ----------
    exposure : int32 ndarray
        Row of the exposure in ``exposures``.
    sourceid : int32 ndarray
    hmjd : float64 ndarray
        To be filled in by the caller.
    group : int64 ndarray
        Row of the object in ``objectid``; negative for rows that are no epoch of these tiles' objects.
    reason : int8 ndarray
        Reason of an orphan of these tiles; negative for other rows.
    nearest : int64 ndarray
        Objectid that an orphan lost to; 0 for none.
    objectid : int64 ndarray
        Objects of the tiles and their margin, unit after unit, ascending.
    """

    def __init__(
        self, tiles: Sequence[Tile], exposures: Sequence[Exposed], seeds: Mapping[Unit, Seeds], rows: int
    ) -> None:
        self._tiles, self._exposures, self._seeds = tiles, exposures, seeds
        self._laid: tuple[Unit, SeedGrid | None] | None = None
        self._edges = np.array([tile.fine_range for tile in tiles], np.int64).reshape(-1, 2)
        self.exposure = np.empty(rows, np.int32)
        self.sourceid = np.empty(rows, np.int32)
        self.hmjd = np.empty(rows)
        self.group = np.empty(rows, np.int64)
        self.reason = np.empty(rows, np.int8)
        self.nearest = np.empty(rows, np.int64)
        self._tile = np.empty(rows, np.int16)
        self._matched, self._orphans = np.zeros((2, len(exposures)), np.int64)
        self.objectid = np.concatenate([np.zeros(0, np.int64), *(found.objectid for found in seeds.values())])
        starts = np.cumsum([0, *(len(found.objectid) for found in seeds.values())]).tolist()
        self._first_group = dict(zip(seeds, starts, strict=False))

    def decide(self, number: int, rows: slice, at: Positions, sourceid: npt.NDArray[np.int32]) -> None:
        """Decide on all rows that an exposure has in the tiles and their margin.

        Parameters
        ----------
        number : int
            Of the exposure.
        rows : slice
            Where to note it.
        at : Positions
        sourceid : int32 ndarray, shape (N,)
        """
        exposure = self._exposures[number]
        self.exposure[rows], self.sourceid[rows] = number, sourceid
        grid = self._grid_of(exposure.unit)
        target = None if grid is None else match_exposure(grid, at.xyz, sourceid)
        self._note(rows, exposure, at, target)
        self._matched[number] = np.count_nonzero(self.group[rows] >= 0)
        self._orphans[number] = np.count_nonzero(self.reason[rows] >= 0)

    def _grid_of(self, unit: Unit) -> SeedGrid | None:
        """Seeds of a unit on their grid; kept only until another unit is requested."""
        if self._laid is None or self._laid[0] != unit:
            self._laid = None  # the next one gets its memory
            self._laid = (unit, self._seeds[unit].lay()) if unit in self._seeds else (unit, None)
        return self._laid[1]

    def decide_all(self, exposure: npt.NDArray[np.int32], at: Positions, sourceid: npt.NDArray[np.int32]) -> None:
        """Decide on all rows that all exposures have in the tiles and their margin, in whatever order they are.

        Parameters
        ----------
        exposure : int32 ndarray, shape (rows,)
            Row of the exposure in ``exposures``.
        at : Positions
        sourceid : int32 ndarray, shape (rows,)
        """
        self.exposure[:], self.sourceid[:] = exposure, sourceid
        units = {one.unit: one for one in self._exposures}
        for unit, one in units.items():
            rows: slice | Rows = slice(None)
            if len(units) > 1:
                rows = np.flatnonzero(np.array([other.unit == unit for other in self._exposures])[exposure])
            seeds, target = self._seeds.get(unit), None
            if seeds is not None:
                of_unit = (at.xyz[rows], exposure[rows], sourceid[rows])
                target = match_exposures(seeds.grid, *of_unit, len(self._exposures))
            self._note(rows, one, Positions(at.ra[rows], at.dec[rows], at.xyz[rows]), target)
        self._matched = np.bincount(exposure[self.group >= 0], minlength=len(self._exposures))
        self._orphans = np.bincount(exposure[self.reason >= 0], minlength=len(self._exposures))

    def _note(self, rows: slice | Rows, exposure: Exposed, at: Positions, target: Targets | None) -> None:
        """Keep what was decided on rows of exposures like one; ``target`` is None where there are no seeds."""
        noted = Noted(self.group[rows], self._tile[rows], self.nearest[rows])
        if target is None:
            noted.group[:], noted.tile[:], noted.nearest[:] = -1, MARGIN, 0
            free = np.arange(len(at.ra))
            why = np.full(len(free), _NO_SEED if exposure.has_reference else _NO_REFERENCE)
        else:
            seeds = self._seeds[exposure.unit]
            free = note_targets(target, seeds.tile, seeds.objectid, self._first_group[exposure.unit], noted)
            why = np.where(target[free] == TARGET_NONE, _NO_SEED, _NEARER)
        if not isinstance(rows, slice):  # of a slice it is there already
            self.group[rows], self._tile[rows], self.nearest[rows] = noted
        self.reason[rows] = -1
        # Only who has no seed needs a pixel: a matched row goes to the tile of its seed.
        tile = self._tile_at(at.ra[free], at.dec[free], exposure.straddles)
        mine = tile != MARGIN
        places = free[mine] + (rows.start or 0) if isinstance(rows, slice) else rows[free[mine]]
        self.reason[places], self._tile[places] = why[mine], tile[mine]

    def _tile_at(self, ra: Floats, dec: Floats, straddles: bool) -> npt.NDArray[np.int16]:
        """Number of the tile that holds each position; MARGIN where none of these does."""
        if not straddles and len(self._tiles) == 1:
            return np.zeros(len(ra), np.int16)
        fine = fine_pixels(ra, dec)
        tile = np.searchsorted(self._edges[:, 0], fine, side="right") - 1
        # Before the first is -1, which is MARGIN, and not after the last.
        return np.where(fine < self._edges[tile, 1], tile, MARGIN).astype(np.int16)

    def trim(self, rows: int) -> None:
        """Keep only so many rows: the others were not needed."""
        for name in ("exposure", "sourceid", "hmjd", "group", "reason", "nearest", "_tile"):
            setattr(self, name, getattr(self, name)[:rows])

    def counts(self) -> ExposureCounts:
        """What was decided for each exposure that has any rows here."""
        seen = np.flatnonzero(self._matched + self._orphans)
        ids = [self._exposures[i].exposureid for i in seen.tolist()]
        return ExposureCounts(ids, self._matched[seen].tolist(), self._orphans[seen].tolist())

    @property
    def _exposureids(self) -> Rows:
        """Of the exposures."""
        return np.array([exposure.exposureid for exposure in self._exposures], np.int64)

    @property
    def exposureid(self) -> Rows:
        """Exposureid of each row, shape (N,)."""
        return self._exposureids[self.exposure]

    def epochs(self) -> Rows:
        """Rows that are epochs of the tiles' objects, by tile, objectid, time, exposureid."""
        exposures = (self.exposure, len(self._exposures))
        rows = order_by_group(self.group, self.hmjd, self.exposureid, len(self.objectid), *exposures)
        return np.asarray(rows if len(self._tiles) == 1 else rows[np.argsort(self._tile[rows], kind="stable")])

    def orphans(self) -> Rows:
        """Rows that are orphans of the tiles, by tile, unit, time, exposureid, sourceid."""
        rows = np.flatnonzero(self.reason >= 0)
        exposureid = self._exposureids[self.exposure[rows]]
        keys = (self.sourceid[rows], exposureid, self.hmjd[rows], *self._units(rows).T[::-1], self._tile[rows])
        return rows[np.lexsort(keys)]

    def epochs_by_tile(self) -> Iterator[tuple[Tile, Rows]]:
        """:meth:`epochs` of each tile that has any."""
        return self._by_tile(self.epochs())

    def orphans_by_tile(self) -> Iterator[tuple[Tile, Rows]]:
        """:meth:`orphans` of each tile that has any."""
        return self._by_tile(self.orphans())

    def _by_tile(self, rows: Rows) -> Iterator[tuple[Tile, Rows]]:
        edges = np.searchsorted(self._tile[rows], np.arange(len(self._tiles) + 1))
        for number in np.flatnonzero(np.diff(edges)).tolist():
            yield self._tiles[number], rows[edges[number] : edges[number + 1]]

    def _units(self, rows: Rows) -> npt.NDArray[np.int16]:
        """Field, rcid and fid of some rows, shape (K, 3)."""
        units = [(e.unit.field, e.unit.rcid, e.unit.fid) for e in self._exposures]
        return np.array(units, np.int16).reshape(-1, 3)[self.exposure[rows]]

    def epochs_table(self, rows: Rows, columns: Columns) -> pa.Table:
        """Some of :meth:`epochs`, in that order, with their columns of ``EPOCH`` and ``MEASURED``."""
        return table_from_columns(DETECTIONS, {"objectid": self.objectid[self.group[rows]], **columns})

    def orphans_table(self, rows: Rows, columns: Columns) -> pa.Table:
        """Some of :meth:`orphans`, in that order, with their columns of ``EPOCH`` and ``MEASURED``."""
        units, nearest = self._units(rows), self.nearest[rows]
        fates = {
            "field": units[:, 0],
            "rcid": units[:, 1].astype(np.int8),
            "fid": units[:, 2].astype(np.int8),
            "reason": pa.DictionaryArray.from_arrays(pa.array(self.reason[rows]), pa.array(ORPHAN_REASONS)),
            "nearestid": pa.array(nearest, mask=nearest == 0),
        }
        return table_from_columns(ORPHANS, {**fates, **columns})

    def write_epochs(self, to: Destination, rows: Rows, columns: Columns) -> DataFile:
        """Write :meth:`epochs_table`."""
        return write_file(to, self.epochs_table(rows, columns))

    def write_orphans(self, to: Destination, rows: Rows, columns: Columns) -> DataFile:
        """Write :meth:`orphans_table`."""
        return write_file(to, self.orphans_table(rows, columns))
