"""Reference catalogs: read them all, one a unit, and say which are of use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.sources import REFERENCE_PATTERN, find
from ztfmatch.core.operations.common import Row, chunks, unit_of
from ztfmatch.core.operations.notices import Notice, misnamed, refuse
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.tasks.inspect import FOUND_REFERENCES, GRID, CatalogInput, InspectTask, inspect_references
from ztfmatch.core.tasks.seeds import ReferenceInput

_CATALOGS_PER_INSPECTION: Final = 32
_UNIT: Final = ("field", "fid", "rcid")
"""In this order, units are in that of their objectids."""
_FILE: Final = ("filename", "source", "size", "sha256")


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


def inspect_all(sources: Sequence[str], runner: Runner) -> tuple[pa.Table, list[Row]]:
    """Usable references (FOUND_REFERENCES), one a unit, in order of objectid; and rows of the quarantine for others."""
    tasks = [
        InspectTask(f"inspect-{i:06d}", tuple(CatalogInput(source) for source in group))
        for i, group in enumerate(chunks(sources, _CATALOGS_PER_INSPECTION))
    ]
    results = runner.run(
        Job("reading references", inspect_references, tasks, "inspect", reads=sources[:1], preparing=True)
    )
    quarantined = [row for result in results for row in result.quarantined]
    found = pa.concat_tables([FOUND_REFERENCES.empty_table(), *(result.table for result in results)])
    found = found.sort_by([(name, "ascending") for name in (*_UNIT, "source")])
    of_unit = np.stack([found[name].to_numpy().astype(np.int64) for name in _UNIT])
    first = np.any(np.diff(of_unit, axis=1, prepend=-1), axis=0)
    taken = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
    for i in np.flatnonzero(~first).tolist():
        row, other = (found.slice(at, 1).drop_columns(GRID).to_pylist()[0] for at in (i, int(taken[i])))
        if row["sha256"] != other["sha256"]:
            said = f"a second reference of unit {unit_of(row)}, of which {other['source']} is taken; expected one"
            quarantined.append(refusal(row, "duplicate", said))
    return found.filter(pa.array(first)), quarantined


def rows_of(found: pa.Table) -> list[Row]:
    """References that were found, but for their seeds, where they are few."""
    rows: list[Row] = found.drop_columns(GRID).to_pylist()
    return rows


def refusal(row: Row, code: str, reason: str) -> Row:
    """Row of the quarantine, without the commit, for a reference that was read."""
    return {"code": code, "reason": reason, **{name: row[name] for name in _FILE}}


def reference_input(row: Row, generation: int) -> ReferenceInput:
    """What tasks need to know of a reference."""
    return ReferenceInput(row["source"], row["nseeds"], row["digest"], unit_of(row), generation, row["magzp"])
