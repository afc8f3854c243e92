"""The sets of corrections that a store holds, and which of them its exposures have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ztfmatch.core.io.corrections import CorrectionSet, read_corrections, read_store_set, store_rows
from ztfmatch.core.io.parquet import DataFile, Destination, write_file
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.schema import CORRECTIONS
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.correct import name_for


@dataclass(frozen=True)
class Applied:
    """The set that exposures get, and the file of the store that holds it."""

    set: CorrectionSet
    file: DataFile
    new: bool
    """Whether the store has it not yet."""

    def name_for(self, unit: Unit) -> str | None:
        """Name of the set, if it has anything for exposures of a unit."""
        return name_for(self.set, unit)


def current(snapshot: SnapshotFiles) -> Applied | None:
    """The set that came into the store last; None where magnitudes are uncorrected."""
    files = snapshot.of_table(CORRECTIONS.name)
    if not files:
        return None
    newest = max(files, key=lambda file: (file.commit, file.path))
    return Applied(read_store_set(snapshot.storage, newest), newest, False)


def register_set(snapshot: SnapshotFiles, place: Path) -> Applied:
    """The set of a directory as a file of the store, which no snapshot names yet if it is new.

    Raises
    ------
    CorrectionsError
        If the directory is none, or damaged.
    """
    corrections = read_corrections(place).set
    for file in snapshot.of_table(CORRECTIONS.name):
        if read_store_set(snapshot.storage, file).digest == corrections.digest:
            return Applied(corrections, file, False)
    to = Destination(snapshot.storage, CORRECTIONS, None, snapshot.number + 1, corrections.digest[:12])
    return Applied(corrections, write_file(to, store_rows(corrections)), True)
