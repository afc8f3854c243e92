"""What became of objects: counts against a plain count, kinds against small scenes that can be judged by eye."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.kernels.lineage import (
    LOST,
    MERGED,
    MOVED,
    NEW,
    SAME,
    SPLIT,
    Flows,
    Generation,
    add_flows,
    count_flows,
    trace,
)
from ztfmatch.core.kernels.sphere import unit_vectors

ARCSEC = 1.0 / 3600.0

detections = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30)


def flows_of(rows: list[tuple[int, int]]) -> Flows:
    old, new = (np.array([row[i] for row in rows], np.int64) for i in range(2))
    return count_flows(old, new)


def as_counts(flows: Flows) -> dict[tuple[int, int], int]:
    pairs = zip(flows.old.tolist(), flows.new.tolist(), strict=True)
    return dict(zip(pairs, flows.count.tolist(), strict=True))


@given(rows=detections, more=detections)
def test_count_flows_equals_a_plain_count_and_sums_add_up(
    rows: list[tuple[int, int]], more: list[tuple[int, int]]
) -> None:
    assert as_counts(flows_of(rows + more)) == Counter(rows + more)
    assert as_counts(add_flows(flows_of(rows), flows_of(more))) == Counter(rows + more)


T = 10**16 + 7
"""A transient."""


def generation(first: int, *east_arcsec: float, transient: bool = False) -> Generation:
    """Objects on the equator, at offsets from one place, and perhaps a transient there."""
    ids = [*range(first, first + len(east_arcsec)), *([T] if transient else [])]
    east = np.array([*east_arcsec, *([0.0] if transient else [])])
    n = len(ids)
    xyz = unit_vectors(10.0 + east * ARCSEC, np.zeros(n))
    return Generation(np.array(ids, np.int64), xyz, np.linspace(15.0, 16.0, n) if n else np.zeros(0))


@pytest.mark.parametrize(
    ("before", "after", "rows", "expected"),
    [
        ((0.0,), (0.05,), [(1, 11, 5)], [(1, 11, SAME)]),
        ((0.0,), (0.5,), [(1, 11, 5)], [(1, 11, MOVED)]),
        ((0.0,), (-0.6, 0.6), [(1, 11, 5), (1, 12, 5)], [(1, 11, SPLIT), (1, 12, SPLIT)]),
        ((-0.6, 0.6), (0.0,), [(1, 11, 5), (2, 11, 4)], [(1, 11, MERGED), (2, 11, MERGED)]),
        ((0.0,), (), [(1, 0, 5)], [(1, 0, LOST)]),
        ((), (0.0,), [(0, 11, 5)], [(0, 11, NEW)]),
        # a few strays of a lost object near another: no link
        ((0.0, 1.4), (1.4,), [(1, 0, 9), (1, 11, 1), (2, 11, 20)], [(1, 0, LOST), (2, 11, SAME)]),
        # half of the epochs make a link, less do not
        ((0.0,), (0.5,), [(1, 11, 5), (1, 0, 5)], [(1, 11, MOVED)]),
        ((0.0,), (0.5,), [(1, 11, 4), (1, 0, 5)], [(1, 0, LOST), (0, 11, NEW)]),
        # divided: parts of a quarter and more that are together half
        ((0.0,), (-0.6, 0.6), [(1, 11, 5), (1, 12, 15)], [(1, 11, SPLIT), (1, 12, SPLIT)]),
        ((0.0,), (-0.6, 0.6), [(1, 11, 4), (1, 12, 15)], [(1, 12, MOVED), (0, 11, NEW)]),
        ((0.0,), (-0.6, 0.6), [(1, 11, 5), (1, 12, 5), (1, 0, 10)], [(1, 11, SPLIT), (1, 12, SPLIT)]),
        ((0.0,), (-0.6, 0.6), [(1, 11, 5), (1, 12, 5), (1, 0, 11)], [(1, 0, LOST), (0, 11, NEW), (0, 12, NEW)]),
        # a part of what is mostly another's is none
        ((0.0, 0.7), (0.0, 0.7), [(1, 11, 6), (1, 12, 4), (2, 12, 9)], [(1, 11, SAME), (2, 12, SAME)]),
        # what brings less than a quarter is merged with the other, which stays what it is
        ((0.0, 0.7), (0.0,), [(1, 11, 9), (2, 11, 2)], [(1, 11, SAME), (2, 11, MERGED)]),
        ((0.0, 0.7), (0.0,), [(1, 11, 9), (2, 11, 3)], [(1, 11, MERGED), (2, 11, MERGED)]),
        # to a transient by half alone, and beside a successor too
        ((0.0,), (0.0,), [(1, T, 9)], [(1, T, LOST), (0, 11, NEW)]),
        ((0.0,), (0.0,), [(1, T, 3), (1, 11, 6)], [(1, 11, SAME)]),
        ((0.0,), (0.0,), [(1, T, 6), (1, 11, 6)], [(1, 11, SAME), (1, T, SPLIT)]),
        ((0.0,), (), [(1, T, 4), (1, 0, 5)], [(1, 0, LOST)]),
        # from a transient, whose object is none of the new one's ancestors
        ((0.0,), (0.0,), [(1, 11, 9), (T, 11, 9)], [(1, 11, SAME), (T, 11, MERGED)]),
        ((), (0.0,), [(T, 11, 4), (T, 0, 4)], [(T, 11, SAME)]),
        # never detected: by place, if within the radius, each the nearest of the other
        ((0.0,), (0.04,), [], [(1, 11, SAME)]),
        ((0.0,), (2.0,), [], [(1, 0, LOST), (0, 11, NEW)]),
        ((0.0,), (0.5, -0.6), [], [(1, 11, MOVED), (0, 12, NEW)]),
        ((0.0, 1.0), (0.9,), [], [(2, 11, SAME), (1, 0, LOST)]),
        # no part in what is said of those that were
        ((0.0,), (0.0, 1.0), [(1, 11, 5)], [(1, 11, SAME), (0, 12, NEW)]),
        ((0.0, 1.0), (0.0,), [(1, 11, 5)], [(1, 11, SAME), (2, 0, LOST)]),
        ((0.0, 1.0), (0.0, 1.02), [(1, 11, 5), (1, 12, 1)], [(1, 11, SAME), (2, 12, SAME)]),
        ((0.0,), (0.02,), [(1, 0, 5)], [(1, 0, LOST), (0, 11, NEW)]),
    ],
)
def test_trace_literal_scenes(
    before: tuple[float, ...],
    after: tuple[float, ...],
    rows: list[tuple[int, int, int]],
    expected: list[tuple[int, int, int]],
) -> None:
    flows = flows_of([(old, new) for old, new, number in rows for _ in range(number)])
    sides = [
        generation(first, *places, transient=any(row[i] == T for row in rows))
        for i, (first, places) in enumerate(((1, before), (11, after)))
    ]
    lineage = trace(*sides, flows, 1.5)
    told = list(zip(lineage.old.tolist(), lineage.new.tolist(), lineage.kind.tolist(), strict=True))
    assert sorted(told) == sorted(expected)
    assert told == sorted(told, key=lambda row: (row[0] == 0, row))


def test_trace_separations_magnitudes_and_fractions() -> None:
    rows = [(1, 11)] * 6 + [(1, 12)] * 1 + [(1, T)] * 1 + [(1, 0)] * 2 + [(0, 11)] * 3
    lineage = trace(generation(1, 0.0), generation(11, 0.5, 1.2, transient=True), flows_of(rows), 1.5)
    assert lineage.separation[0] == pytest.approx(0.5, abs=1e-9)
    assert lineage.dmag.tolist()[:1] == [0.0]
    assert lineage.shared.tolist() == [6, 0]
    assert lineage.fraction_of_old[0] == pytest.approx(6 / 10)
    assert lineage.fraction_of_new[0] == pytest.approx(6 / 9)
    places = lineage.places
    assert [part.tolist() for part in (places.in_objects, places.in_transients, places.orphaned)] == [
        [7, 0], [1, 0], [2, 0],
    ]  # fmt: skip
