"""Epochs as matchfiles have them, as columns of the store; what they say of their exposures.

Arguments named ``rows`` are structured arrays with at least the columns of ``sourcedata``
(:data:`ztfmatch.schema.matchfile.SOURCEDATA`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.kernels.calibration import BAD_EXPOSURE, EDGE_CATFLAGS, EDGE_FLAG, MAG_PER_RELATIVE_FLUX
from ztfmatch.kernels.rows import Columns, Mask, position_faults, row_digests
from ztfmatch.kernels.sphere import Floats
from ztfmatch.schema.matchfile import JD_OF_MJD0

Records = npt.NDArray[np.void]
Counts = npt.NDArray[np.int64]

LATE_DAY: Final = 1.0 / 86400.0
"""How far an imported epoch may be from heliocentric mid-exposure; in real files it is 3 ms."""

_COPIED: Final = ("ra", "dec", "xpos", "ypos", "psfflux", "psffluxerr", "chi", "sharp")


def measured_columns(rows: Records, sourceid: npt.NDArray[np.int32]) -> Columns:
    """Columns of ``kernels.rows.MEASURED``.

    A matchfile does not tell sourceid and flags of the catalog: in their place are a number from
    :class:`Numbering`, and what catflags says of the flags.
    """
    columns: Columns = {name: np.ascontiguousarray(rows[name]) for name in _COPIED}
    columns["sourceid"] = sourceid
    columns["flags"] = flags_of_catflags(rows["catflags"])
    return columns


class Numbering:
    """Numbers the rows of each exposure from 0, in the order in which they come."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def of(self, expid: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
        """Numbers of the next rows.

        Parameters
        ----------
        expid : uint32 ndarray, shape (N,)
            Their exposures.
        """
        order = np.argsort(expid, kind="stable")
        ordered = expid[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(order) else order
        counts = np.diff(np.append(starts, len(order)))
        expids = ordered[starts].tolist()
        first = np.array([self._next.get(one, 0) for one in expids], np.int64)
        self._next.update(zip(expids, (first + counts).tolist(), strict=True))
        numbers = np.empty(len(order), np.int32)
        numbers[order] = np.arange(len(order)) - np.repeat(starts - first, counts)
        return numbers


def flags_of_catflags(catflags: npt.NDArray[np.uint16]) -> npt.NDArray[np.int16]:
    """Flags that give these catflags: without the bit of a bad exposure, -1 at the edge."""
    flags = (catflags & np.uint16(0xFFFF ^ BAD_EXPOSURE)).view(np.int16)
    flags[catflags == EDGE_CATFLAGS] = EDGE_FLAG
    return np.asarray(flags)


def epoch_columns(rows: Records) -> Columns:
    """``hmjd``, ``mag``, ``magerr`` and ``catflags``; every value can be turned back to the last bit."""
    columns: Columns = {name: np.ascontiguousarray(rows[name]) for name in ("mag", "magerr", "catflags")}
    columns["hmjd"] = hmjd_of_hjd(rows["hjd"])
    return columns


def hmjd_of_hjd(hjd: Floats) -> Floats:
    """Heliocentric MJD: exact, since both are multiples of the spacing of the larger number."""
    return np.asarray(hjd - JD_OF_MJD0)


def hjd_of_hmjd(hmjd: Floats) -> Floats:
    """Heliocentric JD; the inverse of :func:`hmjd_of_hjd`."""
    return np.asarray(hmjd + JD_OF_MJD0)


def mid_exposure(obsmjd: Floats, exptime_s: Floats | float) -> Floats:
    """MJD of mid-exposure, as matchfiles have it."""
    return np.asarray(obsmjd + 0.5 * exptime_s / 86400.0)


def start_of(mid_mjd: Floats, exptime_s: float) -> Floats:
    """MJD of an exposure's start from which :func:`mid_exposure` gives these times again, where there is one."""
    start = mid_mjd - 0.5 * exptime_s / 86400.0
    for neighbour in (np.nextafter(start, -np.inf), np.nextafter(start, np.inf)):
        wrong = mid_exposure(start, exptime_s) != mid_mjd
        start = np.where(wrong & (mid_exposure(neighbour, exptime_s) == mid_mjd), neighbour, start)
    return np.asarray(start)


class ExposureTally:
    """What the epochs of a matchfile say of its exposures, added up batch by batch."""

    def __init__(self) -> None:
        self._parts: list[dict[str, npt.NDArray[Any]]] = []

    def add(self, rows: Records, columns: Columns) -> None:
        """Take in some rows with their measured columns."""
        nan, outside = position_faults(columns["ra"], columns["dec"])
        digests = row_digests(columns)
        digests[nan | outside] = 0
        edge = rows["catflags"] == EDGE_CATFLAGS
        flagged = (rows["catflags"] & np.uint16(BAD_EXPOSURE)).astype(bool)
        self._parts.append(
            _reduced(
                {
                    "expid": rows["expid"].astype(np.int64),
                    "nrows": np.ones(len(rows), np.int64),
                    "nrejectednan": nan.astype(np.int64),
                    "nrejectedrange": outside.astype(np.int64),
                    "nbad": (flagged & ~edge).astype(np.int64),
                    "nedge": edge.astype(np.int64),
                    "digest": digests,
                    "firstmjd": rows["mjd"],
                    "lastmjd": rows["mjd"],
                    "firstprogram": rows["programid"].astype(np.int64),
                    "lastprogram": rows["programid"].astype(np.int64),
                }
            )
        )

    def result(self) -> dict[str, npt.NDArray[Any]]:
        """One value an exposure, ascending by ``expid``: counts, ``digest``, first and last ``mjd`` and ``program``."""
        if not self._parts:
            return {name: np.zeros(0, np.int64) for name in ("expid", *_SUMS, *_SMALLEST, *_LARGEST)}
        return _reduced({name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]})


_SUMS: Final = ("nrows", "nrejectednan", "nrejectedrange", "nbad", "nedge", "digest")
_SMALLEST: Final = ("firstmjd", "firstprogram")
_LARGEST: Final = ("lastmjd", "lastprogram")


def _reduced(values: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Sums, minima and maxima over equal ``expid``."""
    order = np.argsort(values["expid"], kind="stable")
    expid = values["expid"][order]
    starts = np.flatnonzero(np.diff(expid, prepend=-1))
    if not starts.size:
        return values
    reduced = {"expid": expid[starts]}
    for names, reduce in ((_SUMS, np.add), (_SMALLEST, np.minimum), (_LARGEST, np.maximum)):
        reduced |= {name: reduce.reduceat(values[name][order], starts) for name in names}
    return reduced


def usable(columns: Columns) -> Mask:
    """Rows whose position can be used."""
    nan, outside = position_faults(columns["ra"], columns["dec"])
    return np.asarray(~(nan | outside))


def sigma_magnitudes(flux: npt.NDArray[np.float32], fluxerr: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The catalog's sigma as matchfiles have it, in thousandths of a magnitude; NaN where the flux is not positive."""
    with np.errstate(all="ignore"):
        error = MAG_PER_RELATIVE_FLUX * fluxerr.astype(np.float64) / flux.astype(np.float64)
        error[~(flux > 0.0)] = np.nan
        return np.asarray(np.round(error, 3).astype(np.float32))
