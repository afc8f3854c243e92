"""Divide very many catalogs into portions, each a commit of its own: by field, then by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Ints
from ztfmatch.core.io.packed import Packed

_NAME: Final = r"(?i)_(?P<fracday>\d{14})_(?P<field>\d{6})_[^/]*$"


_FRACDAY_BITS: Final = 47
_MOST_FIELD: Final = (1 << 63 - _FRACDAY_BITS) - 2


def _keys_of(sources: Sequence[str]) -> Ints:
    """Field, then fracday, of catalogs by their names, as one number; a name that tells none is before all others."""
    keys = np.empty(len(sources), np.int64)  # of ten million: nothing else is as large
    start = 0
    for block in sources.blocks() if isinstance(sources, Packed) else [sources]:
        keys[start : start + len(block)] = _key(pa.array(block, pa.string()))
        start += len(block)
    return keys


def _key(names: pa.Array) -> Ints:
    found = pc.extract_regex(names, _NAME)
    columns = (pc.struct_field(found, name).cast(pa.int64()).fill_null(-1) for name in ("field", "fracday"))
    field, fracday = (column.to_numpy() for column in columns)
    keys: Ints = (np.minimum(field, _MOST_FIELD) + 1 << _FRACDAY_BITS) + fracday + 1
    return keys


def portions_of(sources: Sequence[str], most: int) -> list[Sequence[str]]:
    """Portions of at most so many catalogs: whole fields, as many as fit; a larger one in order of time.

    Parameters
    ----------
    sources : sequence of str
        Paths or URLs.
    most : int
    """
    if len(sources) <= most:
        return [sources]
    keys = _keys_of(sources)
    order = np.argsort(keys, kind="stable")
    sizes = np.bincount(keys >> _FRACDAY_BITS)
    sizes = sizes[sizes > 0]
    return [_Portion(sources, part) for part in np.split(order, starts_of(sizes, most)[1:])]


@dataclass(frozen=True, eq=False)
class _Portion(Sequence[str]):
    """Some catalogs of a list, in another order; of a packed one they are unpacked each time that all are asked for."""

    sources: Sequence[str]
    rows: Ints

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self._taken(self.rows[at]) if isinstance(at, slice) else self.sources[int(self.rows[at])]

    def __iter__(self) -> Iterator[str]:
        return iter(self._taken(self.rows))

    def _taken(self, rows: Ints) -> list[str]:
        if isinstance(self.sources, Packed):
            return self.sources.take(rows)
        return [self.sources[row] for row in rows.tolist()]


def starts_of(sizes: Ints, most: int) -> list[int]:
    """Where portions begin among the catalogs of fields, one field after the other.

    Parameters
    ----------
    sizes : int64 ndarray
        Catalogs of each field, in order.
    most : int
        Of a portion.
    """
    starts = [0]
    ends = np.cumsum(sizes).tolist()
    for first, end in zip([0, *ends[:-1]], ends, strict=True):
        if end - starts[-1] > most and first > starts[-1]:
            starts.append(first)
        while end - starts[-1] > most:
            starts.append(starts[-1] + most)
    return starts
