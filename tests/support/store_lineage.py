"""What became of each object in a rematch (docs/guides/operate.md), by dictionaries over all detections of a unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

Key = tuple[int, int]
"""Exposure and source of a detection."""

RADIUS_ARCSEC, SAME_ARCSEC = 1.5, 0.1


@dataclass(frozen=True)
class Side:
    """A unit before or after: its active objects and its transients, and what each detection is of."""

    places: dict[int, np.ndarray]
    """Unit vector by id, of a transient the mean of its detections."""
    epochs: dict[Key, int]
    """Object or transient of each detection that is of one."""


Link = tuple[str, int, float | None, float | None, tuple[int, ...] | None, float | None]
"""Kind, shared detections, these over the epochs of the old and of the new one, how many of the old one's epochs are of
objects, of transients and of neither now, separation in arcsec."""


def side(
    objects: pa.Table, content: Mapping[str, pa.Table], groups: Mapping[int, Iterable[Key]], unit: tuple[int, ...]
) -> Side:
    """One unit of a snapshot.

    Parameters
    ----------
    objects : Table
    content : mapping of str to Table
        Detections, orphans and exposures.
    groups : mapping of int to iterable of Key
        Detections by transient.
    unit : tuple of int
        field, rcid, fid.
    """
    mine = {row["exposureid"] for row in content["exposures"].to_pylist() if _unit(row) == unit}
    active = [row for row in objects.to_pylist() if _unit(row) == unit and row["status"] == "active"]
    epochs = {_key(row): row["objectid"] for row in content["detections"].to_pylist() if row["exposureid"] in mine}
    members = {key: number for number, keys in groups.items() for key in keys if key[0] in mine}
    places = {row["objectid"]: _vector(row["ra"], row["dec"]) for row in active}
    seen = {_key(row): _vector(row["ra"], row["dec"]) for row in content["orphans"].to_pylist()}
    for number in set(members.values()):
        places[number] = np.mean([seen[key] for key in groups[number]], axis=0)
    return Side(places, epochs | members)


def links(before: Side, after: Side) -> dict[tuple[int, int], Link]:
    """Every link by the ids of the old and the new one; 0 for none."""
    shared = Counter((old, after.epochs.get(key, 0)) for key, old in before.epochs.items())
    of_old, of_new = Counter(before.epochs.values()), Counter(after.epochs.values())
    pairs = _by_epochs(shared, of_old, of_new)
    pairs |= _by_place(before, after, of_old, {new for _, new in pairs})
    strong = {(old, new) for old, new in pairs if 4 * shared[old, new] >= of_new[new]}
    where = {old: _whereabouts(old, shared) for old in before.places}
    found: dict[tuple[int, int], Link] = {}
    for old, new in pairs:
        if old != new:
            away = _arcsec(before.places[old], after.places[new])
            count = shared[old, new]
            of = (count / total if total else None for total in (of_old[old], of_new[new]))
            found[old, new] = _kind(old, new, pairs, strong, away), count, *of, where[old], away
    linked_old, linked_new = {old for old, _ in pairs}, {new for _, new in pairs}
    found |= {(old, 0): ("lost", 0, None, None, where[old], None) for old in before.places.keys() - linked_old}
    fresh = {new for new in after.places.keys() - linked_new if _objects(new)}
    return found | {(0, new): ("new", 0, None, None, None, None) for new in fresh}


def _by_epochs(
    shared: Mapping[tuple[int, int], int], of_old: Counter[int], of_new: Counter[int]
) -> set[tuple[int, int]]:
    """Half of the old one's epochs make a link; a quarter too, of which the new object is made by half, if it was
    divided among such."""
    some = {pair: count for pair, count in shared.items() if all(pair)}
    whole = {pair for pair, count in some.items() if 2 * count >= of_old[pair[0]]}
    parts = {
        (old, new)
        for (old, new), count in some.items()
        if _objects(new) and 4 * count >= of_old[old] and 2 * count >= of_new[new]
    }
    arrived: Counter[int] = Counter()
    for old, new in whole | parts:
        arrived[old] += some[old, new] if _objects(new) else 0
    return whole | {pair for pair in parts if 2 * arrived[pair[0]] >= of_old[pair[0]]}


def _whereabouts(old: int, shared: Mapping[tuple[int, int], int]) -> tuple[int, ...]:
    counts = {new: count for (one, new), count in shared.items() if one == old}
    alone, of_objects = counts.get(0, 0), sum(count for new, count in counts.items() if new and _objects(new))
    return of_objects, sum(counts.values()) - alone - of_objects, alone


def _by_place(before: Side, after: Side, of_old: Counter[int], taken: set[int]) -> set[tuple[int, int]]:
    """Old objects without epochs and new ones without such a link, each nearest to the other of all."""
    sides = [{number: place for number, place in s.places.items() if _objects(number)} for s in (before, after)]
    pairs = set()
    for old, place in sides[0].items() if sides[1] else ():
        away, new = min((_arcsec(place, other), number) for number, other in sides[1].items())
        back = min((_arcsec(sides[1][new], other), number) for number, other in sides[0].items())[1]
        if not of_old[old] and new not in taken and back == old and away <= RADIUS_ARCSEC:
            pairs.add((old, new))
    return pairs


def _objects(*ids: int) -> bool:
    return all(number < 10**16 for number in ids)


def _kind(old: int, new: int, pairs: set[tuple[int, int]], strong: set[tuple[int, int]], away: float) -> str:
    """What happened between objects is told by their links alone; only strong ones merge with others."""
    if _objects(old) and not _objects(new):
        return "split" if any(_objects(other) for one, other in pairs if one == old) else "lost"
    counted = {pair for pair in pairs if _objects(*pair)} if _objects(old, new) else pairs
    if any(other == new and one != old for one, other in counted & strong):
        return "merged"
    if any(one == old and other != new for one, other in counted):
        return "split"
    return "same" if away <= SAME_ARCSEC else "moved"


def _key(row: dict[str, Any]) -> Key:
    return row["exposureid"], row["sourceid"]


def _unit(row: dict[str, Any]) -> tuple[int, ...]:
    return row["field"], row["rcid"], row["fid"]


def _vector(ra: float, dec: float) -> np.ndarray:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _arcsec(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(2 * np.arcsin(np.linalg.norm(a - b) / 2)) * 3600)
