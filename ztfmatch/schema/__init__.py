"""Every table and column of the store, declared once.

Readers, writers, checks and the documentation (``ztfmatch schema``) derive from :data:`TABLES`.
"""

from __future__ import annotations

from typing import Final

from ztfmatch.schema.corrections import CORRECTIONS
from ztfmatch.schema.imported import IMPORTED, MATCHFILES
from ztfmatch.schema.ledger import EXPOSURES, QUARANTINE, REFERENCES
from ztfmatch.schema.lineage import LINEAGE
from ztfmatch.schema.sky import DETECTIONS, OBJECTS, ORPHANS
from ztfmatch.schema.statistics import STATISTICS
from ztfmatch.schema.transients import TRANSIENTDATA, TRANSIENTS
from ztfmatch.schema.types import Column, Encoding, Table

TABLES: Final = {
    table.name: table
    for table in (
        *(EXPOSURES, REFERENCES, QUARANTINE, OBJECTS, DETECTIONS, ORPHANS, STATISTICS),
        *(TRANSIENTS, TRANSIENTDATA, LINEAGE, CORRECTIONS, MATCHFILES, IMPORTED),
    )
}

__all__ = [
    "CORRECTIONS",
    "DETECTIONS",
    "EXPOSURES",
    "IMPORTED",
    "LINEAGE",
    "MATCHFILES",
    "OBJECTS",
    "ORPHANS",
    "QUARANTINE",
    "REFERENCES",
    "STATISTICS",
    "TABLES",
    "TRANSIENTDATA",
    "TRANSIENTS",
    "Column",
    "Encoding",
    "Table",
]
