"""Which images are good enough for a reference, and which of a unit's are selected, for all images at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Array, Ints, Mask
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.references.schema.settings import ByFilter, ReferenceSettings

Columns = Mapping[str, Array]
Bits = npt.NDArray[np.uint16]


class Criterion(NamedTuple):
    """One criterion that an image meets or fails by itself."""

    name: str
    columns: tuple[str, ...]
    """That it needs, beside field, fid and exposureid."""
    meets: Callable[[Columns, ReferenceSettings], Mask]
    """Whether each image does, shape (N,); what is not known is not met."""


def _between(column: str, setting: str) -> Callable[[Columns, ReferenceSettings], Mask]:
    """Within the range of its filter, both ends inclusive."""

    def meets(images: Columns, settings: ReferenceSettings) -> Mask:
        ranges = getattr(settings.select, setting)
        ends = (ByFilter(*(ranges.of(fid)[end] for fid in (1, 2, 3))) for end in (0, 1))
        low, high = (_by_filter(one, images, column) for one in ends)
        return np.asarray((images[column] >= low) & (images[column] <= high))

    return meets


def _at_most(column: str, setting: str) -> Callable[[Columns, ReferenceSettings], Mask]:
    return lambda images, settings: np.asarray(
        images[column] <= _by_filter(getattr(settings.select, setting), images, column)
    )


def _at_least(column: str, setting: str) -> Callable[[Columns, ReferenceSettings], Mask]:
    return lambda images, settings: np.asarray(
        images[column] >= _by_filter(getattr(settings.select, setting), images, column)
    )


def _by_filter(setting: ByFilter[float], images: Columns, column: str) -> Array:
    """Setting of each image's filter, in the column's own precision: 0.15 of a table of floats is 0.15."""
    kind = np.result_type(images[column].dtype, np.float32)
    return np.asarray(np.array([setting.g, setting.r, setting.i]).astype(kind)[images["fid"] - 1])


def _status(images: Columns, settings: ReferenceSettings) -> Mask:
    return np.asarray(images["status"] == settings.select.status)


def _infobits(images: Columns, settings: ReferenceSettings) -> Mask:
    """None of the bad bits is set; -1 stands for none known."""
    bad = sum(1 << bit for bit in set(settings.select.bad_infobits))
    return np.asarray((images["infobits"] & bad == 0) & (images["infobits"] >= 0))


def _night(images: Columns, settings: ReferenceSettings) -> Mask:
    first = settings.select.first_night
    return np.asarray(images["exposureid"] // 10**8 >= first.year * 10_000 + first.month * 100 + first.day)


def _flat(images: Columns, settings: ReferenceSettings) -> Mask:
    rms, delta = flat_limits(images["field"], images["fid"], settings)
    flat = images["flatrms"] <= rms.astype(images["flatrms"].dtype)
    return np.asarray(flat & (images["flatdelta"] <= delta.astype(images["flatdelta"].dtype)))


def flat_limits(field: Ints, fid: Ints, settings: ReferenceSettings) -> tuple[Floats, Floats]:
    """Largest RMS and Delta of images of some fields and filters, shape (N,)."""
    flatness = settings.flatness
    by_filter = [flatness.limits.of(k) for k in (1, 2, 3)]
    rms, delta = (np.array([getattr(one, name) for one in by_filter])[fid - 1] for name in ("rms", "delta"))
    for one in reversed(flatness.overrides):  # the first has the last word
        own = np.isin(field, one.fields) & (fid == "gri".index(one.filter) + 1)
        rms[own], delta[own] = one.rms, one.delta
    return rms, delta


CRITERIA: Final = (
    Criterion("fwhm", ("fwhm",), _between("fwhm", "fwhm")),
    Criterion("status", ("status",), _status),
    Criterion("infobits", ("infobits",), _infobits),
    Criterion("magzp", ("magzp",), _between("magzp", "magzp")),
    Criterion("clrcoeff", ("clrcoeff",), _between("clrcoeff", "clrcoeff")),
    Criterion("maglimit", ("maglimit",), _at_least("maglimit", "maglimit")),
    Criterion("median", ("median",), _at_most("median", "median")),
    Criterion("rms", ("rms",), _at_most("rms", "rms")),
    Criterion("night", (), _night),
    Criterion("flatness", ("flatdelta", "flatrms"), _flat),
)
"""In the order in which the first that fails is told."""


SELECTED, NMIN, NMAX = "selected", "nmin", "nmax"
OUTCOMES: Final = (SELECTED, *(criterion.name for criterion in CRITERIA), NMIN, NMAX)
"""What becomes of an image: taken; the first criterion that it fails; too few of its unit pass; enough are sharper."""


def failures(images: Columns, settings: ReferenceSettings) -> Bits:
    """Criteria that each image fails, as bits in their order, shape (N,)."""
    bits = np.zeros(len(images["fid"]), np.uint16)
    for number, criterion in enumerate(CRITERIA):
        if criterion.name not in settings.select.without:
            bits |= (~criterion.meets(images, settings)).astype(np.uint16) << np.uint16(number)
    return bits


_FIRST: Final = np.array([0, *((bits & -bits).bit_length() for bits in range(1, 1 << len(CRITERIA)))], np.int8)
"""Place in OUTCOMES of the lowest bit."""


class Choice(NamedTuple):
    """What becomes of N images of U units."""

    outcome: npt.NDArray[np.int8]
    """Place in OUTCOMES, shape (N,)."""
    order: Ints
    """Images that are selected, by unit, then place, shape (S,)."""
    offsets: Ints
    """First of each unit in ``order``, and one past the last, shape (U + 1,)."""
    passed: Ints
    """Images of each unit that meet every criterion, shape (U,)."""


def choose(unit: Array, fwhm: Floats, exposureid: Ints, bits: Bits, bounds: Sequence[int]) -> Choice:
    """Take the sharpest images of each unit that has enough.

    Parameters
    ----------
    unit : int ndarray, shape (N,)
        Number of each image's unit, 0 to U - 1.
    fwhm, exposureid : ndarray, shape (N,)
        Of equally sharp images that of the lower exposureid is better.
    bits : uint16 ndarray, shape (N,)
        Of :func:`failures`.
    bounds : (int, int, int)
        U, fewest and most images of a reference.
    """
    units, nmin, nmax = bounds
    outcome = _FIRST[bits]
    good = np.flatnonzero(bits == 0)
    good = good[np.lexsort((exposureid[good], fwhm[good], unit[good]))]
    passed = np.bincount(unit[good], minlength=units)
    starts = np.concatenate([[0], np.cumsum(passed)])
    place = np.arange(len(good)) - starts[unit[good]]
    few = passed[unit[good]] < nmin
    outcome[good[few]] = OUTCOMES.index(NMIN)
    outcome[good[~few & (place >= nmax)]] = OUTCOMES.index(NMAX)
    taken = good[~few & (place < nmax)]
    number = np.where(passed >= nmin, np.minimum(passed, nmax), 0)
    return Choice(outcome, taken, np.concatenate([[0], np.cumsum(number)]), passed)
