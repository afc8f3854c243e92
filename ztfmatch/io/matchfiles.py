"""Read the survey's matchfiles: PyTables HDF5, checked against their layout before anything is made of them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.errors import CatalogError, ConfigError
from ztfmatch.schema import matchfile as layout
from ztfmatch.survey import MAX_SOURCEID, Unit, parse_matchfile_name

PATTERN: Final = "*_match.pytable"
ROWS_AT_A_TIME: Final = 500_000

_HASHED_AT_A_TIME: Final = 1 << 22

Records = npt.NDArray[np.void]


def pytables() -> Any:
    """PyTables, which only matchfiles need.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        import tables
    except ImportError:
        raise ConfigError("matchfiles need PyTables: pip install 'ztfmatch[matchfile]'") from None
    return tables


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
    transient: bool


class Matchfile:
    """An open matchfile whose small tables have been read.

    Attributes
    ----------
    unit : Unit
    attributes : dict
        By columns of the table ``matchfiles``; None where the file lacks one.
    sources, exposures : structured ndarray
        As :data:`ztfmatch.schema.matchfile.SOURCES` and EXPOSURES.
    nepochs, ntransientepochs : int
        Rows of ``sourcedata`` and ``transientdata``.
    """

    def __init__(self, source: str, file: Any) -> None:
        self._tables = {name: _node(file, name) for name in layout.TABLES}
        for name, table in self._tables.items():
            _check_columns(name, table.dtype)
        attributes = file.root[layout.GROUP]._v_attrs  # noqa: SLF001 (PyTables' public name for them)
        self.unit = _unit(attributes, Path(source).name)
        self.attributes = self._attributes(attributes)
        self.nepochs = int(self._tables["sourcedata"].nrows)
        self.ntransientepochs = int(self._tables["transientdata"].nrows)
        if self.nepochs + self.ntransientepochs >= 2**31:
            raise CatalogError(
                "too-large", f"{self.nepochs + self.ntransientepochs} epochs; at most 2^31 - 1 can be told"
            )
        self.sources = _laid_out(self._tables["sources"].read(), layout.SOURCES)
        self.exposures = _laid_out(self._tables["exposures"].read(), layout.EXPOSURES)
        _check_ids(self.sources["matchid"].astype(np.int64), "sources", "matchid", MAX_SOURCEID)
        _check_ids(self.exposures["expid"].astype(np.int64), "exposures", "expid", 2**32 - 1)

    def _attributes(self, attributes: Any) -> dict[str, Any]:
        found = {ours: _plain(attributes, theirs) for ours, theirs in layout.ATTRIBUTES.items()}
        of_data = self._tables["sourcedata"].attrs
        return found | {ours: _plain(of_data, theirs) for ours, theirs in layout.ERROR_MODEL.items()}

    def batches(self, rows: int = ROWS_AT_A_TIME) -> Iterator[Batch]:
        """All epochs, some at a time: those of sources, then those of transients."""
        done = 0
        for name in ("sourcedata", "transientdata"):
            table, dtype = self._tables[name], layout.TABLES[name]
            for start in range(0, int(table.nrows), rows):
                part = _laid_out(table.read(start, start + rows), dtype)
                yield Batch(done + start, part, name == "transientdata")
            done += int(table.nrows)


@contextlib.contextmanager
def open_matchfile(source: str) -> Iterator[Matchfile]:
    """Open a matchfile; what is wrong with it, then or as it is read, is one error.

    Raises
    ------
    ConfigError
        If PyTables is not installed.
    CatalogError
        If it cannot be read, is no whole HDF5 file or no matchfile, or contradicts itself.
    """
    tables = pytables()
    Stamp.of(source)
    try:
        with tables.open_file(source, "r") as file:
            yield Matchfile(source, file)
    except (tables.HDF5ExtError, tables.NodeError, OSError, EOFError) as error:
        said = next(iter(str(error).strip().splitlines()), "")
        raise CatalogError("damaged", f"not a whole HDF5 file: {said}") from error


def checksum(source: str) -> str:
    """SHA-256 of a file of any size, hexadecimal."""
    digest = hashlib.sha256(usedforsecurity=False)
    try:
        with Path(source).open("rb", buffering=0) as file:
            while block := file.read(_HASHED_AT_A_TIME):
                digest.update(block)
    except OSError as error:
        raise CatalogError("unreadable", f"cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _node(file: Any, name: str) -> Any:
    path = f"/{layout.GROUP}/{name}"
    if path not in file or not hasattr(file.root[layout.GROUP][name], "nrows"):
        raise CatalogError("layout", f"it has no table {path}; expected {', '.join(layout.TABLES)} in /{layout.GROUP}")
    return file.root[layout.GROUP][name]


def _check_columns(table: str, found: np.dtype[Any]) -> None:
    """Every column must be there, with a type whose values ours can hold."""
    fields: dict[str, Any] = dict(found.fields or {})
    for name in layout.TABLES[table].names or ():
        wanted = layout.TABLES[table][name]
        if name not in fields:
            raise CatalogError("layout", f"table {table} has no column {name}")
        kind = fields[name][0]
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


def _unit(attributes: Any, filename: str) -> Unit:
    values = {ours: _plain(attributes, theirs) for ours, theirs in layout.IDENTITY.items()}
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


def _plain(attributes: Any, name: str) -> Any:
    """An attribute as a plain value; None where there is none, or it is not a number or text."""
    value = attributes[name] if name in attributes else None  # noqa: SIM401 (they have no get)
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, int | float | str) else None


def _check_ids(ids: npt.NDArray[np.int64], table: str, name: str, largest: int) -> None:
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) <= largest:
        raise CatalogError("layout", f"{name} of {table} reach from {ids.min()} to {ids.max()}; expected 0..{largest}")
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise CatalogError("contradiction", f"{name} {values[np.argmax(counts)]} is in {table} {counts.max()} times")
