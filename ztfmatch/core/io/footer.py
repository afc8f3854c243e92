"""Footers of Parquet files as bytes: row groups of several files combined, at the new offsets of their columns.

Arrow has no way to copy a row group as it is. A footer is a structure of Thrift's compact protocol
(https://github.com/apache/parquet-format, ``parquet.thrift``; https://github.com/apache/thrift,
``doc/specs/thrift-compact-protocol.md``). Nothing in it is changed but the number of rows, the list of row groups and,
in these, places of bytes and their own number; the rest is carried along as it is, known here or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_TRUE, _FALSE, _INTEGERS, _BINARY, _LISTS, _STRUCT = 1, 2, (4, 5, 6), 8, (9, 10), 12
_BYTES: Final = {3: 1, 7: 8}
"""Of a byte and of a double."""
_NUM_ROWS, _ROW_GROUPS = 3, 4
"""Fields of FileMetaData."""
_PLACE, _ORDINAL = "place", "ordinal"
_ROW_GROUP: Final = {1: {2: _PLACE, 3: {9: _PLACE, 10: _PLACE, 11: _PLACE}}, 5: _PLACE, 7: _ORDINAL}
"""Integers to be changed: columns (file_offset, meta_data (pages of data, index, dictionary)), file_offset, ordinal."""
_SHORT: Final = 15
"""A list of fewer has their number in its first byte."""


Place = tuple[int, int, str, int]
"""Where an integer of a row group begins and ends, which one it is, and its value."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a footer."""

    data: bytes
    number: int
    """Which of the file it is."""

    def moved(self, shift: int, ordinal: int) -> bytes:
        """The same whose bytes lie so much further back in another file, where it is the one of that number."""
        if (shift, ordinal) == (0, self.number):
            return self.data
        parts, at = [], 0
        for start, stop, name, value in _integers(self.data):
            new = ordinal if name == _ORDINAL else value + shift if value else 0  # 0 says that there is no such place
            parts += [self.data[at:start], _varint(2 * new)]
            at = stop
        return b"".join([*parts, self.data[at:]])


@dataclass(frozen=True)
class Footer:
    """A footer, taken to pieces."""

    before: bytes
    """All before the number of rows."""
    between: bytes
    """From there to the list of row groups."""
    groups: tuple[RowGroup, ...]
    after: bytes

    @classmethod
    def of(cls, data: bytes) -> Footer:
        """Take a footer to pieces."""
        groups = list[RowGroup]()
        values: dict[int, tuple[int, int]] = {}
        at = field = 0
        while head := data[at]:
            field, start = _field(data, at, field)
            if field == _ROW_GROUPS:
                number, _, at = _list(data, start)
                for group in range(number):
                    first, at = at, _past(data, at, _STRUCT)
                    groups.append(RowGroup(data[first:at], group))
            else:
                at = _past(data, start, head & 0x0F)
            values[field] = start, at
        (rows, after_rows), (start, stop) = values[_NUM_ROWS], values[_ROW_GROUPS]
        return cls(data[:rows], data[after_rows:start], tuple(groups), data[stop:])

    def holding(self, groups: Sequence[bytes], rows: int) -> bytes:
        """The footer with other row groups, which hold so many rows."""
        number = len(groups)
        head = [number << 4 | _STRUCT] if number < _SHORT else [0xF0 | _STRUCT, *_varint(number)]
        return b"".join([self.before, _varint(2 * rows), self.between, bytes(head), *groups, self.after])


def _field(data: bytes, at: int, last: int) -> tuple[int, int]:
    """Id of a field of a structure, given that of the one before, and where its value begins."""
    if step := data[at] >> 4:
        return last + step, at + 1
    value, at = _number(data, at + 1)
    return _zigzag(value), at


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """Number and kind of the elements of a list, and where they begin."""
    number, kind = data[at] >> 4, data[at] & 0x0F
    if number < _SHORT:
        return number, kind, at + 1
    number, at = _number(data, at + 1)
    return number, kind, at


def _integers(data: bytes) -> list[Place]:
    """Integers of a row group that are to be changed, in order."""
    places: list[Place] = []
    _note_integers(data, 0, _ROW_GROUP, places)
    return places


def _note_integers(data: bytes, at: int, wanted: Mapping[int, Any], places: list[Place]) -> int:
    """Note some integers of a structure; returns where it ends."""
    field = 0
    while head := data[at]:
        kind = head & 0x0F
        field, at = _field(data, at, field)
        inside = wanted.get(field)
        if inside is None:
            at = _past(data, at, kind)
        elif isinstance(inside, str):
            value, stop = _number(data, at)
            places.append((at, stop, inside, _zigzag(value)))
            at = stop
        else:
            number, _, at = _list(data, at) if kind in _LISTS else (1, kind, at)
            for _ in range(number):
                at = _note_integers(data, at, inside, places)
    return at + 1


def _past(data: bytes, at: int, kind: int) -> int:
    """Where the value of a field ends."""
    if kind in _INTEGERS:
        while data[at] & 0x80:
            at += 1
        return at + 1
    if kind == _BINARY:
        length, at = _number(data, at)
        return at + length
    if kind == _STRUCT:
        return _past_fields(data, at)
    if kind in _LISTS:
        return _past_list(data, at)
    if kind in _BYTES:
        return at + _BYTES[kind]
    if kind in (_TRUE, _FALSE):
        return at  # the value is in the kind
    raise ValueError(f"kind {kind} of a value at byte {at} is none of Parquet's")


def _past_list(data: bytes, at: int) -> int:
    number, kind, at = _list(data, at)
    if kind in (_TRUE, _FALSE):
        return at + number
    for _ in range(number):
        at = _past(data, at, kind)
    return at


def _past_fields(data: bytes, at: int) -> int:
    """Where a structure ends; most of what it has are integers, for which nothing is called."""
    while head := data[at]:
        at, kind = at + 1 if head >> 4 else _number(data, at + 1)[1], head & 0x0F
        if kind not in _INTEGERS:
            at = _past(data, at, kind)
            continue
        while data[at] & 0x80:
            at += 1
        at += 1
    return at + 1


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    byte, value, shift = data[at], 0, 0
    while byte & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        byte = data[at]
    return value | byte << shift, at + 1


def _zigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def _varint(value: int) -> bytes:
    """Bytes of a number; an integer n >= 0 is written as 2 n."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
