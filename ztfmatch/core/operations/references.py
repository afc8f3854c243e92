"""Inspect reference catalogs: read them all, keep one per unit, refuse unusable ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.rows import unit_of
from ztfmatch.core.io.sources import REFERENCE_PATTERN, find
from ztfmatch.core.kernels.seedcounts import GRID_ORDER, SeedCounts
from ztfmatch.core.kernels.tiling import CAP_ORDER
from ztfmatch.core.operations.notices import Notice, misnamed, refuse
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.runs import chunks
from ztfmatch.core.schema.rows import ReferenceRow
from ztfmatch.core.tasks.inspect import (
    FOUND_REFERENCES,
    GRID,
    CatalogInput,
    FoundCatalogs,
    InspectTask,
    inspect_references,
    read_grid,
)
from ztfmatch.core.tasks.seeds import ReferenceInput

_CATALOGS_PER_INSPECTION: Final = 32
_RESULTS_JOINED: Final = 64
UNIT_ORDER: Final = ("field", "fid", "rcid")
"""In this order, units are in that of their objectids."""
COVERED: Final = "covered"
"""Pixels of CAP_ORDER that a reference has seeds in."""


def find_references(references: Sequence[str], strict: bool) -> tuple[Sequence[str], list[Notice]]:
    """Reference catalogs in files, directories and globs, and those left for their names.

    Raises
    ------
    ConfigError
        If there is none.
    BadInputError
        If ``strict`` and one is misnamed.
    """
    places = find(references, REFERENCE_PATTERN)
    if not places.files:
        raise ConfigError(places.none_of(REFERENCE_PATTERN, references))
    notices = misnamed(places)
    refuse(notices, strict)
    return places.files, notices


@dataclass(frozen=True)
class References:
    """What was found in reference catalogs."""

    rows: pa.Table
    """FOUND_REFERENCES but GRID, with COVERED where seeds were counted; one a unit, in order of objectid."""
    refused: list[Refused]
    """The others."""


def inspect_all(sources: Sequence[str], runner: Runner, counted: SeedCounts | None = None) -> References:
    """Read references, and count the seeds of those that can be used."""
    read = _read(sources, runner, counted)
    found = read.rows.sort_by([(name, "ascending") for name in (*UNIT_ORDER, "source")])
    of_unit = np.stack([found[name].to_numpy().astype(np.int64) for name in UNIT_ORDER])
    first = np.any(np.diff(of_unit, axis=1, prepend=-1), axis=0)
    if first.all():
        return References(found, read.refused)
    again = found.filter(pa.array(~first))
    if counted is not None:
        _uncount(again["source"].to_pylist(), counted)
    taken = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))[~first]
    second = _second(again.to_pylist(), found.take(pa.array(taken)).to_pylist())
    return References(found.filter(pa.array(first)), read.refused + second)


def _read(sources: Sequence[str], runner: Runner, counted: SeedCounts | None) -> References:
    """What is in all files, in any order."""
    tasks = [
        InspectTask(f"inspect-{i:06d}", tuple(CatalogInput(source) for source in group))
        for i, group in enumerate(chunks(sources, _CATALOGS_PER_INSPECTION))
    ]
    joined = [FOUND_REFERENCES.empty_table().drop_columns(GRID)]
    last: list[pa.Table] = []

    def take(result: FoundCatalogs) -> list[Refused]:
        rows = result.table if counted is None else _counted(result.table, counted)
        last.append(rows.drop_columns(GRID))
        # Joined as they come: by themselves they take twice as much, and each piece of a column a kilobyte.
        if len(last) == _RESULTS_JOINED:
            joined.append(pa.concat_tables(last).combine_chunks())
            last.clear()
        return result.refused

    job = Job("reading references", inspect_references, tasks, "inspect", reads=sources[:1], preparing=True)
    refused = [file for some in runner.run_and(take, job) for file in some]
    return References(pa.concat_tables([*joined, *last], promote_options="default"), refused)


def _counted(rows: pa.Table, counted: SeedCounts) -> pa.Table:
    """Count the seeds of some references; their rows with COVERED."""
    grids = [read_grid(grid.as_py()) for grid in rows[GRID]]
    for pixels, counts in grids:
        counted.add(pixels, counts)
    covered = [np.unique(pixels >> 2 * (GRID_ORDER - CAP_ORDER)) for pixels, _ in grids]
    return rows.append_column(COVERED, pa.array(covered, pa.list_(pa.int32())))


def _uncount(sources: Sequence[str], counted: SeedCounts) -> None:
    """Take off the seeds of references that another of their unit is taken for: there are few, which are read again."""
    for source in sources:
        for grid in inspect_references(InspectTask("again", (CatalogInput(source),))).table[GRID]:
            pixels, counts = read_grid(grid.as_py())
            counted.add(pixels, -counts)


def _second(rows: Sequence[ReferenceRow], taken: Sequence[ReferenceRow]) -> list[Refused]:
    """References whose unit has another, with other content."""
    reason = "a second reference of unit {}, of which {} is taken; expected one"
    return [
        Refused.read(row, "duplicate", reason.format(unit_of(row), other["source"]))
        for row, other in zip(rows, taken, strict=True)
        if row["sha256"] != other["sha256"]
    ]


def reference_input(row: ReferenceRow, generation: int) -> ReferenceInput:
    """What tasks need to know of a reference."""
    return ReferenceInput(row["source"], row["nseeds"], row["digest"], unit_of(row), generation, row["magzp"])
