"""A box in declination and right ascension, by which catalogs are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ztfmatch.core.arrays import Floats, Mask


@dataclass(frozen=True)
class Box:
    """A piece of the sky: declinations, and one or two ranges of right ascension; degrees, inclusive."""

    dec: tuple[float, float]
    ra: tuple[tuple[float, float], ...]

    @classmethod
    def around(cls, ra: Floats, dec: Floats, margin_deg: float) -> Box:
        """Smallest box with a margin around some positions, shape (N,) with N > 0, degrees."""
        low, high = float(dec.min()) - margin_deg, float(dec.max()) + margin_deg
        if low <= -89.0 or high >= 89.0:
            return cls((max(low, -90.0), min(high, 90.0)), ((0.0, 360.0),))
        wide = margin_deg / np.cos(np.radians(max(abs(low), abs(high))))
        ordered = np.sort(ra % 360.0)
        gaps = np.diff(ordered, append=ordered[0] + 360.0)
        widest = int(np.argmax(gaps))
        first, last = float(ordered[(widest + 1) % len(ordered)]) - wide, float(ordered[widest]) + wide
        if last < first:
            last += 360.0
        if last - first >= 360.0:
            return cls((low, high), ((0.0, 360.0),))
        first, last = first % 360.0, last % 360.0
        ranges = ((first, last),) if first <= last else ((first, 360.0), (0.0, last))
        return cls((low, high), ranges)

    def may_touch(self, ra: Floats, dec: Floats, radius: Floats) -> Mask:
        """Whether each circle may reach into it; degrees, shape (N,)."""
        inside = (dec + radius >= self.dec[0]) & (dec - radius <= self.dec[1])
        ratio = np.sin(np.radians(radius)) / np.cos(np.radians(dec))
        wide = np.where(np.abs(dec) + radius < 90.0, np.degrees(np.arcsin(np.minimum(ratio, 1.0))), 180.0)
        across = [(ra - low + wide) % 360.0 <= high - low + 2.0 * wide for low, high in self.ra]
        return np.asarray(inside & np.any(across, axis=0))
