"""Epochs of matchfiles as columns of the store, and their facts about exposures.

Arguments named ``rows`` are structured arrays of :data:`ztfmatch.matchfile.schema.SOURCEDATA`. A file is read twice,
once to check it and once to ingest it, and each time every row is looked at once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ids, Records, Singles
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.calibration import (
    BAD_EXPOSURE,
    EDGE_CATFLAGS,
    EDGE_FLAG,
    MAG_PER_RELATIVE_FLUX,
    observer_vectors,
)
from ztfmatch.core.kernels.lookup import build_map, find_rows
from ztfmatch.core.kernels.rows import MEASURED, Columns, Mask, position_faults, row_digest
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.survey import EXPID_DATE, MATCHFILE_LATE_DAY, mjd_of_fracday
from ztfmatch.matchfile.schema import JD_OF_MJD0, SOURCEDATA

Places = npt.NDArray[np.int32]

FIRST_MJD: Final = mjd_of_fracday(EXPID_DATE * 10**6)
"""Beginning of 2017, from which the survey counts its expids."""
LAST_MJD: Final = FIRST_MJD + 2**32 / 1e5
"""The last that an expid can tell."""

_ALL_BUT_BAD_EXPOSURE: Final = np.uint16(0xFFFF ^ BAD_EXPOSURE)
_WORDS: Final = np.dtype([(name, f"u{SOURCEDATA[name].itemsize}") for name in SOURCEDATA.names or ()])
"""A row as unsigned integers of the same bits."""


def usable(rows: Records) -> Mask:
    """Rows whose position can be used."""
    nan, outside = position_faults(rows["ra"], rows["dec"])
    return np.asarray(~(nan | outside))


@njit(cache=True, nogil=True)
def _is_usable(ra, dec):  # type: ignore[no-untyped-def]
    """The same of one row."""
    return 0.0 <= ra <= 360.0 and abs(dec) <= 90.0


@njit(cache=True, nogil=True)
def _flags_of(catflags):  # type: ignore[no-untyped-def]
    """Flags that give these catflags: without the bit of a bad exposure, -1 at the edge."""
    return EDGE_FLAG if catflags == EDGE_CATFLAGS else np.int64(np.int16(catflags & _ALL_BUT_BAD_EXPOSURE))


TAKEN: Final = {
    "exposure": np.int32,
    "exposureid": np.int64,
    "hmjd": np.float64,
    "mag": np.float32,
    "magerr": np.float32,
    "catflags": np.uint16,
    "corrflags": np.uint8,
    **{name: kind for name, (_, kind) in MEASURED.items()},
    "legacyid": np.int64,
    "row": np.int64,
    "magerrmodel": np.float32,
    "mjd": np.float64,
}
"""Columns that :func:`ingest_rows` fills, with their types."""


class Intake(NamedTuple):
    """Exposures to ingest, and their ids, shape (E,) each."""

    exposureid: Ids
    mid_mjd: Floats
    seen: Ids
    """Rows that came so far; counted on."""


def ingest_rows(rows: Records, exposure: Places, intake: Intake, ids: tuple[int, int], out: Columns) -> int:
    """Write the usable rows of some exposures as columns of the store; return how many they are.

    A matchfile does not tell sourceid and flags of the catalog: in their place are the number of the row among those
    of its exposure, and what catflags says of the flags. Every other value can be turned back to the last bit.

    Parameters
    ----------
    rows : structured ndarray, shape (N,)
    exposure : int32 ndarray, shape (N,)
        Row of the exposure in ``intake``; negative for others, which are left out.
    ids : tuple of int
        Number of the first row in the file; what to add to a matchid for a legacyid.
    out : dict of ndarray
        Columns of TAKEN, where to write.

    Raises
    ------
    ValueError
        If they are more rows than there is room.
    """
    columns = tuple(out[name] for name in TAKEN)
    taken: int = _ingest(rows, exposure, *intake, *ids, *columns)
    if taken < 0:
        raise ValueError(f"more rows than the {len(columns[0])} expected")
    return taken


@njit(cache=True, nogil=True)
def _ingest(  # type: ignore[no-untyped-def]
    rows, place, exposureids, mid_mjd, seen, first_row, base,
    exposure, exposureid, hmjd, mag, magerr, catflags, corrflags,
    sourceid, ra, dec, xpos, ypos, psfflux, psffluxerr, chi, sharp, flags, legacyid, number, magerrmodel, mjd,
):  # fmt: skip
    k = 0
    for i in range(rows.shape[0]):
        e = place[i]
        if e < 0:
            continue
        row = rows[i]
        seen[e] += 1
        if not _is_usable(row.ra, row.dec):
            continue
        if k == exposure.shape[0]:
            return -1
        exposure[k] = e
        exposureid[k] = exposureids[e]
        sourceid[k] = seen[e] - 1
        flags[k] = _flags_of(row.catflags)
        hmjd[k] = row.hjd - JD_OF_MJD0
        mag[k], magerr[k], catflags[k], corrflags[k] = row.mag, row.magerr, row.catflags, 0
        ra[k], dec[k], xpos[k], ypos[k] = row.ra, row.dec, row.xpos, row.ypos
        psfflux[k], psffluxerr[k], chi[k], sharp[k] = row.psfflux, row.psffluxerr, row.chi, row.sharp
        legacyid[k] = base + row.matchid
        number[k] = first_row + i
        magerrmodel[k] = row.magerrmodel
        mjd[k] = np.nan if row.mjd == mid_mjd[e] else row.mjd
        k += 1
    return k


def hjd_of_hmjd(hmjd: Floats) -> Floats:
    """Heliocentric JD. Both ways are exact: the times are multiples of the spacing of the larger number."""
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


TALLY: Final = np.dtype(
    [
        *((name, np.int64) for name in ("expid", "nrows", "nrejectednan", "nrejectedrange", "nbad", "nedge")),
        ("digest", np.uint64),
        ("firstmjd", np.float64),
        ("lastmjd", np.float64),
        ("firstprogram", np.int64),
        ("lastprogram", np.int64),
    ]
)
"""What the rows of an exposure say: counts, digest of the usable ones, smallest and largest mjd and programid.

Without rows mjd and programid begin above where they end.
"""


class Fault(NamedTuple):
    """A row whose time is not that of heliocentric mid-exposure."""

    row: int
    """Its number in the batch."""
    late_day: float
    """How far it is off; NaN where mjd or hjd are not finite."""


class ExposureTally:
    """What the epochs of a matchfile say of its exposures, added up batch by batch.

    Parameters
    ----------
    expid : int64 ndarray, shape (E,)
        Exposures that the file lists.
    mid_mjd : float64 ndarray, shape (E,)
        MJD of their middles, between FIRST_MJD and LAST_MJD. The rows' own count where the file does not list the
        exposure.
    centre : float64 ndarray, shape (3,)
        Unit vector.

    Attributes
    ----------
    rows : structured ndarray of TALLY
        The listed exposures, then the others.
    reach2 : float
        Squared chord from the centre to the farthest usable row.
    """

    def __init__(self, expid: Ids, mid_mjd: Floats, centre: Floats) -> None:
        self.rows = np.zeros(0, TALLY)
        self.reach2 = 0.0
        self._centre = centre
        self._mid, self._observer = np.zeros(0), np.zeros((0, 3))
        self._append(expid, mid_mjd, mid_mjd)

    def _append(self, expid: Ids, mid_mjd: Floats, near_mjd: Floats) -> None:
        more = np.zeros(len(expid), TALLY)
        more["expid"] = expid
        for name, value in (("firstmjd", np.inf), ("lastmjd", -np.inf), ("firstprogram", 2**16), ("lastprogram", -1)):
            more[name] = value
        self.rows = np.concatenate([self.rows, more])
        self._mid = np.concatenate([self._mid, mid_mjd])
        self._observer = np.concatenate([self._observer, observer_vectors(near_mjd)])
        self._map = build_map(self.rows["expid"])

    def _places(self, rows: Records) -> Places:
        """Rows of the exposures in the tally, to which new ones are appended."""
        expid = rows["expid"].astype(np.int64)
        place: Places = find_rows(self._map, expid)
        if (place < 0).any():
            self._take_up(rows[place < 0])
            place = find_rows(self._map, expid)
        return place

    def _take_up(self, rows: Records) -> None:
        """Append the exposures of rows, which the file does not list."""
        expid, first = np.unique(rows["expid"].astype(np.int64), return_index=True)
        mjd = rows["mjd"][first]
        near = np.where((mjd >= FIRST_MJD) & (mjd <= LAST_MJD), mjd, FIRST_MJD)
        self._append(expid, np.full(len(expid), np.nan), near)

    def add(self, rows: Records) -> Fault | None:
        """Count some rows; return the first whose time is not that of its exposure, if any."""
        xyz = unit_vectors(np.ascontiguousarray(rows["ra"]), np.ascontiguousarray(rows["dec"]))
        place, times = self._places(rows), (self._mid, self._observer)
        reach2, row, late = _tally(rows, rows.view(_WORDS), xyz, place, self.rows, *times, self._centre)
        self.reach2 = max(self.reach2, reach2)
        return None if row < 0 else Fault(row, late)


@njit(cache=True, nogil=True)
def _tally(rows, words, xyz, place, tally, mid_mjd, observer, centre):  # type: ignore[no-untyped-def]
    reach2, fault, fault_late = 0.0, -1, 0.0
    for i in range(rows.shape[0]):
        e = place[i]
        row, word, sums = rows[i], words[i], tally[e]
        number = sums.nrows
        sums.nrows += 1
        if row.mjd < sums.firstmjd:
            sums.firstmjd = row.mjd
        if row.mjd > sums.lastmjd:
            sums.lastmjd = row.mjd
        sums.firstprogram = min(sums.firstprogram, np.int64(row.programid))
        sums.lastprogram = max(sums.lastprogram, np.int64(row.programid))
        if row.catflags == EDGE_CATFLAGS:
            sums.nedge += 1
        elif row.catflags & BAD_EXPOSURE:
            sums.nbad += 1
        if not (np.isfinite(row.ra) and np.isfinite(row.dec)):
            sums.nrejectednan += 1
            continue
        if not _is_usable(row.ra, row.dec):
            sums.nrejectedrange += 1
            continue
        flags = np.uint16(_flags_of(row.catflags))
        sums.digest += row_digest(
            np.uint32(number), word.ra, word.dec, word.xpos, word.ypos, word.psfflux, word.psffluxerr, word.chi,
            word.sharp, flags,
        )  # fmt: skip
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        reach2 = max(reach2, (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        mid = row.mjd if np.isnan(mid_mjd[e]) else mid_mjd[e]
        light = x * observer[e, 0] + y * observer[e, 1] + z * observer[e, 2]
        late = abs(mid + light - (row.hjd - JD_OF_MJD0))
        if not late <= MATCHFILE_LATE_DAY and fault < 0:
            fault, fault_late = i, late
    return reach2, fault, fault_late


def sigma_magnitudes(flux: Singles, fluxerr: Singles) -> Singles:
    """The catalog's sigma as matchfiles have it, in thousandths of a magnitude; NaN where the flux is not positive."""
    with np.errstate(all="ignore"):
        error = MAG_PER_RELATIVE_FLUX * fluxerr.astype(np.float64) / flux.astype(np.float64)
        error[~(flux > 0.0)] = np.nan
        return np.asarray(np.round(error, 3).astype(np.float32))
