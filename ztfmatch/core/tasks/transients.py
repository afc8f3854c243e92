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
    read_footer,
    read_row_group,
    table_from_columns,
    write_file,
)
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import IdMap, build_map, find_rows
from ztfmatch.core.kernels.sphere import lonlats_of, unit_vectors
from ztfmatch.core.kernels.tiling import Tile, at_edge_of_reach, fine_pixels, in_reach, in_tile
from ztfmatch.core.kernels.transients import Groups, link_detections, most_frequent
from ztfmatch.core.schema import ORPHANS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.schema.sky import NO_REFERENCE
from ztfmatch.core.survey import FIRST_TRANSIENT_DATE, LAST_TRANSIENT_DATE, MAX_SOURCEID, N_RCID, transientid_of
from ztfmatch.core.tasks.ledger import exposures_of_tiles
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.statistics import EPOCH_COLUMNS, released_exposures, statistics_of

ROWS_PER_PASS: Final = 2_000_000
"""Orphans that are held at a time, unless one unit has more."""

BYTES_PER_ROW: Final = 400
"""Peak memory of a task per orphan that it holds; tests compare it with what is measured."""

_UNIT: Final = ("field", "rcid", "fid")
_LEDGER: Final = ("exposureid", "commit", "obsmjd", "programid")
_COLUMNS: Final = tuple(dict.fromkeys((*_UNIT, "nearestid", "sourceid", *EPOCH_COLUMNS)))

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TransientTask:
    """One tile."""

    key: str
    storage: Storage
    tile: Tile
    near: tuple[Tile, ...]
    """The tile and its neighbours."""
    orphans: tuple[DataFile, ...]
    """Of all these."""
    exposures: tuple[DataFile, ...]
    """The ledger."""
    radius_arcsec: float
    snapshot: int
    """From which the orphans are."""
    commit: int
    part: str


@dataclass(frozen=True)
class WrittenTransients(Written):
    """Transients of a tile; a file of them even if there are none."""

    transients: int
    detections: int
    undecided: int
    """Groups left out, since they may go on beyond the tile's reach."""


def group_orphans(task: TransientTask) -> WrittenTransients:
    """Write the tile's transients and the links to their detections."""
    ledger = _Ledger(task)
    parts, undecided = [_no_transients()], 0
    for orphans in _units(task):
        found = _Unit(task, orphans, ledger)
        parts.append(found.own())
        undecided += found.undecided()
    epochs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    epochs = _ordered(epochs)
    curves = _lightcurves(epochs)
    files = [write_file(_to(task, TRANSIENTS), _transients(task, curves, ledger.public))]
    if len(epochs["transientid"]):
        files.append(write_file(_to(task, TRANSIENTDATA), table_from_columns(TRANSIENTDATA, epochs)))
    return WrittenTransients(files, len(curves.objectid), len(epochs["transientid"]), undecided)


class _Ledger:
    """What has to be known of the exposures: their order, and which are public."""

    def __init__(self, task: TransientTask) -> None:
        rows = exposures_of_tiles(task.storage, task.exposures, task.near, _LEDGER)
        keys = [rows[name].to_numpy() for name in ("exposureid", "obsmjd", "commit")]
        order = np.lexsort(keys)
        self._row_of = build_map(keys[0][order])
        self.public = released_exposures(rows)

    def order_of(self, exposureid: Ids) -> npt.NDArray[np.int32]:
        """Number of each exposure in the order in which they came in: by commit, then time."""
        return np.asarray(find_rows(self._row_of, exposureid))


def _units(task: TransientTask) -> Iterator[Arrays]:
    """Orphans of units with a reference within the tile's reach, unit after unit."""
    index = _Index(task)
    for units in index.passes():
        columns = index.read(units)
        code = _unit_codes(columns)
        order = np.argsort(code, kind="stable")
        edges = np.searchsorted(code[order], [*units, np.iinfo(np.int64).max])
        for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if stop > first:
                yield {name: values[order[first:stop]] for name, values in columns.items()}


class _Index:
    """Where the orphans of each unit are: files are sorted by unit, so a row group holds few of them."""

    def __init__(self, task: TransientTask) -> None:
        self._task = task
        self._groups: list[tuple[DataFile, Footer, int, Ids]] = []
        self._rows: dict[int, int] = {}
        for file in task.orphans:
            footer = read_footer(task.storage, file)
            for number in range(len(footer.groups)):
                rows = read_row_group(task.storage, file, footer, number, [*_UNIT, "reason"])
                codes, counts = np.unique(_unit_codes(numpy_columns(_judged(rows))), return_counts=True)
                self._groups.append((file, footer, number, codes))
                for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
                    self._rows[code] = self._rows.get(code, 0) + count

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
        parts = [
            self._read_group(file, footer, number, wanted)
            for file, footer, number, codes in self._groups
            if np.isin(codes, wanted).any()
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _read_group(self, file: DataFile, footer: Footer, number: int, units: Ids) -> Arrays:
        rows = _judged(read_row_group(self._task.storage, file, footer, number, [*_COLUMNS, "reason"]))
        nearest = rows["nearestid"].fill_null(0).to_numpy()
        columns = numpy_columns(rows.drop_columns(["nearestid"])) | {"nearestid": nearest}
        keep = np.isin(_unit_codes(columns), units)
        if file.tile != self._task.tile:
            keep &= in_reach(fine_pixels(columns["ra"], columns["dec"]), self._task.tile)
        return {name: values[keep] for name, values in columns.items()}


def _judged(rows: pa.Table) -> pa.Table:
    """Orphans that no reference is awaited for, without the reason: no seed is near, or another was nearer to it."""
    return rows.filter(pc.not_equal(rows["reason"], NO_REFERENCE)).drop_columns(["reason"])


def _unit_codes(columns: Arrays) -> Ids:
    """One number for each unit, ascending by field, readout channel, filter."""
    field, rcid, fid = (columns[name].astype(np.int64) for name in _UNIT)
    return (field * N_RCID + rcid) * 4 + fid


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
        self.groups: Groups = link_detections(self._xyz, exposure[order], edge, task.radius_arcsec)

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
    columns |= {"transientid": curves.objectid, "snapshot": np.full(len(first), task.snapshot)}
    transient = np.repeat(np.arange(len(first)), np.diff(curves.offsets))
    beside, lost = most_frequent(transient, curves.columns["nearestid"], len(first))
    columns |= {"besideid": pa.array(beside, mask=beside == 0), "nbeside": lost.astype(np.int32)}
    columns |= {"ra": curves.columns["meanra"][first], "dec": curves.columns["meandec"][first]}
    columns |= {"firsthmjd": curves.columns["hmjd"][first], "lasthmjd": curves.columns["hmjd"][last]}
    return table_from_columns(TRANSIENTS, {**statistics_of(curves, public), **columns})


def _to(task: TransientTask, table: Any) -> Destination:
    return Destination(task.storage, table, task.tile, task.commit, task.part)
