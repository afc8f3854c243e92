"""Output formats of rows: chosen by the suffix of a file, and their writers.

CSV, JSON, Parquet and Arrow are written table by table, so that memory is that of one; ECSV, FITS and VOTable are
astropy's, which takes all rows at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.schema.types import plain_type
from ztfmatch.query import tables

SUFFIXES: Final = {
    ".csv": "csv",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ecsv": "ecsv",
    ".fits": "fits",
    ".xml": "votable",
    ".vot": "votable",
}
"""Format by how a file's name ends."""

FILES_ONLY: Final = frozenset({"parquet", "arrow", "fits"})
"""Formats that are not text."""

_ASTROPY: Final = {"ecsv": "ascii.ecsv", "fits": "fits", "votable": "votable"}


def format_of(path: Path) -> str:
    """Format that a file's name says.

    Raises
    ------
    ConfigError
    """
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise ConfigError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    return form


def write_rows(rows: Iterable[pa.Table], schema: pa.Schema, form: str, path: Path | None) -> int:
    """Write rows to a file, which is there whole or not at all, or as text to the standard output.

    Returns
    -------
    int
        Number of rows.
    """
    if form == "parquet" and path is not None:
        return tables.stream_parquet(rows, schema, path)
    with tables.binary_output(path) as stream:
        return _WRITERS[form](rows, schema, stream)


def _write_arrow(rows: Iterable[pa.Table], schema: pa.Schema, stream: BinaryIO) -> int:
    """Arrow's IPC file, which is Feather version 2."""
    with pa.ipc.new_file(stream, schema) as writer:
        return tables.written(writer, rows)


def _write_csv(rows: Iterable[pa.Table], schema: pa.Schema, stream: BinaryIO) -> int:
    plain = pa.schema([field.with_type(plain_type(field.type)) for field in schema])
    return tables.stream_csv((table.cast(plain) for table in rows), plain, stream)


def _write_json(rows: Iterable[pa.Table], _: pa.Schema, stream: BinaryIO) -> int:
    """A list of objects, a line each; what is not finite is null."""
    number = 0
    stream.write(b"[")
    for table in rows:
        for line in _json_lines(table):
            stream.write((",\n" if number else "\n").encode() + line.encode())
            number += 1
    stream.write(b"\n]\n" if number else b"]\n")
    return number


def _json_lines(table: pa.Table) -> Iterator[str]:
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield json.dumps({name: _finite(value) for name, value in row.items()})


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _writer_of_astropy(form: str) -> Callable[[Iterable[pa.Table], pa.Schema, BinaryIO], int]:
    def write(rows: Iterable[pa.Table], schema: pa.Schema, stream: BinaryIO) -> int:
        from ztfmatch.query.astropytable import file_bytes

        table = tables.joined(rows, schema)
        stream.write(file_bytes(table, _ASTROPY[form]))
        return int(table.num_rows)

    return write


_WRITERS: Final = {
    "csv": _write_csv,
    "json": _write_json,
    "arrow": _write_arrow,
    **{form: _writer_of_astropy(form) for form in _ASTROPY},
}
