"""Bad references: their defects, and the effect on seeds.

Only the first reference of a unit can be so; regenerated ones are good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats, Mask
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX, Unit

GOOD, GRADIENT, CLOUD_EDGE, FEW_IMAGES, CROWDED = "good", "gradient", "cloud edge", "few images", "crowded"
KINDS: Final = (GOOD, GRADIENT, CLOUD_EDGE, FEW_IMAGES, CROWDED)
SUSPECT: Final = (GRADIENT, CLOUD_EDGE, FEW_IMAGES)
"""Kinds that an audit must find; a crowded reference is confused."""

_TAG: Final = 601
_AMPLITUDE: Final = {GRADIENT: (0.12, 0.30), CLOUD_EDGE: (0.12, 0.30), FEW_IMAGES: (0.05, 0.08)}
"""Magnitudes: from edge to edge; behind the cloud's edge; scatter."""

_LOST_PART: Final = {CLOUD_EDGE: (0.6, 0.8), FEW_IMAGES: (0.6, 0.8)}
"""Part of the seeds, the faintest, that are not there: behind the cloud's edge; anywhere."""

COMPANION_ARCSEC: Final = (2.0, 3.0)
"""Where the seeds that crowd a reference stand beside the others."""


@dataclass(frozen=True)
class ReferenceFault:
    """What is wrong with a reference."""

    kind: str = GOOD
    """One of KINDS."""
    amplitude: float = 0.0
    """Magnitudes."""
    angle: float = 0.0
    """Direction of the gradient, or in which the cloud lies, radians from x."""
    lost: float = 0.0
    """Part of the seeds that are not there."""

    @classmethod
    def draw(cls, seed: int, unit: Unit, fractions: tuple[float, float]) -> ReferenceFault:
        """Draw the fault of a unit's first reference; fractions are those of suspect and of crowded ones."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, _TAG, unit.field, unit.rcid, unit.fid]))
        chance = rng.random()
        kind = SUSPECT[int(rng.integers(len(SUSPECT)))]
        if chance >= fractions[0]:
            return cls(CROWDED if chance < sum(fractions) else GOOD)
        amplitude, lost = (float(rng.uniform(*table.get(kind, (0.0, 0.0)))) for table in (_AMPLITUDE, _LOST_PART))
        return cls(kind, amplitude, float(rng.uniform(0.0, 2.0 * np.pi)), lost)

    @property
    def suspect(self) -> bool:
        """Whether an audit must find it."""
        return self.kind in SUSPECT

    def _along(self, xy: Floats) -> Floats:
        """Pixels in the direction of the angle, -0.5 to 0.5 from edge to edge at least."""
        columns, rows = QUADRANT_SHAPE_PIX
        across: Floats = (xy[0] / columns - 0.5) * np.cos(self.angle) + (xy[1] / rows - 0.5) * np.sin(self.angle)
        return across

    def offset(self, xy: Floats, rng: np.random.Generator) -> Floats:
        """How much too faint seeds at pixels, shape (2, N), are; magnitudes."""
        if self.kind == GRADIENT:
            return self.amplitude * self._along(xy)
        if self.kind == CLOUD_EDGE:
            return np.where(self._along(xy) > 0.0, self.amplitude, 0.0)
        if self.kind == FEW_IMAGES:
            return np.asarray(self.amplitude * rng.standard_normal(xy.shape[1]))
        return np.zeros(xy.shape[1])

    def keeps(self, xy: Floats, mag: Floats) -> Mask:
        """Which seeds are there, shape (N,)."""
        if not self.lost or not len(mag):
            return np.ones(len(mag), bool)
        within = self._along(xy) > 0.0 if self.kind == CLOUD_EDGE else np.ones(len(mag), bool)
        return ~within | (mag <= np.quantile(mag, 1.0 - self.lost))
