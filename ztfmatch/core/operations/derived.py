"""Update tables derived from the content of tiles: recompute stale tiles, and commit what still holds.

What a tile's results depend on is in the names of its tasks, not the number of the snapshot: what a killed pass has
staged is taken over by the next, whatever was committed to other tiles in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import ztfmatch
from ztfmatch.core.io import log
from ztfmatch.core.io.manifest import TileFiles
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile, in_sky_order, neighbours
from ztfmatch.core.operations.commit import CommitReport, Committed, commit_on_top
from ztfmatch.core.operations.common import CommitInfo, OperationId, Stopwatch, paths_of, same_files
from ztfmatch.core.plain import Keywords
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import Table
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.staging import Function, Task

R = TypeVar("R", bound=Written)

OWN: Final = "own"

TilesOf = Callable[[SnapshotFiles], list[Tile]]
Near = Callable[[SnapshotFiles, Tile], list[Tile]]


@dataclass(frozen=True)
class Derivation(Generic[R]):
    """What is derived, of what, and how.

    Files of a derived table have the number of the commit up to which they know the content: with newer content, a tile
    is stale.
    """

    name: str
    """Of the operation."""
    inputs: tuple[str, ...]
    """Tables that it is derived from."""
    tables: tuple[str, ...]
    """Written anew for a tile; of the first each tile with content has a file, be it without rows."""
    near: Near
    """Tiles whose content has a part in what is derived for a tile, itself first."""
    function: Function[R]
    task: Callable[[str, SnapshotFiles, Tile, str], Task]
    """Makes a task of its key, the snapshot, the tile, and what tells its files from those of other operations."""
    projected_bytes: Callable[[dict[str, int]], int]
    """Peak memory of a task, by the rows that the tiles near have of each input, and the tile itself of each derived
    table and, under ``OWN``, of the first input."""
    counts: tuple[str, ...]
    """Names of what results count."""
    everywhere: tuple[Table, ...] = ()
    """Tables of the whole store that have a part in every tile's: with others of their files no result holds."""

    def stale(self, snapshot: SnapshotFiles) -> list[Tile]:
        """Tiles whose content, or that of tiles near, is newer than what is derived from it.

        A tile may have neither content nor a file of the first table: it is stale with a tile near it that has content.
        """
        known = {tile: held.newest for tile, held in snapshot.files.by_tile(self.tables[0]).items()}
        oldest = min(known.values(), default=-1)
        contents = [snapshot.files.by_tile(name) for name in self.inputs]
        filled = {tile for content in contents for tile in content}
        found: set[Tile] = set()
        for content in contents:
            for tile, held in content.items():
                if tile is not None and (held.newest > oldest or tile not in known):
                    bare = known.get(tile, -1)
                    for other in self.near(snapshot, tile):
                        if held.newest > known.get(other, -1 if other in filled else bare):
                            found.add(other)
        return in_sky_order(found)

    def affected(self, snapshot: SnapshotFiles, changed: Iterable[Tile]) -> list[Tile]:
        """Tiles whose results what changed in some tiles may have a part in, and stale ones beside them.

        Of what moved over a border since, a tile that stays as it was would else have a part that the next, computed
        anew, has too.
        """
        tiles = {near for tile in changed for near in self.near(snapshot, tile)}
        stale = (tile for tile in self.stale(snapshot) if snapshot.of_tile(self.tables[0], tile))
        return in_sky_order(connected(self.near, snapshot, tiles, stale))

    @property
    def operation_id(self) -> str:
        """The same for every pass of a version of ztfmatch."""
        return OperationId(self.name, None, [ztfmatch.__version__]).value


@dataclass(frozen=True)
class Derived:
    """What a pass did."""

    committed: Committed
    tiles: int
    """Committed."""
    changed: int
    """Tiles that others changed meanwhile, and that are still to be done."""
    counts: dict[str, int]

    def fields(self, watch: Stopwatch) -> Keywords:
        """What every report tells."""
        return {
            **self.committed.fields,
            "tiles": self.tiles,
            "changed": self.changed,
            **self.counts,
            "bytes": self.committed.size,
            "seconds": watch.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class PassReport(CommitReport):
    """What every pass over tiles tells."""

    tiles: int
    changed: int
    """Tiles that others changed meanwhile: they stay out of date, run it again."""


def itself(_: SnapshotFiles, tile: Tile) -> list[Tile]:
    """A tile alone."""
    return [tile]


def with_neighbours(snapshot: SnapshotFiles, tile: Tile) -> list[Tile]:
    """A tile and those that it touches."""
    return neighbours(snapshot.tiling, tile)


def bring_up_to_date(
    kind: Derivation[R], storage: Storage, runner: Runner, info: CommitInfo, due: TilesOf | None = None
) -> Derived:
    """Compute what is derived from some tiles, and commit what holds on the newest snapshot.

    Parameters
    ----------
    kind : Derivation
    storage : Storage
    runner : Runner
    info : CommitInfo
    due : callable, optional
        Which of the stale tiles of a snapshot are to be done; by default all.

    Raises
    ------
    JobFailedError
        If a task failed after its retries; nothing is committed, a rerun resumes.
    CommitConflictError
        If others changed every tile meanwhile.
    """
    snapshot = open_snapshot(storage)
    due = due or kind.stale
    tiles = due(snapshot)
    if not tiles:
        return Derived(Committed(snapshot, None), 0, 0, dict.fromkeys(kind.counts, 0))
    return _Pass(kind, snapshot, tiles, runner).commit(due, info)


class _Pass(Generic[R]):
    """The results of one pass over some tiles of a snapshot."""

    def __init__(self, kind: Derivation[R], snapshot: SnapshotFiles, tiles: Sequence[Tile], runner: Runner) -> None:
        self._kind, self._snapshot = kind, snapshot
        plan = _Plan(kind, snapshot)
        planned = [plan.task(tile) for tile in tiles]
        runner.check_memory({task.key: peak for task, peak in planned})
        job = Job(kind.name, kind.function, [task for task, _ in planned], kind.operation_id, snapshot.storage)
        self._results = dict(zip(tiles, runner.run(job), strict=True))

    def commit(self, due: TilesOf, info: CommitInfo) -> Derived:
        """Commit the tiles whose results hold on the newest snapshot."""

        def refusal(head: SnapshotFiles) -> str | None:
            overtaken = not self._holding(head) and due(head)
            return f"changed all tiles of these {self._kind.name}" if overtaken else None

        committed = commit_on_top(self._snapshot, lambda head: self._change(head, info), refusal)
        head = committed.head
        held = self._holding(head)
        left = set() if head is self._snapshot else set(due(head))
        done = {tile for tile, number in held.items() if number > head.number}
        return Derived(committed, len(held), len(left - done), self._counts(held))

    def _holding(self, head: SnapshotFiles) -> dict[Tile, int]:
        if head is self._snapshot:
            return dict.fromkeys(self._results, head.number + 1)
        return holding(self._kind, self._snapshot, head, list(self._results))

    def _change(self, head: SnapshotFiles, info: CommitInfo) -> log.Change | None:
        held = self._holding(head)
        if not held:
            return None
        added = [replace(file, commit=number) for tile, number in held.items() for file in self._results[tile].files]
        return log.Change(
            self._kind.name,
            self._kind.operation_id,
            info.arguments,
            self._counts(held),
            added,
            paths_of(head, held, self._kind.tables),
            started=info.started,
            note=info.note,
        )

    def _counts(self, tiles: Iterable[Tile]) -> dict[str, int]:
        return {name: sum(getattr(self._results[tile], name) for tile in tiles) for name in self._kind.counts}


class _Plan(Generic[R]):
    """What the tasks of a pass are made of."""

    def __init__(self, kind: Derivation[R], snapshot: SnapshotFiles) -> None:
        self._kind, self._snapshot = kind, snapshot
        self._held = {name: snapshot.files.by_tile(name) for name in (*kind.inputs, *kind.tables)}
        self._everywhere = [snapshot.files.paths(table.name) for table in kind.everywhere]

    def task(self, tile: Tile) -> tuple[Task, int]:
        """Task of a tile, whose key tells what it depends on; and the peak memory of the worker that runs it."""
        kind, snapshot = self._kind, self._snapshot
        near = kind.near(snapshot, tile)
        inputs = [self._state(name, other) for other in near for name in kind.inputs]
        own = [self._state(name, tile) for name in kind.tables]
        state = OperationId(kind.name, None, [inputs, own, *self._everywhere]).value[:12]
        task = kind.task(f"{kind.name}-{tile.key}-{state}", snapshot, tile, kind.operation_id[:12])
        rows = {name: _rows(self._held[name], near) for name in kind.inputs}
        rows[OWN] = _rows(self._held[kind.inputs[0]], [tile])
        return task, kind.projected_bytes(rows | {name: _rows(self._held[name], [tile]) for name in kind.tables})

    def _state(self, name: str, tile: Tile) -> list[Any]:
        """What tells the rows that a tile has of a table, and up to which commit they are, from any that it ever had.

        Only commits change what a tile has, and numbers of commits are never used again; compaction, after which the
        number of its newest file may be the same, keeps all rows.
        """
        held = self._held[name].get(tile)
        return [name, str(tile), *([] if held is None else [held.files, held.rows, held.newest])]


def _rows(held: Mapping[Tile | None, TileFiles], tiles: Iterable[Tile]) -> int:
    return sum(held[tile].rows for tile in tiles if tile in held)


def holding(
    kind: Derivation[Any], snapshot: SnapshotFiles, head: SnapshotFiles, tiles: Sequence[Tile]
) -> dict[Tile, int]:
    """Tiles whose results hold on a newer snapshot, with the commit up to which they know the content.

    That is the commit to be, or the snapshot of the pass where others added to the content: such a tile stays stale.
    Tiles side by side hold together or not at all. Of what lies at their border, one might else have what it was, the
    other what it is.
    """
    if not same_files(head, snapshot, *kind.everywhere):
        return {}
    there = set(head.tiling.tiles)
    numbers = {tile: _number(kind, snapshot, head, tile, there) for tile in tiles}
    held: dict[Tile, int] = {}
    for patch in _patches(kind, snapshot, tiles):
        of_patch = {tile: number for tile in patch if (number := numbers[tile]) is not None}
        held |= of_patch if len(of_patch) == len(patch) else {}
    return {tile: held[tile] for tile in tiles if tile in held}


def _number(
    kind: Derivation[Any], snapshot: SnapshotFiles, head: SnapshotFiles, tile: Tile, there: set[Tile]
) -> int | None:
    """Number of the commit that a tile's results are of; None if they are wrong on the newer snapshot."""
    near = kind.near(snapshot, tile)
    if not there.issuperset(near) or paths_of(snapshot, [tile], kind.tables) != paths_of(head, [tile], kind.tables):
        return None
    before, after = (
        {file for name in kind.inputs for other in near for file in of.of_tile(name, other)} for of in (snapshot, head)
    )
    added = after - before
    # A rollback can bring back content that is older than the snapshot: that number would not make the tile stale.
    late = all(file.commit > snapshot.number for file in added)
    if not (before <= after and late):
        return None
    return snapshot.number if added else head.number + 1


def _patches(kind: Derivation[Any], snapshot: SnapshotFiles, tiles: Iterable[Tile]) -> Iterator[list[Tile]]:
    """Tiles in groups, each of those that are near each other, or near to such, and so on."""
    left = set(tiles)
    while left:
        patch = connected(kind.near, snapshot, [left.pop()], left)
        left.difference_update(patch)
        yield patch


def connected(near: Near, snapshot: SnapshotFiles, tiles: Iterable[Tile], among: Iterable[Tile]) -> list[Tile]:
    """Tiles, and those of others that are near, those that are near these, and so on."""
    found = list(tiles)
    left = set(among).difference(found)
    for tile in found:  # which grows as it is gone through
        beside = left.intersection(near(snapshot, tile))
        left -= beside
        found += beside
    return found
