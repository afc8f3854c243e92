"""Sources of the simulated sky: their columns, magnitudes and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Floats, Ints, Mask
from ztfmatch.core.packagedata import package_rows


class Columned:
    """Base of dataclasses of arrays whose last axis is of the same length N."""

    def take(self, which: Mask | Ints) -> Self:
        """Return the chosen rows."""
        return type(self)(**{name: values[..., which] for name, values in vars(self).items()})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All rows of all parts, in their order."""
        names = (field.name for field in fields(cls))  # type: ignore[arg-type]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names})


@dataclass(frozen=True)
class Stars(Columned):
    """Sources of a region, transients included; all arrays of shape (N,) but ``xyz``.

    Magnitudes are PS1's. ``kind`` is an index into ``variability.KINDS``. Period (days), amplitude (mag in
    g), epoch (MJD) and shape describe the variation, see there.
    """

    star_id: Ints
    xyz: Floats
    ra: Floats
    dec: Floats
    g: Floats
    r: Floats
    i: Floats
    mark: Floats
    kind: npt.NDArray[np.int8]
    period: Floats
    amplitude: Floats
    epoch: Floats
    shape: Floats

    def __len__(self) -> int:
        return len(self.star_id)

    def magnitude(self, fid: int) -> Floats:
        """PS1 magnitude at rest in the band of a ZTF filter."""
        return (self.g, self.r, self.i)[fid - 1]

    def colour(self, fid: int) -> Floats:
        """PS1 colour of the filter's colour term: g-r for g and r, r-i for i."""
        return self.r - self.i if fid == 3 else self.g - self.r


@cache
def _reference_magnitudes() -> tuple[Floats, Floats]:
    """Fractions and g magnitudes of the cumulative distribution of a real reference of 18,833 sources."""
    rows = package_rows("reference_magnitudes.csv")
    columns = np.array([[float(row["percentile"]) / 100.0, float(row["mag"])] for row in rows]).T
    return columns[0], columns[1]


def draw_magnitudes(rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Floats]:
    """PS1 g, r, i of n stars: g as in a real reference, colours of a blue and a red population."""
    g = np.interp(rng.random(n), *_reference_magnitudes())
    r, i = redder_bands(rng, g)
    return g, r, i


def redder_bands(rng: np.random.Generator, g: Floats) -> tuple[Floats, Floats]:
    """PS1 r and i of stars of given g."""
    n = len(g)
    red = rng.random(n) < 0.4
    colour = np.where(red, 1.22, 0.48) + np.where(red, 0.10, 0.16) * rng.standard_normal(n)
    beyond = np.where(red, 0.35 + 1.2 * rng.random(n) ** 2, 0.36 * colour - 0.02)
    r = g - np.clip(colour, -0.4, 1.7)
    return r, r - beyond - 0.03 * rng.standard_normal(n)
