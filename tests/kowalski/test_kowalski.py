"""Numbers of documents: Kowalski's where there is one, and others that can be none of its."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.survey import Unit, exposureid_of, objectid_base
from ztfmatch.kowalski.kernels.identity import NO_EXPID, expids, exposure_ids, interquartile_range, source_ids

units = st.builds(Unit, st.integers(1, 9999), st.integers(0, 63), st.integers(1, 3))


def source_id(unit: Unit, generation: int, sourceid: int) -> int:
    return int(source_ids(np.array([objectid_base(unit, generation) + sourceid]))[0])


def exposure_id(unit: Unit, exposureid: int, expid: int) -> int:
    columns = (np.array([value]) for value in (exposureid, unit.field, unit.rcid, unit.fid, expid))
    return int(exposure_ids(*columns)[0])


@pytest.mark.parametrize(
    ("unit", "generation", "sourceid", "expected"),
    [(Unit(245, 36, 2), 0, 9, 10_245_362_000_009), (Unit(1897, 63, 3), 0, 999_999, 11_897_633_999_999),
     (Unit(245, 36, 2), 0, 10**6, 10**17 + 245_210_101_000_000),
     (Unit(245, 36, 2), 1, 9, 10**17 + 245_210_110_000_009)],
)  # fmt: skip
def test_source_ids_of_object(unit: Unit, generation: int, sourceid: int, expected: int) -> None:
    assert source_id(unit, generation, sourceid) == expected


def test_exposure_ids_of_real_exposure() -> None:
    assert exposure_id(Unit(245, 36, 2), 2018072148086836, 56_648_128) == 10_245_362_056_648_128


def test_exposure_ids_without_a_fitting_expid_are_beyond() -> None:
    unit, exposureid = Unit(245, 36, 2), exposureid_of(20180721480868, 36)
    assert exposure_id(unit, exposureid, NO_EXPID) == 10**18 + exposureid
    assert exposure_id(unit, exposureid, 10**9) == 10**18 + exposureid


@given(units, st.integers(0, 9), st.integers(0, 10**7 - 1))
def test_source_ids_of_beyond_are_none_of_kowalskis(unit: Unit, generation: int, sourceid: int) -> None:
    """Kowalski's lie in 10^13 .. 2*10^13, those of its exposures in 10^16 .. 2*10^16."""
    number = source_id(unit, generation, sourceid)
    if generation == 0 and sourceid < 10**6:
        assert number == 10**13 + unit.field * 10**9 + unit.rcid * 10**7 + unit.fid * 10**6 + sourceid
        assert number < 2 * 10**13
    else:
        assert 10**17 < number < 11 * 10**16
    assert number < 2**63


@given(units, st.integers(20170101000000, 20991231999999), st.integers(-1, 2**32 - 1))
def test_exposure_ids_of_beyond_are_none_of_kowalskis(unit: Unit, fracday: int, expid: int) -> None:
    number = exposure_id(unit, exposureid_of(fracday, unit.rcid), expid)
    if 0 <= expid < 10**9:
        assert 10**16 < number < 2 * 10**16
    else:
        assert 10**18 < number < 2**63


@given(st.lists(st.tuples(units, st.integers(0, 9), st.integers(0, 10**7 - 1)), min_size=2, unique=True))
def test_source_ids_of_different_objects_differ(objects: list[tuple[Unit, int, int]]) -> None:
    assert len({source_id(*one) for one in objects}) == len(objects)


def test_expids_that_are_not_known_have_more_digits_than_any() -> None:
    exposureid = np.array([2018072148086836, 2018072148086836])
    assert expids(exposureid, np.array([56_648_128, NO_EXPID])).tolist() == [56_648_128, 20_180_721_480_868]


def test_interquartile_range_is_rounded_in_singles() -> None:
    low, high = np.array([18.252174, np.nan], np.float32), np.array([18.3396, 1.0], np.float32)
    got = interquartile_range(low, high)
    assert got.dtype == np.float32
    assert float(got[0]) == float(np.float32(0.087))
    assert np.isnan(got[1])
