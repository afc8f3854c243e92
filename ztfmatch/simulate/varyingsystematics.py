"""Systematics that vary: changes of the camera, colour beyond the linear term, clouds.

Each is turned on by a setting of its own and is drawn from generators of its own keys, so that the rest of a data set
stays as it is without.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.simulate.config import SimulationConfig
from ztfmatch.simulate.systematics import ChannelSystematics

MIDDLE_COLOUR: Final = 0.7
"""Colour at which the bias with colour is zero."""
DAYS_PER_YEAR: Final = 365.25
_GRADIENT_PART: Final = (0.3, 1.0)
"""Of the largest amplitude, that a cloud's gradient has."""

_TAG_STEP, _TAG_DRIFT, _TAG_COLOUR, _TAG_CLOUD = 601, 602, 603, 604


@dataclass(frozen=True)
class VaryingSystematics:
    """Of one channel and filter, in the sense observed minus PS1."""

    config: SimulationConfig
    rcid: int
    fid: int

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.config.seed, *key]))

    @cached_property
    def _step(self) -> ChannelSystematics:
        return ChannelSystematics.draw(self.config.seed + _TAG_STEP, self.rcid, self.fid)

    @cached_property
    def _drift(self) -> tuple[ChannelSystematics, float]:
        """A pattern, and its mean absolute value over the quadrant, so that it can be given a size."""
        one = ChannelSystematics.draw(self.config.seed + _TAG_DRIFT, self.rcid, self.fid)
        columns, rows = QUADRANT_SHAPE_PIX
        x, y = (a.ravel() for a in np.meshgrid(np.linspace(1, columns, 60), np.linspace(1, rows, 60)))
        return one, float(np.sqrt(np.mean(one.position(x, y) ** 2)))

    @cached_property
    def _colour(self) -> tuple[float, float]:
        """Linear and quadratic coefficient."""
        rng = self._rng(_TAG_COLOUR, self.rcid, self.fid)
        size = self.config.colour_bias
        return size * float(rng.uniform(-0.2, 0.2)), size * float(rng.choice([-1.0, 1.0]) * rng.uniform(0.8, 1.2))

    def total(self, x: Floats, y: Floats, colour: Floats, when: tuple[float, int]) -> Floats:
        """Sum of all at pixels and colours of shape (N,), for an exposure of a time (MJD) and a fracday, mag."""
        mjd, fracday = when
        days, config = mjd - self.config.start_mjd, self.config
        total = np.zeros(len(x))
        if config.flat_step and days > 0.5 * config.n_nights:
            total += config.flat_step * self._step.position(x, y)
        if config.flat_drift:
            pattern, size = self._drift
            years = days / DAYS_PER_YEAR
            total += config.flat_drift * (years + 0.5 * np.sin(2 * np.pi * years)) * pattern.position(x, y) / size
        if config.colour_bias:
            linear, square = self._colour
            apart = colour - MIDDLE_COLOUR
            total += apart * (linear + apart * square)
        if config.cloudy_fraction:
            total += self._cloud(x, y, fracday)
        return total

    def _cloud(self, x: Floats, y: Floats, fracday: int) -> Floats:
        """A plane over the quadrant, of up to ``cloud_gradient`` from its middle to an edge."""
        rng = self._rng(_TAG_CLOUD, fracday, self.rcid)
        if rng.random() >= self.config.cloudy_fraction:
            return np.zeros(len(x))
        size = self.config.cloud_gradient * rng.uniform(*_GRADIENT_PART)
        angle = rng.uniform(0.0, 2.0 * np.pi)
        columns, rows = QUADRANT_SHAPE_PIX
        u, v = 2.0 * x / columns - 1.0, 2.0 * y / rows - 1.0
        return np.asarray(size * (np.cos(angle) * u + np.sin(angle) * v))
