"""What became of a store's objects between two of its snapshots: new, gone, changed, by what the two do not share.

Of each place on the sky those files are read that one of the snapshots has and the other lacks. An epoch that moved
from one file to another counts for both and cancels out, so that a compaction changes no object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids, Mask
from ztfmatch.core.display import Displayable
from ztfmatch.core.io.parquet import DataFile, OpenFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import find_sorted, is_among
from ztfmatch.core.operations.common import Stopwatch
from ztfmatch.core.progress import tracked
from ztfmatch.core.schema import DETECTIONS, OBJECTS
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.release.difference import CHANGED, GONE, NEW, changed_rows, digest_of, schema_of
from ztfmatch.release.successors import Successors

_BATCH_ROWS: Final = 1 << 18
_VALUES: Final = tuple(name for name in DETECTIONS.names if name != "objectid")

SCHEMA: Final = schema_of("epochs")
"""Rows of what differs: how many epochs more."""


@dataclass(frozen=True, kw_only=True)
class ObjectChanges(Displayable):
    """How the objects of two snapshots differ."""

    store: str
    snapshots: tuple[int, int]
    new: int
    gone: int
    """Retired, or of no snapshot before."""
    changed: int
    """With other epochs, or other values of them."""
    epochs: int
    """How many more there are."""
    lineage: dict[str, int]
    """Of those that are gone, by kind of lineage; 'none' have none."""
    succeeded: int
    """Of those that are gone, how many have a successor in the newest generation."""
    seconds: float


@dataclass
class SnapshotComparison:
    """Two snapshots of a store, compared as :meth:`rows` are asked for; then there is a report.

    In memory are the objects of one tile, or of those that it was divided into, and of all of them that are gone.
    """

    before: SnapshotFiles
    after: SnapshotFiles
    _counts: Counter[str] = field(default_factory=Counter)
    _watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        self._links = Successors(self.after)

    def rows(self) -> Iterator[pa.Table]:
        """What differs, tile by tile."""
        removed = _by_place(self.before, self.after)
        added = _by_place(self.after, self.before)
        for files in tracked(_side_by_side(removed, added), "comparing tiles"):
            yield self._compared(*files)

    def _compared(self, removed: Sequence[DataFile], added: Sequence[DataFile]) -> pa.Table:
        storage = self.after.storage
        were, are = (_active(storage, files) for files in (removed, added))
        new, gone = are[~is_among(are, were)], were[~is_among(were, are)]
        ids, epochs, differs = _net([(storage, removed, -1), (storage, added, 1)])
        changed = differs & ~is_among(ids, new) & ~is_among(ids, gone)
        self._counts.update({NEW: len(new), GONE: len(gone), CHANGED: int(changed.sum()), "epochs": int(epochs.sum())})
        parts = [(new, NEW, {}), (ids[changed], CHANGED, {}), (gone, GONE, self._links.of(gone))]
        return pa.concat_tables(
            changed_rows(SCHEMA, change, objectid=one, epochs=_epochs_of(one, ids, epochs), **links)
            for one, change, links in parts
        ).sort_by("objectid")

    def report(self) -> ObjectChanges:
        """What differs, in numbers; of all :meth:`rows`."""
        return ObjectChanges(
            store=self.after.storage.root,
            snapshots=(self.before.number, self.after.number),
            new=self._counts[NEW],
            gone=self._counts[GONE],
            changed=self._counts[CHANGED],
            epochs=self._counts["epochs"],
            lineage=self._links.kinds,
            succeeded=self._links.succeeded,
            seconds=self._watch.seconds,
        )


Places = dict[tuple[int, int], list[DataFile]]
"""Files by the range of the sky that their tile is."""


def _by_place(snapshot: SnapshotFiles, other: SnapshotFiles) -> Places:
    """Files of objects and detections that are not in the other snapshot."""
    found: Places = {}
    for file in snapshot.files.not_in(other.files):
        if file.table in (OBJECTS.name, DETECTIONS.name) and file.tile is not None:
            found.setdefault(file.tile.fine_range, []).append(file)
    return found


def _side_by_side(removed: Places, added: Places) -> list[tuple[list[DataFile], list[DataFile]]]:
    """Files of both of each place; a tile that was divided is one place with those that it became."""
    groups: list[tuple[list[DataFile], list[DataFile]]] = []
    end = -1
    for first, stop in sorted(removed.keys() | added.keys(), key=lambda place: (place[0], -place[1])):
        if first >= end:
            groups.append(([], []))
        end = max(end, stop)
        groups[-1][0].extend(removed.get((first, stop), ()))
        groups[-1][1].extend(added.get((first, stop), ()))
    return groups


def _active(storage: Storage, files: Sequence[DataFile]) -> Ids:
    """Active objects in files, ascending."""
    parts = [np.zeros(0, np.int64)]
    for file in files:
        if file.table == OBJECTS.name:
            batches = OpenFile(storage, file).batches(["objectid", "status"], _BATCH_ROWS)
            parts += [rows["objectid"].filter(pc.equal(rows["status"], ACTIVE)).to_numpy() for rows in batches]
    return np.sort(np.concatenate(parts))


def _net(sides: Sequence[tuple[Storage, Sequence[DataFile], int]]) -> tuple[Ids, Ids, Mask]:
    """Objects of some files, ascending; how many epochs more they have, and whether any epoch differs."""
    ids, epochs, digests = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for storage, files, sign in sides:
        for file in files:
            if file.table != DETECTIONS.name:
                continue
            for batch in OpenFile(storage, file).batches(DETECTIONS.names, _BATCH_ROWS):
                one = batch["objectid"].to_numpy()
                starts = np.flatnonzero(np.diff(one, prepend=-1))
                ids.append(one[starts])
                epochs.append(sign * np.diff(np.append(starts, len(one))))
                total = np.add.reduceat(digest_of(batch, _VALUES), starts)
                digests.append(total if sign > 0 else -total)
    known, at = np.unique(np.concatenate(ids), return_inverse=True)
    more, differs = np.zeros(len(known), np.int64), np.zeros(len(known), np.uint64)
    np.add.at(more, at, np.concatenate(epochs))
    np.add.at(differs, at, np.concatenate(digests))
    return known, more, (more != 0) | (differs != 0)


def _epochs_of(ids: Ids, known: Ids, epochs: Ids) -> Ids:
    """How many epochs more some objects have; 0 of those without any."""
    return np.append(epochs, 0)[find_sorted(known, ids)]
