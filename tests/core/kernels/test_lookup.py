"""Rows of ids: against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.kernels.lookup import build_map, find_rows, find_sorted

IDS = st.lists(st.integers(0, 2**62), max_size=40, unique=True)


@pytest.mark.parametrize("way", ["map", "bisection"])
@given(known=IDS, others=IDS, data=st.data())
def test_find_of_any_ids_is_their_row_or_minus_one(
    way: str, known: list[int], others: list[int], data: st.DataObject
) -> None:
    known = sorted(known)
    wanted = data.draw(st.permutations([*known, *others]))
    row_of = {value: row for row, value in enumerate(known)}
    ids, values = np.array(known, np.int64), np.array(wanted, np.int64)
    found = find_rows(build_map(ids), values) if way == "map" else find_sorted(ids, values)
    assert found.tolist() == [row_of.get(value, -1) for value in wanted]
