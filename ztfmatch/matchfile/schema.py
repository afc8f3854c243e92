"""Layout of the survey's matchfiles (PyTables HDF5): tables, columns and attributes as in the files of 2020.

Each table is a NumPy type whose fields are in the order of the files.
"""

from __future__ import annotations

from typing import Final

import numpy as np

GROUP: Final = "matches"
GROUP_TITLE: Final = "Matched Sources"

EXPOSURES: Final = np.dtype([
    ("airmass", "<f4"), ("clrcoeff", "<f4"), ("clrcounc", "<f4"), ("clrmed", "<f4"), ("clrrms", "<f4"), ("diq", "<f4"),
    ("expid", "<u4"), ("exptime", "<f4"), ("fieldid", "<u4"), ("filterid", "<u2"), ("fracday", "<u8"),
    ("gmedian", "<f4"), ("infobits", "<u4"), ("ipac_pub_date", "<f4"), ("limitmag", "<f4"), ("magzp", "<f4"),
    ("magzprms", "<f4"), ("magzpunc", "<f4"), ("nps1matches", "<i4"), ("nsources", "<i4"), ("nstars", "<i4"),
    ("ntransients", "<i4"), ("obshjd", "<f8"), ("obsmjd", "<f8"), ("pcolor", "S8"), ("programid", "<u2"),
    ("programpi", "S40"), ("rcid", "u1"), ("zpclrcov", "<f4"), ("zpmed", "<f4"),
])  # fmt: skip

SOURCES: Final = np.dtype([
    ("astrometricrms", "<f8"), ("chisq", "<f4"), ("con", "<f4"), ("dec", "<f8"), ("lineartrend", "<f4"),
    ("magrms", "<f4"), ("matchid", "<i4"), ("maxmag", "<f4"), ("maxslope", "<f4"), ("meanmag", "<f4"),
    ("medianabsdev", "<f4"), ("medianmag", "<f4"), ("medmagerr", "<f4"), ("minmag", "<f4"),
    ("nabovemeanbystd", "<u2", (3,)), ("nbelowmeanbystd", "<u2", (3,)), ("nconsecabovemeanbystd", "<u2", (3,)),
    ("nconsecbelowmeanbystd", "<u2", (3,)), ("nconsecfrommeanbystd", "<u2", (3,)), ("ngoodobs", "<u2"),
    ("ngoodobsrel", "<u2"), ("nmedianbufferrange", "<u2"), ("nobs", "<u2"), ("nobsrel", "<u2"),
    ("npairposslope", "<u2"), ("percentiles", "<f4", (12,)), ("ra", "<f8"), ("refchi", "<f4"), ("refmag", "<f4"),
    ("refmagerr", "<f4"), ("refsharp", "<f4"), ("refsnr", "<f4"), ("skewness", "<f4"), ("smallkurtosis", "<f4"),
    ("stetsonj", "<f4"), ("stetsonk", "<f4"), ("uncalibmeanmag", "<f4"), ("vonneumannratio", "<f4"),
    ("weightedmagrms", "<f4"), ("weightedmeanmag", "<f4"), ("x", "<f8"), ("y", "<f8"), ("z", "<f8"),
])  # fmt: skip

SOURCEDATA: Final = np.dtype([
    ("catflags", "<u2"), ("chi", "<f4"), ("dec", "<f8"), ("expid", "<u4"), ("hjd", "<f8"), ("mag", "<f4"),
    ("magerr", "<f4"), ("magerrmodel", "<f4"), ("matchid", "<u4"), ("mjd", "<f8"), ("programid", "<u2"),
    ("psfflux", "<f4"), ("psffluxerr", "<f4"), ("ra", "<f8"), ("sharp", "<f4"), ("xpos", "<f4"), ("ypos", "<f4"),
])  # fmt: skip

TRANSIENTDATA: Final = np.dtype([
    ("catflags", "<u2"), ("chi", "<f4"), ("dec", "<f8"), ("expid", "<u4"), ("hjd", "<f8"), ("mag", "<f4"),
    ("magerr", "<f4"), ("magerrmodel", "<f4"), ("matchid", "<u4"), ("mjd", "<f8"), ("programid", "<u2"),
    ("psfflux", "<f4"), ("psffluxerr", "<f4"), ("psfmag", "<f4"), ("psfmagerr", "<f4"), ("ra", "<f8"),
    ("sharp", "<f4"), ("sid", "<u8"), ("snr", "<f4"), ("x", "<f8"), ("xpos", "<f4"), ("y", "<f8"), ("ypos", "<f4"),
    ("z", "<f8"),
])  # fmt: skip

TABLES: Final = {
    "exposures": EXPOSURES,
    "sources": SOURCES,
    "sourcedata": SOURCEDATA,
    "transients": SOURCES,
    "transientdata": TRANSIENTDATA,
}

TITLES: Final = {
    "exposures": "List of Exposures",
    "sources": "Field {field:06d} RC {rcid:02d} Matched Sources Table",
    "sourcedata": "Field {field:06d} RC {rcid:02d} Matched Sources Data",
    "transients": "Field {field:06d} RC {rcid:02d} Transients Table",
    "transientdata": "Field {field:06d} RC {rcid:02d} Transients Data",
}

IDENTITY: Final = {"field": "fieldID", "rcid": "rcID", "fid": "filterID", "ccdid": "ccdID", "qid": "quadrantID"}
"""Attributes of the group that say which unit it is, by the names of columns here."""

ATTRIBUTES: Final = {
    "rfid": "referenceImageID",
    "datetimematched": "datetimeMatched",
    "datetimecalibrated": "datetimeCalibrated",
    "globalmaglimit": "globalMaglimit",
    "referencezp": "referenceZeroPoint",
    "referencezperr": "referenceZeroPointErr",
    "saturatedmag": "saturatedMagnitude",
    "systematiclimit": "goodSystematicErrorLimit",
    "calibratedsince": "calibratedSinceLastMatch",
    "ncalibrators": "nCalibrationSources",
}
"""The other attributes of the group, by the columns of ``matchfiles``."""

ERROR_MODEL: Final = {"errora": "A", "errorb": "B", "errorc": "C", "errord": "D"}
"""Attributes of ``sourcedata``, by the columns of ``matchfiles`` and of the ledger."""

LEDGER: Final = {
    **{
        name: name
        for name in (
            *("airmass", "clrcoeff", "clrcounc", "clrmed", "clrrms", "exptime", "gmedian", "infobits", "ipac_pub_date"),
            *("magzp", "magzprms", "magzpunc", "nsources", "nstars", "ntransients", "obshjd", "pcolor", "programpi"),
            *("zpclrcov", "zpmed"),
        )
    },
    "seeing": "diq",
    "maglimit": "limitmag",
    "nmatches": "nps1matches",
}
"""Columns of the ledger that hold what ``exposures`` of a matchfile says, by their names there."""

JD_OF_MJD0: Final = 2400000.5
