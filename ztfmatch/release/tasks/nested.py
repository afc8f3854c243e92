"""Nested lightcurves of the objects of a tile, for HATS catalogs."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.io.parquet import table_from_columns
from ztfmatch.release.io.hats import healpix_pixels
from ztfmatch.release.kernels.rounding import rounded
from ztfmatch.release.schema import HEALPIX_COLUMN, LIGHTCURVE, LIGHTCURVE_COLUMN, RELEASED_LIGHTCURVES
from ztfmatch.release.tasks.bulk import lightcurve_columns, list_array
from ztfmatch.release.tasks.released import Source, released


def nested_rows(source: Source, objects: pa.Table, magerr_bits: int) -> Iterator[pa.Table]:
    """Rows of RELEASED_LIGHTCURVES of the objects that have an epoch, by objectid, some at a time.

    Parameters
    ----------
    objects : pyarrow.Table
        ``objectid``, ``ra``, ``dec`` of the objects of the source.
    magerr_bits : int
        Significant bits that are kept of magerr.
    """
    ra, dec = objects["ra"].to_numpy(), objects["dec"].to_numpy()
    healpix = healpix_pixels(ra, dec)
    for part in released(source, [column.name for column in LIGHTCURVE]):
        curves, row = part.with_epochs()
        if len(row):
            place = {HEALPIX_COLUMN: healpix[row], "objra": ra[row], "objdec": dec[row]}
            nested = {LIGHTCURVE_COLUMN: _struct(curves, magerr_bits)}
            yield table_from_columns(RELEASED_LIGHTCURVES, {**lightcurve_columns(curves), **place, **nested})


def _struct(curves: Lightcurves, magerr_bits: int) -> pa.Array:
    columns = {**curves.columns, "magerr": rounded(curves.columns["magerr"], magerr_bits)}
    lists = [list_array(columns[column.name], curves.offsets, column.type) for column in LIGHTCURVE]
    kind = RELEASED_LIGHTCURVES[LIGHTCURVE_COLUMN].type
    return pa.StructArray.from_arrays(lists, fields=list(kind))
