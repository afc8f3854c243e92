"""The sets of corrections in a store, and which of them its exposures have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa

from ztfmatch.core.errors import CorrectionsError
from ztfmatch.core.io.correctionrows import read_store_set, store_rows
from ztfmatch.core.io.corrections import CorrectionFiles, CorrectionSet, read_corrections
from ztfmatch.core.io.parquet import DataFile, Destination, write_file
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.surveytables import channels_said
from ztfmatch.core.schema import COLOURS, CORRECTIONS, EXPOSURETERMS, REFERENCES
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.correct import name_for


@dataclass(frozen=True)
class Applied:
    """The set that exposures get, and the file of the store that holds it."""

    set: CorrectionSet
    file: DataFile
    new: bool
    """Whether the store has it not yet."""
    data: tuple[DataFile, ...] = ()
    """Files of what it has of single exposures and objects."""

    @property
    def new_data(self) -> tuple[DataFile, ...]:
        """Those that no snapshot has yet."""
        return self.data if self.new else ()

    def name_for(self, unit: Unit) -> str | None:
        """Name of the set, if it has anything for exposures of a unit."""
        return name_for(self.set, unit)


def current(snapshot: SnapshotFiles) -> Applied | None:
    """The set that came into the store last; None where magnitudes are uncorrected."""
    files = snapshot.of_table(CORRECTIONS.name)
    if not files:
        return None
    newest = max(files, key=lambda file: (file.commit, file.path))
    return Applied(read_store_set(snapshot.storage, newest), newest, False, _data(snapshot, newest))


def check_channels(snapshot: SnapshotFiles, held: CorrectionFiles) -> None:
    """Refuse corrections of other channels than a store has.

    Raises
    ------
    CorrectionsError
        If they have none in common.
    """
    rows = snapshot.read(REFERENCES.name, ["rcid", "fid"])
    there = set(zip(rows["rcid"].to_pylist(), rows["fid"].to_pylist(), strict=True))
    if there.isdisjoint(held.set.channels):
        raise CorrectionsError(
            f"{held.place} has corrections of {channels_said(held.set.channels)}; expected channels of "
            f"{snapshot.storage.root}: {channels_said(there)}"
        )


def register_set(snapshot: SnapshotFiles, place: Path) -> Applied:
    """The set of a directory as a file of the store, which no snapshot names yet if it is new.

    Raises
    ------
    CorrectionsError
        If the directory is none, or damaged.
    """
    held = read_corrections(place)
    corrections = held.set
    for file in snapshot.of_table(CORRECTIONS.name):
        if read_store_set(snapshot.storage, file).digest == corrections.digest:
            return Applied(corrections, file, False, _data(snapshot, file))
    part = corrections.digest[:12]
    to = Destination(snapshot.storage, CORRECTIONS, None, snapshot.number + 1, part)
    data = []
    for table in (EXPOSURETERMS, COLOURS):
        rows = held.tables.get(table.name)
        if rows is not None and len(rows):
            to_data = Destination(snapshot.storage, table, None, snapshot.number + 1, part)
            named = rows.add_column(0, "corrections", pa.array([corrections.digest] * len(rows))).select(table.names)
            data.append(write_file(to_data, named.cast(table.schema)))
    return Applied(corrections, write_file(to, store_rows(corrections)), True, tuple(data))


def _data(snapshot: SnapshotFiles, of: DataFile) -> tuple[DataFile, ...]:
    """What a snapshot has of single exposures and objects for the set of a file: written with it, under one name."""
    held = [file for table in (EXPOSURETERMS, COLOURS) for file in snapshot.of_table(table.name)]
    return tuple(file for file in held if _name_without_checksum(file) == _name_without_checksum(of))


def _name_without_checksum(file: DataFile) -> str:
    return PurePosixPath(file.path).name.rpartition("-")[0]


SET_TABLES: Final = (CORRECTIONS, EXPOSURETERMS, COLOURS)
"""Tables of which a set has rows."""
