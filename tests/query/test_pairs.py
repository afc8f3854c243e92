"""Pairs of positions against brute force by astropy, at poles and across RA 0."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.query.kernels import pairs
from ztfmatch.query.kernels.pairs import pairs_within

CENTRES = [(0.0, 0.0), (0.0, 90.0), (123.0, -90.0), (359.9999, 45.0), (180.0, 89.99), (30.0, -60.0)]


def near(centre: tuple[float, float], number: int, size_deg: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions about a place, spread in all directions there, poles too."""
    rng = np.random.default_rng(seed)
    place = SkyCoord(*centre, unit="deg")
    angle, distance = rng.uniform(0, 360, number) * u.deg, np.sqrt(rng.uniform(0, 1, number)) * size_deg * u.deg
    at = place.directional_offset_by(angle, distance)
    return at.ra.deg, at.dec.deg


@given(st.sampled_from(CENTRES), st.floats(0.1, 3000.0), st.integers(0, 10**6), st.sampled_from([1.0, 0.1, 1e-3]))
@settings(max_examples=60)
def test_pairs_are_those_of_brute_force(centre: tuple[float, float], radius: float, seed: int, size_deg: float) -> None:
    first, second = near(centre, 40, size_deg, seed), near(centre, 60, size_deg, seed + 1)
    first[0][:5] -= 360.0  # another turn
    one, other, separation = pairs_within(first, second, radius)
    here, there = SkyCoord(*first, unit="deg"), SkyCoord(*second, unit="deg")
    every = here[:, None].separation(there[None, :]).arcsec
    clear = np.abs(every - radius) > 1e-6  # rounding decides about those on the border
    found = np.zeros_like(every, bool)
    found[one, other] = True
    assert np.array_equal(found[clear], (every <= radius)[clear])
    assert len(one) == len(set(zip(one.tolist(), other.tolist(), strict=True)))
    np.testing.assert_allclose(separation, every[one, other], atol=1e-6)
    assert np.array_equal(np.lexsort([separation, one]), np.arange(len(one)))


def test_pairs_over_the_sky_are_those_of_astropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_PAIRS_AT_ONCE", 1000)
    rng = np.random.default_rng(5)
    first, second = ((rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))) for n in (2000, 5000))
    one, other, _ = pairs_within(first, second, 3600.0)
    here, there, *_ = search_around_sky(SkyCoord(*first, unit="deg"), SkyCoord(*second, unit="deg"), 1 * u.deg)
    assert set(zip(one.tolist(), other.tolist(), strict=True)) == set(zip(here.tolist(), there.tolist(), strict=True))
    assert len(one) > 500


def test_pairs_of_nothing_are_none() -> None:
    none, some = (np.zeros(0), np.zeros(0)), (np.zeros(3), np.zeros(3))
    assert [len(part) for part in pairs_within(none, some, 1.0)] == [0, 0, 0]
    assert [len(part) for part in pairs_within(some, none, 1.0)] == [0, 0, 0]
    assert len(pairs_within(some, some, 1.0)[0]) == 9
