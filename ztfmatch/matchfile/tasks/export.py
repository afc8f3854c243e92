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

from ztfmatch.core.arrays import Array, Arrays, Floats, Ints, Records, Singles
from ztfmatch.core.io.merge import ROWS_IN_FLIGHT, Lightcurves, iterate_lightcurves, numpy_columns
from ztfmatch.core.io.parquet import DataFile, OpenFile, read_table
from ztfmatch.core.io.rows import UNIT, active_rows, rows_of_unit
from ztfmatch.core.io.scan import Wanted
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.calibration import light_days, observer_vectors
from ztfmatch.core.kernels.lookup import build_map, find_rows, find_sorted
from ztfmatch.core.kernels.sphere import lonlats_of, unit_vectors
from ztfmatch.core.kernels.statistics import Epochs, lightcurve_statistics
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import (
    DETECTIONS,
    EXPOSURES,
    IMPORTED,
    MATCHFILES,
    OBJECTS,
    ORPHANS,
    REFERENCES,
    TABLES,
    TRANSIENTDATA,
)
from ztfmatch.core.schema.imported import TRANSIENT_OFFSET
from ztfmatch.core.schema.sky import EPOCH_NAMES
from ztfmatch.core.schema.types import numpy_type
from ztfmatch.core.survey import DEFAULT_EXPTIME_S, Unit, expid_of_mjd, is_stand_in, objectid_range
from ztfmatch.core.tasks.ledger import exposures_of_unit
from ztfmatch.core.tasks.statistics import PUBLIC_PROGRAM
from ztfmatch.matchfile import schema as layout
from ztfmatch.matchfile.io.writer import MatchfileWriter, writing_matchfile
from ztfmatch.matchfile.kernels import epochs as kernel
from ztfmatch.matchfile.kernels import rows as legacy

BYTES_PER_EPOCH_IN_FLIGHT: Final = 500
BYTES_PER_IMPORTED: Final = 60
BYTES_PER_ORPHAN: Final = 500

_BATCH_ROWS: Final = 131_072
_COPIED: Final = ("catflags", "chi", "dec", "mag", "magerr", "psfflux", "psffluxerr", "ra", "sharp", "xpos", "ypos")
_LAST: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class ExportTask:
    """One unit and the file to be."""

    key: str
    snapshot: SnapshotFiles
    unit: Unit
    tiles: tuple[Tile, ...]
    """That the unit touches."""
    path: str


@dataclass(frozen=True)
class ExportedMatchfile:
    """A matchfile that was written, and the rows of its tables."""

    unit: str
    path: str
    size: int
    exposures: int
    sources: int
    sourcedata: int
    transients: int
    transientdata: int


def export_unit(task: ExportTask) -> ExportedMatchfile:
    """Write the file."""
    unit = _Unit(task.snapshot, task.unit, task.tiles)
    path = Path(task.path)
    with writing_matchfile(path, task.unit) as file:
        file.describe(unit.attributes())
        file.add("exposures", unit.exposures.rows())
        _write_sources(unit, file)
        _write_transients(unit, file)
    return ExportedMatchfile(str(task.unit), task.path, path.stat().st_size, **file.rows)


def _expid(known: int | None, obsmjd: float) -> int:
    """The expid of an exposure; where it is unknown, or has no room in a matchfile, what the survey's would be."""
    return known if known is not None and 0 <= known < 1 << 32 else max(expid_of_mjd(obsmjd), 0)


class _Exposures:
    """The unit's rows of the ledger, by time."""

    def __init__(self, unit: Unit, ledger: pa.Table) -> None:
        self._unit = unit
        self._ledger = ledger.sort_by([("obsmjd", "ascending"), ("exposureid", "ascending")]).combine_chunks()
        self._map = build_map(self._known("exposureid"))
        obsmjd = self._known("obsmjd")
        self.mid_mjd = kernel.mid_exposure(obsmjd, self._known("exptime", DEFAULT_EXPTIME_S).astype(np.float64))
        expids = zip(obsmjd.tolist(), self._ledger["expid"].to_pylist(), strict=True)
        self.expid = np.array([_expid(expid, mjd) for mjd, expid in expids], np.uint32)
        self.programid = self._known("programid", 0).astype(np.int16).view(np.uint16)

    def _known(self, name: str, missing: Any = None) -> Array:
        """A column, with a value in place of nulls."""
        column = self._ledger[name]
        return np.asarray((column if missing is None else column.fill_null(missing)).to_numpy())

    def attributes(self) -> Row:
        """What they say of the file: the newest one's error model, the median limit."""
        limits = self._ledger["maglimit"].drop_null().to_numpy()
        newest = self._ledger.select(list(layout.ERROR_MODEL)).slice(max(len(self._ledger) - 1, 0)).to_pylist()
        return {"globalmaglimit": float(np.median(limits)) if len(limits) else None, **(newest[0] if newest else {})}

    def rows_of(self, exposureid: Ints) -> Ints:
        """Row of each exposure."""
        return np.asarray(find_rows(self._map, exposureid).astype(np.int64))

    def rows(self) -> Records:
        """Rows of the matchfile's table; what is not known is NaN, 0 or empty."""
        rows = np.zeros(len(self._ledger), layout.EXPOSURES)
        for ours, theirs in layout.LEDGER.items():
            kind = layout.EXPOSURES[theirs].kind
            if kind == "S":
                rows[theirs] = [(text or "").encode("latin-1", "replace") for text in self._ledger[ours].to_pylist()]
            else:
                rows[theirs] = self._known(ours, np.nan if kind == "f" else 0)
        rows["expid"], rows["programid"], rows["obsmjd"] = self.expid, self.programid, self._known("obsmjd")
        rows["fracday"] = [0 if is_stand_in(fracday) else fracday for fracday in self._known("fracday").tolist()]
        rows["fieldid"], rows["rcid"], rows["filterid"] = self._unit.field, self._unit.rcid, self._unit.fid
        unknown = np.isnan(rows["obshjd"])
        rows["obshjd"][unknown] = self._start_hjd()[unknown]
        for ours, theirs in (("nmatched", "nsources"), ("norphans", "ntransients"), ("nrows", "nstars")):
            rows[theirs] = pc.coalesce(self._ledger[theirs].cast(pa.int64()), self._ledger[ours]).to_numpy()
        return rows

    def _start_hjd(self) -> Floats:
        """Heliocentric JD of each exposure's start, at the centre of its footprint; NaN where it has none."""
        xyz = unit_vectors(self._known("ra", np.nan), self._known("dec", np.nan))
        obsmjd = self._known("obsmjd")
        return np.asarray(kernel.hjd_of_hmjd(obsmjd + light_days(xyz, observer_vectors(obsmjd))))


class _Extras:
    """Values of the unit's imported epochs that only their matchfiles had."""

    def __init__(self, rows: pa.Table, exposures: _Exposures) -> None:
        columns: Arrays = {name: rows[name].to_numpy() for name in IMPORTED.names if name != "sid"}
        columns["sid"] = rows["sid"].fill_null(0).to_numpy()
        exposure = exposures.rows_of(columns.pop("exposureid"))
        order = np.argsort(keys := _keys(exposure, columns.pop("sourceid")))
        self._keys = keys[order]
        self._columns: Arrays = {name: values[order] for name, values in columns.items()}

    def find(self, exposure: Ints, sourceid: npt.NDArray[np.int32]) -> tuple[Any, Any]:
        """Which rows of an exposure are imported, and their rows here."""
        place = find_sorted(self._keys, _keys(exposure, sourceid))
        known = place >= 0
        return known, place[known]

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]


def _keys(exposure: Ints, sourceid: npt.NDArray[np.int32]) -> Ints:
    return (exposure << 32) + sourceid


class _Unit:
    """What the snapshot has of a unit."""

    def __init__(self, snapshot: SnapshotFiles, unit: Unit, tiles: tuple[Tile, ...]) -> None:
        self.snapshot, self.unit, self.tiles = snapshot, unit, tiles
        self.ids = objectid_range(unit)
        self.exposures = _Exposures(unit, exposures_of_unit(snapshot, unit, EXPOSURES.names))
        imported = snapshot.files.of_ids(IMPORTED.name, [self.ids])
        self.extras = _Extras(read_table(snapshot.storage, imported, IMPORTED, None, [self.ids]), self.exposures)

    def files(self, table: str) -> list[DataFile]:
        """Files of its tiles."""
        return self.snapshot.of_tiles(table, self.tiles)

    def objects(self) -> pa.Table:
        """Active objects, by objectid."""
        rows = read_table(self.snapshot.storage, self.files(OBJECTS.name), OBJECTS, ranges=[self.ids])
        return active_rows(rows).sort_by("objectid")

    def attributes(self) -> Row:
        """Of the matchfile that was imported last, else what the store knows, by the columns of ``matchfiles``."""
        if imported := self._newest(MATCHFILES.name, "commit"):
            return imported
        reference = self._newest(REFERENCES.name, "generation")
        when = self.snapshot.commit.time.replace("T", " ").replace("Z", "")
        known = {"rfid": reference.get("rfid"), "referencezp": reference.get("magzp"), "datetimematched": when}
        return known | self.exposures.attributes()

    def _newest(self, table: str, by: str) -> Row:
        """The unit's last row of a table; empty without any."""
        files, field = self.snapshot.of_table(table), self.unit.field
        held = read_table(self.snapshot.storage, files, TABLES[table], ranges=[(field, field)], key="field")
        rows: list[Row] = rows_of_unit(held, self.unit).to_pylist()
        return max(rows, key=lambda row: row[by], default={})


def _write_sources(unit: _Unit, file: MatchfileWriter) -> None:
    """Write ``sourcedata`` lightcurve after lightcurve, and ``sources`` with the statistics of each."""
    objects = unit.objects()
    ids = objects["objectid"].to_numpy()
    no_epochs = numpy_columns(DETECTIONS.empty)
    statistics = _statistics(no_epochs, np.zeros(len(ids) + 1, np.int64), unit.exposures)
    storage, files = unit.snapshot.storage, unit.files(DETECTIONS.name)
    for chunk in iterate_lightcurves(storage, files, EPOCH_NAMES, ROWS_IN_FLIGHT, wanted=Wanted(span=unit.ids)):
        found = np.searchsorted(ids, chunk.objectid)
        for name, values in _statistics(chunk.columns, chunk.offsets, unit.exposures).items():
            statistics[name][found] = values
        file.add("sourcedata", _sourcedata(unit, chunk))
    columns = {name: objects[name].to_numpy() for name in ("ra", "dec", "refmag", "refmagerr", "refsnr", "refchi")}
    columns |= {"matchid": objects["sourceid"].to_numpy(), "refsharp": objects["refsharp"].to_numpy()}
    file.add("sources", legacy.source_rows(columns, statistics))


def _statistics(columns: Arrays, offsets: Ints, exposures: _Exposures) -> Arrays:
    names = ("hmjd", "mag", "magerr", "catflags", "ra", "dec", "psfflux")
    released = exposures.programid[exposures.rows_of(columns["exposureid"])] == PUBLIC_PROGRAM
    return lightcurve_statistics(Epochs(**{name: columns[name] for name in names}, released=released), offsets)


def _sourcedata(unit: _Unit, chunk: Lightcurves) -> Records:
    """Rows of some lightcurves: of each those imported in the order of their file, then the others by time."""
    sizes = np.diff(chunk.offsets)
    columns, row = _epochs(unit, chunk.columns, layout.SOURCEDATA)
    columns["matchid"] = np.repeat(chunk.objectid % 10**7, sizes)
    order = np.lexsort((row, np.repeat(np.arange(len(sizes)), sizes)))
    return legacy.epoch_rows(layout.SOURCEDATA, columns)[order]


def _epochs(unit: _Unit, stored: Arrays, dtype: np.dtype[Any]) -> tuple[Arrays, Ints]:
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


def _transient_columns(stored: Arrays, sigma: Singles) -> Arrays:
    """Columns that only ``transientdata`` has, of epochs that were not imported."""
    x, y, z = unit_vectors(stored["ra"], stored["dec"]).T
    with np.errstate(divide="ignore", invalid="ignore"):  # where a catalog has no error
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
    parts = [{name: np.zeros(0, numpy_type(ORPHANS[name].type)) for name in EPOCH_NAMES}]
    names = [*UNIT, *EPOCH_NAMES]
    for file in unit.files(ORPHANS.name):
        for batch in OpenFile(unit.snapshot.storage, file).batches(names, _BATCH_ROWS):
            columns = numpy_columns(batch)
            mine = columns["field"] == unit.unit.field
            mine &= (columns["rcid"] == unit.unit.rcid) & (columns["fid"] == unit.unit.fid)
            parts.append({name: columns[name][mine] for name in EPOCH_NAMES})
    return {name: np.concatenate([part[name] for part in parts]) for name in EPOCH_NAMES}


def _transient_numbers(unit: _Unit, orphans: Arrays) -> Ints:
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


def _groups(unit: _Unit, exposure: Ints, sourceid: npt.NDArray[np.int32]) -> Ints:
    """Transientid of each orphan; of one that is in none a negative number of its own."""
    group = -1 - np.arange(len(exposure))
    links = numpy_columns(read_table(unit.snapshot.storage, unit.files(TRANSIENTDATA.name), TRANSIENTDATA))
    of_unit = unit.exposures.rows_of(links["exposureid"])
    mine = of_unit >= 0
    keys = build_map(_keys(of_unit[mine], links["sourceid"][mine]))
    found = find_rows(keys, _keys(exposure, sourceid))
    group[found >= 0] = links["transientid"][mine][found[found >= 0]]
    return group


def _mean_positions(stored: Arrays, starts: Ints, sizes: Ints) -> tuple[Any, Any]:
    """Direction of the mean of the unit vectors of each run of rows, in degrees."""
    xyz = np.add.reduceat(unit_vectors(stored["ra"], stored["dec"]), starts, axis=0) / sizes[:, None]
    return lonlats_of(xyz)
