"""Variable stars and transients: kinds, parameters and light curves.

Each kind has a period (days), an amplitude (mag in g), an epoch (MJD) and a shape parameter. The curves are
simple forms with the right amplitudes and time scales, not models of stars.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Floats
from ztfmatch.simulate.config import SimulationConfig

Kinds = npt.NDArray[np.int8]

KINDS: Final = ("constant", "rr_lyrae", "eclipsing", "mira", "flare", "transient")
"""Names of the kinds; arrays hold their index."""

CONSTANT, RR_LYRAE, ECLIPSING, MIRA, FLARE, TRANSIENT = range(len(KINDS))

BAND_FACTOR: Final = (1.0, 0.75, 0.6)
"""Amplitude in g, r, i relative to g."""

GONE_MAG: Final = 99.0
"""Magnitude of a transient that is not there."""

_PARTS: Final = (0.3, 0.45, 0.1, 0.15)
"""Of the variable stars: RR Lyrae, eclipsing, Mira, flare."""


class Variation(NamedTuple):
    """Parameters of the variation of N sources, shape (N,) each."""

    kind: Kinds
    period: Floats
    amplitude: Floats
    epoch: Floats
    shape: Floats

    def restyled(self, g: Floats, r: Floats, i: Floats) -> tuple[Floats, Floats, Floats]:
        """Magnitudes with the colours that the kinds have; a transient's are those of its peak."""
        gr, ri = g - r, r - i
        gr = np.select([self.kind == k for k in (RR_LYRAE, MIRA, FLARE, TRANSIENT)], [0.2, 1.6, 1.45, 0.1], gr)
        ri = np.select([self.kind == k for k in (RR_LYRAE, MIRA, FLARE, TRANSIENT)], [0.05, 1.2, 1.1, 0.0], ri)
        top = np.where(self.kind == TRANSIENT, self.shape, g)
        return top, top - gr, top - gr - ri


def draw_kinds(rng: np.random.Generator, config: SimulationConfig, g: Floats, n_transients: int) -> Variation:
    """Draw a kind and its parameters for each source; the last ``n_transients`` are transients."""
    n = len(g)
    kind = np.zeros(n, dtype=np.int8)
    varies = rng.random(n) < config.variable_fraction
    kind[varies] = rng.choice(np.arange(1, 5, dtype=np.int8), int(varies.sum()), p=_PARTS)
    kind[n - n_transients :] = TRANSIENT
    u, v, w, s = rng.random((4, n))
    which = [kind == k for k in range(1, len(KINDS))]
    period = np.select(which, [0.35 + 0.4 * u, 0.25 * 20.0**u, 100.0 + 300.0 * u, 1.0 + 9.0 * u, 15.0 + 25.0 * u], 0.0)
    amplitude = np.select(which, [0.4 + 0.8 * v, 0.1 + 0.7 * v, 1.5 + 2.5 * v, 0.5 + 2.5 * v**3, np.zeros(n)], 0.0)
    span = np.where(kind == TRANSIENT, config.n_nights + 40.0, np.maximum(period, 1.0))
    start = np.floor(config.start_mjd) - np.where(kind == TRANSIENT, 20.0, 0.0)
    shape = np.select(which, [0.15 + 0.1 * s, 0.04 + 0.06 * s, s, 0.02 + 0.04 * s, 17.0 + 4.0 * s**0.5], 0.0)
    return Variation(kind, period, amplitude, np.where(kind == CONSTANT, 0.0, start + span * w), shape)


def magnitude_change(variation: Variation, mjd: float, fid: int) -> Floats:
    """Magnitude to add to the one at rest.

    Parameters
    ----------
    mjd : float
        Mid-exposure.
    fid : int
        Filter id 1..3.

    Returns
    -------
    float64 ndarray, shape (N,)
        0 for constant stars; for transients relative to the peak, ``GONE_MAG`` before they begin.
    """
    kind, period, amplitude, epoch, shape = variation
    since = mjd - epoch
    phase = np.mod(since / np.where(period > 0.0, period, 1.0), 1.0)
    width = np.where(shape > 0.0, shape, 1.0)
    saw = np.where(phase < width, 0.5 - phase / width, -0.5 + (phase - width) / np.maximum(1.0 - width, 0.1))
    dip = np.exp(-0.5 * (np.minimum(phase, 1.0 - phase) / width) ** 2)
    dip += 0.4 * np.exp(-0.5 * ((phase - 0.5) / width) ** 2)
    slow = 0.5 * np.sin(2 * np.pi * phase)
    flash = -np.exp(-phase * np.where(period > 0.0, period, 1.0) / width)
    curves = [amplitude * saw, amplitude * dip, amplitude * slow, amplitude * flash]
    change = np.select([kind == k for k in (RR_LYRAE, ECLIPSING, MIRA, FLARE)], curves, 0.0)
    change = change * BAND_FACTOR[fid - 1]
    return np.where(kind == TRANSIENT, _supernova(since, period, fid), change)


def _supernova(since: Floats, period: Floats, fid: int) -> Floats:
    """Rise over two weeks to the epoch, decline on the scale ``period``, redder later; mag above peak."""
    decline = 1.0857 * since / np.where(period > 0.0, period, 1.0) * (1.0, 0.75, 0.6)[fid - 1]
    rise = 3.0 * (since / 15.0) ** 2
    change = np.where(since < 0.0, rise, np.minimum(decline, GONE_MAG))
    return np.where(since < -18.0, GONE_MAG, change)
