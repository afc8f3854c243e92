"""Seeds of simulated stars, from sparse to confused, as six dithered fields in three filters have them."""

from __future__ import annotations

import numpy as np

QUADRANT_DEG2 = 0.7457
PLACES = {"dec 20": (180.0, 20.0), "RA 0": (0.0, 35.0), "pole": (0.0, 90.0)}
UNITS = 18
BLEND_ARCSEC = 1.5


def around(place: tuple[float, float], east: np.ndarray, north: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions at offsets in degrees on the plane tangent at a place."""
    ra, dec = np.radians(place)
    normal = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    first = np.array([-np.sin(ra), np.cos(ra), 0.0])
    xyz = normal + np.radians(east)[:, None] * first + np.radians(north)[:, None] * np.cross(normal, first)
    xyz /= np.linalg.norm(xyz, axis=1)[:, None]
    return np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])) % 360.0, np.degrees(np.arcsin(np.clip(xyz[:, 2], -1, 1)))


def blended(east: np.ndarray, north: np.ndarray, mag: np.ndarray) -> tuple[np.ndarray, ...]:
    """Seeds of stars: those near a brighter one are taken into it."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(np.stack([east, north], axis=1)).query_pairs(BLEND_ARCSEC / 3600.0, output_type="ndarray")
    flux = 10 ** (-0.4 * mag)
    bright = np.where(mag[pairs[:, 0]] <= mag[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    faint = pairs.sum(axis=1) - bright
    kept = np.ones(len(mag), bool)
    kept[faint] = False
    light, x, y = flux.copy(), flux * east, flux * north
    for total, value in ((light, flux[faint]), (x, (flux * east)[faint]), (y, (flux * north)[faint])):
        np.add.at(total, bright, value)
    return np.flatnonzero(kept), (x / light)[kept], (y / light)[kept]


def scene(density: int, place: tuple[float, float], seed: int) -> dict[str, np.ndarray]:
    """Seeds of six fields in three filters of one patch, by unit: positions, S/N, magnitude and star."""
    rng = np.random.default_rng(seed)
    size = min(1.0, np.sqrt(8_000 / density))  # so many stars at most
    n = rng.poisson(density / QUADRANT_DEG2 * (size * 0.86) ** 2)
    east, north = rng.uniform(-0.43, 0.43, (2, n)) * size
    r = 22.0 - rng.exponential(1.6, n)
    parts: list[dict[str, np.ndarray]] = []
    for unit in range(UNITS):
        mag = r + (0.6, 0.0, -0.3)[unit % 3] * rng.uniform(0.5, 1.5, n)
        star, x, y = blended(east, north, mag)
        snr = np.clip(10 ** (0.4 * (22.0 - mag[star])) * 6.0, 3.0, 500.0)
        seen = rng.random(len(star)) < np.where(mag[star] < 20.0, 0.995, 0.85)
        dither = rng.uniform(-0.05, 0.05, 2) * size
        seen &= (np.abs(x - dither[0]) < 0.4 * size) & (np.abs(y - dither[1]) < 0.4 * size)
        error = np.hypot(0.06, 2.0 / 2.355 / snr) / 3600.0
        x, y = x + rng.normal(0, error), y + rng.normal(0, error)
        ra, dec = around(place, x[seen], y[seen])
        part = {"ra": ra, "dec": dec, "snr": snr[seen], "mag": r[star[seen]], "star": star[seen]}
        parts.append(part | {"unit": np.full(len(ra), unit, np.int32)})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def pairs_of(*keys: np.ndarray) -> int:
    """Pairs of rows with the same keys."""
    counts = np.unique(np.stack(keys), axis=1, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def purity_and_completeness(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Of the pairs of objects that are found to be one star those that are, and of those that are those found."""
    same = pairs_of(found, true)
    return same / pairs_of(found), same / pairs_of(true)
