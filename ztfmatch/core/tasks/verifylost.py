"""Verify detections that lost to another one of their exposure: the winner is stored, and is nearer.

Loser and winner are in different files: the loser is an orphan, the winner an epoch of the object that both have
nearest. The losers of a tile's objects are gathered first, from the orphans of the tile and of its neighbours, since a
detection may lie beyond the edge of its object's tile. Then the tile's lightcurves pass by once, chunk after chunk in
order of their objects, and the losers of each are compared with the epochs that are there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ztfmatch.core.arrays import Arrays, Ints, Mask
from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.kernels.lookup import build_map, find_rows, find_sorted
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.schema import ORPHANS
from ztfmatch.core.schema.types import numpy_type
from ztfmatch.core.survey import Unit
from ztfmatch.core.tasks.seedgrids import Seeds
from ztfmatch.core.tasks.verifyepochs import Findings, name_of

_COLUMNS = ("ra", "dec", "exposureid", "sourceid", "nearestid")


def _lost(orphans: Sequence[Arrays]) -> Arrays:
    """Those of some orphans that lost to another detection."""
    none: Arrays = {name: np.zeros(0, numpy_type(ORPHANS[name].type)) for name in _COLUMNS}
    lost = [part["nearestid"] != 0 for part in orphans]
    return {
        name: np.concatenate([none[name], *(part[name][rows] for part, rows in zip(orphans, lost, strict=True))])
        for name in _COLUMNS
    }


class LostPairs:
    """Orphans in a tile's reach that lost to another detection of their exposure: it must be there, and nearer."""

    def __init__(self, orphans: Sequence[Arrays], seeds: dict[Unit, Seeds]) -> None:
        rows = _lost(orphans)
        own, self._xyz = self._seed_of(rows["nearestid"], seeds)
        rows = {name: values[own] for name, values in rows.items()}
        # By the object that they lost, so that those of a chunk of lightcurves are a slice.
        order = np.lexsort((rows["exposureid"], rows["nearestid"]))
        self.rows = {name: values[order] for name, values in rows.items()}
        self._xyz = self._xyz[order]
        self._distance2 = _chord2(self._xyz, self.rows)
        self._won = np.zeros(len(order), bool)

    @staticmethod
    def _seed_of(nearestid: Ints, seeds: dict[Unit, Seeds]) -> tuple[Mask, Floats]:
        """Which pairs are about seeds of this tile, and where those seeds are."""
        own = np.zeros(len(nearestid), bool)
        xyz = np.zeros((len(nearestid), 3))
        for part in seeds.values():
            place = find_sorted(part.objectid, nearestid)
            mine = (place >= 0) & part.owned[place]
            own |= mine
            xyz[mine] = part.xyz[place[mine]]
        return own, xyz[own]

    def mark_won(self, chunk: Lightcurves) -> None:
        """Find the winners in some lightcurves and compare distances; ties go to the lower sourceid."""
        # The pairs about objects of this chunk, and the few epochs of it that are of their exposures.
        part = slice(*np.searchsorted(self.rows["nearestid"], [chunk.objectid[0], chunk.objectid[-1] + 1]))
        pairs = {name: values[part] for name, values in self.rows.items()}
        if not len(pairs["nearestid"]):
            return
        exposures = np.unique(pairs["exposureid"])
        exposure_of = build_map(exposures)
        place = find_sorted(chunk.objectid, pairs["nearestid"])
        lost = np.zeros(len(chunk.objectid), bool)
        lost[place[place >= 0]] = True
        candidates = np.flatnonzero(chunk.spread(lost))
        exposure = find_rows(exposure_of, chunk.columns["exposureid"][candidates])
        candidates, exposure = candidates[exposure >= 0], exposure[exposure >= 0]
        if not candidates.size:
            return
        group = np.searchsorted(chunk.offsets, candidates, side="right") - 1
        # An object has one epoch of an exposure, so that both as one number name it. A pair whose object is not in this
        # chunk finds nothing, or the epoch of another object, and does not count.
        held = build_map(group * len(exposures) + exposure)
        wanted = np.maximum(place, 0) * len(exposures) + find_rows(exposure_of, pairs["exposureid"])
        found = find_rows(held, wanted)
        winner = candidates[found]
        ours = (found >= 0) & (place >= 0)
        # Matching decides by the same distance to the seed, and of equal ones by sourceid.
        distance2 = _chord2(self._xyz[part], {name: chunk.columns[name][winner] for name in ("ra", "dec")})
        lower = chunk.columns["sourceid"][winner] < pairs["sourceid"]
        nearer = (distance2 < self._distance2[part]) | ((distance2 == self._distance2[part]) & lower)
        self._won[part] |= ours & nearer

    def check_all_won(self, findings: Findings) -> None:
        """Note the pairs whose winner was not found or was not nearer."""
        findings.add(
            "nearer-detection", ~self._won, lambda i: f"{name_of(self.rows, i)} lost {self.rows['nearestid'][i]}"
        )


def _chord2(xyz: Floats, columns: Arrays) -> Floats:
    delta = unit_vectors(columns["ra"], columns["dec"]) - xyz
    return np.asarray((delta * delta).sum(axis=1))
