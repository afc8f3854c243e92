"""Sealed files: other tools read them as any Parquet file, ours verify every byte."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import xxhash
from faultproxy import FaultProxy, undisturbed
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.core.errors import StoreDamagedError
from ztfmatch.core.io.parquet import (
    DataFile,
    Destination,
    OpenFile,
    encode,
    read_file_rows,
    table_from_columns,
    write_file,
)
from ztfmatch.core.io.sealed import SealedFile, Tail, seal
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import Tile
from ztfmatch.core.schema import QUARANTINE, STATISTICS, TABLES

ROWS = 300_000


def rows_of(number: int) -> pa.Table:
    """Rows of a table of many columns, in three row groups."""
    columns = {
        column.name: pa.array([None if column.nullable and i % 3 else i % 100 for i in range(number)], column.type)
        if not pa.types.is_boolean(column.type)
        else pa.array([i % 2 == 0 for i in range(number)])
        for column in STATISTICS.columns
    }
    return table_from_columns(STATISTICS, columns)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, DataFile, pa.Table]:
    storage, rows = Storage.at(tmp_path_factory.mktemp("sealed")), rows_of(ROWS)
    return storage, write_file(Destination(storage, STATISTICS, Tile(2, 5), 3, "x"), rows), rows


def test_sealed_file_is_read_by_other_tools_as_it_is(written: tuple[Storage, DataFile, pa.Table]) -> None:
    storage, file, rows = written
    path = f"{storage.root}/{file.path}"
    assert pq.read_table(path, partitioning=None).equals(rows)
    assert ds.dataset(path).to_table().equals(rows)
    assert duckdb.sql(f"select count(*), sum(objectid) from '{path}'").fetchall() == [
        (ROWS, sum(rows["objectid"].to_pylist()))
    ]
    assert polars.read_parquet(path).height == ROWS


def test_seal_adds_twelve_bytes_a_column_chunk_before_the_footer() -> None:
    plain = encode(STATISTICS, rows_of(ROWS))
    metadata = pq.read_metadata(pa.BufferReader(plain))
    chunks = metadata.num_row_groups * metadata.num_columns
    sealed = seal(plain)
    assert metadata.num_row_groups == 3
    assert len(sealed.content) == plain.size + 12 * chunks
    end = len(sealed.content) - sealed.tail
    assert sealed.content[:end] == plain.to_pybytes()[:end]
    assert sealed.content[end + 12 * chunks :] == plain.to_pybytes()[end:]
    first = metadata.row_group(0).column(0).total_compressed_size
    checksum = xxhash.xxh3_64_intdigest(sealed.content[4 : 4 + first])
    assert sealed.content[end : end + 12] == first.to_bytes(4, "little") + checksum.to_bytes(8, "little")


@given(start=st.integers(0, 2**25), length=st.integers(-1, 2**21))
def test_sealed_file_reads_any_range_as_the_bytes_are(
    written: tuple[Storage, DataFile, pa.Table], start: int, length: int
) -> None:
    storage, file, _ = written
    whole = storage.read(file.path)
    source = SealedFile(storage, file)
    start %= len(whole) + 10
    source.seek(start)
    assert bytes(source.read(length)) == whole[start : len(whole) if length < 0 else start + length]


def test_sealed_file_other_chunks_may_be_damaged(written: tuple[Storage, DataFile, pa.Table], tmp_path: Path) -> None:
    """Only what is read is verified: a query does not pay for a file, and a bad column does not hide the others."""
    storage, file, rows = written
    data = bytearray(storage.read(file.path))
    copy = Storage.at(tmp_path)
    data[10] ^= 1
    copy.put(file.path, bytes(data))
    names = rows.column_names
    assert read_file_rows(copy, file, names[-2:]).equals(rows.select(names[-2:]))
    with pytest.raises(
        StoreDamagedError, match=r"table statistics, tile .*, snapshot 3\) is damaged: the column chunk at byte 4"
    ):
        read_file_rows(copy, file, names[:1])


@pytest.mark.parametrize("place", ["local", "remote"])
def test_read_is_by_no_thread_of_arrow(
    written: tuple[Storage, DataFile, pa.Table],
    place: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a thread may free what it read when Python has begun to end, and that aborts the process."""
    storage, file, rows = written
    if place == "remote":
        storage = Storage.at(f"{request.getfixturevalue('s3_bucket')}/s")
        storage.put(file.path, written[0].read(file.path))
    readers: set[threading.Thread] = set()
    original = SealedFile.read_buffer

    def noted(self: SealedFile, size: int = -1) -> memoryview:
        readers.add(threading.current_thread())
        return original(self, size)

    monkeypatch.setattr(SealedFile, "read_buffer", noted)
    assert read_file_rows(storage, file, rows.column_names, threads=True).equals(rows)
    assert read_file_rows(storage, file, rows.column_names).equals(rows)
    assert pa.Table.from_batches(OpenFile(storage, file).batches(rows.column_names, 70_000)).equals(rows)
    assert len(readers) > 1  # this one and some of ours
    assert [thread for thread in readers if isinstance(thread, threading._DummyThread)] == []
    assert [thread for thread in readers if thread.is_alive()] == [threading.current_thread()]


def test_read_with_threads_is_as_without(written: tuple[Storage, DataFile, pa.Table]) -> None:
    storage, file, rows = written
    names = rows.column_names[::-3]
    threaded, plain = (read_file_rows(storage, file, names, threads=threads) for threads in (True, False))
    assert threaded.schema.equals(plain.schema, check_metadata=True)
    assert threaded.equals(plain)
    assert plain.equals(rows.select(names))


def test_batches_are_of_at_most_so_many_rows(written: tuple[Storage, DataFile, pa.Table]) -> None:
    storage, file, rows = written
    sizes = [batch.num_rows for batch in OpenFile(storage, file).batches(["objectid"], 50_000)]
    assert max(sizes) <= 50_000
    assert sum(sizes) == rows.num_rows


@pytest.mark.parametrize("name", TABLES)
def test_sealed_file_without_rows_is_read(tmp_path: Path, name: str) -> None:
    storage, table = Storage.at(tmp_path), TABLES[name]
    file = write_file(Destination(storage, table, None, 0, "x"), table.schema.empty_table())
    assert read_file_rows(storage, file, table.names).equals(table.schema.empty_table())


def test_sealed_file_longer_than_written_has_the_same_rows(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    rows = QUARANTINE.schema.empty_table()
    file = write_file(Destination(storage, QUARANTINE, None, 0, "x"), rows)
    storage.put(file.path, storage.read(file.path) + b"more")
    assert read_file_rows(storage, file, QUARANTINE.names).equals(rows)


def test_row_group_of_an_object_store_is_one_request(s3_bucket: str, s3_faults: FaultProxy) -> None:
    storage, rows = Storage.at(f"{s3_bucket}/s"), rows_of(ROWS)
    file = write_file(Destination(storage, STATISTICS, Tile(2, 5), 3, "x"), rows)
    s3_faults.follow(undisturbed)
    read = OpenFile(storage, file).read([1], STATISTICS.names)
    step = STATISTICS.row_group_rows
    assert read.equals(rows.slice(step, step))
    assert [request.method for request, _ in s3_faults.seen] == ["GET", "GET"]


@pytest.mark.parametrize("threads", [False, True])
def test_read_of_an_object_store_asks_once_for_columns_beside_each_other(
    s3_bucket: str, s3_faults: FaultProxy, threads: bool
) -> None:
    storage, rows = Storage.at(f"{s3_bucket}/s"), rows_of(ROWS)
    file = write_file(Destination(storage, STATISTICS, Tile(2, 5), 3, "x"), rows)
    s3_faults.follow(undisturbed)
    assert read_file_rows(storage, file, rows.column_names, threads=threads).equals(rows)
    assert [request.method for request, _ in s3_faults.seen] == ["GET", "GET"]  # the tail and the rest


def test_runs_join_what_is_near_and_part_what_is_far(
    written: tuple[Storage, DataFile, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, file, rows = written
    tail, group = Tail(storage, file), range(1)
    assert tail.runs([], rows.column_names) == []
    ((first, last),) = tail.runs(group, rows.column_names[:1])
    size = tail.metadata.row_group(0).column(0).total_compressed_size
    assert (first, last) == (4, 4 + size)
    assert tail.runs(range(3), rows.column_names) == [(4, tail.start)]
    monkeypatch.setattr("ztfmatch.core.io.sealed._GAP_BYTES", -1)
    apart = tail.runs(range(3), rows.column_names)
    assert len(apart) == 3 * len(rows.column_names)
    assert apart[0] == (4, 4 + size)
    monkeypatch.setattr("ztfmatch.core.io.sealed._GAP_BYTES", 1 << 13)
    monkeypatch.setattr("ztfmatch.core.io.sealed._REQUEST_BYTES", 1)
    assert tail.runs(range(3), rows.column_names) == apart


def _footers() -> int:
    return sum(isinstance(one, pq.FileMetaData) for one in gc.get_objects())


def test_footers_of_files_that_were_read_do_not_wait_for_the_garbage_collector(
    written: tuple[Storage, DataFile, pa.Table],
) -> None:
    """Each may take a megabyte, and whoever goes through a ledger reads hundreds before Python looks for circles."""
    storage, file, rows = written
    gc.collect()
    before = _footers()  # of what else this process ran
    gc.disable()
    try:
        for _ in range(3):
            read_file_rows(storage, file, rows.column_names)
            read_file_rows(storage, file, ["objectid"], [(0, 10)])
            list(OpenFile(storage, file).batches(["objectid"], 10))
        assert _footers() == before
    finally:
        gc.enable()
