"""Starids and names of stars: the position at which a star was first found, as a readable number and as a name.

A starid has 18 digits: S HHMMSSss DDMMSSs QQ. S is 1 in the north and 2 in the south, then right ascension to 0.01 s
and declination to 0.1 arcsec, truncated as the IAU requires, and QQ distinguishes the stars ever found at one place. So
1 16281990 3257173 00 is ZTF J162819.90+325717.3. The number is above every objectid, and below every transientid of a
date from 2017-10-28 on: of any real one.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from ztfmatch.core.arrays import Ids
from ztfmatch.core.kernels.lookup import find_sorted
from ztfmatch.core.kernels.sphere import Floats

MIN_STARID: Final = 10**17
MAX_STARID: Final = 3 * 10**17 - 1
PER_PLACE: Final = 100
"""Stars that can be distinguished at one place."""

_CENTISECONDS: Final = 24 * 3600 * 100
_TENTHS: Final = 90 * 3600 * 10
_NAME: Final = re.compile(r"(?:ZTF\s*)?J(\d{6})\.?(\d{2})([+-])(\d{6})\.?(\d)(?:_(\d{1,3}))?", re.IGNORECASE)


def places_of(ra: Floats, dec: Floats) -> Ids:
    """Starid of the first star at each position, shape (N,).

    Parameters
    ----------
    ra, dec : float64 ndarray, shape (N,)
        Degrees, ICRS; 0 <= ra < 360.
    """
    centiseconds = np.floor(ra * (_CENTISECONDS / 360.0)).astype(np.int64) % _CENTISECONDS
    tenths = np.minimum(np.floor(np.abs(dec) * 36_000.0).astype(np.int64), _TENTHS)
    south = np.where(dec < 0.0, 2, 1)
    return south * 10**17 + _sexagesimal(centiseconds, 100) * 10**9 + _sexagesimal(tenths, 10) * PER_PLACE


def _sexagesimal(value: Ids, per_second: int) -> Ids:
    """Digits of hours or degrees, minutes, seconds and their fraction, as one number."""
    whole, fraction = value // per_second, value % per_second
    return ((whole // 3600) * 10_000 + (whole // 60 % 60) * 100 + whole % 60) * per_second + fraction


def positions_of_starids(starid: Ids) -> tuple[Floats, Floats]:
    """Right ascension and declination in degrees that starids tell, up to 0.15 and 0.1 arcsec too small in size."""
    ra = _value(starid // 10**9 % 10**8, 100) * (360.0 / _CENTISECONDS)
    dec = _value(starid // PER_PLACE % 10**7, 10) / 36_000.0
    return ra, np.where(starid >= 2 * 10**17, -dec, dec)


def _value(digits: Ids, per_second: int) -> Floats:
    whole, fraction = digits // per_second, digits % per_second
    seconds = whole // 10_000 * 3600 + whole // 100 % 100 * 60 + whole % 100
    return np.asarray(seconds * per_second + fraction, np.float64)


def is_starid(number: Any) -> Any:
    """Whether numbers are in the range of starids."""
    return (number >= MIN_STARID) & (number <= MAX_STARID)


def name_of_star(starid: int) -> str:
    """The name that people read: ``ZTF J162819.90+325717.3``; of others at the same place _2 and so on follow."""
    number = int(starid)
    ra, dec = number // 10**9 % 10**8, number // PER_PLACE % 10**7
    sign, again = "-" if number >= 2 * 10**17 else "+", number % PER_PLACE
    name = f"ZTF J{ra // 100:06d}.{ra % 100:02d}{sign}{dec // 10:06d}.{dec % 10}"
    return name if not again else f"{name}_{again + 1}"


def starid_of_name(name: str) -> int | None:
    """Starid of a name as :func:`name_of_star` gives it, with or without ZTF and points; None if it is not one."""
    found = _NAME.fullmatch(name.strip())
    if found is None:
        return None
    ra, fine, sign, dec, tenth, again = found.groups()
    head = 1 if sign == "+" else 2
    number = int(again or 1) - 1
    if not 0 <= number < PER_PLACE:
        return None
    return head * 10**17 + int(ra + fine) * 10**9 + int(dec + tenth) * PER_PLACE + number


def new_starids(place: Ids, first: Ids, used: Ids) -> Ids:
    """Starids of new stars: of each place the lowest numbers never used, in order of the stars' first objects.

    Parameters
    ----------
    place, first : int64 ndarray, shape (N,)
        Of each star what :func:`places_of` gives, and its lowest objectid.
    used : int64 ndarray, shape (M,)
        Starids that there are or were near them.

    Raises
    ------
    OverflowError
        If a place has no number left.
    """
    order = np.lexsort((first, place))
    ordered = place[order]
    begins = np.flatnonzero(np.concatenate([np.ones(min(len(ordered), 1), bool), ordered[1:] != ordered[:-1]]))
    rank = np.arange(len(ordered)) - np.repeat(begins, np.diff(np.append(begins, len(ordered))))
    where = find_sorted(ordered[begins], used // PER_PLACE * PER_PLACE)
    taken = np.unique(used[where >= 0])
    at_same = np.bincount(where[where >= 0], minlength=len(begins)) > 0
    stops = np.append(begins[1:], len(ordered))
    for begin, stop in zip(begins[at_same].tolist(), stops[at_same].tolist(), strict=True):  # few: of former stars
        mine = taken[taken // PER_PLACE * PER_PLACE == ordered[begin]] % PER_PLACE
        free = np.setdiff1d(np.arange(PER_PLACE + stop - begin), mine)
        rank[begin:stop] = free[: stop - begin]
    if len(rank) and rank.max() >= PER_PLACE:
        name = name_of_star(int(ordered[np.argmax(rank)]))
        raise OverflowError(f"more than {PER_PLACE} stars at {name}: no starid can tell another")
    ids = np.empty(len(place), np.int64)
    ids[order] = ordered + rank
    return ids
