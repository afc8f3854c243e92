"""What a column and a table are: the classes that the declarations in this package are made of."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.schema.ucds import ucd_of


class Encoding(Enum):
    """How a column is laid out in Parquet, chosen by measurement (see tests/benchmarks)."""

    DICTIONARY = "dictionary"
    """Few distinct values, or values written with few decimals."""
    SPLIT = "byte-stream split"
    """Full-precision floats: bytes of like significance together, then compressed. DuckDB 1 reads no integers so."""
    DELTA = "delta"
    """Integers: differences of neighbours, in as few bits as a block of them needs."""
    PLAIN = "plain"


@dataclass(frozen=True)
class Column:
    """One column, declared once: readers, writers and documentation derive from it."""

    name: str
    type: pa.DataType
    unit: str
    description: str
    source: str
    nullable: bool = False
    encoding: Encoding = Encoding.PLAIN
    bounds: bool = False
    """Whether minimum and maximum are kept for each row group."""
    zstd_level: int = 3
    """Lower where a higher one takes much longer and saves next to nothing."""
    later: bool = False
    """Whether it came without a new format: in files that lack it, all its values are null."""

    @property
    def ucd(self) -> str:
        """What it is in words of the Virtual Observatory; empty where none say it."""
        return ucd_of(self.name)

    def field(self) -> pa.Field:
        """Arrow field with unit, description, source and, where there is one, UCD as metadata."""
        metadata = {"unit": self.unit, "description": self.description, "source": self.source}
        metadata |= {"ucd": self.ucd} if self.ucd else {}
        return pa.field(self.name, self.type, self.nullable, metadata)


few: Final = functools.partial(Column, encoding=Encoding.DICTIONARY)
split: Final = functools.partial(Column, encoding=Encoding.SPLIT)
delta: Final = functools.partial(Column, encoding=Encoding.DELTA)
"""Columns by what their values are like; see :class:`Encoding`."""

LABEL: Final = pa.dictionary(pa.int8(), pa.string())
"""Type of a column of few texts."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Of a dictionary the type of its values."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def numpy_type(kind: pa.DataType) -> npt.DTypeLike:
    """NumPy's type for numbers of a column; Arrow's own ``to_pandas_dtype`` needs pandas in some releases."""
    return pa.array([], kind).to_numpy(zero_copy_only=False).dtype  # type: ignore[no-any-return]


def struct_of_lists(columns: Sequence[Column]) -> pa.DataType:
    """Type of a nested column: one list for each column, whose type is that of an element."""
    return pa.struct([column.field().with_type(pa.list_(column.type)).with_nullable(True) for column in columns])


@dataclass(frozen=True)
class Table:
    """One table of the store."""

    name: str
    description: str
    sorted_by: tuple[str, ...]
    columns: tuple[Column, ...]
    by_tile: bool = True
    """False for the tables about files, which are not divided over the sky."""
    row_group_rows: int = 131_072
    """Rows of a row group, and of its one page in each column. By default 2^17, so that every byte plane of a
    byte-stream split column fills whole zstd blocks and has an entropy table of its own: smaller pages mix the planes.
    Where few rows of many are read a smaller row group is worth that. Smaller pages in a large row group cost as many
    bytes and, with a page index, serve DuckDB and Polars as well, but not Arrow, which reads the store and leaves no
    page out (``tests/benchmarks/pages.py``)."""

    cut_ids: int = 0
    """Where it is not 0, a row group ends where ids of the first sorting column pass a multiple of it, unless it is
    very short: what goes with such a range of ids leaves the other row groups as they are."""

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """Arrow schema, with the metadata of every column."""
        return pa.schema([column.field() for column in self.columns])

    @functools.cached_property
    def empty(self) -> pa.Table:
        """The table without rows."""
        return self.schema.empty_table()

    @functools.cached_property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    @functools.cached_property
    def order(self) -> list[tuple[str, str]]:
        """Keys of its order, for Arrow's ``sort_by``."""
        return [(name, "ascending") for name in self.sorted_by]

    @functools.cached_property
    def later(self) -> frozenset[str]:
        """Names of columns that files may lack."""
        return frozenset(column.name for column in self.columns if column.later)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.name} has no column {name!r}; it has {', '.join(self.names)}")
