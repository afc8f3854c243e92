"""What a rematch must say became of each object: README's rules, by dictionaries over all detections of a unit."""

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
    nearest: dict[Key, int]
    """Object or transient of each detection, if only as one that lost to another; 0 for none."""
    epochs: dict[Key, int]
    """Those that are epochs of it."""


Link = tuple[str, int, float | None, float | None, float | None]
"""Kind, shared detections, these over the epochs of the old and of the new one, separation in arcsec."""


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
    lost = {_key(row): row["nearestid"] or 0 for row in content["orphans"].to_pylist() if row["exposureid"] in mine}
    members = {key: number for number, keys in groups.items() for key in keys if key[0] in mine}
    places = {row["objectid"]: _vector(row["ra"], row["dec"]) for row in active}
    seen = {_key(row): _vector(row["ra"], row["dec"]) for row in content["orphans"].to_pylist()}
    for number in set(members.values()):
        places[number] = np.mean([seen[key] for key in groups[number]], axis=0)
    return Side(places, lost | epochs | members, epochs | members)


def links(before: Side, after: Side) -> dict[tuple[int, int], Link]:
    """Every link by the ids of the old and the new one; 0 for none."""
    both = Counter(
        (before.nearest[key], after.nearest[key]) for key in before.nearest if not _lost_anew(key, before, after)
    )
    of_old, of_new = Counter(before.nearest.values()), Counter(after.nearest.values())
    pairs = {
        (old, new)
        for (old, new), count in both.items()
        if old and new and 2 * count >= _least(old, new, of_old, of_new)
    }
    pairs |= {(old, new) for old, new in _dark(before, after, of_old) if new}
    pairs |= {(old, new) for new, old in _dark(after, before, of_new) if old}
    shared = Counter((old, after.epochs.get(key)) for key, old in before.epochs.items())
    epochs_of_old, epochs_of_new = Counter(before.epochs.values()), Counter(after.epochs.values())
    found: dict[tuple[int, int], Link] = {}
    for old, new in pairs:
        if old != new:
            away = _arcsec(before.places[old], after.places[new])
            count = shared[old, new]
            of = (count / total if total else None for total in (epochs_of_old[old], epochs_of_new[new]))
            found[old, new] = _kind(old, new, pairs, away), count, *of, away
    linked_old, linked_new = {old for old, _ in pairs}, {new for _, new in pairs}
    nothing = 0, None, None, None
    found |= {(old, 0): ("lost", *nothing) for old in before.places.keys() - linked_old}
    return found | {(0, new): ("new", *nothing) for new in after.places.keys() - linked_new if _objects(new)}


def _lost_anew(key: Key, before: Side, after: Side) -> bool:
    """Whether a detection is a transient's that was an object's only in that it had lost to another."""
    return not _objects(after.nearest[key]) and key not in before.epochs


def _least(old: int, new: int, of_old: Counter[int], of_new: Counter[int]) -> int:
    """Of what half makes a link: an object becomes a transient only if half of what it had does."""
    return of_old[old] if old < 10**16 < new else min(of_old[old], of_new[new])


def _dark(of: Side, among: Side, attributed: Counter[int]) -> list[tuple[int, int]]:
    """Objects without detections, and the nearest of the others within the radius, or 0."""
    pairs = []
    others = {number: place for number, place in among.places.items() if _objects(number)}
    for number, place in of.places.items():
        if not attributed[number] and others and _objects(number):
            away, nearest = min((_arcsec(place, others[other]), other) for other in others)
            pairs.append((number, nearest if away <= RADIUS_ARCSEC else 0))
    return pairs


def _objects(*ids: int) -> bool:
    return all(number < 10**16 for number in ids)


def _kind(old: int, new: int, pairs: set[tuple[int, int]], away: float) -> str:
    """What happened between objects is told by their links alone."""
    if _objects(old) and not _objects(new):
        return "split" if any(_objects(other) for one, other in pairs if one == old) else "lost"
    counted = {pair for pair in pairs if _objects(*pair)} if _objects(old, new) else pairs
    if sum(other == new for _, other in counted) > 1:
        return "merged"
    if sum(one == old for one, _ in counted) > 1:
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
