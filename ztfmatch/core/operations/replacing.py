"""Remove exposures that an append replaces, with everything derived from them.

Nothing of it is seen before the append's commit, and the snapshot before that keeps it. What is written follows the
files that hold rows of the exposures: a tile's files of one batch, or those of its merged runs that have their objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ztfmatch.core.errors import JobFailedError
from ztfmatch.core.io import paths
from ztfmatch.core.io.arrays import encode_arrays
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.operations.common import (
    WORKER_BASE_BYTES,
    files_of,
    paths_of,
    same_files,
    total,
    units_of,
    write_table,
)
from ztfmatch.core.operations.footprintoverlap import Touched
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import EXPOSURES, ORPHANS, STATISTICS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.schema.transients import TRANSIENT_TABLES
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.ledger import revise

if TYPE_CHECKING:  # an append that replaces nothing does without what this needs
    from ztfmatch.core.tasks.remove import RemoveTask


@dataclass(frozen=True)
class Leaving:
    """What leaves the store with some exposures, and what stands in its place."""

    snapshot: SnapshotFiles
    tiles: tuple[Tile, ...] = ()
    """Those that the exposures touch."""
    files: tuple[DataFile, ...] = ()
    removed: frozenset[str] = frozenset()

    def files_on(self, head: SnapshotFiles) -> list[DataFile]:
        """Files as a commit on a snapshot has them; transients do not know of orphans that others added since."""
        number = head.number + 1
        older = self.snapshot.number if head is not self.snapshot else number
        return [replace(file, commit=older if file.table in TRANSIENT_TABLES else number) for file in self.files]

    def removed_on(self, head: SnapshotFiles) -> frozenset[str]:
        """Files that leave; the statistics of the tiles too, since objects may have lost their last epoch."""
        return self.removed | paths_of(head, self.tiles, [STATISTICS.name])

    def refusal(self, head: SnapshotFiles) -> str | None:
        """Why it does not hold on a newer snapshot."""
        if not self.removed:
            return None
        if not self.removed <= set(head.files.paths()):
            return "changed files that would be replaced"
        if not same_files(head, self.snapshot, TRANSIENTS, TRANSIENTDATA):
            return "changed the transients"
        return None


@dataclass(frozen=True)
class Arriving:
    """What is committed with it."""

    ledger: pa.Table
    """Ledger rows of new exposures, as they will be."""
    files: Sequence[DataFile]
    """Of their detections and orphans."""


def take_out(
    snapshot: SnapshotFiles, ledger: pa.Table, arriving: Arriving, operation_id: str, runner: Runner
) -> Leaving:
    """Write the tiles' and ledger's files that hold rows of some exposures without these.

    Parameters
    ----------
    snapshot : SnapshotFiles
    ledger : pa.Table
        Ledger rows of the exposures, ascending by exposureid.
    arriving : Arriving
        Transients are grouped with these orphans.
    operation_id : str
    runner : Runner

    Raises
    ------
    JobFailedError
        If the tiles do not hold all rows that the ledger says; nothing is committed.
    """
    from ztfmatch.core.operations.ledgerrevision import drop_tasks
    from ztfmatch.core.operations.transients import group_again
    from ztfmatch.core.tasks.remove import projected_bytes, remove_from_tile

    storage, ids = snapshot.storage, ledger["exposureid"].to_numpy()
    tasks = _remove_tasks(snapshot, ledger, operation_id)
    runner.check_memory({task.key: WORKER_BASE_BYTES + projected_bytes(task) for task in tasks})
    taken = runner.run(Job("replacing", remove_from_tile, tasks, operation_id, storage))
    gone, expected = sum(result.rows for result in taken), total(ledger, "nmatched") + total(ledger, "norphans")
    if gone != expected:
        raise JobFailedError(
            f"{storage.root}: the ledger says that {len(ids)} exposures have {expected} detections and orphans; {gone} "
            "were found, so that nothing was committed: run 'ztfmatch verify'"
        )
    rows = runner.run(Job("ledger", revise, drop_tasks(snapshot, ids, operation_id), operation_id, storage))
    tiles = tuple(task.tile for task in tasks)
    files = files_of(taken) + files_of(rows)
    removed = frozenset(path for result in (*taken, *rows) for path in result.removed)
    leaving = Leaving(snapshot, tiles, tuple(files), removed)
    if not snapshot.files.has(TRANSIENTS.name):
        return leaving
    changed = {task.tile: set(task.units) for task in tasks}
    for tile, units in touched_tiles(snapshot, arriving.ledger).items():
        changed.setdefault(tile, set()).update(units)
    files += [
        *arriving.files,
        *write_table(storage, EXPOSURES, arriving.ledger, snapshot.number + 1, operation_id[:12]),
    ]
    staged = StagedFiles.write(
        snapshot, operation_id, [file for file in files if file.table in (ORPHANS.name, EXPOSURES.name)], removed
    )
    transients, replaced = group_again(staged, tiles, changed, runner, operation_id)
    return replace(leaving, files=(*leaving.files, *transients), removed=leaving.removed | replaced)


def _remove_tasks(snapshot: SnapshotFiles, ledger: pa.Table, operation_id: str) -> list[RemoveTask]:
    """One task for each tile that the exposures reach into."""
    from ztfmatch.core.tasks.remove import RemoveTask

    path = paths.staged_array(operation_id, "leaving")
    arrays = {name: ledger[name].to_numpy() for name in ("exposureid", "obsmjd")}
    snapshot.storage.put(path, encode_arrays(arrays))
    return [
        RemoveTask(f"remove-{tile.key}", snapshot, tile, tuple(sorted(units)), path, f"{operation_id[:12]}-out")
        for tile, units in sorted(touched_tiles(snapshot, ledger).items(), key=lambda item: item[0].fine_range)
    ]


def touched_tiles(snapshot: SnapshotFiles, ledger: pa.Table) -> dict[Tile, set[Unit]]:
    """Tiles that exposures touch, and the units of these; exposures of a unit at about one place count as one."""
    units, which = units_of(ledger)
    order = np.argsort(which, kind="stable")
    pairs = Touched.of(snapshot.tiling, ledger.take(pa.array(order)), which[order]).units(which[order])
    touched: dict[Tile, set[Unit]] = {}
    for tile, unit in pairs.T.tolist():
        touched.setdefault(snapshot.tiling.tiles[tile], set()).add(units[unit])
    return touched
