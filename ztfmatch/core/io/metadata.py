"""Auxiliary tables: exposure metadata, error-model coefficients, quality thresholds."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from msgspec import Meta

from ztfmatch.core.errors import MetadataError, first_line
from ztfmatch.core.kernels.calibration import QualityRule
from ztfmatch.core.plain import Row
from ztfmatch.core.settings import checked, read_toml
from ztfmatch.core.survey import FILTER_CODES, FILTER_IDS, N_RCID, Unit, rcid_of

Extra = dict[str, float | int | str]
"""Metadata of one exposure by the ledger's column names; unknown ones are absent."""

ALIASES: Final = {
    "fracday": ("fracday", "filefracday"),
    "rcid": ("rcid",),
    "ccdid": ("ccdid",),
    "qid": ("qid",),
    "expid": ("expid",),
    "obsmjd": ("obsmjd",),
    "obsjd": ("obsjd",),
    "exptime": ("exptime",),
    "programid": ("programid", "ipac_gid"),
    "magzp": ("magzp",),
    "magzpunc": ("magzpunc",),
    "magzprms": ("magzprms",),
    "clrcoeff": ("clrcoeff",),
    "clrcounc": ("clrcounc",),
    "pcolor": ("pcolor",),
    "nmatches": ("nmatches",),
    "airmass": ("airmass",),
    "seeing": ("seeing", "diq"),
    "maglimit": ("maglimit", "limitmag", "maglim"),
    "infobits": ("infobits",),
}
"""Ledger column: names that tables give it, in order of preference (IBE metadata, matchfiles)."""

_KEYS: Final = ("fracday", "rcid", "ccdid", "qid")
_DECISIVE: Final = ("fracday", "programid")
_ALL_CHANNELS: Final = -1


@dataclass(frozen=True)
class ExposureTable:
    """Metadata by (fracday, rcid); rcid -1 stands for all channels of an exposure."""

    rows: dict[tuple[int, int], Extra]

    def find(self, fracday: int, rcid: int) -> Extra | None:
        """Metadata of one catalog; None where the table has no row of it."""
        own = self.rows.get((fracday, rcid))
        return self.rows.get((fracday, _ALL_CHANNELS)) if own is None else own


def read_exposure_table(path: Path) -> ExposureTable:
    """Read exposure metadata from CSV, IPAC table (.tbl) or Parquet.

    The table needs ``filefracday`` (or ``fracday``) and, where rows differ between channels, ``rcid`` or ``ccdid``
    and ``qid``; it fills what headers lack. Other columns: see ALIASES. Rows of the same catalog complete each other.

    Raises
    ------
    MetadataError
        If it cannot be read, has no key column, or rows of the same catalog contradict each other: which of them is
        right decides, for instance, who may see a detection.
    """
    columns = _columns(_read_any_table(path), path)
    rows: dict[tuple[int, int], Extra] = {}
    numbers: dict[tuple[int, int], int] = {}
    several: dict[tuple[int, int], list[tuple[int, Extra]]] = {}
    for number, values in enumerate(zip(*columns.values(), strict=True), 1):
        row = {key: value for key, value in zip(columns, values, strict=True) if _known(value)}
        key, extra = _exposure_key(row, path), _ledger_values(row, path)
        if key in rows:
            several.setdefault(key, [(numbers[key], rows[key])]).append((number, extra))
        else:
            rows[key], numbers[key] = extra, number
    for key, extra in rows.items():
        whole = key[0], _ALL_CHANNELS
        if key != whole and whole in rows:
            of_whole = several.get(whole, [(numbers[whole], rows[whole])])
            several[key] = of_whole + several.get(key, [(numbers[key], extra)])
    return ExposureTable(rows | {key: _merged(numbered, key, path) for key, numbered in several.items()})


def _merged(numbered: list[tuple[int, Extra]], key: tuple[int, int], path: Path) -> Extra:
    """What the numbered rows of a catalog, those of all channels of its exposure among them, say together."""
    said: dict[str, tuple[int, float | int | str]] = {}
    for number, row in numbered:
        for name, value in row.items():
            first, before = said.setdefault(name, (number, value))
            if before != value:
                channel = "" if key[1] == _ALL_CHANNELS else f", rcid {key[1]}"
                raise MetadataError(
                    f"{path}: data rows {first} and {number} contradict each other: both are of fracday {key[0]}"
                    f"{channel}, but one has {name} {before}, the other {value}; remove the wrong one"
                )
    return {name: value for name, (_, value) in said.items()}


def _columns(table: pa.Table, path: Path) -> dict[str, list[Any]]:
    """Columns by our names; of a program that has several, all must say the same."""
    names: dict[str, list[str]] = {}
    for name in table.column_names:
        names.setdefault(name.lower(), []).append(name)
    columns: dict[str, list[Any]] = {}
    for ours, options in ALIASES.items():
        held = [option for option in options if option in names]
        for option in held:
            if len(names[option]) > 1:
                raise MetadataError(f"{path}: there are {len(names[option])} columns {option}; expected one")
        if held:
            columns[ours] = table[names[held[0]][0]].to_pylist()
        for option in held[1:] if ours in _DECISIVE else ():
            _check_same(columns[ours], table[names[option][0]].to_pylist(), (held[0], option), path)
    if "fracday" not in columns:
        raise MetadataError(f"{path}: no column filefracday or fracday; it has {', '.join(table.column_names)}")
    return columns


def _check_same(left: list[Any], right: list[Any], names: tuple[str, str], path: Path) -> None:
    for number, (a, b) in enumerate(zip(left, right, strict=True), 1):
        if _known(a) and _known(b) and a != b:
            raise MetadataError(f"{path}: data row {number} has {names[0]} {a}, but {names[1]} {b}; expected the same")


def _exposure_key(row: Row, path: Path) -> tuple[int, int]:
    try:
        fracday, rcid = _whole(row["fracday"]), _ALL_CHANNELS
        if "rcid" in row:
            rcid = _whole(row["rcid"])
            if not 0 <= rcid < N_RCID:
                raise ValueError(f"rcid {rcid} is outside 0..{N_RCID - 1}")
        if "ccdid" in row and "qid" in row:
            by_quadrant = rcid_of(_whole(row["ccdid"]), _whole(row["qid"]))
            if rcid not in (_ALL_CHANNELS, by_quadrant):
                raise ValueError(f"ccdid and qid make rcid {by_quadrant}")
            rcid = by_quadrant
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise MetadataError(f"{path}: row {row} has no usable filefracday, rcid: {error}") from None
    return fracday, rcid


def _whole(value: Any) -> int:
    """A whole number, also as text or as a float.

    Raises
    ------
    ValueError, TypeError, OverflowError
    """
    if type(value) is int:  # nearly all are
        return value
    if isinstance(value, str):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(f"{value!r} is not a whole number")
    return int(value)


def _ledger_values(row: Row, path: Path) -> Extra:
    extra: Extra = {name: value for name, value in row.items() if name not in _KEYS}
    try:
        if "obsjd" in extra:
            extra.setdefault("obsmjd", float(extra.pop("obsjd")) - 2400000.5)
        if "programid" in extra:
            extra["programid"] = _whole(extra["programid"])
    except (ValueError, TypeError, OverflowError) as error:
        raise MetadataError(f"{path}: row {row} has no usable obsjd, programid: {error}") from None
    return extra


def _known(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and bool(value == value)  # NaN is not


def _read_any_table(path: Path) -> pa.Table:
    try:
        suffix = path.suffix.lower()
        if suffix in (".parquet", ".pq"):
            return pq.read_table(path)
        if suffix in (".tbl", ".ipac"):
            return _read_ipac(path)
        return pyarrow.csv.read_csv(path)
    except FileNotFoundError:
        raise MetadataError(f"{path}: no such file") from None
    except (pa.ArrowException, ValueError, OSError, OverflowError) as error:
        raise MetadataError(f"{path}: not a readable table: {first_line(error)}") from error


def _read_ipac(path: Path) -> pa.Table:
    from astropy.table import Table

    table = Table.read(path, format="ascii.ipac")
    return pa.table({name: pa.array(table[name].tolist()) for name in table.colnames})


@dataclass(frozen=True)
class ErrorModels:
    """Coefficients A, B, C, D of the magnitude error model by unit."""

    coefficients: dict[Unit, tuple[float, float, float, float]]


def read_error_models(path: Path, fid: int | None = None) -> ErrorModels:
    """Read lines of ``fieldid ccdid qid A B C D``, as the published files have them.

    Parameters
    ----------
    path : Path
    fid : int, optional
        Filter that the file is for; by default from its name, which ends in ``zg``, ``zr`` or ``zi``.

    Raises
    ------
    MetadataError
    """
    fid = fid or FILTER_IDS.get(path.stem[-2:], 0)
    if fid not in FILTER_CODES:
        raise MetadataError(f"{path}: the name does not end in zg, zr or zi, so the filter is unknown")
    try:
        lines = [line for line in path.read_text().splitlines() if line.split("#")[0].strip()]
        rows = np.loadtxt(lines, comments="#", ndmin=2) if lines else np.empty((0, 0))
        if rows.shape[1] != 7:
            raise MetadataError(f"{path}: {rows.shape[1]} columns; expected fieldid ccdid qid A B C D")
        if not np.isfinite(rows).all():
            raise ValueError(
                f"{lines[int(np.argmin(np.isfinite(rows).all(axis=1)))]!r} has a number that is not finite"
            )
        return ErrorModels(_coefficients(rows.tolist(), fid))
    except (ValueError, OSError) as error:
        raise MetadataError(f"{path}: not a table of fieldid ccdid qid A B C D: {error}") from error


def _coefficients(rows: list[list[float]], fid: int) -> dict[Unit, tuple[float, float, float, float]]:
    models: dict[Unit, tuple[float, float, float, float]] = {}
    for row in rows:
        field, ccdid, qid = (_whole(number) for number in row[:3])
        unit, model = Unit(field, rcid_of(ccdid, qid), fid), (row[3], row[4], row[5], row[6])
        if models.setdefault(unit, model) != model:
            raise ValueError(f"unit {unit} is there twice, with {models[unit]} and {model}")
    return models


_DEFAULT_RULES: Final = {
    1: {"upper": 26.7, "slope": 0.20, "max_magzprms": 0.06, "min_nmatches": 80},
    2: {"upper": 26.65, "slope": 0.15, "max_magzprms": 0.05, "min_nmatches": 120},
    3: {"upper": 26.0, "slope": 0.07, "max_magzprms": 0.06, "min_nmatches": 100},
}
"""Explanatory Supplement 13.4, by fid."""


def quality_rules(thresholds: Path | None = None, rule: Path | None = None) -> dict[int, QualityRule]:
    """Rules by fid: the survey's own, or changed by files.

    Parameters
    ----------
    thresholds : Path, optional
        Lines of ``rcid g r i`` (spaces or commas) for all 64 readout channels.
    rule : Path, optional
        TOML with tables ``[zg]``, ``[zr]``, ``[zi]``, each with any of ``upper``, ``slope``, ``max_magzprms``,
        ``min_nmatches``.

    Raises
    ------
    MetadataError
    """
    limits = _read_thresholds(thresholds)
    changed = _read_rule(rule)
    return {
        fid: QualityRule(**{**numbers, **changed.get(FILTER_CODES[fid], {})}, thresholds=tuple(limits[:, fid - 1]))  # type: ignore[arg-type]
        for fid, numbers in _DEFAULT_RULES.items()
    }


def _read_thresholds(path: Path | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    shipped = resources.files("ztfmatch") / "data" / "zp_thresholds.csv"
    try:
        text = shipped.read_text() if path is None else path.read_text()
        lines = [line.replace(",", " ").split() for line in text.splitlines()]
        rows = [[float(word) for word in line] for line in lines if line and line[0].isdigit()]
        table = np.array(rows, np.float64)
    except (OSError, ValueError) as error:
        raise MetadataError(f"{path}: not lines of rcid g r i: {error}") from error
    if not np.isfinite(table).all():
        raise MetadataError(f"{path}: not lines of rcid g r i: a number is not finite")
    if table.shape != (N_RCID, 4) or sorted(table[:, 0].tolist()) != list(range(N_RCID)):
        raise MetadataError(f"{path}: expected one line of rcid g r i for each rcid 0..{N_RCID - 1}")
    limits: np.ndarray[Any, np.dtype[np.float64]] = table[np.argsort(table[:, 0]), 1:]
    return limits


_Number = Annotated[float, Meta(ge=-sys.float_info.max, description="a number")]
"""Infinity turns a limit off; NaN would do so without saying it."""


@dataclass(frozen=True)
class _Changes:
    """What a file changes of the rule of a filter."""

    upper: _Number | None = None
    slope: _Number | None = None
    max_magzprms: _Number | None = None
    min_nmatches: _Number | None = None


@dataclass(frozen=True)
class _Rules:
    """A file of quality rules."""

    zg: _Changes = _Changes()
    zr: _Changes = _Changes()
    zi: _Changes = _Changes()


def _read_rule(path: Path | None) -> dict[str, dict[str, float]]:
    """Numbers that a file changes, by filter."""
    if path is None:
        return {}
    table = read_toml(path, "quality rule", MetadataError)
    rules = asdict(checked(table, _Rules, MetadataError, f"quality rule {path}: "))
    if not any(table.values()):
        names = ", ".join(_DEFAULT_RULES[1])
        raise MetadataError(f"quality rule {path}: changes nothing; expected [zg], [zr], [zi] with any of {names}")
    return {code: {name: value for name, value in rule.items() if value is not None} for code, rule in rules.items()}
