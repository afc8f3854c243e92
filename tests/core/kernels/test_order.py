"""Order of rows against numpy's and python's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.kernels.order import order_by_group, out_of_order

ranked_rows = st.tuples(
    st.integers(-2, 5), st.sampled_from([0.0, 1.5, 2.5, -1.0]), st.integers(0, 3), st.integers(0, 3)
)


@settings(max_examples=200)
@given(st.lists(ranked_rows, max_size=60))
def test_order_by_group_equals_lexsort_whatever_the_ranks(keys: list[tuple[int, float, int, int]]) -> None:
    kinds = enumerate((np.int64, np.float64, np.int64, np.int32))
    group, time, tie, rank = (np.array([key[i] for key in keys], t) for i, t in kinds)
    expected = np.lexsort([tie, time, group])
    for got in (order_by_group(group, time, tie, 6, rank, 4), order_by_group(group, time, tie, 6)):
        np.testing.assert_array_equal(got, expected[group[expected] >= 0])


@pytest.mark.parametrize("ranks", [100, 10**6])
@pytest.mark.parametrize("seed", [1, None])
def test_order_by_group_many_rows_in_reverse_or_any_order_equals_lexsort(seed: int | None, ranks: int) -> None:
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(-1, 299), 100)
    rank = np.tile(np.arange(100, dtype=np.int32)[::-1], 300)
    if seed is not None:
        rank = rng.permuted(rank.reshape(300, 100), axis=1).ravel()
    time, tie = rank + rng.choice([0.0, 1.5], len(rank)), rng.integers(0, 5, len(rank))  # not quite in order of ranks
    expected = np.lexsort([tie, time, group])
    got = order_by_group(group, time, tie, 300, rank, ranks)
    np.testing.assert_array_equal(got, expected[group[expected] >= 0])


def test_order_by_group_no_groups_is_empty() -> None:
    none = np.zeros(2, np.int64)
    assert order_by_group(none - 1, np.zeros(2), none, 0, none.astype(np.int32), 1).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0, 2.0]), st.integers(0, 2)), min_size=1))
def test_out_of_order_is_what_python_says_of_tuples(keys: list[tuple[int, float, int]]) -> None:
    first, second, third = (np.array(key) for key in zip(*keys, strict=True))
    expected = [False, *(not (a < b) for a, b in itertools.pairwise(map(tuple, keys)))]
    assert out_of_order(first, second, third).tolist() == expected


def test_out_of_order_nan_is_after_nothing() -> None:
    ids, time = np.zeros(3, np.int64), np.array([1.0, np.nan, 2.0])
    assert out_of_order(ids, time, np.arange(3)).tolist() == [False, True, True]
