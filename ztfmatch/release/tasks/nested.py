"""Nested lightcurves of the objects of a tile, as HATS catalogs have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.survey import unit_columns
from ztfmatch.release.io.hats import healpix_pixels
from ztfmatch.release.kernels.rounding import rounded
from ztfmatch.release.schema import HEALPIX_COLUMN, LIGHTCURVE, LIGHTCURVE_COLUMN, RELEASED_LIGHTCURVES
from ztfmatch.release.tasks.bulk import list_array
from ztfmatch.release.tasks.released import Released, Source, released


def nested_rows(source: Source, objects: pa.Table, magerr_bits: int) -> Iterator[pa.Table]:
    """Rows of RELEASED_LIGHTCURVES of the objects that have an epoch, by objectid, some at a time.

    Parameters
    ----------
    source : Source
    objects : pyarrow.Table
        ``objectid``, ``ra``, ``dec`` of the objects of the source.
    magerr_bits : int
        Significant bits that are kept of magerr.
    """
    ra, dec = objects["ra"].to_numpy(), objects["dec"].to_numpy()
    healpix = healpix_pixels(ra, dec)
    for part in released(source, [column.name for column in LIGHTCURVE]):
        seen = np.diff(part.lightcurves.offsets) > 0
        if seen.any():
            place = part.row[seen]
            yield _rows(
                part, seen, {HEALPIX_COLUMN: healpix[place], "objra": ra[place], "objdec": dec[place]}, magerr_bits
            )


def _rows(part: Released, seen: npt.NDArray[np.bool_], known: dict[str, Any], magerr_bits: int) -> pa.Table:
    curves = part.lightcurves
    objectid = curves.objectid[seen]
    rcid, field, fid = unit_columns(objectid)
    offsets = np.concatenate([curves.offsets[:1], curves.offsets[1:][seen]])
    known |= {"objectid": objectid, "filterid": fid, "fieldid": field, "rcid": rcid, "nepochs": np.diff(offsets)}
    known[LIGHTCURVE_COLUMN] = _struct(curves, offsets, magerr_bits)
    arrays = [pa.array(known[column.name], column.type) for column in RELEASED_LIGHTCURVES.columns]
    return pa.Table.from_arrays(arrays, schema=RELEASED_LIGHTCURVES.schema)


def _struct(curves: Lightcurves, offsets: npt.NDArray[np.int64], magerr_bits: int) -> pa.Array:
    columns = {**curves.columns, "magerr": rounded(curves.columns["magerr"], magerr_bits)}
    lists = [list_array(columns[column.name], offsets, column.type) for column in LIGHTCURVE]
    kind = RELEASED_LIGHTCURVES[LIGHTCURVE_COLUMN].type
    return pa.StructArray.from_arrays(lists, fields=list(kind))
