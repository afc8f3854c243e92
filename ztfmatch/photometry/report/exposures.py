"""Summary of the exposures of a snapshot from its ledger: by quality, by day, by residual zero point."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ints
from ztfmatch.core.io.parquet import read_file_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.schema.ledger import BAD, GOOD, UNKNOWN
from ztfmatch.core.survey import FILTER_CODES
from ztfmatch.photometry.kernels.residuals import OFFSET_BINS, OFFSET_STEP_MAG

QUALITIES: Final = (GOOD, UNKNOWN, BAD)
_COLUMNS: Final = ("fid", "quality", "obsmjd", "corrections", "relzp")
_FILTERS: Final = len(FILTER_CODES)


@dataclass
class Exposures:
    """Counts of exposures."""

    days: dict[int, Ints] = field(default_factory=dict)
    """By MJD of the day: shape (filters, qualities)."""
    relzp: Ints = field(default_factory=lambda: np.zeros((_FILTERS, OFFSET_BINS), np.int64))
    """Histogram of residual zero points, OFFSET_STEP_MAG each, those beyond at its ends."""
    corrections: Counter[str | None] = field(default_factory=Counter)
    """By name of the set of corrections; None for none."""

    @property
    def by_quality(self) -> Ints:
        """Shape (filters, qualities)."""
        return np.sum(list(self.days.values()), axis=0) if self.days else np.zeros((_FILTERS, len(QUALITIES)), np.int64)

    @property
    def total(self) -> int:
        """All exposures."""
        return int(self.by_quality.sum())

    def add(self, rows: pa.Table) -> None:
        """Add rows of the ledger."""
        fid = rows["fid"].to_numpy() - 1
        quality = pc.index_in(rows["quality"].cast(pa.string()), pa.array(QUALITIES)).to_numpy()
        days, place = np.unique(np.floor(rows["obsmjd"].to_numpy()).astype(np.int64), return_inverse=True)
        counts = np.zeros((len(days), _FILTERS, len(QUALITIES)), np.int64)
        np.add.at(counts, (place, fid, quality), 1)
        for day, some in zip(days.tolist(), counts, strict=True):
            self.days[day] = self.days[day] + some if day in self.days else some
        relzp = rows["relzp"].to_numpy().astype(np.float64)
        known = np.isfinite(relzp)
        bins = np.floor(relzp[known] / OFFSET_STEP_MAG + 0.5).astype(np.int64) + OFFSET_BINS // 2
        np.add.at(self.relzp, (fid[known], np.clip(bins, 0, OFFSET_BINS - 1)), 1)
        named = pc.value_counts(rows["corrections"].cast(pa.string())).to_pylist()
        self.corrections.update({item["values"]: item["counts"] for item in named})


def count_exposures(snapshot: SnapshotFiles) -> Exposures:
    """Count the exposures of a snapshot, one file of the ledger after the other."""
    found = Exposures()
    for file in snapshot.ledger:
        found.add(read_file_rows(snapshot.storage, file, _COLUMNS))
    return found


def days_of(found: Exposures) -> tuple[Ints, Ints]:
    """Days in order, shape (D,), and their counts, shape (D, filters, qualities)."""
    days = np.array(sorted(found.days), np.int64)
    return days, np.array([found.days[day] for day in days.tolist()], np.int64).reshape(-1, _FILTERS, len(QUALITIES))


def binned_days(found: Exposures, most: int = 60) -> tuple[Ints, Ints, int]:
    """Counts in equal runs of days, no more of them than ``most``.

    Returns
    -------
    first : int64 ndarray, shape (K,)
        MJD of the first day of each run.
    counts : int64 ndarray, shape (K, filters, qualities)
    step : int
        Days of a run.
    """
    days, counts = days_of(found)
    span = int(days[-1] - days[0] + 1) if len(days) else 1
    step = next((s for s in (1, 2, 5, 10, 30, 90) if -(-span // s) <= most), 365)
    runs = -(-span // step)
    out = np.zeros((runs, _FILTERS, len(QUALITIES)), np.int64)
    first = int(days[0]) if len(days) else 0
    np.add.at(out, (days - first) // step, counts)
    return first + step * np.arange(runs), out, step


def mjd_range(found: Exposures) -> tuple[int, int] | None:
    """First and last day, MJD."""
    return (min(found.days), max(found.days)) if found.days else None


def plain(found: Exposures) -> dict[str, dict[str, int]]:
    """By filter and quality, for machines."""
    return {
        code: dict(zip(QUALITIES, found.by_quality[fid - 1].tolist(), strict=True))
        for fid, code in FILTER_CODES.items()
        if found.by_quality[fid - 1].any()
    }
