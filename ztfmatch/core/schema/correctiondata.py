"""What corrections of a store need of single exposures and objects."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from ztfmatch.core.schema.types import Column, Table, delta, few, split

GRADIENT: Final = ("zero", "gx", "gy", "qxx", "qxy", "qyy")
"""Columns of a zero point and a gradient."""

_SET: Final = few("corrections", pa.string(), "", "The set of corrections that it belongs to", "calibrate")

EXPOSURETERMS: Final = Table(
    "exposureterms",
    "Zero points and gradients that single exposures are corrected by, relative to their channel.",
    ("field", "exposureid"),
    (
        _SET,
        few("field", pa.int16(), "", "Field number", "ledger", bounds=True),
        Column("exposureid", pa.int64(), "", "Key of the ledger", "ledger"),
        *(
            split(
                name,
                pa.float64(),
                "mag",
                f"Factor of {form}, taken off the magnitude; u and v run from -1 to 1 over the quadrant",
                "calibrate",
            )
            for name, form in zip(GRADIENT, ("1", "u", "v", "u^2 - 1/3", "u v", "v^2 - 1/3"), strict=True)
        ),
    ),
    by_tile=False,
)

COLOURS: Final = Table(
    "colours",
    "PS1 colours of objects, by which colour terms correct their epochs.",
    ("objectid",),
    (
        _SET,
        delta("objectid", pa.int64(), "", "Object", "init", bounds=True),
        split("colour", pa.float32(), "mag", "g - r of PS1 for filters g and r, r - i for i", "calibrate"),
    ),
    by_tile=False,
)
