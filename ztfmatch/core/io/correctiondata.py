"""Terms of corrections for single exposures and objects, read by row groups where they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ids, Singles
from ztfmatch.core.io.parquet import DataFile, read_table
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.schema import COLOURS, EXPOSURETERMS
from ztfmatch.core.schema.correctiondata import GRADIENT
from ztfmatch.core.survey import Unit, objectid_range


@dataclass(frozen=True)
class CorrectionData:
    """Files of the tables ``exposureterms`` and ``colours``."""

    storage: Storage
    files: tuple[DataFile, ...]

    @classmethod
    def of(cls, snapshot: SnapshotFiles, new: Iterable[DataFile] = ()) -> CorrectionData:
        """Those of a snapshot, and new ones that no snapshot has yet."""
        held = [*snapshot.of_table(EXPOSURETERMS.name), *snapshot.of_table(COLOURS.name)]
        there = {file.path for file in held}
        return cls(snapshot.storage, (*held, *(file for file in new if file.path not in there)))

    def _of(self, table: str) -> list[DataFile]:
        return [file for file in self.files if file.table == table]

    def gradients(self, sets: Sequence[str | None], fields: Sequence[int], exposureid: Ids) -> Floats:
        """Gradient of each exposure by the set that it has, zero where it has none; shape (E, 6)."""
        out = np.zeros((len(exposureid), len(GRADIENT)))
        ranges = [(field, field) for field in sorted(set(fields))]
        rows = read_table(self.storage, self._of(EXPOSURETERMS.name), EXPOSURETERMS, ranges=ranges, key="field")
        if not len(rows):
            return out
        wanted = {(name, key): i for i, (name, key) in enumerate(zip(sets, exposureid.tolist(), strict=True))}
        rows = rows.filter(pc.is_in(rows["exposureid"], pa.array(exposureid)))
        keys = zip(rows["corrections"].cast(pa.string()).to_pylist(), rows["exposureid"].to_pylist(), strict=True)
        place = np.array([wanted.get(key, -1) for key in keys], np.int64)
        numbers = np.stack([rows[name].to_numpy() for name in GRADIENT], axis=1)
        out[place[place >= 0]] = numbers[place >= 0]
        return out

    def colours(self, name: str, units: Iterable[Unit]) -> Colours:
        """Colours of the objects of some units that a set has."""
        ranges = sorted({objectid_range(unit) for unit in units})
        rows = read_table(self.storage, self._of(COLOURS.name), COLOURS, ranges=ranges)
        rows = rows.filter(pc.equal(rows["corrections"].cast(pa.string()), name)).sort_by("objectid")
        return Colours(rows["objectid"].to_numpy(), rows["colour"].to_numpy())


@dataclass(frozen=True)
class Colours:
    """Of objects, ascending by objectid."""

    objectid: Ids
    colour: Singles

    def of(self, objectid: Ids) -> Singles:
        """Colour of each object; NaN for none."""
        if not len(self.objectid):
            return np.full(len(objectid), np.nan, np.float32)
        place = find_sorted(self.objectid, objectid)
        return np.where(place >= 0, self.colour[place], np.float32(np.nan)).astype(np.float32)
