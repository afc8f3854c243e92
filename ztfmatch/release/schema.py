"""Tables of data releases: lightcurves as rows of lists (bulk files) or nested (HATS), objects with statistics.

What private epochs may say: ``nobs`` and ``ngoodobs`` count the epochs of all programs. Every other column is made of
the reference catalog or of epochs in the release's scope, which is also what decides which objects have a lightcurve.
An epoch without a magnitude (its flux is not positive) is in no release. Corrected magnitudes and errors depend on the
programs whose epochs the corrections were derived from: others than the scope's are refused, unless it allows them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.sky import DETECTIONS, OBJECTS
from ztfmatch.core.schema.stars import STARS
from ztfmatch.core.schema.statistics import STATISTICS
from ztfmatch.core.schema.types import LABEL, Column, Encoding, Table, delta, few, split, struct_of_lists

HEALPIX_COLUMN: Final = "_healpix_29"
LIGHTCURVE_COLUMN: Final = "lightcurve"
INDEX_COLUMN: Final = "__index_level_0__"
MAGERR_BITS: Final = 10
"""Significant bits of ``magerr`` in nested lightcurves: it is rounded by less than 0.05 %."""

_OF_REFERENCE: Final = "reference catalog"
_OF_RELEASE: Final = "epochs of the release"

_HEALPIX: Final = delta(
    HEALPIX_COLUMN,
    pa.int64(),
    "",
    "HEALPix pixel of the position, order 29, NESTED; rows are sorted by it",
    "computed",
    bounds=True,
)

_OBJECTID: Final = split(
    "objectid",
    pa.int64(),
    "",
    "field*10^12 + filterid*10^11 + ccdid*10^9 + qid*10^8 + generation*10^7 + sourceid",
    _OF_REFERENCE,
    bounds=True,
)

_UNIT: Final = (
    few("filterid", pa.int8(), "", "Filter: 1 = g, 2 = r, 3 = i", "objectid"),
    few("fieldid", pa.int16(), "", "Field number", "objectid", bounds=True),
    few("rcid", pa.int8(), "", "Readout channel, 0..63", "objectid"),
)

_POSITION: Final = (
    split(
        "objra",
        pa.float64(),
        "deg",
        "Right ascension of the reference source, ICRS (IRSA's is float32, which has steps of 0.1 arcsec)",
        _OF_REFERENCE,
        bounds=True,
        zstd_level=9,
    ),
    split(
        "objdec",
        pa.float64(),
        "deg",
        "Declination of the reference source, ICRS",
        _OF_REFERENCE,
        bounds=True,
        zstd_level=9,
    ),
)

_NEPOCHS: Final = split(
    "nepochs", pa.int64(), "", "Epochs of the lightcurve, flagged ones too; never 0", _OF_RELEASE, bounds=True
)


def _of_detections(name: str, level: int, **changes: object) -> Column:
    return replace(DETECTIONS[name], source=_OF_RELEASE, zstd_level=level, bounds=False, **changes)  # type: ignore[arg-type]


LIGHTCURVE: Final = (
    _of_detections("hmjd", 9),
    _of_detections("mag", 5, description="Calibrated magnitude, no colour term", nullable=False),
    _of_detections(
        "magerr", 9, description=f"1-sigma error of mag, rounded to {MAGERR_BITS} significant bits (0.05 %) by default"
    ),
    few(
        "clrcoeff",
        pa.float32(),
        "",
        "Colour coefficient of the exposure, not applied: mag + clrcoeff*(g-r), for the i filter (r-i), is PS1's",
        "ledger",
        True,
        zstd_level=9,
    ),
    _of_detections("catflags", 9, type=pa.int32()),
)
"""Epochs of a lightcurve, by time; types are those of an element."""

RELEASED_LIGHTCURVES: Final = Table(
    "lightcurves",
    "HATS: one row per object that has epochs in the release, with its lightcurve nested.",
    (HEALPIX_COLUMN, "objectid"),
    (
        _HEALPIX,
        _OBJECTID,
        *_UNIT,
        *_POSITION,
        _NEPOCHS,
        Column(
            LIGHTCURVE_COLUMN,
            struct_of_lists(LIGHTCURVE),
            "",
            "Epochs by time; every list has nepochs elements",
            _OF_RELEASE,
            True,
        ),
    ),
    row_group_rows=65_536,
)

STAR_LIGHTCURVE: Final = (
    *LIGHTCURVE,
    few("objectid", pa.int64(), "", "The object that it is an epoch of", _OF_RELEASE),
    few("field", pa.int16(), "", "Its field", _OF_RELEASE),
    few("rcid", pa.int8(), "", "Its readout channel, 0..63", _OF_RELEASE),
    few("fid", pa.int8(), "", "Its filter: 1 = g, 2 = r, 3 = i", _OF_RELEASE),
)
"""Epochs of a star, by time, each with the object that it is of."""

RELEASED_STARS: Final = Table(
    "starlightcurves",
    "HATS: one row per star that has epochs in the release, with those of all its objects nested, in all filters.",
    (HEALPIX_COLUMN, "starid"),
    (
        _HEALPIX,
        STARS["starid"],
        *_POSITION,
        few("nobjects", pa.int16(), "", "Objects of the star that have epochs in the release", _OF_RELEASE),
        _NEPOCHS,
        Column(
            LIGHTCURVE_COLUMN,
            struct_of_lists(STAR_LIGHTCURVE),
            "",
            "Epochs by time, of all filters; every list has nepochs elements",
            _OF_RELEASE,
            True,
        ),
    ),
    row_group_rows=65_536,
)


def _irsa(column: Column, kind: pa.DataType | None = None) -> Column:
    return replace(column, type=kind or column.type, zstd_level=5, nullable=True)


BULK: Final = Table(
    "bulk",
    "Bulk files, one a unit: one row per object that has epochs in the release, columns and types as IRSA's.",
    ("objectid",),
    (
        _irsa(replace(_OBJECTID, encoding=Encoding.DELTA)),
        *(_irsa(c, kind) for c, kind in zip(_UNIT, (pa.uint8(), pa.int16(), pa.uint8()), strict=True)),
        *(_irsa(column, pa.float32()) for column in _POSITION),
        _irsa(_NEPOCHS),
        *(
            _irsa(replace(c, bounds=False), pa.list_(pa.uint16() if c.name == "catflags" else c.type))
            for c in (*LIGHTCURVE[:2], replace(LIGHTCURVE[2], description="1-sigma error of mag"), *LIGHTCURVE[3:])
        ),
        delta(
            INDEX_COLUMN,
            pa.int64(),
            "",
            "The index of the pandas frame in IRSA's files: the last eight digits of objectid",
            "objectid",
            True,
        ),
    ),
    row_group_rows=1 << 20,
)

_NOT_RELEASED: Final = {
    "nobs": "Number of epochs of all programs, good or not, in the release or not",
    "ngoodobs": "Number of good epochs (catflags = 0, mag and magerr finite) of all programs",
}

_IN_RELEASE: Final = {
    "nobsrel": "Number of epochs in the release, good or not",
    "ngoodobsrel": "Number n of good epochs in the release: catflags = 0, mag and magerr finite",
}


def _statistic(column: Column) -> Column:
    """A statistic as it is released: its description says what it is made of."""
    text = _NOT_RELEASED.get(column.name) or _IN_RELEASE.get(column.name)
    source = "epochs of all programs" if column.name in _NOT_RELEASED else "good epochs of the release"
    return replace(column, description=text or column.description, source=source)


REFERENCE_VALUES: Final = ("refchi", "refmag", "refmagerr", "refsharp", "refsnr")

RELEASED_OBJECTS: Final = Table(
    "releasedobjects",
    "HATS: one row per object, seen or not, with the statistics of its epochs in the release; columns as IRSA's "
    "objects table. Statistics are those of ztfmatch schema statistics, made of the release's good epochs.",
    (HEALPIX_COLUMN, "oid"),
    (
        _HEALPIX,
        delta("cntr", pa.int64(), "", "Number of the row, from 1", "computed", bounds=True),
        replace(_OBJECTID, name="oid"),
        *(replace(column, name=name) for column, name in zip(_POSITION, ("ra", "dec"), strict=True)),
        split("htm20", pa.int64(), "", "Hierarchical triangular mesh, depth 20", "computed"),
        replace(_UNIT[1], name="field"),
        few("ccdid", pa.int8(), "", "CCD, 1..16", "objectid"),
        few("qid", pa.int8(), "", "Quadrant of the CCD, 1..4", "objectid"),
        replace(_UNIT[0], name="fid"),
        few("filtercode", LABEL, "", "Filter: zg, zr, zi", "objectid"),
        *(split(axis, pa.float64(), "", f"Unit vector of the position, {axis}", "computed") for axis in "xyz"),
        *(_statistic(STATISTICS[name]) for name in ("ngoodobs", "ngoodobsrel", "nobs", "nobsrel")),
        *(replace(OBJECTS[name], nullable=True) for name in REFERENCE_VALUES),
        *(
            _statistic(column)
            for column in STATISTICS.columns
            if column.name not in ("objectid", "snapshot", *_NOT_RELEASED, *_IN_RELEASE)
        ),
    ),
    row_group_rows=65_536,
)

INDEX: Final = Table(
    "index",
    "HATS: the partition of every object.",
    ("objectid",),
    (
        replace(_OBJECTID, encoding=Encoding.DELTA),
        few("Norder", pa.uint8(), "", "HEALPix order of the partition", "computed"),
        few("Npix", pa.uint64(), "", "HEALPix pixel of the partition", "computed"),
    ),
    row_group_rows=131_072,
)

KEPT: Final = "kept"
"""Kind of the link of an object that kept its id."""

ASSOCIATION: Final = Table(
    "association",
    "HATS: one row per object of a release that the next one has, too, or a successor of it.",
    (HEALPIX_COLUMN, "objectid"),
    (
        _HEALPIX,
        replace(_OBJECTID, description="Object of the older release"),
        replace(_OBJECTID, name="newobjectid", description="What it is in the newer release"),
        few(
            "kind",
            LABEL,
            "",
            f"'{KEPT}' where the id is the same, else as in the table lineage; of a line of several links the first",
            "lineage",
        ),
        split("separation", pa.float64(), "arcsec", "Between the two positions", "computed"),
    ),
    row_group_rows=131_072,
)

_RELEASED: Final = (RELEASED_LIGHTCURVES, RELEASED_STARS, BULK, RELEASED_OBJECTS, ASSOCIATION)
RELEASE_TABLES: Final = {table.name: table for table in _RELEASED}
"""What is published; not tables of a store."""
