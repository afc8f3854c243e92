"""Files of products: written atomically, with checksums; Parquet laid out as a schema sets it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io import localfiles
from ztfmatch.core.io.encoding import PARQUET_ENCODING
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import Column, Encoding, Table
from ztfmatch.release.schema import LIGHTCURVE, LIGHTCURVE_COLUMN

_PAGE_BYTES: Final = 1 << 30
"""A row group of a column is one page: split into several, the planes of byte-stream split are broken up."""


@dataclass(frozen=True)
class Output:
    """One file of a product."""

    path: str
    """Below the product's directory."""
    rows: int
    size: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class Written:
    """Files of a product that a task wrote."""

    outputs: tuple[Output, ...] = ()


def outputs_of(results: Iterable[Written]) -> list[Output]:
    """Files that tasks wrote."""
    return [output for result in results for output in result.outputs]


class HashedFile(io.RawIOBase):
    """A file that is being written, and the checksums of what was."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.size = 0
        self._hashes = (hashlib.sha256(usedforsecurity=False), hashlib.md5(usedforsecurity=False))

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes written."""
        return self.size

    def write(self, data: Any) -> int:
        """Write some bytes."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        for running in self._hashes:
            running.update(view)
        self.size += len(view)
        return len(view)

    def output(self, path: str, rows: int) -> Output:
        """What was written."""
        sha256, md5 = (running.hexdigest() for running in self._hashes)
        return Output(path, rows, self.size, sha256, md5)


def place_of(storage: Storage, path: str) -> Path:
    """Where a file of a product is while that is made.

    Raises
    ------
    ConfigError
        If the storage is not a local directory.
    """
    if storage.local_root is None:
        raise ConfigError(f"products are written to a local directory; {storage.root} is none")
    return storage.local_root / path


@contextlib.contextmanager
def writing(storage: Storage, path: str) -> Iterator[HashedFile]:
    """A file in a directory that is being made: it gets its name when the block ends well, else is taken away.

    It is on disk only when that is asked for, of all files at a time.

    Raises
    ------
    ConfigError
        If the storage is not a local directory.
    """
    place = place_of(storage, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with localfiles.beside(place) as part:
        with part.open("wb") as file:
            yield HashedFile(file)
        part.replace(place)


def write_bytes(storage: Storage, path: str, content: bytes) -> Output:
    """Write a small file."""
    with writing(storage, path) as file:
        file.write(content)
    return file.output(path, 0)


def leaves(table: Table, compliant: bool) -> Iterator[tuple[str, Column]]:
    """Path in a Parquet file of every leaf column, and the column that says how it is laid out."""
    item = "element" if compliant else "item"
    for column in table.columns:
        if column.name == LIGHTCURVE_COLUMN:
            for part in LIGHTCURVE:
                yield f"{column.name}.{part.name}.list.{item}", part
        elif pa.types.is_list(column.type):
            yield f"{column.name}.list.{item}", column
        else:
            yield column.name, column


def parquet_writer(
    sink: HashedFile, table: Table, schema: pa.Schema | None = None, compliant: bool = True
) -> pq.ParquetWriter:
    """Writer of a product's file.

    Parameters
    ----------
    table : Table
        Says how each column is laid out.
    schema : pyarrow.Schema, optional
        With metadata of its own; by default the table's.
    compliant : bool
        Whether the elements of lists are named as Parquet demands (``element``) or as older files have it (``item``).
    """
    named = dict(leaves(table, compliant))
    dictionary = [path for path, column in named.items() if column.encoding is Encoding.DICTIONARY]
    return pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        schema or table.schema,
        compression="zstd",
        compression_level={path: column.zstd_level for path, column in named.items()},
        use_dictionary=dictionary,
        column_encoding={
            path: PARQUET_ENCODING[column.encoding] for path, column in named.items() if path not in dictionary
        },
        write_statistics=[path for path, column in named.items() if column.bounds],
        data_page_size=_PAGE_BYTES,
        max_rows_per_page=table.row_group_rows,
        use_compliant_nested_type=compliant,
        version="2.6",
    )


def write_table(storage: Storage, path: str, table: Table, data: pa.Table, cuts: Sequence[int] = ()) -> Output:
    """Write rows as one Parquet file.

    Parameters
    ----------
    cuts : sequence of int
        Rows at which a row group begins, but the first; without them groups have the table's number of rows.
    """
    edges = [0, *(cuts or range(table.row_group_rows, data.num_rows, table.row_group_rows)), data.num_rows]
    with writing(storage, path) as file, parquet_writer(file, table, data.schema) as writer:
        for start, stop in itertools.pairwise(edges):
            writer.write_table(data.slice(start, stop - start), row_group_size=max(stop - start, 1))
    return file.output(path, data.num_rows)
