"""Rows of many exposures gathered from what is read in another order, and decided on exposure after exposure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ztfmatch.config import ROWS_PER_FILE
from ztfmatch.kernels.rows import order_by_group
from ztfmatch.kernels.sphere import unit_vectors
from ztfmatch.tasks.fates import Fates, Positions

Rows = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]


class RowBuffer:
    """Columns of rows as they come.

    Parameters
    ----------
    kinds : mapping of str to type
        Columns.
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
        """Take in rows."""
        part = slice(self.rows, self.rows + len(exposure))
        for name, values in self._columns.items():
            values[part] = columns[name]
        self.exposure[part] = exposure
        self.rows = part.stop

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name][: self.rows]

    def by_exposure(self) -> Rows:
        """Order of the rows by exposure."""
        none = np.zeros(self.rows, np.int64)
        groups = self.exposure[: self.rows].astype(np.int64)
        return np.asarray(order_by_group(groups, none.view(np.float64), none, int(groups.max(initial=-1)) + 1))

    def columns(self, names: Sequence[str], rows: Rows) -> Arrays:
        """Some columns of some rows, in that order."""
        return {name: self._columns[name].take(rows) for name in names}


def decide_all(buffer: RowBuffer, order: Rows, fates: Fates) -> None:
    """Decide on some rows, in order of their exposures."""
    ra, dec, sourceid, hmjd = (buffer[name][order] for name in ("ra", "dec", "sourceid", "hmjd"))
    fates.hmjd[:] = hmjd
    xyz = unit_vectors(ra, dec)
    edges = np.concatenate([[0], np.cumsum(np.bincount(buffer.exposure[order]))]).tolist()
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        if stop > start:
            rows = slice(start, stop)
            fates.decide(number, rows, Positions(ra[rows], dec[rows], xyz[rows]), sourceid[rows])


def pieces(rows: Rows) -> list[Rows]:
    """Consecutive runs of rows, each for one file."""
    return [rows[start : start + ROWS_PER_FILE] for start in range(0, len(rows), ROWS_PER_FILE)]
