"""Rows of many exposures gathered from files in another order, to be matched together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Arrays, Rows
from ztfmatch.core.config import ROWS_PER_FILE
from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.tasks.assignment import Fates, Positions


class RowBuffer:
    """Columns of rows as they come.

    Parameters
    ----------
    kinds : mapping of str to type
        Columns beside ``exposure``.
    most : int
        Most rows that may come.

    Attributes
    ----------
    rows : int
        That came.
    exposure : int32 ndarray, shape (most,)
        Row of the exposure in the task.
    """

    def __init__(self, kinds: Mapping[str, Any], most: int) -> None:
        self._columns = {name: np.empty(most, kind) for name, kind in kinds.items()}
        self.exposure = np.empty(most, np.int32)
        self.rows = 0

    def add(self, columns: Arrays, exposure: npt.NDArray[np.int32]) -> None:
        """Add rows."""
        part = slice(self.rows, self.rows + len(exposure))
        for name, values in self._columns.items():
            values[part] = columns[name]
        self.exposure[part] = exposure
        self.rows = part.stop

    def reserve(self) -> Arrays:
        """Where the next rows go, column by column and ``exposure``; call :meth:`advance` once they are there."""
        free = {name: values[self.rows :] for name, values in self._columns.items()}
        return {**free, "exposure": self.exposure[self.rows :]}

    def advance(self, rows: int) -> None:
        """Ingest so many rows that were written to :meth:`reserve`."""
        self.rows += rows

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name][: self.rows]

    def columns(self, names: Sequence[str], rows: Rows) -> Arrays:
        """Some columns of some rows, in that order."""
        return {name: self._columns[name].take(rows) for name in names}


def decide_all(buffer: RowBuffer, fates: Fates, rows: Rows | None = None) -> None:
    """Decide on all rows, or on some: those have their places in ``fates``, then."""
    names = ("ra", "dec", "sourceid", "hmjd")
    exposure = buffer.exposure[: buffer.rows]
    ra, dec, sourceid, hmjd = (buffer[name] for name in names)
    if rows is not None:
        exposure, ra, dec, sourceid, hmjd = (values[rows] for values in (exposure, ra, dec, sourceid, hmjd))
    fates.hmjd[:] = hmjd
    fates.decide_all(exposure, Positions(ra, dec, unit_vectors(ra, dec)), sourceid)


def pieces(rows: Rows) -> list[Rows]:
    """Consecutive runs of rows, each for one file."""
    return [rows[start : start + ROWS_PER_FILE] for start in range(0, len(rows), ROWS_PER_FILE)]
