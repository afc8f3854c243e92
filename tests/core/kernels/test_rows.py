"""Rows of catalogs as columns against numpy, astropy and bit patterns."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ztfmatch.core.kernels import rows as module
from ztfmatch.core.kernels.rows import (
    MEASURED,
    add_digests,
    digest,
    first_repeated,
    gather,
    linked_digest,
    position_faults,
    row_digests,
    summarise,
    take_near,
)
from ztfmatch.core.kernels.rows import ROW as STORED
from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.simulate.fitsout import ROW


def any_rows(n: int, seed: int) -> np.ndarray:
    """Rows of random bits: NaN of every kind, denormals, infinities."""
    return np.random.default_rng(seed).integers(0, 256, n * ROW.itemsize, np.uint8).view(ROW)


rows = st.builds(any_rows, st.integers(0, 60), st.integers(0, 2**32))


def decoded_rows(records: np.ndarray) -> np.ndarray:
    stored = np.empty(len(records), STORED)
    for name, (source, _) in MEASURED.items():
        stored[name] = records[source].byteswap().view(stored[name].dtype)
    return stored


def decode(records: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(decoded_rows(records)[name]) for name in MEASURED}


def test_take_near_and_digest_of_a_real_reference_are_of_what_astropy_reads(data_dir: Path) -> None:
    path = data_dir / "refpsfcat" / "ztf_000202_zg_c10_q1_refpsfcat.fits"
    table = fits.getdata(path, 1)
    records, into = np.array(table).view(np.ndarray), np.empty(len(table), STORED)
    taken = take_near(records, np.empty((0, 4)), into)
    assert taken.rows == len(table)
    for name, (source, _) in MEASURED.items():
        np.testing.assert_array_equal(into[name], table[source])
    native = {name: np.ascontiguousarray(table[source].astype(dtype)) for name, (source, dtype) in MEASURED.items()}
    assert taken.digest == summarise(records).digest == digest(native)


@given(rows, st.integers(0, 2**32), st.booleans())
def test_take_near_takes_usable_rows_on_the_inner_side_and_digests_all_usable_ones(
    records: np.ndarray, seed: int, half: bool
) -> None:
    """Against the functions that do one step each; positions are of all kinds, most of them good."""
    rng = np.random.default_rng(seed)
    good = rng.random(len(records)) < 0.7
    records["ra"][good], records["dec"][good] = rng.uniform(0, 360, good.sum()), rng.uniform(-90, 90, good.sum())
    planes = np.array([[0.6, 0.8, 0.0, 0.1]]) if half else np.empty((0, 4))
    columns = decode(records)
    not_finite, outside = position_faults(columns["ra"], columns["dec"])
    usable = ~(not_finite | outside)
    where = np.flatnonzero(usable)
    xyz = unit_vectors(columns["ra"][where], columns["dec"][where])
    if half:
        near = xyz[:, 0] * 0.6 + xyz[:, 1] * 0.8 + xyz[:, 2] * 0.0 >= 0.1
        where, xyz = where[near], xyz[near]
    into = np.empty(len(records) + 3, STORED)
    taken = take_near(records, planes, into)
    assert taken.rows == len(where)
    assert taken.digest == digest(decode(records[usable]))
    for name in MEASURED:
        assert np.ascontiguousarray(into[name][: taken.rows]).tobytes() == columns[name][where].tobytes()
    assert taken.ra.tobytes() == columns["ra"][where].tobytes()
    assert taken.dec.tobytes() == columns["dec"][where].tobytes()
    np.testing.assert_array_equal(taken.xyz, xyz)


@given(rows, st.integers(0, 2**32))
def test_summarise_counts_and_digests_as_the_functions_of_one_step_each(records: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    good = rng.random(len(records)) < 0.7
    records["ra"][good], records["dec"][good] = rng.uniform(0, 360, good.sum()), rng.uniform(-90, 90, good.sum())
    columns = decode(records)
    not_finite, outside = position_faults(columns["ra"], columns["dec"])
    usable = ~(not_finite | outside)
    found = summarise(records)
    assert found.ra.tobytes() == columns["ra"][usable].tobytes()
    assert found.dec.tobytes() == columns["dec"][usable].tobytes()
    assert found.digest == digest(decode(records[usable]))
    assert (found.not_finite, found.outside) == (not_finite.sum(), outside.sum())
    ids = columns["sourceid"] if len(records) else np.zeros(1)
    assert found.sourceids == (ids.min(), ids.max())


@settings(max_examples=100)
@given(rows, st.data())
def test_gather_any_order_equals_numpys_take(records: np.ndarray, data) -> None:  # type: ignore[no-untyped-def]
    stored = decoded_rows(records)
    most = 80 if len(records) else 0
    order = np.array(data.draw(st.lists(st.integers(0, max(len(records) - 1, 0)), max_size=most)), np.int64)
    columns = gather(stored, order)
    assert list(columns) == list(MEASURED)
    for name, values in columns.items():
        assert values.dtype == np.dtype(MEASURED[name][1])
        assert values.tobytes() == stored[name][order].tobytes()


@pytest.mark.parametrize("function", ["_gather", "row_digest", "_row_digests"])
def test_compiled_loops_take_the_columns_in_the_order_of_the_schema(function: str) -> None:
    """They get them by position: one at another place would be written under another's name."""
    names = inspect.signature(getattr(module, function).py_func).parameters
    assert [name for name in names if name not in ("words", "rows", "order")] == list(MEASURED)


# Digests


@settings(max_examples=100)
@given(rows, st.randoms(use_true_random=False))
def test_digest_knows_no_order(records: np.ndarray, random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(records)))
    random.shuffle(order)
    assert digest(decode(records)) == digest(decode(records[order]))


@settings(max_examples=50)
@given(rows, rows)
def test_digest_of_a_union_is_the_sum_modulo_2_64(one: np.ndarray, other: np.ndarray) -> None:
    both = digest(decode(np.frombuffer(one.tobytes() + other.tobytes(), ROW)))
    assert both == (digest(decode(one)) + digest(decode(other))) % 2**64


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 2**64 - 1)), max_size=30))
def test_add_digests_adds_modulo_2_64_and_leaves_negative_places_out(some: list[tuple[int, int]]) -> None:
    place, digests = np.array([p for p, _ in some], np.int64), np.array([d for _, d in some], np.uint64)
    sums, counts = np.full(5, 7, np.uint64), np.full(5, 3, np.int64)
    add_digests(sums, counts, place, digests)
    assert sums.tolist() == [(7 + sum(d for p, d in some if p == e)) % 2**64 for e in range(5)]
    assert counts.tolist() == [3 + sum(p == e for p, _ in some) for e in range(5)]


def test_digest_no_rows_is_zero() -> None:
    assert digest(decode(any_rows(0, 1))) == 0


def test_digest_every_single_bit_changes_it() -> None:
    records = any_rows(1, 11)
    plain = decode(records)
    seen = {digest(plain)}
    for name, values in plain.items():
        for bit in range(8 * values.itemsize):
            changed = {key: column.copy() for key, column in plain.items()}
            changed[name].view(f"u{values.itemsize}")[0] ^= np.uint64(1 << bit).astype(f"u{values.itemsize}")
            seen.add(digest(changed))
    assert len(seen) == 1 + 8 * sum(values.itemsize for values in plain.values())


@settings(max_examples=50)
@given(st.integers(2, 60), st.integers(0, 2**32), st.data())
def test_digest_row_lost_doubled_or_swapped_in_a_column_changes_it(n: int, seed: int, data) -> None:  # type: ignore[no-untyped-def]
    records = any_rows(n, seed)
    whole = digest(decode(records))
    row = data.draw(st.integers(0, n - 1))
    every = np.arange(n)
    assert digest(decode(records[every])) == whole
    assert digest(decode(records[np.delete(every, row)])) != whole
    assert digest(decode(records[np.append(every, row)])) != whole
    crossed = records.copy()
    other = (row + 1) % n
    crossed["flux"][[row, other]] = crossed["flux"][[other, row]]
    if crossed["flux"].tobytes() != records["flux"].tobytes():
        assert digest(decode(crossed)) != whole


def test_row_digests_10000_rows_that_differ_in_sourceid_alone_are_distinct() -> None:
    records = np.repeat(any_rows(1, 3), 10_000)
    records["sourceid"] = np.arange(10_000) - 5_000
    assert len(np.unique(row_digests(decode(records)))) == 10_000


def test_row_digests_is_splitmix64_of_the_fields_in_order() -> None:
    """Written out in Python's integers, so that a change of the formula, which old stores rely on, shows."""
    mask = 2**64 - 1

    def mix(state: int, word: int) -> int:
        x = ((state ^ word) + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & mask
        return x ^ x >> 31

    columns = decode(any_rows(5, 21))
    bits = {name: values.view(f"u{values.itemsize}").tolist() for name, values in columns.items()}
    for i, got in enumerate(row_digests(columns).tolist()):
        b = {name: values[i] for name, values in bits.items()}
        state = mix(0, b["sourceid"] << 32 | b["flags"])
        state = mix(mix(state, b["ra"]), b["dec"])
        state = mix(state, b["xpos"] << 32 | b["ypos"])
        state = mix(state, b["psfflux"] << 32 | b["psffluxerr"])
        assert got == mix(state, b["chi"] << 32 | b["sharp"])


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_linked_digest_knows_no_order_but_who_belongs_to_whom(n: int, seed: int, random) -> None:  # type: ignore[no-untyped-def]
    digests = row_digests(decode(any_rows(n, seed)))
    first, second = np.random.default_rng(seed).permutation(2 * n + 2).astype(np.int64).reshape(2, n + 1)[:, :n]
    first, second = np.ascontiguousarray(first), np.ascontiguousarray(second)
    whole = linked_digest(digests, first, second)
    order = list(range(n))
    random.shuffle(order)
    assert linked_digest(digests[order], first[order], second[order]) == whole
    assert linked_digest(digests, second, first) != whole
    assert linked_digest(digests, first + 1, second) != whole
    assert linked_digest(digests[1:], first[1:], second[1:]) != whole
    if n > 1:
        assert linked_digest(digests, np.roll(first, 1), second) != whole


# Checks


@pytest.mark.parametrize(
    ("ra", "dec", "fault"),
    [
        (0.0, 0.0, None),
        (360.0, 90.0, None),
        (-0.0, -90.0, None),
        (np.nextafter(360, 361), 0.0, "range"),
        (-5e-324, 0.0, "range"),
        (0.0, np.nextafter(90, 91), "range"),
        (0.0, -91.0, "range"),
        (1e300, -1e300, "range"),
        (np.nan, 0.0, "nan"),
        (0.0, np.inf, "nan"),
        (-np.inf, 500.0, "nan"),
        (-1.0, np.nan, "nan"),
    ],
)
def test_position_faults_literals(ra: float, dec: float, fault: str | None) -> None:
    nan, out = position_faults(np.array([ra]), np.array([dec]))
    assert (bool(nan[0]), bool(out[0])) == (fault == "nan", fault == "range")


@given(hnp.arrays(np.int32, st.integers(0, 30), elements=st.integers(-5, 20) | st.sampled_from([-(2**31), 2**31 - 1])))
def test_first_repeated_is_the_smallest_that_occurs_twice(sourceid: np.ndarray) -> None:
    values, counts = np.unique(sourceid, return_counts=True)
    expected = values[counts > 1]
    assert first_repeated(sourceid) == (int(expected[0]) if len(expected) else None)


def test_first_repeated_big_endian_column_of_a_file() -> None:
    assert first_repeated(np.array([3, 1, 2, 1], ">i4")) == 1
    assert first_repeated(np.array([300, 1, 2, 256], ">i4")) is None
