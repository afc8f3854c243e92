"""Seeds of a tile and its margin, unit by unit, ready to match against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ztfmatch.core.io.parquet import DataFile, IdRange, read_rows
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.crossmatch import SeedGrid, build_grid
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile, in_tile_or_margin
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.survey import Unit, objectid_range


@dataclass(frozen=True)
class Seeds:
    """Active seeds of one unit in a tile and its margin, ascending by objectid."""

    objectid: npt.NDArray[np.int64]
    owned: npt.NDArray[np.bool_]
    """Whether the seed belongs to the tile itself."""
    xyz: Floats
    grid: SeedGrid


@dataclass(frozen=True)
class SeedSource:
    """Where the seeds of a tile are."""

    storage: Storage
    tile: Tile
    objects: tuple[DataFile, ...]
    """Object files of the tile and its neighbours."""
    radius_arcsec: float


def read_seeds(source: SeedSource, units: Iterable[Unit]) -> dict[Unit, Seeds]:
    """Active seeds of some units in a tile and its margin, in order of objectid; units without any are absent."""
    ordered = sorted(units, key=objectid_range)
    ranges: list[IdRange] = [objectid_range(unit) for unit in ordered]
    if not ranges:
        return {}
    table = read_rows(source.storage, source.objects, ["objectid", "ra", "dec", "status"], ranges)
    if table is None:
        return {}
    active = table.filter(pc.equal(table["status"], ACTIVE)).sort_by("objectid")
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
    owned = in_tile(fine[near], tile)
    xyz = unit_vectors(seeds.ra[near], seeds.dec[near])
    ordered = sorted(units, key=objectid_range)
    return dict(_split_units(ordered, seeds.objectid[near], xyz, owned, radius_arcsec))


def _split_units(
    units: Sequence[Unit],
    ids: npt.NDArray[np.int64],
    xyz: Floats,
    owned: npt.NDArray[np.bool_],
    radius_arcsec: float,
) -> Iterator[tuple[Unit, Seeds]]:
    for unit in units:
        low, high = objectid_range(unit)
        part = slice(*np.searchsorted(ids, [low, high + 1]))
        if part.start < part.stop:
            yield unit, Seeds(ids[part], owned[part], xyz[part], build_grid(xyz[part], radius_arcsec))
