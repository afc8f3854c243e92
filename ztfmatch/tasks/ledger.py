"""The part of the ledger that one tile needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ztfmatch.io.parquet import DataFile, read_file_rows
from ztfmatch.io.storage import Storage
from ztfmatch.kernels.tiling import Tile, caps_touch_tile
from ztfmatch.schema import EXPOSURES

_FOOTPRINT = ("ra", "dec", "radius")


def exposures_of_tile(storage: Storage, ledger: Sequence[DataFile], tile: Tile, columns: Sequence[str]) -> pa.Table:
    """Ledger rows of the exposures whose footprint may touch a tile.

    Memory follows the exposures of the tile and the largest ledger file, not the survey.
    """
    wanted = list(dict.fromkeys([*columns, *_FOOTPRINT]))
    parts = [EXPOSURES.schema.empty_table().select(list(columns))]
    for file in ledger:
        rows = read_file_rows(storage, file, wanted)
        ra, dec, radius = (rows[name].to_numpy().astype(np.float64) for name in _FOOTPRINT)
        touching = pa.array(caps_touch_tile(tile, ra, dec, radius))
        parts.append(rows.filter(touching).select(list(columns)).cast(parts[0].schema))
    return pa.concat_tables(parts)
