"""The corrections that the magnitudes of a store have been given, value by value, so that they can be made again."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.types import LABEL, Column, Table, few

GRID: Final = "grid"
MAGNITUDE: Final = "magnitude"
POSITION: Final = "position"
FIELD: Final = "field"
ERROR_MODEL: Final = "error model"
PROGRAM: Final = "program"
NODE: Final = "node"
KNOTS_X: Final = "knots x"
KNOTS_Y: Final = "knots y"
SPLINE: Final = "spline"
CURVE: Final = "curve"
COLOUR: Final = "colour"
MEAN_COLOUR: Final = "mean colour"
FADE: Final = "fade"
DATA: Final = "data"

CORRECTIONS: Final = Table(
    "corrections",
    "Photometric corrections relative to PS1 that magnitudes of the store have: one row a number.",
    ("corrections", "term", "field", "rcid", "fid", "place"),
    (
        few(
            "corrections",
            pa.string(),
            "",
            "The set of corrections: a digest of all numbers that it applies",
            "calibrate",
        ),
        few(
            "term",
            LABEL,
            "",
            f"'{GRID}': cells of the maps along x and y; '{MAGNITUDE}': bright and faint end of the valid range, "
            f"coefficients of (mag - faint) and its square; '{POSITION}': value of a cell of the map; '{FIELD}': "
            f"offset of the unit; '{ERROR_MODEL}': A, B, C, D of the unit; '{PROGRAM}': the programs whose epochs they "
            "were derived from, 0 for exposures of no known one; without such rows they are not known. Of continuous "
            f"corrections, by node (a time): '{NODE}': its MJD; '{KNOTS_X}', '{KNOTS_Y}', '{SPLINE}': knots and "
            f"coefficients of the map, of degree 2; '{CURVE}': as '{MAGNITUDE}', then pairs of a knot and the factor "
            f"of (mag - knot)^2 below it; '{COLOUR}': middle colour, factors of (colour - middle) and its square; "
            f"'{MEAN_COLOUR}': of the unit, their means and the scatter; '{FADE}': magnitudes over which a curve ends; "
            f"'{DATA}': digest, as a number, of what it has of exposures and objects",
            "calibrate",
        ),
        Column("field", pa.int16(), "", "Field; null for what all fields share", "calibrate", True),
        Column("rcid", pa.int8(), "", "Readout channel; null for the grid", "calibrate", True),
        Column("fid", pa.int8(), "", "Filter; null for the grid", "calibrate", True),
        Column(
            "place",
            pa.int32(),
            "",
            "Number of the coefficient, or of the cell: column + row * cells along x; from 0; of what a node has, "
            "the node's number times 65,536 and the coefficient's",
            "calibrate",
        ),
        Column("value", pa.float64(), "mag", "The number; null where the term has no value", "calibrate", True),
    ),
    by_tile=False,
)
