"""Write a unit of a snapshot as a matchfile.

Epochs that came from a matchfile have every value that they had there, in its order; what the store computed is in the
same columns. Memory follows the exposures and objects of the unit, its orphans, 60 bytes for each imported epoch, and
the lightcurves in flight.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.merge import ROWS_IN_FLIGHT, Lightcurves, iterate_lightcurves, numpy_columns
from ztfmatch.core.io.parquet import DataFile, iterate_batches, read_rows
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.calibration import light_days, observer_vectors
from ztfmatch.core.kernels.lookup import build_map, find_rows
from ztfmatch.core.kernels.sphere import lonlats_of, unit_vectors
from ztfmatch.core.kernels.statistics import Epochs, lightcurve_statistics
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import (
    DETECTIONS,
    EXPOSURES,
    IMPORTED,
    MATCHFILES,
    OBJECTS,
    ORPHANS,
    REFERENCES,
    TRANSIENTDATA,
)
from ztfmatch.core.schema.imported import TRANSIENT_OFFSET
from ztfmatch.core.schema.sky import ACTIVE, EPOCH, MEASURED
from ztfmatch.core.schema.types import numpy_type
from ztfmatch.core.survey import DEFAULT_EXPTIME_S, Unit, expid_of_mjd, is_stand_in, objectid_range
from ztfmatch.core.tasks.statistics import PUBLIC_PROGRAM
from ztfmatch.matchfile import schema as layout
from ztfmatch.matchfile.io.writer import MatchfileWriter, writing_matchfile
from ztfmatch.matchfile.kernels import epochs as kernel
from ztfmatch.matchfile.kernels import rows as legacy

Row = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]

BYTES_PER_EPOCH_IN_FLIGHT: Final = 400
BYTES_PER_IMPORTED: Final = 60
BYTES_PER_ORPHAN: Final = 500

_BATCH_ROWS: Final = 131_072
_KEPT: Final = tuple(column.name for column in (*EPOCH, *MEASURED))
_COPIED: Final = ("catflags", "chi", "dec", "mag", "magerr", "psfflux", "psffluxerr", "ra", "sharp", "xpos", "ypos")
_LAST: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class ExportTask:
    """One unit and the file to be."""

    key: str
    storage: Storage
    snapshot: int
    unit: Unit
    tiles: tuple[Tile, ...]
    """That the unit touches."""
    path: str


def export_unit(task: ExportTask) -> dict[str, Any]:
    """Write the file; return ``unit``, ``path``, ``size`` and the rows of each of its tables."""
    snapshot = open_snapshot(task.storage, task.snapshot)
    unit = _Unit(snapshot, task.unit, task.tiles)
    path = Path(task.path)
    with writing_matchfile(path, task.unit) as file:
        file.describe(unit.attributes())
        file.add("exposures", unit.exposures.rows())
        _write_sources(unit, file)
        _write_transients(unit, file)
    return {"unit": str(task.unit), "path": task.path, "size": path.stat().st_size, **file.rows}


class _Exposures:
    """The unit's rows of the ledger, by time."""

    def __init__(self, unit: Unit, ledger: list[Row]) -> None:
        self._unit = unit
        self._ledger = sorted(ledger, key=lambda row: (row["obsmjd"], row["exposureid"]))
        self._map = build_map(np.array([row["exposureid"] for row in self._ledger], np.int64))
        obsmjd = np.array([row["obsmjd"] for row in self._ledger], np.float64)
        exptime = [DEFAULT_EXPTIME_S if row["exptime"] is None else row["exptime"] for row in self._ledger]
        self.mid_mjd = kernel.mid_exposure(obsmjd, np.array(exptime, np.float64))
        expids = [expid_of_mjd(row["obsmjd"]) if row["expid"] is None else row["expid"] for row in self._ledger]
        self.expid = np.array(expids, np.uint32)
        self.programid = np.array([row["programid"] or 0 for row in self._ledger], np.int16).view(np.uint16)
        self.errors = next(({n: row[n] for n in layout.ERROR_MODEL} for row in self._ledger[::-1]), {})
        self.maglimit = [row["maglimit"] for row in self._ledger if row["maglimit"] is not None]

    def rows_of(self, exposureid: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Row of each exposure."""
        return np.asarray(find_rows(self._map, exposureid).astype(np.int64))

    def rows(self) -> npt.NDArray[np.void]:
        """Rows of the matchfile's table; what is not known is NaN, 0 or empty."""
        rows = np.zeros(len(self._ledger), layout.EXPOSURES)
        for ours, theirs in layout.LEDGER.items():
            missing: Any = np.nan if layout.EXPOSURES[theirs].kind == "f" else b""
            missing = 0 if layout.EXPOSURES[theirs].kind in "iu" else missing
            rows[theirs] = [_plain(row[ours], missing) for row in self._ledger]
        rows["expid"], rows["programid"] = self.expid, self.programid
        rows["obsmjd"] = [row["obsmjd"] for row in self._ledger]
        rows["fracday"] = [0 if is_stand_in(row["fracday"]) else row["fracday"] for row in self._ledger]
        rows["fieldid"], rows["rcid"], rows["filterid"] = self._unit.field, self._unit.rcid, self._unit.fid
        unknown = np.isnan(rows["obshjd"])
        rows["obshjd"][unknown] = self._start_hjd()[unknown]
        for ours, theirs in (("nmatched", "nsources"), ("norphans", "ntransients"), ("nrows", "nstars")):
            counted = [row[ours] if row[theirs] is None else row[theirs] for row in self._ledger]
            rows[theirs] = counted
        return rows

    def _start_hjd(self) -> npt.NDArray[np.float64]:
        """Heliocentric JD of each exposure's start, at the centre of its footprint; NaN where it has none."""
        places = [(np.nan, np.nan) if row["ra"] is None else (row["ra"], row["dec"]) for row in self._ledger]
        obsmjd = np.array([row["obsmjd"] for row in self._ledger], np.float64)
        if not places:
            return obsmjd
        light = light_days(unit_vectors(*np.ascontiguousarray(np.array(places).T)), observer_vectors(obsmjd))
        return np.asarray(kernel.hjd_of_hmjd(obsmjd + light))


def _plain(value: Any, missing: Any) -> Any:
    if value is None:
        return missing
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


class _Extras:
    """What matchfiles said of the unit's imported epochs beside the columns of the store."""

    def __init__(self, rows: pa.Table, exposures: _Exposures) -> None:
        columns: Arrays = {name: rows[name].to_numpy() for name in IMPORTED.names if name != "sid"}
        columns["sid"] = rows["sid"].fill_null(0).to_numpy()
        exposure = exposures.rows_of(columns.pop("exposureid"))
        order = np.argsort(keys := _keys(exposure, columns.pop("sourceid")))
        self._keys = keys[order]
        self._columns: Arrays = {name: values[order] for name, values in columns.items()}

    def find(self, exposure: npt.NDArray[np.int64], sourceid: npt.NDArray[np.int32]) -> tuple[Any, Any]:
        """Which rows of an exposure are imported, and their rows here."""
        if not len(self._keys):
            return np.zeros(len(exposure), bool), np.zeros(0, np.int64)
        wanted = _keys(exposure, sourceid)
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        known = self._keys[place] == wanted
        return known, place[known]

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]


def _keys(exposure: npt.NDArray[np.int64], sourceid: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    return (exposure << 32) + sourceid


class _Unit:
    """What the snapshot has of a unit."""

    def __init__(self, snapshot: SnapshotFiles, unit: Unit, tiles: tuple[Tile, ...]) -> None:
        self.snapshot, self.unit, self.tiles = snapshot, unit, tiles
        self.ids = objectid_range(unit)
        self.exposures = _Exposures(unit, self._of_unit(EXPOSURES.name))
        rows = read_rows(snapshot.storage, snapshot.of_table(IMPORTED.name), IMPORTED.names, [self.ids])
        self.extras = _Extras(IMPORTED.schema.empty_table() if rows is None else rows, self.exposures)

    def files(self, table: str) -> list[DataFile]:
        """Files of its tiles."""
        return [file for tile in self.tiles for file in self.snapshot.of_tile(table, tile)]

    def _of_unit(self, table: str) -> list[Row]:
        field = self.unit.field
        rows = read_rows(
            self.snapshot.storage, self.snapshot.of_table(table), EXPOSURES.names, [(field, field)], "field"
        )
        mine = [] if rows is None else rows.to_pylist()
        return [row for row in mine if (row["rcid"], row["fid"]) == (self.unit.rcid, self.unit.fid)]

    def objects(self) -> pa.Table:
        """Active objects, by objectid."""
        rows = read_rows(self.snapshot.storage, self.files(OBJECTS.name), OBJECTS.names, [self.ids])
        rows = OBJECTS.schema.empty_table() if rows is None else rows
        return rows.filter(pc.equal(rows["status"], ACTIVE)).sort_by("objectid")

    def attributes(self) -> Row:
        """Of the matchfile that was imported last, else what the store knows, by the columns of ``matchfiles``."""
        for row in sorted(self._rows(MATCHFILES.name), key=lambda row: -row["commit"]):
            return row
        reference: Row = max(self._rows(REFERENCES.name), key=lambda row: row["generation"], default={})
        limit = float(np.median(self.exposures.maglimit)) if self.exposures.maglimit else None
        known = {"rfid": reference.get("rfid"), "referencezp": reference.get("magzp"), "globalmaglimit": limit}
        when = self.snapshot.commit.time.replace("T", " ").replace("Z", "")
        return {**known, "datetimematched": when, **self.exposures.errors}

    def _rows(self, table: str) -> list[Row]:
        rows = self.snapshot.read(table).to_pylist()
        mine = (self.unit.field, self.unit.rcid, self.unit.fid)
        return [row for row in rows if (row["field"], row["rcid"], row["fid"]) == mine]


def _write_sources(unit: _Unit, file: MatchfileWriter) -> None:
    """Write ``sourcedata`` lightcurve after lightcurve, and ``sources`` with the statistics of each."""
    objects = unit.objects()
    ids = objects["objectid"].to_numpy()
    statistics = _statistics(_no_epochs(), np.zeros(len(ids) + 1, np.int64), unit.exposures)
    storage, files = unit.snapshot.storage, unit.files(DETECTIONS.name)
    for chunk in iterate_lightcurves(storage, files, _KEPT, ROWS_IN_FLIGHT, wanted=Wanted(span=unit.ids)):
        found = np.searchsorted(ids, chunk.objectid)
        for name, values in _statistics(chunk.columns, chunk.offsets, unit.exposures).items():
            statistics[name][found] = values
        file.add("sourcedata", _sourcedata(unit, chunk))
    columns = {name: objects[name].to_numpy() for name in ("ra", "dec", "refmag", "refmagerr", "refsnr", "refchi")}
    columns |= {"matchid": objects["sourceid"].to_numpy(), "refsharp": objects["refsharp"].to_numpy()}
    file.add("sources", legacy.source_rows(columns, statistics))


def _no_epochs() -> Arrays:
    return numpy_columns(DETECTIONS.schema.empty_table())


def _statistics(columns: Arrays, offsets: npt.NDArray[np.int64], exposures: _Exposures) -> Arrays:
    names = ("hmjd", "mag", "magerr", "catflags", "ra", "dec", "psfflux")
    released = exposures.programid[exposures.rows_of(columns["exposureid"])] == PUBLIC_PROGRAM
    return lightcurve_statistics(Epochs(**{name: columns[name] for name in names}, released=released), offsets)


def _sourcedata(unit: _Unit, chunk: Lightcurves) -> npt.NDArray[np.void]:
    """Rows of some lightcurves: of each those imported in the order of their file, then the others by time."""
    sizes = np.diff(chunk.offsets)
    columns, row = _epochs(unit, chunk.columns, layout.SOURCEDATA)
    columns["matchid"] = np.repeat(chunk.objectid % 10**7, sizes)
    order = np.lexsort((row, np.repeat(np.arange(len(sizes)), sizes)))
    return legacy.epoch_rows(layout.SOURCEDATA, columns)[order]


def _epochs(unit: _Unit, stored: Arrays, dtype: np.dtype[Any]) -> tuple[Arrays, npt.NDArray[np.int64]]:
    """Columns of a matchfile but matchid, and the row in the file of those imported, a very large one of the others."""
    exposure = unit.exposures.rows_of(stored["exposureid"])
    columns: Arrays = {name: stored[name] for name in _COPIED}
    columns["expid"], columns["programid"] = unit.exposures.expid[exposure], unit.exposures.programid[exposure]
    columns["hjd"], columns["mjd"] = kernel.hjd_of_hmjd(stored["hmjd"]), unit.exposures.mid_mjd[exposure]
    columns["magerrmodel"] = kernel.sigma_magnitudes(stored["psfflux"], stored["psffluxerr"])
    if "sid" in (dtype.names or ()):
        columns |= _transient_columns(stored, columns["magerrmodel"])
    known, place = unit.extras.find(exposure, stored["sourceid"])
    row = np.full(len(exposure), _LAST)
    row[known] = unit.extras["row"][place]
    columns["magerrmodel"][known] = unit.extras["magerrmodel"][place]
    exact = np.flatnonzero(known)[~np.isnan(unit.extras["mjd"][place])]
    columns["mjd"][exact] = unit.extras["mjd"][place][~np.isnan(unit.extras["mjd"][place])]
    if "sid" in (dtype.names or ()):
        transient = unit.extras["legacyid"][place] % 10**8 >= TRANSIENT_OFFSET
        for name in ("psfmag", "psfmagerr", "snr", "sid", "x", "y", "z"):
            columns[name][np.flatnonzero(known)[transient]] = unit.extras[name][place[transient]]
    return columns, row


def _transient_columns(stored: Arrays, sigma: npt.NDArray[np.float32]) -> Arrays:
    """What only ``transientdata`` has, of epochs that no matchfile told of."""
    x, y, z = unit_vectors(stored["ra"], stored["dec"]).T
    snr = (stored["psfflux"] / stored["psffluxerr"]).astype(np.float32)
    number = stored["sourceid"].astype(np.uint64)
    return {
        "psfmag": stored["mag"].copy(),
        "psfmagerr": sigma.copy(),
        "snr": snr,
        "sid": number,
        "x": x,
        "y": y,
        "z": z,
    }


def _write_transients(unit: _Unit, file: MatchfileWriter) -> None:
    """Write ``transientdata`` and ``transients``: every orphan is of one, if it be of one alone."""
    orphans = _orphans(unit)
    if not len(orphans["ra"]):
        return
    number = _transient_numbers(unit, orphans)
    order = np.lexsort((orphans["exposureid"], orphans["hmjd"], number))
    stored, number = {name: values[order] for name, values in orphans.items()}, number[order]
    numbers, starts = np.unique(number, return_index=True)
    offsets = np.append(starts, len(number)).astype(np.int64)
    columns, row = _epochs(unit, stored, layout.TRANSIENTDATA)
    columns["matchid"] = number
    file.add("transientdata", legacy.epoch_rows(layout.TRANSIENTDATA, columns)[np.lexsort((row, number))])
    ra, dec = _mean_positions(stored, starts, np.diff(offsets))
    statistics = _statistics(stored, offsets, unit.exposures)
    file.add("transients", legacy.source_rows({"matchid": numbers, "ra": ra, "dec": dec}, statistics))


def _orphans(unit: _Unit) -> Arrays:
    parts = [{name: np.zeros(0, numpy_type(ORPHANS[name].type)) for name in _KEPT}]
    names = ["field", "rcid", "fid", *_KEPT]
    for file in unit.files(ORPHANS.name):
        for batch in iterate_batches(unit.snapshot.storage, file, names, _BATCH_ROWS):
            columns = numpy_columns(batch)
            mine = columns["field"] == unit.unit.field
            mine &= (columns["rcid"] == unit.unit.rcid) & (columns["fid"] == unit.unit.fid)
            parts.append({name: columns[name][mine] for name in _KEPT})
    return {name: np.concatenate([part[name] for part in parts]) for name in _KEPT}


def _transient_numbers(unit: _Unit, orphans: Arrays) -> npt.NDArray[np.int64]:
    """Number of each orphan's transient: the file's of those imported, and of what the store groups with them.

    The others are numbered after these: those that nothing is grouped with, then in order of transientids.
    """
    exposure = unit.exposures.rows_of(orphans["exposureid"])
    known, place = unit.extras.find(exposure, orphans["sourceid"])
    legacy_number = unit.extras["legacyid"][place] % 10**8 - TRANSIENT_OFFSET
    number = np.full(len(exposure), -1, np.int64)
    number[known] = np.where(legacy_number >= 0, legacy_number, -1)
    group = _groups(unit, exposure, orphans["sourceid"])
    groups, of_group = np.unique(group, return_inverse=True)
    lowest = np.full(len(groups), _LAST)
    np.minimum.at(lowest, of_group[number >= 0], number[number >= 0])
    lowest[lowest == _LAST] = number.max(initial=-1) + 1 + np.arange(np.count_nonzero(lowest == _LAST))
    return np.where(number >= 0, number, lowest[of_group])


def _groups(unit: _Unit, exposure: npt.NDArray[np.int64], sourceid: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Transientid of each orphan; of one that is in none a negative number of its own."""
    group = -1 - np.arange(len(exposure))
    rows = read_rows(unit.snapshot.storage, unit.files(TRANSIENTDATA.name), TRANSIENTDATA.names)
    if rows is None:
        return group
    links = {name: rows[name].to_numpy() for name in TRANSIENTDATA.names}
    of_unit = unit.exposures.rows_of(links["exposureid"])
    mine = of_unit >= 0
    keys = build_map(_keys(of_unit[mine], links["sourceid"][mine]))
    found = find_rows(keys, _keys(exposure, sourceid))
    group[found >= 0] = links["transientid"][mine][found[found >= 0]]
    return group


def _mean_positions(stored: Arrays, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> tuple[Any, Any]:
    """Direction of the mean of the unit vectors of each run of rows, in degrees."""
    xyz = np.add.reduceat(unit_vectors(stored["ra"], stored["dec"]), starts, axis=0) / sizes[:, None]
    return lonlats_of(xyz)
