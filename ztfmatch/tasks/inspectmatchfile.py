"""Read a matchfile once to learn what it is: its unit, sources, exposures; refuse a bad one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.errors import CatalogError
from ztfmatch.io.matchfiles import Matchfile, Stamp, checksum, open_matchfile
from ztfmatch.kernels import matchfile as kernel
from ztfmatch.kernels.calibration import observer_vectors
from ztfmatch.kernels.lookup import build_map, find_rows
from ztfmatch.kernels.rows import Columns, digest, position_faults
from ztfmatch.kernels.sphere import Floats, enclosing_cap, lonlat_of, unit_vectors
from ztfmatch.kernels.tiling import fine_pixels
from ztfmatch.schema import matchfile as layout
from ztfmatch.schema.ledger import BAD, GOOD, MATCHFILE, UNKNOWN
from ztfmatch.survey import DEFAULT_EXPTIME_S, MAX_NAME_LAG_DAY, exposureid_of, fracday_of_expid, mjd_of_fracday

Row = dict[str, Any]

_COARSEN_BITS: Final = 4
_LONGEST_S: Final = 3600.0


@dataclass(frozen=True)
class InspectMatchfile:
    """A matchfile to inspect."""

    key: str
    source: str


def inspect_matchfile(task: InspectMatchfile) -> dict[str, list[Row]]:
    """Inspect a matchfile.

    Returns
    -------
    dict
        ``found``: none, or one dict of ``matchfile``, ``reference`` (with ``pixels`` and ``counts``, the sources on a
        coarse grid), ``exposures`` (rows of these tables without what the store adds) and ``stamp``;
        ``quarantined``: rows of the quarantine.
    """
    try:
        return {"found": [_inspected(task.source)], "quarantined": []}
    except CatalogError as error:
        return {"found": [], "quarantined": [_refused(task.source, error)]}


def _refused(source: str, error: CatalogError) -> Row:
    row: Row = {"code": error.code, "reason": error.message, "source": source, "filename": source.rsplit("/", 1)[-1]}
    try:
        return {**row, "size": Stamp.of(source).size, "sha256": checksum(source)}
    except CatalogError:
        return {**row, "size": None, "sha256": None}


def _inspected(source: str) -> Row:
    stamp = Stamp.of(source)
    identity = {"filename": source.rsplit("/", 1)[-1], "source": source, "size": stamp.size}
    identity["sha256"] = checksum(source)
    with open_matchfile(source) as file:
        found = _Inspection(file)
        unit = {name: getattr(file.unit, name) for name in ("field", "rcid", "fid", "ccdid", "qid")}
        reference = {**unit, **found.reference(), **identity}
        exposures = [{**unit, **row, **identity} for row in found.exposures()]
        counts = {"nsources": len(file.sources), "nepochs": file.nepochs, "ntransientepochs": file.ntransientepochs}
        row = {**unit, **file.attributes, **counts, "nexposures": len(exposures), **identity}
    if Stamp.of(source) != stamp:
        raise CatalogError("changed", "its content changed while it was read; run again")
    return {"matchfile": row, "reference": reference, "exposures": exposures, "stamp": [stamp.size, stamp.changed_ns]}


class _Inspection:
    """What is learnt from the small tables and one pass over the epochs."""

    def __init__(self, file: Matchfile) -> None:
        self._file = file
        _check_positions(file.sources)
        self._seeds = seed_columns(file.sources)
        xyz = unit_vectors(self._seeds["ra"], self._seeds["dec"])
        self._centre: Floats | None = None
        self._radius = 0.0
        if len(xyz):
            self._centre, self._radius = enclosing_cap(xyz)
        self._known = {int(row["expid"]): row for row in file.exposures}
        self._map = build_map(file.exposures["expid"].astype(np.int64))
        self._mids = kernel.mid_exposure(file.exposures["obsmjd"], exptimes(file.exposures))
        tally, numbering = kernel.ExposureTally(), kernel.Numbering()
        for batch in file.batches():
            columns = kernel.measured_columns(batch.rows, numbering.of(batch.rows["expid"]))
            self._widen(columns)
            self._check_times(batch.rows, columns, batch.first_row)
            tally.add(batch.rows, columns)
        self._tally = tally.result()

    def _widen(self, columns: Columns) -> None:
        """Let the footprint hold these rows too."""
        keep = kernel.usable(columns)
        xyz = unit_vectors(columns["ra"][keep], columns["dec"][keep])
        if not len(xyz):
            return
        if self._centre is None:
            self._centre, self._radius = enclosing_cap(xyz)
            return
        half_chord = 0.5 * math.sqrt(float(((xyz - self._centre) ** 2).sum(axis=1).max()))
        self._radius = max(self._radius, 2.0 * math.asin(min(half_chord, 1.0)) + 1e-9)

    def _check_times(self, rows: npt.NDArray[np.void], columns: Columns, first_row: int) -> None:
        """Every hjd must be heliocentric mid-exposure: it is what lightcurves are sorted by.

        Raises
        ------
        CatalogError
        """
        keep = np.flatnonzero(kernel.usable(columns))
        place = find_rows(self._map, rows["expid"][keep].astype(np.int64))
        mid = rows["mjd"][keep]
        if len(self._mids):
            mid = np.where(place >= 0, self._mids[np.maximum(place, 0)], mid)
        hmjd = kernel.hmjd_of_hjd(rows["hjd"][keep])
        if not np.isfinite(mid).all():
            raise CatalogError("times", f"row {first_row + keep[np.argmin(np.isfinite(mid))]}: mjd is not finite")
        late = np.abs(mid + _light_days(mid, unit_vectors(columns["ra"][keep], columns["dec"][keep])) - hmjd)
        wrong = np.flatnonzero(~(late <= kernel.LATE_DAY))
        if wrong.size:
            row = int(wrong[0])
            raise CatalogError(
                "times",
                f"hjd {rows['hjd'][keep[row]]} of row {first_row + keep[row]} is {late[row] * 86400:.1f} s from "
                f"heliocentric mid-exposure; expected at most {kernel.LATE_DAY * 86400:.0f} s",
            )

    def _footprint(self) -> Row:
        """One for all exposures: where they may have rows."""
        if self._centre is None:
            return {"ra": None, "dec": None, "radius": None}
        lon, lat = lonlat_of(self._centre)
        return {"ra": lon, "dec": lat, "radius": math.degrees(self._radius)}

    def reference(self) -> Row:
        """Row of ``references`` without unit, file and commit."""
        fine = fine_pixels(self._seeds["ra"], self._seeds["dec"])
        pixels, counts = np.unique(fine >> _COARSEN_BITS, return_counts=True)
        return {
            "rfid": self._file.attributes["rfid"],
            "magzp": self._file.attributes["referencezp"],
            "infobits": None,
            **self._footprint(),
            "nseeds": len(self._file.sources),
            "digest": digest(self._seeds),
            "pixels": (pixels << _COARSEN_BITS).tolist(),
            "counts": counts.tolist(),
        }

    def exposures(self) -> list[Row]:
        """Rows of ``exposures`` without unit, file and what the match adds: of those with rows, and of those listed."""
        models = {name: self._file.attributes[name] for name in layout.ERROR_MODEL}
        footprint = self._footprint()
        columns = {name: values.tolist() for name, values in self._tally.items()}
        rows = [self._row(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
        silent = set(self._known) - set(columns["expid"])
        rows += [self._row({**_NOTHING, "expid": expid}) for expid in sorted(silent)]
        _check_keys(rows)
        return [{**row, **models, **(footprint if row["nrows"] > row["nrejected"] else _NOWHERE)} for row in rows]

    def _row(self, seen: Row) -> Row:
        listed = self._known.get(seen["expid"])
        if listed is not None:
            about = self._listed(listed)
        else:
            obsmjd = float(kernel.start_of(np.array(seen["firstmjd"]), DEFAULT_EXPTIME_S))
            about = {"obsmjd": obsmjd, "programid": seen["firstprogram"], "fracday": None}
        programs = {about["programid"], seen["firstprogram"], seen["lastprogram"]} - {None}
        if len(programs) > 1:
            raise CatalogError("contradiction", f"exposure {seen['expid']} has programids {sorted(programs)}")
        if seen["lastmjd"] is not None and seen["lastmjd"] - seen["firstmjd"] > kernel.LATE_DAY:
            times = f"mjd {seen['firstmjd']} and {seen['lastmjd']}"
            raise CatalogError("contradiction", f"exposure {seen['expid']} has {times}; expected one time")
        fracday = about.pop("fracday")
        if fracday is None:
            fracday = fracday_of_expid(seen["expid"])
        return {
            **about,
            "exposureid": exposureid_of(fracday, self._file.unit.rcid),
            "fracday": fracday,
            "expid": seen["expid"],
            "origin": MATCHFILE,
            "quality": _quality(seen),
            "nrows": seen["nrows"],
            "nrejected": seen["nrejectednan"] + seen["nrejectedrange"],
            "nrejectednan": seen["nrejectednan"],
            "nrejectedrange": seen["nrejectedrange"],
            "digest": seen["digest"],
        }

    def _listed(self, row: npt.NDArray[np.void]) -> Row:
        """What ``exposures`` says of one; ``fracday`` is None where it is no time near the start."""
        unit, said = self._file.unit, {name: row[name].item() for name in layout.EXPOSURES.names or ()}
        if (said["fieldid"], said["rcid"], said["filterid"]) != (unit.field, unit.rcid, unit.fid):
            where = f"field {said['fieldid']}, rcid {said['rcid']}, filter {said['filterid']}"
            raise CatalogError("contradiction", f"exposure {said['expid']} is of {where}; expected unit {unit}")
        if not math.isfinite(said["obsmjd"]):
            raise CatalogError("times", f"exposure {said['expid']}: obsmjd {said['obsmjd']} is not finite")
        about = {ours: _known(said[theirs]) for ours, theirs in layout.LEDGER.items()}
        if about["exptime"] is not None and not 0.0 < about["exptime"] <= _LONGEST_S:
            about["exptime"] = None
        return {**about, "obsmjd": said["obsmjd"], "programid": said["programid"], "fracday": _fracday(said)}


def _light_days(mid_mjd: Floats, xyz: Floats) -> Floats:
    """Light travel time to the Sun of rows of few different times."""
    times, which = np.unique(mid_mjd, return_inverse=True)
    return np.einsum("ij,ij->i", xyz, observer_vectors(times)[which]) if len(times) else np.zeros(0)


_NOWHERE: Final = {"ra": None, "dec": None, "radius": None}
_NOTHING: Final = {
    "nrows": 0, "nrejectednan": 0, "nrejectedrange": 0, "nbad": 0, "nedge": 0, "digest": 0,
    "firstmjd": None, "lastmjd": None, "firstprogram": None, "lastprogram": None,
}  # fmt: skip


def exptimes(exposures: npt.NDArray[np.void]) -> Floats:
    """Exposure times in seconds, 30 where they make no sense."""
    times = exposures["exptime"].astype(np.float64)
    return np.where((times > 0.0) & (times <= _LONGEST_S), times, DEFAULT_EXPTIME_S)


def seed_columns(sources: npt.NDArray[np.void]) -> Columns:
    """Sources in the columns of a measured row, for a digest: the reference's values in the places of epochs'."""
    columns: Columns = {name: np.ascontiguousarray(sources[name]) for name in ("ra", "dec")}
    columns["sourceid"] = np.ascontiguousarray(sources["matchid"])
    reference = (("xpos", "refsnr"), ("psfflux", "refmag"), ("psffluxerr", "refmagerr"))
    for ours, theirs in (*reference, ("chi", "refchi"), ("sharp", "refsharp")):
        columns[ours] = np.ascontiguousarray(sources[theirs])
    columns["ypos"] = np.zeros(len(sources), np.float32)
    columns["flags"] = np.zeros(len(sources), np.int16)
    return columns


def _check_positions(sources: npt.NDArray[np.void]) -> None:
    nan, outside = position_faults(np.ascontiguousarray(sources["ra"]), np.ascontiguousarray(sources["dec"]))
    if (nan | outside).any():
        row = sources[int(np.argmax(nan | outside))]
        raise CatalogError(
            "positions",
            f"source {row['matchid']} is at ra {row['ra']}, dec {row['dec']}; every source needs a position",
        )


def _check_keys(rows: list[Row]) -> None:
    seen: dict[int, int] = {}
    for row in rows:
        other = seen.setdefault(row["exposureid"], row["expid"])
        if other != row["expid"]:
            raise CatalogError("contradiction", f"exposures {other} and {row['expid']} have the same fracday")


def _known(value: Any) -> Any:
    """A value as the ledger has it; what is not finite is unknown."""
    if isinstance(value, bytes):
        return value.decode("latin-1") or None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fracday(said: Row) -> int | None:
    fracday = int(said["fracday"])
    try:
        lag = said["obsmjd"] - mjd_of_fracday(fracday)
    except (ValueError, OverflowError):
        return None
    return fracday if 10**13 <= fracday < 10**14 and abs(lag) <= MAX_NAME_LAG_DAY else None


def _quality(seen: Row) -> str:
    if seen["nbad"]:
        return BAD
    return GOOD if seen["nrows"] > seen["nedge"] else UNKNOWN
