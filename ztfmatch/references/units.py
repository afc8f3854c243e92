"""What a snapshot has of each unit that has a reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import Row, tiles_of_footprint, unit_of
from ztfmatch.core.schema import DETECTIONS, EXPOSURES, OBJECTS, ORPHANS, REFERENCES, TRANSIENTS
from ztfmatch.core.schema.ledger import BAD
from ztfmatch.core.survey import Unit
from ztfmatch.references.kernels.selection import unit_codes
from ztfmatch.references.tasks.lightcurves import StoredCurves
from ztfmatch.references.tasks.seeds import StoredReference


def active_references(snapshot: SnapshotFiles) -> list[Row]:
    """The newest reference of each unit, by field, readout channel and filter."""
    newest: dict[Any, Row] = {}
    for row in snapshot.read(REFERENCES.name).to_pylist():
        key = row["field"], row["rcid"], row["fid"]
        if key not in newest or row["generation"] > newest[key]["generation"]:
            newest[key] = row
    return [newest[key] for key in sorted(newest)]


def stored_reference(snapshot: SnapshotFiles, row: Row) -> StoredReference:
    """A reference of a snapshot by its row, with the files that may hold its seeds."""
    tiles = () if row["ra"] is None else tuple(tiles_of_footprint(snapshot.tiling, row))
    made = StoredReference(snapshot.storage, unit_of(row), row["generation"], row["clrcoeff"], tiles, ())
    return replace(made, objects=_files(snapshot, OBJECTS.name, made))


def stored_curves(snapshot: SnapshotFiles, reference: StoredReference, ledger: UnitLedger) -> StoredCurves:
    """What a snapshot has of a unit beside its seeds."""
    transients = tuple(f for tile in reference.tiles for f in snapshot.of_tile(TRANSIENTS.name, tile))
    return StoredCurves(
        _files(snapshot, DETECTIONS.name, reference),
        transients if is_grouped(snapshot) else None,
        *ledger.of(reference.unit),
    )


def detections_since(snapshot: SnapshotFiles, reference: StoredReference, commit: int) -> tuple[DataFile, ...]:
    """Files that may hold detections of a reference's objects from exposures that a commit or later ones took in."""
    return tuple(file for file in _files(snapshot, DETECTIONS.name, reference) if file.commit >= commit)


def is_grouped(snapshot: SnapshotFiles) -> bool:
    """Whether it is known which orphans recur: they were grouped once, or there are none."""
    return bool(snapshot.of_table(TRANSIENTS.name)) or not snapshot.of_table(ORPHANS.name)


def _files(snapshot: SnapshotFiles, table: str, reference: StoredReference) -> tuple[DataFile, ...]:
    """Files of a table that may hold rows of a reference's objects."""
    span = [reference.span]
    return tuple(f for tile in reference.tiles for f in snapshot.of_tile(table, tile) if f.holds_id(span))


class UnitLedger:
    """Exposures of a snapshot by unit; the ledger is read once."""

    def __init__(self, snapshot: SnapshotFiles) -> None:
        rows = snapshot.read(EXPOSURES.name, ["exposureid", "field", "rcid", "fid", "quality", "obsmjd"])
        field, rcid, fid = (rows[name].to_numpy().astype(np.int64) for name in ("field", "rcid", "fid"))
        code, exposureid = unit_codes(field, rcid, fid), rows["exposureid"].to_numpy()
        order = np.lexsort((exposureid, code))
        self._code, self._exposureid = code[order], exposureid[order]
        good = pc.not_equal(rows["quality"].cast("string"), BAD)
        self._good = good.to_numpy()[order]
        self._obsmjd = rows["obsmjd"].to_numpy()[order]

    def of(self, unit: Unit) -> tuple[Any, Any, float]:
        """Exposureids of a unit, ascending, which of them are not bad, and days from the first to the last."""
        code = unit_codes(*(np.array([value]) for value in (unit.field, unit.rcid, unit.fid)))[0]
        first, last = np.searchsorted(self._code, [code, code + 1])
        obsmjd = self._obsmjd[first:last]
        return self._exposureid[first:last], self._good[first:last], float(np.ptp(obsmjd)) if last > first else 0.0
