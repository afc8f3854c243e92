"""Merge files of one tile into few sorted ones, and split them among its children if it outgrew its budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Arrays, Floats, Ints
from ztfmatch.core.config import ROWS_PER_FILE
from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import (
    DataFile,
    Destination,
    IdRange,
    OpenFile,
    read_table,
    table_from_columns,
    write_file,
)
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import IdMap, build_map, find_rows
from ztfmatch.core.kernels.rows import MEASURED, linked_digest, row_digests
from ztfmatch.core.kernels.starids import positions_of_starids
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_tile
from ztfmatch.core.runs import bounded_runs
from ztfmatch.core.schema import (
    DETECTIONS,
    MEMBERS,
    OBJECTS,
    ORPHANS,
    STARLINEAGE,
    STARS,
    STATISTICS,
    TABLES,
    TRANSIENTDATA,
    TRANSIENTS,
    Table,
)
from ztfmatch.core.schema.sky import ACTIVE
from ztfmatch.core.tasks.levels import Rule, merges_of_tile
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.statistics import StatisticsBuilder, released_exposures_of_tile
from ztfmatch.core.tasks.tile import TileTask

_ROWS_TO_WRITE: Final = 3 * ROWS_PER_FILE // 4
"""With so many rows a file is written: whole lightcurves come in portions of about, not just, ROWS_PER_FILE."""
BYTES_PER_ROW_IN_FLIGHT: Final = 900
BYTES_PER_OBJECT: Final = 900


@dataclass(frozen=True)
class CompactTask(TileTask):
    """One tile."""

    targets: tuple[Tile, ...]
    """The tile itself, or its four children."""
    part: str


@dataclass(frozen=True)
class MergeTask(TileTask):
    """Files of one table of a tile that are due to become one run, or what they have of a range of objects."""

    table: str
    rule: Rule
    number: int
    """Which of the merges that :func:`~ztfmatch.core.tasks.levels.merges_of_tile` finds due."""
    span: IdRange | None
    """Only these objects; None for all rows."""
    part: str


def merge_files(task: MergeTask) -> Written:
    """Write files of a table as one run, and compare what a reader will have of it with what was there.

    It keeps the number of the commit that brought the newest of them: no content is new.

    Raises
    ------
    StoreDamagedError
        If what was written is not what was there.
    """
    files = merges_of_tile(task.snapshot, task.tile, task.table, task.rule)[task.number]
    if task.table == OBJECTS.name:
        whole = read_table(task.storage, files, OBJECTS).sort_by("objectid")
        return Written(_as_of(files, [write_file(_to(task, OBJECTS, task.tile, 0), whole)]))
    check = _Check(_Content(TABLES[task.table]), _Content(TABLES[task.table]))
    if task.table == DETECTIONS.name:
        writer = _TargetWriter(task, task.tile, check.written)
        wanted = Wanted(span=task.span)
        seen = check.read.add_read
        for chunk in iterate_lightcurves(task.storage, files, DETECTIONS.names, ROWS_PER_FILE, seen, wanted):
            writer.add(chunk)
        written = writer.close()
    else:
        written = [
            write_file(_to(task, ORPHANS, task.tile, number), _sorted(group), check.written)
            for number, group in enumerate(_orphan_groups(task.storage, files, check.read))
        ]
    check.assert_same(task.tile)
    return Written(_as_of(files, written))


def compact_tile(task: CompactTask) -> Written:
    """Write the tile's rows anew, sorted, and compare what a reader will have of them with what was there.

    Files of objects, detections, orphans and statistics replace all that the tile had; those of transients and
    stars too where it is divided. Objects, orphans, transients and stars keep the number of the commit that brought the
    newest of them, so that the latter stay up to date with the former.

    Raises
    ------
    StoreDamagedError
        If what was written is not what was there.
    """
    detections, orphans = (_Check(_Content(table), _Content(table)) for table in (DETECTIONS, ORPHANS))
    files = _write_objects(task)
    files += _write_detections(task, detections)
    files += _write_orphans(task, orphans)
    files += _write_transients(task)
    files += _write_stars(task)
    for check in (detections, orphans):
        check.assert_same(task.tile)
    return Written(files)


class _Content:
    """Rows and their order-free digest, of all that identifies and measures a detection."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = self.digest = 0
        self._link = "objectid" if table is DETECTIONS else "nearestid"

    def add(self, columns: Arrays) -> None:
        """Ingest some rows."""
        digests = row_digests({name: np.ascontiguousarray(columns[name]) for name in MEASURED})
        self.rows += len(digests)
        self.digest = (self.digest + int(linked_digest(digests, columns[self._link], columns["exposureid"]))) % 2**64

    def add_read(self, _: DataFile, columns: Arrays) -> None:
        """Ingest some rows of a file."""
        self.add(columns)

    @property
    def columns(self) -> list[str]:
        """Columns that it needs."""
        return [self._link, "exposureid", *MEASURED]

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Ingest some rows."""
        arrays = {name: batch[name].to_numpy(zero_copy_only=False) for name in self.columns if name != self._link}
        self.add({**arrays, self._link: batch[self._link].fill_null(0).to_numpy()})


@dataclass(frozen=True)
class _Check:
    """What was there of a table, and what was written of it, decoded again."""

    read: _Content
    written: _Content

    def assert_same(self, tile: Tile) -> None:
        """Raise unless the one is the other."""
        old, new = self.read, self.written
        if (old.rows, old.digest) != (new.rows, new.digest):
            raise StoreDamagedError(
                f"compaction of {old.table.name} in tile {tile}: {new.rows} rows of digest {new.digest:x} "
                f"written; {old.rows} of {old.digest:x} were there"
            )


def _to(task: CompactTask | MergeTask, table: Table, target: Tile, number: int) -> Destination:
    return Destination(task.storage, table, target, task.commit, f"{task.part}-{number:04d}")


def _target_of(task: CompactTask, ra: Floats, dec: Floats) -> npt.NDArray[np.int8]:
    """Row in ``targets`` of each position."""
    fine = fine_pixels(ra, dec)
    target = np.full(len(ra), -1, np.int8)
    for i, tile in enumerate(task.targets):
        target[in_tile(fine, tile)] = i
    return target


def _write_objects(task: CompactTask) -> list[DataFile]:
    table = task.snapshot.read(OBJECTS.name, tile=task.tile).sort_by("objectid")
    target = _target_of(task, table["ra"].to_numpy(), table["dec"].to_numpy())
    parts = [(tile, table.filter(pa.array(target == i))) for i, tile in enumerate(task.targets)]
    written = [write_file(_to(task, OBJECTS, tile, 0), rows) for tile, rows in parts if rows.num_rows]
    return _as_of(task.files(OBJECTS), written)


def _write_detections(task: CompactTask, check: _Check) -> list[DataFile]:
    """Detections by target tile, and the statistics of the objects in the same pass."""
    owner = _owners(task)
    public = released_exposures_of_tile(task)
    writers = [_TargetWriter(task, tile, check.written) for tile in task.targets]
    builders = [StatisticsBuilder(ids, public) for ids in owner.active]
    for chunk in iterate_lightcurves(
        task.storage, task.files(DETECTIONS), DETECTIONS.names, ROWS_PER_FILE, check.read.add_read
    ):
        target = owner.target[find_rows(owner.row_of, chunk.objectid)]
        for i, writer in enumerate(writers):
            part = chunk if len(writers) == 1 else chunk.of_epochs(chunk.spread(target == i))[0]
            if len(part.objectid):
                writer.add(part)
                builders[i].add(part)
    files = [file for writer in writers for file in writer.close()]
    for tile, builder in zip(task.targets, builders, strict=True):
        if len(builder.objectid):
            files.append(write_file(_to(task, STATISTICS, tile, 0), builder.table(task.snapshot.number)))
    return files


@dataclass(frozen=True)
class _Owners:
    """Which target tile each object of the tile goes to."""

    row_of: IdMap
    target: npt.NDArray[np.int8]
    active: list[Ints]
    """Objectids of the active objects of each target, ascending."""


def _owners(task: CompactTask) -> _Owners:
    table = task.snapshot.read(OBJECTS.name, ["objectid", "ra", "dec", "status"], tile=task.tile).sort_by("objectid")
    target = _target_of(task, table["ra"].to_numpy(), table["dec"].to_numpy())
    ids = table["objectid"].to_numpy()
    active = pc.equal(table["status"].cast(pa.string()), ACTIVE).to_numpy()
    return _Owners(build_map(ids), target, [ids[active & (target == i)] for i in range(len(task.targets))])


class _TargetWriter:
    """Collects the lightcurves of one target tile and writes a file whenever there are rows enough."""

    def __init__(self, task: CompactTask | MergeTask, tile: Tile, written: _Content) -> None:
        self._task, self._tile, self._written = task, tile, written
        self._held: list[pa.Table] = []
        self._files: list[DataFile] = []

    def add(self, chunk: Lightcurves) -> None:
        ids = chunk.spread(chunk.objectid)
        self._held.append(table_from_columns(DETECTIONS, {"objectid": ids, **chunk.columns}))
        if sum(table.num_rows for table in self._held) >= _ROWS_TO_WRITE:
            self._write()

    def _write(self) -> None:
        table = self._held[0] if len(self._held) == 1 else pa.concat_tables(self._held).combine_chunks()
        self._held = []
        to = _to(self._task, DETECTIONS, self._tile, len(self._files))
        self._files.append(write_file(to, table, self._written))

    def close(self) -> list[DataFile]:
        if self._held:
            self._write()
        return self._files


def _write_orphans(task: CompactTask, check: _Check) -> list[DataFile]:
    """Orphans in files of so many rows each, every one sorted; memory does not follow their number."""
    written: list[DataFile] = []
    numbers = [0] * len(task.targets)
    for table in _orphan_groups(task.storage, task.files(ORPHANS), check.read):
        target = _target_of(task, table["ra"].to_numpy(), table["dec"].to_numpy())
        for i, tile in enumerate(task.targets):
            rows = table.filter(pa.array(target == i))
            if rows.num_rows:
                written.append(write_file(_to(task, ORPHANS, tile, numbers[i]), _sorted(rows), check.written))
                numbers[i] += 1
    return _as_of(task.files(ORPHANS), written)


def _as_of(sources: Sequence[DataFile], files: Sequence[DataFile]) -> list[DataFile]:
    """Files with the number of the commit that brought the newest of those that they were made of."""
    return [replace(file, commit=max(source.commit for source in sources)) for file in files]


def _write_transients(task: CompactTask) -> list[DataFile]:
    """Transients and links divided among the targets, of which each gets a file of transients.

    Of a tile that is not divided they stay as they are.
    """
    sources = [] if len(task.targets) == 1 else [*task.files(TRANSIENTS), *task.files(TRANSIENTDATA)]
    if not sources:
        return []
    rows, links = (task.read(table) for table in (TRANSIENTS, TRANSIENTDATA))
    target = _target_of(task, rows["ra"].to_numpy(), rows["dec"].to_numpy())
    files = []
    for i, tile in enumerate(task.targets):
        own = rows.filter(pa.array(target == i))
        files.append(write_file(_to(task, TRANSIENTS, tile, 0), own))
        mine = links.filter(pc.is_in(links["transientid"], own["transientid"].combine_chunks()))
        if mine.num_rows:
            files.append(write_file(_to(task, TRANSIENTDATA, tile, 0), mine))
    return _as_of(sources, files)


def _write_stars(task: CompactTask) -> list[DataFile]:
    """Stars, members and the lineage of stars divided among the targets, of which each gets a file of stars.

    Of a tile that is not divided they stay as they are.
    """
    if len(task.targets) == 1 or not task.files(STARS):
        return []
    stars, members, lineage = (task.read(table) for table in (STARS, MEMBERS, STARLINEAGE))
    objects = task.read(OBJECTS).select(["objectid", "ra", "dec"]).sort_by("objectid")
    at = np.searchsorted(objects["objectid"].to_numpy(), members["objectid"].to_numpy())
    newest = pc.coalesce(lineage["newstarid"], lineage["starid"]).to_numpy()
    target = {
        STARS: _target_of(task, stars["ra"].to_numpy(), stars["dec"].to_numpy()),
        MEMBERS: _target_of(task, objects["ra"].to_numpy()[at], objects["dec"].to_numpy()[at]),
        # A name says where the star was found, which may be beyond the border that it lies at.
        STARLINEAGE: np.maximum(_target_of(task, *positions_of_starids(newest)), 0),
    }
    files = []
    for (table, of), rows in zip(target.items(), (stars, members, lineage), strict=True):
        for i, tile in enumerate(task.targets):
            own = rows.filter(pa.array(of == i))
            if own.num_rows or table is STARS:
                files.append(write_file(_to(task, table, tile, 0), own))
    return _as_of(task.files(STARS), files)


def _orphan_groups(storage: Storage, files: Sequence[DataFile], read: _Content) -> Iterator[pa.Table]:
    """Consecutive files' rows together, up to so many; a larger file comes in pieces."""
    batches = (batch for file in files for batch in OpenFile(storage, file).batches(ORPHANS.names, ROWS_PER_FILE))
    for held in bounded_runs(batches, lambda batch: batch.num_rows, ROWS_PER_FILE):
        for batch in held:
            read.add_batch(batch)
        yield pa.Table.from_batches(held)


def _sorted(rows: pa.Table) -> pa.Table:
    columns: Arrays = {name: rows[name].to_numpy() for name in ORPHANS.sorted_by}
    return rows.take(pa.array(np.lexsort([columns[name] for name in reversed(ORPHANS.sorted_by)])))
