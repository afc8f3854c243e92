"""Rows of cells to JSON Lines in compiled code: one document per line, each with a list of nested rows.

What is written between the cells of a row (braces, names, commas) is given as literals: row = literal 0, cell 0,
literal 1, cell 1 ... literal N. A document has one more, which follows its nested rows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernelcache import njit
from ztfmatch.kowalski.kernels.decimals import (
    LARGEST,
    NAN,
    NEGATIVE_INFINITY,
    NEGATIVE_ZERO,
    NULL,
    POSITIVE_INFINITY,
    TEXT,
    Cells,
)

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

WIDEST: Final = 30
"""Bytes of the longest cell that is not text, and room for a comma."""

_TEN: Final = np.uint64(10)


class Texts(NamedTuple):
    """Byte strings, one after the other."""

    data: Bytes
    offsets: Offsets
    """Start of each, and one past the last, shape (N + 1,)."""


class Rows(NamedTuple):
    """Rows of one form."""

    cells: Cells
    """Shape (columns, N)."""
    decimals: Offsets
    """Decimals of each column; 0 for integers, which get no point. Shape (columns,)."""
    literals: Texts
    """One more than columns; of documents two more."""
    texts: Texts
    """What cells from TEXT on refer to."""


NO_ROWS: Final = Rows(
    np.zeros((0, 0), np.int64),
    np.zeros(0, np.int64),
    Texts(np.zeros(0, np.uint8), np.zeros(2, np.int64)),
    Texts(np.zeros(0, np.uint8), np.zeros(1, np.int64)),
)
"""Nothing nested."""


def texts_of(parts: list[bytes]) -> Texts:
    """Byte strings as arrays."""
    lengths = np.array([len(part) for part in parts], np.int64)
    return Texts(np.frombuffer(b"".join(parts), np.uint8), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def most_bytes(rows: Rows) -> int:
    """Bound of the bytes of a row."""
    longest = int(np.diff(rows.texts.offsets).max(initial=0))
    return len(rows.literals.data) + len(rows.decimals) * max(WIDEST, longest) + 1


def write_documents(documents: Rows, nested: Rows, offsets: Offsets) -> Bytes:
    """Lines of documents, each with its nested rows, separated by commas, before its last literal.

    Parameters
    ----------
    documents : Rows
        N of them.
    offsets : int64 ndarray, shape (N + 1,)
        First nested row of each document, and one past the last; all equal where there are none.

    Returns
    -------
    uint8 ndarray
    """
    count = documents.cells.shape[1]
    rows = int(offsets[-1] - offsets[0])
    out = np.empty(count * most_bytes(documents) + rows * most_bytes(nested), np.uint8)
    return out[: _write(out, documents, nested, offsets)]


@njit(cache=True, nogil=True, error_model="numpy")
def _write(out: Bytes, documents: Rows, nested: Rows, offsets: Offsets) -> int:
    at = 0
    last = documents.cells.shape[0]
    for i in range(documents.cells.shape[1]):
        at = _put_row(out, at, documents, i)
        for row in range(offsets[i], offsets[i + 1]):
            if row > offsets[i]:
                out[at] = 44
                at += 1
            at = _put_row(out, at, nested, row)
        at = _put_text(out, at, documents.literals, last + 1)
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _put_row(out: Bytes, at: int, rows: Rows, i: int) -> int:
    for column in range(rows.cells.shape[0]):
        at = _put_text(out, at, rows.literals, column)
        at = _put_cell(out, at, rows.cells[column, i], rows.decimals[column], rows.texts)
    end: int = _put_text(out, at, rows.literals, rows.cells.shape[0])
    return end


@njit(cache=True, nogil=True, error_model="numpy")
def _put_text(out: Bytes, at: int, texts: Texts, number: int) -> int:
    for place in range(texts.offsets[number], texts.offsets[number + 1]):
        out[at] = texts.data[place]
        at += 1
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _put_cell(out: Bytes, at: int, cell: int, decimals: int, texts: Texts) -> int:
    if cell >= LARGEST:
        at = _put_number(out, at, cell, decimals)
    elif cell >= TEXT:
        at = _put_text(out, at, texts, cell - TEXT)
    elif cell == NULL:
        at = _put_ascii(out, at, "null")
    elif cell == NEGATIVE_ZERO:
        at = _put_ascii(out, at, "-0.0")
    elif cell == NAN:
        at = _put_ascii(out, at, '{"$numberDouble":"NaN"}')
    elif cell == POSITIVE_INFINITY:
        at = _put_ascii(out, at, '{"$numberDouble":"Infinity"}')
    elif cell == NEGATIVE_INFINITY:
        at = _put_ascii(out, at, '{"$numberDouble":"-Infinity"}')
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _put_ascii(out: Bytes, at: int, text: str) -> int:
    for i in range(len(text)):
        out[at] = ord(text[i])
        at += 1
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _put_number(out: Bytes, at: int, units: int, decimals: int) -> int:
    """A number with at least one digit on both sides of its point, and no zeros at its end beyond that."""
    if units < 0:
        out[at] = 45
        at += 1
    left = np.uint64(abs(units))  # division by a constant is fast for unsigned integers only
    while decimals > 1 and left % _TEN == 0:
        left //= _TEN
        decimals -= 1
    digits, rest = 1, left // _TEN
    while rest > 0:
        digits += 1
        rest //= _TEN
    digits = max(digits, decimals + 1)
    point = at + digits - decimals
    end = at + digits + (decimals > 0)
    for place in range(end - 1, at - 1, -1):
        if decimals > 0 and place == point:
            out[place] = 46
        else:
            out[place] = np.uint8(48) + np.uint8(left % _TEN)
            left //= _TEN
    return end
