"""From measured values to lightcurve values: magnitudes, errors, times, flags, quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import erfa
import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Singles
from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.elementary import exp, log10_of
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import PALOMAR_GEODETIC

MAG_PER_RELATIVE_FLUX: Final = 1.0857
"""Magnitude error per relative flux error: 2.5 / ln 10, to the four decimals in which the survey states it. The rest
changes an error by 3e-5 of itself."""

EDGE_FLAG: Final = -1
EDGE_CATFLAGS: Final = 65535
BAD_EXPOSURE: Final = 32768
"""Bit 15 of catflags."""

DETECTION_BITS: Final = 1 << 1 | 1 << 11
"""Mask bits that say no more than that there is a source; not part of catflags."""

HMJD_QUANTUM_DAY: Final = 2.0**-24
"""Times are rounded to this, 5.1 ms: half of it is well within the 0.01 s that they are good to."""

ERROR_MODEL_BREAK_MAG: Final = 20.5
_LN_OF_0_4_MAG: Final = 0.4 * math.log(10.0)
"""10^(0.4 m) is exp of so many m: an exponential takes a third of the time of a power."""

_MJD0: Final = 2400000.5
_LIGHT_DAY_PER_AU: Final = 499.004783836156412 / 86400.0
_LIGHT_DAY_PER_METRE: Final = 1.0 / 299792458.0 / 86400.0


def magnitudes(flux: Singles, magzp: Floats) -> Singles:
    """Calibrated magnitude, MAGZP - 2.5 log10(flux), without colour term.

    Parameters
    ----------
    flux : float32 ndarray, shape (N,)
        DN.
    magzp : float64 ndarray, shape (N,)
        Zero point of each row, mag.

    Returns
    -------
    float32 ndarray, shape (N,)
        NaN where the flux is not positive or not finite.
    """
    return np.asarray(unrounded_magnitudes(flux, magzp).astype(np.float32))


def unrounded_magnitudes(flux: Singles, magzp: Floats) -> Floats:
    """As :func:`magnitudes`, in float64: what corrections are taken off before it is rounded."""
    with np.errstate(all="ignore"):  # even a cast complains of a signalling NaN
        wide = flux.astype(np.float64)
        mag = magzp - 2.5 * log10_of(wide)
        mag[~(wide > 0.0) | ~np.isfinite(wide)] = np.nan
        return np.asarray(mag)


def sigma_errors(flux: Singles, fluxerr: Singles) -> Singles:
    """Magnitude error from the catalog's own flux error, 1.0857 * fluxerr / flux; NaN where flux is not positive."""
    with np.errstate(all="ignore"):
        wide = flux.astype(np.float64)
        error = MAG_PER_RELATIVE_FLUX * fluxerr.astype(np.float64) / wide
        error[~(wide > 0.0) | ~np.isfinite(wide)] = np.nan
        return np.asarray(error.astype(np.float32))


def model_errors(mag: Singles, coefficients: Floats) -> Singles:
    """Magnitude error by the survey's model, A + B m + C 10^(0.4 m) + D 10^(0.8 m).

    Beyond magnitude 20.5, where the polynomial turns over, the survey goes on along a line whose coefficients it
    does not publish. Here that line meets the polynomial at 20.5 and has its mean slope from 19.5 to 20.5, which is
    within 1 % of the slope measured in matchfiles.

    Parameters
    ----------
    mag : float32 ndarray, shape (N,)
        Calibrated magnitudes; NaN gives NaN.
    coefficients : float64 ndarray, shape (4,) or (N, 4)
        A, B, C, D.
    """
    table = np.ascontiguousarray(np.atleast_2d(coefficients))
    row = np.zeros(len(mag), np.int64) if coefficients.ndim == 1 else np.arange(len(mag))
    return model_errors_by_row(mag, row, table)


def model_errors_by_row(mag: Singles, row: npt.NDArray[np.int64], coefficients: Floats) -> Singles:
    """The same of magnitudes that share few models.

    Parameters
    ----------
    mag : float32 ndarray, shape (N,)
    row : int64 ndarray, shape (N,)
        Row of the coefficients of each.
    coefficients : float64 ndarray, shape (E, 4)
    """
    at_break = _error_polynomial(ERROR_MODEL_BREAK_MAG, coefficients)
    slope = at_break - _error_polynomial(ERROR_MODEL_BREAK_MAG - 1.0, coefficients)
    return np.asarray(_model_errors(mag, row, coefficients, at_break, slope))


def _error_polynomial(mag: float, coefficients: Floats) -> Floats:
    a, b, c, d = np.moveaxis(coefficients, -1, 0)
    bright = exp(_LN_OF_0_4_MAG * mag)
    return np.asarray(a + b * mag + c * bright + d * bright * bright)


@njit(cache=True, nogil=True)
def _model_errors(
    mag: Singles, row: npt.NDArray[np.int64], coefficients: Floats, at_break: Floats, slope: Floats
) -> Singles:
    out = np.empty(mag.shape[0], np.float32)
    for i in range(mag.shape[0]):
        m, r = np.float64(mag[i]), row[i]
        if m > ERROR_MODEL_BREAK_MAG:
            out[i] = at_break[r] + slope[r] * (m - ERROR_MODEL_BREAK_MAG)
        else:
            bright = exp(_LN_OF_0_4_MAG * m)
            out[i] = (
                coefficients[r, 0]
                + coefficients[r, 1] * m
                + bright * (coefficients[r, 2] + coefficients[r, 3] * bright)
            )
    return out


def catalog_flags(flags: npt.NDArray[np.int16], bad_exposure: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    """Quality flags of a lightcurve from the catalog's mask bits.

    Parameters
    ----------
    flags : int16 ndarray, shape (N,)
        As catalogued; -1 for a source at the edge.
    bad_exposure : bool ndarray, shape (N,)
        Rows of exposures of bad quality.

    Returns
    -------
    uint16 ndarray, shape (N,)
        Without bits 1 and 11; bit 15 set on bad exposures; 65535 at the edge.
    """
    catflags = flags.view(np.uint16) & np.uint16(0xFFFF ^ DETECTION_BITS)
    catflags |= bad_exposure.astype(np.uint16) << np.uint16(15)
    catflags[flags == EDGE_FLAG] = EDGE_CATFLAGS
    return catflags


def observer_vectors(mid_mjd: Floats) -> Floats:
    """Position of the telescope relative to the Sun, in light days along the ICRS axes, shape (N, 3).

    Its product with a star's unit vector is the heliocentric correction. Earth from the ERFA ephemeris (epv00), the
    telescope's offset from the geocentre by Earth's rotation with UT1 = UTC (an error below 2 microseconds).

    Parameters
    ----------
    mid_mjd : float64 ndarray, shape (N,)
        MJD (UTC).
    """
    terrestrial = erfa.taitt(*erfa.utctai(_MJD0, mid_mjd))
    heliocentric, _ = erfa.epv00(*terrestrial)
    longitude, latitude, height = PALOMAR_GEODETIC
    site = erfa.gd2gc(1, np.radians(longitude), np.radians(latitude), height)
    to_terrestrial = erfa.c2t00b(*terrestrial, _MJD0, mid_mjd, 0.0, 0.0)
    parts = to_terrestrial * site[:, None]
    celestial = (parts[..., 0, :] + parts[..., 1, :]) + parts[..., 2, :]
    return np.asarray(heliocentric["p"] * _LIGHT_DAY_PER_AU + celestial * _LIGHT_DAY_PER_METRE)


def light_days(xyz: Floats, observer: Floats) -> Floats:
    """Heliocentric correction in days of each position, shape (N,), for one observer or for that of each.

    The sum is made in this order, which a matrix product leaves to the processor.

    Parameters
    ----------
    xyz : float64 ndarray, shape (N, 3)
        Unit vectors.
    observer : float64 ndarray, shape (3,) or (N, 3)
        From :func:`observer_vectors`.
    """
    parts = xyz * observer
    return np.asarray((parts[:, 0] + parts[:, 1]) + parts[:, 2])


@njit(cache=True, nogil=True)
def times_off(
    hmjd: Floats, xyz: Floats, row: npt.NDArray[np.int64], mid_mjd: Floats, observer: Floats, off_day: Floats
) -> npt.NDArray[np.bool_]:
    """Whether each time is farther than it may be from the heliocentric one that its place and exposure give.

    Parameters
    ----------
    hmjd : float64 ndarray, shape (N,)
    xyz : float64 ndarray, shape (N, 3)
        Unit vectors.
    row : int64 ndarray, shape (N,)
        Exposure of each; -1 is the last one.
    mid_mjd, off_day : float64 ndarray, shape (E,)
        Middle of each exposure, and how far off its times may be.
    observer : float64 ndarray, shape (E, 3)
        From :func:`observer_vectors`.
    """
    out = np.empty(hmjd.shape[0], np.bool_)
    for i in range(hmjd.shape[0]):
        e = row[i]
        light = (xyz[i, 0] * observer[e, 0] + xyz[i, 1] * observer[e, 1]) + xyz[i, 2] * observer[e, 2]
        out[i] = not abs(mid_mjd[e] + light - hmjd[i]) <= off_day[e]
    return out


def heliocentric_times(mid_mjd: float, observer: Floats, xyz: Floats) -> Floats:
    """Heliocentric MJD of mid-exposure for each detection of one exposure, rounded to HMJD_QUANTUM_DAY.

    Parameters
    ----------
    mid_mjd : float
        MJD (UTC) of mid-exposure.
    observer : float64 ndarray, shape (3,)
        From :func:`observer_vectors`.
    xyz : float64 ndarray, shape (N, 3)
        Unit vectors of the detections.
    """
    times = mid_mjd + light_days(xyz, observer)
    return np.asarray(np.round(times / HMJD_QUANTUM_DAY) * HMJD_QUANTUM_DAY)


VERDICT_GOOD: Final = 0
VERDICT_BAD: Final = 1
VERDICT_OPEN: Final = 2


@dataclass(frozen=True)
class QualityRule:
    """When an exposure of one filter is bad (Explanatory Supplement 13.4).

    Bad if any of: MAGZP > upper - slope * airmass; MAGZP < threshold[rcid] - slope * airmass;
    MAGZPRMS > max_magzprms; NMATCHES < min_nmatches.
    """

    upper: float
    slope: float
    max_magzprms: float
    min_nmatches: int
    thresholds: tuple[float, ...]

    def verdicts(self, rcid: npt.NDArray[np.int8], got: ExposureQuality) -> npt.NDArray[np.int8]:
        """VERDICT_BAD, VERDICT_GOOD, or VERDICT_OPEN where a missing input leaves it open, of each exposure.

        One violated condition decides; to be good all must be known.

        Parameters
        ----------
        rcid : int ndarray, shape (N,)
        got : ExposureQuality
        """
        extinction = self.slope * got.airmass
        bad = (got.magzp > self.upper - extinction) | (got.magzp < np.array(self.thresholds)[rcid] - extinction)
        bad |= (got.magzprms > self.max_magzprms) | (got.nmatches < self.min_nmatches)
        unknown = np.isnan(got.airmass) | np.isnan(got.magzprms) | np.isnan(got.nmatches)
        return np.where(bad, VERDICT_BAD, np.where(unknown, VERDICT_OPEN, VERDICT_GOOD)).astype(np.int8)


@dataclass(frozen=True)
class ExposureQuality:
    """What the quality rule looks at, shape (N,) each; NaN where unknown. ``magzp`` in mag for a 30 s exposure."""

    magzp: Floats
    magzprms: Floats
    nmatches: Floats
    airmass: Floats
