"""Units with their references and ledger rows in a snapshot, read file by file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Floats, Ints
from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.io.parquet import IdRange, read_file_rows
from ztfmatch.core.io.rows import FOOTPRINT, UNIT, codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, arcsec_of_chord2, unit_vector
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import EXPOSURES, REFERENCES
from ztfmatch.core.survey import units_of_codes

_COUNTS: Final = ("nmatched", "norphans")
_CODES: Final = 1 << 23
"""More than any unit's: a field is a number of 15 bits."""


def codes_of_units_held(snapshot: SnapshotFiles) -> Ints:
    """Codes of all units that have a reference or exposures, ascending."""
    there = np.zeros(_CODES, bool)
    for rows in _rows(snapshot, UNIT):
        there[codes_of_rows(rows)] = True
    return np.flatnonzero(there)


@dataclass(frozen=True)
class Held:
    """What there is of some units, shape (U,) each."""

    code: Ints
    """Ascending."""
    centre: Floats
    """Unit vector of a place of each, shape (U, 3); NaN where none has a row that can be used."""
    reach: Floats
    """Radians from there within which all of its rows are."""
    epochs: Ints
    orphans: Ints

    @classmethod
    def of(cls, snapshot: SnapshotFiles, codes: Ints) -> Held:
        """Of units by their codes, ascending."""
        epochs, orphans = np.zeros((2, len(codes)), np.int64)
        held = cls(codes, np.full((len(codes), 3), np.nan), np.zeros(len(codes)), epochs, orphans)
        fields = [(field, field) for field in np.unique(units_of_codes(codes)[0]).tolist()]
        for rows in _rows(snapshot, (*UNIT, *FOOTPRINT, *_COUNTS), fields):
            held._add(rows)
        return held

    def _add(self, rows: pa.Table) -> None:
        at = find_sorted(self.code, codes_of_rows(rows))
        for name, total in zip(_COUNTS, (self.epochs, self.orphans), strict=True):
            if name in rows.column_names:
                np.add.at(total, at[at >= 0], rows[name].to_numpy()[at >= 0])
        ra, dec, radius = (rows[name].to_numpy().astype(np.float64) for name in FOOTPRINT)
        used = np.flatnonzero((at >= 0) & np.isfinite(ra))
        at, xyz = at[used], unit_vector(ra[used], dec[used])
        # The first row of a unit is its centre, and the farthest from there its reach: nothing is kept of the others.
        first = np.isnan(self.centre[at, 0])
        self.centre[at[first]] = xyz[first]
        away = arcsec_of_chord2(((xyz - self.centre[at]) ** 2).sum(axis=1)) / ARCSEC_PER_RADIAN
        np.maximum.at(self.reach, at, away + np.radians(radius[used]) + MARGIN_ARCSEC / ARCSEC_PER_RADIAN)

    def tiles(self, snapshot: SnapshotFiles, row: int) -> tuple[Tile, ...]:
        """Tiles that have anything of a unit, and perhaps others."""
        if np.isnan(self.centre[row, 0]):
            return ()
        return tuple(sorted(snapshot.tiling.touched_by_cap(self.centre[row], float(self.reach[row]))))


def _rows(snapshot: SnapshotFiles, columns: tuple[str, ...], fields: list[IdRange] | None = None) -> Iterator[pa.Table]:
    """Those columns that a table has, of the references and of each file of the ledger; of some fields, if given."""
    for table in (REFERENCES, EXPOSURES):
        own = [name for name in columns if name in table.names]
        for file in snapshot.of_table(table.name):
            yield read_file_rows(snapshot.storage, file, own, fields, "field")
