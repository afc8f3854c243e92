"""Every row of a catalog is matched, an orphan or rejected, and counted once, before anything is committed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ztfmatch.core.errors import JobFailedError
from ztfmatch.core.operations.common import Row
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
        n_matched, n_orphans = counts[row["exposureid"]]
        if n_matched + n_orphans + row["nrejected"] != row["nrows"]:
            raise JobFailedError(
                f"{row['source']}: {row['nrows']} rows, but {n_matched} matched + {n_orphans} orphans + "
                f"{row['nrejected']} rejected; nothing was committed. This is a defect of ztfmatch: please report it"
            )
    return counts


def with_counts(ledger: Sequence[Row], results: Iterable[Matched], commit: int) -> list[Row]:
    """Ledger rows of a commit with what became of their detections; raises as :func:`conserved` does."""
    counts = conserved(ledger, results)
    return [
        {**row, **dict(zip(("nmatched", "norphans"), counts[row["exposureid"]], strict=True)), "commit": commit}
        for row in ledger
    ]
