"""Checksums in FITS files: DATASUM and CHECKSUM of each HDU.

A sum is of big-endian 32-bit words, in ones' complement: what overflows is added at the low end (FITS standard 4.0,
appendix J).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.fits import FitsTable, Header

_WORD: Final = 0xFFFFFFFF


def check_sums(data: bytes, table: FitsTable) -> int:
    """Compare the checksums that headers name with the bytes.

    Parameters
    ----------
    data : bytes
        The file.
    table : FitsTable
        What was parsed of it.

    Returns
    -------
    int
        Number of checksums that were compared; files without any are as good.

    Raises
    ------
    CatalogError
        With code ``damaged`` if one is not that of the bytes.
    """
    first, second, begin, end = table.edges
    view = memoryview(data)
    checked = _check("primary", table.primary, view[first:second], view[second:second])
    return checked + _check("table", table.extension, view[second:begin], view[begin:end])


def _check(name: str, header: Header, cards: memoryview, content: memoryview) -> int:
    said, whole = _number(header.get("DATASUM")), header.get("CHECKSUM")
    whole = None if whole is None or not str(whole).strip("0 ") else whole  # blank or zeros: undefined
    if said is None and whole is None:
        return 0
    of_content = word_sum(content)
    if said is not None and said != of_content:
        _refuse(f"DATASUM of the {name} HDU is {said}, but its bytes make {of_content}")
    if whole is not None and (made := _added(of_content, word_sum(cards))) not in (0, _WORD):
        _refuse(f"CHECKSUM of the {name} HDU is not that of its bytes: they make {made:#010x}, expected 0xffffffff")
    return (said is not None) + (whole is not None)


def _refuse(what: str) -> None:
    raise CatalogError("damaged", f"{what}: the file was altered after it was written")


def _number(said: Any) -> int | None:
    """DATASUM, which is a number in quotes; None where it is not told."""
    text = "" if said is None else str(said).strip()
    return int(text) if text.isdecimal() else None


def word_sum(content: memoryview | bytes) -> int:
    """Sum of the bytes as big-endian 32-bit words in ones' complement; missing bytes of the last are 0."""
    whole = len(content) // 4 * 4
    total = int(np.frombuffer(content[:whole], ">u4").sum(dtype=np.uint64)) if whole else 0
    return _added(total, int.from_bytes(bytes(content[whole:]).ljust(4, b"\0"), "big"))


def _added(one: int, other: int) -> int:
    total = one + other
    while total > _WORD:
        total = (total & _WORD) + (total >> 32)
    return total
