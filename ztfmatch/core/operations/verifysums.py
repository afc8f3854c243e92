"""Compare sums over the tiles of a store with its ledger and its references.

The ledger is gone through file after file, and the sums of one tile after the other are added: of each exposure only
its key, two counts and a digest are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Arrays, Mask
from ztfmatch.core.io.correctionrows import read_store_sets
from ztfmatch.core.io.parquet import DataFile, read_file_rows
from ztfmatch.core.io.rows import units_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.common import references_by_unit
from ztfmatch.core.operations.findings import Found
from ztfmatch.core.schema import CORRECTIONS, EXPOSURES
from ztfmatch.core.survey import objectid_range, unit_of_objectid

_COUNTS: Final = ("exposureid", "nmatched", "norphans", "nrejected", "nrows")


def check_sums(snapshot: SnapshotFiles, sums: Iterable[Arrays], found: Found) -> None:
    """Compare sums of all tiles, as :meth:`~ztfmatch.core.tasks.verify.VerifiedTile.read_sums` gives those of one."""
    held = _Held(snapshot)
    objects: dict[int, int] = {}
    for part in sums:
        held.add(part)
        for unit, number in zip(part["unit"].tolist(), part["objects"].tolist(), strict=True):
            objects[unit] = objects.get(unit, 0) + number
    held.check_once(found)
    sets = frozenset(read_store_sets(snapshot.storage, snapshot.of_table(CORRECTIONS.name)))
    for file in snapshot.ledger:
        held.check(file, found)
        _check_corrections(snapshot, file, sets, found)
    _check_objects(snapshot, objects, found)


class _Held:
    """What the tiles hold of each exposure of the ledger, ascending by exposureid."""

    def __init__(self, snapshot: SnapshotFiles) -> None:
        self._snapshot = snapshot
        self._ids = np.sort(snapshot.read(EXPOSURES.name, ["exposureid"])["exposureid"].to_numpy())
        self._matched, self._orphans = (np.zeros(len(self._ids), np.int32) for _ in range(2))
        self._digest = np.zeros(len(self._ids), np.uint64)

    def add(self, sums: Arrays) -> None:
        """Add the sums of a tile, in which an exposure is once."""
        rows = np.searchsorted(self._ids, sums["exposureid"])
        self._matched[rows] += sums["matched"].astype(np.int32)
        self._orphans[rows] += sums["orphans"].astype(np.int32)
        self._digest[rows] += sums["digest"]

    def check(self, file: DataFile, found: Found) -> None:
        """Compare with what a file of the ledger says."""
        ledger = read_file_rows(self._snapshot.storage, file, [*_COUNTS, "digest"])
        said = {name: ledger[name].to_numpy() for name in _COUNTS}
        digest = ledger["digest"].to_numpy()
        rows = np.searchsorted(self._ids, said["exposureid"])
        matched, orphans, sums = self._matched[rows], self._orphans[rows], self._digest[rows]
        balanced = said["nmatched"] + said["norphans"] + said["nrejected"] == said["nrows"]
        stored = (matched == said["nmatched"]) & (orphans == said["norphans"])

        def lost(row: int) -> str:
            numbers = ", ".join(f"{name} {values[row]}" for name, values in said.items())
            counts = f"{matched[row]} matched and {orphans[row]} orphans"
            return f"{_name(self._snapshot, file, row)}: the ledger says {numbers}; the store holds {counts}"

        note(found, "conservation", ~(balanced & stored), lost)
        note(
            found,
            "digest",
            sums != digest,
            lambda i: f"{_name(self._snapshot, file, i)}: {sums[i]}, expected {digest[i]}",
        )

    def check_once(self, found: Found) -> None:
        """No exposure is there twice."""
        again = np.zeros(len(self._ids), bool)
        again[1:] = self._ids[1:] == self._ids[:-1]

        def twice(row: int) -> str:
            one = (int(self._ids[row]),) * 2
            return f"{self._snapshot.read(EXPOSURES.name, ['filename'], [one])['filename'][0]} is there twice"

        note(found, "exposures-once", again, twice)


def note(found: Found, check: str, wrong: Mask, describe: Callable[[int], str]) -> None:
    """Note the outcome of a check on some rows; ``describe(row)`` names the first wrong one."""
    rows = np.flatnonzero(wrong)
    found.note(check, len(wrong), len(rows), describe(int(rows[0])) if rows.size else None)


def _check_corrections(snapshot: SnapshotFiles, file: DataFile, sets: frozenset[str], found: Found) -> None:
    """Compare the sets that exposures name with those that the store holds, named anew from their content."""
    names = read_file_rows(snapshot.storage, file, ["corrections"])["corrections"].cast(pa.string())
    known = pc.is_in(names, pa.array([None, *sets], pa.string()))

    def missing(row: int) -> str:
        return f"{_name(snapshot, file, row)}: the store has no set {names[row]}"

    note(found, "corrections", ~known.to_numpy(), missing)


def _name(snapshot: SnapshotFiles, file: DataFile, row: int) -> str:
    return str(read_file_rows(snapshot.storage, file, ["filename"])["filename"][row])


def _check_objects(snapshot: SnapshotFiles, held: dict[int, int], found: Found) -> None:
    """Compare the number of active objects of each unit with its newest reference."""
    rows = references_by_unit(snapshot, ["nseeds"])
    firsts = (objectid_range(unit)[0] for unit in units_of_rows(rows))
    newest = dict(zip(firsts, rows["nseeds"].to_pylist(), strict=True))
    wrong = [
        f"unit {unit_of_objectid(unit)}: {held.get(unit, 0)} active objects, {seeds} seeds"
        for unit, seeds in newest.items()
        if held.get(unit, 0) != seeds
    ]
    found.note("objects", len(newest), len(wrong), wrong[0] if wrong else None)
