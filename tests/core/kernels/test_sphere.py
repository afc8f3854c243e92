"""Positions on the sphere against astropy, scipy and exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ztfmatch.core.kernels.sphere import (
    ARCSEC_PER_RADIAN,
    arcsec_of_chord2,
    chord2_of_arcsec,
    enclosing_cap,
    enclosing_cap_of_positions,
    lonlat_of,
    unit_vectors,
)

longitudes, latitudes = st.floats(0.0, 360.0), st.floats(-90.0, 90.0)


def long_double_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    degree = np.longdouble("3.14159265358979323846264338327950288") / 180
    lon, lat = ra.astype(np.longdouble) * degree, dec.astype(np.longdouble) * degree
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        (0.0, 0.0, (1, 0, 0)),
        (90.0, 0.0, (0, 1, 0)),
        (180.0, 0.0, (-1, 0, 0)),
        (270.0, 0.0, (0, -1, 0)),
        (360.0, 0.0, (1, 0, 0)),
        (-90.0, 0.0, (0, -1, 0)),
        (123.456, 90.0, (0, 0, 1)),
        (321.0, -90.0, (0, 0, -1)),
    ],
)
def test_unit_vectors_axes_and_poles_exact(ra: float, dec: float, expected: tuple[int, ...]) -> None:
    assert unit_vectors(np.array([ra]), np.array([dec]))[0].tolist() == list(expected)


def test_unit_vectors_million_points_within_3e16_of_long_double() -> None:
    rng = np.random.default_rng(1)
    ra = np.concatenate([rng.uniform(0, 360, 500_000), np.arange(0, 361, 15), [np.nextafter(360, 0), 5e-324]])
    dec = np.concatenate([rng.uniform(-90, 90, 500_000), np.linspace(-90, 90, len(ra) - 500_000)])
    error = np.abs(unit_vectors(ra, dec) - long_double_vectors(ra, dec))
    assert float(error.max()) <= 3e-16


@settings(max_examples=200)
@given(longitudes, latitudes)
def test_unit_vectors_full_turn_of_ra_is_the_same_to_rounding(ra: float, dec: float) -> None:
    one, other = unit_vectors(np.array([ra, ra - 360.0]), np.array([dec, dec]))
    assert np.abs(one - other).max() < 1e-15


def test_unit_vectors_no_rows_is_empty() -> None:
    assert unit_vectors(np.zeros(0), np.zeros(0)).shape == (0, 3)


def test_unit_vectors_result_does_not_depend_on_the_rows_around() -> None:
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 1001), rng.uniform(-90, 90, 1001)
    whole = unit_vectors(ra, dec)
    for start, stop in [(0, 1), (1, 8), (3, 1000), (997, 1001)]:
        assert unit_vectors(ra[start:stop], dec[start:stop]).tobytes() == whole[start:stop].tobytes()


@settings(max_examples=200)
@given(longitudes, latitudes, st.floats(0.0, 360.0), st.floats(1e-3, 30.0))
def test_chords_separation_of_arcseconds_is_astropys(ra: float, dec: float, angle: float, away: float) -> None:
    lat = min(max(dec + away / 3600.0 * math.cos(math.radians(angle)), -90.0), 90.0)
    lon = ra + away / 3600.0 * math.sin(math.radians(angle)) / max(math.cos(math.radians(dec)), 1e-3)
    one, other = unit_vectors(np.array([ra, lon]), np.array([dec, lat]))
    ours = arcsec_of_chord2(((one - other) ** 2).sum(keepdims=True))[0]
    theirs = angular_separation(*np.radians([ra, dec, lon, lat])) * ARCSEC_PER_RADIAN
    assert ours == pytest.approx(theirs, abs=2e-9)


@pytest.mark.parametrize(
    ("arcsec", "chord"), [(0.0, 0.0), (180 * 3600.0, 2.0), (60 * 3600.0, 1.0), (90 * 3600.0, 2**0.5)]
)
def test_chord2_of_arcsec_known_angles(arcsec: float, chord: float) -> None:
    assert chord2_of_arcsec(arcsec) == pytest.approx(chord**2, abs=1e-15)
    assert arcsec_of_chord2(np.array([chord**2]))[0] == pytest.approx(arcsec, rel=1e-12)


@settings(max_examples=200)
@given(st.floats(1e-6, 648_000.0))
def test_arcsec_of_chord2_undoes_chord2_of_arcsec(arcsec: float) -> None:
    back = float(arcsec_of_chord2(np.array([chord2_of_arcsec(arcsec)]))[0])
    assert back == pytest.approx(arcsec, rel=1e-12 if arcsec < 640_000 else 1e-5)


def test_arcsec_of_chord2_beyond_two_by_rounding_is_half_a_turn() -> None:
    assert arcsec_of_chord2(np.array([4.0000001]))[0] == pytest.approx(648_000.0)


@st.composite
def skies(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Positions from a single point to the whole sphere, often across RA 0 or a pole."""
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ra = draw(st.sampled_from([0.0, 10.0, 180.0, 359.9]))
    dec = draw(st.sampled_from([-90.0, -80.0, -45.0, 0.0, 30.0, 79.0, 89.99, 90.0]))
    size = draw(st.sampled_from([0.0, 1e-6, 0.01, 0.9, 9.9, 60.0, 180.0]))
    lon = (ra + rng.uniform(-size, size, n)) % 360.0
    return lon, np.clip(dec + rng.uniform(-size, size, n), -90.0, 90.0)


@settings(max_examples=300)
@given(skies())
def test_enclosing_cap_of_positions_holds_every_point(sky: tuple[np.ndarray, np.ndarray]) -> None:
    centre, radius = enclosing_cap_of_positions(*sky)
    assert np.linalg.norm(centre) == pytest.approx(1.0, abs=1e-12)
    chord = cdist(unit_vectors(*sky), centre[None])[:, 0]
    assert (2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)) <= radius).all()
    assert radius <= math.pi * 1.02


@settings(max_examples=300)
@given(skies())
def test_enclosing_cap_holds_every_point(sky: tuple[np.ndarray, np.ndarray]) -> None:
    xyz = unit_vectors(*sky)
    centre, radius = enclosing_cap(xyz)
    chord = cdist(xyz, centre[None])[:, 0]
    assert (2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)) <= radius).all()
    assert radius <= math.pi


def test_enclosing_cap_of_positions_quadrant_is_tight() -> None:
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(150.0, 150.9, 20_000), rng.uniform(30.0, 30.87, 20_000)
    _, radius = enclosing_cap_of_positions(ra, dec)
    assert 0.57 < math.degrees(radius) < 0.60


@pytest.mark.parametrize("dec", [-30.0, 79.0, 85.0])
def test_enclosing_cap_of_positions_small_field_across_ra_0_is_small(dec: float) -> None:
    centre, radius = enclosing_cap_of_positions(np.array([359.9, 0.1, 0.0]), np.array([dec, dec, dec]))
    assert math.degrees(radius) < 0.11
    assert lonlat_of(centre)[0] == pytest.approx(0.0, abs=0.05) or lonlat_of(centre)[0] > 359.95


def test_enclosing_cap_antipodes_is_the_whole_sphere() -> None:
    _, radius = enclosing_cap(np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
    assert radius == math.pi


@settings(max_examples=200)
@given(st.floats(0.0, 359.999), st.floats(-89.99, 89.99))
def test_lonlat_of_undoes_unit_vectors(ra: float, dec: float) -> None:
    lon, lat = lonlat_of(unit_vectors(np.array([ra]), np.array([dec]))[0])
    assert 0.0 <= lon < 360.0 or lon == pytest.approx(360.0)
    assert lat == pytest.approx(dec, abs=1e-12)
    assert min(abs(lon - ra), 360.0 - abs(lon - ra)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("vector", "dec"), [((0.0, 0.0, 1.0), 90.0), ((0.0, 0.0, -1.0), -90.0)])
def test_lonlat_of_poles(vector: tuple[float, ...], dec: float) -> None:
    assert lonlat_of(np.array(vector))[1] == dec


def test_unit_vectors_arcsecond_apart_keep_eleven_digits_of_the_square() -> None:
    """The module's claim of 1e-11, against rational arithmetic on the rounded vectors' exact positions."""
    ra, dec = np.array([211.1234567, 211.1234567]), np.array([-31.4500000, -31.4500000 + 1.0 / 3600.0])
    ours = unit_vectors(ra, dec)
    exact = long_double_vectors(ra, dec)
    square = sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in ours.T)
    truth = float(((exact[0] - exact[1]) ** 2).sum())
    assert float(square) == pytest.approx(truth, rel=1e-10)
