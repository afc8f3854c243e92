"""Photometric errors: random ones by the survey's model, systematic ones relative to PS1.

Three systematics, each drawn from a generator of its own key and of the size found in real data: a bias that
depends on magnitude (channel and filter), one that depends on the position on the quadrant (channel and
filter), and an offset of the field (field, channel and filter). All are in the sense observed minus PS1,
magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from ztfmatch.core.arrays import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX, Unit

ERROR_MODEL: Final = {
    1: (0.0334, -0.0013, 2.4e-9, -8.0e-18),
    2: (0.0310, -0.0012, 2.4743e-9, -8.3245e-18),
    3: (0.0350, -0.0014, 3.0e-9, -1.0e-17),
}
"""A, B, C, D of magerr = A + B m + C 10^(0.4 m) + D 10^(0.8 m), by filter id; typical of the survey."""

ERROR_MODEL_BREAK_MAG: Final = 20.5
"""Beyond it magerr is linear in m, as measured in real matchfiles."""

BIAS_ONSET_MAG: Final = 19.25
"""No magnitude-dependent bias at fainter magnitudes."""

BIAS_SPAN_MAG: Final = 6.0
FIELD_OFFSET_MAG: Final = 0.005
EDGE_SCALE_PIX: Final = 60.0
MAP_CELLS: Final = 32
"""Cells per axis of the table that the truth holds of the position map."""

_TAG_CHANNEL, _TAG_FIELD = 201, 202
SMOOTH_TERMS: Final = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (0, 3), (2, 2))
"""Degrees along x and y of the polynomials of a smooth map."""


def model_error(mag: Floats, fid: int) -> Floats:
    """Photometric error in magnitudes of a single epoch, at calibrated magnitudes of shape (N,)."""
    a, b, c, d = ERROR_MODEL[fid]

    def polynomial(m: Floats) -> Floats:
        flux = 10.0 ** (0.4 * m)
        return a + b * m + c * flux + d * flux * flux

    knee = ERROR_MODEL_BREAK_MAG
    before, at = polynomial(np.array([knee - 1.0, knee]))
    linear = at + 1.01 * (at - before) * (mag - knee)
    return np.where(mag > knee, linear, polynomial(np.minimum(mag, knee)))


@dataclass(frozen=True)
class ChannelSystematics:
    """Bias with magnitude and position of one channel and filter."""

    bias: tuple[float, float]
    """Coefficients of t and t^2, t = (19.25 - m) / 6 kept within 0 and 1.25; magnitudes."""
    smooth: tuple[float, ...]
    """Coefficients of products of Legendre polynomials over the quadrant; magnitudes."""
    edges: tuple[float, float, float, float]
    """Amplitude at the low-x, high-x, low-y and high-y edge; magnitudes."""
    mean: float = 0.0
    """Mean over the quadrant, taken off."""

    @classmethod
    def draw(cls, seed: int, rcid: int, fid: int, scale: float = 1.0) -> ChannelSystematics:
        """Draw the systematics of a channel and filter in the simulation of a seed, times a scale."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, _TAG_CHANNEL, rcid, fid]))
        top = -rng.uniform(0.008, 0.02) * scale
        share = rng.uniform(0.1, 0.4)
        smooth = rng.normal(0.0, 0.0025, len(SMOOTH_TERMS)) * scale
        edges = rng.uniform(0.018, 0.03, 4) * scale
        raw = cls((top * share, top * (1 - share)), tuple(smooth.tolist()), tuple(edges.tolist()))
        return cls(raw.bias, raw.smooth, raw.edges, float(raw.position(*cell_centres(200)).mean()))

    def magnitude(self, mag: Floats) -> Floats:
        """Bias at calibrated magnitudes: bright stars are measured too bright, by up to 0.02 mag."""
        t = np.clip((BIAS_ONSET_MAG - mag) / BIAS_SPAN_MAG, 0.0, 1.25)
        return t * (self.bias[0] + t * self.bias[1])

    def position(self, x: Floats, y: Floats) -> Floats:
        """Bias at pixels: smooth, up to 0.03 mag too faint at the edges, zero on average."""
        columns, rows = QUADRANT_SHAPE_PIX
        px, py = _legendre(2 * x / columns - 1), _legendre(2 * y / rows - 1)
        total = np.full(x.shape, -self.mean)
        for weight, (m, n) in zip(self.smooth, SMOOTH_TERMS, strict=True):
            total += weight * px[m] * py[n]
        for amplitude, distance in zip(self.edges, (x, columns - x, y, rows - y), strict=True):
            total += amplitude * np.exp(-np.maximum(distance, 0.0) / EDGE_SCALE_PIX)
        return total


def _legendre(u: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    return np.ones_like(u), u, 1.5 * u * u - 0.5, u * (2.5 * u * u - 1.5)


@cache
def cell_centres(n: int) -> tuple[Floats, Floats]:
    """Pixels x and y, shape (n * n,) each, of the centres of n by n cells of a quadrant; x runs fastest."""
    centres = (np.arange(n) + 0.5) / n
    y, x = np.meshgrid(centres * QUADRANT_SHAPE_PIX[1], centres * QUADRANT_SHAPE_PIX[0], indexing="ij")
    return x.ravel(), y.ravel()


def field_offset(seed: int, unit: Unit, scale: float = 1.0) -> float:
    """Zero-point offset of a unit in magnitudes."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, _TAG_FIELD, unit.field, unit.rcid, unit.fid]))
    return float(rng.normal(0.0, FIELD_OFFSET_MAG) * scale)
