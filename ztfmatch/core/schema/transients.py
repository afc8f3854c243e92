"""Orphans that belong together: transients, sources that no reference holds, or not apart from an object."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.sky import unit_columns
from ztfmatch.core.schema.statistics import STATISTICS
from ztfmatch.core.schema.types import Column, Table, delta, few, split

_IDENTITY: Final = (
    "((days since 2017-01-01)*10^6 + ffffff)*10^9 + rcid*10^7 + sourceid of the detection that founded it, the first "
    "of them; above 10^16, so never an objectid"
)

_ID: Final = delta("transientid", pa.int64(), "", _IDENTITY, "transients", bounds=True)

TRANSIENTS: Final = Table(
    "transients",
    "One row per transient: orphans of a unit that recur at a place, linked over exposures.",
    ("transientid",),
    (
        _ID,
        *unit_columns("psfcat header"),
        split("ra", pa.float64(), "deg", "Mean right ascension of its detections, ICRS", "transients"),
        split("dec", pa.float64(), "deg", "Mean declination of its detections, ICRS", "transients"),
        split("firsthmjd", pa.float64(), "day", "hmjd of its earliest detection", "transients"),
        split("lasthmjd", pa.float64(), "day", "hmjd of its latest detection", "transients"),
        few("besideid", pa.int64(), "", "The object that most of its detections lost to, since another of their "
               "exposure was nearer to its seed; null if none did", "transients", True),
        Column("nbeside", pa.int32(), "", "Its detections that lost to an object; the others have no seed within the "
               "radius", "transients"),
        *(column for column in STATISTICS.columns if column.name != "objectid"),
    ),
)  # fmt: skip

TRANSIENTDATA: Final = Table(
    "transientdata",
    "One row per detection of a transient; what was measured is in 'orphans'.",
    ("transientid", "exposureid"),
    (
        _ID,
        few("exposureid", pa.int64(), "", "Exposure of the detection", "transients"),
        delta("sourceid", pa.int32(), "", "Source number in the epochal catalog", "transients"),
    ),
)  # fmt: skip

TRANSIENT_TABLES: Final = (TRANSIENTS.name, TRANSIENTDATA.name)
"""What the grouping of a tile writes anew."""
