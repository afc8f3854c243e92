"""Calibration against astropy, the survey's own matchfile and numbers measured in its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tables
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztfmatch.core.kernels.calibration import (
    HMJD_QUANTUM_DAY,
    VERDICT_BAD,
    VERDICT_GOOD,
    VERDICT_OPEN,
    ExposureQuality,
    QualityRule,
    catalog_flags,
    heliocentric_times,
    magnitudes,
    model_errors,
    observer_vectors,
    sigma_errors,
    times_off,
)
from ztfmatch.core.kernels.sphere import unit_vectors

FIELD_245 = np.array([0.0211092, -5.80838e-4, 1.69511e-9, -4.41441e-18])
PALOMAR = EarthLocation.from_geodetic(lon=-116.8630 * u.deg, lat=33.3563 * u.deg, height=1712.0 * u.m)

# Magnitudes


def test_magnitudes_literals() -> None:
    flux = np.array([1.0, 100.0, 1e4], np.float32)
    assert magnitudes(flux, np.array([26.0, 26.0, 26.5])).tolist() == [26.0, 21.0, 16.5]


@pytest.mark.parametrize("flux", [0.0, -0.0, -5.0, np.nan, np.inf, -np.inf])
def test_magnitudes_flux_without_magnitude_is_nan(flux: float) -> None:
    single = np.array([flux], np.float32)
    assert np.isnan(magnitudes(single, np.array([26.0]))).all()
    assert np.isnan(sigma_errors(single, np.ones(1, np.float32))).all()


@settings(max_examples=200)
@given(st.floats(2.0**-149, 2.0**127, width=32), st.floats(20.0, 30.0))
def test_magnitudes_positive_flux_is_the_formula_rounded_once(flux: float, magzp: float) -> None:
    got = magnitudes(np.array([flux], np.float32), np.array([magzp]))
    assert got.dtype == np.float32
    assert got[0] == np.float32(magzp - 2.5 * np.log10(np.float64(flux)))


def test_magnitudes_real_matchfile_within_the_surveys_own_corrections(data_dir: Path) -> None:
    """Its mag differs from the formula by magnitude and position terms of up to 0.04 (ZTF_FORMATS 3.6)."""
    exposures, points = matchfile(data_dir)
    magzp = dict(zip(exposures["expid"].tolist(), exposures["magzp"].tolist(), strict=True))
    points = points[np.isin(points["expid"], list(magzp))]
    assert len(points) > 20
    got = magnitudes(points["psfflux"].astype(np.float32), np.array([magzp[e] for e in points["expid"].tolist()]))
    away = points["mag"] - got
    assert abs(np.median(away)) < 0.02
    assert np.abs(away).max() < 0.05


def test_sigma_errors_real_matchfile_is_its_raw_sigma(data_dir: Path) -> None:
    """To the rounding of its three decimals, and of 2.5/ln 10 = 1.08574 to the package's 1.0857."""
    _, points = matchfile(data_dir)
    got = sigma_errors(points["psfflux"].astype(np.float32), points["psffluxerr"].astype(np.float32))
    away = np.abs(got - points["magerrmodel"])
    assert (away <= 5.01e-4 + 4e-5 * got).all()


def test_sigma_errors_real_reference_is_its_sigmag(data_dir: Path) -> None:
    rows = fits.getdata(data_dir / "refpsfcat" / "ztf_000202_zg_c10_q1_refpsfcat.fits", 1)
    got = sigma_errors(rows["flux"].astype(np.float32), rows["sigflux"].astype(np.float32))
    assert (np.abs(got - rows["sigmag"]) <= 5.01e-4 + 4e-5 * got).all()


def test_sigma_errors_literal() -> None:
    assert sigma_errors(np.array([200.0], np.float32), np.array([2.0], np.float32))[0] == pytest.approx(0.010857)


# Error model


def test_model_errors_real_matchfile_to_float32_rounding(data_dir: Path) -> None:
    with tables.open_file(str(data_dir / "matchfiles" / "ztf_000245_zr_c10_q1_match.pytable")) as file:
        attrs = file.root.matches.sourcedata.attrs
        coefficients = np.array([attrs[name] for name in "ABCD"])
    _, points = matchfile(data_dir)
    bright = points["mag"] <= 20.5
    got = model_errors(points["mag"].astype(np.float32), coefficients)
    assert bright.sum() > 100
    assert np.abs(got - points["magerr"])[bright].max() < 3e-7
    assert (~bright).sum() > 10
    np.testing.assert_allclose(got[~bright], points["magerr"][~bright], rtol=0.01)


@pytest.mark.parametrize(("coefficients", "slope", "intercept"), [(FIELD_245, 0.068159, -1.230264)])
def test_model_errors_beyond_the_break_within_one_percent_of_the_measured_line(
    coefficients: np.ndarray, slope: float, intercept: float
) -> None:
    mag = np.array([20.6, 21.0, 21.5], np.float32)
    got = model_errors(mag, coefficients)
    np.testing.assert_allclose(got, slope * mag + intercept, rtol=0.01)
    assert (got[2] - got[1]) / 0.5 == pytest.approx(slope, rel=0.012)


_REAL_RANGES = st.tuples(
    st.floats(-0.05, 0.05), st.floats(-2e-3, 2e-3), st.floats(1e-10, 1e-8), st.floats(-1e-17, -1e-18)
)


@settings(max_examples=100)
@given(_REAL_RANGES)
def test_model_errors_continuous_at_the_break(numbers: tuple[float, ...]) -> None:
    around = np.array(
        [np.nextafter(np.float32(20.5), np.float32(0)), 20.5, np.nextafter(np.float32(20.5), np.float32(99))]
    )
    got = model_errors(around.astype(np.float32), np.array(numbers))
    assert np.ptp(got) < 1e-5


@settings(max_examples=100)
@given(_REAL_RANGES, st.floats(10.0, 20.5, width=32))
def test_model_errors_below_the_break_is_the_polynomial(numbers: tuple[float, ...], mag: float) -> None:
    a, b, c, d = numbers
    expected = a + b * mag + c * 10 ** (0.4 * mag) + d * 10 ** (0.8 * mag)
    assert model_errors(np.array([mag], np.float32), np.array(numbers))[0] == pytest.approx(
        expected, rel=1e-6, abs=1e-8
    )


def test_model_errors_coefficients_by_row_equals_one_by_one() -> None:
    mag = np.array([15.0, 21.0, np.nan], np.float32)
    by_row = np.stack([FIELD_245, 2 * FIELD_245, FIELD_245])
    got = model_errors(mag, by_row)
    single = [model_errors(mag[i : i + 1], by_row[i])[0] for i in range(3)]
    np.testing.assert_array_equal(got, single)
    assert np.isnan(got[2])


# Flags


@pytest.mark.parametrize(
    ("flags", "bad", "catflags"),
    [
        (0, False, 0),
        (0, True, 32768),
        (2, False, 0),
        (2048, False, 0),
        (2 + 2048 + 4 + 16, False, 20),
        (524, True, 33292),
        (-1, False, 65535),
        (-1, True, 65535),
        (256, True, 33024),
    ],
)
def test_catalog_flags_literals(flags: int, bad: bool, catflags: int) -> None:
    got = catalog_flags(np.array([flags], np.int16), np.array([bad]))
    assert got.dtype == np.uint16
    assert got.tolist() == [catflags]


@settings(max_examples=100)
@given(hnp.arrays(np.int16, st.integers(0, 30)), st.data())
def test_catalog_flags_every_bit_accounted_for_and_input_kept(flags: np.ndarray, data) -> None:  # type: ignore[no-untyped-def]
    bad = data.draw(hnp.arrays(bool, len(flags)))
    before = flags.copy()
    got = catalog_flags(flags, bad)
    for flag, spoilt, result in zip(before.tolist(), bad.tolist(), got.tolist(), strict=True):
        plain = flag % 65536
        kept = plain & ~(2 | 2048) | (32768 if spoilt else 0)
        assert result == (65535 if flag == -1 else kept)
    np.testing.assert_array_equal(flags, before)


# Times


def astropys_heliocentric(mjd: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    times = Time(mjd, format="mjd", scale="utc", location=PALOMAR)
    return times.light_travel_time(SkyCoord(ra, dec, unit="deg"), "heliocentric").to_value("day")


@pytest.fixture(scope="module", autouse=True)
def no_download() -> None:
    """Earth's rotation from the tables that come with astropy."""
    from astropy.utils import iers

    iers.conf.auto_download = False


def test_heliocentric_times_equals_astropy_to_a_millisecond_and_the_rounding() -> None:
    rng = np.random.default_rng(1)
    mjd = np.concatenate([rng.uniform(58194.0, 59500.0, 300), [58484.0, 57753.99999, 58300.5]])
    ra, dec = rng.uniform(0, 360, len(mjd)), np.degrees(np.arcsin(rng.uniform(-1, 1, len(mjd))))
    dec[:2] = [90.0, -90.0]
    expected = mjd + astropys_heliocentric(mjd, ra, dec)
    xyz, observers = unit_vectors(ra, dec), observer_vectors(mjd)
    ours = np.array([heliocentric_times(mjd[i], observers[i], xyz[i : i + 1])[0] for i in range(len(mjd))])
    assert np.abs(ours - expected).max() * 86400.0 < 0.001 + 0.5 * HMJD_QUANTUM_DAY * 86400.0
    unrounded = mjd + np.einsum("ij,ij->i", xyz, observers)
    assert np.abs(unrounded - expected).max() * 86400.0 < 0.001


def test_heliocentric_times_whole_quanta_within_half_a_quantum() -> None:
    xyz = unit_vectors(np.linspace(0, 360, 100), np.linspace(-90, 90, 100))
    observer = observer_vectors(np.array([58300.25]))[0]
    got = heliocentric_times(58300.25, observer, xyz)
    assert (got * 2.0**24 == np.round(got * 2.0**24)).all()
    assert np.abs(got - (58300.25 + xyz @ observer)).max() <= 0.5 * 2.0**-24
    assert np.abs(got - 58300.25).max() < 1.02 * 499.005 / 86400.0 + HMJD_QUANTUM_DAY


def test_heliocentric_times_row_is_the_same_whatever_rows_come_along() -> None:
    rng = np.random.default_rng(3)
    xyz = unit_vectors(rng.uniform(0, 360, 5000), rng.uniform(-90, 90, 5000))
    observer = observer_vectors(np.array([58300.123456]))[0]
    whole = heliocentric_times(58300.123456, observer, xyz)
    for start, stop in [(0, 1), (1, 4), (2, 4999), (7, 8)]:
        part = heliocentric_times(58300.123456, observer, xyz[start:stop].copy())
        assert part.tobytes() == whole[start:stop].tobytes()


def test_times_off_within_and_beyond_what_each_exposure_allows() -> None:
    rng = np.random.default_rng(4)
    mjd, allowed = rng.uniform(58194.0, 59500.0, 5), np.array([HMJD_QUANTUM_DAY, 1e-3, 1e-4, 1e-5, 1e-6])
    row = rng.integers(-1, 5, 400)
    xyz, observers = unit_vectors(rng.uniform(0, 360, 400), rng.uniform(-90, 90, 400)), observer_vectors(mjd)
    off = rng.uniform(-2.0, 2.0, 400)
    hmjd = mjd[row] + np.einsum("ij,ij->i", xyz, observers[row]) + off * allowed[row]
    sure = np.abs(np.abs(off) - 1.0) > 0.01
    got = times_off(hmjd, xyz, row, mjd, observers, allowed)
    assert (got == (np.abs(off) > 1.0))[sure].all()
    assert times_off(np.full(400, np.nan), xyz, row, mjd, observers, allowed).all()


def matchfile(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    with tables.open_file(str(data_dir / "matchfiles" / "ztf_000245_zr_c10_q1_match.pytable")) as file:
        return file.root.matches.exposures.read(), file.root.matches.sourcedata.read()


def test_heliocentric_times_equals_the_real_matchfiles_hjd(data_dir: Path) -> None:
    _, points = matchfile(data_dir)
    xyz = unit_vectors(points["ra"].astype(float), points["dec"].astype(float))
    observers = observer_vectors(points["mjd"].astype(float))
    ours = [heliocentric_times(points["mjd"][i], observers[i], xyz[i : i + 1])[0] for i in range(len(points))]
    theirs = points["hjd"] - 2400000.5 if points["hjd"].min() > 2e6 else points["hjd"]
    assert len(points) > 300
    assert np.abs(np.array(ours) - theirs).max() * 86400.0 < 0.01


# Quality

RULE = QualityRule(26.7, 0.2, 0.06, 80, tuple(25.0 + 0.001 * i for i in range(64)))
GOOD = {"magzp": 26.0, "magzprms": 0.03, "nmatches": 500, "airmass": 1.0}


@pytest.mark.parametrize(
    ("changed", "bad"),
    [
        ({}, False),
        ({"magzp": 26.51}, True),
        ({"magzp": 26.49}, False),
        ({"magzp": 26.31, "airmass": 2.0}, True),
        ({"magzp": 24.79}, True),
        ({"magzp": 24.81}, False),
        ({"magzprms": 0.0601}, True),
        ({"magzprms": 0.06}, False),
        ({"nmatches": 79}, True),
        ({"nmatches": 80}, False),
        ({"airmass": None}, None),
        ({"magzprms": None}, None),
        ({"nmatches": None}, None),
        ({"airmass": None, "magzprms": None, "nmatches": None}, None),
        ({"airmass": None, "nmatches": 3}, True),
        ({"magzprms": None, "magzp": 27.0}, True),
        ({"nmatches": None, "airmass": None, "magzprms": 1.0}, True),
    ],
)
def test_verdicts_literals(changed: dict[str, float | None], bad: bool | None) -> None:
    assert is_bad(0, **{**GOOD, **changed}) is bad  # type: ignore[arg-type]


def test_verdicts_threshold_is_that_of_the_channel() -> None:
    assert is_bad(0, 24.85, 0.03, 500, 1.0) is False
    assert is_bad(63, 24.85, 0.03, 500, 1.0) is True


def is_bad(
    rcid: int, magzp: float, magzprms: float | None, nmatches: float | None, airmass: float | None
) -> bool | None:
    """Verdict on one exposure, None where it is open; the same among others."""
    columns = [np.array([26.0, np.nan if v is None else v]) for v in (magzp, magzprms, nmatches, airmass)]
    verdict = int(RULE.verdicts(np.array([63, rcid]), ExposureQuality(*columns))[1])
    return {VERDICT_GOOD: False, VERDICT_BAD: True, VERDICT_OPEN: None}[verdict]


@settings(max_examples=300)
@given(
    st.floats(24.0, 27.0),
    st.none() | st.floats(0.0, 0.12),
    st.none() | st.integers(0, 200),
    st.none() | st.floats(1.0, 3.0),
    st.integers(0, 63),
)
def test_verdicts_knowing_more_never_takes_a_verdict_back(magzp, rms, matches, airmass, rcid) -> None:  # type: ignore[no-untyped-def]
    """The verdict with gaps is what all completions agree on."""
    verdict = is_bad(rcid, magzp, rms, matches, airmass)
    completions = {
        is_bad(rcid, magzp, r, m, a)
        for r in ([rms] if rms is not None else [0.0, 1.0])
        for m in ([matches] if matches is not None else [0, 10**6])
        for a in ([airmass] if airmass is not None else [1.0, 1.5, 2.0, 3.0])
    }
    assert None not in completions
    if verdict is not None:
        assert completions == {verdict}
    else:
        assert None in (rms, matches, airmass)
        assert True in completions or False in completions
