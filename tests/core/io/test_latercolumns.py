"""Columns that came without a new format are null in files that lack them, whichever way these are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import append, epochal_file, make_store, reference_file, rows_at

from ztfmatch.core.io.parquet import DataFile, Destination, OpenFile, read_file_rows, write_file
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.schema import EXPOSURES, REFERENCES

LATER = ["relscatter", "photometric", "flatdelta", "flatrms", "nflat"]
OLDER = replace(EXPOSURES, columns=tuple(column for column in EXPOSURES.columns if column.name not in LATER))


@pytest.fixture
def older(tmp_path: Path) -> tuple[Storage, DataFile]:
    """A file of the ledger without the columns."""
    storage = make_store(tmp_path / "store", [reference_file(tmp_path, rows_at([10.0], [20.0]))])
    append(storage, [epochal_file(tmp_path, rows_at([10.0], [20.0]), night) for night in range(3)])
    rows = open_snapshot(storage).read("exposures").select(OLDER.names)
    return storage, write_file(Destination(storage, OLDER, None, 1, "older"), rows)


def test_columns_are_declared_later() -> None:
    assert EXPOSURES.later == set(LATER)
    assert REFERENCES.later == {"clrcoeff"}


@pytest.mark.parametrize("columns", [EXPOSURES.names, LATER, ["photometric", "exposureid"], ["relzp"]])
@pytest.mark.parametrize("threads", [False, True])
def test_read_of_a_file_without_later_columns_has_nulls(
    older: tuple[Storage, DataFile], columns: list[str], threads: bool
) -> None:
    rows = read_file_rows(*older, columns, threads=threads)
    assert (rows.column_names, rows.num_rows) == (columns, 3)
    assert all(
        rows[name].null_count == 3 and rows[name].type == EXPOSURES[name].type for name in LATER if name in columns
    )
    held = [name for name in columns if name not in LATER]
    assert rows.select(held).equals(read_file_rows(*older, held)) if held else True


def test_batches_and_ranges_of_such_a_file_have_nulls(older: tuple[Storage, DataFile]) -> None:
    rows = pa.Table.from_batches(OpenFile(*older).batches(["exposureid", *LATER], 2))
    assert (rows.num_rows, rows["relscatter"].null_count) == (3, 3)
    some = read_file_rows(*older, ["photometric"], [(0, 10_000)], "field")
    assert (some.num_rows, some["photometric"].null_count) == (3, 3)
