"""Arrow tables as astropy tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def astropy_table(rows: pa.Table) -> Any:
    """Table with the units and descriptions of the columns; nulls are masked, texts are texts."""
    from astropy import units
    from astropy.table import Column, MaskedColumn, Table

    table = Table()
    for field, column in zip(rows.schema, rows.columns, strict=True):
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        unit = units.Unit(about["unit"]) if about.get("unit") else None
        options = {"name": field.name, "unit": unit, "description": about.get("description")}
        nulls = column.is_null().to_numpy()
        if pa.types.is_string(field.type):
            values = np.array(column.fill_null("").to_pylist(), str)
        else:
            values = column.fill_null(0).to_numpy() if column.null_count else column.to_numpy()
        table[field.name] = MaskedColumn(values, mask=nulls, **options) if nulls.any() else Column(values, **options)
    return table
