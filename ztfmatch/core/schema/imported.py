"""What imported matchfiles say that the other tables have no column for: kept, so that an export gives it back."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.ledger import COMMIT, FILE, unit_columns
from ztfmatch.core.schema.types import Column, Table, delta, few, split

_ATTRIBUTE: Final = "attribute of /matches"

MATCHFILES: Final = Table(
    "matchfiles",
    "One row per imported matchfile.",
    ("field", "rcid", "fid", "sha256"),
    (
        *unit_columns("attributes of /matches"),
        Column("rfid", pa.int64(), "", "referenceImageID", _ATTRIBUTE, True),
        Column("datetimematched", pa.string(), "", "datetimeMatched: when the survey made it", _ATTRIBUTE, True),
        Column("datetimecalibrated", pa.string(), "", "datetimeCalibrated", _ATTRIBUTE, True),
        Column("globalmaglimit", pa.float32(), "mag", "globalMaglimit", _ATTRIBUTE, True),
        Column("referencezp", pa.float64(), "mag", "referenceZeroPoint", _ATTRIBUTE, True),
        Column("referencezperr", pa.float64(), "mag", "referenceZeroPointErr", _ATTRIBUTE, True),
        Column("saturatedmag", pa.float64(), "mag", "saturatedMagnitude", _ATTRIBUTE, True),
        Column("systematiclimit", pa.float64(), "mag", "goodSystematicErrorLimit", _ATTRIBUTE, True),
        Column("calibratedsince", pa.int64(), "", "calibratedSinceLastMatch", _ATTRIBUTE, True),
        Column("ncalibrators", pa.int64(), "", "nCalibrationSources", _ATTRIBUTE, True),
        Column("errora", pa.float64(), "mag", "Error model, A", "attribute of sourcedata", True),
        Column("errorb", pa.float64(), "", "Error model, B", "attribute of sourcedata", True),
        Column("errorc", pa.float64(), "mag", "Error model, C", "attribute of sourcedata", True),
        Column("errord", pa.float64(), "mag", "Error model, D", "attribute of sourcedata", True),
        Column("nsources", pa.int64(), "", "Rows of sources", "matchfile"),
        Column("nepochs", pa.int64(), "", "Rows of sourcedata", "matchfile"),
        Column("ntransientepochs", pa.int64(), "", "Rows of transientdata", "matchfile"),
        Column("nexposures", pa.int64(), "", "Exposures with any row", "matchfile"),
        Column("nimported", pa.int64(), "", "of which were new to the store", "store"),
        *FILE,
        COMMIT,
    ),
    by_tile=False,
)

TRANSIENT_OFFSET: Final = 9 * 10**7
"""What a ``legacyid`` of a transient has more than that of a source of the same number."""

_TRANSIENT: Final = "transientdata; null for an epoch of a source"


def _of_transient(name: str, kind: pa.DataType, unit: str, description: str) -> Column:
    return split(name, kind, unit, description, _TRANSIENT, True)


IMPORTED: Final = Table(
    "imported",
    "One row per imported epoch: what its matchfile says of it beside the columns of detections and orphans.",
    ("legacyid", "row"),
    (
        delta(
            "legacyid",
            pa.int64(),
            "",
            "What it was an epoch of in the matchfile: field*10^12 + fid*10^11 + ccdid*10^9 + qid*10^8 + matchid, "
            f"{TRANSIENT_OFFSET} more if matchid is of transients",
            "matchid",
            bounds=True,
        ),
        few("exposureid", pa.int64(), "", "Key of the exposure in the ledger", "expid"),
        delta(
            "sourceid",
            pa.int32(),
            "",
            "Its number among the rows that the matchfile has of its exposure, from 0; unique there",
            "matchfile",
        ),
        delta(
            "row",
            pa.int64(),
            "",
            "Row in the matchfile, from 0, those of transientdata after those of sourcedata",
            "matchfile",
        ),
        few(
            "magerrmodel",
            pa.float32(),
            "mag",
            "The catalog's own sigma, which the matchfile has under this name (its magerr is the model's)",
            "magerrmodel",
            True,
        ),
        few(
            "mjd",
            pa.float64(),
            "day",
            "Mid-exposure, MJD (UTC); null where it is obsmjd + exptime/2 of the ledger to the last bit",
            "mjd",
            True,
        ),
        _of_transient("psfmag", pa.float32(), "mag", "PSF-fit magnitude"),
        _of_transient("psfmagerr", pa.float32(), "mag", "Its error"),
        _of_transient("snr", pa.float32(), "", "Flux over its error"),
        Column("sid", pa.uint64(), "", "Number of the source", _TRANSIENT, True),
        _of_transient("x", pa.float64(), "", "Unit vector"),
        _of_transient("y", pa.float64(), "", "Unit vector"),
        _of_transient("z", pa.float64(), "", "Unit vector"),
    ),
    by_tile=False,
)
