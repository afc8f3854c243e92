"""Bytes that each column of a table takes in the Parquet files of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq


@dataclass(frozen=True)
class Sizes:
    """A table's rows, the bytes of its files, and of each column in them."""

    rows: int
    bytes: int
    columns: dict[str, int]
    encodings: dict[str, str]

    def per_row(self) -> dict[str, float]:
        """Bytes per row: every column, what is not in a column (footers), the sum."""
        rows = max(self.rows, 1)
        sizes = {name: size / rows for name, size in self.columns.items()}
        return {**sizes, "(footers)": (self.bytes - sum(self.columns.values())) / rows, "all": self.bytes / rows}


def sizes_of(store: Path, table: str) -> Sizes:
    """Sizes of a table in a local store whose files are all live: one that was appended to, not compacted."""
    rows = size = 0
    columns: dict[str, int] = {}
    encodings: dict[str, str] = {}
    for file in sorted((store / "data" / table).rglob("*.parquet")):
        metadata = pq.read_metadata(file)
        rows += metadata.num_rows
        size += file.stat().st_size
        for group in range(metadata.num_row_groups):
            for i in range(metadata.num_columns):
                column = metadata.row_group(group).column(i)
                name = column.path_in_schema
                columns[name] = columns.get(name, 0) + column.total_compressed_size
                encodings[name] = "+".join(e for e in column.encodings if e != "RLE")
    return Sizes(rows, size, columns, encodings)
