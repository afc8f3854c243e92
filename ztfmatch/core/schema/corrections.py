"""The corrections that the magnitudes of a store have been given, value by value, so that they can be made again."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.types import Column, Encoding, Table

GRID: Final = "grid"
MAGNITUDE: Final = "magnitude"
POSITION: Final = "position"
FIELD: Final = "field"
ERROR_MODEL: Final = "error model"
PROGRAM: Final = "program"

CORRECTIONS: Final = Table(
    "corrections",
    "Photometric corrections relative to PS1 that magnitudes of the store have: one row a number.",
    ("corrections", "term", "field", "rcid", "fid", "place"),
    (
        Column(
            "corrections",
            pa.string(),
            "",
            "The set of corrections: a digest of all numbers that it applies",
            "calibrate",
            encoding=Encoding.DICTIONARY,
        ),
        Column(
            "term",
            pa.dictionary(pa.int8(), pa.string()),
            "",
            f"'{GRID}': cells of the maps along x and y; '{MAGNITUDE}': bright and faint end of the valid range, "
            f"coefficients of (mag - faint) and its square; '{POSITION}': value of a cell of the map; '{FIELD}': "
            f"offset of the unit; '{ERROR_MODEL}': A, B, C, D of the unit; '{PROGRAM}': the programs whose epochs they "
            "were derived from, 0 for exposures of no known one; without such rows they are not known",
            "calibrate",
            encoding=Encoding.DICTIONARY,
        ),
        Column("field", pa.int16(), "", "Field; null for what all fields share", "calibrate", True),
        Column("rcid", pa.int8(), "", "Readout channel; null for the grid", "calibrate", True),
        Column("fid", pa.int8(), "", "Filter; null for the grid", "calibrate", True),
        Column(
            "place",
            pa.int32(),
            "",
            "Number of the coefficient, or of the cell: column + row * cells along x; from 0",
            "calibrate",
        ),
        Column("value", pa.float64(), "mag", "The number; null where the term has no value", "calibrate", True),
    ),
    by_tile=False,
)
