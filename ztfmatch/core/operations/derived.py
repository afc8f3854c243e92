"""Bring up to date what is derived from each tile's content: compute it where it is stale, and commit what holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ztfmatch.core.io import log
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.committing import Committed, commit_on_top
from ztfmatch.core.operations.common import Stopwatch, paths_of
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.staging import Function, Task

R = TypeVar("R", bound=Written)

Holding = Callable[[SnapshotFiles, SnapshotFiles, Sequence[Tile]], dict[Tile, int]]
"""Tiles computed on a snapshot whose results hold on a newer one, with the number of the commit that they are of.

A tile whose number is not that of the commit to be stays stale: others added to its content meanwhile.
"""


@dataclass(frozen=True)
class Derivation(Generic[R]):
    """What is derived, of what, and how."""

    name: str
    """Of the operation."""
    tables: tuple[str, ...]
    """Written anew for a tile."""
    function: Function[R]
    counts: tuple[str, ...]
    """Names of what results count."""
    stale: Callable[[SnapshotFiles], list[Tile]]
    """Tiles whose content is newer than what is derived from it."""
    holding: Holding


@dataclass(frozen=True)
class Derived:
    """What a pass did."""

    committed: Committed
    tiles: int
    """Committed."""
    changed: int
    """Tiles that others changed meanwhile, and that are still stale."""
    counts: dict[str, int]


class Pass(Generic[R]):
    """The results of one pass over the tiles that are stale in a snapshot.

    Parameters
    ----------
    derivation : Derivation
    snapshot : SnapshotFiles
    tasks : mapping of Tile to Task
    operation_id : str
    runner : Runner
    """

    def __init__(
        self,
        derivation: Derivation[R],
        snapshot: SnapshotFiles,
        tasks: Mapping[Tile, Task],
        operation_id: str,
        runner: Runner,
    ) -> None:
        self._kind, self._snapshot, self._operation_id = derivation, snapshot, operation_id
        job = Job(derivation.name, derivation.function, list(tasks.values()), operation_id, snapshot.storage)
        self._results = dict(zip(tasks, runner.run(job), strict=True))

    def commit(self, watch: Stopwatch, note: str | None) -> Derived:
        """Commit the tiles whose results hold on the newest snapshot.

        Raises
        ------
        CommitConflictError
            If others changed every tile meanwhile.
        """
        committed = commit_on_top(self._snapshot, lambda head: self._change(head, watch, note), self._refusal)
        head = committed.head
        held = self._holding(head)
        stale = held if head is self._snapshot else self._kind.stale(head)
        left = len(stale) - sum(number > head.number for number in held.values())
        return Derived(committed, len(held), left, self._counts(held))

    def _holding(self, head: SnapshotFiles) -> dict[Tile, int]:
        if head is self._snapshot:
            return dict.fromkeys(self._results, head.number + 1)
        return self._kind.holding(self._snapshot, head, list(self._results))

    def _refusal(self, head: SnapshotFiles) -> str | None:
        overtaken = not self._holding(head) and self._kind.stale(head)
        return f"changed all tiles of these {self._kind.name}" if overtaken else None

    def _change(self, head: SnapshotFiles, watch: Stopwatch, note: str | None) -> log.Change | None:
        held = self._holding(head)
        if not held:
            return None
        added = [replace(file, commit=number) for tile, number in held.items() for file in self._results[tile].files]
        return log.Change(
            self._kind.name,
            self._operation_id,
            {},
            self._counts(held),
            added,
            paths_of(head, held, self._kind.tables),
            started=watch.started,
            note=note,
        )

    def _counts(self, tiles: Iterable[Tile]) -> dict[str, int]:
        return {name: sum(getattr(self._results[tile], name) for tile in tiles) for name in self._kind.counts}
