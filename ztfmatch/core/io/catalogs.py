"""Epochal and reference PSF catalogs: identity, headers, rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Records
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.fits import FitsTable, read_table
from ztfmatch.core.io.fitscolumns import Rows, survey_rows
from ztfmatch.core.io.fitssums import check_sums
from ztfmatch.core.io.metadata import Extra
from ztfmatch.core.io.sources import read_file
from ztfmatch.core.kernels.rows import MEASURED, first_repeated
from ztfmatch.core.survey import (
    MAX_NAME_LAG_DAY,
    PROGRAM_NAMES,
    CatalogName,
    Unit,
    exposureid_of,
    fracday_of_mjd,
    mjd_of_fracday,
    parse_catalog_name,
    rcid_of,
)

_EPOCHAL_COLUMNS: Final = {name: np.dtype(kind).newbyteorder(">").str for name, kind in MEASURED.values()}
_REFERENCE_COLUMNS: Final = {**_EPOCHAL_COLUMNS, "mag": ">f4", "sigmag": ">f4", "snr": ">f4"}

ROW_BYTES: Final = sum(np.dtype(kind).itemsize for kind in _REFERENCE_COLUMNS.values())
"""Of a row of the survey's catalogs, which have these columns, epochal ones too."""

HEADER_BYTES: Final = 10_400
"""Of the survey's catalogs, about, with what fills their last block."""

_HEADER_KEYS: Final = {
    "expid": ("EXPID", int),
    "exptime": ("EXPTIME", float),
    "magzpunc": ("MAGZPUNC", float),
    "magzprms": ("MAGZPRMS", float),
    "clrcoeff": ("CLRCOEFF", float),
    "clrcounc": ("CLRCOUNC", float),
    "pcolor": ("PCOLOR", str),
    "nmatches": ("NMATCHES", int),
    "airmass": ("AIRMASS", float),
    "seeing": ("SEEING", float),
    "maglimit": ("MAGLIM", float),
    "infobits": ("INFOBITS", int),
}
"""Ledger column: header key and type; all may be missing, as may the program."""

_HELD_PROGRAMS: Final = range(-128, 128)
"""Numbers of programs that the ledger holds."""
_KNOWN_PROGRAMS: Final = (*PROGRAM_NAMES, -1)
"""Those that mean something: the survey's, and -1 before it."""


@dataclass(frozen=True)
class FileIdentity:
    """Which bytes a catalog was, once it is unpacked."""

    source: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """Name without directories."""
        return PurePosixPath(self.source).name


@dataclass(frozen=True)
class EpochalCatalog:
    """One quadrant image's catalog."""

    unit: Unit
    fracday: int
    obsmjd: float
    magzp: float
    metadata: dict[str, Any]
    """Ledger columns of _HEADER_KEYS, and programid; None where neither header nor table know them."""
    records: Records
    file: FileIdentity
    odd_program: str | None = None
    """What was said of the program, if it is none of the survey's."""
    undefined: int = 0
    """Rows whose number or flags are masked (TNULL); their ra is NaN in ``records``."""
    wrapped: int = 0
    """Right ascensions below 0 or above 360 degrees that were brought between."""

    @property
    def exposureid(self) -> int:
        """Key in the ledger."""
        return exposureid_of(self.fracday, self.unit.rcid)


@dataclass(frozen=True)
class ReferenceCatalog:
    """The seeds of one unit."""

    unit: Unit
    magzp: float
    clrcoeff: float | None
    rfid: int | None
    infobits: int | None
    records: Records
    file: FileIdentity
    wrapped: int = 0
    """Right ascensions below 0 or above 360 degrees that were brought between."""


def read_epochal(source: str, extra: Mapping[str, Any] | None = None) -> EpochalCatalog:
    """Read and check an epochal catalog.

    Parameters
    ----------
    source : str
        Path of a ``psfcat`` FITS file.
    extra : Extra, optional
        Metadata that fills what the header lacks.

    Raises
    ------
    CatalogError
        If the file cannot be used; the code says why in a word.
    """
    table, rows, file = _read(source, _EPOCHAL_COLUMNS)
    header = _merged_header(table)
    name = _parse_name(file.filename)
    if ("OBSMJD" not in header and "RFID" in header) or (name is not None and name.fracday is None):
        raise CatalogError("layout", "it is a reference catalog (RFID, no OBSMJD; or the name); not an epochal one")
    known: Extra = dict(extra or {})
    unit = _identify(header, name)
    obsmjd = _number(header, "OBSMJD", known.get("obsmjd"))
    if not 40_000.0 < obsmjd < 100_000.0:
        raise CatalogError("layout", f"OBSMJD is {obsmjd}; expected a modified Julian date")
    magzp = _number(header, "MAGZP", known.get("magzp"))
    fracday = _fracday(name, obsmjd)
    metadata = {column: _optional(header, key, kind, known.get(column)) for column, (key, kind) in _HEADER_KEYS.items()}
    metadata["programid"], odd = _program(header.get("PROGRMID"), known.get("programid"))
    undefined = 0 if rows.undefined is None else int(rows.undefined.sum())
    return EpochalCatalog(unit, fracday, obsmjd, magzp, metadata, rows.records, file, odd, undefined, rows.wrapped)


def _program(said: Any, tabled: Any) -> tuple[int | None, str | None]:
    """Program by the header, else by the exposure table, and what was said if it is none of the survey's.

    It decides who may see a detection: nothing is made of what is no program.

    Raises
    ------
    CatalogError
        If they contradict each other.
    """
    number = _number_in(said)
    if not _is_blank(said) and tabled is not None and number != tabled:
        raise CatalogError("contradiction", f"PROGRMID is {said!r} in the header, {tabled!r} in the exposure table")
    return program_of(tabled if _is_blank(said) else said)


def program_of(said: Any) -> tuple[int | None, str | None]:
    """Program as the ledger has it, and what was said, where that is none of the survey's."""
    number = _number_in(said)
    held = int(number) if number in _HELD_PROGRAMS else None
    return held, None if said is None or number in _KNOWN_PROGRAMS else str(said)


def _number_in(said: Any) -> Any:
    """A number, which may be given as text; None for all else."""
    try:
        number = float(said) if isinstance(said, str) else said
    except ValueError:
        return None
    return None if isinstance(number, bool) else number


def _is_blank(value: Any) -> bool:
    """Whether a card says nothing: it is not there, undefined, empty or NaN."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _fracday(name: CatalogName | None, obsmjd: float) -> int:
    """YYYYMMDDffffff by the file name, which must agree with the header's time; else made from that."""
    if name is None or name.fracday is None:
        return fracday_of_mjd(obsmjd)
    try:
        named = mjd_of_fracday(name.fracday)
    except ValueError as error:
        raise CatalogError("contradiction", f"the file name is impossible: {error}") from None
    if abs(named - obsmjd) > MAX_NAME_LAG_DAY:
        raise CatalogError(
            "contradiction", f"OBSMJD is {obsmjd} in the header, but the file name's time is MJD {named:.6f}"
        )
    return name.fracday


def read_reference(source: str) -> ReferenceCatalog:
    """Read and check a reference catalog (``refpsfcat`` FITS).

    Raises
    ------
    CatalogError
        If the file cannot be used; the code says why in a word.
    """
    table, rows, file = _read(source, _REFERENCE_COLUMNS)
    _check_defined(rows)
    header = _merged_header(table)
    name = _parse_name(file.filename)
    if "OBSMJD" in header or (name is not None and name.fracday is not None):
        raise CatalogError("layout", "it is an epochal catalog (OBSMJD, or its name); expected a reference catalog")
    unit = _identify(header, name)
    magzp = _number(header, "MAGZP", None)
    rfid, infobits = _optional(header, "RFID", int, None), _optional(header, "INFOBITS", int, None)
    clrcoeff = _optional(header, "CLRCOEFF", float, None)
    return ReferenceCatalog(unit, magzp, clrcoeff, rfid, infobits, rows.records, file, rows.wrapped)


def reread_records(source: str, rows: int, reference: bool = False) -> Records:
    """Rows of a catalog that was checked before; the caller compares their digest with what was found then.

    Raises
    ------
    CatalogError
        With code ``changed`` if it cannot be the same file.
    """
    try:
        table = read_table(read_file(source, checksum=False).data)
        records = survey_rows(table, _REFERENCE_COLUMNS if reference else _EPOCHAL_COLUMNS).records
    except CatalogError as error:
        raise changed(source) from error
    if len(records) != rows:
        raise changed(source)
    return records


def changed(source: str) -> CatalogError:
    """Error for a catalog whose content is not what was checked."""
    return CatalogError("changed", f"{source}: its content changed while it was ingested; run again")


def _read(source: str, required: dict[str, str]) -> tuple[FitsTable, Rows, FileIdentity]:
    content = read_file(source)
    table = read_table(content.data)
    check_sums(content.data, table)
    rows = survey_rows(table, required)
    numbers = rows.records["sourceid"]
    if (twice := first_repeated(numbers if rows.undefined is None else numbers[~rows.undefined])) is not None:
        raise CatalogError("layout", f"sourceid {twice} occurs more than once; expected each once")
    return table, rows, FileIdentity(source, content.size, content.sha256)


def _check_defined(rows: Rows) -> None:
    """Refuse a reference with rows that are masked: every seed needs a number."""
    if rows.undefined is not None:
        row = int(np.argmax(rows.undefined)) + 1
        raise CatalogError("layout", f"sourceid or flags of row {row} are undefined (TNULL); every seed needs them")


def _merged_header(table: FitsTable) -> dict[str, Any]:
    """The keys that matter, of both HDUs; where both define one they must agree."""
    merged: dict[str, Any] = {}
    for key in _KEYS:
        first, second = table.primary.get(key), table.extension.get(key)
        if first is not None and second is not None and first != second:
            raise CatalogError("contradiction", f"{key} is {first!r} in the primary header, {second!r} in the table's")
        if first is not None or second is not None:
            merged[key] = second if first is None else first
    return merged


_KEYS: Final = (
    *("FIELDID", "RCID", "CCDID", "QID", "FILTERID", "OBSMJD", "MAGZP", "RFID", "PROGRMID"),
    *(key for key, _ in _HEADER_KEYS.values()),
)


def _parse_name(filename: str) -> CatalogName | None:
    try:
        return parse_catalog_name(filename)
    except ValueError as error:
        raise CatalogError("contradiction", f"the file name is impossible: {error}") from None


def _identify(header: dict[str, Any], name: CatalogName | None) -> Unit:
    """Unit by the header, else by the file name; where both say something, they must agree."""
    says = {key: _whole(header, key) for key in ("FIELDID", "RCID", "CCDID", "QID", "FILTERID")}
    says["RCID"] = _channel(says)
    named = {"FIELDID": name.unit.field, "RCID": name.unit.rcid, "FILTERID": name.unit.fid} if name else {}
    for key, by_name in named.items():
        if says[key] is not None and says[key] != by_name:
            raise CatalogError("contradiction", f"{key} is {says[key]} in the header, {by_name} by the file name")
    merged = {key: named.get(key) if says[key] is None else says[key] for key in ("FIELDID", "RCID", "FILTERID")}
    missing = [key for key, value in merged.items() if value is None]
    if missing:
        raise CatalogError("layout", f"no {', '.join(missing)}: neither the header nor the file name gives it")
    try:
        return Unit(merged["FIELDID"], merged["RCID"], merged["FILTERID"])  # type: ignore[arg-type]
    except ValueError as error:
        raise CatalogError("layout", f"the header's identity is impossible: {error}") from None


def _channel(says: dict[str, int | None]) -> int | None:
    """RCID, checked against CCDID and QID where the header has them."""
    ccdid, qid, rcid = says["CCDID"], says["QID"], says["RCID"]
    if ccdid is None or qid is None:
        return rcid
    try:
        made = rcid_of(ccdid, qid)
    except ValueError as error:
        raise CatalogError("layout", f"the header's identity is impossible: {error}") from None
    if rcid is not None and rcid != made:
        raise CatalogError("contradiction", f"RCID is {rcid}, but CCDID {ccdid} and QID {qid} make {made}")
    return made


def _whole(header: dict[str, Any], key: str) -> int | None:
    value = header.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise CatalogError("layout", f"{key} is {value!r}; expected a whole number")
    return int(value)


def _number(header: dict[str, Any], key: str, otherwise: Any) -> float:
    value = _optional(header, key, float, otherwise)
    if value is None:
        raise CatalogError("layout", f"no {key}, neither in the header nor in an exposure table")
    return float(value)


def _optional(header: dict[str, Any], key: str, kind: type, otherwise: Any) -> Any:
    """Value of a header key, else of the exposure table; None where both lack it or it is not finite."""
    value = header.get(key)
    value = otherwise if _is_blank(value) else value
    if value is None:
        return None
    try:
        made = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise CatalogError("layout", f"{key} is {value!r}; expected {kind.__name__}") from None
    if isinstance(made, float) and not np.isfinite(made):
        return None
    low, high = _LIMITS.get(key, _INT64)
    if (kind is int or (kind is float and key in _LIMITS)) and not low <= made <= high:
        raise CatalogError("layout", f"{key} is {value!r}; expected {low} to {high}")
    return made


_INT64: Final = (-(2**63), 2**63 - 1)
_LIMITS: Final = {"NMATCHES": (0, 2**31 - 1), "EXPTIME": (0.0, 3600.0), "MAGZP": (0.0, 50.0)}
"""What the ledger's columns hold, and beyond which a time or a magnitude makes no sense."""
