"""Verify the stars of one tile from the stored objects alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.kernels.lookup import find_sorted, is_among
from ztfmatch.core.kernels.tiling import neighbours
from ztfmatch.core.schema import MEMBERS, OBJECTS, STARS
from ztfmatch.core.tasks.link import rows_of_members, rows_of_stars
from ztfmatch.core.tasks.linked import Linked, link, stars_in_tile
from ztfmatch.core.tasks.starnames import members_near
from ztfmatch.core.tasks.starobjects import Objects
from ztfmatch.core.tasks.tile import TileTask


def wrong_stars(task: TileTask, near: Objects) -> tuple[Mask, Callable[[int], str]] | None:
    """Objects and stars of a tile that are not linked as those near say; None if its stars are not of these.

    Every active object must have one row in ``members``, two of them the same starid if and only if they are one star;
    and the stars must have the positions and counts that these give.

    Returns
    -------
    wrong : bool ndarray, shape (N,)
        For each object of the tile, then each of its stars, those that should be there and those that are.
    describe : callable
        What is wrong with a row.
    """
    objects = {tile: task.snapshot.of_tile(OBJECTS.name, tile) for tile in neighbours(task.snapshot.tiling, task.tile)}
    known = min((file.commit for file in task.files(STARS)), default=-1)
    if any(file.commit > known for files in objects.values() for file in files):
        return None
    linked = link(near)
    del objects[task.tile]
    starid = _starids(linked, *members_near(task, objects))
    own = stars_in_tile(linked, task.tile)
    parts = [
        differing_rows(task.read(MEMBERS), rows_of_members(linked, starid), "objectid"),
        differing_rows(task.read(STARS), rows_of_stars(linked, starid, own), "starid"),
    ]
    ids, wrong = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    members = len(parts[0][0])

    def describe(i: int) -> str:
        return f"{(MEMBERS if i < members else STARS).name} of {ids[i]}: not as its objects say"

    return wrong, describe


def _starids(linked: Linked, member: Ids, of_member: Ids) -> Ids:
    """Starid of each star by its first member; 0 where members disagree, or another star near has the same."""
    at = find_sorted(member, linked.objectid)
    of_object = np.where(at >= 0, np.append(of_member, 0)[at], 0)
    ordered = of_object[linked.stars.row]
    starid = ordered[linked.stars.offsets[:-1]].copy()
    star = linked.stars.star[linked.stars.row]
    starid[star[ordered != starid[star]]] = 0
    _, inverse, counts = np.unique(starid, return_inverse=True, return_counts=True)
    starid[counts[inverse] > 1] = 0
    return starid


def differing_rows(stored: pa.Table, expected: pa.Table, key: str) -> tuple[Ids, Mask]:
    """Ids of rows that are in either; whether there is other than one row of each in both, with the same values."""
    one, other = stored[key].to_numpy(), expected[key].to_numpy()
    if np.array_equal(one, other) and (one[1:] > one[:-1]).all():
        return one, ~_same(stored, expected)
    ids = np.union1d(one, other)
    wrong = np.zeros(len(ids), bool)
    for rows in (stored, expected):
        wrong |= np.bincount(np.searchsorted(ids, rows[key].to_numpy()), minlength=len(ids)) != 1
    stored, expected = (_in_order(rows, key, ids[~wrong]) for rows in (stored, expected))
    wrong[~wrong] = ~_same(stored, expected)
    return ids, wrong


def _same(stored: pa.Table, expected: pa.Table) -> Mask:
    """Whether each row of one table is that of the other."""
    same = np.ones(stored.num_rows, bool)
    for name in stored.column_names:
        one, other = (rows[name].to_numpy(zero_copy_only=False) for rows in (stored, expected))
        same &= (one == other) | ((one != one) & (other != other))  # NaN stands for null
    return same


def _in_order(rows: pa.Table, key: str, ids: Ids) -> pa.Table:
    """Rows of some ids, ascending; each is there once."""
    order = np.argsort(rows[key].to_numpy(), kind="stable")
    return rows.take(pa.array(order[is_among(rows[key].to_numpy()[order], ids)]))
