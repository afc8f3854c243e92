"""Conditions mean what the same text means to DuckDB; what is none is refused and never run."""

from __future__ import annotations

import contextlib

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.errors import ConfigError
from ztfmatch.query.expression import kinds_of, parse_condition

ROWS = pa.table(
    {
        "row": pa.array(range(60), pa.int64()),
        "magrms": pa.array([None if i % 7 == 0 else (i % 13) / 8 for i in range(60)], pa.float32()),
        "nobs": pa.array([i % 11 for i in range(60)], pa.int32()),
        "fid": pa.array([1 + i % 3 for i in range(60)], pa.int8()),
        "status": pa.array(["active" if i % 2 else "retired" for i in range(60)], pa.string()),
        "dec": pa.array([(i - 30) * 1.5 for i in range(60)], pa.float64()),
    }
)
KINDS = kinds_of(ROWS.schema)

numbers = st.one_of(st.integers(-5, 12).map(str), st.sampled_from(["0.125", "0.5", "1.25", "1e-1", "7.5"]))
columns = st.sampled_from(["magrms", "nobs", "fid", "dec"])


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(parts, st.sampled_from("+-*"), parts).map(lambda x: f"(({x[0]}) {x[1]} ({x[2]}))")
    one = st.tuples(st.sampled_from(["abs({})", "(-({}))", "({}) / 4"]), parts).map(lambda x: x[0].format(x[1]))
    return st.one_of(two, one)


values = st.recursive(st.one_of(numbers, columns), _joined, max_leaves=4)
comparisons = st.one_of(
    st.tuples(values, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), values).map(" ".join),
    st.tuples(columns, st.lists(numbers, min_size=1, max_size=3)).map(lambda x: f"{x[0]} in [{', '.join(x[1])}]"),
    st.sampled_from(["status == 'active'", "status != 'active'", "isnull(magrms)", "status not in ['active', 'x']"]),
)


def _combined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(parts, st.sampled_from(["and", "or"]), parts).map(lambda x: f"({x[0]}) {x[1]} ({x[2]})")
    return st.one_of(two, parts.map(lambda x: f"not ({x})"))


conditions = st.recursive(comparisons, _combined, max_leaves=5)


def rows_by_duckdb(text: str) -> list[int]:
    sql = text.replace("[", "(").replace("]", ")").replace("isnull(magrms)", "(magrms is null)")
    table = ROWS  # DuckDB finds it by its name
    with duckdb.connect() as connection:
        connection.register("rows", table)
        doubles = ", ".join(f"{name}::DOUBLE as {name}" for name in ("magrms", "nobs", "fid", "dec"))
        query = f"with t as (select row, status, {doubles} from rows) select row from t where {sql} order by row"
        return [row for (row,) in connection.sql(query).fetchall()]


@given(conditions)
def test_parse_condition_takes_the_rows_that_duckdb_takes(text: str) -> None:
    assert parse_condition(text, KINDS).rows(ROWS)["row"].to_pylist() == rows_by_duckdb(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("magrms > 0.1 and nobs > 9", lambda r: r["magrms"] is not None and r["magrms"] > 0.1 and r["nobs"] > 9),
        ("0.5 <= magrms < 1", lambda r: r["magrms"] is not None and 0.5 <= r["magrms"] < 1),
        ("nobs / 4 > 2.4", lambda r: r["nobs"] / 4 > 2.4),
        ("fid * 100 == 300", lambda r: r["fid"] == 3),
        ("not isnull(magrms) and fid in [1, 2]", lambda r: r["magrms"] is not None and r["fid"] < 3),
        ("sqrt(nobs) == 3 or log10(nobs) == 1", lambda r: r["nobs"] in (9, 10)),
    ],
)
def test_parse_condition_takes_these_rows(text: str, expected: object) -> None:
    want = [row["row"] for row in ROWS.to_pylist() if expected(row)]  # type: ignore[operator]
    assert parse_condition(text, KINDS).rows(ROWS)["row"].to_pylist() == want
    assert want


@pytest.mark.parametrize(
    "text", ["big == 1.5", "1.5 < big", "big > 9007199254740992.0", "big / 2 > 1", "big in [1, 2.5]"]
)
def test_parse_condition_compares_large_integers_with_floats_as_doubles(text: str) -> None:
    """An objectid does not fit the shorter floats that Arrow would choose."""
    numbers = [1, 679105100000000, 2**53 - 1, 2**53 + 2, 2**60]
    rows = pa.table({"big": pa.array(numbers, pa.int64())})
    expected = [n for n in numbers if eval(text, {"big": float(n)})]
    assert parse_condition(text, kinds_of(rows.schema)).rows(rows)["big"].to_pylist() == expected


def test_condition_divided_by_columns_has_its_parts() -> None:
    whole = parse_condition("nobs > 4 and (dec < 3 or magrms > 1) and magrms < 2 and (fid == 1 and dec > -40)", KINDS)
    mine, others = whole.divided(["nobs", "dec", "fid"])
    assert mine is not None
    assert others is not None
    assert (mine.columns, others.columns) == ({"nobs", "dec", "fid"}, {"magrms", "dec"})
    assert others.rows(mine.rows(ROWS)).equals(whole.rows(ROWS))
    assert parse_condition("nobs > 4", KINDS).divided(["dec"])[0] is None


def test_parse_condition_names_the_columns_it_needs() -> None:
    assert parse_condition("abs(dec) < 3 or nobs > 4", KINDS).columns == {"dec", "nobs"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("magrsm > 1", r"where 'magrsm > 1': no column 'magrsm'; did you mean magrms\?"),
        ("xyzzy > 1", "no column 'xyzzy'; there are row, magrms, nobs"),
        ("nobs = 1", "cannot be read at character 6; equality is ==; expected columns"),
        ("nobs >", "it cannot be read"),
        ("", "it cannot be read"),
        ("nobs", "'nobs' is not a condition"),
        ("nobs & 1", "'nobs & 1' is not a condition"),
        ("nobs > 'x'", "values of types int32, string do not go together"),
        ("status > 1", "do not go together"),
        ("status + 1 > 2", "status is a text; nothing can be computed with it"),
        ("nobs is None", r"use == or isnull\(\)"),
        ("nobs in fid", r"'fid' after 'in'; expected a list such as \[1, 2\]"),
        ("nobs > 99999999999999999999", "does not fit 64 bits"),
        ("nobs > True", "'True' is not a value"),
        ("sqrt(nobs, 2) > 1", r"sqrt\(\) takes one value"),
        ("not " * 60 + "nobs > 1", "nested more than 50 deep"),
        ("nobs > 1 or " * 2000 + "fid > 1", "expected at most 10000"),
        ("__import__('os').system('touch x') == 0", "no function \"__import__"),
        ("(lambda: 1)() > 0", "no function 'lambda: 1'"),
        ("nobs.__class__ == 1", "'nobs.__class__' is not a value"),
        ("[row for row in (1, 2)] == 1", "is not a value"),
        ("nobs[0] > 1", r"'nobs\[0\]' is not a value"),
        ("f'{nobs}' == 'x'", "is not a value"),
        ("(nobs := 3) > 1", "is not a value"),
    ],
)  # fmt: skip
def test_parse_condition_of_what_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_condition(text, KINDS)


@given(st.text(max_size=60))
def test_parse_condition_of_any_text_gives_a_condition_or_one_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_condition(text, KINDS)
