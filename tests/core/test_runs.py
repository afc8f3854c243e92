"""Items some at a time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.runs import bounded_runs, chunks


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([3, 3, 4], [[3, 3, 4]]),
        ([3, 3, 5], [[3, 3], [5]]),
        ([99], [[99]]),
        ([1, 99, 1, 0], [[1], [99], [1, 0]]),
    ],
)
def test_runs_of_sizes_are_as_long_as_they_may(sizes: list[int], expected: list[list[int]]) -> None:
    assert list(bounded_runs(sizes, int, 10)) == expected


@given(st.lists(st.integers(0, 12)), st.integers(1, 20))
def test_runs_of_any_sizes_keep_the_order_and_cannot_be_joined(sizes: list[int], most: int) -> None:
    found = list(bounded_runs(sizes, int, most))
    assert list(itertools.chain.from_iterable(found)) == sizes
    assert all(len(run) == 1 or sum(run) <= most for run in found)
    assert all(sum(one) + other[0] > most for one, other in itertools.pairwise(found))


def test_chunks_of_items_have_their_number_but_for_the_last() -> None:
    assert list(chunks("abcde", 2)) == [("a", "b"), ("c", "d"), ("e",)]
