"""Files written anew without some rows: as if these had never been there, for our reader and for others."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io import rowremoval
from ztfmatch.core.io.encoding import encode
from ztfmatch.core.io.footer import Footer
from ztfmatch.core.io.parquet import DataFile, Destination, read_file_rows, write_file
from ztfmatch.core.io.rowremoval import write_kept
from ztfmatch.core.io.sealed import seal
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import DETECTIONS, ORPHANS, Table

GROUP = 64


def small_groups(table: Table) -> Table:
    return replace(table, row_group_rows=GROUP)


TABLES = {table.name: small_groups(table) for table in (DETECTIONS, ORPHANS)}


def rows_of(table: Table, number: int, seed: int = 1) -> pa.Table:
    """Rows of any values; nulls where there may be some, ids ascending."""
    rng = np.random.default_rng(seed)
    columns = []
    for column in table.columns:
        kind = getattr(column.type, "value_type", column.type)
        missing = rng.random(number) < 0.1 if column.nullable else None
        if pa.types.is_string(kind):
            values: Any = pa.array(np.array(["one", "two", "three"])[rng.integers(0, 3, number)], kind, mask=missing)
        elif pa.types.is_floating(kind):
            values = pa.array(rng.normal(0.0, 1e5, number), mask=missing).cast(kind)
        else:
            values = pa.array(rng.integers(0, 100, number), mask=missing).cast(kind)
        columns.append(values.dictionary_encode().cast(column.type) if kind != column.type else values)
    rows = pa.Table.from_arrays(columns, schema=table.schema)
    return rows.sort_by([(name, "ascending") for name in table.sorted_by])


def written(place: Path, table: Table, rows: pa.Table) -> tuple[Storage, DataFile]:
    storage = Storage.at(place)
    return storage, write_file(Destination(storage, table, Tile(2, 5), 3, "x"), rows)


masks = st.lists(st.sampled_from(["all", "none", "some", "first", "last"]), min_size=1, max_size=20)


def mask_of(groups: list[str], short: int, seed: int) -> np.ndarray:
    """Which rows stay, row group by row group; the last one is short."""
    rng = np.random.default_rng(seed)
    parts = {
        "all": lambda n: np.ones(n, bool),
        "none": lambda n: np.zeros(n, bool),
        "some": lambda n: rng.random(n) < 0.5,
        "first": lambda n: np.arange(n) < n // 3,
        "last": lambda n: np.arange(n) >= n // 3,
    }
    sizes = [GROUP] * (len(groups) - 1) + [short]
    return np.concatenate([parts[group](size) for group, size in zip(groups, sizes, strict=True)])


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=60, deadline=None)
@given(
    groups=masks, short=st.integers(1, GROUP), seed=st.integers(0, 1000), at_once=st.sampled_from([GROUP, 3 * GROUP])
)
def test_write_kept_gives_the_rows_that_stay_to_every_reader(
    name: str, groups: list[str], short: int, seed: int, at_once: int
) -> None:
    keep, table = mask_of(groups, short, seed), TABLES[name]
    if not keep.any():
        return
    rows = rows_of(table, len(keep), seed)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowremoval, "ROWS_AT_ONCE", at_once)
        storage, file = written(Path(place), table, rows)
        rest = write_kept(Destination(storage, table, Tile(2, 5), 4, "rest"), file, keep)
        expected = rows.filter(pa.array(keep))
        path = f"{storage.root}/{rest.path}"
        assert read_file_rows(storage, rest, table.names).cast(table.schema).equals(expected)
        assert pq.read_table(path, partitioning=None).cast(table.schema).equals(expected)
        assert_same_values(
            duckdb.sql(f"from read_parquet('{path}', hive_partitioning=false)").to_arrow_table(), expected
        )
        assert_same_values(polars.read_parquet(path, hive_partitioning=False).to_arrow(), expected)
        whole = write_file(Destination(storage, table, Tile(2, 5), 4, "whole"), expected)
        told = ("rows", "min_id", "max_id", "min_hmjd", "max_hmjd", "order", "npix", "commit", "table")
        assert [getattr(rest, key) for key in told] == [getattr(whole, key) for key in told]
        assert rest.size == Path(path).stat().st_size


def assert_same_values(got: pa.Table, expected: pa.Table) -> None:
    """Whatever type a reader has for dictionaries and strings."""
    assert got.column_names == expected.column_names
    for name in expected.column_names:
        assert got[name].to_pylist() == expected[name].to_pylist()


def test_rows_of_a_filter_go_without_others_being_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups end where another field or filter begins, but for very short ones."""
    table, filters = TABLES["detections"], [1] * 200 + [2] * 5 + [3] * 100
    assert table.cut_ids == 10**11
    ids = pa.array([679 * 10**12 + fid * 10**11 + number for number, fid in enumerate(filters)])
    rows = rows_of(table, len(filters)).set_column(0, table.schema.field("objectid"), ids)
    storage, file = written(tmp_path, table, rows)
    metadata = pq.read_metadata(Path(storage.root, file.path))
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [GROUP, GROUP, GROUP, 200 - 3 * GROUP, GROUP, 105 - GROUP]  # the five are no group by themselves
    monkeypatch.setattr(rowremoval, "encode", lambda table, rows: pytest.fail(f"{rows.num_rows} rows are encoded"))
    monkeypatch.setattr(rowremoval, "_schema", lambda name: metadata.schema)
    rest = write_kept(Destination(storage, table, Tile(2, 5), 4, "rest"), file, np.array(filters) == 1)
    assert read_file_rows(storage, rest, table.names).num_rows == 200


def test_write_kept_copies_the_bytes_of_row_groups_that_lose_nothing(tmp_path: Path) -> None:
    table = TABLES["detections"]
    storage, file = written(tmp_path, table, rows_of(table, 6 * GROUP))
    keep = mask_of(["all", "all", "some", "all", "none", "all"], GROUP, 1)
    rest = write_kept(Destination(storage, table, Tile(2, 5), 4, "rest"), file, keep)
    before, after = (Path(storage.root, one.path).read_bytes() for one in (file, rest))
    old, new = (pq.read_metadata(Path(storage.root, one.path)) for one in (file, rest))
    assert new.num_row_groups == 5
    for was, now in ((0, 0), (1, 1), (3, 3), (5, 4)):
        (a, b), (c, d) = span(old, was), span(new, now)
        assert before[a:b] == after[c:d]
        statistics = [metadata.row_group(at).column(0).statistics for metadata, at in ((old, was), (new, now))]
        assert (statistics[0].min, statistics[0].max) == (statistics[1].min, statistics[1].max)


def span(metadata: pq.FileMetaData, number: int) -> tuple[int, int]:
    group = metadata.row_group(number)
    columns = [group.column(i) for i in range(metadata.num_columns)]
    starts = [c.dictionary_page_offset or c.data_page_offset for c in columns]
    return min(starts), min(starts) + sum(c.total_compressed_size for c in columns)


def test_write_kept_encodes_all_of_a_file_of_another_layout(tmp_path: Path) -> None:
    table = TABLES["detections"]
    columns = tuple(replace(column, nullable=True) for column in table.columns)
    rows = rows_of(table, 3 * GROUP)
    storage, file = written(tmp_path, replace(table, columns=columns), rows.cast(pa.schema(c.field() for c in columns)))
    keep = mask_of(["all", "some", "all"], GROUP, 2)
    rest = write_kept(Destination(storage, table, Tile(2, 5), 4, "rest"), file, keep)
    assert pq.read_metadata(Path(storage.root, rest.path)).schema.equals(
        pq.read_metadata(pa.BufferReader(encode(table, rows))).schema
    )
    assert read_file_rows(storage, rest, table.names).cast(table.schema).equals(rows.filter(pa.array(keep)))


def test_write_kept_of_a_damaged_row_group_fails_though_it_is_not_decoded(tmp_path: Path) -> None:
    table = TABLES["detections"]
    storage, file = written(tmp_path, table, rows_of(table, 2 * GROUP))
    path = Path(storage.root, file.path)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(StoreDamagedError, match="the column chunk at byte 4 is not as written"):
        write_kept(Destination(storage, table, Tile(2, 5), 4, "rest"), file, mask_of(["all", "some"], GROUP, 1))


@pytest.mark.parametrize("groups", [1, 14, 15, 16, 140])
def test_footer_put_together_again_is_the_same(groups: int) -> None:
    table = replace(TABLES["orphans"], row_group_rows=2)
    footer = bytes(seal(encode(table, rows_of(table, 2 * groups))).footer)
    taken = Footer.of(footer)
    parts = [group.moved(0, number) for number, group in enumerate(taken.groups)]
    assert len(parts) == groups
    assert taken.holding(parts, 2 * groups) == footer


@pytest.mark.parametrize("shift", [-3, 5, 1 << 20, 1 << 40])
def test_row_group_moved_tells_its_new_places(shift: int) -> None:
    table = TABLES["detections"]
    encoded = encode(table, rows_of(table, 2 * GROUP))
    old = pq.read_metadata(pa.BufferReader(encoded))
    taken = Footer.of(bytes(seal(encoded).footer))
    footer = taken.holding([taken.groups[1].moved(shift, 0)], GROUP)
    new = pq.read_metadata(pa.BufferReader(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"))
    assert (new.num_rows, new.num_row_groups) == (GROUP, 1)
    for i in range(old.num_columns):
        was, now = old.row_group(1).column(i), new.row_group(0).column(i)
        assert now.data_page_offset == was.data_page_offset + shift
        assert now.has_dictionary_page == was.has_dictionary_page
        if was.has_dictionary_page:
            assert now.dictionary_page_offset == was.dictionary_page_offset + shift
        assert (now.encodings, now.statistics, now.total_compressed_size) == (
            was.encodings, was.statistics, was.total_compressed_size,
        )  # fmt: skip
