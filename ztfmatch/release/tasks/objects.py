"""Objects of a tile with the statistics of their epochs in a release, as IRSA's objects table has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Arrays
from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.io.parquet import Columns, table_from_columns
from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.kernels.statistics import COUNTS, VALUES, Epochs, lightcurve_statistics
from ztfmatch.core.survey import FILTER_CODES, unit_columns
from ztfmatch.core.tasks.statistics import EPOCH_COLUMNS
from ztfmatch.release.io.hats import healpix_pixels
from ztfmatch.release.kernels.htm import HTM_DEPTH, htm_index
from ztfmatch.release.schema import HEALPIX_COLUMN, REFERENCE_VALUES, RELEASED_OBJECTS
from ztfmatch.release.tasks.released import Source, released

OBJECT_COLUMNS: Final = ("objectid", "ra", "dec", *REFERENCE_VALUES)
"""Columns of the store's objects that are needed."""


def object_rows(source: Source, objects: pa.Table) -> Iterator[pa.Table]:
    """Rows of RELEASED_OBJECTS of all objects of a source, at once; they are not numbered yet.

    Parameters
    ----------
    objects : pyarrow.Table
        OBJECT_COLUMNS of its objects.
    """
    if not objects.num_rows:
        return
    columns: Columns = {name: np.zeros(objects.num_rows, np.int32) for name in COUNTS}
    columns |= {name: np.full(objects.num_rows, np.nan, np.float32) for name in VALUES}
    for part in released(source, EPOCH_COLUMNS):
        for name, values in _statistics(part.lightcurves).items():
            columns[name][part.row] = values
        columns["nobs"][part.row], columns["ngoodobs"][part.row] = part.nobs, part.ngoodobs
    columns |= _described(objects)
    yield table_from_columns(RELEASED_OBJECTS, columns)


def _statistics(curves: Lightcurves) -> Arrays:
    """Statistics of lightcurves that are all released."""
    columns = {name: curves.columns[name] for name in EPOCH_COLUMNS if name != "exposureid"}
    released_all = np.ones(len(columns["mag"]), bool)
    return lightcurve_statistics(Epochs(released=released_all, **columns), curves.offsets)


def _described(objects: pa.Table) -> Columns:
    """What does not come from epochs."""
    objectid, ra, dec = (objects[name].to_numpy() for name in ("objectid", "ra", "dec"))
    rcid, field, fid = unit_columns(objectid)
    xyz = unit_vectors(ra, dec)
    codes = pa.array(fid - 1, pa.int8())
    return {
        HEALPIX_COLUMN: healpix_pixels(ra, dec),
        "cntr": np.zeros(len(ra), np.int64),
        "oid": objectid,
        "ra": ra,
        "dec": dec,
        f"htm{HTM_DEPTH}": htm_index(xyz),
        "field": field,
        "ccdid": rcid // 4 + 1,
        "qid": rcid % 4 + 1,
        "fid": fid,
        "filtercode": pa.DictionaryArray.from_arrays(codes, pa.array([FILTER_CODES[i] for i in (1, 2, 3)])),
        **dict(zip("xyz", xyz.T, strict=True)),
        **{name: objects[name].combine_chunks() for name in REFERENCE_VALUES},
    }
