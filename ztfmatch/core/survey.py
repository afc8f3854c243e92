"""Facts of the survey: identifiers, filters, focal plane, file names.

Everything here is arithmetic on integers and strings; no files, no arrays of detections.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:  # the facts are there without arrays
    import numpy as np
    import numpy.typing as npt

    Codes = npt.NDArray[np.int64]

Whole = TypeVar("Whole", int, "Codes")

Channel = tuple[int, int]
"""Readout channel (rcid) and filter (fid)."""

MJD_ZERO: Final = (1858, 11, 17)
"""Year, month and day at which modified Julian dates begin."""

FILTER_CODES: Final = {1: "zg", 2: "zr", 3: "zi"}
"""IRSA's filter codes by filter id (fid)."""

FILTER_IDS: Final = {code: fid for fid, code in FILTER_CODES.items()}

FILTER_NAMES: Final = {
    **FILTER_IDS,
    **{code[1:]: fid for fid, code in FILTER_CODES.items()},
    **{str(fid): fid for fid in FILTER_CODES},
}
"""Filter id by what people call a filter: zg, g or 1."""

PROGRAM_NAMES: Final = {1: "public", 2: "partnership", 3: "Caltech"}
"""Observing programs by programid."""

MATCH_RADIUS_ARCSEC: Final = 1.5
"""The survey's association radius, as measured in its matchfiles."""

DEFAULT_EXPTIME_S: Final = 30.0
"""Exposure time of the survey, taken where neither header nor table give one."""

QUADRANT_SHAPE_PIX: Final = (3072, 3080)
"""Columns (x) and rows (y) of a quadrant image."""

PIXEL_SCALE_ARCSEC: Final = 1.0123

PALOMAR_GEODETIC: Final = (-116.8630, 33.3563, 1712.0)
"""East longitude in degrees, geodetic latitude in degrees (WGS84), height in metres of the telescope."""

MAX_NAME_LAG_DAY: Final = 0.01
"""How far the time in a catalog's name may be from OBSMJD: in real ones it is 0 to 118 s earlier."""

MAX_OBJECTID: Final = 10**16 - 1
"""Objectids are of at most 16 digits; transientids are larger."""

MAX_GENERATION: Final = 9
MAX_SOURCEID: Final = 10**7 - 1
N_RCID: Final = 64

MATCHFILE_LATE_DAY: Final = 1.0 / 86400.0
"""How far an epoch of a matchfile may be from heliocentric mid-exposure; in real files it is 3 ms."""

HMJD_MARGIN_DAY: Final = 0.02
"""An exposure's start and its heliocentric mid-time differ by less: at most 500 s and half an exposure."""

_PSFCAT = re.compile(
    r"ztf_(?P<fracday>\d{14})_(?P<field>\d{6})_(?P<code>z[gri])_c(?P<ccdid>\d{2})_o_q(?P<qid>\d)_psfcat\.fits"
)
_MATCHFILE = re.compile(r"ztf_(?P<field>\d{6})_(?P<code>z[gri])_c(?P<ccdid>\d{2})_q(?P<qid>\d)_match\.pytable")
_REFPSFCAT = re.compile(r"ztf_(?P<field>\d{6})_(?P<code>z[gri])_c(?P<ccdid>\d{2})_q(?P<qid>\d)_refpsfcat\.fits")


@dataclass(frozen=True, order=True)
class Unit:
    """The scope in which detections match seeds: one field, readout channel and filter."""

    field: int
    rcid: int
    fid: int

    def __post_init__(self) -> None:
        if not 0 < self.field < 10_000:
            raise ValueError(f"field {self.field} is outside 1..9999")
        if not 0 <= self.rcid < N_RCID:
            raise ValueError(f"rcid {self.rcid} is outside 0..{N_RCID - 1}")
        if self.fid not in FILTER_CODES:
            raise ValueError(f"fid {self.fid} is not one of {sorted(FILTER_CODES)}")

    @property
    def ccdid(self) -> int:
        """CCD number, 1..16."""
        return self.rcid // 4 + 1

    @property
    def qid(self) -> int:
        """Quadrant of the CCD, 1..4."""
        return self.rcid % 4 + 1

    def __str__(self) -> str:
        return f"{self.field:06d}_{FILTER_CODES[self.fid]}_c{self.ccdid:02d}_q{self.qid}"


def unit_codes(field: Codes, rcid: Codes, fid: Codes) -> Codes:
    """One number a unit, ascending by field, readout channel and filter; shape (U,)."""
    return (field * N_RCID + rcid) * 4 + fid


def units_of_codes(code: Codes) -> tuple[Codes, Codes, Codes]:
    """Field, readout channel and filter of :func:`unit_codes`, shape (U,) each."""
    return code // (4 * N_RCID), code // 4 % N_RCID, code % 4


def unit_of_code(code: int) -> Unit:
    """The unit of one number of :func:`unit_codes`."""
    return Unit(code // (4 * N_RCID), code // 4 % N_RCID, code % 4)


def rcid_of(ccdid: int, qid: int) -> int:
    """Readout channel 0..63 of CCD 1..16 and quadrant 1..4.

    Raises
    ------
    ValueError
        If either is out of range.
    """
    if not (1 <= ccdid <= 16 and 1 <= qid <= 4):
        raise ValueError(f"ccdid {ccdid}, qid {qid}: expected 1..16 and 1..4")
    return 4 * (ccdid - 1) + qid - 1


def objectid_base(unit: Unit, generation: int = 0) -> int:
    """Objectid of sourceid 0: field*10^12 + fid*10^11 + ccdid*10^9 + qid*10^8 + generation*10^7.

    Generation 0 gives IRSA's own number. Adding a sourceid below 10^7 gives the objectid.

    Raises
    ------
    ValueError
        If the generation does not fit its digit.
    """
    if not 0 <= generation <= MAX_GENERATION:
        raise ValueError(f"generation {generation} of unit {unit} is outside 0..{MAX_GENERATION}")
    head = unit.field * 10**12 + unit.fid * 10**11 + unit.ccdid * 10**9 + unit.qid * 10**8
    return head + generation * 10**7


IDS_OF_A_GENERATION: Final = MAX_SOURCEID + 1
IDS_OF_A_UNIT: Final = 10**8
"""Objectids of a unit have all digits before the last eight in common."""


def objectid_range(unit: Unit) -> tuple[int, int]:
    """Smallest and largest objectid that the unit can ever use, all generations; both inclusive."""
    base = objectid_base(unit)
    return base, base + IDS_OF_A_UNIT - 1


def unit_of_objectid(objectid: int) -> Unit:
    """Unit of an objectid of any generation.

    Raises
    ------
    ValueError
        If the number is not an objectid.
    """
    field, rest = divmod(int(objectid), 10**12)
    fid, rest = divmod(rest, 10**11)
    ccdid, rest = divmod(rest, 10**9)
    try:
        return Unit(field, rcid_of(ccdid, rest // 10**8), fid)
    except ValueError as error:
        raise ValueError(f"{objectid} is not an objectid: {error}") from None


def unit_columns(objectid: Any) -> tuple[Any, Any, Any]:
    """Readout channel, field and filter of objectids, as arrays of the same shape."""
    ccdid, qid = objectid // 10**9 % 100, objectid // 10**8 % 10
    return 4 * (ccdid - 1) + qid - 1, objectid // 10**12, fid_column(objectid)


def fid_column(objectid: Any) -> Any:
    """Filter of objectids, as an array of the same shape."""
    return objectid // 10**11 % 10


def exposureid_of(fracday: Whole, rcid: Whole) -> Whole:
    """Key of one quadrant-image catalog: fracday * 100 + rcid.

    fracday is the 14-digit YYYYMMDDffffff of the file name. The camera takes one exposure at a time,
    so the number is unique in the survey; it stays below 2^53 and is exact in every tool.
    """
    return fracday * 100 + rcid


FIRST_TRANSIENT_DATE: Final = 20170112
"""Before it a transientid would be as small as an objectid; the survey began a year later."""

LAST_TRANSIENT_DATE: Final = 20420401
"""After it a transientid would not fit 64 bits."""

_TRANSIENT_EPOCH_DATE: Final = 20170101


def transientid_of(exposureid: Any, sourceid: Any) -> Any:
    """Name of a transient: the detection that founded it, as one number; of integers or arrays of int64.

    ((days since 2017-01-01) * 10^6 + ffffff) * 10^9 + rcid * 10^7 + sourceid, with ffffff and rcid those of the
    exposureid. It is above MAX_OBJECTID for dates from FIRST_TRANSIENT_DATE, fits 64 bits until LAST_TRANSIENT_DATE,
    and no two detections have the same.

    Parameters
    ----------
    exposureid, sourceid : int or int64 ndarray
        Of a date in that range; 0..10^7 - 1.
    """
    fracday, rcid = exposureid // 100, exposureid % 100
    days = _days_of_date(fracday // 10**6) - _days_of_date(_TRANSIENT_EPOCH_DATE)
    return (days * 10**6 + fracday % 10**6) * 10**9 + rcid * 10**7 + sourceid


def founder_of_transientid(transientid: Any) -> tuple[Any, Any]:
    """Exposureid and sourceid of the detection that a transient is named after: the inverse of transientid_of."""
    time, rest = transientid // 10**9, transientid % 10**9
    date = _date_of_days(time // 10**6 + _days_of_date(_TRANSIENT_EPOCH_DATE))
    return (date * 10**6 + time % 10**6) * 100 + rest // 10**7, rest % 10**7


def _days_of_date(date: Any) -> Any:
    """Days from 0000-03-01 to a Gregorian date YYYYMMDD."""
    year, month, day = date // 10_000, date // 100 % 100, date % 100
    year, month = year - (month <= 2), (month + 9) % 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1


def _date_of_days(days: Any) -> Any:
    """Gregorian date YYYYMMDD, so many days after 0000-03-01."""
    era, day = days // 146_097, days % 146_097
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day = day - (365 * year + year // 4 - year // 100)
    month = (5 * day + 2) // 153
    day = day - (153 * month + 2) // 5 + 1
    year = era * 400 + year + (month >= 10)
    return year * 10_000 + ((month + 2) % 12 + 1) * 100 + day


def mjd_of_fracday(fracday: int) -> float:
    """Modified Julian date of YYYYMMDDffffff.

    Raises
    ------
    ValueError
        If it is not a date.
    """
    import datetime

    day, fraction = divmod(fracday, 10**6)
    date = datetime.date(day // 10_000, day // 100 % 100, day % 100)
    return (date - datetime.date(*MJD_ZERO)).days + fraction / 1e6


def fracday_of_mjd(obsmjd: float) -> int:
    """YYYYMMDDffffff of a time, for a catalog whose name does not give it.

    The survey's own number is up to two minutes earlier than OBSMJD, so this is a stand-in.
    """
    import datetime

    day, fraction = divmod(obsmjd, 1.0)
    date = datetime.date(*MJD_ZERO) + datetime.timedelta(days=int(day))
    return int(f"{date:%Y%m%d}") * 10**6 + min(round(fraction * 1e6), 999_999)


EXPID_DATE: Final = 20170101
"""The survey's expid is the start of the exposure in units of 10^-5 day since then: so it is for all exposures of the
real matchfile."""

_FIRST_DAYTIME: Final = 650_000
"""ffffff of a fracday from which the Sun is up at Palomar all year, until the UTC day ends (15:36 to 24:00 UTC)."""


def expid_of_mjd(obsmjd: float) -> int:
    """The survey's expid of an exposure that began then."""
    return int((obsmjd - mjd_of_fracday(EXPID_DATE * 10**6)) * 1e5)


def fracday_of_expid(expid: int) -> int:
    """Stand-in for the fracday of an exposure of which only the expid is known: no real one's, and no other's.

    The time of day is brought into the hours in which the telescope cannot expose.
    """
    import datetime

    days, fraction = divmod(expid, 10**5)
    date = datetime.date(EXPID_DATE // 10_000, 1, 1) + datetime.timedelta(days=days)
    return int(f"{date:%Y%m%d}") * 10**6 + _FIRST_DAYTIME + fraction * 7 // 2


def is_stand_in(fracday: int) -> bool:
    """Whether a fracday is one that :func:`fracday_of_expid` gives."""
    return fracday % 10**6 >= _FIRST_DAYTIME


@dataclass(frozen=True)
class CatalogName:
    """What a catalog's file name says; ``fracday`` is None for a reference catalog."""

    unit: Unit
    fracday: int | None


def plain_name(name: str) -> str:
    """A file's name as the survey writes it: in lower case, and without the .gz or .fz of a FITS file."""
    lower = name.lower()
    return lower[:-3] if lower.endswith((".fits.gz", ".fits.fz")) else lower


def parse_catalog_name(name: str) -> CatalogName | None:
    """Parse the survey's file name of a psfcat or refpsfcat; None where the name is not of that form.

    It may be in upper case, and the file compressed: see :func:`plain_name`.

    Raises
    ------
    ValueError
        If the name has the form but a number in it is out of range.
    """
    plain = plain_name(name)
    match = _PSFCAT.fullmatch(plain) or _REFPSFCAT.fullmatch(plain)
    if match is None:
        return None
    got = match.groupdict()
    rcid = rcid_of(int(got["ccdid"]), int(got["qid"]))
    unit = Unit(int(got["field"]), rcid, FILTER_IDS[got["code"]])
    return CatalogName(unit, int(got["fracday"]) if "fracday" in got else None)


def parse_matchfile_name(name: str) -> Unit | None:
    """Unit in the survey's file name of a matchfile; None where the name is not of that form.

    Raises
    ------
    ValueError
        If the name has the form but a number in it is out of range.
    """
    match = _MATCHFILE.fullmatch(plain_name(name))
    if match is None:
        return None
    return Unit(int(match["field"]), rcid_of(int(match["ccdid"]), int(match["qid"])), FILTER_IDS[match["code"]])


def matchfile_name(unit: Unit) -> str:
    """File name of a matchfile, as the survey writes it."""
    return f"ztf_{unit}_match.pytable"


def psfcat_name(unit: Unit, fracday: int) -> str:
    """File name of an epochal catalog, as the survey writes it."""
    code = FILTER_CODES[unit.fid]
    return f"ztf_{fracday:014d}_{unit.field:06d}_{code}_c{unit.ccdid:02d}_o_q{unit.qid}_psfcat.fits"


def refpsfcat_name(unit: Unit) -> str:
    """File name of a reference catalog, as the survey writes it."""
    return f"ztf_{unit.field:06d}_{FILTER_CODES[unit.fid]}_c{unit.ccdid:02d}_q{unit.qid}_refpsfcat.fits"
