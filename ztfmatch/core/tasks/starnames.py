"""Ids of stars near a tile: what former stars pass on to current ones, and which of these keep their ids."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.io.parquet import DataFile, OpenFile, read_file_rows, read_table
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.coverage import runs
from ztfmatch.core.kernels.lookup import find_sorted, is_among
from ztfmatch.core.kernels.staridentity import Legacy
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, MEMBERS, OBJECTS, STARLINEAGE
from ztfmatch.core.survey import MAX_OBJECTID
from ztfmatch.core.tasks.linked import Linked, LinkTask
from ztfmatch.core.tasks.starobjects import EDGES_KEPT, edge_of
from ztfmatch.core.tasks.tile import TileTask

_GENERATION: Final = 10**7
"""Objectids of a generation of a unit have all digits before the last seven in common."""

_LINEAGES_KEPT: Final = 16
"""Files, each of a unit, that a process keeps: the next tile needs most of them again."""


@dataclass(frozen=True)
class Former:
    """What there was."""

    kept: Ids
    """Starid that each star keeps, 0 for none, shape (S,)."""
    legacy: Legacy
    counted: Mask
    """Whether the epochs of each pair of ``legacy`` were counted: something depended on them."""
    lost: Ids
    """Former stars of which there is nothing."""
    unheralded: Mask
    """Stars to which no former one left anything, shape (S,)."""
    used: Ids
    """Starids that there are or were."""


def former_stars(task: LinkTask, linked: Linked, own: Mask) -> Former:
    """Find what former stars leave to the stars of a task, of which some are the tile's own."""
    objectid, starid = _members(task)
    at = find_sorted(linked.objectid, objectid)
    here = np.flatnonzero(at >= 0)
    gone = np.flatnonzero((at < 0) & is_among(objectid, linked.retired))
    old, new, shared = _successors(task, objectid[gone], linked.retired)
    at_new = find_sorted(linked.objectid, new)
    old, at_new, shared = (values[at_new >= 0] for values in (old, at_new, shared))
    active = np.concatenate([at[here], at_new])
    of = np.concatenate([starid[here], starid[np.searchsorted(objectid, old)]])
    epochs = np.concatenate([np.zeros(len(here), np.int64), shared])
    legacy = Legacy.of(of, linked.stars.star[active].astype(np.int64), epochs)
    relevant = own.copy()
    relevant[linked.stars.star[linked.own]] = True  # these have a say in what is written
    counted = legacy.contested & is_among(legacy.old, legacy.old[legacy.contested & relevant[legacy.new]])
    if counted.any():  # the rest is clear without reading lightcurves
        needed = np.flatnonzero(counted[legacy.pair[: len(here)]])
        epochs[needed] = _epochs(task, linked, active[needed])
        legacy = legacy.leaving(epochs)
    left = np.unique(starid[gone])
    lost = left[~is_among(left, legacy.old)]
    unheralded = np.ones(len(own), bool)
    unheralded[legacy.new] = False
    used = np.concatenate([starid, _ended(task)])
    return Former(legacy.heirs(linked.first), legacy, counted, lost, unheralded, used)


def _members(task: LinkTask) -> tuple[Ids, Ids]:
    """Objectids that were of a star, ascending, and the starid of each: those of the tile, and at edges around it."""
    around = {tile: task.now_of(OBJECTS, tile) for tile in task.near if tile != task.tile}
    return members_near(task, around)


def members_near(task: TileTask, around: Mapping[Tile, Sequence[DataFile]]) -> tuple[Ids, Ids]:
    """The same, where the object files of the tiles around are given."""
    parts = [_read_members(task.storage, task.files(MEMBERS))]
    for tile, objects in around.items():
        if files := tuple(task.snapshot.of_tile(MEMBERS.name, tile)):
            parts.append(_members_at_edge(task.storage, files, tuple(objects)))
    objectid, starid = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(objectid, kind="stable")
    return objectid[order], starid[order]


_NONE: Final = np.zeros(0, np.int64)


def _read_members(storage: Storage, files: Sequence[DataFile]) -> tuple[Ids, Ids]:
    rows = read_table(storage, files, MEMBERS, ["objectid", "starid"])
    return rows["objectid"].to_numpy(), rows["starid"].to_numpy()


@functools.lru_cache(EDGES_KEPT)
def _members_at_edge(storage: Storage, files: tuple[DataFile, ...], objects: tuple[DataFile, ...]) -> tuple[Ids, Ids]:
    """Members of a tile of which an object file, as they are to be, says that they are at its edge."""
    objectid, starid = _read_members(storage, files)
    at_edge = np.sort(np.concatenate([_NONE, *(edge_of(storage, file)[0]["objectid"] for file in objects)]))
    kept = is_among(objectid, at_edge)
    return objectid[kept], starid[kept]


def _ended(task: LinkTask) -> Ids:
    """Starids nearby in the lineage of stars."""
    rows = read_table(task.storage, task.before(STARLINEAGE), STARLINEAGE, ["starid", "newstarid"])
    return np.concatenate([rows[name].drop_null().to_numpy() for name in ("starid", "newstarid")])


def _successors(task: LinkTask, objectid: Ids, retired: Ids) -> tuple[Ids, Ids, Ids]:
    """Active objects that retired ones became, one row a pair, with the epochs that the two share.

    Over several generations, of what an object shares with its successor the part counts that this passes on.
    """
    pairs = [(objectid[:0],) * 3]
    root, last, shared = objectid, objectid, np.full(len(objectid), np.iinfo(np.int64).max)
    while len(last):
        # Those given are in order, each once.
        old, new, passed = _links(task, last if len(pairs) == 1 else np.unique(last))
        order = np.argsort(old, kind="stable")
        old, new, passed = old[order], new[order], passed[order]
        low, high = np.searchsorted(old, last), np.searchsorted(old, last, "right")
        row = runs(low, high - low)
        root, shared = np.repeat(root, high - low), np.minimum(np.repeat(shared, high - low), passed[row])
        last = new[row]
        pairs.append((root, last, shared))
        on = is_among(last, retired)
        root, last, shared = root[on], last[on], shared[on]
    return tuple(np.concatenate(values) for values in zip(*pairs, strict=True))  # type: ignore[return-value]


def _links(task: LinkTask, objectid: Ids) -> tuple[Ids, Ids, Ids]:
    """Rows of the lineage from some objects to others: both, and the epochs shared."""
    generations = np.unique(objectid // _GENERATION)
    ranges = [(head * _GENERATION, (head + 1) * _GENERATION - 1) for head in generations.tolist()]
    parts = [(_NONE, _NONE, _NONE)]
    for file in task.lineage_files(ranges):
        old, new, shared = _lineage(task.storage, file)
        mine = is_among(old, objectid)
        parts.append((old[mine], new[mine], shared[mine]))
    return tuple(np.concatenate(values) for values in zip(*parts, strict=True))  # type: ignore[return-value]


@functools.lru_cache(_LINEAGES_KEPT)
def _lineage(storage: Storage, file: DataFile) -> tuple[Ids, Ids, Ids]:
    """Rows from objects to objects of a file: both, and the epochs shared."""
    rows = read_file_rows(storage, file, ["objectid", "newobjectid", "nshared"])
    old, new = (rows[name].fill_null(0).to_numpy() for name in ("objectid", "newobjectid"))
    kept = (old > 0) & (old <= MAX_OBJECTID) & (new > 0) & (new <= MAX_OBJECTID)
    return old[kept], new[kept], rows["nshared"].to_numpy().astype(np.int64)[kept]


def _epochs(task: LinkTask, linked: Linked, row: Ids) -> Ids:
    """Number of epochs of each of some objects."""
    counts = np.zeros(len(row), np.int64)
    for own in (True, False):
        mine = np.flatnonzero(linked.own[row] == own)
        ids, which = np.unique(linked.objectid[row[mine]], return_inverse=True)
        of_each = np.zeros(len(ids), np.int64)
        for file in task.now(DETECTIONS) if len(ids) else ():
            if (file.tile == task.tile) == own:
                of_each += _rows_of(task.storage, file, ids)
        counts[mine] = of_each[which]
    return counts


def _rows_of(storage: Storage, file: DataFile, ids: Ids) -> Ids:
    """Rows that a file, which is in order of them, has of each of some ids."""
    parquet = OpenFile(storage, file)
    rows = parquet.read(Wanted(ids).groups(parquet), ["objectid"])["objectid"].to_numpy()
    return np.searchsorted(rows, ids, "right") - np.searchsorted(rows, ids, "left")
