"""The scope of a data release: programs with dates, filters, fields, quality; read from a TOML file.

    release = "dr2"                     # label in file names
    filters = ["zg", "zr"]              # all without it
    fields = [250, "600-699"]           # all without it
    private_corrections = false         # whether magnitudes may have corrections derived from other programs' epochs
    description = "..."                 # these three are told in the product's README and properties
    licence = "CC BY 4.0"
    citation = "..."                    # by default the survey's papers

    [[programs]]                        # at least one; several of one id are joined
    id = 1
    until = 2018-12-31                  # the whole day, UTC
    [[programs]]
    id = 2
    since = 2018-03-17
    until = 58299.5                     # or an MJD, or a date with a time: before this instant

    [quality]
    only_good_exposures = true
    reject_catflags = 32768             # bits
    max_magerr = 1.0                    # mag; of an epoch
    max_airmass = 2.5                   # of an exposure, as are max_seeing (arcsec) and min_maglimit (mag)

An exposure belongs to a window if it began in it. An exposure without a program belongs to no release.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from msgspec import Meta

from ztfmatch.core.arrays import Array, Floats, Mask
from ztfmatch.core.errors import ScopeError
from ztfmatch.core.io.records import short_digest
from ztfmatch.core.plain import Json
from ztfmatch.core.settings import checked, checked_value, read_toml
from ztfmatch.core.survey import FILTER_IDS, MJD_ZERO, PROGRAM_NAMES

_PROGRAMS: Final = "one of " + ", ".join(f"{number} ({name})" for number, name in PROGRAM_NAMES.items())
_SOME: Final = "a list that is not empty, or no such key for all"
_CUT: Final = Meta(gt=0, description="above 0, else nothing would be left")
_Cut = Annotated[int, _CUT] | Annotated[float, _CUT]
"""A whole number stays one, as the digest of a scope has it."""

MJD_EPOCH: Final = datetime.datetime(*MJD_ZERO, tzinfo=datetime.UTC)
_LATER: Final = ("licence", "citation")
"""Keys that scopes had not before: one that says nothing there has the digest that it had."""
_FIELD_RANGE: Final = re.compile(r"(\d{1,4})-(\d{1,4})")
_MAX_FIELD: Final = 9999


@dataclass(frozen=True)
class Window:
    """Dates of one program: MJD of the start of an exposure, ``since <= t < until``; None is not a bound."""

    programid: int
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True)
class Quality:
    """Cuts. Where one is asked for, what has no value for it is left out."""

    only_good_exposures: bool = False
    """Leave out exposures that the quality rule does not call good."""
    reject_catflags: Annotated[int, Meta(ge=0, lt=1 << 16, description="bits below 65536")] = 0
    """Leave out epochs that have any of these bits."""
    max_magerr: _Cut | None = None
    """Largest error of an epoch in mag."""
    max_airmass: _Cut | None = None
    max_seeing: _Cut | None = None
    min_maglimit: int | float | None = None
    """Of an exposure; seeing in arcsec, limit in mag."""


@dataclass(frozen=True)
class ReleaseScope:
    """What a release may show."""

    release: str
    windows: tuple[Window, ...]
    _: KW_ONLY
    fids: tuple[int, ...] = ()
    """Filters; empty for all."""
    fields: tuple[tuple[int, int], ...] = ()
    """Ranges of fields, both ends inclusive; empty for all."""
    quality: Quality = Quality()
    description: str = ""
    private_corrections: bool = False
    """Whether magnitudes may have corrections that epochs of other programs, or of unknown ones, went into."""
    licence: str = ""
    citation: str = ""
    """What to cite; the survey's papers where it is empty."""

    @property
    def programs(self) -> frozenset[int]:
        """Programs of which it shows anything."""
        return frozenset(window.programid for window in self.windows)

    def to_json(self) -> Json:
        """Plain values."""
        plain: Json = json.loads(json.dumps(asdict(self)))
        return {name: value for name, value in plain.items() if value or name not in _LATER}

    @property
    def digest(self) -> str:
        """Digest of all that it says."""
        return short_digest(json.dumps(self.to_json(), sort_keys=True).encode())

    def within(self, since: float | None, until: float | None) -> ReleaseScope:
        """What of it began between two MJD, ``since <= t < until``.

        Raises
        ------
        ScopeError
            If the dates end before they start, or no window of any program reaches into them.
        """
        if since is not None and until is not None and until <= since:
            raise ScopeError(f"the dates end before they start: since MJD {since}, until MJD {until}")
        clipped = [_clipped(window, since, until) for window in self.windows]
        windows = tuple(window for window in clipped if window is not None)
        if not windows:
            raise ScopeError(
                f"no program of release {self.release!r} has epochs between MJD {since} and {until}: the scope is empty"
            )
        return replace(self, windows=windows)

    def of_units(self, field: Array, fid: Array) -> Mask:
        """Whether each unit, by field and filter, can be in it, shape (N,)."""
        inside = np.ones(len(field), bool)
        if self.fids:
            inside &= np.isin(fid, self.fids)
        if self.fields:
            inside &= np.any([(field >= low) & (field <= high) for low, high in self.fields], axis=0)
        return inside

    def of_programs(self, programid: Array, obsmjd: Floats) -> Mask:
        """Whether each exposure, by program (0 for none) and start in MJD, is in a window, shape (N,)."""
        inside = np.zeros(len(obsmjd), bool)
        for window in self.windows:
            low = -math.inf if window.since is None else window.since
            high = math.inf if window.until is None else window.until
            inside |= (programid == window.programid) & (obsmjd >= low) & (obsmjd < high)
        return inside


def _clipped(window: Window, since: float | None, until: float | None) -> Window | None:
    """What of a window lies between two bounds; None if nothing does."""
    low = max((bound for bound in (window.since, since) if bound is not None), default=None)
    high = min((bound for bound in (window.until, until) if bound is not None), default=None)
    return None if low is not None and high is not None and high <= low else Window(window.programid, low, high)


def read_scope(path: str | os.PathLike[str]) -> ReleaseScope:
    """Read a scope file.

    Raises
    ------
    ScopeError
        If it cannot be read, or says what cannot be; the message has the file and the value.
    """
    table = read_toml(Path(path), "release scope", ScopeError)
    try:
        return parse_scope(table)
    except ScopeError as error:
        raise ScopeError(f"release scope {path}: {error}") from None


@dataclass(frozen=True)
class _Program:
    """A table [[programs]] of the file."""

    id: Annotated[int, Meta(ge=min(PROGRAM_NAMES), le=max(PROGRAM_NAMES), description=_PROGRAMS)]
    since: Any = None
    until: Any = None


_Label = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}\Z", description="a label such as 'dr2' (a-z, 0-9, '_', '-', '.')")
]


def check_label(label: str) -> None:
    """Refuse a label that names of files cannot have.

    Raises
    ------
    ConfigError
    """
    checked_value(label, _Label, "label")


@dataclass(frozen=True)
class _ScopeFile:
    """What a scope file may say, by key."""

    release: _Label
    programs: Annotated[
        tuple[_Program, ...], Meta(min_length=1, description="at least one table [[programs]], else the scope is empty")
    ]
    description: str = ""
    filters: Annotated[tuple[Literal["zg", "zr", "zi"], ...], Meta(min_length=1, description=_SOME)] | None = None
    fields: Annotated[tuple[int | str, ...], Meta(min_length=1, description=_SOME)] | None = None
    quality: Quality = Quality()
    private_corrections: bool = False
    licence: str = ""
    citation: str = ""


def parse_scope(table: Mapping[str, Any]) -> ReleaseScope:
    """Scope of the content of a scope file.

    Raises
    ------
    ScopeError
        With the key, the value and what was expected.
    """
    said = checked(table, _ScopeFile, ScopeError)
    return ReleaseScope(
        said.release,
        tuple(_window(program) for program in said.programs),
        fids=tuple(sorted({FILTER_IDS[code] for code in said.filters or ()})),
        fields=tuple(sorted({_field_range(value) for value in said.fields or ()})),
        quality=said.quality,
        description=said.description,
        private_corrections=said.private_corrections,
        licence=said.licence,
        citation=said.citation,
    )


def _window(program: _Program) -> Window:
    since, until = _instant(program, "since", 0.0), _instant(program, "until", 1.0)
    if since is not None and until is not None and until <= since:
        raise ScopeError(
            f"the window of program {program.id} ends before it starts: since {program.since}, until {program.until}"
        )
    return Window(program.id, since, until)


def _instant(program: _Program, key: str, day: float) -> float | None:
    """MJD of a bound; of a date, of its start and so many days."""
    try:
        return mjd_of(getattr(program, key), day)
    except ValueError as error:
        raise ScopeError(f"{key} of program {program.id} {error}") from None


def mjd_of(value: Any, day: float) -> float | None:
    """MJD of an MJD, a date with a time (UTC unless it says so) or a date (its start and ``day`` days); None is None.

    Raises
    ------
    ValueError
        If it is nothing of these.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if not 50_000.0 <= value <= 100_000.0:
            raise ValueError(f"is {value}; expected an MJD of 50000 to 100000")
        return float(value)
    if isinstance(value, datetime.datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return (moment - MJD_EPOCH) / datetime.timedelta(days=1)
    if isinstance(value, datetime.date):
        return float((value - MJD_EPOCH.date()).days) + day
    raise ValueError(f"is {value!r}; expected a date such as 2018-06-30, or an MJD")


def _field_range(value: Any) -> tuple[int, int]:
    match = _FIELD_RANGE.fullmatch(value) if isinstance(value, str) else None
    low, high = (int(match[1]), int(match[2])) if match else (value, value)
    if not isinstance(low, int) or not 0 < low <= high <= _MAX_FIELD:
        raise ScopeError(f"field {value!r}; expected a number of 1 to {_MAX_FIELD}, or a range such as '600-699'")
    return low, high
