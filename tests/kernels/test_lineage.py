"""What became of objects: counts against a plain count, kinds against small scenes that can be judged by eye."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.kernels.lineage import (
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
from ztfmatch.kernels.sphere import unit_vectors

ARCSEC = 1.0 / 3600.0

detections = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans()), max_size=30)


def flows_of(rows: list[tuple[int, int, bool, bool]]) -> Flows:
    old, new, was, now = (np.array([row[i] for row in rows]) for i in range(4))
    return count_flows(old.astype(np.int64), new.astype(np.int64), was.astype(bool), now.astype(bool))


def as_counts(flows: Flows) -> dict[tuple[int, int], tuple[int, ...]]:
    columns = (getattr(flows, name).tolist() for name in Flows.__dataclass_fields__)
    return {(old, new): tuple(counts) for old, new, *counts in zip(*columns, strict=True)}


@given(rows=detections, more=detections)
def test_count_flows_equals_a_plain_count_and_sums_add_up(
    rows: list[tuple[int, int, bool, bool]], more: list[tuple[int, int, bool, bool]]
) -> None:
    expected: dict[str, Counter[tuple[int, int]]] = {name: Counter() for name in ("all", "was", "now", "both")}
    for old, new, was, now in rows + more:
        counted = {"all": True, "was": was, "now": now, "both": was and now}
        for name, counter in expected.items():
            counter[old, new] += counted[name]
    plain = {pair: tuple(expected[name][pair] for name in expected) for pair in expected["all"]}
    assert as_counts(flows_of(rows + more)) == plain
    assert as_counts(add_flows(flows_of(rows), flows_of(more))) == plain


def generation(first: int, *east_arcsec: float) -> Generation:
    """Objects on the equator, at offsets from one place."""
    n = len(east_arcsec)
    xyz = unit_vectors(10.0 + np.array(east_arcsec) * ARCSEC, np.zeros(n))
    return Generation(np.arange(first, first + n), xyz, np.linspace(15.0, 16.0, n) if n else np.zeros(0))


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
        # never detected: by place, if within the radius
        ((0.0,), (0.04,), [], [(1, 11, SAME)]),
        ((0.0,), (2.0,), [], [(1, 0, LOST), (0, 11, NEW)]),
        ((0.0,), (-0.6, 0.6), [(1, 11, 3)], [(1, 11, SPLIT), (1, 12, SPLIT)]),
    ],
)
def test_trace_literal_scenes(
    before: tuple[float, ...],
    after: tuple[float, ...],
    rows: list[tuple[int, int, int]],
    expected: list[tuple[int, int, int]],
) -> None:
    flows = flows_of([(old, new, old > 0, new > 0) for old, new, number in rows for _ in range(number)])
    lineage = trace(generation(1, *before), generation(11, *after), flows, 1.5)
    assert list(zip(lineage.old.tolist(), lineage.new.tolist(), lineage.kind.tolist(), strict=True)) == expected


def test_trace_separations_magnitudes_and_fractions() -> None:
    rows = (
        [(1, 11, True, True)] * 6 + [(1, 11, True, False)] * 2 + [(1, 0, True, False)] * 2 + [(0, 11, False, True)] * 3
    )
    lineage = trace(generation(1, 0.0), generation(11, 0.5), flows_of(rows), 1.5)
    assert lineage.separation[0] == pytest.approx(0.5, abs=1e-9)
    assert lineage.dmag.tolist() == [0.0]
    assert lineage.shared.tolist() == [6]
    assert lineage.fraction_of_old[0] == pytest.approx(6 / 10)
    assert lineage.fraction_of_new[0] == pytest.approx(6 / 9)
