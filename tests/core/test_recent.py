"""What was asked for last."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.recent import Recent


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 20))
def test_recent_keeps_what_was_asked_for_last_up_to_its_size(asked: list[int], most: int) -> None:
    """A value has the size of its key: what is kept is the longest run of distinct last ones that fits."""
    recent, made = Recent[int, int](most, int), list[int]()
    for at, key in enumerate(asked):
        expected, size = set[int](), 0
        for earlier in dict.fromkeys(reversed(asked[:at])):
            size += earlier
            if size > most:
                break
            expected.add(earlier)
        before = len(made)
        assert recent.get(key, lambda key=key: made.append(key) or key) == key  # type: ignore[misc,func-returns-value]
        assert (len(made) == before) == (key in expected)


def test_recent_is_shared_by_threads() -> None:
    """A value that another thread made meanwhile is counted once, and so dropped once."""
    recent = Recent[int, int](3)

    def make() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(recent.get, 1, lambda: 1).result(timeout=30)

    assert recent.get(1, make) == 1
    for key in (2, 3):
        recent.get(key, lambda: 0)
    assert recent.get(1, lambda: -1) == 1
