"""Compare two snapshots, and roll back to an older one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ztfmatch.core.display import Displayable
from ztfmatch.core.io import log, paths
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.common import OperationId, Stopwatch
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import TABLES
from ztfmatch.core.settings import checked_value
from ztfmatch.core.tasks.staging import clear


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Rows and files of one table in one tile that two snapshots do not share."""

    table: str
    tile: str
    """Empty for tables that are not divided over the sky."""
    rows_before: int
    rows_after: int
    files_removed: int
    files_added: int


def compare(storage: Storage, before: int, after: int) -> list[Difference]:
    """What changed from one snapshot to another, by table and tile; what they share is left out."""
    first, second = open_snapshot(storage, before), open_snapshot(storage, after)
    removed, added = (
        Counter((file.table, file.tile) for file in one.files.not_in(other.files))
        for one, other in tracked([(first, second), (second, first)], "comparing lists of files")
    )
    rows = [_rows(snapshot) for snapshot in tracked([first, second], "counting rows of tiles")]
    return [
        Difference(
            table=key[0],
            tile="" if key[1] is None else str(key[1]),
            rows_before=rows[0][key],
            rows_after=rows[1][key],
            files_removed=removed[key],
            files_added=added[key],
        )
        for key in sorted(removed | added, key=lambda key: (key[0], "" if key[1] is None else str(key[1])))
    ]


def _rows(snapshot: SnapshotFiles) -> Counter[tuple[str, Tile | None]]:
    held = ((name, tile, of) for name in TABLES for tile, of in snapshot.files.by_tile(name).items())
    return Counter({(name, tile): of.rows for name, tile, of in held})


@dataclass(frozen=True, kw_only=True)
class RollbackReport(Displayable):
    """What a rollback did, or would do."""

    store: str
    snapshot: int
    """The newest snapshot afterwards."""
    restored: int
    """The snapshot whose state it has."""
    committed: bool
    differences: list[Difference]
    seconds: float


def rollback(storage: Storage, number: int, dry_run: bool = False, note: str | None = None) -> RollbackReport:
    """Commit the state of a retained snapshot again, on top of the newest; nothing is deleted.

    Raises
    ------
    SnapshotNotFoundError
        If there is no such snapshot, or no more; a vacuum may take it at any moment before the commit begins.
    CommitConflictError
        If another writer committed meanwhile.
    ConfigError
        If ``number`` is not a whole number.
    """
    watch = Stopwatch()
    number = checked_value(number, int, "snapshot")
    head = open_snapshot(storage)
    target = open_snapshot(storage, number)
    same = (target.commit.manifests, target.commit.tiling) == (head.commit.manifests, head.commit.tiling)
    differences = [] if same else compare(storage, head.number, number)
    report = RollbackReport(
        store=storage.root,
        snapshot=head.number,
        restored=number,
        committed=False,
        differences=differences,
        seconds=watch.seconds,
    )
    if same or dry_run:
        return report
    operation_id = OperationId("rollback", head.number, [number]).value
    counts = {
        "files_removed": sum(d.files_removed for d in differences),
        "files_added": sum(d.files_added for d in differences),
    }
    change = log.Change("rollback", operation_id, {"snapshot": number}, counts, [], started=watch.started, note=note)
    with _held(storage, operation_id, number):
        commit = log.restore(storage, head.commit, target.commit, change)
    return replace(report, snapshot=commit.number, committed=True, seconds=watch.seconds)


@contextlib.contextmanager
def _held(storage: Storage, operation_id: str, number: int) -> Iterator[None]:
    """Keep a vacuum from the files of a snapshot.

    A vacuum first says what it takes, then looks for what is held; this does it the other way round, so that one of
    the two sees the other.

    Raises
    ------
    SnapshotNotFoundError
        If a vacuum came first.
    """
    storage.put(paths.held_snapshot(operation_id, number), b"")
    try:
        open_snapshot(storage, number)
        yield
    finally:
        clear(storage, operation_id)
