"""Contributions of the stars of one tile to the zero-point offsets of units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids
from ztfmatch.core.io import paths
from ztfmatch.core.io.arrays import encode_arrays, read_arrays
from ztfmatch.core.io.parquet import OpenFile
from ztfmatch.core.io.scan import Wanted, scan
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.tiling import neighbours
from ztfmatch.core.schema import MEMBERS, STARS, STATISTICS
from ztfmatch.core.survey import IDS_OF_A_UNIT, fid_column
from ztfmatch.core.tasks.staging import keep
from ztfmatch.core.tasks.tile import TileTask
from ztfmatch.stars.kernels.medians import median_errors
from ztfmatch.stars.kernels.offsets import star_equations, summed

BYTES_PER_STAR: Final = 900

_COLUMNS: Final = ("objectid", "medianmag", "medianabsdev", "ngoodobs")
_FIDS: Final = 4


@dataclass(frozen=True)
class CollectTask(TileTask):
    """One tile, and which objects count."""

    operation_id: str
    bright: float
    faint: float
    min_epochs: int


@dataclass(frozen=True)
class Collected:
    """Where the magnitudes of a tile's shared stars are."""

    kept: list[dict[str, str]]
    stars: int
    """Stars in a filter that two units or more share."""
    units: list[int]
    """Of these, as objectids without their last eight digits."""


def collect_magnitudes(task: CollectTask) -> Collected:
    """Leave the median magnitudes of the objects of stars that several units of a filter share."""
    star, head, mag, weight = _shared(*_objects(task))
    units = np.unique(head)
    arrays = {"star": star, "head": head, "mag": mag, "weight": weight}
    path = paths.staged_array(task.operation_id, task.key)
    kept = [keep(task.storage, path, encode_arrays(arrays))]
    return Collected(kept, len(np.unique(star)), units.tolist())


def _objects(task: CollectTask) -> tuple[Any, ...]:
    """Star and filter, unit, magnitude and error of the objects of the tile's uncrowded stars."""
    stars = task.read(STARS)
    starid = np.sort(stars.filter(pc.equal(stars["crowded"], 0))["starid"].to_numpy())
    parts: list[tuple[Any, ...]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    for tile in neighbours(task.snapshot.tiling, task.tile):
        rows = task.snapshot.read(MEMBERS.name, ["objectid", "starid"], tile=tile).sort_by("objectid")
        star = find_sorted(starid, rows["starid"].to_numpy())
        ids, star = rows["objectid"].to_numpy()[star >= 0], star[star >= 0]
        wanted = Wanted(ids)
        files = wanted.files(task.snapshot.of_tile(STATISTICS.name, tile))
        found = scan((OpenFile(task.storage, file) for file in files), STATISTICS, _COLUMNS, wanted)
        objectid, mag, deviation, n = (found[name].to_numpy() for name in _COLUMNS)
        good = (n >= task.min_epochs) & (mag >= task.bright) & (mag <= task.faint)
        star = star[np.searchsorted(ids, objectid)] * _FIDS + fid_column(objectid)
        columns = star, objectid // IDS_OF_A_UNIT, mag.astype(np.float64), median_errors(deviation, n)
        parts.append(tuple(values[good] for values in columns))
    return tuple(np.concatenate(values) for values in zip(*parts, strict=True))


def _shared(star: Ids, head: Ids, mag: Any, error: Any) -> tuple[Any, ...]:
    """Rows of stars that have more than one, by star, then unit."""
    order = np.lexsort((head, star))
    star = star[order]
    _, inverse, counts = np.unique(star, return_inverse=True, return_counts=True)
    shared = counts[inverse] > 1
    order = order[shared]
    return star[shared], head[order], mag[order], error[order] ** -2


@dataclass(frozen=True)
class EquationsTask:
    """The collected magnitudes of a tile, and the solution before."""

    key: str
    storage: Storage
    collected: str
    solution: str
    operation_id: str
    clip: tuple[float, float]


@dataclass(frozen=True)
class Equations:
    """Where the equations of a tile are."""

    kept: list[dict[str, str]]
    squares: float
    freedom: float


def tile_equations(task: EquationsTask) -> Equations:
    """Add up the normal equations of a tile's stars."""
    held, before = read_arrays(task.storage, task.collected), read_arrays(task.storage, task.solution)
    unit = np.searchsorted(before["head"], held["head"])
    found = star_equations(held["star"], unit, held["mag"], held["weight"], before["offset"], task.clip)
    first, second, entry, right, counts = summed(*found[:2], *found[2:4])
    arrays = {"first": first, "second": second, "entry": entry, "right": right, "counts": counts}
    kept = [keep(task.storage, paths.staged_array(task.operation_id, task.key), encode_arrays(arrays))]
    return Equations(kept, found[4], found[5])
