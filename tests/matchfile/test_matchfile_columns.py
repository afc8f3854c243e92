"""Columns of matchfiles: exact there and back, numbers and sums independent of how rows are cut into batches."""

from __future__ import annotations

import datetime
import inspect
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matchfiles import set_times

from ztfmatch.core.kernels.calibration import catalog_flags
from ztfmatch.core.kernels.rows import MEASURED, digest
from ztfmatch.core.kernels.sphere import unit_vector
from ztfmatch.core.schema.sky import EPOCH
from ztfmatch.core.schema.sky import MEASURED as MEASURED_COLUMNS
from ztfmatch.core.survey import expid_of_mjd, exposureid_of, fracday_of_expid, is_stand_in, transientid_of
from ztfmatch.matchfile import schema as layout
from ztfmatch.matchfile.kernels import epochs as kernel

times = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(2458000.0, 2470000.0))


def ingest_rows(rows: np.ndarray, exposures: int, size: int = 10**6) -> dict[str, np.ndarray]:
    """What is taken in of rows whose expids are 0..exposures-1, batch by batch."""
    intake = kernel.Intake(1000 + np.arange(exposures), np.full(exposures, 58000.0), np.zeros(exposures, np.int64))
    out = {name: np.empty(len(rows), kind) for name, kind in kernel.TAKEN.items()}
    taken = 0
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        room = {name: values[taken:] for name, values in out.items()}
        taken += kernel.ingest_rows(part, part["expid"].astype(np.int32), intake, (start, 7 * 10**8), room)
    return {name: values[:taken] for name, values in out.items()}


def test_compiled_ingest_takes_the_columns_in_the_order_in_which_they_are_given() -> None:
    parameters = list(inspect.signature(kernel._ingest.py_func).parameters)
    columns = ["row" if name == "number" else name for name in parameters if name != "rows"]
    assert columns[-len(kernel.TAKEN) :] == list(kernel.TAKEN)
    assert set(kernel.TAKEN) >= {column.name for column in (*EPOCH, *MEASURED_COLUMNS)}
    assert all(kernel.TAKEN[column.name] == column.type.to_pandas_dtype() for column in (*EPOCH, *MEASURED_COLUMNS))


def test_compiled_digest_of_a_row_gets_the_columns_in_their_order() -> None:
    """The row's number stands for sourceid, which a matchfile does not tell."""
    (call,) = re.findall(r"row_digest\((.*?)\)  #", inspect.getsource(kernel._tally.py_func), re.DOTALL)
    names = [re.sub(r"np.uint32\(number\)", "sourceid", name.strip()) for name in call.strip().rstrip(",").split(",")]
    assert [name.removeprefix("word.") for name in names] == list(MEASURED)


def make_rows(expids: list[int], **columns: object) -> np.ndarray:
    rows = np.zeros(len(expids), layout.SOURCEDATA)
    rows["expid"] = expids
    for name, values in columns.items():
        rows[name] = values
    return rows


@given(times)
def test_hjd_comes_out_again_to_the_last_bit(hjd: np.ndarray) -> None:
    taken = ingest_rows(make_rows([0] * len(hjd), hjd=hjd), 1)
    assert kernel.hjd_of_hmjd(taken["hmjd"]).tobytes() == hjd.tobytes()


@given(hnp.arrays(np.uint32, (40, layout.SOURCEDATA.itemsize // 4)))
def test_every_bit_of_a_value_is_taken_in(words: np.ndarray) -> None:
    rows = np.zeros(40, layout.SOURCEDATA)
    rows.view(np.uint8).reshape(40, -1)[:, : words.shape[1] * 4] = words.view(np.uint8).reshape(40, -1)
    rows["expid"], rows["ra"], rows["dec"] = 0, 10.0, -20.0
    taken = ingest_rows(rows, 1)
    for name in ("ra", "dec", "xpos", "ypos", "psfflux", "psffluxerr", "chi", "sharp", "mag", "magerr", "catflags"):
        assert taken[name].tobytes() == np.ascontiguousarray(rows[name]).tobytes()
    assert taken["magerrmodel"].tobytes() == np.ascontiguousarray(rows["magerrmodel"]).tobytes()
    assert taken["legacyid"].tolist() == (7 * 10**8 + rows["matchid"].astype(np.int64)).tolist()
    assert taken["row"].tolist() == list(range(40))
    known = rows["mjd"] == 58000.0
    assert np.where(known, 58000.0, taken["mjd"]).tobytes() == np.ascontiguousarray(rows["mjd"]).tobytes()


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
    flags = ingest_rows(make_rows([0] * len(catflags), catflags=catflags), 1)["flags"]
    bad = (catflags & 32768).astype(bool) & (catflags != 65535)
    assert catalog_flags(flags, bad).tolist() == catflags.tolist()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_sourceid_counts_the_rows_of_each_exposure_in_any_batches(expids: list[int], size: int) -> None:
    ra = np.where(np.arange(len(expids)) % 4 == 2, np.nan, 10.0)
    taken = ingest_rows(make_rows(expids, ra=ra), 6, size)
    seen: Counter[int] = Counter()
    for row, expid in enumerate(expids):
        if row % 4 != 2:
            at = taken["row"].tolist().index(row)
            assert (taken["sourceid"][at], taken["exposureid"][at]) == (seen[expid], 1000 + expid)
        seen[expid] += 1
    assert len(taken["row"]) == np.isfinite(ra).sum()


def test_more_rows_than_there_is_room_for_are_refused() -> None:
    intake = kernel.Intake(np.array([5]), np.array([58000.0]), np.zeros(1, np.int64))
    room = {name: np.empty(2, kind) for name, kind in kernel.TAKEN.items()}
    with pytest.raises(ValueError, match="more rows than the 2 expected"):
        kernel.ingest_rows(make_rows([0] * 3), np.zeros(3, np.int32), intake, (0, 0), room)


def in_time(expids: list[int], rng: np.random.Generator) -> np.ndarray:
    """Rows with times of heliocentric mid-exposure, some of whose positions cannot be used."""
    n = len(expids)
    rows = make_rows(expids, mjd=58000.0 + np.array(expids), ra=rng.uniform(0, 360, n), dec=rng.uniform(-90, 90, n))
    set_times(rows)
    rows["ra"][::5], rows["dec"][1::7] = np.nan, 95.0
    rows["programid"] = 1 + np.array(expids) % 3
    rows["catflags"] = rng.choice([0, 4, 32768, 65535], n)
    for name in ("psfflux", "psffluxerr", "chi", "sharp", "xpos", "ypos"):
        rows[name] = rng.normal(size=n)
    return rows


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 15), st.integers(0, 5))
def test_tally_is_the_sum_over_rows_in_any_batches(expids: list[int], size: int, listed: int) -> None:
    rows = in_time(expids, np.random.default_rng(len(expids)))
    centre = np.array([0.6, 0.0, 0.8])
    tally = kernel.ExposureTally(np.arange(listed), 58000.0 + np.arange(listed), centre)
    for start in range(0, len(rows), size):
        assert tally.add(rows[start : start + size]) is None
    taken = ingest_rows(rows, 5)
    assert sorted(tally.rows["expid"].tolist()) == sorted({*range(listed), *expids})
    for row in tally.rows:
        mine, kept = rows["expid"] == row["expid"], taken["exposure"] == row["expid"]
        assert row["nrows"] == mine.sum()
        assert row["nrejectednan"] == np.isnan(rows["ra"][mine]).sum()
        assert row["nrejectedrange"] == (np.isfinite(rows["ra"][mine]) & (rows["dec"][mine] > 90)).sum()
        assert row["nbad"] == (rows["catflags"][mine] == 32768).sum()
        assert row["nedge"] == (rows["catflags"][mine] == 65535).sum()
        assert int(row["digest"]) == digest({name: taken[name][kept] for name in MEASURED})
        if mine.any():
            assert row["firstmjd"] == row["lastmjd"] == 58000.0 + row["expid"]
            assert row["firstprogram"] == row["lastprogram"] == 1 + row["expid"] % 3
    xyz = unit_vector(taken["ra"], taken["dec"])
    assert tally.reach2 == pytest.approx(((xyz - centre) ** 2).sum(axis=1).max(initial=0.0), abs=1e-12)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("name", "by", "late_s"), [("hjd", 2.0 / 86400.0, 2.0), ("hjd", np.nan, np.nan), ("mjd", np.nan, np.nan)]
)
def test_tally_finds_the_first_row_at_another_time(name: str, by: float, late_s: float, listed: bool) -> None:
    rows = in_time([0, 1, 2, 3] * 5, np.random.default_rng(0))
    rows[name][[5, 13, 14]] += by  # the position of row 5 cannot be used
    exposures = np.arange(4 if listed else 0)
    fault = kernel.ExposureTally(exposures, 58000.0 + exposures, np.zeros(3)).add(rows)
    if name == "mjd" and listed:  # the list counts
        assert fault is None
        return
    assert fault is not None
    assert fault.row == 13
    assert fault.late_day * 86400.0 == pytest.approx(late_s, abs=1e-3, nan_ok=True)


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
