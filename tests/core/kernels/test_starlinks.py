"""Stars against the definition computed over all pairs, and their positions and names against astropy."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st
from star_oracle import error_of, stars_of

from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.kernels.staridentity import KINDS, Legacy
from ztfmatch.core.kernels.starids import (
    is_starid,
    name_of_star,
    new_starids,
    places_of,
    positions_of_starids,
    starid_of_name,
)
from ztfmatch.core.kernels.starlinks import Stars, link_objects, position_errors, star_positions

PLACES = [(0.0, 0.0), (359.9999, 45.0), (123.0, 90.0), (40.0, -90.0), (200.0, -30.0), (45.0, 41.8103)]


def around(place: tuple[float, float], east: np.ndarray, north: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions at offsets in arcsec from a place."""
    centre = SkyCoord(*place, unit="deg")
    at = centre.directional_offset_by(np.arctan2(east, north) * u.rad, np.hypot(east, north) * u.arcsec)
    return at.ra.deg % 360.0, at.dec.deg


def sets_of(stars: Stars, ids: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(ids[stars.row[a:b]].tolist()) for a, b in zip(stars.offsets[:-1], stars.offsets[1:], strict=True)}


@given(
    seed=st.integers(0, 2**32 - 1),
    place=st.sampled_from(PLACES),
    n=st.integers(0, 70),
    units=st.integers(1, 9),
    size=st.floats(0.5, 12.0),
    faint=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_stars_are_those_of_the_definition(
    seed: int, place: tuple[float, float], n: int, units: int, size: float, faint: bool
) -> None:
    """Positions as dense as can be, where nothing is clear, and near each other as those of stars are."""
    rng = np.random.default_rng(seed)
    middle = rng.integers(0, max(n // 4, 1), n)
    centres = rng.uniform(-size, size, (2, max(n // 4, 1)))
    offsets = centres[:, middle] + rng.normal(0, rng.choice([0.05, 0.3, 1.0]), (2, n))
    ra, dec = around(place, *offsets)
    unit = np.sort(rng.integers(0, units, n)).astype(np.int32)
    ids = np.arange(n) * 7 + 3
    snr = rng.uniform(2, 12, n) if faint else rng.uniform(20, 300, n)
    error = position_errors(snr)
    assert error.tolist() == pytest.approx([error_of(one) for one in snr], rel=1e-12)
    stars = link_objects(unit_vectors(ra, dec), unit, error)
    found = sets_of(stars, ids)
    assert found == stars_of(ids.tolist(), unit.tolist(), ra, dec, error)
    assert all(len({int(unit[(one - 3) // 7]) for one in star}) == len(star) for star in found)
    assert sorted(stars.row.tolist()) == list(range(n))


@pytest.mark.parametrize("snr", [np.nan, -1.0, 0.0, 1.0])
def test_errors_of_what_has_no_signal_are_those_of_the_faintest(snr: float) -> None:
    assert position_errors(np.array([snr, 3.0]))[0] == position_errors(np.array([3.0]))[0]


def test_positions_are_weighted_means_and_scatter() -> None:
    rng = np.random.default_rng(3)
    ra, dec = around((0.0, 60.0), *rng.normal(0, 0.1, (2, 6)))
    error = position_errors(np.array([5.0, 10, 20, 40, 80, 160]))
    xyz = unit_vectors(ra, dec)
    stars = link_objects(xyz, np.arange(6, dtype=np.int32), error)
    assert sets_of(stars, np.arange(6)) == {frozenset(range(6))}
    found = star_positions(xyz, error, stars)
    mean = np.average(xyz, axis=0, weights=error**-2)
    centre = SkyCoord(*mean, representation_type="cartesian")
    away = centre.separation(SkyCoord(ra, dec, unit="deg")).arcsec
    assert np.allclose(found.xyz[0], mean / np.linalg.norm(mean), rtol=0, atol=1e-15)
    assert found.error_arcsec[0] == pytest.approx((error**-2).sum() ** -0.5, rel=1e-12)
    assert found.scatter_arcsec[0] == pytest.approx(np.sqrt((away**2).mean()), rel=1e-6)


def test_crowded_is_a_star_that_has_an_object_of_another_near() -> None:
    ra, dec = around((10.0, 10.0), np.array([0.0, 0.05, 1.4, 60.0]), np.zeros(4))
    stars = link_objects(unit_vectors(ra, dec), np.array([0, 1, 1, 1], np.int32), np.full(4, 0.1))
    crowded = {frozenset(members): flag for members, flag in zip(_rows(stars), stars.crowded.tolist(), strict=True)}
    assert crowded == {frozenset({0, 1}): True, frozenset({2}): True, frozenset({3}): False}


def _rows(stars: Stars) -> list[list[int]]:
    return [stars.row[a:b].tolist() for a, b in zip(stars.offsets[:-1], stars.offsets[1:], strict=True)]


def test_names_are_the_positions_as_astropy_writes_them() -> None:
    rng = np.random.default_rng(1)
    ra = np.concatenate([rng.uniform(0, 360, 500), [0.0, 359.9999999, 247.0829166667, 15.0]])
    dec = np.concatenate([np.degrees(np.arcsin(rng.uniform(-1, 1, 500))), [90.0, -90.0, 32.954812, -0.00001]])
    # A thousandth of the last digit from the border it is rounding that tells which side a position is on.
    ra, dec = ra + 1e-9, np.clip(dec + np.sign(dec) * 1e-9, -90.0, 90.0)
    for one, place in zip(SkyCoord(ra, dec, unit="deg"), places_of(ra, dec).tolist(), strict=True):
        hms, dms = one.ra.hms, one.dec.signed_dms
        seconds, arcsec = np.floor(hms.s * 100 + 1e-7) / 100, np.floor(abs(dms.s) * 10 + 1e-7) / 10
        sign = "+" if dms.sign > 0 else "-"
        ra_text = f"{int(hms.h):02d}{int(hms.m):02d}{seconds:05.2f}"
        name = f"ZTF J{ra_text}{sign}{int(dms.d):02d}{int(dms.m):02d}{arcsec:04.1f}"
        assert name_of_star(place) == name
        assert starid_of_name(name) == place == starid_of_name(name[4:])
        assert starid_of_name(f"{name}_3") == place + 2 == starid_of_name(name_of_star(place + 2))
        assert is_starid(place)
    back = positions_of_starids(places_of(ra, dec))
    assert SkyCoord(*back, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).arcsec.max() < 0.19


@pytest.mark.parametrize("text", ["", "J1628", "ZTF J162819.90+325717.3_0", "ZTF J162819.90+325717.3_101", "Vega"])
def test_what_is_no_name_has_no_starid(text: str) -> None:
    assert starid_of_name(text) is None


def test_new_ids_take_the_lowest_numbers_never_used() -> None:
    place = np.array([500, 100, 500, 500, 900]) * 100 + 10**17
    first = np.array([3, 1, 2, 9, 4])
    used = np.array([500, 500, 700]) * 100 + 10**17 + np.array([0, 2, 0])
    assert (new_starids(place, first, used) - place).tolist() == [3, 0, 1, 4, 0]
    with pytest.raises(OverflowError, match="no starid"):
        new_starids(place[:1], first[:1], place[0] + np.arange(100))
    assert new_starids(place[:0], first[:0], used).tolist() == []


def test_heirs_have_most_of_the_epochs() -> None:
    """Star 10 leaves most to 1, star 20 as well, but less; star 30 leaves as much to 2 as to 3."""
    old, new = np.array([10, 10, 20, 20, 30, 30, 10]), np.array([0, 1, 1, 0, 2, 3, 1])
    legacy = Legacy.of(old, new, np.array([5, 40, 30, 1, 7, 7, 1]))
    assert legacy.heirs(np.array([100, 50, 80, 70, 60])).tolist() == [0, 10, 0, 30, 0]
    kinds = {(o, n): KINDS[k] for o, n, k in zip(legacy.old, legacy.new, legacy.kinds(), strict=True)}
    assert kinds == dict.fromkeys([(10, 0), (10, 1), (20, 0), (20, 1), (30, 2), (30, 3)], "split")
    assert legacy.contested.all()


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 7), st.integers(0, 20)), max_size=40))
def test_heirs_are_those_of_the_definition(rows: list[tuple[int, int, int]]) -> None:
    first = np.array([9, 3, 7, 1, 8, 2, 6, 4])
    columns = [np.array([row[i] for row in rows], np.int64) for i in range(3)]
    legacy = Legacy.of(*columns)
    left = {(o, n): (e, k) for o, n, e, k in zip(legacy.old, legacy.new, legacy.epochs, legacy.objects, strict=True)}
    heir = {o: max((n for s, n in left if s == o), key=lambda n: (*left[o, n], -first[n])) for o, _ in left}
    expected = [0] * 8
    for new in range(8):
        claims = [o for o, n in heir.items() if n == new]
        expected[new] = max(claims, key=lambda o: (*left[o, new], -o), default=0)
    assert legacy.heirs(first).tolist() == expected
