"""Parse angles: degrees, sexagesimal, with units, or astropy's; as numbers of degrees or arcsec."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from ztfmatch.core.errors import ConfigError

Angle = float | str | Any
"""A number, a text, or what has ``to_value``: a Quantity, Angle, Longitude or Latitude of astropy."""

_ARCSEC: Final = {"deg": 3600.0, "arcmin": 60.0, "arcsec": 1.0}
_SHORT: Final = {
    "°": "deg",
    "degree": "deg",
    "degrees": "deg",
    "d": "deg",
    "'": "arcmin",
    "\u2032": "arcmin",
    '"': "arcsec",
    "''": "arcsec",
    "\u2033": "arcsec",
}
_RADIUS: Final = re.compile(r"\s*([-+0-9.eE]+|nan|inf)\s*(deg|arcmin|arcsec|degrees?|d|°|'{1,2}|\"|\u2032|\u2033)?\s*")
_DEGREES: Final = re.compile(r"\s*([-+0-9.eE]+)\s*(?:deg|degrees?|d|°)\s*")
_SEXAGESIMAL: Final = re.compile(
    r"\s*([-+]?)(\d{1,3})\s*([:hd°\s])\s*(\d{1,2}(?:\.\d*)?)\s*"
    r"(?:[:m'\u2032\s]\s*(\d{1,2}(?:\.\d*)?)\s*(?:s|\"|\u2033|'')?|[m'\u2032])?\s*"
)
_POLE_DEG: Final = 90.0


def ra_degrees(given: Angle) -> float:
    """A right ascension in degrees; sexagesimal ones are in hours: ``16:28:19.9``, ``16h28m19.9s``.

    Raises
    ------
    ConfigError
        If it is none, or outside -360..360.
    """
    degrees = _degrees(given, "right ascension", per_unit=15.0)
    if not -360.0 <= degrees <= 360.0:
        raise ConfigError(f"right ascension {degrees} is outside -360..360 degrees")
    return degrees


def dec_degrees(given: Angle) -> float:
    """A declination in degrees; sexagesimal ones are in degrees: ``+32:57:17``, ``32d57m17s``.

    Raises
    ------
    ConfigError
        If it is none, or outside -90..90.
    """
    degrees = _degrees(given, "declination", per_unit=1.0)
    if not -_POLE_DEG <= degrees <= _POLE_DEG:
        raise ConfigError(f"declination {degrees} is outside -90..90 degrees")
    return degrees


def _degrees(given: Angle, what: str, per_unit: float) -> float:
    if hasattr(given, "to_value"):
        return _of_quantity(given, "deg", what)
    text = str(given).replace("\u2212", "-")  # the sign that typesetters take for minus
    with_unit = _DEGREES.fullmatch(text)
    try:
        return float(with_unit[1] if with_unit else text)
    except ValueError:
        pass
    match = _SEXAGESIMAL.fullmatch(text)
    minutes, seconds = (float(match[4]), float(match[5] or 0.0)) if match else (60.0, 0.0)
    broken = match is not None and match[5] and "." in match[4]
    if match is None or broken or minutes >= 60.0 or seconds >= 60.0 or (match[3] == "h" and per_unit == 1.0):
        example = "247.0829 or 16:28:19.9" if per_unit > 1.0 else "32.9548 or +32:57:17"
        raise ConfigError(f"{what} {given!r} cannot be read; expected something like {example}")
    turned = 1.0 if match[3] in "d°" else per_unit
    size = turned * (float(match[2]) + minutes / 60.0 + seconds / 3600.0)
    return -size if match[1] == "-" else size


def radius_of(given: Angle, unit: str, bare: str | None = "arcsec") -> float:
    """A radius in a unit, from a number, a Quantity, or a text such as ``2deg``, ``3arcmin``, ``3'`` or ``120arcsec``.

    Parameters
    ----------
    given : float, str or Quantity
    unit : str
        Of the result: ``deg``, ``arcmin`` or ``arcsec``.
    bare : str or None
        Unit of what is given without one; None refuses that.

    Raises
    ------
    ConfigError
        If it is not an angle, or has no unit and should.
    """
    if hasattr(given, "to_value") and getattr(given, "unit", None) is not None:
        return _of_quantity(given, unit, "radius")
    expected = "expected something like 2deg, 3arcmin or 120arcsec"
    match = _RADIUS.fullmatch(str(given))
    try:
        number = float(match[1] if match else "")
    except ValueError:
        raise ConfigError(f"radius {given!r} is not an angle; {expected}") from None
    of = (_SHORT.get(match[2], match[2]) if match and match[2] else None) or bare
    if of is None:
        raise ConfigError(f"radius {given} has no unit; {expected}")
    return number * (_ARCSEC[of] / _ARCSEC[unit])


def _of_quantity(given: Any, unit: str, what: str) -> float:
    try:
        return float(given.to_value(unit))
    except (TypeError, ValueError) as error:  # of several values; astropy's UnitConversionError is a ValueError
        raise ConfigError(f"{what} {given}: {error}") from None


def circle_of(given: Any) -> tuple[float, float, float]:
    """A circle as right ascension and declination in degrees and radius in arcsec.

    Parameters
    ----------
    given : (ra, dec, radius) or (SkyCoord, radius)
        See :func:`ra_degrees`, :func:`dec_degrees` and :func:`radius_of`; a SkyCoord of one position, in any frame.

    Raises
    ------
    ConfigError
    """
    if isinstance(given, str):
        raise ConfigError(f"a circle {given!r}; expected (ra, dec, radius) or (SkyCoord, radius)")
    parts = tuple(given)
    if len(parts) == 2 and hasattr(parts[0], "icrs"):
        place = parts[0].icrs
        if not place.isscalar:
            raise ConfigError(f"a circle about {place.size} positions; expected one: ask for many with positions")
        return float(place.ra.deg), float(place.dec.deg), radius_of(parts[1], "arcsec")
    if len(parts) != 3:
        raise ConfigError(f"a circle of {len(parts)} values; expected (ra, dec, radius) or (SkyCoord, radius)")
    ra, dec = ra_degrees(parts[0]), dec_degrees(parts[1])
    if math.isnan(ra) or math.isnan(dec):
        raise ConfigError(f"a circle about {parts[:2]}; expected a position")
    return ra, dec, radius_of(parts[2], "arcsec")
