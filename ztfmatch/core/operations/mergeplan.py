"""Which merges of a tile's files are due, and which of them a compaction runs now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ztfmatch.core.config import ROWS_PER_FILE
from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io.merge import ranges_of_rows
from ztfmatch.core.io.parquet import DataFile, IdRange, RowGroup
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, OBJECTS
from ztfmatch.core.tasks.compact import BYTES_PER_OBJECT, BYTES_PER_ROW_IN_FLIGHT, MergeTask
from ztfmatch.core.tasks.levels import DERIVED, Rule, merges_of_tile
from ztfmatch.core.tasks.results import Written

LARGE_SHARE: Final = 0.1
"""Of merges that fill more than a file so many are done at once as write this share of the store: the others wait."""
ROWS_PER_TASK: Final = 8 * ROWS_PER_FILE
"""A merge of more detections is divided among tasks by objectid."""


@dataclass(frozen=True)
class Merge:
    """Files of a table of a tile that become one run."""

    tile: Tile
    table: str
    rule: Rule
    number: int
    """Which of the merges of that table and tile."""
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    rows: int
    spans: tuple[IdRange | None, ...]
    """What each task does of it."""
    smaller: Merge | None = None
    """What of it fills one file at most, to be done where it must wait itself."""

    def tasks(self, snapshot: SnapshotFiles, part: str) -> list[MergeTask]:
        """One task for each range of objects."""
        key = f"merge-{self.table}-N{self.tile.order}-{self.tile.npix}-{self.number}"
        what = (snapshot, self.tile, self.table, self.rule, self.number)
        return [
            MergeTask(f"{key}-{i:03d}", *what, span, f"{part}-{self.number}{i:03d}")
            for i, span in enumerate(self.spans)
        ]

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(self.sizes)

    @property
    def large(self) -> bool:
        """Whether it fills more than a file."""
        return self.rows > ROWS_PER_FILE

    @property
    def bytes_in_flight(self) -> int:
        """Memory that a task needs for it, beside the worker's own."""
        if self.table == OBJECTS.name:
            return BYTES_PER_OBJECT * self.rows
        return BYTES_PER_ROW_IN_FLIGHT * min(self.rows, ROWS_PER_FILE)

    def check(self, results: Iterable[Written]) -> None:
        """Check that its tasks wrote every row.

        Raises
        ------
        StoreDamagedError
        """
        written = sum(file.rows for result in results for file in result.files)
        if written != self.rows:
            raise StoreDamagedError(
                f"compaction of {self.table} in tile {self.tile}: {written} rows written; {self.rows} were there"
            )


def merges_due(snapshot: SnapshotFiles, rule: Rule, without: Collection[Tile]) -> Iterator[Merge]:
    """Every merge that is due, but of some tiles; a tile's files are looked at where there are enough of them."""
    for table in DERIVED:
        for tile, held in snapshot.files.by_tile(table).items():
            if tile is None or tile in without or held.files < rule.factor:
                continue
            merges = _merges(snapshot, tile, table, rule)
            if any(merge.large for merge in merges):
                small = {m.number: m for m in _merges(snapshot, tile, table, replace(rule, most=ROWS_PER_FILE))}
                merges = [replace(merge, smaller=small.get(merge.number)) for merge in merges]
            yield from merges


def _merges(snapshot: SnapshotFiles, tile: Tile, table: str, rule: Rule) -> list[Merge]:
    found = merges_of_tile(snapshot, tile, table, rule)
    return [_merge(tile, table, rule, number, files) for number, files in enumerate(found) if files]


def _merge(tile: Tile, table: str, rule: Rule, number: int, files: Sequence[DataFile]) -> Merge:
    paths, sizes = (tuple(getattr(file, name) for file in files) for name in ("path", "size"))
    rows = sum(file.rows for file in files)
    return Merge(
        tile=tile,
        table=table,
        rule=rule,
        number=number,
        paths=paths,
        sizes=sizes,
        rows=rows,
        spans=tuple(_spans(table, files, rows)),
    )


def _spans(table: str, files: Sequence[DataFile], rows: int) -> list[IdRange | None]:
    """Ranges of objects that have about as many detections each, together all; as well as the bounds of files tell."""
    if table != DETECTIONS.name or rows <= ROWS_PER_TASK:
        return [None]
    held = [RowGroup((file.min_id or 0, file.max_id or 0), file.rows) for file in files if file.rows]
    number = -(-rows // ROWS_PER_TASK)
    return list(ranges_of_rows(held, -(-rows // number)))


def merges_now(due: Iterable[Merge], size: int) -> tuple[list[Merge], int]:
    """Choose what is merged now: all that fill one file at most, and of larger ones so many as write a part of a size.

    Those come first that make most files less for each byte; one at least. Of one that waits the smallest runs are
    merged, if that makes no more than a file.

    Returns
    -------
    now : list of Merge
    waiting : int
        Number of those that wait.
    """
    every = list(due)
    now = [merge for merge in every if not merge.large]
    large = sorted(
        (merge for merge in every if merge.large),
        key=lambda merge: (merge.size / len(merge.paths), merge.table, merge.tile.fine_range),
    )
    left = LARGE_SHARE * size
    for taken, merge in enumerate(large):
        left -= merge.size
        if taken and left < 0.0:
            return now + large[:taken] + [one.smaller for one in large[taken:] if one.smaller], len(large) - taken
    return now + large, 0
