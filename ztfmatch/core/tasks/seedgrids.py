"""Seeds of a tile or a group of tiles with its margin, by unit, ready for matching."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.parquet import DataFile, IdRange, read_file_rows, read_table
from ztfmatch.core.io.rows import active_rows
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.crossmatch import SeedGrid, build_grid
from ztfmatch.core.kernels.reach import inside, planes_around
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile, in_tile_or_margin
from ztfmatch.core.schema import OBJECTS
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.survey import IDS_OF_A_UNIT, Unit, objectid_range, unit_of_objectid
from ztfmatch.core.tasks.starobjects import Objects

MARGIN: Final = -1
"""In place of a tile's number."""

_POSITIONS: Final = ("objectid", "ra", "dec")
_COLUMNS: Final = (*_POSITIONS, "status")


@dataclass(frozen=True)
class Seeds:
    """Active seeds of one unit in a tile or several and their margin, ascending by objectid in each tile."""

    objectid: npt.NDArray[np.int64]
    tile: npt.NDArray[np.int16]
    """Number of the tile that the seed belongs to; MARGIN for those around."""
    ra: Floats
    """Degrees, ICRS."""
    dec: Floats
    radius_arcsec: float
    """Of the matches that are to be found."""

    def at(self, rows: slice | npt.NDArray[Any]) -> Seeds:
        """Some of them."""
        return Seeds(self.objectid[rows], self.tile[rows], self.ra[rows], self.dec[rows], self.radius_arcsec)

    @functools.cached_property
    def grid(self) -> SeedGrid:
        """The seeds on a grid, which is kept."""
        return self.lay()

    def lay(self) -> SeedGrid:
        """Lay the seeds on a grid, which takes more memory than they do."""
        return build_grid(self.xyz, self.radius_arcsec, self.objectid)

    @property
    def xyz(self) -> Floats:
        """Unit vectors, shape (N, 3)."""
        # Arrow's arrays may not be written to: for these numba would compile anew.
        ra, dec = (np.require(values, requirements="W") for values in (self.ra, self.dec))
        return np.asarray(unit_vectors(ra, dec))

    @property
    def owned(self) -> npt.NDArray[np.bool_]:
        """Whether the seed belongs to a tile itself."""
        return np.asarray(self.tile != MARGIN)


@dataclass(frozen=True)
class SeedSource:
    """Where the seeds of a tile are."""

    storage: Storage
    tile: Tile
    """Or the pixel that a group of tiles makes up."""
    objects: Sequence[DataFile]
    """Object files of the tile and its neighbours."""
    radius_arcsec: float
    retired: bool = True
    """Whether any of these objects may be retired."""


def read_seeds(source: SeedSource, units: Iterable[Unit]) -> dict[Unit, Seeds]:
    """Active seeds of some units in a tile and its margin, in order of objectid; units without any are absent."""
    ordered = list(units)
    ranges: list[IdRange] = [objectid_range(unit) for unit in ordered]
    if not ranges:
        return {}
    active = active_rows(read_table(source.storage, source.objects, OBJECTS, _COLUMNS, ranges)).sort_by("objectid")
    ids, ra, dec = (active[name].to_numpy() for name in ("objectid", "ra", "dec"))
    return lay_seeds(SeedPositions(ids, ra, dec), ordered, source.tile, source.radius_arcsec)


@dataclass(frozen=True)
class SeedPositions:
    """Seeds of some units, ascending by objectid, shape (N,) each."""

    objectid: npt.NDArray[np.int64]
    ra: Floats
    """Degrees, ICRS."""
    dec: Floats


def lay_seeds(seeds: SeedPositions, units: Iterable[Unit], tile: Tile, radius_arcsec: float) -> dict[Unit, Seeds]:
    """Those of the seeds that lie in a tile and its margin, in order of objectid; units without any are absent."""
    fine = fine_pixels(seeds.ra, seeds.dec)
    near = in_tile_or_margin(fine, tile)
    owner = np.where(in_tile(fine[near], tile), 0, MARGIN).astype(np.int16)
    laid = Seeds(seeds.objectid[near], owner, seeds.ra[near], seeds.dec[near], radius_arcsec)
    ordered = sorted(units, key=objectid_range)
    return dict(_split_units(ordered, _edges(ordered), laid))


def seeds_of_objects(
    objects: Objects, has_reference: Callable[[Unit], bool], tile: Tile, radius_arcsec: float
) -> dict[Unit, Seeds]:
    """Seeds of those units that have any, of objects in reach of the tile that are in order of objectid."""
    active = objects[objects["active"]]
    ids, ra, dec = (np.ascontiguousarray(active[name]) for name in ("objectid", "ra", "dec"))
    heads = ids[np.diff(ids // IDS_OF_A_UNIT, prepend=-1) != 0]
    held = [unit for head in heads.tolist() if has_reference(unit := unit_of_objectid(head))]
    return lay_seeds(SeedPositions(ids, ra, dec), held, tile, radius_arcsec)


def read_seeds_of_group(source: SeedSource, tiles: Sequence[Tile], units: Iterable[Unit]) -> dict[Unit, Seeds]:
    """Active seeds of some units in a group of tiles and its margin, by the tiles of their files.

    Parameters
    ----------
    source : SeedSource
        Its tile is the pixel that the tiles make up.
    tiles : sequence of Tile
        In whose order the seeds' tiles are numbered.
    units : iterable of Unit
        Those without any seeds are absent from what is returned.
    """
    ordered = sorted(units, key=objectid_range)
    ranges = [objectid_range(unit) for unit in ordered]
    numbers: dict[Tile | None, int] = {tile: number for number, tile in enumerate(tiles)}
    planes = planes_around(source.tile)
    edges = _edges(ordered)
    parts: dict[Unit, list[Seeds]] = {unit: [] for unit in ordered}
    for file in source.objects:
        if ranges and file.holds_id(ranges):
            found = _seeds_of_file(source, file, ranges, numbers.get(file.tile, MARGIN), planes)
            for unit, part in _split_units(ordered, edges, found):
                parts[unit].append(part)
    return {unit: _joined(of_unit) for unit, of_unit in parts.items() if of_unit}


def _seeds_of_file(source: SeedSource, file: DataFile, ranges: Sequence[IdRange], number: int, planes: Floats) -> Seeds:
    """Active seeds of some units, ascending, and perhaps of others between them."""
    columns = _COLUMNS if source.retired else _POSITIONS
    table = read_file_rows(source.storage, file, columns, [(ranges[0][0], ranges[-1][1])])
    ids, ra, dec = (table[name].to_numpy() for name in ("objectid", "ra", "dec"))
    seeds = Seeds(ids, np.full(len(ids), number, np.int16), ra, dec, source.radius_arcsec)
    if source.retired and (active := _active(table["status"])) is not None:
        seeds = seeds.at(active)
    return seeds.at(inside(planes, seeds.xyz)) if number == MARGIN else seeds


def _active(status: pa.ChunkedArray) -> npt.NDArray[np.bool_] | None:
    """Which objects are active; None if all are, as before any reference was replaced."""
    labels = {label for chunk in status.chunks for label in chunk.dictionary.to_pylist()}
    if labels <= {ACTIVE}:
        return None
    return np.asarray(pc.equal(status, ACTIVE).to_numpy())


def _joined(parts: Sequence[Seeds]) -> Seeds:
    """Seeds of a unit from the files of several tiles, file after file; by objectid in each tile."""
    joined = Seeds(
        np.concatenate([part.objectid for part in parts]),
        np.concatenate([part.tile for part in parts]),
        np.concatenate([part.ra for part in parts]),
        np.concatenate([part.dec for part in parts]),
        parts[0].radius_arcsec,
    )
    owners = [int(part.tile[0]) for part in parts if part.tile[0] != MARGIN]
    if len(set(owners)) < len(owners):  # a tile has several files
        return joined.at(np.lexsort((joined.objectid, joined.tile)))
    return joined


def _edges(units: Sequence[Unit]) -> npt.NDArray[np.int64]:
    """First objectid of each unit, and one past its last, shape (U, 2)."""
    edges = np.array([objectid_range(unit) for unit in units], np.int64).reshape(-1, 2)
    edges[:, 1] += 1
    return edges


def _split_units(units: Sequence[Unit], edges: npt.NDArray[np.int64], seeds: Seeds) -> Iterator[tuple[Unit, Seeds]]:
    """Seeds of each unit that has any, of those of all, ascending by objectid."""
    rows = np.searchsorted(seeds.objectid, edges)
    for number in np.flatnonzero(rows[:, 0] < rows[:, 1]).tolist():
        yield units[number], seeds.at(slice(*rows[number].tolist()))
