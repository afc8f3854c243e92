"""Rounding and sexagesimal texts, against Python's own ``round`` and format."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.kowalski.kernels.decimals import (
    LARGEST,
    NAN,
    NEGATIVE_INFINITY,
    NEGATIVE_ZERO,
    POSITIVE_INFINITY,
    TEXT,
    degrees_text,
    exact_cells,
    hours_text,
    rounded_cells,
)

PLACES = st.integers(1, 9)


def value_of(cell: int, places: int) -> float:
    return -0.0 if cell == NEGATIVE_ZERO else cell / 10**places


def assert_rounds_as_python(value: float, places: int) -> None:
    (cell,), (left,) = rounded_cells(np.array([value]), places)
    expected = round(value, places)
    if left:
        assert abs(value) * 10.0**places >= 2.0**52
    else:
        got = value_of(int(cell), places)
        assert (got, math.copysign(1, got)) == (expected, math.copysign(1, expected))


@given(st.floats(allow_nan=False, allow_infinity=False), PLACES)
def test_rounded_cells_of_any_double_are_pythons_round(value: float, places: int) -> None:
    assert_rounds_as_python(value, places)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.sampled_from([3, 5]))
def test_rounded_cells_of_any_single_are_pythons_round(value: float, places: int) -> None:
    assert_rounds_as_python(value, places)


@given(st.floats(2_400_000.0, 2_500_000.0))
def test_rounded_cells_of_julian_dates_are_pythons_round(value: float) -> None:
    assert_rounds_as_python(value, 5)


@given(st.integers(-(10**11), 10**11), st.integers(-2, 2), PLACES)
def test_rounded_cells_next_to_a_tie_are_pythons_round(units: int, ulps: int, places: int) -> None:
    """Doubles nearest to half a unit, and their neighbours: where the product in double precision misleads."""
    value = float(Fraction(2 * units + 1, 2 * 10**places))
    for _ in range(abs(ulps)):
        value = math.nextafter(value, math.inf * ulps)
    assert_rounds_as_python(value, places)


@pytest.mark.parametrize(
    ("value", "places", "cell"),
    [(0.5, 1, 5), (0.0625, 3, 62), (0.1875, 3, 188), (2.675, 2, 267), (1.005, 2, 100), (-0.0004, 3, NEGATIVE_ZERO),
     (-0.0, 3, NEGATIVE_ZERO), (0.0, 3, 0), (math.nan, 3, NAN), (math.inf, 3, POSITIVE_INFINITY),
     (-math.inf, 3, NEGATIVE_INFINITY)],
)  # fmt: skip
def test_rounded_cells_of_value(value: float, places: int, cell: int) -> None:
    cells, left = rounded_cells(np.array([value]), places)
    assert (cells.tolist(), left.tolist()) == ([cell], [False])


@given(st.integers(0, 360 * 10**7))
def test_exact_cells_of_seven_decimals_are_exact(units: int) -> None:
    value = units / 10**7
    (cell,), (left,) = exact_cells(np.array([value]), 7)
    assert not left
    assert float(f"{int(cell)}e-7") == value


@given(st.floats(-360.0, 360.0))
def test_exact_cells_say_the_value_or_are_left(value: float) -> None:
    (cell,), (left,) = exact_cells(np.array([value]), 7)
    if not left:
        got = value_of(int(cell), 7)
        assert (got, math.copysign(1, got)) == (value, math.copysign(1, value))


def test_codes_are_no_numbers_nor_texts() -> None:
    codes = {NAN, POSITIVE_INFINITY, NEGATIVE_INFINITY, NEGATIVE_ZERO}
    assert len(codes) == 4
    assert max(codes) < TEXT < LARGEST
    assert LARGEST < -(2**52)


def kowalski_hours(ra: float) -> str:
    hours = ra * 12.0 / 180.0
    h = np.floor(hours)
    m = np.floor((hours - h) * 60.0)
    return f"{h:02.0f}:{m:02.0f}:{((hours - h) * 60.0 - m) * 60.0:07.4f}"


def kowalski_degrees(dec: float) -> str:
    d = np.floor(abs(dec)) * np.sign(dec)
    m = np.floor(np.abs(dec - d) * 60.0)
    return f"{d:02.0f}:{m:02.0f}:{np.abs(np.abs(dec - d) * 60.0 - m) * 60.0:06.3f}"


@given(st.floats(0.0, 360.0, exclude_max=True))
def test_hours_text_is_kowalskis(ra: float) -> None:
    assert hours_text(np.array([ra])).tobytes().decode() == kowalski_hours(ra)


@given(st.floats(-90.0, 90.0))
def test_degrees_text_is_kowalskis(dec: float) -> None:
    text, length = degrees_text(np.array([dec]))
    assert text[0, : length[0]].tobytes().decode() == kowalski_degrees(dec)


@pytest.mark.parametrize(
    ("dec", "text"),
    [(0.0, "00:00:00.000"), (-0.0, "00:00:00.000"), (-0.5, "-0:30:00.000"), (5.5, "05:30:00.000"),
     (-5.5, "-5:30:00.000"), (-22.4325758, "-22:25:57.273"), (90.0, "90:00:00.000"), (-90.0, "-90:00:00.000")],
)  # fmt: skip
def test_degrees_text_of_value(dec: float, text: str) -> None:
    got, length = degrees_text(np.array([dec]))
    assert got[0, : length[0]].tobytes().decode() == text


@pytest.mark.parametrize(
    ("ra", "text"),
    [(0.0, "00:00:00.0000"), (2.6104292, "00:10:26.5030"), (359.99999999, "23:59:60.0000"), (180.0, "12:00:00.0000")],
)
def test_hours_text_of_value(ra: float, text: str) -> None:
    assert hours_text(np.array([ra])).tobytes().decode() == text
