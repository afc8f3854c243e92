"""Filters on every column of every table of a Delta view, by every reader, against plain Parquet."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corrected
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from matchfiles import make_content, write_matchfile
from releases import CONFIG, make_survey

import ztfmatch
from ztfmatch.api import import_matchfiles
from ztfmatch.core.schema import TABLES, Encoding
from ztfmatch.core.survey import Unit
from ztfmatch.simulate import regenerate_references

pytestmark = pytest.mark.filterwarnings("ignore:.*:pandas.errors.Pandas4Warning")
deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed: pip install 'ztfmatch[test]'")
pytest.importorskip("tables", reason="PyTables is not installed: pip install 'ztfmatch[matchfile]'")

UNSIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}


@dataclass(frozen=True)
class View:
    """A store in which every table has rows, and its Delta view."""

    snapshot: ztfmatch.Snapshot
    place: Path


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    place = tmp_path_factory.mktemp("view")
    store = make_survey(place, seeds_per_tile=4000)
    bad = place / "ztf_20190201250000_000679_zr_c05_o_q1_psfcat.fits"
    bad.write_bytes(b"SIMPLE")
    good = next((place / "sky" / "catalogs").rglob("*.fits"))
    store.append([str(bad), str(good)])
    matchfile = write_matchfile(place, make_content(exposures=20))
    import_matchfiles(store.path, str(matchfile))
    units = {Unit(*row) for row in zip(*(store.snapshot().table("references")[key].to_pylist()
                                         for key in ("field", "rcid", "fid")), strict=True)}  # fmt: skip
    corrected.write_set(place / "set", units)
    store.correct(place / "set")
    store.link_stars()
    regenerate_references(place / "sky", CONFIG)
    store.rematch(str(place / "sky" / "references_1"))
    store.update_transients()
    store.update_statistics()
    store.update_star_statistics()
    snapshot = store.snapshot()
    snapshot.view_delta(place / "delta")
    return View(snapshot, place / "delta")


def plain(view: View, name: str) -> pa.Table:
    """Rows of the Parquet files, without those of retired objects, in the types that Delta has."""
    table = ds.dataset(view.snapshot.paths(name), partitioning=None).to_table()
    if name == "objects":
        table = table.filter(pc.field("status") == "active")
    columns = {}
    for column, values in zip(table.column_names, table.columns, strict=True):
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        if kind != pa.uint64():  # which Delta does not know
            columns[column] = values.cast(kind).cast(UNSIGNED.get(kind, kind))
    return pa.table(columns)


Condition = tuple[str, str, Any]
Reader = Callable[[str], Callable[[Condition], int]]
"""From the place of a table a function that counts the rows that meet a condition."""
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda column, value: column == value,
    "<": lambda column, value: column < value,
    ">=": lambda column, value: column >= value,
}


def conditions(table: pa.Table) -> Iterator[Condition]:
    """Of each column: which are null, which are its least or greatest value, which lie on each side of the middle."""
    for name in table.column_names:
        yield name, "null", None
        known = table[name].drop_null().sort()
        if len(known):
            least, middle, greatest = (known[i].as_py() for i in (0, len(known) // 2, -1))
            yield from ((name, "=", value) for value in {least, middle, greatest})
        if len(known) and not pa.types.is_boolean(known.type):
            yield from ((name, operator, middle) for operator in ("<", ">="))


def by_arrow(condition: Condition) -> Any:
    name, operator, value = condition
    return pc.field(name).is_null() if operator == "null" else COMPARE[operator](pc.field(name), value)


def arrow_dataset(place: str) -> Callable[[Condition], int]:
    dataset = deltalake.DeltaTable(place).to_pyarrow_dataset()
    return lambda condition: dataset.count_rows(filter=by_arrow(condition))


def pandas_filters(place: str) -> Callable[[Condition], int]:
    table = deltalake.DeltaTable(place)

    def count(condition: Condition) -> int:
        filters = by_arrow(condition) if condition[1] == "null" else [condition]
        return len(table.to_pandas(columns=[condition[0]], filters=filters))

    return count


def polars(place: str, use_pyarrow: bool = False) -> Callable[[Condition], int]:
    rows = pl.scan_delta(place, use_pyarrow=use_pyarrow)

    def count(condition: Condition) -> int:
        name, operator, value = condition
        wanted = pl.col(name).is_null() if operator == "null" else COMPARE[operator](pl.col(name), value)
        return int(rows.filter(wanted).select(pl.len()).collect().item())

    return count


def polars_pyarrow(place: str) -> Callable[[Condition], int]:
    return polars(place, use_pyarrow=True)


def duckdb_dataset(place: str) -> Callable[[Condition], int]:
    session = duckdb.connect()
    session.register("rows", deltalake.DeltaTable(place).to_pyarrow_dataset())
    return by_sql(session, "rows")


def duckdb_delta(place: str) -> Callable[[Condition], int]:
    """DuckDB's own reader: an extension, which INSTALL downloads, or a package of exactly DuckDB's version has."""
    session = duckdb.connect()
    try:
        session.load_extension(_packaged_extension() or "delta")
    except duckdb.Error:
        pytest.skip("DuckDB's delta extension is not installed: pip install duckdb-extension-delta")
    return by_sql(session, f"delta_scan('{place}')")


def _packaged_extension() -> str | None:
    spec = importlib.util.find_spec("duckdb_extension_delta")
    places = spec.submodule_search_locations if spec else None
    return next((str(path) for place in places or () for path in Path(place).rglob("*.duckdb_extension")), None)


def by_sql(session: duckdb.DuckDBPyConnection, rows: str) -> Callable[[Condition], int]:
    def count(condition: Condition) -> int:
        name, operator, value = condition
        where, values = (f'"{name}" IS NULL', []) if operator == "null" else (f'"{name}" {operator} ?', [value])
        return int(session.execute(f"SELECT count(*) FROM {rows} WHERE {where}", values).fetchall()[0][0])

    return count


def split_integers(name: str) -> list[str]:
    """Columns that DuckDB 1.5 does not decode, from plain Parquet neither."""
    columns = [column for column in TABLES[name].columns if column.encoding is Encoding.SPLIT]
    return [column.name for column in columns if column.type in (pa.int32(), pa.int64())]


FILLED = [name for name in TABLES if name not in ("offsets", "exposureterms", "colours")]
"""Tables that the store has rows of; the others come of fields that overlap, and of fits to PS1."""
READERS = [arrow_dataset, pandas_filters, polars, polars_pyarrow, duckdb_dataset, duckdb_delta]


def test_every_table_of_the_view_has_rows(view: View) -> None:
    assert [name for name in FILLED if not view.snapshot.paths(name)] == []


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", FILLED)
def test_delta_view_filter_on_each_column_finds_what_plain_parquet_has(view: View, name: str, reader: Reader) -> None:
    table, count = plain(view, name), reader(str(view.place / name))
    if reader is duckdb_delta and duckdb.__version__ < "2":
        table = table.drop_columns(split_integers(name))
    expected = {condition: table.filter(by_arrow(condition)).num_rows for condition in conditions(table)}
    assert {condition: count(condition) for condition in expected} == expected
