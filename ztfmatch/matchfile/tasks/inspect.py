"""Inspect a matchfile: its unit, sources, exposures; refuse a bad one."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Records
from ztfmatch.core.errors import CatalogError, first_line
from ztfmatch.core.io.catalogs import program_of
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.kernels.rows import Columns, digest, position_faults
from ztfmatch.core.kernels.sphere import Floats, enclosing_cap, lonlat_of, unit_vectors
from ztfmatch.core.kernels.tiling import fine_pixels
from ztfmatch.core.plain import Row
from ztfmatch.core.schema import EXPOSURES, MATCHFILES, REFERENCES
from ztfmatch.core.schema.ledger import BAD, GOOD, MATCHFILE, UNKNOWN
from ztfmatch.core.schema.types import Table
from ztfmatch.core.survey import (
    DEFAULT_EXPTIME_S,
    MATCHFILE_LATE_DAY,
    MAX_NAME_LAG_DAY,
    exposureid_of,
    fracday_of_expid,
    mjd_of_fracday,
)
from ztfmatch.core.tasks.inspect import ODD_PROGRAM, grid_of
from ztfmatch.matchfile import schema as layout
from ztfmatch.matchfile.io.reader import Batch, Matchfile, Stamp, checksum, open_matchfile
from ztfmatch.matchfile.kernels import epochs as kernel

_LONGEST_S: Final = 3600.0


@dataclass(frozen=True)
class InspectMatchfile:
    """A file that may be a matchfile."""

    key: str
    source: str


@dataclass(frozen=True)
class InspectedMatchfile:
    """What a matchfile holds, as rows of tables without what the store adds."""

    matchfile: Row
    reference: Row
    grid: bytes
    """The sources on a coarse grid, see :func:`ztfmatch.core.tasks.inspect.grid_of`."""
    exposures: list[Row]
    stamp: Stamp


@dataclass(frozen=True)
class Inspected:
    """A matchfile, or why it is none."""

    found: list[InspectedMatchfile]
    refused: list[Refused]


def inspect_matchfile(task: InspectMatchfile) -> Inspected:
    """Read what a file holds; one that cannot be used is refused with its reason, whatever is wrong with it."""
    try:
        return Inspected([_inspected(task.source)], [])
    except CatalogError as error:
        return Inspected([], [_refused(task.source, error)])


def _refused(source: str, error: CatalogError) -> Refused:
    row: Row = {"filename": source.rsplit("/", 1)[-1], "source": source, "size": None, "sha256": None}
    with contextlib.suppress(CatalogError):
        row |= {"size": Stamp.of(source).size, "sha256": checksum(source)}
    return Refused.read(row, error.code, error.message)


def _inspected(source: str) -> InspectedMatchfile:
    stamp = Stamp.of(source)
    identity = {"filename": source.rsplit("/", 1)[-1], "source": source, "size": stamp.size}
    identity["sha256"] = checksum(source)
    with open_matchfile(source) as file:
        found = _Inspection(file)
        unit = {name: getattr(file.unit, name) for name in ("field", "rcid", "fid", "ccdid", "qid")}
        reference, grid = {**unit, **found.reference(), **identity}, found.grid()
        exposures = [{**unit, **row, **identity} for row in found.exposures()]
        counts = {"nsources": len(file.sources), "nepochs": file.nepochs, "ntransientepochs": file.ntransientepochs}
        row = {**unit, **file.attributes, **counts, "nexposures": len(exposures), **identity}
    if Stamp.of(source) != stamp:
        raise CatalogError("changed", "its content changed while it was read; run again")
    for table, rows in ((MATCHFILES, [row]), (REFERENCES, [reference]), (EXPOSURES, exposures)):
        _check_storable(table, rows)
    return InspectedMatchfile(row, reference, grid, exposures, stamp)


def _check_storable(table: Table, rows: list[Row]) -> None:
    """Refuse values that a column cannot hold now, since the commit of all files would fail by them."""
    for column in table.columns:
        try:
            pa.array([row.get(column.name) for row in rows], column.type)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise CatalogError("layout", f"{column.name}: {first_line(error)}; expected {column.type}") from None


@dataclass(frozen=True)
class _Seen:
    """What the rows of an exposure say, in the order of kernel.TALLY; nothing where it has none."""

    expid: int
    nrows: int = 0
    nrejectednan: int = 0
    nrejectedrange: int = 0
    nbad: int = 0
    nedge: int = 0
    digest: int = 0
    firstmjd: float = math.inf
    lastmjd: float = -math.inf
    firstprogram: int | None = None
    lastprogram: int | None = None

    @property
    def quality(self) -> str:
        """As catflags tell it: at the edge they do not."""
        if self.nbad:
            return BAD
        return GOOD if self.nrows > self.nedge else UNKNOWN


class _Inspection:
    """What is learnt from the small tables and one pass over the epochs."""

    def __init__(self, file: Matchfile) -> None:
        self._file = file
        file.check_layout()
        _check_positions(file.sources)
        _check_listed(file)
        self._seeds = seed_columns(file.sources)
        self._known = {int(row["expid"]): row for row in file.exposures}
        self._centre, radius = _cap(file, self._seeds)
        mids = kernel.mid_exposure(file.exposures["obsmjd"], exptimes(file.exposures))
        centre = np.zeros(3) if self._centre is None else self._centre
        tally = kernel.ExposureTally(file.exposures["expid"].astype(np.int64), mids, centre)
        for batch in file.batches():
            if fault := tally.add(batch.rows):
                raise CatalogError("times", _late(batch, fault))
        self._radius = max(radius, 2.0 * math.asin(min(0.5 * math.sqrt(tally.reach2), 1.0)) + 1e-9)
        self._tally = np.sort(tally.rows[tally.rows["nrows"] > 0], order="expid")

    def _footprint(self) -> Row:
        """One for all exposures: where they may have rows."""
        if self._centre is None:
            return {"ra": None, "dec": None, "radius": None}
        lon, lat = lonlat_of(self._centre)
        return {"ra": lon, "dec": lat, "radius": math.degrees(self._radius)}

    def reference(self) -> Row:
        """Row of ``references`` without unit, file and commit."""
        return {
            "rfid": self._file.attributes["rfid"],
            "magzp": self._file.attributes["referencezp"],
            "infobits": None,
            **self._footprint(),
            "nseeds": len(self._file.sources),
            "digest": digest(self._seeds),
        }

    def grid(self) -> bytes:
        """The sources on a coarse grid."""
        return grid_of(fine_pixels(self._seeds["ra"], self._seeds["dec"]))

    def exposures(self) -> list[Row]:
        """Rows of ``exposures`` without unit, file and what the match adds: of those with rows, and of those listed."""
        models = {name: self._file.attributes[name] for name in layout.ERROR_MODEL}
        footprint = self._footprint()
        seen = [_Seen(*row) for row in self._tally.tolist()]
        silent = set(self._known) - {one.expid for one in seen}
        rows = [self._row(one) for one in (*seen, *map(_Seen, sorted(silent)))]
        _check_keys(rows)
        return [{**row, **models, **(footprint if row["nrows"] > row["nrejected"] else _NOWHERE)} for row in rows]

    def _row(self, seen: _Seen) -> Row:
        listed = self._known.get(seen.expid)
        if listed is not None:
            about = self._listed(listed)
        else:
            if not kernel.FIRST_MJD <= seen.firstmjd <= kernel.LAST_MJD:
                raise CatalogError("times", f"exposure {seen.expid} is not listed, and none of its rows has a time")
            obsmjd = float(kernel.start_of(np.array(seen.firstmjd), DEFAULT_EXPTIME_S))
            about = {"obsmjd": obsmjd, "programid": seen.firstprogram, "fracday": None}
        programs = {about["programid"], seen.firstprogram, seen.lastprogram} - {None}
        if len(programs) > 1:
            raise CatalogError("contradiction", f"exposure {seen.expid} has programids {sorted(programs)}")
        if seen.lastmjd - seen.firstmjd > MATCHFILE_LATE_DAY:
            times = f"mjd {seen.firstmjd} and {seen.lastmjd}"
            raise CatalogError("contradiction", f"exposure {seen.expid} has {times}; expected one time")
        fracday = about.pop("fracday")
        about |= _program(about["programid"])
        if fracday is None:
            fracday = fracday_of_expid(seen.expid)
        return {
            **about,
            "exposureid": exposureid_of(fracday, self._file.unit.rcid),
            "fracday": fracday,
            "expid": seen.expid,
            "origin": MATCHFILE,
            "quality": seen.quality,
            "nrows": seen.nrows,
            "nrejected": seen.nrejectednan + seen.nrejectedrange,
            "nrejectednan": seen.nrejectednan,
            "nrejectedrange": seen.nrejectedrange,
            "digest": seen.digest,
        }

    def _listed(self, row: Records) -> Row:
        """What ``exposures`` says of one; ``fracday`` is None where it is not a time near the start."""
        values = {name: row[name].item() for name in layout.EXPOSURES.names or ()}
        about = {ours: _known(values[theirs]) for ours, theirs in layout.LEDGER.items()}
        if about["exptime"] is not None and not 0.0 < about["exptime"] <= _LONGEST_S:
            about["exptime"] = None
        return {**about, "obsmjd": values["obsmjd"], "programid": values["programid"], "fracday": _fracday(values)}


def _cap(file: Matchfile, seeds: Columns) -> tuple[Floats | None, float]:
    """Cap that holds the sources, or some epochs where there are none; without centre if there are no epochs either."""
    if len(file.sources):
        return enclosing_cap(unit_vectors(seeds["ra"], seeds["dec"]))
    for batch in file.batches():
        rows = batch.rows[kernel.usable(batch.rows)]
        if len(rows):
            return enclosing_cap(unit_vectors(np.ascontiguousarray(rows["ra"]), np.ascontiguousarray(rows["dec"])))
    return None, 0.0


def _late(batch: Batch, fault: kernel.Fault) -> str:
    """What is wrong: every hjd must be heliocentric mid-exposure, since it is what lightcurves are sorted by."""
    row, number = batch.rows[fault.row], batch.first_row + fault.row
    if math.isnan(fault.late_day):
        return f"row {number}: mjd {row['mjd']}, hjd {row['hjd']}; expected finite times"
    return (
        f"hjd {row['hjd']} of row {number} is {fault.late_day * 86400:.1f} s from heliocentric mid-exposure; "
        f"expected at most {MATCHFILE_LATE_DAY * 86400:.0f} s"
    )


_NOWHERE: Final = {"ra": None, "dec": None, "radius": None}


def exptimes(exposures: Records) -> Floats:
    """Exposure times in seconds, 30 where they make no sense."""
    times = exposures["exptime"].astype(np.float64)
    return np.where((times > 0.0) & (times <= _LONGEST_S), times, DEFAULT_EXPTIME_S)


def seed_columns(sources: Records) -> Columns:
    """Sources in the columns of a measured row, for a digest: the reference's values in the places of epochs'."""
    columns: Columns = {name: np.ascontiguousarray(sources[name]) for name in ("ra", "dec")}
    columns["sourceid"] = np.ascontiguousarray(sources["matchid"])
    reference = (("xpos", "refsnr"), ("psfflux", "refmag"), ("psffluxerr", "refmagerr"))
    for ours, theirs in (*reference, ("chi", "refchi"), ("sharp", "refsharp")):
        columns[ours] = np.ascontiguousarray(sources[theirs])
    columns["ypos"] = np.zeros(len(sources), np.float32)
    columns["flags"] = np.zeros(len(sources), np.int16)
    return columns


def _check_positions(sources: Records) -> None:
    nan, outside = position_faults(np.ascontiguousarray(sources["ra"]), np.ascontiguousarray(sources["dec"]))
    if (nan | outside).any():
        row = sources[int(np.argmax(nan | outside))]
        raise CatalogError(
            "positions",
            f"source {row['matchid']} is at ra {row['ra']}, dec {row['dec']}; every source needs a position",
        )


def _check_listed(file: Matchfile) -> None:
    """Every exposure must be of the file's unit, and of a time that expids can tell."""
    listed, unit = file.exposures, file.unit
    other = (listed["fieldid"] != unit.field) | (listed["rcid"] != unit.rcid) | (listed["filterid"] != unit.fid)
    if other.any():
        row = listed[int(np.argmax(other))]
        where = f"field {row['fieldid']}, rcid {row['rcid']}, filter {row['filterid']}"
        raise CatalogError("contradiction", f"exposure {row['expid']} is of {where}; expected unit {unit}")
    wrong = ~((listed["obsmjd"] >= kernel.FIRST_MJD) & (listed["obsmjd"] < kernel.LAST_MJD - 1.0))
    if wrong.any():
        row = listed[int(np.argmax(wrong))]
        expected = f"expected {kernel.FIRST_MJD:.0f} (2017) or later, before {kernel.LAST_MJD - 1.0:.0f}"
        raise CatalogError("times", f"exposure {row['expid']}: obsmjd {row['obsmjd']}; {expected}")


def _check_keys(rows: list[Row]) -> None:
    seen: dict[int, int] = {}
    for row in rows:
        other = seen.setdefault(row["exposureid"], row["expid"])
        if other != row["expid"]:
            raise CatalogError("contradiction", f"exposures {other} and {row['expid']} have the same fracday")


def _program(said: int) -> Row:
    """A program of 16 bits as the ledger has it, which knows -1: 65535; ODD_PROGRAM is what else it was."""
    number = said - 2**16 if said >= 2**15 else said
    held, odd = program_of(number)
    return {"programid": held, **({} if odd is None else {ODD_PROGRAM: str(said)})}


def _known(value: Any) -> Any:
    """A value as the ledger has it; what is not finite is unknown."""
    if isinstance(value, bytes):
        return value.decode("latin-1") or None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fracday(values: Row) -> int | None:
    fracday = int(values["fracday"])
    try:
        lag = values["obsmjd"] - mjd_of_fracday(fracday)
    except (ValueError, OverflowError):
        return None
    return fracday if 10**13 <= fracday < 10**14 and abs(lag) <= MAX_NAME_LAG_DAY else None
