"""Write result tables as CSV, JSON or Parquet."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ztfmatch.core.errors import ConfigError, StorageError
from ztfmatch.core.io.localfiles import whole
from ztfmatch.core.schema.voparquet import with_votable

_HELD_ROWS: Final = 100_000


def stream_parquet(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> int:
    """One Parquet file of many tables, zstd, there whole or not at all; the number of rows.

    Raises
    ------
    ConfigError
        If it is a pipe.
    """
    if path.is_fifo():
        raise ConfigError(f"{path} is a pipe, into which Parquet cannot be written: ask for CSV, or give a file")
    with _beside(path) as part, pq.ParquetWriter(part, with_votable(schema), compression="zstd") as writer:
        return written(writer, (table.cast(writer.schema) for table in tables))


def stream_csv(tables: Iterable[pa.Table], schema: pa.Schema, stream: BinaryIO) -> int:
    """CSV of many tables without dictionaries, with one header; the number of rows."""
    with pyarrow.csv.CSVWriter(stream, schema) as writer:
        return written(writer, tables)


def written(writer: Any, tables: Iterable[pa.Table]) -> int:
    """Give tables to a writer of Arrow's, one after the other; the number of rows."""
    rows = 0
    for table in tables:
        writer.write_table(table)
        rows += table.num_rows
    return rows


def first_rows(tables: Iterable[pa.Table], limit: int) -> Iterator[pa.Table]:
    """Tables until there are so many rows; no more of them are made than it takes."""
    for table in tables:
        yield table.slice(0, limit)
        limit -= table.num_rows
        if limit <= 0:
            return


def in_order(tables: Iterable[pa.Table], keys: Sequence[str]) -> Iterator[pa.Table]:
    """Tables in the order of some columns where they are few and small; else as they come."""
    rest = iter(tables)
    held: list[pa.Table] = []
    rows = 0
    for table in rest:
        held.append(table)
        rows += table.num_rows
        if rows > _HELD_ROWS:
            break
    else:
        if len(held) > 1 and set(keys) <= set(held[0].schema.names):
            held = [pa.concat_tables(held).sort_by([(key, "ascending") for key in keys])]
    yield from held
    yield from rest


def of_filters(table: pa.Table, fids: Sequence[int]) -> pa.Table:
    """Rows that are of some filters."""
    return table.filter(pc.is_in(table["fid"], pa.array(fids, table["fid"].type)))


def joined(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """One table of many."""
    return pa.concat_tables([schema.empty_table(), *iter(tables)])


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Another name to write to, which is made the file's own when the block ends well."""
    part = path
    try:
        with whole(path) as part:
            yield part
    except OSError as error:
        if str(part) not in str(error):
            raise
        raise StorageError(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from error


@contextlib.contextmanager
def binary_output(path: Path | None) -> Iterator[BinaryIO]:
    """A file to write bytes to, there whole or not at all, or standard output."""
    if path is None:
        yield sys.stdout.buffer
    else:
        with _beside(path) as part, part.open("wb") as stream:
            yield stream
