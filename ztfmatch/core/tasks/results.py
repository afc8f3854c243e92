"""Results of tasks that write files of the store, staged as records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ztfmatch.core.io.parquet import DataFile


@dataclass(frozen=True)
class Written:
    """Files that were written."""

    files: list[DataFile]


@dataclass(frozen=True)
class Replaced(Written):
    """Files that were written in place of others."""

    removed: list[str]
    """Paths of those."""


@dataclass(frozen=True)
class WrittenObjects(Written):
    """Files of objects."""

    objects: int
    """Their number."""


@dataclass(frozen=True)
class ExposureCounts:
    """What became of the detections of some exposures, one value each; an exposure may be there more than once."""

    exposureid: list[int]
    matched: list[int]
    orphans: list[int]

    @classmethod
    def of(cls, counts: Iterable[tuple[int, int, int]]) -> ExposureCounts:
        """What iteration gives."""
        rows = list(counts)
        return cls(*([row[i] for row in rows] for i in range(3)))

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Exposureid, matched and orphans, exposure after exposure."""
        return zip(self.exposureid, self.matched, self.orphans, strict=True)


@dataclass(frozen=True)
class Matched(Written):
    """Files of detections and orphans."""

    counts: ExposureCounts
    """Of each exposure that has any."""
