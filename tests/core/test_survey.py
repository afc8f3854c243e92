"""Identifiers and names of the survey, against numbers that IRSA has published."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.survey import (
    FIRST_TRANSIENT_DATE,
    LAST_TRANSIENT_DATE,
    MAX_GENERATION,
    MAX_OBJECTID,
    MAX_SOURCEID,
    CatalogName,
    Unit,
    exposureid_of,
    founder_of_transientid,
    fracday_of_mjd,
    matchfile_name,
    objectid_base,
    objectid_range,
    parse_catalog_name,
    parse_matchfile_name,
    plain_name,
    psfcat_name,
    rcid_of,
    refpsfcat_name,
    transientid_of,
    unit_of_objectid,
)

PUBLISHED = [
    (250101100000001, Unit(250, 0, 1), 1),
    (202116200000000, Unit(202, 61, 1), 0),
    (686103400034440, Unit(686, 11, 1), 34440),
    (1550215200000003, Unit(1550, 57, 2), 3),
    (1383212200036217, Unit(1383, 45, 2), 36217),
]
units = st.builds(Unit, st.integers(1, 9999), st.integers(0, 63), st.integers(1, 3))


@pytest.mark.parametrize(("objectid", "unit", "sourceid"), PUBLISHED)
def test_objectid_base_generation_0_is_irsas_number(objectid: int, unit: Unit, sourceid: int) -> None:
    assert objectid_base(unit) + sourceid == objectid
    assert unit_of_objectid(objectid) == unit
    assert objectid % 10**7 == sourceid


@given(units, st.integers(0, MAX_GENERATION), st.integers(0, MAX_SOURCEID))
def test_objectid_base_any_object_is_in_its_units_range_and_decodes(unit: Unit, generation: int, source: int) -> None:
    objectid = objectid_base(unit, generation) + source
    low, high = objectid_range(unit)
    assert low <= objectid <= high < 2**63
    assert unit.field > 1897 or high < 2**53
    assert unit_of_objectid(objectid) == unit
    assert objectid % 10**7 == source
    assert objectid // 10**7 % 10 == generation


@given(units, units)
def test_objectid_range_of_two_units_never_overlap(one: Unit, other: Unit) -> None:
    (low, high), (other_low, other_high) = objectid_range(one), objectid_range(other)
    assert one == other or high < other_low or other_high < low


def test_objectid_range_unit_202_zg_is_a_hundred_million_ids() -> None:
    assert objectid_range(Unit(202, 61, 1)) == (202116200000000, 202116299999999)


@pytest.mark.parametrize("generation", [-1, 10])
def test_objectid_base_generation_without_digit_raises(generation: int) -> None:
    with pytest.raises(ValueError, match=rf"generation {generation} of unit 000500_zr_c06_q1 is outside 0\.\.9"):
        objectid_base(Unit(500, 20, 2), generation)


@pytest.mark.parametrize(
    ("objectid", "why"),
    [
        (0, "ccdid 0, qid 0"),
        (250_401_100_000_001, "fid 4 is not one of"),
        (250_117_100_000_001, "ccdid 17, qid 1"),
        (250_101_500_000_001, "ccdid 1, qid 5"),
        (10_000_101_100_000_001, "field 10000 is outside 1..9999"),
        (-250_101_100_000_001, "expected 1..16 and 1..4"),
    ],
)
def test_unit_of_objectid_no_objectid_raises(objectid: int, why: str) -> None:
    with pytest.raises(ValueError, match=f"{objectid} is not an objectid: .*{why}"):
        unit_of_objectid(objectid)


@pytest.mark.parametrize(("ccdid", "qid", "rcid"), [(1, 1, 0), (1, 4, 3), (10, 1, 36), (16, 4, 63)])
def test_rcid_of_literals(ccdid: int, qid: int, rcid: int) -> None:
    assert rcid_of(ccdid, qid) == rcid
    assert (Unit(1, rcid, 1).ccdid, Unit(1, rcid, 1).qid) == (ccdid, qid)


def test_rcid_of_all_channels_once() -> None:
    assert sorted(rcid_of(ccdid, qid) for ccdid in range(1, 17) for qid in range(1, 5)) == list(range(64))


@pytest.mark.parametrize(("ccdid", "qid"), [(0, 1), (17, 1), (1, 0), (1, 5)])
def test_rcid_of_out_of_range_raises(ccdid: int, qid: int) -> None:
    with pytest.raises(ValueError, match=rf"ccdid {ccdid}, qid {qid}: expected 1\.\.16 and 1\.\.4"):
        rcid_of(ccdid, qid)


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ((0, 0, 1), r"field 0 is outside 1\.\.9999"),
        ((10_000, 0, 1), r"field 10000 is outside 1\.\.9999"),
        ((1, -1, 1), r"rcid -1 is outside 0\.\.63"),
        ((1, 64, 1), r"rcid 64 is outside 0\.\.63"),
        ((1, 0, 0), r"fid 0 is not one of \[1, 2, 3\]"),
        ((1, 0, 4), r"fid 4 is not one of \[1, 2, 3\]"),
    ],
)
def test_unit_out_of_range_raises(numbers: tuple[int, int, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Unit(*numbers)


def test_parse_catalog_name_real_names() -> None:
    epochal = parse_catalog_name("ztf_20180327208819_000841_zg_c06_o_q1_psfcat.fits")
    reference = parse_catalog_name("ztf_000202_zg_c10_q1_refpsfcat.fits")
    assert epochal == CatalogName(Unit(841, 20, 1), 20180327208819)
    assert reference == CatalogName(Unit(202, 36, 1), None)


@given(units, st.integers(20170101000000, 20991231999999))
def test_parse_catalog_name_of_written_name_gives_it_back(unit: Unit, fracday: int) -> None:
    assert parse_catalog_name(psfcat_name(unit, fracday)) == CatalogName(unit, fracday)
    assert parse_catalog_name(refpsfcat_name(unit)) == CatalogName(unit, None)


@pytest.mark.parametrize("suffix", [".gz", ".fz", ".GZ"])
def test_parse_catalog_name_in_upper_case_or_compressed_is_that_of_the_plain(suffix: str) -> None:
    name = psfcat_name(Unit(500, 20, 2), 20180701250000)
    for other in (name.upper(), name + suffix, name.upper() + suffix):
        assert parse_catalog_name(other) == parse_catalog_name(name) is not None
        assert plain_name(other) == name
    matchfile = matchfile_name(Unit(500, 20, 2))
    assert parse_matchfile_name(matchfile.upper()) == Unit(500, 20, 2)
    assert parse_matchfile_name(matchfile + suffix) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "notes.txt",
        "ztf_20180327208819_000841_zg_c06_o_q1_psfcat.fits.bz2",
        "x_ztf_000202_zg_c10_q1_refpsfcat.fits",
        "ztf_20180327208819_000841_zu_c06_o_q1_psfcat.fits",
        "ztf_2018032720881_000841_zg_c06_o_q1_psfcat.fits",
        "ztf_20180327208819_000841_zg_c06_o_q1_sexcat.fits",
        "ztf_000202_zg_c10_q1_refpsfcat.fits\n",
    ],
)
def test_parse_catalog_name_other_form_is_none(name: str) -> None:
    assert parse_catalog_name(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ztf_20180327208819_000841_zg_c17_o_q1_psfcat.fits", "ccdid 17, qid 1"),
        ("ztf_20180327208819_000841_zg_c06_o_q5_psfcat.fits", "ccdid 6, qid 5"),
        ("ztf_20180327208819_000000_zg_c06_o_q1_psfcat.fits", "field 0 is outside"),
        ("ztf_123456_zg_c06_q1_refpsfcat.fits", "field 123456 is outside"),
    ],
)
def test_parse_catalog_name_impossible_numbers_raises(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_catalog_name(name)


def test_exposureid_of_literal() -> None:
    assert exposureid_of(20180327208819, 20) == 2018032720881920


@given(st.tuples(st.integers(20170101000000, 20991231999999), st.integers(0, 63)))
def test_exposureid_of_is_exact_in_a_double_and_decodes(key: tuple[int, int]) -> None:
    exposureid = exposureid_of(*key)
    assert divmod(exposureid, 100) == key
    assert int(float(exposureid)) == exposureid


@pytest.mark.parametrize(
    ("mjd", "fracday"),
    [
        (58204.208819, 20180327208819),
        (58204.0, 20180327000000),
        (57754.9999999, 20170101999999),
        (60369.5, 20240229500000),
    ],
)
def test_fracday_of_mjd_literals(mjd: float, fracday: int) -> None:
    assert fracday_of_mjd(mjd) == fracday


@given(st.floats(51_544.0, 88_000.0))
def test_fracday_of_mjd_date_and_fraction_are_astropys(mjd: float) -> None:
    date, fraction = divmod(fracday_of_mjd(mjd), 10**6)
    assert f"{date}" == Time(int(mjd), format="mjd", scale="tai").strftime("%Y%m%d")
    assert abs(fraction / 1e6 - mjd % 1.0) <= 1.000001e-6


def date_of(number: int) -> datetime.date:
    return datetime.date(number // 10_000, number // 100 % 100, number % 100)


dates = st.dates(date_of(FIRST_TRANSIENT_DATE), date_of(LAST_TRANSIENT_DATE))


@given(dates, st.integers(0, 999_999), st.integers(0, 63), st.integers(0, MAX_SOURCEID))
def test_transientid_of_any_detection_names_it_alone(
    date: datetime.date, fraction: int, rcid: int, source: int
) -> None:
    exposureid = exposureid_of(int(f"{date:%Y%m%d}") * 10**6 + fraction, rcid)
    transientid = transientid_of(exposureid, source)
    days = (date - datetime.date(2017, 1, 1)).days
    assert transientid == (days * 10**6 + fraction) * 10**9 + rcid * 10**7 + source
    assert MAX_OBJECTID < transientid < 2**63
    assert founder_of_transientid(transientid) == (exposureid, source)
    arrays = transientid_of(np.array([exposureid]), np.array([source]))
    assert arrays.tolist() == [transientid]
    assert [part.tolist() for part in founder_of_transientid(arrays)] == [[exposureid], [source]]


def test_transientid_of_is_above_every_objectid() -> None:
    assert objectid_range(Unit(9999, 63, 3))[1] <= MAX_OBJECTID
    assert transientid_of(2018081848046900, 17) == (594 * 10**6 + 480469) * 10**9 + 17
