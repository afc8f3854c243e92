"""Divide the ledger rows of exposures that get new values into tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.operations.rematchplan import RematchPlan
from ztfmatch.core.schema import EXPOSURES
from ztfmatch.core.tasks.ledger import ReviseTask

ROWS_PER_RECOUNT: Final = 200_000
"""Most rows of a ledger file that is made of several; larger ones stay what they are."""


def recount_tasks(plan: RematchPlan, counts: Mapping[int, tuple[int, int]]) -> list[ReviseTask]:
    """Tasks that write new numbers of matched detections and orphans.

    Parameters
    ----------
    plan : RematchPlan
    counts : mapping of int to tuple of int
        Matched and orphans by exposureid.
    """
    ids = np.array(sorted(counts), np.int64)
    matched = np.array([counts[exposureid] for exposureid in ids.tolist()], np.int64).reshape(-1, 2)
    values = {"nmatched": matched[:, 0], "norphans": matched[:, 1]}
    return revise_tasks(plan.snapshot, ids, values, plan.operation_id)


def revise_tasks(
    snapshot: SnapshotFiles, ids: npt.NDArray[np.int64], values: Mapping[str, npt.NDArray[Any]], operation_id: str
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
    tasks = []
    for number, files in enumerate(_groups(snapshot.of_table(EXPOSURES.name), ids)):
        first, last = np.searchsorted(ids, [min(f.min_id or 0 for f in files), max(f.max_id or 0 for f in files) + 1])
        part = f"{operation_id[:12]}-{number:05d}"
        mine = {name: column[first:last] for name, column in values.items()}
        tasks.append(
            ReviseTask(
                f"ledger-{number:05d}", snapshot.storage, files, ids[first:last], mine, snapshot.number + 1, part
            )
        )
    return tasks


def _groups(ledger: Sequence[DataFile], ids: np.ndarray) -> Iterator[tuple[DataFile, ...]]:
    """Files that can hold any of the ids, in order of time, in groups of no more rows than one file may get."""
    group: list[DataFile] = []
    for file in sorted(ledger, key=lambda file: (file.min_id or 0, file.path)):
        first, last = np.searchsorted(ids, [file.min_id or 0, (file.max_id or 0) + 1])
        if first == last:
            continue
        if group and sum(member.rows for member in group) + file.rows > ROWS_PER_RECOUNT:
            yield tuple(group)
            group = []
        group.append(file)
    if group:
        yield tuple(group)
