"""Divide ledger rows that get new values into tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Array, Ints
from ztfmatch.core.io import paths
from ztfmatch.core.io.arrays import encode_arrays
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.conservation import Tally
from ztfmatch.core.operations.rematchplan import RematchPlan
from ztfmatch.core.runs import bounded_runs
from ztfmatch.core.tasks.ledger import ReviseTask

ROWS_PER_RECOUNT: Final = 200_000
"""Most rows of a ledger file that is made of several; larger ones stay what they are."""


def recount_tasks(plan: RematchPlan, tally: Tally) -> list[ReviseTask]:
    """Tasks that write new numbers of matched detections and orphans."""
    order = np.argsort(tally.exposureid)
    values = {"nmatched": tally.matched[order], "norphans": tally.orphans[order]}
    return revise_tasks(plan.snapshot, tally.exposureid[order], values, plan.operation_id)


def revise_tasks(
    snapshot: SnapshotFiles, ids: Ints, values: Mapping[str, Array], operation_id: str
) -> list[ReviseTask]:
    """Put the ledger files that can hold any of the exposures into groups, each of which becomes one file.

    All of them must be written anew, since files are immutable. Of a ledger of very many small files few large ones are
    made: to write them takes much less, and the next revision of the same units finds few.

    Parameters
    ----------
    snapshot : SnapshotFiles
    ids : int64 ndarray, shape (N,)
        Exposures, ascending.
    values : mapping of str to ndarray, shape (N,)
        Their new values by column of the ledger; NaN is null.
    operation_id : str
    """
    path = paths.staged_array(operation_id, "values")
    snapshot.storage.put(path, encode_arrays({"exposureid": ids, **values}))
    return [
        ReviseTask(f"ledger-{number:05d}", snapshot, numbers, path, f"{operation_id[:12]}-{number:05d}")
        for number, numbers in enumerate(_groups(snapshot.ledger, ids))
    ]


def drop_tasks(snapshot: SnapshotFiles, ids: Ints, operation_id: str) -> list[ReviseTask]:
    """Tasks that write the ledger without some exposures, ascending by exposureid; files in groups as above."""
    return [replace(task, drop=True) for task in revise_tasks(snapshot, ids, {}, operation_id)]


def _groups(ledger: Sequence[DataFile], ids: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Files that can hold any of the ids, in order of time, in groups of no more rows than one file may get."""
    ordered = sorted(range(len(ledger)), key=lambda number: (ledger[number].min_id or 0, ledger[number].path))
    held = (number for number in ordered if _has_any(ledger[number], ids))
    return map(tuple, bounded_runs(held, lambda number: ledger[number].rows, ROWS_PER_RECOUNT))


def _has_any(file: DataFile, ids: np.ndarray) -> bool:
    first, last = np.searchsorted(ids, [file.min_id or 0, (file.max_id or 0) + 1])
    return bool(first != last)
