"""The magnitude term of a channel: its range and its basis functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.normalequations import BinSums, sums_by
from ztfmatch.photometry.kernels.residuals import Bins

_MIN_RANGE_MAG: Final = 1.5
QUADRATIC: Final = 2
"""Slope and curvature, the first terms."""
COLOUR_TERMS: Final = 2
"""Linear and of second order; after those of the curve."""
CURVE_KNOTS: Final = (-2.0, -3.5, -5.0)
"""Relative to the faint end, magnitudes below which the magnitude term may bend more than its quadratic."""
_TERM_WEIGHT: Final = 1.0
"""Of the prior of slope and curvature: 1 mag/mag, 1 mag/mag^2, far wider than any camera."""
_BEND_MAG: Final = 0.0007
"""Usual size of a factor beside the quadratic, mag/mag^2."""
HELD_AT_ZERO: Final = 1e12
"""Inverse variance of a factor that is not fitted."""


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit."""

    min_stars: int = 20
    """Fewest stars of a unit, and of a bin of magnitude with the two before and after it."""
    min_cell_stars: int = 5
    """Fewest stars of a cell with the 24 around it."""
    max_error: float = 0.01
    """Largest error of a cell's value and of an offset, mag; beyond it there is none."""
    colour: bool = True
    """Whether there may be a colour term."""
    judged: bool = False
    """Whether terms of magnitude and position are left out that make held-out data worse."""


@dataclass(frozen=True)
class Curve:
    """The magnitude term: over which range it is known, and its functions."""

    bright: float
    faint: float
    known: bool
    """Whether there is one."""

    @classmethod
    def of(cls, sums: BinSums, bins: Bins, settings: FitSettings) -> Curve:
        """Over the run of bins with stars enough that holds the most."""
        stars = sums_by(sums.magnitude, sums.stars, bins.levels)
        valid = _valid_range(stars, bins, settings)
        first, last = valid or (0, bins.levels - 1)
        return cls(bins.bright + first * bins.step, bins.bright + (last + 1) * bins.step, valid is not None)

    @property
    def size(self) -> int:
        """Number of its factors."""
        return QUADRATIC + len(CURVE_KNOTS)

    @property
    def knots(self) -> Floats:
        """Magnitudes below which it may bend more."""
        return np.array([self.faint + knot for knot in CURVE_KNOTS])

    @property
    def weights(self) -> Floats:
        """Inverse variances of its factors before there are data; without a valid range there is no term."""
        usual = [_TERM_WEIGHT] * QUADRATIC + [_BEND_MAG**-2] * len(CURVE_KNOTS)
        return np.array(usual if self.known else [HELD_AT_ZERO] * len(usual), np.float64)

    def basis(self, mag: Floats) -> Floats:
        """Functions of magnitude, shape (2 + J, N); beyond its range the term stays as at the end."""
        inside = np.clip(mag, self.bright, self.faint)
        t = inside - self.faint
        return np.stack([t, t * t, *(np.minimum(inside - knot, 0.0) ** 2 for knot in self.knots)])

    def numbers(self, factors: Floats) -> Floats:
        """As a row of :class:`ztfmatch.core.kernels.smoothcorrections.SmoothTables`."""
        ends = [self.bright, self.faint, *factors[:QUADRATIC]]
        bends = np.stack([self.knots, factors[QUADRATIC:]], axis=1).ravel()
        return np.array([*ends, *bends]) if self.known else np.full(len(ends) + len(bends), np.nan)


def _valid_range(stars: Floats, bins: Bins, settings: FitSettings) -> tuple[int, int] | None:
    """First and last bin of the run of bins with stars enough that holds the most; None where it is too short."""
    near = np.convolve(stars, np.ones(5), "same")
    good = np.concatenate([[False], (near >= settings.min_stars) & (stars > 0), [False]])
    edges = np.flatnonzero(good[1:] != good[:-1]).reshape(-1, 2)
    if not len(edges):
        return None
    first, stop = max(edges.tolist(), key=lambda run: stars[run[0] : run[1]].sum())
    return (first, stop - 1) if (stop - first) * bins.step >= _MIN_RANGE_MAG else None
