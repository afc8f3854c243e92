"""Stars by the definition, in plain Python over all pairs of the sky: shares no code with the package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FARTHEST_ARCSEC = 1.5
SIGMAS = 5.0


def error_of(snr: float) -> float:
    """Error of a position in one axis, arcsec."""
    noise = 2.0 / 2.355 / max(snr if np.isfinite(snr) else 3.0, 3.0)
    return float(np.hypot(0.1, noise))


def separations(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Arcsec between all pairs, by the haversine formula."""
    lon, lat = np.radians(ra), np.radians(dec)
    a = np.sin((lat[:, None] - lat) / 2) ** 2
    b = np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    away = np.degrees(2 * np.arcsin(np.sqrt(np.minimum(a + b, 1.0)))) * 3600.0
    return np.asarray((away + away.T) / 2)


def stars_of(
    ids: Sequence[int], unit: Sequence[object], ra: np.ndarray, dec: np.ndarray, error: np.ndarray
) -> set[frozenset[int]]:
    """The stars that objects are of, each as the set of its objectids."""
    n = len(ids)
    away = separations(np.asarray(ra, float), np.asarray(dec, float))

    def in_reach(i: int, j: int) -> bool:
        within = away[i, j] <= min(SIGMAS * np.hypot(error[i], error[j]), FARTHEST_ARCSEC)
        return unit[i] != unit[j] and bool(within)

    nearest: list[dict[object, int]] = []
    for i in range(n):
        best: dict[object, int] = {}
        for j in sorted(range(n), key=lambda j: (away[i, j], ids[j])):
            if in_reach(i, j):
                best.setdefault(unit[j], j)
        nearest.append(best)
    partners = [{j for j in nearest[i].values() if nearest[j].get(unit[i]) == i} for i in range(n)]
    rank = [(-len(of), round(sum(away[i, j] ** 2 for j in of), 9), ids[i]) for i, of in enumerate(partners)]
    followed: dict[int, set[int]] = {}
    for i in range(n):
        followed.setdefault(min({i} | partners[i], key=lambda j: rank[j]), set()).add(ids[i])
    return {frozenset(members) for members in followed.values()}
