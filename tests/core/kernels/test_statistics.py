"""Lightcurve statistics against numpy, scipy, light-curve, brute force and a real matchfile."""

from __future__ import annotations

import inspect
import os
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path

import light_curve
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.kernels import statistics
from ztfmatch.core.kernels.statistics import COUNTS, VALUES, Epochs, epoch_counts, lightcurve_statistics
from ztfmatch.core.schema.statistics import PERCENTILES, STATISTICS

# On both sides of the switches from insertion to radix sort, and of its digits.
SIZES = [1, 2, 3, 4, 5, 24, 25, 30, 31, 32, 100, 255, 256, 1000, 2047, 2048, 5000]
EPOCH_COUNTS = ("nobs", "nobsrel", "ngoodobs", "ngoodobsrel")
RTOL = 3e-7
ATOL = 1e-9


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """Compile before any test is timed."""
    compute(make_epochs(3))


def make_epochs(n, seed=0, ra=120.0, dec=20.0, scatter=0.1):
    """One lightcurve of clean, released epochs with outliers."""
    rng = np.random.default_rng([seed, n])
    mag = 18 + scatter * rng.standard_normal(n) + np.where(rng.random(n) < 0.1, rng.normal(0, 8 * scatter, n), 0)
    return Epochs(
        hmjd=np.sort(58000 + 900 * rng.random(n)),
        mag=mag.astype(np.float32),
        magerr=rng.uniform(0.02, 0.2, n).astype(np.float32),
        catflags=np.zeros(n, np.uint16),
        ra=(ra + rng.normal(0, 5e-5, n)) % 360,
        dec=dec + rng.normal(0, 5e-5, n),
        psfflux=(10 ** (-0.4 * (mag - 26.3))).astype(np.float32),
        released=np.ones(n, bool),
    )


def with_mag(mag, hmjd=None):
    n = len(mag)
    epochs = replace(make_epochs(n), mag=np.asarray(mag, np.float32))
    return epochs if hmjd is None else replace(epochs, hmjd=np.asarray(hmjd, float))


def join(parts):
    columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Epochs)}
    return Epochs(**columns), np.cumsum([0] + [len(p.hmjd) for p in parts], dtype=np.int64)


def take(epochs, rows):
    return Epochs(**{f.name: getattr(epochs, f.name)[rows] for f in fields(Epochs)})


def compute(epochs):
    """Statistics of one lightcurve as scalars."""
    result = lightcurve_statistics(epochs, np.array([0, len(epochs.hmjd)]))
    return {name: column[0] for name, column in result.items()}


def reference(epochs):
    """Every statistic of one lightcurve of two or more good epochs, straight from its description."""
    good = (epochs.catflags == 0) & np.isfinite(epochs.mag) & np.isfinite(epochs.magerr)
    lc = take(epochs, good)
    t, m, e = lc.hmjd, lc.mag.astype(float), lc.magerr.astype(float)
    n, w = len(m), lc.magerr.astype(float) ** -2
    mean, median, std, wmean = m.mean(), np.median(m), m.std(ddof=1), np.average(m, weights=w)
    delta = np.sqrt(n / (n - 1)) * (m - wmean) / e
    pairs = delta[1:] * delta[:-1]
    dt = np.diff(t)
    slopes = np.diff(m)[dt > 0] / dt[dt > 0]
    last = max(n - 30, 0)
    out = {
        "nobs": len(epochs.mag),
        "nobsrel": epochs.released.sum(),
        "ngoodobs": n,
        "ngoodobsrel": lc.released.sum(),
        "astrometricrms": position_rms(lc.ra, lc.dec),
        "uncalibmeanmag": np.mean(-2.5 * np.log10(lc.psfflux.astype(float))),
        "meanmag": mean,
        "medianmag": median,
        "minmag": m.min(),
        "maxmag": m.max(),
        "magrms": std,
        "weightedmeanmag": wmean,
        "weightedmagrms": np.sqrt((w * (m - wmean) ** 2).sum() / (w.sum() * (n - 1) / n)),
        "medianabsdev": scipy.stats.median_abs_deviation(m),
        "medmagerr": np.sort(e)[(n - 1) // 2],
        "chisq": (((m - wmean) / e) ** 2).sum() / (n - 1),
        "skewness": scipy.stats.skew(m) if n > 2 else np.nan,
        "smallkurtosis": scipy.stats.kurtosis(m, bias=False) if n > 3 else np.nan,
        "vonneumannratio": (np.diff(m) ** 2).sum() / (n - 1) / std**2,
        "lineartrend": scipy.stats.linregress(t - t[0], m).slope,
        "maxslope": slopes.max(),
        "stetsonj": (np.sign(pairs) * np.sqrt(np.abs(pairs))).sum() / (n - 1),
        "stetsonk": np.abs(delta).mean() / np.sqrt((delta**2).mean()),
        "con": 1 + sum(r for r in runs(np.abs(m - median) > 2 * std) if r >= 3) / n if n > 2 else np.nan,
        "nmedianbufferrange": (np.abs(m - median) > 0.2 * (m.max() - m.min()) / 2).sum(),
        "npairposslope": sum(m[i + 1] < m[i] and t[i + 1] > t[i] for i in range(last, n - 1)),
    }
    for suffix, percentage in PERCENTILES:
        out[f"percentiles_{suffix}"] = np.percentile(m, percentage)
    for k in (1, 3, 5):
        above, below = m - mean > k * std, mean - m > k * std
        out[f"nabovemeanbystd_{k}"] = above.sum()
        out[f"nbelowmeanbystd_{k}"] = below.sum()
        out[f"nconsecabovemeanbystd_{k}"] = max(runs(above), default=0)
        out[f"nconsecbelowmeanbystd_{k}"] = max(runs(below), default=0)
        out[f"nconsecfrommeanbystd_{k}"] = max(runs(above | below), default=0)
    return out


def runs(condition):
    """Lengths of the runs of true values."""
    return [len(list(group)) for value, group in groupby(condition) if value]


def position_rms(ra, dec):
    """RMS distance in degrees from the mean position, by unit vectors."""
    a, d = np.radians(ra), np.radians(dec)
    xyz = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    return np.degrees(np.sqrt(((xyz - xyz.mean(1, keepdims=True)) ** 2).sum(0).mean()))


def assert_matches_reference(epochs):
    result, expected = compute(epochs), reference(epochs)
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, RTOL, ATOL, err_msg=name)


def test_lightcurve_statistics_names_and_types_are_those_of_the_table():
    result = lightcurve_statistics(*join([make_epochs(3)]))
    declared = {c.name: c.type.to_pandas_dtype() for c in STATISTICS.columns[2:]}
    assert {name: column.dtype.type for name, column in result.items()} == declared
    assert {c.name for c in STATISTICS.columns if c.nullable} == set(VALUES)
    assert set(COUNTS).isdisjoint(VALUES)


def test_compiled_statistics_take_the_epochs_in_the_order_in_which_they_are_given():
    names = list(inspect.signature(statistics._statistics.py_func).parameters)
    assert names == [*(field.name for field in fields(Epochs)), "offsets", "counts", "values"]
    assert list(statistics._DTYPES) == [field.name for field in fields(Epochs)]


@pytest.mark.parametrize("n", SIZES[1:])
@pytest.mark.parametrize("seed", range(3))
def test_lightcurve_statistics_random_lightcurve_matches_reference(n, seed):
    assert_matches_reference(make_epochs(n, seed))


def test_lightcurve_statistics_flags_nulls_and_programs_match_reference():
    epochs = make_epochs(200, 7)
    rng = np.random.default_rng(1)
    mag, magerr = epochs.mag.copy(), epochs.magerr.copy()
    mag[rng.random(200) < 0.1] = np.nan
    magerr[np.isnan(mag)] = np.nan
    magerr[17], mag[40] = np.nan, np.inf
    flags = rng.choice(np.array([0, 0, 0, 1, 32768, 65535], np.uint16), 200)
    epochs = replace(epochs, mag=mag, magerr=magerr, catflags=flags, released=rng.random(200) < 0.5)
    assert_matches_reference(epochs)


def test_lightcurve_statistics_long_runs_match_reference():
    mag = np.full(60, 18.0)
    mag[5:9] += 1.0
    mag[9:11] -= 1.5
    mag[30:32] += 1.0
    mag[50:53] -= 3.0
    epochs = with_mag(mag + np.linspace(0, 1e-3, 60))
    assert_matches_reference(epochs)
    result = compute(epochs)
    assert result["con"] == np.float32(1 + 3 / 60)
    assert result["nconsecabovemeanbystd_1"] == 4
    assert result["nconsecfrommeanbystd_1"] == 6


@pytest.mark.parametrize("n", [3, 10, 100, 3000])
def test_lightcurve_statistics_match_light_curve_package(n):
    epochs = make_epochs(n, 3)
    t, m, e = epochs.hmjd, epochs.mag.astype(float), epochs.magerr.astype(float)
    ours = compute(epochs)
    fading = compute(replace(epochs, mag=-epochs.mag))

    def theirs(feature):
        return feature(t, m, e)[0]

    pairs = {
        "mean": (ours["meanmag"], light_curve.Mean()),
        "median": (ours["medianmag"], light_curve.Median()),
        "standard deviation": (ours["magrms"], light_curve.StandardDeviation()),
        "weighted mean": (ours["weightedmeanmag"], light_curve.WeightedMean()),
        "chi2": (ours["chisq"], light_curve.ReducedChi2()),
        "stetson K": (ours["stetsonk"], light_curve.StetsonK()),
        "eta": (ours["vonneumannratio"], light_curve.Eta()),
        "slope": (max(ours["maxslope"], fading["maxslope"]), light_curve.MaximumSlope()),
        "trend": (ours["lineartrend"], light_curve.LinearTrend()),
        "mad": (ours["medianabsdev"], light_curve.MedianAbsoluteDeviation()),
        "G1": (ours["skewness"] * np.sqrt(n * (n - 1)) / (n - 2), light_curve.Skew()),
        "buffer": (1 - ours["nmedianbufferrange"] / n, light_curve.MedianBufferRangePercentage(0.2)),
        "beyond 1": ((ours["nabovemeanbystd_1"] + ours["nbelowmeanbystd_1"]) / n, light_curve.BeyondNStd(1)),
        "beyond 3": ((ours["nabovemeanbystd_3"] + ours["nbelowmeanbystd_3"]) / n, light_curve.BeyondNStd(3)),
    }
    if n > 3:
        pairs["G2"] = (ours["smallkurtosis"], light_curve.Kurtosis())
    for name, (value, feature) in pairs.items():
        np.testing.assert_allclose(value, theirs(feature), 1e-6, ATOL, err_msg=name)


def test_lightcurve_statistics_no_epochs_is_all_undefined():
    result = compute(make_epochs(0))
    assert all(result[name] == 0 for name in COUNTS)
    assert all(np.isnan(result[name]) for name in VALUES)


def test_lightcurve_statistics_no_good_epochs_counts_epochs_alone():
    result = compute(replace(make_epochs(4), catflags=np.full(4, 32768, np.uint16)))
    assert {name: result[name] for name in COUNTS if result[name]} == {"nobs": 4, "nobsrel": 4}
    assert all(np.isnan(result[name]) for name in VALUES)


def test_lightcurve_statistics_one_epoch():
    result = compute(replace(with_mag([18.5]), magerr=np.float32([0.125]), psfflux=np.float32([100])))
    expected = {"medmagerr": 0.125, "uncalibmeanmag": -5.0, "astrometricrms": 0.0, "medianabsdev": 0.0}
    at_mag = ("meanmag", "medianmag", "minmag", "maxmag", "weightedmeanmag")
    expected |= dict.fromkeys((*at_mag, *(f"percentiles_{suffix}" for suffix, _ in PERCENTILES)), 18.5)
    assert {name: result[name] for name in VALUES if not np.isnan(result[name])} == expected
    assert {name: result[name] for name in COUNTS if result[name]} == dict.fromkeys(EPOCH_COUNTS, 1)


def test_lightcurve_statistics_two_epochs():
    epochs = with_mag([18.0, 18.5], [58000.0, 58002.0])
    result = compute(replace(epochs, magerr=np.float32([0.25, 0.5])))
    undefined = {name for name in VALUES if np.isnan(result[name])}
    assert undefined == {"con", "skewness", "smallkurtosis"}
    assert result["lineartrend"] == result["maxslope"] == 0.25
    assert result["medmagerr"] == 0.25  # the lower of two
    assert result["medianabsdev"] == 0.25
    assert result["magrms"] == np.float32(np.sqrt(0.125))
    assert result["weightedmeanmag"] == np.float32(18.1)
    assert result["vonneumannratio"] == 2.0
    assert result["percentiles_25"] == 18.125
    assert result["nmedianbufferrange"] == 2
    assert result["npairposslope"] == 0


def test_lightcurve_statistics_three_epochs():
    result = compute(with_mag([18.0, 18.5, 18.25], [58000.0, 58001.0, 58003.0]))
    assert {name for name in VALUES if np.isnan(result[name])} == {"smallkurtosis"}
    assert result["con"] == 1.0
    assert result["skewness"] == 0.0
    assert result["medianmag"] == result["meanmag"] == 18.25
    assert result["magrms"] == result["medianabsdev"] == 0.25
    assert result["maxslope"] == 0.5
    assert result["npairposslope"] == 1
    assert result["nmedianbufferrange"] == 2


@pytest.mark.parametrize("n", [2, 3, 4, 7, 30, 100, 1001])
@pytest.mark.parametrize("mag", [18.0, 17.123457, 21.000002])
def test_lightcurve_statistics_constant_lightcurve_is_exact(n, mag):
    epochs = with_mag(np.full(n, mag))
    result = compute(epochs)
    zero = ("magrms", "medianabsdev", "chisq", "weightedmagrms", "lineartrend", "maxslope", "stetsonj")
    assert all(result[name] == 0 for name in zero)
    assert all(result[name] == np.float32(mag) for name in VALUES if name.startswith("percentiles"))
    assert result["meanmag"] == result["weightedmeanmag"] == result["medianmag"] == np.float32(mag)
    assert all(result[name] == 0 for name in COUNTS if name not in EPOCH_COUNTS)
    undefined = {name for name in VALUES if np.isnan(result[name])}
    shapes = {"skewness", "smallkurtosis", "vonneumannratio", "stetsonk"}
    assert undefined == (shapes | {"con"} if n < 3 else shapes)
    assert n < 3 or result["con"] == 1


def test_lightcurve_statistics_equal_times_have_no_slope():
    result = compute(with_mag([18.0, 19.0, 18.5], [58000.0] * 3))
    assert np.isnan(result["maxslope"])
    assert np.isnan(result["lineartrend"])
    assert result["npairposslope"] == 0
    assert result["vonneumannratio"] == (1 + 0.25) / 2 / 0.25


def test_lightcurve_statistics_pair_of_equal_times_is_skipped():
    result = compute(with_mag([18.0, 19.0, 18.5, 18.0], [58000.0, 58000.0, 58001.0, 58001.0]))
    assert result["maxslope"] == -0.5
    assert result["npairposslope"] == 1


def test_lightcurve_statistics_only_last_30_points_make_pairs():
    mag = np.concatenate([np.linspace(20, 15, 50), np.linspace(15, 16, 29)])
    assert compute(with_mag(mag))["npairposslope"] == 0
    assert compute(with_mag(mag[:-1]))["npairposslope"] == 1
    assert compute(with_mag(mag[:50]))["npairposslope"] == 29


def test_lightcurve_statistics_overflow_is_undefined_not_infinite():
    result = compute(with_mag([18.0, 19.0], [0.0, 5e-324]))
    assert np.isnan(result["maxslope"])
    assert not any(np.isinf(value) for value in result.values())


@pytest.mark.parametrize("error", [0.0, -0.1])
def test_lightcurve_statistics_error_not_positive_leaves_weighted_undefined(error):
    epochs = make_epochs(10)
    epochs.magerr[4] = error
    result = compute(epochs)
    weighted = {"weightedmeanmag", "weightedmagrms", "chisq", "stetsonj", "stetsonk"}
    assert {name for name in VALUES if np.isnan(result[name])} == weighted
    assert result["ngoodobs"] == 10


def test_lightcurve_statistics_flux_not_positive_leaves_uncalibrated_undefined():
    epochs = make_epochs(10)
    epochs.psfflux[[2, 5]] = -3.0
    assert np.isnan(compute(epochs)["uncalibmeanmag"])


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e20, 1e38])
def test_lightcurve_statistics_uncalibmeanmag_any_flux_does_not_overflow(scale):
    flux = (scale * np.linspace(1, 3, 500)).astype(np.float32)
    result = compute(replace(make_epochs(500), psfflux=flux))
    expected = np.mean(-2.5 * np.log10(flux.astype(float)))
    np.testing.assert_allclose(result["uncalibmeanmag"], expected, RTOL)


@pytest.mark.parametrize("dec", [-90.0, -89.99999, -45.0, 0.0, 60.0, 89.9999, 90.0])
@pytest.mark.parametrize("ra", [0.0, 359.99999, 180.0])
@pytest.mark.parametrize("spread_deg", [1e-5, 4e-4, 0.5])
def test_lightcurve_statistics_astrometricrms_matches_unit_vectors(ra, dec, spread_deg):
    rng = np.random.default_rng(5)
    centre = np.array([np.cos(np.radians(dec)) * np.cos(np.radians(ra)), 0, 0])
    centre[1] = np.cos(np.radians(dec)) * np.sin(np.radians(ra))
    centre[2] = np.sin(np.radians(dec))
    xyz = centre[:, None] + np.radians(spread_deg) * rng.standard_normal((3, 40))
    xyz /= np.linalg.norm(xyz, axis=0)
    lon, lat = np.degrees(np.arctan2(xyz[1], xyz[0])) % 360, np.degrees(np.arcsin(xyz[2]))
    result = compute(replace(make_epochs(40), ra=lon, dec=lat))
    rtol = RTOL if spread_deg < 0.1 else 1e-3  # the plane is flat, the sky is not
    np.testing.assert_allclose(result["astrometricrms"], position_rms(lon, lat), rtol)


def test_lightcurve_statistics_same_position_has_no_rms():
    epochs = replace(make_epochs(9), ra=np.full(9, 359.9999999), dec=np.full(9, 89.1234567))
    assert compute(epochs)["astrometricrms"] == 0


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=400), st.randoms())
@settings(max_examples=200, deadline=None)
def test_lightcurve_statistics_any_numbers_are_sorted_like_numpy(numbers, random):
    mag = np.array(numbers * random.choice([1, 1, 7]), np.float32)
    epochs = replace(with_mag(mag), magerr=mag)
    result, wide = compute(epochs), mag.astype(float)
    atol = 1e-15 * np.abs(wide).max() + 2e-45  # float64 sums, then the least float32
    for suffix, percentage in PERCENTILES:
        value = np.percentile(wide, percentage)
        np.testing.assert_allclose(result[f"percentiles_{suffix}"], value, RTOL, atol)
    np.testing.assert_allclose(result["medianmag"], np.median(wide), RTOL, atol)
    mad = np.median(np.abs(wide - np.median(wide)))
    np.testing.assert_allclose(result["medianabsdev"], mad, RTOL, atol)
    assert result["medmagerr"] == np.sort(mag)[(len(mag) - 1) // 2]
    assert (result["minmag"], result["maxmag"]) == (mag.min(), mag.max())


lightcurves = st.lists(
    st.tuples(st.integers(0, 70), st.integers(0, 9), st.sampled_from([0.0, 1e-6, 0.1, 2.0])), max_size=8
)


def draw_parts(specs):
    """Lightcurves with some flagged and unreleased epochs."""
    parts = []
    for n, seed, scatter in specs:
        rng = np.random.default_rng(seed)
        flags = rng.choice(np.array([0, 0, 0, 4, 32768], np.uint16), n)
        part = make_epochs(n, seed, scatter=scatter)
        parts.append(replace(part, catflags=flags, released=rng.random(n) < 0.5))
    return parts


@given(lightcurves, st.randoms())
@settings(max_examples=100, deadline=None)
def test_lightcurve_statistics_division_into_calls_changes_no_bit(specs, random):
    parts = draw_parts(specs)
    whole = lightcurve_statistics(*join([make_epochs(0), *parts]))
    order = list(range(len(parts)))
    random.shuffle(order)
    shuffled = lightcurve_statistics(*join([make_epochs(0), *(parts[i] for i in order)]))
    for k, part in enumerate(parts):
        alone = lightcurve_statistics(part, np.array([0, len(part.hmjd)]))
        for name, column in whole.items():
            assert column[k + 1].tobytes() == alone[name][0].tobytes(), name
            assert column[k + 1].tobytes() == shuffled[name][1 + order.index(k)].tobytes(), name


@given(st.integers(0, 60), st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_lightcurve_statistics_flagged_epochs_change_only_counts_of_epochs(n_good, n_flagged, seed):
    rng = np.random.default_rng(seed)
    clean = replace(make_epochs(n_good, seed), released=rng.random(n_good) < 0.5)
    flagged = replace(
        make_epochs(n_flagged, seed + 1),
        catflags=rng.integers(1, 65536, n_flagged).astype(np.uint16),
        released=rng.random(n_flagged) < 0.5,
    )
    mixed = join([clean, flagged])[0]
    mixed = take(mixed, np.argsort(mixed.hmjd, kind="stable"))
    before, after = compute(clean), compute(mixed)
    assert after["nobs"] == n_good + n_flagged
    assert after["nobsrel"] == clean.released.sum() + flagged.released.sum()
    for name in before.keys() - {"nobs", "nobsrel"}:
        assert before[name].tobytes() == after[name].tobytes(), name


def test_lightcurve_statistics_other_layouts_give_same_and_compile_once():
    epochs, offsets = join(draw_parts([(50, 1, 0.1), (9, 2, 0.1)]))
    expected = lightcurve_statistics(epochs, offsets)
    strided = Epochs(**{f.name: np.repeat(getattr(epochs, f.name), 2)[::2] for f in fields(Epochs)})
    swapped = replace(epochs, mag=epochs.mag.astype(">f4"), hmjd=epochs.hmjd.astype(">f8"))
    for column in vars(epochs).values():
        column.setflags(write=False)
    for variant in (epochs, strided, swapped):
        result = lightcurve_statistics(variant, offsets.astype(np.int32))
        assert all(result[name].tobytes() == expected[name].tobytes() for name in expected)
    assert len(statistics._statistics.signatures) == 1


def test_lightcurve_statistics_offsets_may_name_a_part():
    parts = draw_parts([(20, 1, 0.1), (30, 2, 0.1), (5, 3, 0.1)])
    epochs, offsets = join(parts)
    whole, part = lightcurve_statistics(epochs, offsets), lightcurve_statistics(epochs, offsets[1:3])
    assert all(part[name].tolist() == whole[name][1:2].tolist() for name in COUNTS)
    assert part["meanmag"] == whole["meanmag"][1]


def test_epoch_counts_are_those_of_all_statistics():
    epochs, offsets = join(draw_parts([(20, 1, 0.1), (0, 2, 0.1), (5, 3, 0.9)]))
    whole = lightcurve_statistics(epochs, offsets)
    counts = epoch_counts(epochs.mag, epochs.magerr, epochs.catflags, offsets)
    assert set(counts) == set(statistics.EPOCH_COUNTS)
    for name, values in counts.items():
        assert values.dtype == whole[name].dtype
        assert values.tolist() == whole[name].tolist()
    assert counts["nobs"].tolist() != counts["ngoodobs"].tolist()


def test_lightcurve_statistics_no_objects_is_empty():
    result = lightcurve_statistics(make_epochs(0), np.zeros(1, np.int64))
    assert all(column.shape == (0,) for column in result.values())


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 4], r"within 0..3, the number of epochs; got 0..4"),
        ([-1, 3], r"got -1..3"),
        ([0, 2, 1, 3], "must not decrease"),
        ([], r"got shape \(0,\)"),
    ],
)
def test_lightcurve_statistics_bad_offsets_raise(offsets, message):
    with pytest.raises(ValueError, match=message):
        lightcurve_statistics(make_epochs(3), np.array(offsets, np.int64))


def test_lightcurve_statistics_lengths_that_differ_raise():
    with pytest.raises(ValueError, match="1-D arrays of one length"):
        lightcurve_statistics(replace(make_epochs(3), ra=np.zeros(2)), np.array([0, 3]))


@pytest.fixture(scope="module")
def matchfile():
    """Sources of a real matchfile and our statistics of their public epochs."""
    root = os.environ.get("ZTFMATCH_DATA", Path(__file__).parents[4] / "shared" / "data")
    path = Path(root) / "matchfiles" / "ztf_000245_zr_c10_q1_match.pytable"
    if not path.exists():
        pytest.skip(f"no matchfile at {path}: set ZTFMATCH_DATA to the directory of test data")
    tables = pytest.importorskip("tables")
    with tables.open_file(str(path)) as file:
        sources, data = file.root.matches.sources[:], file.root.matches.sourcedata[:]
    data = data[np.lexsort((data["hjd"], data["matchid"]))]
    epochs = Epochs(
        *(data[name] for name in ("hjd", "mag", "magerr", "catflags", "ra", "dec", "psfflux")),
        released=np.ones(len(data), bool),
    )
    offsets = np.searchsorted(data["matchid"], np.arange(len(sources) + 1))
    return sources, lightcurve_statistics(epochs, offsets)


def test_lightcurve_statistics_complete_source_equals_the_surveys_value(matchfile):
    sources, ours = matchfile
    complete = (ours["ngoodobs"] == sources["ngoodobs"]) & (sources["ngoodobs"] > 0)
    assert complete.sum() == 1  # the file holds the public epochs only
    for name in ("meanmag", "medianmag", "minmag", "maxmag", "magrms", "medmagerr", "ngoodobsrel"):
        np.testing.assert_allclose(ours[name][complete], sources[name][complete], RTOL, err_msg=name)


def test_lightcurve_statistics_partial_sources_stay_within_the_surveys_values(matchfile):
    sources, ours = matchfile
    seen = ours["ngoodobs"] > 0
    assert np.all(ours["nobs"] <= sources["nobs"])
    assert np.all(ours["nobsrel"] <= sources["nobsrel"])
    assert np.all(ours["ngoodobs"] <= sources["ngoodobs"])
    assert np.all(ours["minmag"][seen] >= sources["minmag"][seen])
    assert np.all(ours["maxmag"][seen] <= sources["maxmag"][seen])
    many = ours["ngoodobs"] >= 20
    for name, tolerance in (("meanmag", 0.3), ("medianmag", 0.3), ("magrms", 0.2), ("medianabsdev", 0.3)):
        difference = np.abs(ours[name] - sources[name])[many]
        assert np.all(difference < tolerance * sources["magrms"][many]), name
    np.testing.assert_allclose(ours["medmagerr"][many], sources["medmagerr"][many], 0.02)


def test_lightcurve_statistics_never_seen_source_is_undefined(matchfile):
    sources, ours = matchfile
    assert np.array_equal(np.isnan(ours["meanmag"]), sources["nobs"] == 0)


def test_survey_percentiles_have_the_documented_bug(matchfile):
    sources, ours = matchfile
    k = np.flatnonzero((ours["ngoodobs"] == 2) & (sources["ngoodobs"] == 2))[0]
    low, high = float(sources["minmag"][k]), float(sources["maxmag"][k])
    for i, (suffix, percentage) in enumerate(PERCENTILES):
        np.testing.assert_allclose(sources["percentiles"][k, i], low + (high - low) / percentage, 1e-6)
        ranked = low + (high - low) * percentage / 100
        np.testing.assert_allclose(ours[f"percentiles_{suffix}"][k], ranked, RTOL)


def test_survey_chisq_is_the_scaled_median_deviation_over_the_median_error(matchfile):
    sources, _ = matchfile
    seen = sources[sources["nobs"] > 0]
    scaled = 1.4826 * seen["medianabsdev"] / seen["medmagerr"]
    np.testing.assert_allclose(seen["chisq"], scaled, 1e-6)
