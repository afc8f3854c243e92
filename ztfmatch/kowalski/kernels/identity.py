"""Kowalski's ids of objects and exposures."""

from __future__ import annotations

from typing import Final

import numpy as np

from ztfmatch.core.arrays import Array, Ids, Singles
from ztfmatch.core.survey import MAX_SOURCEID, unit_columns

NO_EXPID: Final = -1

_SOURCES: Final = 10**13
_MATCHIDS: Final = 10**6
_SOURCES_BEYOND: Final = 10**17
_EXPOSURES: Final = 10**16
_EXPIDS: Final = 10**9
_EXPOSURES_BEYOND: Final = 10**18
_FRACDAYS: Final = 100
"""exposureid = fracday * 100 + rcid."""


def source_ids(objectid: Ids) -> Ids:
    """``_id`` of objects.

    Of generation 0 with a sourceid below 10^6 it is Kowalski's own, 10^13 + field*10^9 + rc*10^7 + filter*10^6 +
    sourceid, which is below 2 * 10^13. Of all others it is 10^17 + objectid, from 10^17 to 1.1 * 10^17.

    Parameters
    ----------
    objectid : int64 ndarray, shape (N,)
    """
    rcid, field, fid = unit_columns(objectid)
    sourceid = objectid % (10 * (MAX_SOURCEID + 1))  # the digit of the generation, too
    known = _SOURCES + field * 10**9 + rcid * 10**7 + fid * _MATCHIDS + sourceid
    return np.asarray(np.where(sourceid < _MATCHIDS, known, _SOURCES_BEYOND + objectid))


def exposure_ids(exposureid: Ids, field: Ids, rcid: Ids, fid: Ids, expid: Ids) -> Ids:
    """``_id`` of exposures, which is the ``uexpid`` of their epochs.

    With the survey's expid it is Kowalski's own, 10^16 + field*10^12 + rc*10^10 + filter*10^9 + expid, which is below
    2 * 10^16. Where the expid is not known, or above the 9 digits that are there for it, it is 10^18 + exposureid.

    Parameters
    ----------
    exposureid, field, rcid, fid : int64 ndarray, shape (N,)
    expid : int64 ndarray, shape (N,)
        NO_EXPID where it is not known.
    """
    known = _EXPOSURES + field * 10**12 + rcid * 10**10 + fid * _EXPIDS + expid
    return np.asarray(np.where((expid >= 0) & (expid < _EXPIDS), known, _EXPOSURES_BEYOND + exposureid))


def expids(exposureid: Ids, expid: Ids) -> Ids:
    """``expid`` of exposures: the survey's or, where it is not known, YYYYMMDDffffff, which has 14 digits to its 9."""
    return np.asarray(np.where(expid == NO_EXPID, exposureid // _FRACDAYS, expid))


def interquartile_range(percentiles_25: Array, percentiles_75: Array) -> Singles:
    """``iqr`` of objects, rounded to 3 decimals in float32 as Kowalski does first, shape (N,)."""
    return np.asarray(np.round(percentiles_75 - percentiles_25, 3), np.float32)
