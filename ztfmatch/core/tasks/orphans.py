"""Orphans near a tile, by unit, for grouping.

A row of orphans is looked at by its tile and by the tiles around it. A process works on tiles in order of the sky, so
it keeps what it read last, as it will be looked at: row groups without the orphans that wait for a reference, and with
the pixel of each row.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core import survey
from ztfmatch.core.arrays import Arrays, Ids, Mask
from ztfmatch.core.io.merge import numpy_columns
from ztfmatch.core.io.parquet import DataFile, OpenFile
from ztfmatch.core.io.rows import UNIT, codes_of_rows, codes_of_units
from ztfmatch.core.io.sealed import leaf_paths
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import is_among
from ztfmatch.core.kernels.tiling import Tile, fine_pixels, in_reach
from ztfmatch.core.recent import Recent
from ztfmatch.core.schema.sky import NO_REFERENCE
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.statistics import EPOCH_COLUMNS

ROWS_PER_PASS: Final = 2_000_000
"""Orphans that are held at a time, unless one unit has more."""

ROWS_KEPT: Final = 1_000_000
"""Orphans that a process keeps for the next tile."""

BYTES_KEPT: Final = 90 * ROWS_KEPT

COLUMNS: Final = tuple(dict.fromkeys((*UNIT, "nearestid", "sourceid", *EPOCH_COLUMNS)))
"""Columns of orphans that are read."""

_FOOTERS_KEPT: Final = 1024


class Near(Protocol):
    """What must be known of a tile."""

    @property
    def storage(self) -> Storage:
        """Of the store."""
        ...

    @property
    def tile(self) -> Tile:
        """Around which orphans are read."""
        ...

    @property
    def orphan_files(self) -> Sequence[DataFile]:
        """Files of orphans of the tile and its neighbours."""
        ...


@dataclass(frozen=True)
class Units:
    """Some units; None for all."""

    codes: Ids | None
    """Ascending, see :func:`~ztfmatch.core.survey.unit_codes`."""

    @classmethod
    def of_files(cls, near: Near, files: Iterable[DataFile]) -> Units:
        """Those with orphans of some files in reach of the tile."""
        found = [np.unique(part["code"]) for file in files for part in orphans_in_reach(near, file)]
        return cls(np.unique(np.concatenate([np.zeros(0, np.int64), *found])))

    def with_units(self, units: Collection[Unit]) -> Units:
        """These, and some others."""
        if self.codes is None:
            return self
        return Units(np.union1d(self.codes, codes_of_units(units)))

    def has(self, codes: Ids) -> Mask:
        """Whether each unit is one of them, shape (N,)."""
        return np.ones(len(codes), bool) if self.codes is None else is_among(codes, self.codes)

    def groups(self, parquet: OpenFile) -> list[int]:
        """Row groups that can have rows of them, by what the footer says."""
        return [group for group in range(len(parquet.groups)) if self.codes is None or self._may_be_in(parquet, group)]

    def _may_be_in(self, parquet: OpenFile, group: int) -> bool:
        columns, row_group = leaf_paths(parquet.metadata), parquet.metadata.row_group(group)
        codes = np.zeros(0, np.int64) if self.codes is None else self.codes
        kept = np.ones(len(codes), bool)
        for name, values in zip(UNIT, survey.units_of_codes(codes), strict=True):
            bounds = row_group.column(columns.index(name)).statistics
            if bounds is not None and bounds.has_min_max:
                kept &= (values >= bounds.min) & (values <= bounds.max)
        return bool(kept.any())


def orphans_by_unit(near: Near, units: Units) -> Iterator[Arrays]:
    """Orphans of some units within the tile's reach, but for those that wait for a reference, unit after unit.

    Beside COLUMNS there is ``fine``, the fine pixel.
    """
    for some in _passes(near, units):
        parts = [part for file in near.orphan_files for part in orphans_in_reach(near, file, some)]
        if not parts:
            continue
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        parts.clear()
        code = columns.pop("code")
        order = np.argsort(code, kind="stable")
        edges = [0, *(np.flatnonzero(np.diff(code[order])) + 1).tolist(), len(order)]
        for first, stop in itertools.pairwise(edges):
            yield {name: values[order[first:stop]] for name, values in columns.items()}


def _passes(near: Near, units: Units) -> Iterator[Units]:
    """Units, so many at a time that ROWS_PER_PASS holds their rows."""
    opened = [_opened(near.storage, file) for file in near.orphan_files]
    groups = [(parquet, group) for parquet in opened for group in units.groups(parquet)]
    if sum(parquet.groups[group].rows for parquet, group in groups) <= ROWS_PER_PASS:
        yield units
        return
    rows: dict[int, int] = {}
    for parquet, group in groups:
        codes = codes_of_rows(numpy_columns(parquet.read([group], UNIT)))
        for code, count in zip(*(part.tolist() for part in np.unique(codes, return_counts=True)), strict=True):
            rows[code] = rows.get(code, 0) + count
    some: list[int] = []
    for code in sorted(code for code in rows if units.has(np.array([code]))[0]):
        if some and sum(rows[other] for other in some) + rows[code] > ROWS_PER_PASS:
            yield Units(np.array(some, np.int64))
            some = []
        some.append(code)
    yield Units(np.array(some, np.int64))


def orphans_in_reach(near: Near, file: DataFile, units: Units | None = None) -> Iterator[Arrays]:
    """Orphans of all or some units in a file, as far as they are in the tile's reach and wait for no reference.

    Beside COLUMNS there are ``code``, the number of the unit, and ``fine``, the fine pixel.
    """
    units = units or Units(None)
    parquet = _opened(near.storage, file)
    for group in units.groups(parquet):
        part = _kept.get((file.sha256, group), functools.partial(_read, parquet, group))
        wanted = units.has(part["code"])
        if file.tile != near.tile:
            wanted[wanted] = in_reach(part["fine"][wanted], near.tile)
        if wanted.any():
            yield part if wanted.all() else {name: values[wanted] for name, values in part.items()}


def _read(parquet: OpenFile, group: int) -> Arrays:
    """Orphans of a row group that no reference is awaited for: no seed is near, or another was nearer to it."""
    rows = parquet.read([group], [*COLUMNS, "reason"])
    rows = rows.filter(pc.not_equal(rows["reason"], NO_REFERENCE)).drop_columns(["reason"])
    at = rows.schema.get_field_index("nearestid")
    rows = rows.set_column(at, "nearestid", rows["nearestid"].fill_null(pa.scalar(0, pa.int64())))
    columns = numpy_columns(rows)
    return columns | {"code": codes_of_rows(columns), "fine": fine_pixels(columns["ra"], columns["dec"])}


@functools.lru_cache(_FOOTERS_KEPT)
def _opened(storage: Storage, file: DataFile) -> OpenFile:
    return OpenFile(storage, file)


_kept: Final = Recent[tuple[str, int], Arrays](ROWS_KEPT, lambda part: len(part["code"]))
"""Row groups that were looked at last, by the checksum of their file."""
