"""Every table and column of the store, declared once.

Readers, writers, checks and the documentation (``ztfmatch schema``) derive from :data:`TABLES`.
"""

from __future__ import annotations

from typing import Final

from ztfmatch.schema.corrections import CORRECTIONS
from ztfmatch.schema.ledger import EXPOSURES, QUARANTINE, REFERENCES
from ztfmatch.schema.lineage import LINEAGE
from ztfmatch.schema.sky import DETECTIONS, OBJECTS, ORPHANS
from ztfmatch.schema.statistics import STATISTICS
from ztfmatch.schema.types import Column, Encoding, Table

TABLES: Final = {
    table.name: table
    for table in (EXPOSURES, REFERENCES, QUARANTINE, OBJECTS, DETECTIONS, ORPHANS, STATISTICS, LINEAGE, CORRECTIONS)
}

__all__ = [
    "CORRECTIONS",
    "DETECTIONS",
    "EXPOSURES",
    "LINEAGE",
    "OBJECTS",
    "ORPHANS",
    "QUARANTINE",
    "REFERENCES",
    "STATISTICS",
    "TABLES",
    "Column",
    "Encoding",
    "Table",
]
