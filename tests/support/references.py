"""Regenerate reference catalogs in a known way: sources move, vanish, appear, split and merge.

Works on the files, with astropy; it shares no code with the package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord, match_coordinates_sky
from astropy.io import fits

ARCSEC = 1.0 / 3600.0
APART_ARCSEC = 8.0
"""Only sources so far from all others are changed: of nearer ones no truth can be told."""


Links = dict[tuple[int | None, int | None], str]
"""Kind by the sourceids of an old and a new source; None where there is none."""


@dataclass
class _Sources:
    """Sources of the new catalog, as they are put together."""

    ra: list[float] = field(default_factory=list)
    dec: list[float] = field(default_factory=list)
    ancestors: list[list[int]] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)

    def put(self, ra: float, dec: float, ancestors: list[int], kind: str) -> None:
        self.ra.append(ra)
        self.dec.append(dec)
        self.ancestors.append(ancestors)
        self.kind.append(kind)


def regenerate(source: Path, target: Path, seed: int) -> Links:
    """Write a changed reference, and say what became of each source.

    5 % of the sources vanish, 5 % appear, 20 % move by 0.1 to 0.6 arcsec, 2 % become two, 2 % pairs become one. So one
    that moved twice still has its epochs within the radius.
    """
    rng = np.random.default_rng(seed)
    with fits.open(source) as hdus:
        rows, headers = hdus[1].data.copy(), [hdu.header.copy() for hdu in hdus]
    ra, dec = rows["ra"].astype(float), rows["dec"].astype(float)
    stretch = 1.0 / np.cos(np.radians(dec))
    n = len(rows)
    separation, other = _nearest(ra, dec)
    alone = rng.permutation(np.flatnonzero(separation > APART_ARCSEC))
    gone, moved, split, _ = np.split(alone, np.cumsum([n // 20, n // 5, n // 50]))
    pairs = [(i, j) for i, j in enumerate(other.tolist()) if i < j and other[j] == i and separation[i] < 2.2]
    made = _Sources()
    touched = {*gone.tolist(), *moved.tolist(), *split.tolist(), *(i for pair in pairs for i in pair)}
    for i in sorted(set(range(n)) - touched):
        made.put(ra[i], dec[i], [i], "same")
    for i in moved.tolist():
        angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.101, 0.6) * ARCSEC
        made.put(ra[i] + size * np.cos(angle) * stretch[i], dec[i] + size * np.sin(angle), [i], "moved")
    for i in split.tolist():
        for side in (-0.58, 0.6):  # not as far from it: of what was never detected the nearest is told
            made.put(ra[i] + side * ARCSEC * stretch[i], dec[i], [i], "split")
    for i, j in pairs:
        made.put(0.51 * ra[i] + 0.49 * ra[j], 0.51 * dec[i] + 0.49 * dec[j], [i, j], "merged")
    for _ in range(n // 20):
        made.put(rng.uniform(ra.min(), ra.max()), rng.uniform(dec.min(), dec.max()), [], "new")
    order = rng.permutation(len(made.ra))
    out = np.zeros(len(order), rows.dtype)
    out[:] = rows[rng.integers(0, n, len(order))]
    out["sourceid"] = np.arange(len(order))
    out["ra"], out["dec"] = np.array(made.ra)[order], np.array(made.dec)[order]
    target.parent.mkdir(parents=True, exist_ok=True)
    table = fits.BinTableHDU(out, header=headers[1])
    fits.HDUList([fits.PrimaryHDU(header=headers[0]), table]).writeto(target, overwrite=True)
    links: Links = {(int(rows["sourceid"][i]), None): "lost" for i in gone.tolist()}
    for place, k in enumerate(order.tolist()):
        for i in made.ancestors[k]:
            links[int(rows["sourceid"][i]), place] = made.kind[k]
        if not made.ancestors[k]:
            links[None, place] = "new"
    return links


def _nearest(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separation of each position from its nearest neighbour in arcsec, and the row of that."""
    sky = SkyCoord(ra, dec, unit="deg")
    other, separation, _ = match_coordinates_sky(sky, sky, nthneighbor=2)
    return separation.arcsec, np.asarray(other)
