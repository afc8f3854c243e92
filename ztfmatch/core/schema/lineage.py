"""What became of objects when the reference of their unit was regenerated."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.config import SAME_ARCSEC
from ztfmatch.core.schema.sky import unit_columns
from ztfmatch.core.schema.types import LABEL, Column, Table, delta, few

SAME: Final = "same"
MOVED: Final = "moved"
SPLIT: Final = "split"
MERGED: Final = "merged"
LOST: Final = "lost"
NEW: Final = "new"
LINEAGE_KINDS: Final = (SAME, MOVED, SPLIT, MERGED, LOST, NEW)

_OF_OLD: Final = "Of the epochs of the old object, or the detections of the old transient, those that are"

LINEAGE: Final = Table(
    "lineage",
    "One row per link between an object, or a transient, and what it became in the next generation of its unit.",
    ("objectid", "newobjectid"),
    (
        delta(
            "objectid",
            pa.int64(),
            "",
            f"The object of the older generation, retired, or the transient (above 10^16); null for '{NEW}'",
            "rematch",
            True,
            bounds=True,
        ),
        delta(
            "newobjectid",
            pa.int64(),
            "",
            f"The object of the newer generation; for '{LOST}' the transient that has half of its epochs, or null",
            "rematch",
            True,
        ),
        few(
            "kind",
            LABEL,
            "",
            f"'{SAME}' or '{MOVED}' (by more than {SAME_ARCSEC} arcsec): one became one; '{SPLIT}': one became "
            f"several; '{MERGED}': several became one; '{LOST}': less than half of its epochs are of successors; "
            f"'{NEW}': no predecessor",
            "rematch",
        ),
        *unit_columns("rematch"),
        Column("separation", pa.float32(), "arcsec", "Between the two positions", "rematch", True),
        Column("dmag", pa.float32(), "mag", "refmag, of a transient meanmag: new minus old", "rematch", True),
        Column("nshared", pa.int32(), "", "Detections that are epochs of both", "rematch"),
        Column("fractionold", pa.float32(), "", "nshared over the epochs of the old object", "rematch", True),
        Column("fractionnew", pa.float32(), "", "nshared over the epochs of the new object", "rematch", True),
        Column("ninobjects", pa.int32(), "", f"{_OF_OLD} epochs of objects now; null for '{NEW}'", "rematch", True),
        Column("nintransients", pa.int32(), "", f"{_OF_OLD} detections of transients now", "rematch", True),
        Column("norphaned", pa.int32(), "", f"{_OF_OLD} orphans of no transient now", "rematch", True),
        Column(
            "snapshot",
            pa.int64(),
            "",
            "The snapshot that was matched again: the last that has the old object active",
            "store",
        ),
    ),
    by_tile=False,
)
