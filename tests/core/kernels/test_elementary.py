"""Elementary functions, against 40 digits by Python's decimal, and the C library's arc tangent."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.kernels.elementary import atan2, atan2_of, exp, log10, log10_of


def ulps(value: float, exact: Decimal) -> float:
    """Error in units of the last place."""
    return float(abs(Decimal(value) - exact) / Decimal(math.ulp(float(exact))))


@given(st.floats(5e-324, 1.7e308))
def test_log10_any_is_within_two_units_of_the_last_place(x: float) -> None:
    with localcontext(prec=40):
        assert ulps(log10(x), Decimal(x).log10()) < 2.0


@given(st.floats(-700.0, 709.0, exclude_max=True))
def test_exp_any_is_within_two_units_of_the_last_place(x: float) -> None:
    with localcontext(prec=40):
        assert ulps(exp(x), Decimal(x).exp()) < 2.0


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_atan2_any_is_within_two_units_of_the_last_place(y: float, x: float) -> None:
    expected = math.atan2(y, x)
    if x == 0.0 and y == 0.0:
        assert atan2(y, x) == 0.0
    else:
        assert abs(atan2(y, x) - expected) <= 2.0 * math.ulp(expected)


def test_elementary_literals() -> None:
    assert [log10(10.0**k) for k in (-3, 0, 1, 2, 5)] == [-3.0, 0.0, 1.0, 2.0, 5.0]
    assert (exp(0.0), exp(800.0), exp(-800.0), exp(-np.inf)) == (1.0, np.inf, 0.0, 0.0)
    quarter = math.pi / 4.0
    assert [atan2(y, x) for y, x in ((1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (0.0, -1.0), (-2.0, 0.0))] == [
        quarter, 3.0 * quarter, -3.0 * quarter, 4.0 * quarter, -2.0 * quarter,
    ]  # fmt: skip


@pytest.mark.parametrize(("x", "expected"), [(0.0, -np.inf), (np.inf, np.inf), (-1.0, np.nan), (np.nan, np.nan)])
def test_log10_of_what_has_none(x: float, expected: float) -> None:
    np.testing.assert_equal(log10(x), expected)
    np.testing.assert_equal(math.isnan(exp(x)), math.isnan(x))


def test_functions_of_arrays_are_those_of_each_value() -> None:
    y, x = np.random.default_rng(2).normal(0.0, 5.0, (2, 1000))
    assert atan2_of(y, x).tolist() == [atan2(*pair) for pair in zip(y.tolist(), x.tolist(), strict=True)]
    assert log10_of(np.abs(x)).tolist() == [log10(value) for value in np.abs(x).tolist()]
