"""What the schema declares, and what depends on it without deriving from it."""

from __future__ import annotations

import hashlib
import typing

import pyarrow as pa
import pytest

from ztfmatch.core.io.storefile import FORMAT_VERSION
from ztfmatch.core.kernels import rows
from ztfmatch.core.schema import DETECTIONS, ORPHANS, TABLES, Encoding, sky
from ztfmatch.core.schema.corrections import ERROR_MODEL, FIELD, GRID, MAGNITUDE, POSITION, PROGRAM
from ztfmatch.core.schema.rows import QuarantineRow, ReferenceRow
from ztfmatch.core.schema.statistics import PERCENTILES

FORMATS = {4: "7130296ec83cdfeb", 5: "f2c6c44ded7fb0cf"}
"""Version of the store's format: digest of the tables that stores of it have.

Another column, or one of another type, is another format: add a line here, and its version in ztfmatch/core/io/log.py.
Lines that are here stay as they are."""


ADDED = {5: {"stars", "members", "starlineage", "exposureterms", "colours", "starstatistics", "offsets"}}
"""Tables that came without a new format: to a store that lacks them they are empty."""

BEFORE_RELEASE = {"flatdelta", "flatrms", "nflat", "clrcoeff"}
"""Columns that every release of the format writes, and that stores made before the first of them lack."""


def digest_of_tables() -> str:
    """Digest of what a reader relies on: which tables and columns there are, their order and types."""
    tables = [
        (
            table.name,
            table.by_tile,
            table.sorted_by,
            tuple(
                (column.name, str(column.type), column.nullable)
                for column in table.columns
                if not column.later or column.name in BEFORE_RELEASE
            ),
        )
        for table in TABLES.values()
        if table.name not in ADDED[FORMAT_VERSION]
    ]
    return hashlib.sha256(repr(tables).encode()).hexdigest()[:16]


def test_format_version_is_that_of_the_declared_tables() -> None:
    assert max(FORMATS) == FORMAT_VERSION
    assert FORMATS[FORMAT_VERSION] == digest_of_tables()
    assert len(set(FORMATS.values())) == len(FORMATS)


def test_no_integers_are_byte_stream_split() -> None:
    """Parquet allows it; DuckDB reads it from its version 2.0 on, and no row of a file with such a column before."""
    columns = [(table.name, column) for table in TABLES.values() for column in table.columns]
    split = [(name, column.name) for name, column in columns
             if column.encoding is Encoding.SPLIT and not pa.types.is_floating(column.type)]  # fmt: skip
    assert split == []


@pytest.mark.parametrize("table", [DETECTIONS, ORPHANS], ids=lambda table: table.name)
def test_detections_and_orphans_have_what_a_detection_keeps(table: sky.Table) -> None:
    """Rows go from one to the other when their unit is matched again."""
    kept = {column.name: column for column in (*sky.EPOCH, *sky.MEASURED)}
    assert {column.name: column for column in table.columns if column.name in kept} == kept
    assert set(rows.MEASURED) <= set(kept)


def test_measured_columns_name_their_catalogs_columns() -> None:
    """The reader of catalogs takes name and type from these."""
    assert all(name.isidentifier() for name, _ in rows.MEASURED.values())
    assert rows.MEASURED["psffluxerr"] == ("sigflux", rows.np.float32)


def test_bits_of_corrflags_are_one_for_each_outcome_of_each_term() -> None:
    bits = {name: value for name, value in vars(sky).items() if name.endswith("_TERM") or name == "NO_COLOUR"}
    always = ["MAGNITUDE_TERM", "POSITION_TERM", "FIELD_TERM"]
    assert set(bits) == {*always, *(f"NO_{name}" for name in always), "EXPOSURE_TERM", "NO_COLOUR"}
    assert sorted(bits.values()) == [1 << i for i in range(len(bits))]
    assert sum(bits[name] for name in always) == sky.ALL_TERMS
    assert max(bits.values()) < 1 << 8  # corrflags is uint8


def test_terms_of_corrections_are_described() -> None:
    described = TABLES["corrections"]["term"].description
    assert all(f"'{term}'" in described for term in (GRID, MAGNITUDE, POSITION, FIELD, ERROR_MODEL, PROGRAM))


def test_percentiles_are_named_by_their_percentage() -> None:
    assert all(float(f"{suffix[:2]}.{suffix[2:] or 0}") == percentage for suffix, percentage in PERCENTILES)


@pytest.mark.parametrize(
    ("row", "table"), [(ReferenceRow, "references"), (QuarantineRow, "quarantine")], ids=["references", "quarantine"]
)
def test_typed_rows_are_of_columns_of_their_table(row: type, table: str) -> None:
    kinds = {"int": int, "uin": int, "dou": float, "str": str}
    for name, told in typing.get_type_hints(row).items():
        column = TABLES[table][name]
        kind = kinds[str(column.type)[:3]]
        assert told == (kind | None if column.nullable else kind), name
