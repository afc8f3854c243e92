"""The partitions of a HATS catalog, and which task writes which; every tile is read once."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.release.kernels.alignment import Limits, Piece, joined
from ztfmatch.release.tasks import hats as tasks

_INDEX_ROWS: Final = 2_000_000


@dataclass(frozen=True)
class Group:
    """Tiles that are read and partitions that are written by one task."""

    tiles: tuple[Tile, ...]
    partitions: tuple[Piece, ...]


@dataclass(frozen=True)
class Plan:
    """Which partitions there will be, and which task makes which."""

    partitions: list[Piece]
    """In order of the sky."""
    groups: list[Group]

    @property
    def rows(self) -> int:
        """Rows of all partitions."""
        return sum(piece.rows for piece in self.partitions)

    def tasks(self, catalog: tasks.Catalog) -> list[tasks.WriteTask]:
        """One task for each group."""
        first, at = {}, 0
        for piece in self.partitions:
            first[piece.tile] = at
            at += piece.rows
        return [
            tasks.WriteTask(
                f"write-{group.partitions[0].tile.key}",
                catalog,
                group.tiles,
                tuple(piece.tile for piece in group.partitions),
                tuple(first[piece.tile] for piece in group.partitions),
            )
            for group in self.groups
        ]


def plan_partitions(tiles: Sequence[Tile], counted: Sequence[tasks.TileCounts], limits: Limits) -> Plan:
    """Partitions from what the tiles have, and the groups: each tile is read once."""
    pieces = [piece for result in counted for piece in result.pieces]
    filled = [tile for tile, result in zip(tiles, counted, strict=True) if result.pieces]
    partitions = joined(pieces, limits)
    starts = [tile.fine_range[0] for tile in filled]
    groups: list[Group] = []
    within: dict[Tile, list[Piece]] = {}
    for piece in partitions:
        low, high = piece.tile.fine_range
        covered = filled[bisect.bisect_left(starts, low) : bisect.bisect_left(starts, high)]
        if covered and covered[0].order >= piece.tile.order:
            groups.append(Group(tuple(covered), (piece,)))
        else:
            within.setdefault(filled[bisect.bisect_right(starts, low) - 1], []).append(piece)
    groups += [Group((tile,), tuple(inside)) for tile, inside in within.items()]
    return Plan(partitions, sorted(groups, key=lambda group: group.partitions[0].tile.fine_range))


def index_tasks(
    catalog: tasks.Catalog,
    write_tasks: Sequence[tasks.WriteTask],
    written: Sequence[tasks.PartitionsWritten],
    counted: Sequence[tasks.TileCounts],
) -> list[tasks.IndexTask]:
    """Ranges of whole units with about so many objects each, and the tasks that have some of them."""
    units = Counter[int]()
    for result in counted:
        units.update(result.units)
    edges: list[int] = []
    held = 0
    for first in sorted(units):
        if not edges or held >= _INDEX_ROWS:
            edges.append(first)
            held = 0
        held += units[first]
    ranges = [(low, high - 1) for low, high in zip(edges, [*edges[1:], 1 << 62], strict=True)]
    keys = [(task.key, result.ids) for task, result in zip(write_tasks, written, strict=True)]
    return [
        tasks.IndexTask(
            f"index-{number:05d}",
            catalog,
            number,
            (low, high),
            tuple(key for key, (least, most) in keys if least <= high and most >= low),
        )
        for number, (low, high) in enumerate(ranges)
    ]
