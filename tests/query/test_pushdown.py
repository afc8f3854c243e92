"""What is not read cannot change an answer: conditions pushed into files against DuckDB over all rows."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.io.merge import iterate_lightcurves
from ztfmatch.core.io.parquet import DataFile, Destination, OpenFile, write_file
from ztfmatch.core.io.scan import IdRuns, RowGroups, Wanted, scan
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, OBJECTS, Table
from ztfmatch.query.expression import kinds_of, parse_condition

FLOATS = ("hmjd", "mag", "psfflux")
INTEGERS = ("objectid", "catflags", "sourceid")
LAYOUT = replace(
    DETECTIONS,
    row_group_rows=3,
    columns=tuple(replace(column, bounds=column.name in (*FLOATS, *INTEGERS)) for column in DETECTIONS.columns),
)
"""Detections in row groups of three rows, whose footers have bounds of many columns."""
KINDS = kinds_of(DETECTIONS.schema)
DUCK = duckdb.connect(config={"threads": 1})

VALUES = (-math.inf, -1.5, -0.0, 0.0, 0.1, 0.5, 2.0, 18.6, math.inf, math.nan)
CONSTANTS = ("-1.5", "0", "0.0", "-0.0", "0.1", "0.10000000149011612", "0.5", "1", "2", "18.6", "-1", "1e999")
rows = st.tuples(
    st.integers(0, 9),
    st.sampled_from(VALUES),
    st.one_of(st.none(), st.sampled_from(VALUES)),
    st.sampled_from(VALUES),
    st.integers(0, 3),
    st.integers(-2, 2),
)
"""objectid, hmjd, mag, psfflux, catflags, sourceid."""


def scanned(storage: Storage, files: list[DataFile], table: Table, columns: list[str], wanted: Wanted) -> pa.Table:
    """Wanted rows of files, of which those are opened that may have any."""
    return scan((OpenFile(storage, file) for file in wanted.files(files)), table, columns, wanted)


Pair = tuple[str, str]
"""A condition, and the same in SQL."""


def _compared(name: str, operator: str, constant: str) -> Pair:
    """DuckDB has NaN above everything; Arrow, as IEEE has it, in no order."""
    sql = f"{name} {operator} {_number(constant)}"
    ordered = operator in (">", ">=") and name in FLOATS
    return f"{name} {operator} {constant}", f"({sql} and not isnan({name}))" if ordered else f"({sql})"


def _number(constant: str) -> str:
    return "'inf'::DOUBLE" if constant == "1e999" else f"{constant}::DOUBLE"


def _mirrored(pair: Pair) -> Pair:
    name, operator, constant = pair[0].split(" ")
    turned = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(operator, operator)
    return f"{constant} {turned} {name}", pair[1]


names = st.sampled_from([*FLOATS, *INTEGERS])
constants = st.sampled_from(CONSTANTS)
compared = st.tuples(names, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), constants).map(lambda x: _compared(*x))
listed = st.tuples(names, st.sampled_from(["in", "not in"]), st.lists(constants, min_size=1, max_size=3)).map(
    lambda x: (f"{x[0]} {x[1]} [{', '.join(x[2])}]", f"({x[0]} {x[1]} ({', '.join(map(_number, x[2]))}))")
)
chained = st.tuples(constants, names, constants).map(
    lambda x: (f"{x[0]} <= {x[1]} < {x[2]}", f"({_compared(x[1], '>=', x[0])[1]} and {x[1]} < {_number(x[2])})")
)
others = st.sampled_from(
    [
        ("isnull(mag)", "(mag is null)"),
        ("abs(mag) < 1", "(abs(mag) < 1)"),
        ("mag == psfflux", "(mag = psfflux and not isnan(mag))"),
        ("1 < 2", "(1 < 2)"),
    ]
)
leaves = st.one_of(compared, compared.map(_mirrored), listed, chained, others)


def _joined(parts: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    two = st.tuples(parts, st.sampled_from(["and", "or"]), parts).map(
        lambda x: (f"({x[0][0]}) {x[1]} ({x[2][0]})", f"({x[0][1]} {x[1]} {x[2][1]})")
    )
    return st.one_of(two, parts.map(lambda x: (f"not ({x[0]})", f"(not {x[1]})")))


conditions = st.recursive(leaves, _joined, max_leaves=5)


def detections(values: list[tuple[Any, ...]]) -> pa.Table:
    """In the order of the table; ``exposureid`` is the number of the row."""
    objectid, hmjd, mag, psfflux, catflags, sourceid = zip(*sorted(values, key=lambda row: row[0]), strict=True)
    given = {"objectid": objectid, "hmjd": hmjd, "mag": mag, "psfflux": psfflux, "catflags": catflags,
             "sourceid": sourceid, "exposureid": range(len(values))}  # fmt: skip
    arrays = [
        pa.array(given.get(column.name, np.zeros(len(values), int)), column.type, from_pandas=False)
        for column in DETECTIONS.columns
    ]
    return pa.Table.from_arrays(arrays, schema=DETECTIONS.schema)


def written(place: Path, tables: list[pa.Table], layout: Table = LAYOUT) -> tuple[Storage, list[DataFile]]:
    storage = Storage.at(place)
    return storage, [
        write_file(Destination(storage, layout, Tile(0, 0), 1, str(i)), table) for i, table in enumerate(tables)
    ]


def by_duckdb(table: pa.Table, sql: str, ids: list[int] | None) -> list[int]:
    """Numbers of the rows, all of which are looked at, all values as doubles."""
    doubles = ", ".join(f"{name}::DOUBLE as {name}" for name in (*FLOATS, *INTEGERS))
    among = "true" if ids is None else f"objectid in ({', '.join(map(str, ids))})"
    DUCK.register("every", table)
    query = f"with rows as (select exposureid, {doubles} from every) select exposureid from rows where {sql}"
    return sorted(row for (row,) in DUCK.sql(f"{query} and {among}").fetchall())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(rows, min_size=1, max_size=14), min_size=1, max_size=2),
    st.one_of(st.just(("", "true")), conditions),
    st.one_of(st.none(), st.lists(st.integers(-1, 10), min_size=1, max_size=4, unique=True)),
)
def test_scan_and_merge_of_a_condition_give_the_rows_that_duckdb_finds(
    parts: list[list[tuple[Any, ...]]], condition: Pair, ids: list[int] | None
) -> None:
    tables = [detections(part) for part in parts]
    sieve = parse_condition(condition[0], KINDS) if condition[0] else None
    wanted = Wanted(None if ids is None else np.sort(np.array(ids, np.int64)), sieve)
    with tempfile.TemporaryDirectory() as place:
        storage, files = written(Path(place), tables)
        for number, table in enumerate(tables):
            expected = by_duckdb(table, condition[1], ids)
            found = scanned(storage, files[number : number + 1], DETECTIONS, ["exposureid", "mag", "chi"], wanted)
            assert sorted(found["exposureid"].to_pylist()) == expected
        merged = [chunk.columns["exposureid"] for chunk in iterate_lightcurves(storage, files, ["mag"], wanted=wanted)]
        every = [row for table in tables for row in by_duckdb(table, condition[1], ids)]
        assert sorted(np.concatenate([np.zeros(0, int), *merged]).tolist()) == sorted(every)


units = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 16), st.integers(1, 4), st.integers(0, 20)),
    min_size=1, max_size=30,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(units, st.sampled_from(["field", "fid", "rcid"]), st.sampled_from(["<", ">=", "==", "!="]), st.integers(0, 12))
def test_scan_of_units_by_the_bounds_of_objectids_gives_what_duckdb_finds(
    objects: list[tuple[int, ...]], name: str, operator: str, constant: int
) -> None:
    """No bounds of these columns are kept: they follow from those of the objectids."""
    ids = np.array(sorted({f * 10**12 + g * 10**11 + c * 10**9 + q * 10**8 + s for f, g, c, q, s in objects}), np.int64)
    of_unit = {
        "field": ids // 10**12,
        "fid": ids // 10**11 % 10,
        "rcid": ids // 10**9 % 100 * 4 + ids // 10**8 % 10 - 5,
    }
    arrays = {column.name: np.zeros(len(ids), int) for column in OBJECTS.columns} | of_unit | {"objectid": ids}
    table = pa.table({**arrays, "status": ["active"] * len(ids)}).cast(OBJECTS.schema)
    with tempfile.TemporaryDirectory() as place:
        storage, files = written(Path(place), [table], replace(OBJECTS, row_group_rows=3))
        condition = parse_condition(f"{name} {operator} {constant}", kinds_of(OBJECTS.schema))
        found = scanned(storage, files, OBJECTS, ["objectid"], Wanted(sieve=condition))
    DUCK.register("objects", table)
    expected = DUCK.sql(f"select objectid from objects where {name} {operator} {constant}").fetchall()
    assert found["objectid"].to_pylist() == sorted(row for (row,) in expected)


class TestReads:
    """Which row groups are read, and which columns of them."""

    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[str]]]:
        made: list[tuple[list[int], list[str]]] = []
        original = RowGroups._columns

        def counted(self: RowGroups, groups: list[int], names: list[str]) -> pa.Table:
            if groups:
                made.append((list(groups), list(names)))
            return original(self, groups, names)

        monkeypatch.setattr(RowGroups, "_columns", counted)
        return made

    @pytest.fixture
    def stored(self, tmp_path: Path) -> tuple[Storage, list[DataFile]]:
        """Two files of four row groups; magnitudes without bounds."""
        columns = tuple(replace(column, bounds=column.name in ("objectid", "hmjd")) for column in DETECTIONS.columns)
        parts = [[(i, 100.0 * day + i, float(i % 6), 0.0, 0, 0) for i in range(12)] for day in range(2)]
        return written(tmp_path, [detections(part) for part in parts], replace(LAYOUT, columns=columns))

    def test_scan_by_time_reads_neither_other_files_nor_other_row_groups(self, stored: Any, reads: Any) -> None:
        found = scanned(*stored, DETECTIONS, ["hmjd", "chi"], Wanted(sieve=parse_condition("105 <= hmjd < 108", KINDS)))
        assert found["hmjd"].to_pylist() == [105.0, 106.0, 107.0]
        assert reads == [([1, 2], ["hmjd"]), ([1, 2], ["chi"])]

    def test_scan_reads_other_columns_only_where_a_row_passes(self, stored: Any, reads: Any) -> None:
        found = scanned(*stored, DETECTIONS, ["chi", "hmjd"], Wanted(sieve=parse_condition("mag == 5", KINDS)))
        assert found["hmjd"].to_pylist() == [5.0, 11.0, 105.0, 111.0]
        assert found.column_names == ["chi", "hmjd"]
        assert reads == [([0, 1, 2, 3], ["mag"]), ([1, 3], ["chi", "hmjd"])] * 2

    def test_scan_of_objects_reads_their_row_groups(self, stored: Any, reads: Any) -> None:
        found = scanned(*stored, DETECTIONS, ["hmjd"], Wanted(np.array([-4, 4, 30])))
        assert found["hmjd"].to_pylist() == [4.0, 104.0]
        assert reads == [([1], ["objectid"]), ([1], ["hmjd"])] * 2

    def test_scan_of_objects_reads_ids_that_are_kept_once(self, stored: Any, reads: Any) -> None:
        storage, files = stored
        parquet, kept = OpenFile(storage, files[1]), IdRuns(1 << 20)
        for ids, hmjd in (([1, 4], [101.0, 104.0]), ([3], [103.0]), ([2, 6], [102.0, 106.0])):
            assert scan([parquet], DETECTIONS, ["hmjd"], Wanted(np.array(ids)), kept)["hmjd"].to_pylist() == hmjd
        assert reads[:3] == [([0, 1], ["objectid"]), ([0, 1], ["hmjd"]), ([1], ["hmjd"])]
        assert reads[3:] == [([0, 2], ["objectid"]), ([0, 2], ["hmjd"])]

    def test_scan_of_what_no_file_can_have_opens_none(
        self, stored: Any, reads: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(f"{__name__}.OpenFile", pytest.fail)
        for wanted in (Wanted(sieve=parse_condition("hmjd > 200 and mag > 1", KINDS)), Wanted(np.array([12, 40]))):
            assert scanned(*stored, DETECTIONS, ["hmjd"], wanted).num_rows == 0
        assert reads == []

    def test_bounds_of_a_footer_are_used_as_they_are_there(self, stored: Any) -> None:
        storage, files = stored
        parquet = OpenFile(storage, files[1])
        for text, groups in [("hmjd < 103", [0]), ("not (hmjd < 103)", [0, 1, 2, 3]), ("mag > 99", [0, 1, 2, 3]),
                             ("objectid >= 9 or objectid in [3]", [1, 3]), ("not (objectid >= 3)", [0])]:  # fmt: skip
            assert Wanted(sieve=parse_condition(text, KINDS)).groups(parquet) == groups, text
