"""Verify epochs and orphans row by row: recompute every derived value from the measured ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Array, Arrays, Ints, Mask
from ztfmatch.core.io.correctiondata import CorrectionData
from ztfmatch.core.io.correctionrows import read_store_sets
from ztfmatch.core.io.rows import UNIT, codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels import calibration
from ztfmatch.core.kernels.lookup import build_map, find_rows
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import CORRECTIONS
from ztfmatch.core.schema.ledger import BAD, MATCHFILE
from ztfmatch.core.survey import MATCHFILE_LATE_DAY
from ztfmatch.core.tasks.ledger import exposures_of_tile, mid_exposures
from ztfmatch.core.tasks.photometry import Calibration, Photometer

_LEDGER_COLUMNS: Final = (
    "exposureid", "field", "rcid", "fid", "obsmjd", "exptime", "magzp", "origin", "quality",
    "errora", "errorb", "errorc", "errord", "corrections",
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """Counts by check: how many rows were looked at, how many were wrong, and the first wrong one."""

    checked: dict[str, int] = field(default_factory=dict)
    violations: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, wrong: Mask, describe: Any) -> None:
        """Note the outcome of a check on some rows; ``describe(row)`` names the first wrong one."""
        self.checked[check] = self.checked.get(check, 0) + len(wrong)
        count = int(np.count_nonzero(wrong))
        self.violations[check] = self.violations.get(check, 0) + count
        if count and check not in self.examples:
            self.examples[check] = describe(int(np.flatnonzero(wrong)[0]))


class Ledger:
    """Ledger columns of the tile's exposures as arrays, with the row of each."""

    def __init__(self, snapshot: SnapshotFiles, tile: Tile) -> None:
        columns = exposures_of_tile(snapshot, tile, _LEDGER_COLUMNS).to_pydict()
        self.exposureid = np.array(columns["exposureid"], np.int64)
        self._map = build_map(self.exposureid)
        self.mid_mjd = mid_exposures(columns["obsmjd"], columns["exptime"])
        self.observer = calibration.observer_vectors(self.mid_mjd) if len(self.mid_mjd) else np.zeros((0, 3))
        self.imported = np.array([origin == MATCHFILE for origin in columns["origin"]], bool)
        # A time that was computed here was rounded; that of an imported epoch is the survey's, computed in its own way.
        self.late_day = np.where(self.imported, MATCHFILE_LATE_DAY, calibration.HMJD_QUANTUM_DAY)
        self.bad = np.array([quality == BAD for quality in columns["quality"]], bool)
        self.unit = codes_of_rows({name: np.array(columns[name], np.int64) for name in UNIT})
        sets = read_store_sets(snapshot.storage, snapshot.of_table(CORRECTIONS.name))
        # The checks of the store report a missing set once for all rows; here nothing is subtracted.
        names = [name if name in sets else None for name in columns["corrections"]]
        self.photometer = Photometer(Calibration.of(columns, names, CorrectionData.of(snapshot), sets), sets)

    def rows_of(self, exposureid: Ints) -> Ints:
        """Ledger row of each exposure, -1 where it has none."""
        return np.asarray(find_rows(self._map, exposureid).astype(np.int64))


def check_epochs(
    columns: Arrays,
    xyz: Floats,
    rows: Ints,
    ledger: Ledger,
    units: Ints,
    findings: Findings,
) -> None:
    """Ledger row, unit by its code, magnitude, error, flags and time of epochs or orphans at some unit vectors."""
    findings.add("ledger", rows < 0, lambda i: f"{name_of(columns, i)}: no such exposure")
    if not len(ledger.exposureid):
        return
    # From here a row without an exposure (-1) is compared with the ledger's last: it is wrong already.
    findings.add("unit", ledger.unit[rows] != units, lambda i: name_of(columns, i))
    off = calibration.times_off(columns["hmjd"], xyz, rows, ledger.mid_mjd, ledger.observer, ledger.late_day)
    findings.add("hmjd", off, lambda i: name_of(columns, i))
    _check_computed(columns, rows, ledger, findings)


def _check_computed(columns: Arrays, rows: Ints, ledger: Ledger, findings: Findings) -> None:
    """Magnitude, error and flags, of those that were computed here: imported ones are as their file has them."""
    if ledger.imported.any():
        here = np.flatnonzero(~ledger.imported[rows])
        rows, columns = rows[here], {name: values[here] for name, values in columns.items()}
    made = ledger.photometer.measure(columns, rows)
    for name, values in made.items():
        findings.add(
            name,
            _differ(values, columns[name]),
            lambda i, n=name, v=values: f"{name_of(columns, i)}: {columns[n][i]}, expected {v[i]}",
        )
    flags = calibration.catalog_flags(columns["flags"], ledger.bad[rows])
    findings.add("catflags", flags != columns["catflags"], lambda i: name_of(columns, i))


def _differ(a: Array, b: Array) -> Mask:
    differ = np.asarray(a != b)
    some = np.flatnonzero(differ)
    differ[some] = ~(np.isnan(a[some]) & np.isnan(b[some]))
    return differ


def repeated(first: Array, second: Array) -> Mask:
    """Rows whose pair of values an earlier row in their order has too; no sorting where they are in order."""
    again = np.zeros(len(first), bool)
    after = (first[1:] > first[:-1]) | ((first[1:] == first[:-1]) & (second[1:] > second[:-1]))
    if not after.all():
        order = np.lexsort((second, first))
        again[order[1:]] = (np.diff(first[order]) == 0) & (np.diff(second[order]) == 0)
    return again


def name_of(columns: Arrays, row: int) -> str:
    """A detection, for people."""
    return f"source {columns['sourceid'][row]} of exposure {columns['exposureid'][row]}"
