"""Rows as the bytes of a Parquet file: encodings, compression and row groups as its table's schema sets them."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ztfmatch.core.schema import Encoding, Table

_PAGE_MARGIN_BYTES: Final = 1 << 16
_SHORTEST: Final = 4
"""A row group is cut where it has this part of its rows at least: many small ones cost more than they spare."""
PARQUET_ENCODING: Final = {
    Encoding.SPLIT: "BYTE_STREAM_SPLIT",
    Encoding.DELTA: "DELTA_BINARY_PACKED",
    Encoding.PLAIN: "PLAIN",
}


def encode(table: Table, data: pa.Table) -> pa.Buffer:
    """Parquet bytes of rows of a table, laid out as its schema says."""
    sink = pa.BufferOutputStream()
    dictionary = [column.name for column in table.columns if column.encoding is Encoding.DICTIONARY]
    encodings = {
        column.name: PARQUET_ENCODING[column.encoding]
        for column in table.columns
        if column.encoding is not Encoding.DICTIONARY and not pa.types.is_dictionary(column.type)
    }
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level={column.name: column.zstd_level for column in table.columns},
        use_dictionary=dictionary,
        column_encoding=encodings,
        write_statistics=[column.name for column in table.columns if column.bounds],
        write_page_index=False,
        data_page_size=8 * table.row_group_rows + _PAGE_MARGIN_BYTES,
        max_rows_per_page=table.row_group_rows,
        version="2.6",
    ) as writer:
        rows = data if data.schema.equals(table.schema, check_metadata=True) else data.cast(table.schema)
        for start, stop in itertools.pairwise(_cuts(table, rows)):
            writer.write_table(rows.slice(start, stop - start), row_group_size=table.row_group_rows)
    return sink.getvalue()


def _cuts(table: Table, rows: pa.Table) -> list[int]:
    """First rows of runs that share no row group, and one past the last row; no run but the last is very short."""
    cuts = [0]
    if table.cut_ids and rows.num_rows > table.row_group_rows // _SHORTEST:
        which = rows[table.sorted_by[0]].to_numpy() // table.cut_ids
        for at in (np.flatnonzero(np.diff(which)) + 1).tolist():
            if at - cuts[-1] >= table.row_group_rows // _SHORTEST:
                cuts.append(at)
    return [*cuts, rows.num_rows]
