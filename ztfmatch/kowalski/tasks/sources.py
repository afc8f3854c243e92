"""Documents of the objects of one tile: all of them, or the changes since a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Array, Arrays, Floats, Ids, Mask
from ztfmatch.core.errors import BadInputError, StoreDamagedError
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves, numpy_columns
from ztfmatch.core.io.parquet import DataFile, read_table
from ztfmatch.core.io.rows import active_rows, unit_arrays
from ztfmatch.core.io.snapshot import OfSnapshot, SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.lookup import build_map, find_rows, find_sorted, in_ranges
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, MEMBERS, OBJECTS
from ztfmatch.core.survey import MAX_SOURCEID, Unit, objectid_range, unit_columns
from ztfmatch.core.tasks.ledger import exposures_of_tile
from ztfmatch.core.tasks.statistics import EPOCH_COLUMNS, statistics_of
from ztfmatch.kowalski.io.jsonlines import LinesForm, LinesWriter, LinesWritten, RowsBuilder
from ztfmatch.kowalski.kernels.decimals import degrees_text, hours_text, rounded_cells
from ztfmatch.kowalski.kernels.identity import NO_EXPID, expids, exposure_ids, interquartile_range, source_ids
from ztfmatch.kowalski.kernels.jsontext import Rows, Texts, write_documents
from ztfmatch.kowalski.schema import (
    EPOCH_DECIMALS,
    HJD_OF_HMJD,
    REFERENCE,
    SOURCE_DECIMALS,
    SOURCES,
    STATISTICS,
    UPDATE,
    UPSERT,
)
from ztfmatch.kowalski.tasks.scope import Scope

ROWS_IN_FLIGHT: Final = 400_000
BYTES_PER_ROW_IN_FLIGHT: Final = 400
BYTES_PER_ROW_CARRIED: Final = 70
BYTES_PER_OBJECT: Final = 250
_EPOCHS_PER_BATCH: Final = 20_000
"""So few that their text stays in the processor's cache until it is compressed."""

_OBJECT_COLUMNS: Final = ("objectid", "ra", "dec", *REFERENCE)
_LEDGER_COLUMNS: Final = ("exposureid", "field", "rcid", "fid", "expid", "programid", "quality")
_EPOCHS: Final = (*EPOCH_COLUMNS, "chi", "sharp")
_OLD, _NEW, _CHANGED = 0, 1, 2


@dataclass(frozen=True)
class Changes:
    """What of a tile changed since a snapshot."""

    new: tuple[int, ...]
    """Exposures whose epochs were not there."""
    changed: tuple[int, ...]
    """Exposures whose epochs have other values."""
    units: tuple[Unit, ...]
    """Whose objects, or the epochs that these have, are others."""
    touched: tuple[Unit, ...]
    """Units of all of these."""


@dataclass(frozen=True)
class LinesTask(OfSnapshot):
    """What every task needs that writes lines."""

    key: str
    snapshot: SnapshotFiles
    output: Storage
    scope: Scope
    form: LinesForm


@dataclass(frozen=True)
class SourcesTask(LinesTask):
    """One tile."""

    tile: Tile
    changes: Changes | None = None
    """None for all."""
    whole: bool = False
    """Write objects with new epochs whole, too."""
    starids: bool = False
    """Give each object the id of its star."""

    def objects(self) -> list[DataFile]:
        """Files of the tile's objects."""
        return self.snapshot.of_tile(OBJECTS.name, self.tile)

    def detections(self) -> list[DataFile]:
        """Files of the tile's detections, or those of them that can have what changed."""
        files = self.snapshot.of_tile(DETECTIONS.name, self.tile)
        if self.changes is None:
            return files
        ranges = [objectid_range(unit) for unit in self.changes.touched]
        return [file for file in files if file.holds_id(ranges)]


def export_sources(task: SourcesTask) -> LinesWritten:
    """Write the documents of the tile's objects."""
    objects = _Objects(task)
    exposures = Exposures(task.snapshot, task.tile, task.scope, task.changes)
    part = f"N{task.tile.order:02d}-{task.tile.npix:08d}"
    writers = {action: LinesWriter(task.output, SOURCES, action, part, task.form) for action in (UPSERT, UPDATE)}
    for chunk in iterate_lightcurves(task.storage, task.detections(), _EPOCHS, ROWS_IN_FLIGHT):
        for batch in _batches(_chosen(chunk, exposures, task.changes)):
            _write(batch, objects, exposures, task, writers)
    return LinesWritten(tuple(file for writer in writers.values() for file in writer.close().files))


class Exposures:
    """The exposures of a tile, and what their epochs are given of them.

    Attributes
    ----------
    exported : bool ndarray, shape (N,)
        Whether each is in the scope.
    fresh : int8 ndarray, shape (N,)
        Whether its epochs are old, new or changed.
    uexpid, expid, programid : int64 ndarray, shape (N,)
    no_program : bool ndarray, shape (N,)

    Raises
    ------
    BadInputError
        If two exposures have the same number in Kowalski.
    """

    def __init__(self, snapshot: SnapshotFiles, tile: Tile, scope: Scope, changes: Changes | None = None) -> None:
        rows = exposures_of_tile(snapshot, tile, _LEDGER_COLUMNS)
        self.exported = scope.mask(rows)
        ids = rows["exposureid"].to_numpy()
        self._map = build_map(ids)
        expid = rows["expid"].fill_null(NO_EXPID).to_numpy()
        self.uexpid = exposure_ids(ids, **unit_arrays(rows), expid=expid)
        _require_unique(ids, self.uexpid)
        self.expid = expids(ids, expid)
        self.no_program = rows["programid"].is_null().to_numpy()
        self.programid = rows["programid"].fill_null(0).to_numpy().astype(np.int64)
        self.fresh = np.zeros(len(ids), np.int8)
        if changes is not None:
            self.fresh[np.isin(ids, np.array(changes.new, np.int64))] = _NEW
            self.fresh[np.isin(ids, np.array(changes.changed, np.int64))] = _CHANGED

    def rows_of(self, exposureid: Ids) -> npt.NDArray[np.int32]:
        """Row of the exposure of each epoch.

        Raises
        ------
        StoreDamagedError
            If the ledger lacks one.
        """
        rows: npt.NDArray[np.int32] = find_rows(self._map, exposureid)
        if (rows < 0).any():
            raise StoreDamagedError(f"the ledger has no exposure {exposureid[rows < 0][0]}, of which there are epochs")
        return rows


def _require_unique(exposureid: Ids, uexpid: Ids) -> None:
    order = np.argsort(uexpid, kind="stable")
    same = np.flatnonzero(np.diff(uexpid[order]) == 0)
    if len(same):
        first, second = exposureid[order[same[0] : same[0] + 2]]
        raise BadInputError(
            f"exposures {first} and {second} have the same expid, field, rcid and filter, so that Kowalski would take "
            f"them for one ({uexpid[order[same[0]]]}): mend their expid"
        )


class _Objects:
    """Active objects of a tile by objectid."""

    def __init__(self, task: SourcesTask) -> None:
        rows = active_rows(read_table(task.storage, task.objects(), OBJECTS, [*_OBJECT_COLUMNS, "status"]))
        self._columns: Arrays = numpy_columns(rows.select(list(_OBJECT_COLUMNS)).sort_by("objectid"))
        if task.starids:
            self._columns["starid"] = _starids(task, self._columns["objectid"])

    def of(self, objectid: Ids) -> Arrays:
        """Columns of some objects, all of which must be there."""
        rows = find_sorted(self._columns["objectid"], objectid)
        if (rows < 0).any():
            missing = objectid[rows < 0][0]
            raise StoreDamagedError(f"there are epochs of {missing}, which is no active object of their tile")
        return {name: values[rows] for name, values in self._columns.items()}


def _starids(task: SourcesTask, objectid: Ids) -> Ids:
    """Starid of each object of the tile; all of them are linked."""
    rows = task.snapshot.read(MEMBERS.name, ["objectid", "starid"], tile=task.tile).sort_by("objectid")
    at = find_sorted(rows["objectid"].to_numpy(), objectid)
    if (at < 0).any():
        raise StoreDamagedError(f"object {objectid[at < 0][0]} is of no star: run 'ztfmatch link'")
    starid: Ids = rows["starid"].to_numpy()[at]
    return starid


@dataclass(frozen=True)
class _Chosen:
    """Lightcurves to be exported, with the row of each epoch's exposure and whether each object is written whole."""

    curves: Lightcurves
    exposure: npt.NDArray[np.int32]
    whole: Mask


def _chosen(chunk: Lightcurves, exposures: Exposures, changes: Changes | None) -> _Chosen:
    """Epochs in the scope, of objects that changed."""
    rows = exposures.rows_of(chunk.columns["exposureid"])
    counts = np.diff(chunk.offsets)
    keep = exposures.exported[rows]
    if changes is None:
        return _kept(chunk, rows, keep, np.ones(len(counts), bool))
    owner = np.repeat(np.arange(len(counts)), counts)
    fresh = np.where(keep, exposures.fresh[rows], _OLD)
    n_epochs, n_new, n_changed = (
        np.bincount(owner[which], minlength=len(counts)) for which in (keep, fresh == _NEW, fresh == _CHANGED)
    )
    whole = _in_units(chunk.objectid, changes.units) | (n_changed > 0) | (n_new == n_epochs)
    return _kept(chunk, rows, keep & (whole | (n_new > 0))[owner], whole)


def _in_units(objectid: Ids, units: tuple[Unit, ...]) -> Mask:
    if not units:
        return np.zeros(len(objectid), bool)
    return in_ranges(objectid, [objectid_range(unit) for unit in units])


def _kept(chunk: Lightcurves, rows: npt.NDArray[np.int32], keep: Mask, whole: Mask) -> _Chosen:
    """Some epochs of lightcurves; objects that have none are left out."""
    if keep.all():
        return _Chosen(chunk, rows, whole)
    curves, left = chunk.of_epochs(keep)
    return _Chosen(curves, rows[keep], whole[left])


def _batches(chosen: _Chosen) -> Iterator[_Chosen]:
    """Runs of objects with at most so many epochs, but for an object with more."""
    offsets, start = chosen.curves.offsets, 0
    while start < len(chosen.curves.objectid):
        stop = int(np.searchsorted(offsets, offsets[start] + _EPOCHS_PER_BATCH, side="right")) - 1
        stop = max(stop, start + 1)
        exposure = chosen.exposure[offsets[start] : offsets[stop]]
        yield _Chosen(chosen.curves.part(start, stop), exposure, chosen.whole[start:stop])
        start = stop


_NOTHING = build_map(np.zeros(0, np.int64))


def _write(
    batch: _Chosen, objects: _Objects, exposures: Exposures, task: SourcesTask, writers: dict[str, LinesWriter]
) -> None:
    curves = batch.curves
    values = statistics_of(curves, _NOTHING)
    statistics = {name: values[name] for name in ("nobs", *STATISTICS)}
    statistics["iqr"] = interquartile_range(values["percentiles_25"], values["percentiles_75"])
    batch = _ordered(batch, exposures)  # statistics go by the exact times
    rows = _epoch_rows(batch, exposures)
    whole = np.ones(len(batch.whole), bool) if task.whole else batch.whole
    counts = np.diff(curves.offsets)
    if whole.any():
        documents = _source_rows(objects.of(curves.objectid[whole]), _of(statistics, whole))
        _add(writers[UPSERT], documents, rows, np.repeat(whole, counts), counts[whole])
    if not whole.all():
        epochs = np.repeat(~whole, counts) & (exposures.fresh[batch.exposure] == _NEW)
        owner = np.repeat(np.arange(len(counts)), counts)
        new = np.bincount(owner[epochs], minlength=len(counts))[~whole]
        _add(writers[UPDATE], _update_rows(curves.objectid[~whole], _of(statistics, ~whole)), rows, epochs, new)


def _of(columns: Arrays, which: Mask) -> Arrays:
    return {name: values[which] for name, values in columns.items()}


def _add(writer: LinesWriter, documents: Rows, rows: Rows, which: Mask, counts: Array) -> None:
    """Write documents with those of the nested rows that are theirs."""
    nested = rows if which.all() else rows._replace(cells=np.ascontiguousarray(rows.cells[:, which]))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    writer.add(write_documents(documents, nested, offsets), len(counts), int(offsets[-1]))


def _ordered(batch: _Chosen, exposures: Exposures) -> _Chosen:
    """Epochs in Kowalski's order: by hjd as rounded, then by uexpid."""
    curves = batch.curves
    days, _ = rounded_cells(curves.columns["hmjd"] + HJD_OF_HMJD, EPOCH_DECIMALS["hjd"])
    owner = curves.spread(np.arange(len(curves.objectid)))
    uexpid = exposures.uexpid[batch.exposure]
    tied = (days[1:] == days[:-1]) & (owner[1:] == owner[:-1]) & (uexpid[1:] < uexpid[:-1])
    if not tied.any():
        return batch
    order = np.lexsort([uexpid, days, owner])
    columns = {name: values[order] for name, values in curves.columns.items()}
    return _Chosen(Lightcurves(curves.objectid, curves.offsets, columns), batch.exposure[order], batch.whole)


def _epoch_rows(batch: _Chosen, exposures: Exposures) -> Rows:
    exposure = batch.exposure
    columns = batch.curves.columns | {"hjd": batch.curves.columns["hmjd"] + HJD_OF_HMJD}
    rows = RowsBuilder()
    rows.integers("catflags", columns["catflags"])
    rows.rounded("chi", columns["chi"], EPOCH_DECIMALS["chi"])
    rows.exact("dec", columns["dec"])
    rows.integers("expid", exposures.expid[exposure])
    for name in ("hjd", "mag", "magerr"):
        rows.rounded(name, columns[name], EPOCH_DECIMALS[name])
    rows.integers("programid", exposures.programid[exposure], exposures.no_program[exposure])
    rows.exact("ra", columns["ra"])
    rows.rounded("sharp", columns["sharp"], EPOCH_DECIMALS["sharp"])
    rows.integers("uexpid", exposures.uexpid[exposure])
    return rows.rows()


def _source_rows(objects: Arrays, statistics: Arrays) -> Rows:
    objectid = objects["objectid"]
    rcid, field, fid = unit_columns(objectid)
    rows = RowsBuilder()
    rows.integers("_id", source_ids(objectid))
    rows.integers("matchid", objectid % (MAX_SOURCEID + 1))
    if "starid" in objects:
        rows.integers("starid", objects["starid"])
    for name in ("ra", "dec"):
        rows.exact(name, objects[name])
    _add_statistics(rows, statistics)
    for name in REFERENCE:
        rows.rounded(name, objects[name], SOURCE_DECIMALS)
    rows.units(field, rcid, fid)
    _add_coordinates(rows, objects["ra"], objects["dec"])
    return rows.documents(',"data":[', "]}\n")


def _add_coordinates(rows: RowsBuilder, ra: Floats, dec: Floats) -> None:
    """As texts, and as GeoJSON, whose longitudes are Kowalski's ra - 180."""
    rows.say(',"coordinates":{"radec_str":["')
    hours = hours_text(ra % 360.0)
    rows.texts(Texts(hours.ravel(), np.arange(0, hours.size + 1, hours.shape[1])))
    rows.say('","')
    degrees, lengths = degrees_text(dec)
    within = np.arange(degrees.shape[1]) < lengths[:, None]
    rows.texts(Texts(degrees[within], np.concatenate([[0], np.cumsum(lengths)])))
    rows.say('"],"radec_geojson":{"type":"Point","coordinates":[')
    rows.unnamed(ra - 180.0)
    rows.say(",")
    rows.unnamed(dec)
    rows.say("]}}")


def _update_rows(objectid: Ids, statistics: Arrays) -> Rows:
    rows = RowsBuilder()
    rows.integers("_id", source_ids(objectid))
    rows.say(',"set":{')
    _add_statistics(rows, statistics)
    return rows.documents('},"push":{"data":[', "]}}\n")


def _add_statistics(rows: RowsBuilder, statistics: Arrays) -> None:
    for name, values in statistics.items():
        if name == "nobs":
            rows.integers(name, values)
        else:
            rows.rounded(name, values, SOURCE_DECIMALS)
