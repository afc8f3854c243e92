"""One object before and after its reference was regenerated, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Mask
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io import log
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.plain import Row
from ztfmatch.core.schema.lineage import LOST
from ztfmatch.query.lightcurves import Selection, find_objects, lightcurve_table
from ztfmatch.query.lineage import lineage_table


@dataclass(frozen=True, kw_only=True)
class Regeneration(Displayable):
    """The epochs of a retired object and of the one that took its place."""

    old: Row
    """The retired object: a row of ``objects``."""
    new: Row | None
    """Its successor; None if it was lost."""
    kind: str
    """What became of it, as lineage says."""
    radius_arcsec: float
    """Within which detections match."""
    epochs: pa.Table
    """Epochs of either, by time, with the columns of a lightcurve query."""
    was: Mask
    """Which of them were epochs of the old object, shape (N,)."""
    now: Mask
    """Which are epochs of the new one."""

    def _fields(self) -> Mapping[str, Any]:
        ids = {"old objectid": self.old["objectid"], "new objectid": None if self.new is None else self.new["objectid"]}
        epochs = {"epochs": len(self.was), "kept": self.kept, "regained": self.regained, "given up": self.given_up}
        return {**ids, "kind": self.kind, **epochs}

    @property
    def kept(self) -> int:
        """Epochs of both."""
        return int((self.was & self.now).sum())

    @property
    def regained(self) -> int:
        """Epochs that only the new object has."""
        return int((self.now & ~self.was).sum())

    @property
    def given_up(self) -> int:
        """Epochs that only the old object had."""
        return int((self.was & ~self.now).sum())


def regeneration_of(storage: Storage, objectid: int) -> Regeneration:
    """Compare a retired object with its successor: of several the one that shares most detections with it.

    Parameters
    ----------
    objectid : int
        Of a retired object.

    Raises
    ------
    ConfigError
        If no such object was retired.
    SnapshotNotFoundError
        If the snapshot from before was given up by a vacuum.
    """
    head = open_snapshot(storage)
    links = [row for row in lineage_table(head, [objectid]).to_pylist() if row["objectid"] == objectid]
    if not links:
        raise ConfigError(f"object {objectid} is not a retired one: no reference of its unit took its place")
    link = max(links, key=lambda row: (row["nshared"], -(row["newobjectid"] or 0)))
    before = open_snapshot(storage, link["snapshot"])
    after = _after(head, link)
    parts = [lightcurve_table(before, Selection((objectid,)))]
    successor = None if link["kind"] == LOST else link["newobjectid"]  # else its epochs are orphans, or a transient
    if successor is not None:
        parts.append(lightcurve_table(after, Selection((successor,))))
    epochs, was, now = _united(parts)
    new = None if successor is None else _object(after, successor)
    return Regeneration(
        old=_object(before, objectid),
        new=new,
        kind=link["kind"],
        radius_arcsec=head.config.radius_arcsec,
        epochs=epochs,
        was=was,
        now=now,
    )


def _after(head: SnapshotFiles, link: Row) -> SnapshotFiles:
    """The first snapshot after the rematch that retired the object: its lineage has the link."""
    for number in range(link["snapshot"] + 1, head.number):
        if log.read_commit(head.storage, number).operation == "rematch":
            snapshot = open_snapshot(head.storage, number)
            if lineage_table(snapshot, [link["objectid"]]).num_rows:
                return snapshot
    return head


def _object(snapshot: SnapshotFiles, objectid: int) -> Row:
    row: Row = find_objects(snapshot, Selection((objectid,))).to_pylist()[0]
    return row


def _united(parts: list[pa.Table]) -> tuple[pa.Table, Mask, Mask]:
    """Epochs of an old and perhaps a new object, each detection once, by time; and which of both each is of."""
    rows = pa.concat_tables(parts)
    keys = np.stack([rows[name].to_numpy().astype(np.int64) for name in ("exposureid", "sourceid")])
    _, first, which = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    which, n_old = which.reshape(-1), parts[0].num_rows
    was, now = np.zeros(len(first), bool), np.zeros(len(first), bool)
    was[which[:n_old]], now[which[n_old:]] = True, True
    rows = rows.take(pa.array(first))
    order = np.argsort(rows["hmjd"].to_numpy(), kind="stable")
    return rows.take(pa.array(order)), was[order], now[order]
