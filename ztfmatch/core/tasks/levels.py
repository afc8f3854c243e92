"""Levels of sorted runs (LSM): which files of a tile to merge so that they stay few and rows are rarely rewritten.

A run is what one batch of an append, or one merge, wrote of a table in a tile: one sorted file, or several whose ranges
of ids do not overlap. With a factor F, a run of N rows is of the level floor(log_F N). F runs of one level are merged
into one, with all smaller ones and, where the result would be the F-th run of a higher level, with those of that level
too. Each time that a row is written again the level of its run rises by one at least: it is written again at most
log_F(N / n) + 1 times, where appends bring n rows and the tile has N. At most F - 1 runs of a level stay.

Files that are newer than what is derived of their table (statistics, transients) are merged with such files alone, so
that a file still says whether its rows were counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.config import ROWS_PER_FILE
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, OBJECTS, ORPHANS, STATISTICS, TRANSIENTS

DERIVED: Final = {OBJECTS.name: STATISTICS.name, DETECTIONS.name: STATISTICS.name, ORPHANS.name: TRANSIENTS.name}
"""Tables that are merged in levels, and what is derived of each."""


@dataclass(frozen=True)
class Run:
    """Files in which an id is once at most."""

    files: tuple[DataFile, ...]

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True)
class Rule:
    """When runs are merged."""

    factor: int
    """So many of one level."""
    most: int = 2**62
    """Unless the result would have more rows."""


def merges_of_tile(snapshot: SnapshotFiles, tile: Tile, table: str, rule: Rule) -> list[list[DataFile]]:
    """Files of a tile that are due to become one run: of those that what is derived counted, and of newer ones."""
    files = snapshot.of_tile(table, tile)
    known = min((file.commit for file in snapshot.of_tile(DERIVED[table], tile)), default=-1)
    due = []
    for newer in (False, True):
        runs = sorted(runs_of([file for file in files if (file.commit > known) is newer]), key=lambda run: run.rows)
        chosen = runs[: runs_due([run.rows for run in runs], rule)]
        due.append([file for run in chosen for file in run.files])
    return due


def runs_of(files: Sequence[DataFile]) -> list[Run]:
    """Runs that files of one table and tile are.

    Orphans are sorted within a file alone, so that full files of them gain nothing from a merge and are left out.
    """
    if any(file.table != DETECTIONS.name for file in files):
        return [Run((file,)) for file in files if file.table != ORPHANS.name or file.rows < ROWS_PER_FILE // 2]
    chains: dict[str, list[list[DataFile]]] = {}
    for file in sorted(files, key=lambda file: (file.min_id or 0, file.path)):
        writer = chains.setdefault(file.path.rsplit("-", 2)[0], [])
        free = (chain for chain in writer if (chain[-1].max_id or 0) < (file.min_id or 0))
        chain = next(free, None)
        if chain is None:
            writer.append([file])
        else:
            chain.append(file)
    return [Run(tuple(chain)) for writer in chains.values() for chain in writer]


def runs_due(rows: Sequence[int], rule: Rule) -> int:
    """How many of the smallest runs are to be merged into one.

    Parameters
    ----------
    rows : sequence of int
        Of the runs, ascending.
    rule : Rule
    """
    due = seen = total = 0
    for level, members in itertools.groupby(rows, lambda one: level_of(one, rule.factor)):
        held = list(members)
        seen += len(held)
        result = level_of(total, rule.factor) if due else -1
        if (result > level or len(held) + (result == level) >= rule.factor) and sum(rows[:seen]) <= rule.most:
            due, total = seen, sum(rows[:seen])
    return due


def level_of(rows: int, factor: int) -> int:
    """Level of a run: the whole part of the logarithm of its rows."""
    level = 0
    while rows >= factor:
        rows, level = rows // factor, level + 1
    return level
