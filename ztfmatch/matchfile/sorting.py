"""Sort inspected matchfiles and their exposures into new, known and refused ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.ledger import KnownExposures
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import EXPOSURES, MATCHFILES
from ztfmatch.core.survey import Unit
from ztfmatch.matchfile.plan import TakenFile
from ztfmatch.matchfile.tasks.inspect import InspectedMatchfile


@dataclass(frozen=True)
class Sorted:
    """Inspected files, sorted out."""

    files: list[TakenFile]
    known: int
    known_exposures: int
    refused: list[Refused]
    accepted: list[Row]
    """Rows of ``matchfiles`` of all usable ones, known or new."""


def sort_out(
    snapshot: SnapshotFiles, found: Sequence[InspectedMatchfile], refused: Sequence[Refused], named: int
) -> Sorted:
    """Which files have anything new, one a unit; by unit.

    Parameters
    ----------
    refused : sequence of Refused
        Files that are none.
    named : int
        Number of files.
    """
    stored = _Stored(snapshot, found)
    files: dict[Unit, TakenFile] = {}
    exposures: dict[int, str] = {}
    every, accepted, passed = list(refused), [], 0
    for file in sorted(found, key=lambda file: str(file.matchfile["source"])):
        row, unit = file.matchfile, unit_of(file.matchfile)
        other = files.get(unit)
        if row["sha256"] in stored.files or (other is not None and other.matchfile["sha256"] == row["sha256"]):
            accepted.append(row)
            continue
        try:
            if other is not None:
                first = other.matchfile["source"]
                said = f"a second matchfile of unit {unit}, of which {first} is taken; import it after that"
                raise CatalogError("duplicate", said)
            taken, known = stored.taken(file)
            _check_apart(taken, exposures)
        except CatalogError as error:
            every.append(Refused.read(row, error.code, error.message))
            continue
        files[unit] = taken
        exposures |= {exposure["exposureid"]: row["source"] for exposure in taken.exposures}
        passed += known
        accepted.append(row)
    ordered = sorted(files.values(), key=lambda taken: unit_of(taken.matchfile))
    return Sorted(ordered, named - len(ordered) - len(every), passed, every, accepted)


def _check_apart(taken: TakenFile, exposures: dict[int, str]) -> None:
    """Refuse a file with an exposure that another file of the same import has, of another unit."""
    for row in taken.exposures:
        if row["exposureid"] in exposures:
            where = exposures[row["exposureid"]]
            raise CatalogError("conflict", f"exposure {row['exposureid']} is of another unit in {where}")


class _Stored:
    """What the store has of the units and exposures of some files; every table is read once."""

    def __init__(self, snapshot: SnapshotFiles, found: Sequence[InspectedMatchfile]) -> None:
        self.files = checksums(snapshot)
        self._has_reference = snapshot.has_reference
        self._waiting: Counter[Unit] = Counter()
        if not all(snapshot.has_reference(unit_of(file.matchfile)) for file in found):
            ledger = snapshot.read(EXPOSURES.name, ["field", "rcid", "fid"])
            for row in ledger.group_by(ledger.column_names).aggregate([([], "count_all")]).to_pylist():
                self._waiting[unit_of(row)] += row["count_all"]
        self._exposures = KnownExposures(snapshot, [row for file in found for row in file.exposures])

    def taken(self, file: InspectedMatchfile) -> tuple[TakenFile, int]:
        """What is new in a file, and how many of its exposures are not.

        Raises
        ------
        CatalogError
            If it cannot be ingested.
        """
        unit = unit_of(file.matchfile)
        new, known = self._exposures.split(file.exposures)
        has_reference = self._has_reference(unit)
        if not has_reference and (waiting := self._waiting[unit]):
            reason = (
                f"{waiting} exposures of unit {unit} wait for a reference: give it one with 'ztfmatch rematch' first"
            )
            raise CatalogError("no-reference", reason)
        return TakenFile(file.matchfile, file.reference, file.grid, file.stamp, new, not has_reference), len(known)


def checksums(snapshot: SnapshotFiles) -> set[str]:
    """Of the matchfiles that were ingested."""
    return set(snapshot.read(MATCHFILES.name, ["sha256"])["sha256"].to_pylist())
