"""Transients next to somewhat fainter stars, like supernovae next to their hosts."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ztfmatch.core.arrays import Floats, Ints

SEPARATION_ARCSEC: Final = (2.1, 2.5)
"""From the host: what the survey's images keep apart, just so."""

FAINTER_MAG: Final = (0.4, 1.5)
"""By how much a host is fainter than its transient's peak."""


class Hosts(NamedTuple):
    """Which transients stand beside which stars, shape (N,) each."""

    transient: Ints
    """Row of the transient."""
    star: Ints
    """Row of its host."""
    away_arcsec: Floats
    angle: Floats
    """Radians, east of north."""

    def positions(self, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
        """Where the transients stand, degrees, if the stars are at these positions."""
        host_ra, host_dec = ra[self.star], dec[self.star]
        east, north = self.away_arcsec / 3600.0 * np.sin(self.angle), self.away_arcsec / 3600.0 * np.cos(self.angle)
        return (host_ra + east / np.cos(np.radians(host_dec))) % 360.0, np.clip(host_dec + north, -90.0, 90.0)


def draw_hosts(rng: np.random.Generator, fraction: float, g: Floats, n_transients: int) -> Hosts:
    """Give some of the transients a host, no two of them the same.

    Parameters
    ----------
    fraction : float
        Part of them; those that would have the same host as another stay without.
    g : float64 ndarray, shape (N,)
        Magnitudes of stars and, last, of the transients at their peaks.
    """
    n_stars = len(g) - n_transients
    draws = rng.random((4, n_transients))
    hosted = np.flatnonzero((draws[0] < fraction) & (n_stars > 0))
    _, fainter, away, angle = draws[:, hosted]
    wanted = g[n_stars + hosted] + FAINTER_MAG[0] + np.ptp(FAINTER_MAG) * fainter
    order = np.argsort(g[:n_stars], kind="stable")
    at = np.minimum(np.searchsorted(g[order], wanted), n_stars - 1)
    star, first = np.unique(order[at], return_index=True)
    return Hosts(
        n_stars + hosted[first],
        star,
        SEPARATION_ARCSEC[0] + np.ptp(SEPARATION_ARCSEC) * away[first],
        2.0 * np.pi * angle[first],
    )
