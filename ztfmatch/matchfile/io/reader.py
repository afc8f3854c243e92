"""Read matchfiles of the survey: HDF5 by PyTables, checked against their layout first."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Ints, Records
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.plain import Row
from ztfmatch.core.survey import MAX_SOURCEID, Unit, parse_matchfile_name
from ztfmatch.matchfile import schema as layout
from ztfmatch.matchfile.io.hdf5 import Table, attribute, child, open_hdf5

PATTERN: Final = "*_match.pytable"
ROWS_AT_A_TIME: Final = 65_536
"""Few, so that they stay in the processor's cache until they have been looked at."""

_MOST_EXPOSURES: Final = 1_000_000
"""Of a matchfile: a hundred a night for decades."""


@dataclass(frozen=True)
class Stamp:
    """What tells a file from what it was."""

    size: int
    changed_ns: int

    @classmethod
    def of(cls, source: str) -> Stamp:
        """Of a file as it is now.

        Raises
        ------
        CatalogError
            If it cannot be read.
        """
        try:
            status = Path(source).stat()
        except OSError as error:
            raise CatalogError("unreadable", f"cannot be read: {error.strerror or error}") from error
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Batch:
    """Some consecutive rows of ``sourcedata`` or ``transientdata``."""

    first_row: int
    """Its number among the rows of both."""
    rows: Records
    """With the columns of ``sourcedata``; valid until the next batch is read."""
    transient: Records | None = None
    """The same rows with all columns of ``transientdata``, if they are of that."""


class Matchfile:
    """An open matchfile, whose tables are looked at when they are asked for."""

    def __init__(self, source: str, file: Any) -> None:
        self._group = child(file, layout.GROUP)
        if self._group is None:
            raise CatalogError("layout", f"it has no group /{layout.GROUP}")
        self._tables: dict[str, Table] = {}
        self.unit: Final = _unit(_plain(self._group, layout.IDENTITY), Path(source).name)

    def check_layout(self) -> None:
        """Look at every table; what is not asked for would go unseen.

        Raises
        ------
        CatalogError
            If one is missing or has other columns, or there are too many rows.
        """
        for name in layout.TABLES:
            self._table(name)
        if self.nepochs + self.ntransientepochs >= 2**31:
            raise CatalogError(
                "too-large", f"{self.nepochs + self.ntransientepochs} epochs; at most 2^31 - 1 can be numbered"
            )

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            path = f"/{layout.GROUP}/{name}"
            node = child(self._group, name)
            if node is None:
                expected = f"{', '.join(layout.TABLES)} in /{layout.GROUP}"
                raise CatalogError("layout", f"it has no table {path}; expected {expected}")
            table = Table(node, path)
            _check_columns(name, table.dtype)
            self._tables[name] = table
        return self._tables[name]

    @functools.cached_property
    def attributes(self) -> Row:
        """Attributes by columns of the table ``matchfiles``; None where the file lacks one."""
        of_data = self._table("sourcedata").node
        return _plain(self._group, layout.ATTRIBUTES) | _plain(of_data, layout.ERROR_MODEL)

    @functools.cached_property
    def sources(self) -> Records:
        """Rows of ``sources``, as :data:`ztfmatch.matchfile.schema.SOURCES`."""
        rows = self._rows("sources", MAX_SOURCEID + 1)
        _check_ids(rows["matchid"].astype(np.int64), "sources", "matchid", MAX_SOURCEID)
        return rows

    @functools.cached_property
    def exposures(self) -> Records:
        """Rows of ``exposures``, as :data:`ztfmatch.matchfile.schema.EXPOSURES`."""
        rows = self._rows("exposures", _MOST_EXPOSURES)
        _check_ids(rows["expid"].astype(np.int64), "exposures", "expid", 2**32 - 1)
        return rows

    def _rows(self, name: str, most: int) -> Records:
        """All rows of a table, which cannot have more than so many."""
        table = self._table(name)
        if table.nrows > most:
            raise CatalogError("too-large", f"{name} has {table.nrows} rows; expected at most {most}")
        return _laid_out(table.read(0, table.nrows), layout.TABLES[name])

    @property
    def nepochs(self) -> int:
        """Rows of ``sourcedata``."""
        return int(self._table("sourcedata").nrows)

    @property
    def ntransientepochs(self) -> int:
        """Rows of ``transientdata``."""
        return int(self._table("transientdata").nrows)

    def batches(self, rows: int = ROWS_AT_A_TIME) -> Iterator[Batch]:
        """All epochs, some at a time: those of sources, then those of transients; whole chunks of the file, if more."""
        table, room = self._table("sourcedata"), np.empty(0, layout.SOURCEDATA)
        step = _whole_chunks(table, rows)
        for start in range(0, self.nepochs, step):
            n = min(step, self.nepochs - start)
            if table.dtype == layout.SOURCEDATA:
                room = room if len(room) >= n else np.empty(n, layout.SOURCEDATA)
                table.read(start, start + n, out=room[:n])
                yield Batch(start, room[:n])
            else:
                yield Batch(start, _laid_out(table.read(start, start + n), layout.SOURCEDATA))
        table = self._table("transientdata")
        step = _whole_chunks(table, rows)
        for start in range(0, self.ntransientepochs, step):
            stop = min(start + step, self.ntransientepochs)
            part = _laid_out(table.read(start, stop), layout.TRANSIENTDATA)
            yield Batch(self.nepochs + start, _laid_out(part, layout.SOURCEDATA), part)


@contextlib.contextmanager
def open_matchfile(source: str) -> Iterator[Matchfile]:
    """Open a matchfile; what is wrong with it, then or as it is read, is one error.

    Raises
    ------
    ConfigError
        If h5py is not installed.
    CatalogError
        If it cannot be read, is not a whole HDF5 file or no matchfile, or contradicts itself.
    """
    with open_hdf5(source) as file:
        yield Matchfile(source, file)


def checksum(source: str) -> str:
    """SHA-256 of a file of any size, hexadecimal."""
    try:
        with Path(source).open("rb", buffering=0) as file:
            return hashlib.file_digest(file, functools.partial(hashlib.sha256, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise CatalogError("unreadable", f"cannot be read: {error.strerror or error}") from error


def _whole_chunks(table: Table, rows: int) -> int:
    """So many rows, or a few more, that they are whole chunks of a table."""
    return -(-rows // table.chunk_rows) * table.chunk_rows


def _check_columns(table: str, found: np.dtype[Any]) -> None:
    """Every column must be there, with a type whose values ours can hold."""
    for name in layout.TABLES[table].names or ():
        wanted = layout.TABLES[table][name]
        if name not in (found.names or ()):
            raise CatalogError("layout", f"table {table} has no column {name}")
        kind = found[name]
        if kind.shape != wanted.shape or not np.can_cast(kind.base, wanted.base, "safe"):
            raise CatalogError("layout", f"column {name} of {table} is {kind}; expected {wanted}")


def _laid_out(rows: Records, dtype: np.dtype[Any]) -> Records:
    """Rows with the columns of a type and no others."""
    if rows.dtype == dtype:
        return rows
    out = np.empty(len(rows), dtype)
    for name in dtype.names or ():
        out[name] = rows[name]
    return out


def _plain(node: Any, names: dict[str, str]) -> Row:
    """Attributes by our names of them."""
    return {ours: attribute(node, theirs) for ours, theirs in names.items()}


def _unit(values: Row, filename: str) -> Unit:
    try:
        unit = Unit(int(values["field"]), int(values["rcid"]), int(values["fid"]))
        named = parse_matchfile_name(filename)
    except (TypeError, ValueError) as error:
        raise CatalogError("layout", f"attributes {values}: {error}") from None
    if (unit.ccdid, unit.qid) != (values["ccdid"], values["qid"]):
        found = f"ccdID {values['ccdid']}, quadrantID {values['qid']}"
        raise CatalogError("contradiction", f"{found}; expected {unit.ccdid}, {unit.qid} for rcID {unit.rcid}")
    if named not in (None, unit):
        raise CatalogError("contradiction", f"the name says unit {named}, the attributes {unit}")
    return unit


def _check_ids(ids: Ints, table: str, name: str, largest: int) -> None:
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= largest:
        raise CatalogError("layout", f"{name} of {table} reach from {ids.min()} to {ids.max()}; expected 0..{largest}")
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise CatalogError("contradiction", f"{name} {values[np.argmax(counts)]} is in {table} {counts.max()} times")
