"""Transients of a store as it has them, and by brute force over all orphans of a unit."""

from __future__ import annotations

import itertools

import numpy as np
from helpers import table

import ztfmatch
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.survey import transientid_of

Key = tuple[int, int]
"""Exposure and source of a detection."""

CHORD2 = (2.0 * np.sin(np.radians(1.5 / 3600.0) / 2.0)) ** 2


def groups_of(storage: Storage, number: int | None = None) -> dict[int, frozenset[Key]]:
    """Detections of each transient."""
    rows = ztfmatch.Store(storage).snapshot(number).table("transientdata").to_pylist()
    by_id = itertools.groupby(sorted(rows, key=lambda row: row["transientid"]), key=lambda row: row["transientid"])
    return {number: frozenset((row["exposureid"], row["sourceid"]) for row in members) for number, members in by_id}


def expected_groups(storage: Storage, number: int | None = None) -> dict[int, frozenset[Key]]:
    """Transients as docs/guides/operate.md describes them, over all pairs of orphans of units with a reference."""
    orphans = [row for row in table(storage, "orphans", number).to_pylist() if row["reason"] != "no_reference"]
    ledger = {row["exposureid"]: row for row in table(storage, "exposures", number).to_pylist()}

    def order(row: dict[str, int]) -> tuple[float, ...]:
        exposure = ledger[row["exposureid"]]
        return exposure["commit"], exposure["obsmjd"], row["exposureid"], row["sourceid"]

    found: dict[int, frozenset[Key]] = {}
    for _, members in itertools.groupby(sorted(orphans, key=_unit), key=_unit):
        found |= _groups(sorted(members, key=order))
    return found


def _unit(row: dict[str, int]) -> tuple[int, int, int]:
    return row["field"], row["rcid"], row["fid"]


def _groups(rows: list[dict[str, int]]) -> dict[int, frozenset[Key]]:
    lon, lat = (np.radians([row[name] for row in rows]) for name in ("ra", "dec"))
    xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    groups: dict[int, list[int]] = {}
    for _, exposure in itertools.groupby(range(len(rows)), key=lambda i: rows[i]["exposureid"]):
        here, founders = list(exposure), list(groups)
        best: dict[int, tuple[float, int]] = {}
        for i in here:
            away = ((xyz[founders] - xyz[i]) ** 2).sum(axis=1)
            if len(away) and away.min() <= CHORD2:
                nearest = founders[int(away.argmin())]
                best[nearest] = min(best.get(nearest, (9.0, i)), (away.min(), i))
        joined = {i: founder for founder, (_, i) in best.items()}
        for i in here:
            groups.setdefault(joined.get(i, i), []).append(i)
    keys = [[(rows[i]["exposureid"], rows[i]["sourceid"]) for i in members] for members in groups.values()]
    return {transientid_of(*members[0]): frozenset(members) for members in keys if len(members) > 1}
