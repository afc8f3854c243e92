"""Continuous corrections against SciPy's splines and formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import bisplev

from ztfmatch.core.io.smoothsets import between
from ztfmatch.core.kernels.smoothcorrections import (
    SmoothExposures,
    SmoothTables,
    curve_value,
    smoothly_corrected,
    spline_values,
)

KNOTS_X = np.array([0.5, 0.5, 0.5, 60.0, 900.0, 1800.0, 3072.5, 3072.5, 3072.5])
KNOTS_Y = np.array([0.5, 0.5, 0.5, 200.0, 3000.0, 3080.5, 3080.5, 3080.5])
NX, NY = len(KNOTS_X) - 3, len(KNOTS_Y) - 3


def by_scipy(coefficients: np.ndarray, x: float, y: float) -> float:
    return float(bisplev(x, y, (KNOTS_X, KNOTS_Y, coefficients.reshape(NY, NX).T.ravel(), 2, 2)))


@given(st.integers(0, 2**32 - 1))
def test_spline_values_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(0.0, 0.01, NX * NY)
    x, y = rng.uniform(0.5, 3072.5, 20), rng.uniform(0.5, 3080.5, 20)
    x[:4], y[:2] = [0.5, 3072.5, 60.0, 900.0], [3080.5, 0.5]
    want = [by_scipy(coefficients, a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(spline_values(KNOTS_X, KNOTS_Y, coefficients, x, y), want, rtol=0, atol=1e-14)


CURVE = np.array([13.0, 19.25, 0.001, -0.0004, 16.0, 0.0003])


def test_curve_value_is_continuous_at_its_ends_and_constant_or_fading_beyond() -> None:
    def formula(m: float) -> float:
        return 0.001 * (m - 19.25) - 0.0004 * (m - 19.25) ** 2 + 0.0003 * min(m - 16.0, 0.0) ** 2

    for mag in (13.0, 14.5, 16.0, 18.0, 19.25):
        assert curve_value(CURVE, mag, 1.0) == pytest.approx(formula(mag), abs=1e-15)
    assert curve_value(CURVE, 25.0, 1.0) == 0.0
    assert curve_value(CURVE, 10.0, 0.0) == pytest.approx(formula(13.0), abs=1e-15)
    assert curve_value(CURVE, 12.5, 1.0) == pytest.approx(0.5 * formula(13.0))
    assert curve_value(CURVE, 11.9, 1.0) == 0.0
    fine = np.arange(11.0, 21.0, 1e-4)
    for fade in (0.0, 1.0):
        values = np.array([curve_value(CURVE, m, fade) for m in fine])
        assert np.abs(np.diff(values)).max() < 2e-6


def test_smoothly_corrected_terms_and_flags_by_hand() -> None:
    rng = np.random.default_rng(1)
    maps = rng.normal(0.0, 0.01, (2, NX * NY))
    valid = np.array([[True, False]] * 2)
    colour = np.array([[0.7, 0.02, 0.05]] * 2)
    tables = SmoothTables(
        np.tile(KNOTS_X, (2, 1)), np.tile(KNOTS_Y, (2, 1)), maps, np.stack([CURVE, CURVE * [1, 1, 2, 2, 1, 2]]),
        colour, valid, (2, 1), 0.0,
    )  # fmt: skip
    gradient = np.zeros((4, 6))
    gradient[1] = [0.01, 0.02, -0.03, 0.001, 0.002, 0.003]
    terms = SmoothExposures(
        np.array([0, 0, 0, -1], np.int32), np.array([0, 1, 1, -1], np.int32), np.array([0.0, 0.25, 1.0, 0.0]),
        np.array([0.005, np.nan, 0.005, 0.005]), gradient, np.tile([0.1, 0.2, 0.004], (4, 1)),
    )  # fmt: skip
    mag = np.array([17.0, 15.0, 12.0, np.nan, 17.0, 20.0])
    x, y = np.array([100, 200, 2000, 10, 10, 700], "f4"), np.array([50, 2500, 10, 10, 10, 3000], "f4")
    colours = np.array([0.5, np.nan, 1.2, 0.7, 0.7, 0.7], "f4")
    exposure = np.array([0, 1, 2, 0, 3, 2])
    got, flags, blur = smoothly_corrected(mag, (x, y), colours, exposure, terms, tables)
    u, v = 2 * 200 / 3072 - 1, 2 * 2500 / 3080 - 1
    want = [
        curve_value(CURVE, 17.0, 0.0) + by_scipy(maps[0], 100, 50) + 0.005 - 0.2 * (0.02 - 0.2 * 0.05),
        1.25 * curve_value(CURVE, 15.0, 0.0) + 0.75 * by_scipy(maps[0], 200, 2500) + 0.25 * by_scipy(maps[1], 200, 2500)
        + 0.1 * 0.02 + 0.2 * 0.05
        + 0.01 + 0.02 * u - 0.03 * v + 0.001 * (u * u - 1 / 3) + 0.002 * u * v + 0.003 * (v * v - 1 / 3),
        2.0 * curve_value(CURVE, 13.0, 0.0) + 0.005 + 0.5 * (0.02 + 0.5 * 0.05),
        np.nan, 0.0, by_scipy(maps[1], 700, 3000) + 0.005,
    ]  # fmt: skip
    np.testing.assert_allclose(got, (mag - want).astype("f4"), rtol=1e-7)
    assert flags.tolist() == [1 | 2 | 4, 1 | 2 | 32 | 64 | 128, 8 | 16 | 4, 0, 0, 8 | 2 | 4]
    np.testing.assert_array_equal(blur, np.array([0, 0.004, 0, 0, 0, 0], "f4"))


def test_between_nodes_interpolates_and_steps_where_two_have_one_time() -> None:
    times = np.array([10.0, 20.0, 20.0, 40.0])
    before, after, weight = between(times, np.array([0.0, 10.0, 15.0, 20.0, 25.0, 40.0, 99.0]))
    assert before.tolist() == [0, 0, 0, 2, 2, 3, 3]
    assert after.tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert weight.tolist() == [0.0, 0.0, 0.5, 0.0, 0.25, 0.0, 0.0]
    just_before, _, part = between(times, np.array([np.nextafter(20.0, 0.0)]))
    assert (just_before[0], part[0]) == (0, pytest.approx(1.0))
