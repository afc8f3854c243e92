"""The report of an append, and the sum of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ztfmatch.core.display import Displayable
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.operations.auxiliary import UNUSED
from ztfmatch.core.operations.notices import Notice

_SUMMED: Final = (
    *("exposures", "replaced", "known", "quarantined", "rows"),
    *("matched", "orphans", "rejected", "tiles", "bytes"),
)


@dataclass(frozen=True, kw_only=True)
class AppendReport(Displayable):
    """What an append did."""

    store: str
    snapshot: int
    committed: bool
    """False if there was nothing new."""
    catalogs: int
    exposures: int
    """Ingested."""
    replaced: int
    """Of these, in place of an older content."""
    known: int
    """Already in the store, or named twice."""
    quarantined: list[Refused]
    rows: int
    matched: int
    orphans: int
    rejected: int
    without_reference: list[str]
    """Units that had no reference: all their rows are orphans."""
    tiles: int
    bytes: int
    seconds: float
    warnings: list[Notice]
    """What may not have been meant so."""


def together(parts: Sequence[AppendReport]) -> AppendReport:
    """The report of the last, with the counts and lists of all added up."""
    summed = {name: sum((getattr(part, name) for part in parts[1:]), getattr(parts[0], name)) for name in _SUMMED}
    without = sorted({unit for part in parts for unit in part.without_reference})
    committed = any(part.committed for part in parts)
    return replace(parts[-1], **summed, without_reference=without, committed=committed)


def merged(parts: Sequence[AppendReport]) -> list[Notice]:
    """The warnings of all, each once; a table is of no use if it was to none."""
    notices = [notice for part in parts for notice in part.warnings]
    return [
        notice
        for i, notice in enumerate(notices)
        if notice not in notices[:i] and (notice.code != UNUSED or notices.count(notice) == len(parts))
    ]
