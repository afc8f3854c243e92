"""Successors of objects that are gone: the links in the lineage of a store, followed to the newest generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Ids
from ztfmatch.core.io.parquet import DataFile, read_file_rows, read_table
from ztfmatch.core.io.rows import UNIT, unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.schema import LINEAGE
from ztfmatch.core.schema.lineage import LINEAGE_KINDS
from ztfmatch.core.survey import IDS_OF_A_UNIT, MAX_OBJECTID, Unit, unit_of_objectid

NO_LINK: Final = "none"
"""Of an object that is gone and has no lineage: the scope has it no more."""


@dataclass
class Successors:
    """Looks up the successors of objects, and counts them by kind of link."""

    snapshot: SnapshotFiles | None
    """Whose lineage is used; None for none."""
    succeeded: int = 0
    """How many have a successor object in the newest generation."""
    _kinds: Counter[str] = field(default_factory=Counter)

    def of(self, gone: Ids) -> dict[str, pa.Array]:
        """Columns ``kind`` and ``newobjectid`` of objects, ascending: as :func:`links_of`, null where the line ends."""
        if self.snapshot is None:
            return {}
        kind, newest = links_of(self.snapshot, gone)
        self._kinds.update({name: int((kind == name).sum()) for name in (*LINEAGE_KINDS, NO_LINK)})
        self.succeeded += int(((newest > 0) & (newest <= MAX_OBJECTID)).sum())  # a transient is no successor
        return {"kind": pa.array(kind, pa.string()), "newobjectid": pa.array(newest, mask=newest <= 0)}

    @property
    def kinds(self) -> dict[str, int]:
        """Number of objects by kind of link."""
        return {name: number for name, number in self._kinds.items() if number}


def links_of(snapshot: SnapshotFiles, ids: Ids) -> tuple[npt.NDArray[np.object_], Ids]:
    """Successors of retired objects.

    Parameters
    ----------
    ids : int64 ndarray, shape (N,)
        Ascending.

    Returns
    -------
    kind : object ndarray, shape (N,)
        Of the link to the successor with which it shares most detections; NO_LINK where there is none.
    newest : int64 ndarray, shape (N,)
        The last in the line of successors, not retired itself; of a lost object a transient, or 0.
    """
    kind, newest = np.full(len(ids), NO_LINK, object), np.zeros(len(ids), np.int64)
    for files in _files_by_unit(snapshot, ids):
        rows = read_table(snapshot.storage, files, LINEAGE, ["objectid", "newobjectid", "kind", "nshared"])
        rows = rows.filter(rows["objectid"].is_valid())
        old, new = (rows[name].fill_null(0).to_numpy() for name in ("objectid", "newobjectid"))
        order = np.lexsort((-rows["nshared"].to_numpy(), old))
        first = order[np.unique(old[order], return_index=True)[1]]
        old, new, kinds = old[first], new[first], rows["kind"].take(pa.array(first)).cast(pa.string()).to_numpy()
        mine = np.flatnonzero(is_among(ids, old))
        at = np.searchsorted(old, ids[mine])
        kind[mine], newest[mine] = kinds[at], _ends(old, new)[at]
    return kind, newest


def _ends(old: Ids, new: Ids) -> Ids:
    """Where the line of each object ends: links are followed as long as their end is retired too."""
    ends = new.copy()
    while len(again := np.flatnonzero(is_among(ends, old))):
        ends[again] = new[np.searchsorted(old, ends[again])]
    return ends


def _files_by_unit(snapshot: SnapshotFiles, ids: Ids) -> Iterator[list[DataFile]]:
    """Files of the lineage of the units of some objects, unit by unit; each is of one."""
    units: dict[Unit, list[DataFile]] = {}
    for file in snapshot.of_table(LINEAGE.name):
        if file.min_id is not None:  # else all of its objects are new
            units.setdefault(_unit_of(snapshot, file), []).append(file)
    wanted = {unit_of_objectid(int(number)) for number in ids[np.unique(ids // IDS_OF_A_UNIT, return_index=True)[1]]}
    yield from (files for unit, files in units.items() if unit in wanted)


def _unit_of(snapshot: SnapshotFiles, file: DataFile) -> Unit:
    if file.min_id is not None and file.min_id <= MAX_OBJECTID:
        return unit_of_objectid(file.min_id)
    return unit_of(read_file_rows(snapshot.storage, file, UNIT).slice(0, 1).to_pylist()[0])
