"""Write result tables as CSV, JSON, Parquet, or rows for a terminal."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

_DECIMALS = {"hmjd": 6, "mag": 4, "magerr": 4, "clrcoeff": 4, "ra": 7, "dec": 7}


def write_parquet(table: pa.Table, path: Path) -> None:
    """One Parquet file, zstd."""
    pq.write_table(table, path, compression="zstd")


def write_csv(table: pa.Table, stream: BinaryIO) -> None:
    """CSV with a header; nulls are empty."""
    plain = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    pyarrow.csv.write_csv(table.cast(pa.schema(plain)), stream)


def as_json_text(table: pa.Table) -> str:
    """A JSON list of rows; what is not finite is null."""
    rows = [{name: _finite(value) for name, value in row.items()} for row in table.to_pylist()]
    return json.dumps(rows, indent=None if len(rows) > 1000 else 1)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_rows(table: pa.Table, columns: Sequence[str]) -> list[list[str]]:
    """Rows as text, with as many decimals as mean something."""
    data = table.select(list(columns)).to_pydict()
    texts = [[_text(name, value) for value in data[name]] for name in columns]
    return [list(row) for row in zip(*texts, strict=True)]


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.{_DECIMALS.get(name, 6)}f}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def binary_output(path: Path | None) -> Iterator[BinaryIO]:
    """A file to write bytes to, or standard output."""
    if path is None:
        yield sys.stdout.buffer
    else:
        with path.open("wb") as stream:
            yield stream
