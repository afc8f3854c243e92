"""Group the orphans of one tile and its surroundings into transients, and write those that are the tile's own.

A transient belongs to the tile that holds its mean position. The detections that tell of it may lie beyond the border,
so the tile looks at all within its reach; what a chain of detections connects with the edge of that is left out
(:mod:`ztfmatch.core.kernels.transients`), which takes a chain of twenty detections and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.merge import Arrays, Lightcurves, numpy_columns
from ztfmatch.core.io.parquet import (
    DataFile,
    Destination,
    Footer,
    OpenFile,
    read_file_rows,
    read_footer,
    table_from_columns,
    write_file,
)
from ztfmatch.core.io.scan import is_among
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.kernels.lookup import IdMap, build_map, find_rows
from ztfmatch.core.kernels.sphere import lonlats_of, unit_vectors
from ztfmatch.core.kernels.tiling import Tile, at_edge_of_reach, fine_pixels, in_reach, in_tile, neighbours
from ztfmatch.core.kernels.transients import Groups, link_detections, most_frequent
from ztfmatch.core.schema import ORPHANS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.schema.sky import NO_REFERENCE
from ztfmatch.core.survey import FIRST_TRANSIENT_DATE, LAST_TRANSIENT_DATE, MAX_SOURCEID, N_RCID, transientid_of
from ztfmatch.core.tasks.ledger import exposures_of_tiles
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.statistics import EPOCH_COLUMNS, released_exposures, statistics_of
from ztfmatch.core.tasks.tile import TileTask

ROWS_PER_PASS: Final = 2_000_000
"""Orphans that are held at a time, unless one unit has more."""

BYTES_PER_ROW: Final = 400
"""Peak memory of a task per orphan that it holds; tests compare it with what is measured."""

BYTES_PER_TRANSIENT: Final = 900
BYTES_PER_LINK: Final = 80
"""The same per row that the tile has already."""

_UNIT: Final = ("field", "rcid", "fid")
_LEDGER: Final = ("exposureid", "commit", "obsmjd", "programid")
_COLUMNS: Final = tuple(dict.fromkeys((*_UNIT, "nearestid", "sourceid", *EPOCH_COLUMNS)))

_CODE_BITS: Final = 32
"""More than the number of a unit has."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TransientTask(TileTask):
    """One tile of the snapshot from which the orphans are."""

    part: str
    staged: StagedFiles | None = None
    """Where the orphans are to be others than those of the snapshot."""

    @property
    def near(self) -> list[Tile]:
        """The tile and its neighbours."""
        return neighbours(self.snapshot.tiling, self.tile)

    @property
    def orphan_files(self) -> Sequence[DataFile]:
        """Of all these."""
        files = self.staged or self.snapshot
        return [file for tile in self.near for file in files.of_tile(ORPHANS.name, tile)]


@dataclass(frozen=True)
class WrittenTransients(Written):
    """Transients of a tile; a file of them even if there are none."""

    transients: int
    """Grouped; those of units without new orphans stay as they are."""
    detections: int
    """Of these."""
    undecided: int
    """Groups left out, since they may go on beyond the tile's reach."""


def group_orphans(task: TransientTask) -> WrittenTransients:
    """Write the tile's transients and the links to their detections.

    Only units with new orphans in reach are grouped; the transients of the others stay as they are: the orphans of a
    unit decide on its transients, and nothing else. Without any such unit the files stay, too.
    """
    anew = _Wanted.of(task)
    if anew.codes is not None and not len(anew.codes):
        return WrittenTransients([*task.files(TRANSIENTS), *task.files(TRANSIENTDATA)], 0, 0, 0)
    kept, links = _rows_that_hold(task, anew)
    ledger = _Ledger(task)
    parts, undecided = [_no_transients()], 0
    for orphans in _units(task, anew):
        found = _Unit(task, orphans, ledger)
        parts.append(found.own())
        undecided += found.undecided()
    epochs = _ordered({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    curves = _lightcurves(epochs)
    rows = _by_id(kept, _transients(task, curves, ledger.public))
    links = _by_id(links, table_from_columns(TRANSIENTDATA, epochs))
    files = [write_file(_to(task, TRANSIENTS), rows)]
    if links.num_rows:
        files.append(write_file(_to(task, TRANSIENTDATA), links))
    return WrittenTransients(files, len(curves.objectid), len(epochs["transientid"]), undecided)


@dataclass(frozen=True)
class _Wanted:
    """Units that are to be grouped; None for all."""

    codes: Ids | None

    @classmethod
    def of(cls, task: TransientTask) -> _Wanted:
        """Those that have, in reach of the tile, orphans that its transients do not know."""
        known = min((file.commit for file in task.files(TRANSIENTS)), default=-1)
        if task.staged is not None or known < 0:
            return cls(None)
        found = [np.zeros(0, np.int64)]
        for file in task.orphan_files:
            if file.commit > known:
                rows = read_file_rows(task.storage, file, [*_UNIT, "reason", "ra", "dec"])
                columns = numpy_columns(rows.drop_columns(["reason"]))
                found.append(np.unique(_unit_codes(columns)[_is_judged(rows) & _within(task, file, columns)]))
        return cls(np.unique(np.concatenate(found)))

    def has(self, codes: Ids) -> npt.NDArray[np.bool_]:
        """Whether each unit is wanted, shape (N,)."""
        return np.ones(len(codes), bool) if self.codes is None else is_among(codes, self.codes)

    def may_be_in(self, footer: Footer, group: int) -> bool:
        """Whether a row group can have rows of such units."""
        if self.codes is None:
            return True
        columns = footer.tail.metadata.schema.names
        row_group = footer.tail.metadata.row_group(group)
        kept = np.ones(len(self.codes), bool)
        for name, values in zip(_UNIT, _unit_of(self.codes), strict=True):
            bounds = row_group.column(columns.index(name)).statistics
            if bounds is not None and bounds.has_min_max:
                kept &= (values >= bounds.min) & (values <= bounds.max)
        return bool(kept.any())


def _rows_that_hold(task: TransientTask, anew: _Wanted) -> tuple[pa.Table, pa.Table]:
    """Transients of units that are not grouped anew, and their links."""
    rows, links = (
        table.schema.empty_table() if anew.codes is None else task.read(table) for table in (TRANSIENTS, TRANSIENTDATA)
    )
    rows = rows.filter(pa.array(~anew.has(_unit_codes(numpy_columns(rows.select(_UNIT))))))
    return rows, links.filter(pa.array(is_among(links["transientid"].to_numpy(), rows["transientid"].to_numpy())))


def _by_id(first: pa.Table, second: pa.Table) -> pa.Table:
    """Rows of both by transient, each one's in the order in which they are."""
    rows = pa.concat_tables([first, second])
    return rows.take(pa.array(np.argsort(rows["transientid"].to_numpy(), kind="stable")))


class _Ledger:
    """What has to be known of the exposures: their order, and which are public."""

    def __init__(self, task: TransientTask) -> None:
        rows = exposures_of_tiles(task.snapshot, task.near, _LEDGER)
        keys = [rows[name].to_numpy() for name in ("exposureid", "obsmjd", "commit")]
        order = np.lexsort(keys)
        self._row_of = build_map(keys[0][order])
        self.public = released_exposures(rows)

    def order_of(self, exposureid: Ids) -> npt.NDArray[np.int32]:
        """Number of each exposure in the order in which they came in: by commit, then time."""
        return np.asarray(find_rows(self._row_of, exposureid))


def _units(task: TransientTask, wanted: _Wanted) -> Iterator[Arrays]:
    """Orphans of units with a reference within the tile's reach, unit after unit."""
    index = _Index(task, wanted)
    for units in index.passes():
        columns = index.read(units)
        code = _unit_codes(columns)
        order = np.argsort(code, kind="stable")
        edges = np.searchsorted(code[order], [*units, np.iinfo(np.int64).max])
        for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if stop > first:
                yield {name: values[order[first:stop]] for name, values in columns.items()}


@dataclass(frozen=True)
class _Held:
    """What a file has of the wanted units: each unit of each row group."""

    file: DataFile
    footer: Footer
    group: Ids
    code: Ids

    def groups(self, units: Ids) -> list[int]:
        """Row groups that have rows of some units."""
        return [int(group) for group in np.unique(self.group[is_among(self.code, units)])]


class _Index:
    """Where the orphans of each wanted unit are: files are sorted by unit, so a row group holds few of them."""

    def __init__(self, task: TransientTask, wanted: _Wanted) -> None:
        self._task = task
        self._files: list[_Held] = []
        self._rows: dict[int, int] = {}
        for file in task.orphan_files:
            footer = read_footer(task.storage, file)
            groups = [group for group in range(len(footer.groups)) if wanted.may_be_in(footer, group)]
            if groups:
                self._add(file, footer, groups, wanted)

    def _add(self, file: DataFile, footer: Footer, groups: Sequence[int], wanted: _Wanted) -> None:
        rows = OpenFile(self._task.storage, file, footer.tail).read(groups, [*_UNIT, "reason"])
        group = np.repeat(np.array(groups, np.int64), [footer.groups[number].rows for number in groups])
        code = _unit_codes(numpy_columns(rows.select(_UNIT)))
        ours = wanted.has(code) & _is_judged(rows)
        codes, counts = np.unique(code[ours], return_counts=True)
        for unit, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self._rows[unit] = self._rows.get(unit, 0) + count
        pairs = np.unique(group[ours] << _CODE_BITS | code[ours])
        self._files.append(_Held(file, footer, pairs >> _CODE_BITS, pairs & (1 << _CODE_BITS) - 1))

    def passes(self) -> Iterator[list[int]]:
        """Units, ascending, so many at a time that ROWS_PER_PASS holds their rows."""
        units: list[int] = []
        held = 0
        for code in sorted(self._rows):
            if units and held + self._rows[code] > ROWS_PER_PASS:
                yield units
                units, held = [], 0
            units.append(code)
            held += self._rows[code]
        if units:
            yield units

    def read(self, units: Sequence[int]) -> Arrays:
        """Rows of some units, in reach."""
        wanted = np.array(units, np.int64)
        parts = [self._read(held, groups, wanted) for held in self._files if (groups := held.groups(wanted))]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _read(self, held: _Held, groups: Sequence[int], units: Ids) -> Arrays:
        rows = OpenFile(self._task.storage, held.file, held.footer.tail).read(groups, [*_COLUMNS, "reason"])
        ours = _is_judged(rows) & is_among(_unit_codes(numpy_columns(rows.select(_UNIT))), units)
        rows = rows.drop_columns(["reason"]).filter(pa.array(ours))
        nearest = rows["nearestid"].fill_null(0).to_numpy()
        columns = numpy_columns(rows.drop_columns(["nearestid"])) | {"nearestid": nearest}
        within = _within(self._task, held.file, columns)
        return columns if within.all() else {name: values[within] for name, values in columns.items()}


def _within(task: TransientTask, file: DataFile, columns: Arrays) -> npt.NDArray[np.bool_]:
    """Whether rows of a file are within the tile's reach."""
    if file.tile == task.tile:
        return np.ones(len(columns["ra"]), bool)
    return in_reach(fine_pixels(columns["ra"], columns["dec"]), task.tile)


def _is_judged(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether no reference is awaited for orphans: no seed is near, or another was nearer to it, shape (N,)."""
    return np.asarray(pc.not_equal(rows["reason"], NO_REFERENCE).to_numpy())


def _unit_codes(columns: Arrays) -> Ids:
    """One number for each unit, ascending by field, readout channel, filter."""
    field, rcid, fid = (columns[name].astype(np.int64) for name in _UNIT)
    return (field * N_RCID + rcid) * 4 + fid


def _unit_of(code: Ids) -> tuple[Ids, Ids, Ids]:
    """Field, readout channel and filter of such numbers."""
    return code // 4 // N_RCID, code // 4 % N_RCID, code % 4


class _Unit:
    """The orphans of one unit, grouped.

    Attributes
    ----------
    groups : Groups
    """

    def __init__(self, task: TransientTask, orphans: Arrays, ledger: _Ledger) -> None:
        exposure = ledger.order_of(orphans["exposureid"])
        order = np.lexsort((orphans["sourceid"], exposure))
        self._columns = {name: values[order] for name, values in orphans.items()}
        self._task = task
        self._xyz = unit_vectors(self._columns["ra"], self._columns["dec"])
        self._fine = fine_pixels(self._columns["ra"], self._columns["dec"])
        edge = at_edge_of_reach(self._fine, task.tile)
        self.groups: Groups = link_detections(self._xyz, exposure[order], edge, task.snapshot.config.radius_arcsec)

    def undecided(self) -> int:
        """Groups left out that a detection of this tile founded."""
        return int(in_tile(self._fine[self.groups.undecided], self._task.tile).sum())

    def own(self) -> Arrays:
        """Detections of the transients whose mean position lies in the tile, with that position and the id."""
        groups = self.groups
        counts = np.diff(groups.offsets)
        if not len(counts):
            return _no_transients()
        mean = np.add.reduceat(self._xyz[groups.row], groups.offsets[:-1])
        ra, dec = lonlats_of(mean)
        own = in_tile(fine_pixels(ra, dec), self._task.tile)
        founders = {name: self._columns[name][groups.founder].astype(np.int64) for name in ("exposureid", "sourceid")}
        _check_founders(**founders)
        of_transient = {"transientid": transientid_of(**founders), "meanra": ra, "meandec": dec}
        rows = groups.row[np.repeat(own, counts)]
        return {name: values[rows] for name, values in self._columns.items()} | {
            name: np.repeat(values[own], counts[own]) for name, values in of_transient.items()
        }


def _check_founders(exposureid: Ids, sourceid: Ids) -> None:
    """Refuse detections after which no transient can be named."""
    date = exposureid // 10**8
    bad = (date < FIRST_TRANSIENT_DATE) | (date > LAST_TRANSIENT_DATE) | (sourceid > MAX_SOURCEID)
    if bad.any():
        row = int(np.argmax(bad))
        dates = (FIRST_TRANSIENT_DATE, LAST_TRANSIENT_DATE)
        first, last = (f"{d // 10_000}-{d // 100 % 100:02d}-{d % 100:02d}" for d in dates)
        raise BadInputError(
            f"exposure {exposureid[row]}, source {sourceid[row]}: no transient can be named after it; expected a date "
            f"of {first} to {last} and a source of 0 to {MAX_SOURCEID}"
        )


def _no_transients() -> Arrays:
    empty = numpy_columns(ORPHANS.schema.empty_table().select(_COLUMNS))
    return empty | {"transientid": np.zeros(0, np.int64), "meanra": np.zeros(0), "meandec": np.zeros(0)}


def _ordered(epochs: Arrays) -> Arrays:
    """By transient, then time."""
    order = np.lexsort((epochs["exposureid"], epochs["hmjd"], epochs["transientid"]))
    return {name: values[order] for name, values in epochs.items()}


def _lightcurves(epochs: Arrays) -> Lightcurves:
    ids, starts = np.unique(epochs["transientid"], return_index=True)
    return Lightcurves(ids, np.append(starts, len(epochs["transientid"])).astype(np.int64), epochs)


def _transients(task: TransientTask, curves: Lightcurves, public: IdMap) -> pa.Table:
    """One row a transient, with its statistics."""
    first, last = curves.offsets[:-1], curves.offsets[1:] - 1
    columns: dict[str, Any] = {name: curves.columns[name][first] for name in _UNIT}
    columns |= {"transientid": curves.objectid, "snapshot": np.full(len(first), task.snapshot.number)}
    transient = np.repeat(np.arange(len(first)), np.diff(curves.offsets))
    beside, lost = most_frequent(transient, curves.columns["nearestid"], len(first))
    columns |= {"besideid": pa.array(beside, mask=beside == 0), "nbeside": lost.astype(np.int32)}
    columns |= {"ra": curves.columns["meanra"][first], "dec": curves.columns["meandec"][first]}
    columns |= {"firsthmjd": curves.columns["hmjd"][first], "lasthmjd": curves.columns["hmjd"][last]}
    return table_from_columns(TRANSIENTS, {**statistics_of(curves, public), **columns})


def _to(task: TransientTask, table: Any) -> Destination:
    return Destination(task.storage, table, task.tile, task.commit, task.part)
