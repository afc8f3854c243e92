"""Group the orphans of one tile and its surroundings into transients, and write those that belong to the tile.

A transient belongs to the tile that holds its mean position. The detections that determine it may lie beyond the
border, so the tile looks at all within its reach; what a chain of detections connects with the edge of that is left out
(:mod:`ztfmatch.core.kernels.transients`), which takes a chain of twenty detections and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.arrays import Arrays, Ids
from ztfmatch.core.errors import BadInputError
from ztfmatch.core.io.merge import Lightcurves, numpy_columns
from ztfmatch.core.io.parquet import Columns, DataFile, table_from_columns, write_file
from ztfmatch.core.io.rows import UNIT, codes_of_rows
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.kernels.lookup import IdMap, build_map, find_rows, is_among
from ztfmatch.core.kernels.sphere import lonlats_of, unit_vectors
from ztfmatch.core.kernels.tiling import Tile, at_edge_of_reach, fine_pixels, in_tile, neighbours
from ztfmatch.core.kernels.transients import Groups, link_detections, most_frequent
from ztfmatch.core.schema import ORPHANS, TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.survey import FIRST_TRANSIENT_DATE, LAST_TRANSIENT_DATE, MAX_SOURCEID, Unit, transientid_of
from ztfmatch.core.tasks.ledger import exposures_of_tiles
from ztfmatch.core.tasks.orphans import COLUMNS, Units, orphans_by_unit
from ztfmatch.core.tasks.results import Written
from ztfmatch.core.tasks.statistics import released_exposures, statistics_of
from ztfmatch.core.tasks.tile import WritingTask

BYTES_PER_ROW: Final = 400
"""Peak memory of a task per orphan that it holds; tests compare it with what is measured."""

BYTES_PER_TRANSIENT: Final = 900
BYTES_PER_LINK: Final = 80
"""The same per row that the tile has already."""

_LEDGER: Final = ("exposureid", "commit", "obsmjd", "programid")


@dataclass(frozen=True)
class TransientTask(WritingTask):
    """One tile of the snapshot from which the orphans are."""

    staged: StagedFiles | None = None
    """Where the orphans, or exposures, are to be others than those of the snapshot."""
    changed: tuple[Unit, ...] | None = None
    """Units of which they are others; None where they can be of any."""

    @property
    def near(self) -> list[Tile]:
        """The tile and its neighbours."""
        return neighbours(self.snapshot.tiling, self.tile)

    @property
    def orphan_files(self) -> Sequence[DataFile]:
        """Of all these."""
        return self._orphan_files(self.staged or self.snapshot)

    @property
    def committed_files(self) -> Sequence[DataFile]:
        """Of all these in the snapshot."""
        return self._orphan_files(self.snapshot)

    def _orphan_files(self, files: StagedFiles | SnapshotFiles) -> Sequence[DataFile]:
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
    anew = _units_anew(task)
    if anew.codes is not None and not len(anew.codes):
        return WrittenTransients([*task.files(TRANSIENTS), *task.files(TRANSIENTDATA)], 0, 0, 0)
    kept, links = _rows_that_hold(task, anew)
    ledger = _Ledger(task)
    parts, undecided = _grouped(task, anew, ledger)
    epochs = _ordered(parts)
    curves = _lightcurves(epochs)
    rows = _by_id(kept, _transients(task, curves, ledger.public))
    links = _by_id(links, table_from_columns(TRANSIENTDATA, epochs))
    files = [write_file(task.to(TRANSIENTS), rows)]
    if links.num_rows:
        files.append(write_file(task.to(TRANSIENTDATA), links))
    return WrittenTransients(files, len(curves.objectid), len(epochs["transientid"]), undecided)


def _grouped(task: TransientTask, units: Units, ledger: _Ledger) -> tuple[list[Arrays], int]:
    """Detections of the tile's transients of some units, unit after unit; and the number of groups left out."""
    parts, undecided = [_no_transients()], 0
    for orphans in orphans_by_unit(task, units):
        found = _Unit(task, orphans, ledger)
        parts.append(found.own())
        undecided += found.undecided()
    return parts, undecided


def _units_anew(task: TransientTask) -> Units:
    """Units with orphans in reach that the tile's transients do not know, and those whose orphans are others now.

    All where that is not known, and where the tile has no transients yet.
    """
    known = min((file.commit for file in task.files(TRANSIENTS)), default=-1)
    if known < 0 or (task.staged is not None and task.changed is None):
        return Units(None)
    newer = [file for file in task.committed_files if file.commit > known]
    return Units.of_files(task, newer).with_units(task.changed or ())


def _rows_that_hold(task: TransientTask, anew: Units) -> tuple[pa.Table, pa.Table]:
    """Transients of units that are not grouped anew, and their links."""
    rows, links = (table.empty if anew.codes is None else task.read(table) for table in (TRANSIENTS, TRANSIENTDATA))
    rows = rows.filter(pa.array(~anew.has(codes_of_rows(rows))))
    return rows, links.filter(pa.array(is_among(links["transientid"].to_numpy(), rows["transientid"].to_numpy())))


def _by_id(first: pa.Table, second: pa.Table) -> pa.Table:
    """Rows of both by transient, each one's in the order in which they are; the second are so already."""
    if not first.num_rows:
        return second
    rows = pa.concat_tables([first, second])
    return rows.take(pa.array(np.argsort(rows["transientid"].to_numpy(), kind="stable")))


class _Ledger:
    """What has to be known of the exposures: their order, and which are public."""

    def __init__(self, task: TransientTask) -> None:
        rows = exposures_of_tiles(task.staged or task.snapshot, task.near, _LEDGER)
        keys = [rows[name].to_numpy() for name in ("exposureid", "obsmjd", "commit")]
        order = np.lexsort(keys)
        self._row_of = build_map(keys[0][order])
        self.public = released_exposures(rows)

    def order_of(self, exposureid: Ids) -> npt.NDArray[np.int32]:
        """Number of each exposure in the order in which they came in: by commit, then time."""
        return np.asarray(find_rows(self._row_of, exposureid))


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
        self._fine = self._columns["fine"]
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
        return {name: self._columns[name][rows] for name in COLUMNS} | {
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
    empty = numpy_columns(ORPHANS.empty.select(COLUMNS))
    return empty | {"transientid": np.zeros(0, np.int64), "meanra": np.zeros(0), "meandec": np.zeros(0)}


def _ordered(parts: list[Arrays]) -> Arrays:
    """Detections by transient, then time; forgets the parts."""
    epochs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    parts.clear()
    order = np.lexsort((epochs["exposureid"], epochs["hmjd"], epochs["transientid"]))
    return {name: values[order] for name, values in epochs.items()}


def _lightcurves(epochs: Arrays) -> Lightcurves:
    ids, starts = np.unique(epochs["transientid"], return_index=True)
    return Lightcurves(ids, np.append(starts, len(epochs["transientid"])).astype(np.int64), epochs)


def _transients(task: TransientTask, curves: Lightcurves, public: IdMap) -> pa.Table:
    """One row a transient, with its statistics."""
    first, last = curves.offsets[:-1], curves.offsets[1:] - 1
    columns: Columns = {name: curves.columns[name][first] for name in UNIT}
    columns |= {"transientid": curves.objectid, "snapshot": np.full(len(first), task.snapshot.number)}
    transient = curves.spread(np.arange(len(first)))
    beside, lost = most_frequent(transient, curves.columns["nearestid"], len(first))
    columns |= {"besideid": pa.array(beside, mask=beside == 0), "nbeside": lost.astype(np.int32)}
    columns |= {"ra": curves.columns["meanra"][first], "dec": curves.columns["meandec"][first]}
    columns |= {"firsthmjd": curves.columns["hmjd"][first], "lasthmjd": curves.columns["hmjd"][last]}
    return table_from_columns(TRANSIENTS, {**statistics_of(curves, public), **columns})
