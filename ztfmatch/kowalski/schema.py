"""Kowalski's documents and their columns in the store; see docs/guides/kowalski.md.

Names, types and rounding are those of the survey's matchfiles as Kowalski's ingester stores them (skyportal/kowalski,
``ingest_ztf_matchfiles.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ztfmatch.core.schema.ledger import EXPOSURES as LEDGER

SOURCE_DECIMALS: Final = 3
"""Of every float of a source but its position."""

EPOCH_DECIMALS: Final = {"chi": 3, "hjd": 5, "mag": 5, "magerr": 5, "sharp": 3}

HJD_OF_HMJD: Final = 2_400_000.5

STATISTICS: Final = ("meanmag", "vonneumannratio")
"""Of ``statistics``, by the same name; with ``nobs`` and ``iqr`` what new epochs change."""

REFERENCE: Final = ("refchi", "refmag", "refmagerr", "refsharp")
"""Of ``objects``, by the same name."""

SOURCES: Final = "sources"
EXPOSURES: Final = "exposures"
LINEAGE: Final = "lineage"
COLLECTIONS: Final = (EXPOSURES, SOURCES, LINEAGE)

UPSERT: Final = "upsert"
"""Lines are whole documents, which replace existing ones."""
UPDATE: Final = "update"
"""Lines say what of a document is to be set, and which epochs are to be put into its data."""
REMOVE: Final = "remove"
"""Lines have the ``_id`` of documents that are no more."""
ACTIONS: Final = (REMOVE, UPSERT, UPDATE)
"""In the order in which an export is loaded."""


@dataclass(frozen=True)
class LedgerField:
    """A field of an exposure's document."""

    name: str
    column: str
    """Of the ledger."""
    single: bool = False
    """Whether matchfiles have it in float32, which Kowalski keeps."""
    otherwise: str | None = None
    """Column to take where that is null."""


EXPOSURE_FLOATS: Final = (
    *(LedgerField(name, name, True) for name in ("airmass", "clrcoeff", "clrcounc", "clrmed", "clrrms")),
    LedgerField("diq", "seeing", True),
    *(LedgerField(name, name, True) for name in ("exptime", "gmedian", "ipac_pub_date")),
    LedgerField("limitmag", "maglimit", True),
    *(LedgerField(name, name, True) for name in ("magzp", "magzprms", "magzpunc")),
    *(LedgerField(name, name) for name in ("obshjd", "obsmjd")),
    *(LedgerField(name, name, True) for name in ("zpclrcov", "zpmed")),
)
EXPOSURE_INTEGERS: Final = (
    LedgerField("fieldid", "field"),
    LedgerField("filterid", "fid"),
    LedgerField("fracday", "fracday"),
    LedgerField("infobits", "infobits"),
    LedgerField("nps1matches", "nmatches"),
    LedgerField("nsources", "nsources", otherwise="nmatched"),
    LedgerField("nstars", "nstars"),
    LedgerField("ntransients", "ntransients", otherwise="norphans"),
    LedgerField("programid", "programid"),
    LedgerField("rcid", "rcid"),
)
EXPOSURE_BYTES: Final = (LedgerField("pcolor", "pcolor"), LedgerField("programpi", "programpi"))
"""Kowalski has them as the matchfile has: bytes, not text."""

_OF_EXPOSURES: Final = (*EXPOSURE_FLOATS, *EXPOSURE_INTEGERS, *EXPOSURE_BYTES)
EXPOSURE_COLUMNS: Final = (
    "exposureid",
    "expid",
    *(field.column for field in _OF_EXPOSURES),
    *(field.otherwise for field in _OF_EXPOSURES if field.otherwise is not None),
)
"""Columns of the ledger that an exposure's document is made of."""

SCOPE_COLUMNS: Final = ("field", "fid", "programid", "quality")
"""Columns of the ledger that decide whether an exposure is to be exported."""

EPOCH_COLUMNS: Final = tuple(
    name
    for name in (
        *("expid", "programid", "quality", "obsmjd", "exptime", "magzp"),
        *("errora", "errorb", "errorc", "errord", "corrections"),
    )
    if name in LEDGER.names
)
"""Columns of the ledger that epochs are made of: where one changed, so did the epochs of the exposure."""
