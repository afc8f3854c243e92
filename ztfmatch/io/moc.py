"""Read coverage maps (IVOA MOC 2.0, space): FITS, JSON or ASCII, as ranges of HEALPix pixels of order 29."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.errors import ConfigError

ORDER: Final = 29
Ranges = npt.NDArray[np.int64]

_WORD: Final = re.compile(r"(?:(\d+)/)?(?:(\d+)(?:-(\d+))?)?")


def read_moc(path: Path) -> Ranges:
    """Ranges of pixels, first and one past the last, ascending and apart, shape (N, 2).

    Raises
    ------
    ConfigError
        If it cannot be read, is no MOC of the sky in ICRS, or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        ranges = _of_fits(content) if content.startswith(b"SIMPLE") else _of_text(content.decode("ascii"))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(f"{path} is no MOC: {str(error).splitlines()[0] if str(error) else 'not one'}") from None
    if not len(ranges):
        raise ConfigError(f"{path} is an empty MOC")
    return ranges


def _of_text(text: str) -> Ranges:
    cells = _of_json(text) if text.lstrip().startswith("{") else _of_ascii(text)
    return _joined([_scaled(order, first, last + 1) for order, first, last in cells])


def _of_json(text: str) -> Iterator[tuple[int, int, int]]:
    for order, pixels in json.loads(text).items():
        for pixel in pixels:
            yield int(order), int(pixel), int(pixel)


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
    import io
    import warnings

    from astropy.io import fits

    with warnings.catch_warnings(action="ignore"), fits.open(io.BytesIO(content)) as hdus:
        if len(hdus) < 2:
            raise ValueError("it has no table")
        header, rows = hdus[1].header, hdus[1].data
        if header.get("MOCDIM", "SPACE") != "SPACE" or header.get("COORDSYS", "C") != "C":
            raise ValueError(f"MOCDIM {header.get('MOCDIM')}, COORDSYS {header.get('COORDSYS')}; expected SPACE and C")
        values = np.asarray(rows.field(0), np.int64).ravel()
        if header.get("ORDERING", "NUNIQ") == "RANGE":
            return _joined(values.reshape(-1, 2).tolist())
    return _joined([_of_uniq(value) for value in values.tolist()])


def _of_uniq(value: int) -> tuple[int, int]:
    """Range of a pixel as 4 * 4^order + pixel."""
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
