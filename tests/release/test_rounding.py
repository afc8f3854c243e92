"""Rounding to significant bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ztfmatch.release.kernels.rounding import rounded


@example([3.0, 6.0, -3.0], 1)
@given(st.lists(st.floats(width=32, allow_subnormal=False), min_size=1, max_size=20), st.integers(1, 24))
def test_rounded_is_the_nearest_number_of_so_many_bits(values: list[float], bits: int) -> None:
    given_values = np.array(values, np.float32)
    got = rounded(given_values, bits)
    for value, result in zip(given_values.tolist(), got.tolist(), strict=True):
        if not math.isfinite(value) or value == 0.0:
            assert result == value or math.isnan(value)
        elif math.isfinite(result):
            mantissa, exponent = math.frexp(value)
            assert result == math.ldexp(round(mantissa * 2**bits), exponent - bits)  # Python rounds to even, too
            assert abs(result - value) <= abs(value) * 2.0**-bits
        else:
            assert abs(value) > 3e38 * (1 - 2.0**-bits)


def test_rounded_does_not_change_its_input_and_refuses_other_bits() -> None:
    values = np.array([0.123456, np.nan, np.inf], np.float32)
    before = values.copy()
    rounded(values, 3)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(rounded(values, 24), before)
    for bits in (0, 25):
        with pytest.raises(ValueError, match=f"{bits} significant bits; expected 1..24"):
            rounded(values, bits)
