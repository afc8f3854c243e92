"""Criteria for references, images and plans: one TOML file, whose defaults are the survey's."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from msgspec import Meta

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Json
from ztfmatch.core.settings import AtLeastOne, Fraction, Positive, checked, read_toml

T = TypeVar("T")


@dataclass(frozen=True)
class ByFilter(Generic[T]):
    """A setting that each filter has of its own."""

    g: T
    r: T
    i: T

    def of(self, fid: int) -> T:
        """That of a filter id, 1 to 3."""
        return (self.g, self.r, self.i)[fid - 1]

    def refuse_reversed(self, name: str) -> None:
        """Raise ConfigError for a range that ends before it begins; other values are as they may be."""
        for band, value in vars(self).items():
            if isinstance(value, tuple) and not value[0] <= value[1]:
                raise ConfigError(f"{name} of {band} is {list(value)}; expected the smaller bound first")


@dataclass(frozen=True)
class Flat:
    """Largest scatter and span of the differences from PS1 over a quadrant, mag, inclusive."""

    rms: Positive
    delta: Positive


@dataclass(frozen=True)
class FlatOverride:
    """Limits of some fields in one filter."""

    fields: tuple[int, ...]
    filter: Annotated[str, Meta(pattern="^[gri]$", description="g, r or i")]
    rms: Positive
    delta: Positive


@dataclass(frozen=True)
class FlatnessSettings:
    """How flatness is measured, and what is flat."""

    bright: float = 13.5
    faint: float = 18.5
    """Magnitudes of the sources that count, inclusive."""
    min_bin: Annotated[int, Meta(ge=2, description="at least 2")] = 10
    """Fewest PS1 matches of each of the nine bins; with fewer it is unknown."""
    match_arcsec: Positive = 1.0
    isolation_arcsec: Positive = 3.0
    """A source counts if a PS1 star is within the one, and no other PS1 source within the other."""
    max_ps1_error: Positive = 0.05
    """Largest error of a PS1 magnitude, of the bands that are used, mag."""
    limits: ByFilter[Flat] = ByFilter(Flat(0.035, 0.047), Flat(0.030, 0.045), Flat(0.030, 0.045))
    overrides: tuple[FlatOverride, ...] = ()
    """Limits of fields where sources are so crowded that others are to be used."""

    def limits_of(self, field: int, fid: int) -> tuple[float, float]:
        """Largest RMS and Delta of a field in a filter."""
        code = "gri"[fid - 1]
        own = (one for one in self.overrides if one.filter == code and field in one.fields)
        found = next(own, None) or self.limits.of(fid)
        return found.rms, found.delta


@dataclass(frozen=True)
class AuditSettings:
    """What is wrong with a reference."""

    shallow: float = 21.2
    """A reference is shallow if its limiting magnitude (signal to noise 5) is brighter."""
    confused: Positive = 5.0
    """A reference is confused if half of its sources have a neighbour within so many arcsec."""


@dataclass(frozen=True)
class LightcurveSettings:
    """What lightcurves say against a reference."""

    min_exposures: AtLeastOne = 5
    """Fewest good exposures of a unit; with fewer it is unknown."""
    margin_pix: Annotated[float, Meta(ge=0.0, le=1000.0, description="0 to 1000")] = 160.0
    """Seeds nearer to the edge of the quadrant are not judged by how often they are seen: dithers miss them."""
    spurious_seen: Fraction = 0.1
    """A seed is spurious if it is seen in a smaller part of the good exposures."""
    missing_seen: Fraction = 0.5
    """A transient is a missing seed if it is seen in a larger part."""
    won_seen: Fraction = 0.1
    """A transient that is seen twice, in no smaller part, and lasts, would be an object of a new reference."""
    won_chance: Fraction = 0.01
    """It does not last if its epochs are so close together as chance brings them in a smaller part of cases."""
    min_epochs: AtLeastOne = 3
    """Fewest epochs of a lightcurve whose medians count."""
    max_spurious: Fraction = 0.05
    """Largest part of the judged seeds that is spurious in a reference that is not suspect."""
    max_missing: Fraction = 0.05
    """Largest part of the sources seen so often, with seeds or without, that has none."""
    max_offset: Positive = 0.3
    """Largest offset of seeds from the median positions of their epochs in any bin, arcsec."""
    limits: ByFilter[Flat] = ByFilter(Flat(0.035, 0.047), Flat(0.030, 0.045), Flat(0.030, 0.045))
    """Of the differences between reference magnitude and the lightcurve's median."""


Range = tuple[float, float]


@dataclass(frozen=True)
class SelectSettings:
    """What an image of a reference must be; all bounds inclusive."""

    fwhm: ByFilter[Range] = ByFilter((1.7, 5.0), (1.7, 5.0), (1.7, 4.5))
    """Of the image, arcsec."""
    status: int = 1
    bad_infobits: tuple[int, ...] = (25, 26, 27, 28, 29, 30, 31)
    """Bits none of which may be set."""
    magzp: ByFilter[Range] = ByFilter((25.3, 26.5), (25.3, 26.5), (25.25, 25.85))
    clrcoeff: ByFilter[Range] = ByFilter((-0.20, 0.15), (-0.05, 0.22), (0.05, 0.30))
    maglimit: ByFilter[float] = ByFilter(19.0, 19.0, 18.0)
    """Least limiting magnitude."""
    median: ByFilter[float] = ByFilter(1900.0, 1600.0, 1200.0)
    rms: ByFilter[float] = ByFilter(100.0, 100.0, 80.0)
    """Largest global median and robust RMS of the pixels, DN."""
    first_night: Annotated[datetime.date, Meta(description="a date such as 2018-02-05")] = datetime.date(2018, 2, 5)
    """UTC."""
    nmin: AtLeastOne = 15
    """Fewest images of a reference."""
    nmax: AtLeastOne = 40
    """Most; those of smallest FWHM are taken."""
    without: tuple[str, ...] = ()
    """Criteria that are not applied."""

    def __post_init__(self) -> None:
        """Refuse bounds that nothing can be within."""
        for name in ("fwhm", "magzp", "clrcoeff"):
            getattr(self, name).refuse_reversed(name)
        if self.nmin > self.nmax:
            raise ConfigError(f"nmin is {self.nmin}; expected at most nmax, {self.nmax}")


@dataclass(frozen=True)
class PlanSettings:
    """What is to be made of a selection."""

    nmax: AtLeastOne = 50
    """Most images of a new reference."""
    deeper: Positive = 0.25
    """A reference that is not suspect is deepened if the new one would be deeper by at least so many magnitudes."""


@dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
    """What references are audited, selected and planned by."""

    flatness: FlatnessSettings = FlatnessSettings()
    audit: AuditSettings = AuditSettings()
    lightcurves: LightcurveSettings = LightcurveSettings()
    select: SelectSettings = SelectSettings()
    plan: PlanSettings = PlanSettings()


def read_settings(path: Path | None = None) -> ReferenceSettings:
    """Settings of a TOML file, the defaults where it says nothing.

    Raises
    ------
    ConfigError
        If it cannot be read, has an unknown key, or a value that is not as it must be.
    """
    if path is None:
        return ReferenceSettings()
    table = _over(asdict(ReferenceSettings()), read_toml(path, "settings of references", ConfigError))
    return checked(table, ReferenceSettings, ConfigError, f"settings of references {path}: ")


def _over(defaults: Json, given: Json) -> Json:
    """What is given, and in its tables the defaults of what they do not say."""
    both = [name for name, value in given.items() if isinstance(value, dict) and isinstance(defaults.get(name), dict)]
    return defaults | given | {name: _over(defaults[name], given[name]) for name in both}
