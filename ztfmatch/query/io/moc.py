"""Read coverage maps (IVOA MOC 2.0, space): FITS, JSON or ASCII, as ranges of HEALPix pixels of order 29.

What a release shows hangs on it, so a file is read whole or refused. mocpy 0.21 reads a FITS file that was cut as a
smaller part of the sky, leaves out entries of JSON that it does not understand, and knows pixels beyond the sky; it is
the tests' oracle for files that are as they should be.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.errors import ConfigError, first_line

ORDER: Final = 29
Ranges = npt.NDArray[np.int64]

_GZIP: Final = b"\x1f\x8b"
_MAX_BYTES: Final = 1 << 28
"""Of an unpacked file: 16 million ranges."""
_UNREADABLE: Final = (
    *(EOFError, zlib.error, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError),
    RecursionError,  # JSON that is nested deeply
)
_WORD: Final = re.compile(r"(?:(\d+)/)?(?:(\d+)(?:-(\d+))?)?")


def read_moc(path: Path) -> Ranges:
    """Ranges of pixels, first and one past the last, ascending and apart, shape (N, 2); the file may be gzipped.

    Raises
    ------
    ConfigError
        If it cannot be read, is not a MOC of the sky in ICRS (but a sky map, say, which has values), or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        content = _unpacked(content) if content.startswith(_GZIP) else content
        ranges = _of_fits(content) if content.startswith(b"SIMPLE") else _of_text(content.decode("ascii"))
    except _UNREADABLE as error:
        raise ConfigError(f"{path} is not a MOC: {first_line(error)}") from None
    if not len(ranges):
        raise ConfigError(f"{path} is an empty MOC")
    return ranges


def _unpacked(content: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        unpacked = stream.read(_MAX_BYTES + 1)
    if len(unpacked) > _MAX_BYTES:
        raise ValueError(f"unpacked, it has more than {_MAX_BYTES} bytes")
    return unpacked


def _of_text(text: str) -> Ranges:
    cells = _of_json(text) if text.lstrip().startswith("{") else _of_ascii(text)
    return _joined([_scaled(order, first, last + 1) for order, first, last in cells])


def _of_json(text: str) -> Iterator[tuple[int, int, int]]:
    for order, pixels in json.loads(text, object_pairs_hook=list):  # an order that is there twice counts twice
        if not isinstance(pixels, list) or not all(type(pixel) is int for pixel in pixels):
            raise ValueError(f"order {order} has {pixels!r:.50}; expected a list of pixels")
        for pixel in pixels:
            yield int(order), pixel, pixel


def _of_ascii(text: str) -> Iterator[tuple[int, int, int]]:
    order = -1
    for word in text.replace(",", " ").split():
        match = _WORD.fullmatch(word)
        if match is None:
            raise ValueError(f"{word!r}; expected order/pixel, pixel or pixel-pixel")
        order = order if match[1] is None else int(match[1])
        if match[2] is not None:
            yield order, int(match[2]), int(match[3] or match[2])


def _of_fits(content: bytes) -> Ranges:
    import warnings

    from astropy.io import fits

    with warnings.catch_warnings(action="ignore"), fits.open(io.BytesIO(content)) as hdus:
        if len(hdus) < 2 or not isinstance(hdus[1], fits.BinTableHDU):
            raise ValueError("it is a FITS file without a table")
        header, columns = hdus[1].header, hdus[1].columns
        _check_header(header, columns)
        values = np.asarray(hdus[1].data.field(0)).ravel().tolist()
        if header["ORDERING"] == "NUNIQ":
            return _joined([_of_uniq(value) for value in values])
        if columns[0].format.lstrip("12") != "K" or len(values) % 2:
            raise ValueError(f"{len(values)} bounds of format {columns[0].format}; expected pairs of 64 bits (K)")
        return _joined([*zip(values[::2], values[1::2], strict=True)])


def _check_header(header: Any, columns: Any) -> None:
    """Refuse a table of FITS that is not a coverage map of the sky, and say what it is.

    Sky maps have pixels too: those of a multi-order one (LIGO's), numbered as in a MOC, cover all of the sky, and those
    of a partial one are of one order. Which of them are meant hangs on their values.
    """
    ordering, named = header.get("ORDERING"), f"columns {', '.join(columns.names)}"
    if ordering in ("NESTED", "RING", "NEST"):
        raise ValueError(f"it is a HEALPix map in {ordering} order ({named}): a value for each pixel, and no coverage")
    if ordering == "NUNIQ" and len(columns) > 1:
        raise ValueError(
            f"it is a multi-order sky map ({named}), which covers the sky: give the MOC of the part that you mean, as "
            "mocpy's MOC.from_multiordermap_fits_file makes it"
        )
    if ordering not in ("NUNIQ", "RANGE") or len(columns) > 1 or columns[0].format.lstrip("12") not in ("I", "J", "K"):
        raise ValueError(f"it is a table ({named}); expected one column of integers, and ORDERING NUNIQ or RANGE")
    dimension, frame = header.get("MOCDIM", "SPACE"), header.get("COORDSYS", "C")
    if dimension != "SPACE" or frame != "C":
        raise ValueError(f"it is a coverage map with MOCDIM {dimension}, COORDSYS {frame}; expected SPACE and C")


def _of_uniq(value: int) -> tuple[int, int]:
    """Range of a pixel that is given as 4 * 4^order + pixel."""
    order = (value.bit_length() - 1) // 2 - 1
    return _scaled(order, value - 4 ** (order + 1), value - 4 ** (order + 1) + 1)


def _scaled(order: int, first: int, stop: int) -> tuple[int, int]:
    if not 0 <= order <= ORDER:
        raise ValueError(f"order {order}; expected 0..{ORDER}")
    if not 0 <= first < stop <= 12 * 4**order:
        raise ValueError(f"pixels {first} to {stop - 1} of order {order}; expected 0..{12 * 4**order - 1}")
    shift = 2 * (ORDER - order)
    return first << shift, stop << shift


def _joined(pairs: list[Any]) -> Ranges:
    """Ranges in order, those that touch or overlap made one."""
    ranges = np.array(sorted(map(tuple, pairs)), np.int64).reshape(-1, 2)
    if not len(ranges):
        return ranges
    if (ranges[:, 0] >= ranges[:, 1]).any() or ranges.min() < 0 or ranges.max() > 12 << 2 * ORDER:
        raise ValueError("a range that ends before it begins, or beyond the sky")
    reach = np.maximum.accumulate(ranges[:, 1])
    starts = np.flatnonzero(np.concatenate([[True], ranges[1:, 0] > reach[:-1]]))
    return np.stack([ranges[starts, 0], reach[np.append(starts[1:], len(ranges)) - 1]], axis=1)
