"""Commit what an operation made, on top of what others committed meanwhile where it still holds.

An operation works on the snapshot that it opened, for hours perhaps, and others commit in that time. Each says in one
function what to commit on a given snapshot, and in another why its work does not hold on a newer one; the loop
between them is here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ztfmatch.core.errors import CommitConflictError
from ztfmatch.core.io import log
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.tasks.staging import clear

Build = Callable[[SnapshotFiles], log.Change | None]
"""What to commit on top of a snapshot; None where nothing is left to commit."""

StillValid = Callable[[SnapshotFiles], str | None]
"""Why the work does not hold on a newer snapshot, as the end of 'another writer ...'; None where it holds."""


@dataclass(frozen=True)
class Committed:
    """What came of it."""

    snapshot: SnapshotFiles
    """The one committed; the newest, if there was nothing to commit."""
    change: log.Change | None

    @property
    def size(self) -> int:
        """Bytes of the files added."""
        return 0 if self.change is None else sum(file.size for file in self.change.added)


def commit_on_top(snapshot: SnapshotFiles, build: Build, still_valid: StillValid) -> Committed:
    """Commit a change to a snapshot, or to the newest one if others came first.

    Staged results of the operation are forgotten once they are committed.

    Parameters
    ----------
    snapshot : SnapshotFiles
        On which the work was done.
    build, still_valid : callable
        ``build`` is called with ``snapshot``, then with each newer one that ``still_valid`` lets through.

    Raises
    ------
    CommitConflictError
        If the work does not hold on the newest snapshot; nothing of it is visible.
    """
    head = snapshot
    while True:
        change = build(head)
        if change is None:
            return Committed(head, None)
        try:
            commit = log.commit(head.storage, head.commit, change)
        except CommitConflictError:
            head = open_snapshot(head.storage)
            reason = still_valid(head)
            if reason is not None:
                raise CommitConflictError(
                    f"{head.storage.root}: another writer {reason} (snapshot {head.number}, {head.commit.operation}) "
                    f"during this {change.operation}; nothing of it is visible: run it again"
                ) from None
            continue
        clear(head.storage, change.operation_id)
        return Committed(replace(head, commit=commit), change)
