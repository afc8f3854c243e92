"""Divide very many catalogs into portions, each of which is a commit of its own: by field, then by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.io.packed import Packed

_NAME: Final = r"(?i)_(?P<fracday>\d{14})_(?P<field>\d{6})_[^/]*$"


def names_of(sources: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Field and fracday of catalogs by their names; -1 where a name does not tell."""
    blocks = sources.blocks() if isinstance(sources, Packed) else [sources]
    told = [_told(pa.array(block, pa.string())) for block in blocks]
    field, fracday = (np.concatenate(values) for values in zip(*told, strict=True))
    return field, fracday


def _told(names: pa.Array) -> list[npt.NDArray[np.int64]]:
    found = pc.extract_regex(names, _NAME)
    columns = (pc.struct_field(found, name).cast(pa.int64()).fill_null(-1) for name in ("field", "fracday"))
    return [column.to_numpy() for column in columns]


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
    field, fracday = names_of(sources)
    order = np.lexsort((fracday, field))
    sizes = np.diff(np.flatnonzero(np.diff(field[order], prepend=-2)), append=len(order))
    return [_Portion(sources, part) for part in np.split(order, starts_of(sizes, most)[1:])]


@dataclass(frozen=True, eq=False)
class _Portion(Sequence[str]):
    """Some catalogs of a list, in another order; of a packed one they are unpacked each time that all are asked for."""

    sources: Sequence[str]
    rows: npt.NDArray[np.int64]

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

    def _taken(self, rows: npt.NDArray[np.int64]) -> list[str]:
        if isinstance(self.sources, Packed):
            return self.sources.take(rows)
        return [self.sources[row] for row in rows.tolist()]


def starts_of(sizes: npt.NDArray[np.int64], most: int) -> list[int]:
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
