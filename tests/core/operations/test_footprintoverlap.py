"""Which tiles exposures touch, against each exposure alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.kernels.tiling import Tile, adaptive_tiling
from ztfmatch.core.operations.common import footprint_table, tiles_of_footprints
from ztfmatch.core.operations.footprintoverlap import Touched

exposures = st.tuples(
    st.integers(0, 3),
    st.floats(0, 359.99),
    st.floats(-90, 90),
    st.floats(0.0, 2.0),
    st.floats(-0.01, 0.01),
    st.booleans(),
)


@settings(max_examples=30)
@given(st.lists(exposures, max_size=8), st.integers(1, 3))
def test_touched_has_every_tile_that_an_exposure_touches(
    given_exposures: list[tuple[int, float, float, float, float, bool]], order: int
) -> None:
    tiling = adaptive_tiling(np.arange(0, 12 << 26, 1 << 14), np.ones(12 << 12, np.int64), 1, order)
    rows = []
    for unit, ra, dec, radius, shift, empty in sorted(given_exposures):
        of = {"ra": ra, "dec": float(np.clip(dec + shift, -90, 90)), "radius": radius}
        rows += [{"unit": unit, **of}, {"unit": unit, **(dict.fromkeys(of) if empty else of)}]
    schema = pa.schema([("unit", pa.int64()), *((name, pa.float64()) for name in ("ra", "dec", "radius"))])
    table = pa.Table.from_pylist(rows, schema=schema)
    touched = Touched.of(tiling, table, table["unit"].to_numpy())
    held: dict[Tile, list[int]] = {tile: touched.exposures(at).tolist() for at, tile in enumerate(tiling.tiles)}
    alone = tiles_of_footprints(tiling, table)
    assert alone == tiles_of_footprints(tiling, footprint_table(rows))
    for i, row in enumerate(rows):
        mine = {tile for tile, of in held.items() if i in of}
        assert touched.tiles[touched.footprint[i]] == len(mine)
        assert mine >= set(alone[i])
        assert row["ra"] is not None or not mine
    assert all(of == sorted(set(of)) for of in held.values())
