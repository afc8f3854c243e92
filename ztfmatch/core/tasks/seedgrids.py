"""Seeds of a tile, or of a group of tiles, and its margin, unit by unit, ready to match against."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

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

_COLUMNS: Final = ("objectid", "ra", "dec", "status")


@dataclass(frozen=True)
class Seeds:
    """Active seeds of one unit in a tile and its margin, ascending by objectid."""

    objectid: npt.NDArray[np.int64]
    tile: npt.NDArray[np.int16]
    """Number of the tile that the seed belongs to; MARGIN for those around."""
    xyz: Floats
    grid: SeedGrid

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
    xyz = unit_vectors(seeds.ra[near], seeds.dec[near])
    return dict(_split_units(units, seeds.objectid[near], xyz, owner, radius_arcsec))


def seeds_of_objects(objects: Objects, units: Collection[Unit], tile: Tile, radius_arcsec: float) -> dict[Unit, Seeds]:
    """Seeds of those units that have any, of objects in reach of the tile that are in order of objectid."""
    active = objects[objects["active"]]
    ids, ra, dec = (np.ascontiguousarray(active[name]) for name in ("objectid", "ra", "dec"))
    heads = ids[np.diff(ids // IDS_OF_A_UNIT, prepend=-1) != 0]
    held = [unit for head in heads.tolist() if (unit := unit_of_objectid(head)) in units]
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
    parts: dict[Unit, list[_Part]] = {unit: [] for unit in ordered}
    for file in source.objects:
        if ranges and file.holds_id(ranges):
            found = _seeds_of_file(source.storage, file, ranges, numbers.get(file.tile, MARGIN), planes)
            edges = np.searchsorted(found.objectid, np.add(ranges, (0, 1))).tolist()
            for unit, (low, high) in zip(ordered, edges, strict=True):
                if low < high:
                    parts[unit].append(found.between(low, high))
    return {unit: _joined(of_unit, source.radius_arcsec) for unit, of_unit in parts.items() if of_unit}


@dataclass(frozen=True)
class _Part:
    """Seeds of one file, ascending by objectid."""

    objectid: npt.NDArray[np.int64]
    xyz: Floats
    tile: int

    def between(self, low: int, high: int) -> _Part:
        """Some consecutive ones."""
        return _Part(self.objectid[low:high], self.xyz[low:high], self.tile)


def _seeds_of_file(storage: Storage, file: DataFile, ranges: Sequence[IdRange], number: int, planes: Floats) -> _Part:
    """Active seeds of some units, ascending, and perhaps of others between them."""
    table = read_file_rows(storage, file, _COLUMNS, [(ranges[0][0], ranges[-1][1])])
    ids, ra, dec = (table[name].to_numpy() for name in ("objectid", "ra", "dec"))
    if (active := _active(table["status"])) is not None:
        ids, ra, dec = ids[active], ra[active], dec[active]
    xyz = unit_vectors(ra, dec)
    if number == MARGIN:
        near = inside(planes, xyz)
        ids, xyz = ids[near], xyz[near]
    return _Part(ids, xyz, number)


def _active(status: pa.ChunkedArray) -> npt.NDArray[np.bool_] | None:
    """Which objects are active; None if all are, as before any reference was replaced."""
    labels = {label for chunk in status.chunks for label in chunk.dictionary.to_pylist()}
    if labels <= {ACTIVE}:
        return None
    return np.asarray(pc.equal(status, ACTIVE).to_numpy())


def _joined(parts: Sequence[_Part], radius_arcsec: float) -> Seeds:
    """Seeds of a unit from the files of several tiles."""
    ids, xyz = (np.concatenate(columns) for columns in zip(*((part.objectid, part.xyz) for part in parts), strict=True))
    tile = np.repeat(np.array([part.tile for part in parts], np.int16), [len(part.objectid) for part in parts])
    if len(parts) > 1:
        order = np.argsort(ids, kind="stable")  # merges runs
        ids, xyz, tile = ids[order], xyz[order], tile[order]
    return Seeds(ids, tile, xyz, build_grid(xyz, radius_arcsec))


def _split_units(
    units: Iterable[Unit], ids: npt.NDArray[np.int64], xyz: Floats, tile: npt.NDArray[np.int16], radius_arcsec: float
) -> Iterator[tuple[Unit, Seeds]]:
    for unit in sorted(units, key=objectid_range):
        low, high = objectid_range(unit)
        part = slice(*np.searchsorted(ids, [low, high + 1]))
        if part.start < part.stop:
            yield unit, Seeds(ids[part], tile[part], xyz[part], build_grid(xyz[part], radius_arcsec))
