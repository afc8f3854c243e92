"""A crowded sky of which all is known: close stars, what exposures see of them, and two references that differ.

Stars stand in systems of one to three, 0.5 to 1.5 arcsec apart within each and 7 arcsec from the next. An exposure sees
a star with a probability and a scatter that depend on its magnitude; what stands nearer than the seeing separates is
one detection, at the centroid of the light. References lack stars, of a system the faintest, and have seeds that no
star belongs to, blends of two stars in one seed, and two seeds of one star.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from helpers import epochal_file, reference_file, rows_at

CENTRE = (90.0, 40.0)
SPACING_ARCSEC = 7.0
NIGHTS = 24


@dataclass(frozen=True)
class Stars:
    """All stars, shape (N,) each."""

    system: np.ndarray
    place: np.ndarray
    """Arcsec east and north, shape (N, 2)."""
    mag: np.ndarray

    @property
    def sigma(self) -> np.ndarray:
        """Scatter of a detection in each coordinate, arcsec."""
        return np.minimum(0.03 + 0.12 * 10 ** (0.3 * (self.mag - 20.0)), 0.3)

    @property
    def chance(self) -> np.ndarray:
        """Probability of a detection."""
        return 1.0 / (1.0 + np.exp((self.mag - 20.3) / 0.25))


def make_stars(rng: np.random.Generator, systems: int) -> Stars:
    """Systems of one to three stars on a grid, of 15 to 20.8 mag."""
    side = int(np.ceil(np.sqrt(systems)))
    number = rng.choice([1, 2, 2, 3], systems)
    places, owner = [], np.repeat(np.arange(systems), number)
    for i, n in enumerate(number.tolist()):
        middle = SPACING_ARCSEC * np.array([i % side - side / 2, i // side - side / 2])
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5, 2)
        turn = angle + rng.uniform(2.0, 4.0)
        off = np.array([[0.0, 0.0], [np.cos(angle), np.sin(angle)], [np.cos(turn), np.sin(turn)]])
        places.append(middle + off[:n] * np.array([1.0, *away])[:n, None])
    return Stars(owner, np.concatenate(places), rng.uniform(15.0, 20.8, len(owner)))


@dataclass
class Seeds:
    """Seeds of a reference, as they are put together."""

    place: list[np.ndarray] = field(default_factory=list)
    mag: list[float] = field(default_factory=list)
    stars: list[tuple[int, ...]] = field(default_factory=list)
    """Of which stars; a seed of none has the negative number of what it is."""
    part: list[bool] = field(default_factory=list)
    """Whether it is one of two seeds of one star."""

    def put(self, place: np.ndarray, mag: float, stars: tuple[int, ...], part: bool = False) -> None:
        self.place.append(place)
        self.mag.append(mag)
        self.stars.append(stars)
        self.part.append(part)


def make_references(rng: np.random.Generator, stars: Stars) -> tuple[Seeds, Seeds]:
    """What a reference holds, and the one that takes its place.

    Of a tenth of the systems both, or one of them, lack the faintest star, or all of them. A fifth of the systems are
    shifted in the second, by less than half of what separates their stars. 6 % of the pairs are one seed in one of
    them, 1 % of the seeds are two, and beside a fifth of the bright stars that stand alone either or both
    have a seed of nothing.
    """
    first, second = Seeds(), Seeds()
    for system in range(int(stars.system.max()) + 1):
        members = np.flatnonzero(stars.system == system)
        members = members[np.argsort(stars.mag[members])].tolist()
        shift = _shift(rng, stars.place[members], 3.0 * stars.sigma[members].max())
        blended = int(rng.integers(2)) if len(members) == 2 and rng.random() < 0.06 else -1
        lacking = int(rng.choice([0, 1, 2, 3], p=[0.86, 0.06, 0.06, 0.02])) if blended < 0 else 0
        missing = members[-1:] if rng.random() < 0.8 else members
        for number, seeds in enumerate((first, second)):
            at = stars.place + shift * number
            if number == blended:
                seeds.put(_centroid(at[members], stars.mag[members]), 17.0, tuple(members))
                continue
            for i in members:
                if not (lacking & (1 << number) and i in missing):
                    _put_star(rng, seeds, at[i], stars.mag[i], i)
        if not lacking and len(members) == 1 and stars.mag[members[0]] < 19.0:
            _put_ghost(rng, (first, second), stars.place[members[0]], (members[0], shift))
    return first, second


def _shift(rng: np.random.Generator, place: np.ndarray, scatter: float) -> np.ndarray:
    """How far the second reference is off, such that what an exposure sees of a star stays nearest to its seed."""
    apart = np.hypot(*(place[:, None] - place[None, :]).T) + np.eye(len(place)) * 1.5
    most = apart.min() / 2 - scatter
    angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.14, max(most, 0.14))
    return size * np.array([np.cos(angle), np.sin(angle)]) * float(most > 0.14 and rng.random() < 0.2)


def _put_star(rng: np.random.Generator, seeds: Seeds, at: np.ndarray, mag: float, star: int) -> None:
    if rng.random() < 0.01:
        off = 0.3 * np.array([1.0, 0.1])
        seeds.put(at - off, mag, (star,), True)
        seeds.put(at + off * 1.05, mag, (star,), True)
    else:
        seeds.put(at + rng.normal(0.0, 0.015, 2), mag, (star,))


def _put_ghost(
    rng: np.random.Generator, references: tuple[Seeds, Seeds], at: np.ndarray, of: tuple[int, np.ndarray]
) -> None:
    """A seed that nothing is ever detected at, 1 to 1.4 arcsec from a star, in either reference or in both."""
    star, shift = of
    if rng.random() < 0.2:
        angle, kept = rng.uniform(0, 2 * np.pi), int(rng.integers(1, 4))
        place = at + rng.uniform(1.0, 1.4) * np.array([np.cos(angle), np.sin(angle)])
        for number, seeds in enumerate(references):
            if kept & (1 << number):
                seeds.put(place + shift * number + rng.normal(0.0, 0.01, 2), 21.5, (-1 - star,))


def _centroid(place: np.ndarray, mag: np.ndarray) -> np.ndarray:
    light = 10.0 ** (-0.4 * mag)
    return np.asarray((light[:, None] * place).sum(axis=0) / light.sum())


def make_exposure(rng: np.random.Generator, stars: Stars) -> tuple[np.ndarray, np.ndarray]:
    """Places of the detections of an exposure, shape (K, 2), and of which star each is."""
    seen = rng.random(len(stars.mag)) < stars.chance
    place = stars.place + rng.normal(0.0, 1.0, (len(seen), 2)) * stars.sigma[:, None]
    limit = rng.choice([0.4, 0.6, 0.9], p=[0.6, 0.3, 0.1])
    order = np.argsort(stars.mag)
    for i in order[seen[order]].tolist():
        near = np.flatnonzero(seen & (stars.system == stars.system[i]) & (stars.mag > stars.mag[i]))
        lost = near[np.hypot(*(stars.place[near] - stars.place[i]).T) < limit] if seen[i] else near[:0]
        if len(lost):
            seen[lost] = False
            place[i] = _centroid(place[[i, *lost]], stars.mag[[i, *lost]])
    which = rng.permutation(np.flatnonzero(seen))
    return place[which], which


def sky(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of places."""
    dec = CENTRE[1] + place[:, 1] / 3600.0
    return CENTRE[0] + place[:, 0] / 3600.0 / np.cos(np.radians(dec)), dec


def write_reference(directory: Path, seeds: Seeds) -> Path:
    """Write a reference; sourceids are the rows of the seeds."""
    rows = rows_at(*sky(np.array(seeds.place)), mag=np.array(seeds.mag) - 26.0)
    return reference_file(directory, rows)


def write_exposures(directory: Path, exposures: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Path]:
    """Write catalogs, one a night; sourceids are the rows of the detections."""
    return [epochal_file(directory, rows_at(*sky(place)), night) for night, (place, _) in enumerate(exposures)]
