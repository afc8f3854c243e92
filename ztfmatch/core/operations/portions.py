"""Divide very many catalogs into portions, each of which is a commit of its own: by field, then by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_NAME: Final = r"(?i)_(?P<fracday>\d{14})_(?P<field>\d{6})_[^/]*$"


def names_of(sources: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Field and fracday of catalogs by their names; -1 where a name does not tell."""
    told = pc.extract_regex(pa.array(sources, pa.string()), _NAME)
    field, fracday = (pc.struct_field(told, name).cast(pa.int64()).fill_null(-1) for name in ("field", "fracday"))
    return field.to_numpy(), fracday.to_numpy()


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
    return [[sources[i] for i in part] for part in np.split(order, starts_of(sizes, most)[1:])]


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
