"""Footers of Parquet files as bytes: row groups of several files put into one, where their column chunks come to lie.

Arrow has no way to copy a row group as it is. A footer is a structure of Thrift's compact protocol
(https://github.com/apache/parquet-format, ``parquet.thrift``; https://github.com/apache/thrift,
``doc/specs/thrift-compact-protocol.md``). Nothing in it is changed but the number of rows, the list of row groups and,
in these, places of bytes and their own number; the rest is carried along as it is, known here or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    places: tuple[Place, ...]
    """In it."""

    def moved(self, shift: int, ordinal: int) -> bytes:
        """The same whose bytes lie so much further back in another file, where it is the one of that number."""
        parts, at = [], 0
        for start, stop, name, value in self.places:
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
        walk, groups = _Walk(data), list[RowGroup]()
        fields: dict[int, tuple[int, int]] = {}
        for field, kind in walk.fields():
            start = walk.at
            if field == _ROW_GROUPS:
                for _ in range(walk.list_of()[0]):
                    first = walk.at
                    places = list(walk.integers(_ROW_GROUP, first))
                    groups.append(RowGroup(data[first : walk.at], tuple(places)))
            else:
                walk.at = _past(data, walk.at, kind)
            fields[field] = start, walk.at
        (rows, after_rows), (start, stop) = fields[_NUM_ROWS], fields[_ROW_GROUPS]
        return cls(data[:rows], data[after_rows:start], tuple(groups), data[stop:])

    def holding(self, groups: Sequence[bytes], rows: int) -> bytes:
        """The footer with other row groups, which hold so many rows."""
        number = len(groups)
        head = [number << 4 | _STRUCT] if number < _SHORT else [0xF0 | _STRUCT, *_varint(number)]
        return b"".join([self.before, _varint(2 * rows), self.between, bytes(head), *groups, self.after])


class _Walk:
    """A place in bytes of Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Id and kind of each field of a structure; whoever asks goes past its value."""
        field = 0
        while head := self._byte():
            step, kind = head >> 4, head & 0x0F
            field = field + step if step else _zigzag(self._varint())
            yield field, kind

    def list_of(self) -> tuple[int, int]:
        """Number and kind of the elements of a list that begins here."""
        head = self._byte()
        number = head >> 4
        return (number if number < _SHORT else self._varint()), head & 0x0F

    def integers(self, wanted: Mapping[int, Any], origin: int) -> Iterator[Place]:
        """Some integers of a structure, in order, and where they are from an origin."""
        for field, kind in self.fields():
            start, inside = self.at, wanted.get(field)
            if inside is None:
                self.at = _past(self.data, start, kind)
            elif isinstance(inside, str):
                value = _zigzag(self._varint())
                yield start - origin, self.at - origin, inside, value
            else:
                for _ in range(self.list_of()[0] if kind in _LISTS else 1):
                    yield from self.integers(inside, origin)

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value, self.at = _number(self.data, self.at)
        return value


def _past(data: bytes, at: int, kind: int, in_list: bool = False) -> int:
    """Where a value ends."""
    if kind in _INTEGERS:
        return _number(data, at)[1]
    if kind == _BINARY:
        length, at = _number(data, at)
        return at + length
    if kind == _STRUCT:
        while head := data[at]:
            at = _past(data, at + 1 if head >> 4 else _number(data, at + 1)[1], head & 0x0F)
        return at + 1
    if kind in _LISTS:
        number, inner, at = data[at] >> 4, data[at] & 0x0F, at + 1
        if number == _SHORT:
            number, at = _number(data, at)
        for _ in range(number):
            at = _past(data, at, inner, in_list=True)
        return at
    if kind in _BYTES:
        return at + _BYTES[kind]
    if kind in (_TRUE, _FALSE):
        return at + in_list  # a field's value is in its kind
    raise ValueError(f"kind {kind} of a value at byte {at} is none of Parquet's")


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
