"""Every row of a catalog is matched, an orphan or rejected, and counted once, before anything is committed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from ztfmatch.core.errors import JobFailedError
from ztfmatch.core.operations.common import Row
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.tasks.results import Matched

Counts = dict[int, tuple[int, int]]
"""Matched and orphans by exposureid."""


def conserved(ledger: Iterable[Row], results: Iterable[Matched]) -> Counts:
    """What became of the detections of some exposures, over all tiles.

    Parameters
    ----------
    ledger : iterable of Row
        Of these exposures, with ``exposureid``, ``source``, ``nrows`` and ``nrejected``.
    results : iterable of Matched

    Raises
    ------
    JobFailedError
        If a detection is in no tile or in two: nothing is committed.
    """
    rows = list(ledger)
    counts: Counts = {row["exposureid"]: (0, 0) for row in rows}
    for result in results:
        for exposureid, matched, orphans in result.counts:
            before = counts[exposureid]
            counts[exposureid] = (before[0] + matched, before[1] + orphans)
    for row in rows:
        _check(row, *counts[row["exposureid"]])
    return counts


def with_counts(ledger: pa.Table, results: Iterable[Matched], commit: int) -> pa.Table:
    """The ledger of a commit with what became of its detections; raises as :func:`conserved` does.

    Parameters
    ----------
    ledger : pa.Table
        Of the commit's exposures; columns that it lacks are null.
    results : iterable of Matched
    commit : int
    """
    ids = ledger["exposureid"].to_numpy()
    order = np.argsort(ids)
    matched, orphans = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    for counts in (result.counts for result in results):
        where = order[np.searchsorted(ids, np.array(counts.exposureid, np.int64), sorter=order)]
        np.add.at(matched, where, np.array(counts.matched, np.int64))
        np.add.at(orphans, where, np.array(counts.orphans, np.int64))
    told = ledger.select(["source", "nrows", "nrejected"])
    wrong = matched + orphans + told["nrejected"].to_numpy() != told["nrows"].to_numpy()
    for i in np.flatnonzero(wrong)[:1].tolist():
        _check(told.slice(i, 1).to_pylist()[0], int(matched[i]), int(orphans[i]))
    made = {"nmatched": matched, "norphans": orphans, "commit": np.full(len(ids), commit, np.int64)}
    return pa.table(
        [
            pa.array(made[field.name])
            if field.name in made
            else ledger[field.name].cast(field.type)
            if field.name in ledger.column_names
            else pa.nulls(len(ids), field.type)
            for field in EXPOSURES.schema
        ],
        schema=EXPOSURES.schema,
    )


def _check(row: Row, matched: int, orphans: int) -> None:
    if matched + orphans + row["nrejected"] != row["nrows"]:
        raise JobFailedError(
            f"{row['source']}: {row['nrows']} rows, but {matched} matched + {orphans} orphans + "
            f"{row['nrejected']} rejected; nothing was committed. This is a defect of ztfmatch: please report it"
        )
