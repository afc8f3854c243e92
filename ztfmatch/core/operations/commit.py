"""Commit the result of an operation, on top of other commits made meanwhile where it still holds.

An operation works on the snapshot that it opened, for hours perhaps, and others commit in that time. Each says in one
function what to commit on a given snapshot, and in another why its work does not hold on a newer one; the loop
between them is here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import CommitConflictError
from ztfmatch.core.io import log
from ztfmatch.core.io.snapshot import SnapshotFiles, newest_snapshot
from ztfmatch.core.tasks.staging import clear

Build = Callable[[SnapshotFiles], log.Change | None]
"""What to commit on top of a snapshot; None where nothing is left to commit."""

StillValid = Callable[[SnapshotFiles], str | None]
"""Why the work does not hold on a newer snapshot, as the end of 'another writer ...'; None where it holds."""


class CommitFields(TypedDict):
    """Fields of every :class:`CommitReport`."""

    store: str
    snapshot: int
    committed: bool


@dataclass(frozen=True)
class Committed:
    """What was committed."""

    head: SnapshotFiles
    """On top of which; the newest snapshot, if there was nothing to commit."""
    change: log.Change | None

    @property
    def done(self) -> bool:
        """Whether there was anything to commit."""
        return self.change is not None

    @property
    def number(self) -> int:
        """Number of the newest snapshot."""
        return self.head.number + self.done

    @property
    def tiles(self) -> int:
        """Number of tiles that files were added to."""
        added = () if self.change is None else self.change.added
        return len({file.tile for file in added} - {None})

    @property
    def size(self) -> int:
        """Bytes of the files added."""
        return 0 if self.change is None else sum(file.size for file in self.change.added)

    @property
    def fields(self) -> CommitFields:
        """Fields of its report."""
        return {"store": self.head.storage.root, "snapshot": self.number, "committed": self.done}


@dataclass(frozen=True, kw_only=True)
class CommitReport(Displayable):
    """Report of an operation that commits."""

    store: str
    snapshot: int
    """The newest one, after it."""
    committed: bool
    """False if there was nothing to commit, or in a dry run."""


def commit_on_top(snapshot: SnapshotFiles, build: Build, still_valid: StillValid) -> Committed:
    """Commit a change to a snapshot, or to the newest one if others came first.

    Staged results of the operation are forgotten once they are committed, or others left nothing of them to commit.

    Parameters
    ----------
    snapshot : SnapshotFiles
        On which the work was done; what :func:`~ztfmatch.core.io.snapshot.before_first` gives for a store to be made.
    build, still_valid : callable
        ``build`` is called with ``snapshot``, then with each newer one that ``still_valid`` lets through.

    Raises
    ------
    CommitConflictError
        If the work does not hold on the newest snapshot; nothing of it is visible.
    """
    head, tried = snapshot, None
    while (change := build(head)) is not None:
        try:
            log.commit(head.storage, None if head.number < 0 else head.commit, change)
        except CommitConflictError:
            head, tried = newest_snapshot(head.storage), change
            _check(head, still_valid(head), change.operation)
            continue
        clear(head.storage, change.operation_id)
        return Committed(head, change)
    if tried is not None:
        clear(head.storage, tried.operation_id)
    return Committed(head, None)


def _check(head: SnapshotFiles, reason: str | None, operation: str) -> None:
    if reason is not None:
        raise CommitConflictError(
            f"{head.storage.root}: another writer {reason} (snapshot {head.number}, {head.commit.operation}) during "
            f"this {operation}; nothing of it is visible: run it again"
        )
