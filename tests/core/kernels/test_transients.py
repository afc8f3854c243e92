"""Linking of orphans, against a matcher in plain Python over all pairs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.kernels.transients import Groups, link_detections, most_frequent

ARCSEC = 1.0 / 3600.0
RADIUS = 1.5


def brute_force(xyz: np.ndarray, exposure: np.ndarray) -> list[list[int]]:
    """Rows of each transient, founder first, as the module says; over all pairs."""
    chord2 = ((xyz[:, None, :] - xyz[None, :, :]) ** 2).sum(axis=-1)
    limit = (2.0 * np.sin(np.radians(RADIUS * ARCSEC) / 2.0)) ** 2
    groups: dict[int, list[int]] = {}
    for number in np.unique(exposure).tolist():
        rows = np.flatnonzero(exposure == number).tolist()
        wanted: dict[int, list[tuple[float, int]]] = {}
        for i in rows:
            near = sorted((chord2[i, f], f) for f in groups if chord2[i, f] <= limit)
            if near:
                wanted.setdefault(near[0][1], []).append((near[0][0], i))
        taken = {min(rivals)[1]: f for f, rivals in wanted.items()}
        for i in rows:
            if i in taken:
                groups[taken[i]].append(i)
            else:
                groups[i] = [i]
    return [rows for _, rows in sorted(groups.items()) if len(rows) > 1]


def as_lists(groups: Groups) -> list[list[int]]:
    return [groups.row[a:b].tolist() for a, b in zip(groups.offsets[:-1], groups.offsets[1:], strict=True)]


def sky(rng: np.random.Generator, n: int, size_arcsec: float, at: tuple[float, float]) -> np.ndarray:
    x, y = rng.uniform(-size_arcsec, size_arcsec, (2, n)) * ARCSEC
    return unit_vectors((at[0] + x / np.cos(np.radians(at[1]))) % 360.0, at[1] + y)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 120),
    st.integers(1, 12),
    st.sampled_from([2.0, 6.0, 30.0]),
    st.sampled_from([(10.0, 20.0), (0.0, -60.0), (123.0, 89.9995)]),
)
def test_link_detections_any_equals_brute_force(
    seed: int, n: int, exposures: int, size: float, at: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    xyz = sky(rng, n, size, at)
    exposure = np.sort(rng.integers(0, exposures, n)).astype(np.int32)
    groups = link_detections(xyz, exposure, np.zeros(n, bool), RADIUS)
    assert as_lists(groups) == brute_force(xyz, exposure)
    assert groups.founder.tolist() == [rows[0] for rows in as_lists(groups)]
    assert not len(groups.undecided)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 150), st.integers(2, 12), st.integers(1, 11))
def test_link_detections_later_exposures_change_no_link(seed: int, n: int, exposures: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    xyz = sky(rng, n, 5.0, (200.0, 33.0))
    exposure = np.sort(rng.integers(0, exposures, n)).astype(np.int32)
    first = int(np.searchsorted(exposure, min(cut, exposures - 1)))
    none = np.zeros(n, bool)
    before = as_lists(link_detections(xyz[:first], exposure[:first], none[:first], RADIUS))
    after = {rows[0]: rows for rows in as_lists(link_detections(xyz, exposure, none, RADIUS))}
    for rows in before:
        assert after[rows[0]][: len(rows)] == rows


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 400), st.integers(2, 10))
def test_link_detections_of_a_part_decides_what_the_whole_gives(seed: int, n: int, exposures: int) -> None:
    """Of what lies north of a line with all within 30 arcsec: what is decided, well off the edge, is the whole's."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-40.0, 40.0, (2, n))
    xyz = unit_vectors(150.0 + x * ARCSEC / np.cos(np.radians(20.0)), 20.0 + y * ARCSEC)
    exposure = np.sort(rng.integers(0, exposures, n)).astype(np.int32)
    whole = as_lists(link_detections(xyz, exposure, np.zeros(n, bool), RADIUS))
    seen = np.flatnonzero(y > -20.0)
    edge = y[seen] <= -20.0 + 3.0 * RADIUS + 1e-6
    part = link_detections(xyz[seen], exposure[seen], edge, RADIUS)
    found = [seen[rows].tolist() for rows in as_lists(part)]
    assert all(rows in whole for rows in found)
    inside = [rows for rows in whole if (y[rows] > -20.0).all()]
    assert len(found) + len(part.undecided) >= len(inside)


def test_link_detections_part_without_chains_decides_all_but_the_edge() -> None:
    y = np.array([0.0, 0.1, 10.0, 10.1, 20.0, 20.1])
    xyz = unit_vectors(np.full(6, 5.0), y * ARCSEC)
    exposure = np.array([0, 1, 2, 3, 4, 5], np.int32)
    groups = link_detections(xyz, exposure, y < 4.5, RADIUS)
    assert as_lists(groups) == [[2, 3], [4, 5]]
    assert groups.undecided.tolist() == [0]


def test_link_detections_literals() -> None:
    """Two in the first exposure, 2" apart; the second exposure has one between, nearer the second, and one alone."""
    xyz = unit_vectors(np.zeros(5), np.array([0.0, 2.0, 1.1, 1.2, 9.0]) * ARCSEC)
    groups = link_detections(xyz, np.array([0, 0, 1, 1, 1], np.int32), np.zeros(5, bool), RADIUS)
    assert as_lists(groups) == [[1, 3]]  # 1.2 is nearer to 2.0 than 1.1, which founds a transient of its own


def test_link_detections_of_one_exposure_makes_no_transient() -> None:
    xyz = unit_vectors(np.zeros(3), np.array([0.0, 0.1, 0.2]) * ARCSEC)
    assert as_lists(link_detections(xyz, np.zeros(3, np.int32), np.zeros(3, bool), RADIUS)) == []


def test_link_detections_radius_not_positive_raises() -> None:
    with pytest.raises(ValueError, match=r"radius 0.0 arcsec must be positive"):
        link_detections(np.zeros((0, 3)), np.zeros(0, np.int32), np.zeros(0, bool), 0.0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40))
def test_most_frequent_equals_a_plain_count(rows: list[tuple[int, int]]) -> None:
    group, ids = (np.array([row[i] for row in rows], np.int64) for i in range(2))
    found, counts = most_frequent(group, ids, 6)
    for number in range(6):
        lost = Counter(i for of, i in rows if of == number and i)
        most = max(lost, key=lambda i: (lost[i], -i), default=0)
        assert (found[number], counts[number]) == (most, sum(lost.values()))
