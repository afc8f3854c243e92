"""Which tiles stored exposures touch, and which exposures touch a tile, for very many of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ztfmatch.core.arrays import Rows
from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.kernels.coverage import runs, shared_caps
from ztfmatch.core.kernels.sphere import ARCSEC_PER_RADIAN, unit_vector
from ztfmatch.core.kernels.tiling import Tiling


@dataclass(frozen=True)
class Touched:
    """Exposures of a unit that are about at the same place have one footprint, which holds those of all."""

    footprint: Rows
    """Of each exposure, shape (E,); the last of all, which touches nothing, of one without detections."""
    pairs: Rows
    """Rows of tiles and footprints that touch them, shape (2, P), in order of tiles."""
    tiles: Rows
    """How many each footprint touches, shape (F,)."""
    by_footprint: Rows
    """Exposures in order of their footprints, shape (E,)."""
    held: Rows
    """How many exposures each footprint has, shape (F,)."""

    @classmethod
    def of(cls, tiling: Tiling, exposures: pa.Table, unit: Rows) -> Touched:
        """Of rows of the ledger.

        Parameters
        ----------
        tiling : Tiling
        exposures : pa.Table
            With ``ra``, ``dec`` and ``radius``.
        unit : int64 ndarray, shape (E,)
            Number of the unit of each, ascending.
        """
        ra, dec, radius = (exposures[name].to_numpy().astype(np.float64) for name in ("ra", "dec", "radius"))
        placed = np.flatnonzero(np.isfinite(ra))
        footprint, centres, radii = np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0)
        if len(placed):
            reach = np.radians(radius[placed]) + MARGIN_ARCSEC / ARCSEC_PER_RADIAN
            footprint, centres, radii = shared_caps(unit[placed], unit_vector(ra[placed], dec[placed]), reach)
        every = np.full(len(ra), len(radii), np.int64)
        every[placed] = footprint
        pairs = np.stack(tiling.touched_by_caps(centres, radii)[::-1])
        counts, held = (np.bincount(of, minlength=len(radii) + 1) for of in (pairs[1], every))
        pairs = pairs[:, np.lexsort(pairs[::-1])]
        return cls(every, pairs, counts, np.argsort(every, kind="stable"), held)

    def exposures(self, tile: int) -> Rows:
        """Exposures that touch the tile of a row of the tiling, ascending."""
        low, high = np.searchsorted(self.pairs[0], [tile, tile + 1])
        footprints = self.pairs[1, low:high]
        return np.sort(self.by_footprint[runs(self._starts[footprints], self.held[footprints])])

    def units(self, unit: Rows) -> Rows:
        """Rows of tiles and numbers of units that touch them, each pair once, in order; shape (2, P).

        Parameters
        ----------
        unit : int64 ndarray, shape (E,)
            As :meth:`of` was given.
        """
        first = self.by_footprint[self._starts[self.pairs[1]]]
        return np.unique(np.stack([self.pairs[0], unit[first]]), axis=1)

    @property
    def _starts(self) -> Rows:
        """Where the exposures of each footprint begin in ``by_footprint``."""
        return np.asarray(np.cumsum(self.held) - self.held)
