"""Every table and column of the store, declared once.

Readers, writers, checks and the documentation (``ztfmatch schema``) derive from :data:`TABLES`.
"""

from __future__ import annotations

from typing import Final

from ztfmatch.core.schema.correctiondata import COLOURS, EXPOSURETERMS
from ztfmatch.core.schema.corrections import CORRECTIONS
from ztfmatch.core.schema.imported import IMPORTED, MATCHFILES
from ztfmatch.core.schema.ledger import EXPOSURES, QUARANTINE, REFERENCES
from ztfmatch.core.schema.lineage import LINEAGE
from ztfmatch.core.schema.sky import DETECTIONS, OBJECTS, ORPHANS
from ztfmatch.core.schema.stars import MEMBERS, OFFSETS, STARLINEAGE, STARS, STARSTATISTICS
from ztfmatch.core.schema.statistics import STATISTICS
from ztfmatch.core.schema.transients import TRANSIENTDATA, TRANSIENTS
from ztfmatch.core.schema.types import Column, Encoding, Table

TABLES: Final = {
    table.name: table
    for table in (
        *(EXPOSURES, REFERENCES, QUARANTINE, OBJECTS, DETECTIONS, ORPHANS, STATISTICS),
        *(TRANSIENTS, TRANSIENTDATA, LINEAGE, CORRECTIONS, MATCHFILES, IMPORTED),
        *(STARS, MEMBERS, STARLINEAGE),
        *(EXPOSURETERMS, COLOURS),
        *(STARSTATISTICS, OFFSETS),
    )
}

__all__ = [
    "COLOURS",
    "CORRECTIONS",
    "DETECTIONS",
    "EXPOSURES",
    "EXPOSURETERMS",
    "IMPORTED",
    "LINEAGE",
    "MATCHFILES",
    "MEMBERS",
    "OBJECTS",
    "OFFSETS",
    "ORPHANS",
    "QUARANTINE",
    "REFERENCES",
    "STARLINEAGE",
    "STARS",
    "STARSTATISTICS",
    "STATISTICS",
    "TABLES",
    "TRANSIENTDATA",
    "TRANSIENTS",
    "Column",
    "Encoding",
    "Table",
]
