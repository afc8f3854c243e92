"""Columns of matchfiles: exact there and back, numbers and sums independent of how rows are cut into batches."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztfmatch.kernels import matchfile as kernel
from ztfmatch.kernels.calibration import catalog_flags
from ztfmatch.kernels.rows import digest
from ztfmatch.schema import matchfile as layout
from ztfmatch.survey import expid_of_mjd, exposureid_of, fracday_of_expid, is_stand_in, transientid_of

times = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(2458000.0, 2470000.0))


@given(times)
def test_hmjd_of_hjd_and_back_is_exact(hjd: np.ndarray) -> None:
    assert kernel.hjd_of_hmjd(kernel.hmjd_of_hjd(hjd)).tobytes() == hjd.tobytes()


@given(times, st.sampled_from([30.0, 60.0, 300.0]))
def test_start_of_gives_mid_exposure_again_or_is_a_neighbour(hjd: np.ndarray, exptime: float) -> None:
    mid = hjd - 2400000.5
    again = kernel.mid_exposure(kernel.start_of(mid, exptime), exptime)
    assert (np.abs(again - mid) <= np.spacing(mid)).all()
    assert (again == mid).mean() > 0.5


@given(hnp.arrays(np.uint16, st.integers(1, 50)))
def test_flags_of_catflags_give_them_again(values: np.ndarray) -> None:
    catflags = values & np.uint16(0xFFFF ^ (1 << 1 | 1 << 11))  # catflags never have these bits
    catflags[values == 65535] = 65535
    flags = kernel.flags_of_catflags(catflags)
    bad = (catflags & 32768).astype(bool) & (catflags != 65535)
    assert catalog_flags(flags, bad).tolist() == catflags.tolist()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_numbering_counts_the_rows_of_each_exposure_in_any_batches(expids: list[int], size: int) -> None:
    numbering, seen = kernel.Numbering(), dict.fromkeys(range(6), 0)
    got: list[int] = []
    for start in range(0, len(expids), size):
        got += numbering.of(np.array(expids[start : start + size], np.uint32)).tolist()
    for expid, number in zip(expids, got, strict=True):
        assert number == seen[expid]
        seen[expid] += 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 15), st.randoms())
def test_tally_is_the_sum_over_rows_in_any_batches(expids: list[int], size: int, random: object) -> None:
    rng = np.random.default_rng(len(expids))
    rows = np.zeros(len(expids), layout.SOURCEDATA)
    rows["expid"], rows["mjd"] = expids, 58000.0 + np.array(expids)
    rows["ra"], rows["dec"] = rng.uniform(0, 360, len(rows)), rng.uniform(-90, 90, len(rows))
    rows["ra"][::5], rows["dec"][1::7] = np.nan, 95.0
    rows["catflags"] = rng.choice([0, 4, 32768, 65535], len(rows))
    columns = kernel.measured_columns(rows, np.arange(len(rows), dtype=np.int32))
    tally = kernel.ExposureTally()
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        tally.add(rows[part], {name: values[part] for name, values in columns.items()})
    result = tally.result()
    assert result["expid"].tolist() == sorted(set(expids))
    for i, expid in enumerate(result["expid"]):
        mine = rows["expid"] == expid
        usable = mine & kernel.usable(columns)
        assert result["nrows"][i] == mine.sum()
        assert result["nrejectednan"][i] + result["nrejectedrange"][i] == mine.sum() - usable.sum()
        assert result["nbad"][i] == (rows["catflags"][mine] == 32768).sum()
        assert int(result["digest"][i]) == digest(columns, usable)
        assert result["firstmjd"][i] == result["lastmjd"][i] == 58000.0 + expid


def test_sigma_magnitudes_are_rounded_as_the_survey_writes_them() -> None:
    flux, error = np.array([1296.3677, 0.0, -3.0], np.float32), np.array([64.83413, 1.0, 1.0], np.float32)
    assert kernel.sigma_magnitudes(flux, error).tolist()[0] == pytest.approx(0.054, abs=1e-8)
    assert np.isnan(kernel.sigma_magnitudes(flux, error)[1:]).all()


@given(st.lists(st.integers(20 * 10**5, 3000 * 10**5), min_size=2, max_size=50, unique=True))
def test_fracday_of_expid_is_of_its_date_in_daytime_and_no_other_s(expids: list[int]) -> None:
    fracdays = [fracday_of_expid(expid) for expid in expids]
    assert len(set(fracdays)) == len(expids)
    assert all(is_stand_in(fracday) for fracday in fracdays)
    for expid, fracday in zip(expids, fracdays, strict=True):
        date = datetime.date(2017, 1, 1) + datetime.timedelta(days=expid // 10**5)
        assert fracday // 10**6 == int(f"{date:%Y%m%d}")
        assert transientid_of(exposureid_of(fracday, 63), 0) > 10**16


def test_expid_of_mjd_is_that_of_the_real_matchfile() -> None:
    assert expid_of_mjd(58320.4812847) == 56648128
    assert expid_of_mjd(58323.4804977) == 56948049
