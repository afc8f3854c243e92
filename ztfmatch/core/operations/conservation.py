"""Check before a commit that every catalog row is counted once: matched, orphan or rejected."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.errors import JobFailedError
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.tasks.results import ExposureCounts, Matched

Numbers = npt.NDArray[np.int64]


class Tally:
    """What became of the detections of some exposures, over all tiles, added up as results come.

    Parameters
    ----------
    ledger : pa.Table
        Of these exposures, with ``exposureid``, ``nrows`` and ``nrejected``; with ``source`` that names them in errors.
    """

    def __init__(self, ledger: pa.Table) -> None:
        self._counts = ledger.select([name for name in ("source", "nrows", "nrejected") if name in ledger.column_names])
        self.exposureid: Numbers = ledger["exposureid"].to_numpy()
        self._order = np.argsort(self.exposureid)
        self.matched: Numbers = np.zeros(len(self.exposureid), np.int64)
        self.orphans: Numbers = np.zeros(len(self.exposureid), np.int64)

    def add(self, counts: ExposureCounts) -> None:
        """Add what became of detections in some tiles."""
        ids = np.array(counts.exposureid, np.int64)
        where = self._order[np.searchsorted(self.exposureid, ids, sorter=self._order)]
        np.add.at(self.matched, where, np.array(counts.matched, np.int64))
        np.add.at(self.orphans, where, np.array(counts.orphans, np.int64))

    def check(self) -> None:
        """Check that each detection is in one tile, and only in one.

        Raises
        ------
        JobFailedError
            If not: nothing is committed.
        """
        counts = self._counts
        wrong = self.matched + self.orphans + counts["nrejected"].to_numpy() != counts["nrows"].to_numpy()
        for i in np.flatnonzero(wrong)[:1].tolist():
            row = counts.slice(i, 1).to_pylist()[0]
            name = row.get("source", f"exposure {self.exposureid[i]}")
            raise JobFailedError(
                f"{name}: {row['nrows']} rows, but {self.matched[i]} matched + {self.orphans[i]} orphans + "
                f"{row['nrejected']} rejected; nothing was committed. This is a defect of ztfmatch: please report it"
            )


def with_counts(ledger: pa.Table, results: Iterable[Matched], commit: int) -> pa.Table:
    """The ledger of a commit with what became of its detections; raises as :meth:`Tally.check` does.

    Parameters
    ----------
    ledger : pa.Table
        Of the commit's exposures; columns that it lacks are null.
    results : iterable of Matched
    commit : int
    """
    tally = Tally(ledger)
    for result in results:
        tally.add(result.counts)
    tally.check()
    number = ledger.num_rows
    made = {"nmatched": tally.matched, "norphans": tally.orphans, "commit": np.full(number, commit, np.int64)}
    return pa.table(
        [
            pa.array(made[field.name])
            if field.name in made
            else ledger[field.name].cast(field.type)
            if field.name in ledger.column_names
            else pa.nulls(number, field.type)
            for field in EXPOSURES.schema
        ],
        schema=EXPOSURES.schema,
    )
