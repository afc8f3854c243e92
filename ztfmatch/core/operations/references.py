"""Reference catalogs: read them all, one a unit, and say which are of use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.sources import REFERENCE_PATTERN, find
from ztfmatch.core.operations.common import Row, chunks, unit_of
from ztfmatch.core.operations.notices import Notice, misnamed, refuse
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.survey import Unit, objectid_base
from ztfmatch.core.tasks.inspect import CatalogInput, InspectTask, inspect_references
from ztfmatch.core.tasks.seeds import ReferenceInput

_CATALOGS_PER_INSPECTION: Final = 32
_FILE: Final = ("filename", "source", "size", "sha256")


def find_references(references: Sequence[str], strict: bool) -> tuple[list[str], list[Notice]]:
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


def inspect_all(sources: Sequence[str], runner: Runner) -> tuple[list[Row], list[Row]]:
    """Usable references, one a unit, in order of objectid; and rows of the quarantine for the others."""
    tasks = [
        InspectTask(f"inspect-{i:06d}", tuple(CatalogInput(source) for source in group))
        for i, group in enumerate(chunks(sources, _CATALOGS_PER_INSPECTION))
    ]
    results = runner.run(
        Job("reading references", inspect_references, tasks, "inspect", reads=sources[:1], preparing=True)
    )
    quarantined = [row for result in results for row in result.quarantined]
    by_unit: dict[Unit, Row] = {}
    for row in sorted((row for result in results for row in result.usable), key=lambda row: row["source"]):
        first = by_unit.setdefault(unit_of(row), row)
        if first is not row and first["sha256"] != row["sha256"]:
            taken = f"a second reference of unit {unit_of(row)}, of which {first['source']} is taken; expected one"
            quarantined.append(refusal(row, "duplicate", taken))
    return sorted(by_unit.values(), key=lambda row: objectid_base(unit_of(row))), quarantined


def refusal(row: Row, code: str, reason: str) -> Row:
    """Row of the quarantine, without the commit, for a reference that was read."""
    return {"code": code, "reason": reason, **{name: row[name] for name in _FILE}}


def reference_input(row: Row, generation: int) -> ReferenceInput:
    """What tasks need to know of a reference."""
    return ReferenceInput(row["source"], row["nseeds"], row["digest"], unit_of(row), generation, row["magzp"])
