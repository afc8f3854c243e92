"""Rows of catalogs: decode, check, digest, gather."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernelcache import intrinsic, njit
from ztfmatch.core.kernels.reach import inside
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.schema import DETECTIONS, sky
from ztfmatch.core.schema.types import numpy_type

Columns = dict[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int32]

MEASURED: Final[dict[str, tuple[str, type[np.generic]]]] = {
    column.name: (column.source.removeprefix("psfcat "), np.dtype(numpy_type(column.type)).type)
    for column in (DETECTIONS["sourceid"], *sky.MEASURED)
}
"""Column of the store: (column of the catalog, native type). What a detection keeps to the last bit.

The compiled loops below name these columns one by one, and get them in this order: a record with fields by name costs
them their speed. Whoever declares another column adds it to each of them (tests/core/kernels/test_rows.py checks this).
"""


ROW: Final = np.dtype([(name, dtype) for name, (_, dtype) in MEASURED.items()])
"""A measured row in native byte order, packed."""

Rows = npt.NDArray[np.void]
"""Structured array of ROW."""


def gather(rows: Rows, order: npt.NDArray[np.int64]) -> Columns:
    """Columns of some rows, in an order; each row is fetched from memory once."""
    columns: Columns = {name: np.empty(len(order), dtype) for name, (_, dtype) in MEASURED.items()}
    _gather(rows.view(_INTEGER_ROW), order, *(values.view(f"u{values.itemsize}") for values in columns.values()))
    return columns


_INTEGER_ROW: Final = np.dtype([(name, f"u{np.dtype(dtype).itemsize}") for name, (_, dtype) in MEASURED.items()])


def _as_integers(records: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """View records as native integers of the same bytes, under the names of MEASURED."""
    fields: dict[str, Any] = dict(records.dtype.fields or {})
    kinds = [fields[source] for source, _ in MEASURED.values()]
    layout = {
        "names": list(MEASURED),
        "formats": [f"u{dtype.itemsize}" for dtype, *_ in kinds],
        "offsets": [offset for _, offset, *_ in kinds],
        "itemsize": records.dtype.itemsize,
    }
    return records.view(np.dtype(layout))  # type: ignore[call-overload]


@intrinsic
def _bswap(_context, word):  # type: ignore[no-untyped-def]
    """Reverse the bytes of an unsigned integer: one machine instruction."""
    return word(word), lambda _, builder, __, arguments: builder.bswap(arguments[0])


# A swap turns the bytes of a word around and leaves their meaning alone: all columns are integers in the loops below,
# since a float that is not a number need not come out of a register as it went in.


@intrinsic
def _as_double(_context, word):  # type: ignore[no-untyped-def]
    """Read the bits of a word as a float64."""
    from numba import types

    def cast(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.float64(word), cast


class Summary(NamedTuple):
    """What the ledger keeps of a catalog's rows; made by :func:`summarise`."""

    ra: Floats
    """Of the rows that can be used, degrees, shape (K,)."""
    dec: Floats
    digest: int
    """Of these rows, as :func:`digest` gives it."""
    not_finite: int
    """Rows that cannot, as :func:`position_faults` has it."""
    outside: int
    sourceids: tuple[int, int]
    """Smallest and largest of all rows; 0 and 0 of none."""


def summarise(records: npt.NDArray[np.void]) -> Summary:
    """Digest a catalog in one pass, without a copy of more than its positions.

    Parameters
    ----------
    records : structured ndarray, shape (N,)
        Big-endian, with at least the columns of MEASURED.
    """
    ra, dec = np.empty(len(records)), np.empty(len(records))
    kept, total, not_finite, outside, low, high = _summarise(_as_integers(records), ra, dec)
    return Summary(ra[:kept], dec[:kept], int(total), not_finite, outside, (low, high))


@njit(cache=True, nogil=True)
def _summarise(words, ra, dec):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    kept = not_finite = outside = 0
    low = high = np.int32(_bswap(words[0].sourceid)) if words.shape[0] else np.int32(0)
    for i in range(words.shape[0]):
        row = words[i]
        sourceid, flags = _bswap(row.sourceid), _bswap(row.flags)
        ra_bits, dec_bits, xpos, ypos = _bswap(row.ra), _bswap(row.dec), _bswap(row.xpos), _bswap(row.ypos)
        psfflux, psffluxerr = _bswap(row.psfflux), _bswap(row.psffluxerr)
        chi, sharp = _bswap(row.chi), _bswap(row.sharp)
        low, high = min(low, np.int32(sourceid)), max(high, np.int32(sourceid))
        ra[kept], dec[kept] = _as_double(ra_bits), _as_double(dec_bits)
        if not (math.isfinite(ra[kept]) and math.isfinite(dec[kept])):
            not_finite += 1
        elif not (0.0 <= ra[kept] <= 360.0 and abs(dec[kept]) <= 90.0):
            outside += 1
        else:
            total += row_digest(sourceid, ra_bits, dec_bits, xpos, ypos, psfflux, psffluxerr, chi, sharp, flags)
            kept += 1
    return kept, total, not_finite, outside, low, high


class Taken(NamedTuple):
    """What was taken of a catalog; made by :func:`take_near`."""

    rows: int
    digest: int
    """Of all rows that can be used, near or not, as :func:`digest` gives it."""
    ra: Floats
    """Of the rows taken, degrees, shape (rows,)."""
    dec: Floats
    xyz: Floats
    """The same as unit vectors, shape (rows, 3)."""


def take_near(records: npt.NDArray[np.void], planes: Floats, rows: Rows) -> Taken:
    """Decode the rows of a catalog that can be used and lie on the inner side of planes.

    Parameters
    ----------
    records : structured ndarray, shape (N,)
        Big-endian, with at least the columns of MEASURED.
    planes : float64 ndarray, shape (K, 4)
        From :func:`ztfmatch.core.kernels.reach.planes_around`; without any all rows are near.
    rows : structured ndarray of ROW, shape (N,) or longer
        Where they go, in order; the places after them are written to, too.
    """
    n = len(records)
    ra, dec, usable = np.empty(n), np.empty(n), np.empty(n, bool)
    kept, total, xyz = _take_near(_as_integers(records), planes, rows.view(_INTEGER_ROW), ra, dec, usable)
    return Taken(kept, int(total), ra[:kept], dec[:kept], xyz[:kept])


@njit(cache=True, nogil=True)
def _take_near(words, planes, rows, ra, dec, usable):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for i in range(words.shape[0]):
        row, out = words[i], rows[i]
        sourceid, flags = _bswap(row.sourceid), _bswap(row.flags)
        ra_bits, dec_bits, xpos, ypos = _bswap(row.ra), _bswap(row.dec), _bswap(row.xpos), _bswap(row.ypos)
        psfflux, psffluxerr = _bswap(row.psfflux), _bswap(row.psffluxerr)
        chi, sharp = _bswap(row.chi), _bswap(row.sharp)
        ra[i], dec[i] = _as_double(ra_bits), _as_double(dec_bits)
        # As position_faults has it; a comparison with what is not a number is false.
        usable[i] = (ra[i] >= 0.0) & (ra[i] <= 360.0) & (abs(dec[i]) <= 90.0)
        if usable[i]:
            total += row_digest(sourceid, ra_bits, dec_bits, xpos, ypos, psfflux, psffluxerr, chi, sharp, flags)
        out.sourceid, out.ra, out.dec, out.xpos, out.ypos = sourceid, ra_bits, dec_bits, xpos, ypos
        out.psfflux, out.psffluxerr, out.chi, out.sharp, out.flags = psfflux, psffluxerr, chi, sharp, flags
    xyz = unit_vectors(ra, dec)
    near = inside(planes, xyz)
    kept = 0
    for i in range(words.shape[0]):
        if usable[i] and near[i]:
            if kept < i:
                rows[kept] = rows[i]
                ra[kept], dec[kept] = ra[i], dec[i]
                xyz[kept, 0], xyz[kept, 1], xyz[kept, 2] = xyz[i, 0], xyz[i, 1], xyz[i, 2]
            kept += 1
    return kept, total, xyz


@njit(cache=True, nogil=True)
def _gather(rows, order, sourceid, ra, dec, xpos, ypos, psfflux, psffluxerr, chi, sharp, flags):  # type: ignore[no-untyped-def]
    for i in range(order.shape[0]):
        row = rows[order[i]]
        sourceid[i] = row.sourceid
        ra[i] = row.ra
        dec[i] = row.dec
        xpos[i] = row.xpos
        ypos[i] = row.ypos
        psfflux[i] = row.psfflux
        psffluxerr[i] = row.psffluxerr
        chi[i] = row.chi
        sharp[i] = row.sharp
        flags[i] = row.flags


def position_faults(ra: Floats, dec: Floats) -> tuple[Mask, Mask]:
    """Rows whose position cannot be used: not finite; finite but outside 0 <= ra <= 360, |dec| <= 90."""
    finite = np.isfinite(ra) & np.isfinite(dec)
    inside = (ra >= 0.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0)
    return ~finite, finite & ~inside


def first_repeated(sourceid: npt.NDArray[np.int32]) -> int | None:
    """A sourceid that occurs twice, or None."""
    if len(sourceid) < 2 or np.all(sourceid[1:] > sourceid[:-1]):
        return None
    ordered = np.sort(sourceid)
    again = np.flatnonzero(ordered[1:] == ordered[:-1])
    return int(ordered[again[0]]) if again.size else None


def row_digests(columns: Columns) -> npt.NDArray[np.uint64]:
    """64-bit digest of each row's measured bits, shape (N,).

    The sum modulo 2^64 over the rows of an exposure is a digest that knows no order; a row lost, doubled or
    altered in one bit changes it, but for a chance of 2^-64.
    """
    words = [columns[name].view(f"u{columns[name].itemsize}") for name in MEASURED]
    return _row_digests(*words)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _mix(state: np.uint64, word: np.uint64) -> np.uint64:
    """One step of the splitmix64 finaliser (Steele, Lea and Flood 2014)."""
    x = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def row_digest(sourceid, ra, dec, xpos, ypos, psfflux, psffluxerr, chi, sharp, flags):  # type: ignore[no-untyped-def]
    """Digest of one row, from the bits of its values as unsigned integers of their sizes."""
    # Stores keep such digests: what is mixed, and in which order, is part of their format. Columns of 32 bits go in by
    # twos, since each step costs the same for a word that is half empty.
    half = np.uint64(32)
    state = _mix(np.uint64(0), np.uint64(sourceid) << half | np.uint64(flags))
    state = _mix(state, np.uint64(ra))
    state = _mix(state, np.uint64(dec))
    state = _mix(state, np.uint64(xpos) << half | np.uint64(ypos))
    state = _mix(state, np.uint64(psfflux) << half | np.uint64(psffluxerr))
    return _mix(state, np.uint64(chi) << half | np.uint64(sharp))


@njit(cache=True, nogil=True)
def _row_digests(sourceid, ra, dec, xpos, ypos, psfflux, psffluxerr, chi, sharp, flags):  # type: ignore[no-untyped-def]
    out = np.empty(sourceid.shape[0], np.uint64)
    for i in range(sourceid.shape[0]):
        out[i] = row_digest(
            sourceid[i], ra[i], dec[i], xpos[i], ypos[i], psfflux[i], psffluxerr[i], chi[i], sharp[i], flags[i]
        )
    return out


@njit(cache=True, nogil=True)
def add_digests(sums: npt.NDArray[np.uint64], counts: Ids, place: Ids, digests: npt.NDArray[np.uint64]) -> None:
    """Add rows, and their digests, to what is counted of each exposure.

    Parameters
    ----------
    sums : uint64 ndarray, shape (E,)
        Added to, modulo 2^64.
    counts : int64 ndarray, shape (E,)
        Added to.
    place : int64 ndarray, shape (N,)
        Exposure of each row; a negative one is left out.
    digests : uint64 ndarray, shape (N,)
        From :func:`row_digests`.
    """
    for i in range(place.shape[0]):
        if place[i] >= 0:
            counts[place[i]] += 1
            sums[place[i]] += digests[i]


def digest(columns: Columns) -> int:
    """Order-free digest of a set of rows: the sum of their digests modulo 2^64."""
    return int(row_digests(columns).sum(dtype=np.uint64))


@njit(cache=True, nogil=True)
def linked_digest(digests: npt.NDArray[np.uint64], first: Ids, second: Ids) -> np.uint64:
    """Order-free digest of rows together with two ids of each: which object, which exposure they are of.

    Parameters
    ----------
    digests : uint64 ndarray, shape (N,)
        From :func:`row_digests`.
    first, second : int64 ndarray, shape (N,)
    """
    total = np.uint64(0)
    for i in range(digests.shape[0]):
        total += _mix(_mix(digests[i], np.uint64(first[i])), np.uint64(second[i]))
    return total
