"""What became of each object when its unit's reference was regenerated, from where its detections went.

Every detection is *attributed* to the seed that is nearest within the radius, whether it became that seed's epoch or
lost to a nearer detection of its exposure. Old and new objects are linked if at least half of what is attributed to one
of them is attributed to the other too: so the two detections of a blend that the old reference held as one source, of
which one an exposure lost, still say that it split. An object without detections is linked to the nearest of the other
generation within the radius.

Transients are among the old and the new ones, told by their ids above MAX_OBJECTID; the detections of a transient are
attributed to it; one that had only lost to a nearer one leaves no object for it. An object is linked to a transient
only by half of what is attributed to the object: a few epochs that it lost are no successor. It is lost if no object
succeeds it; what happened between objects is told by their links alone. A transient that stays what it is has no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.config import SAME_ARCSEC
from ztfmatch.kernels.crossmatch import build_grid, nearest_seeds
from ztfmatch.kernels.sphere import Floats, arcsec_of_chord2
from ztfmatch.schema.lineage import LINEAGE_KINDS
from ztfmatch.survey import MAX_OBJECTID

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SAME, MOVED, SPLIT, MERGED, LOST, NEW = range(len(LINEAGE_KINDS))
"""Kinds, as numbers."""

LINKED_FRACTION: Final = 0.5
"""Part of the detections attributed to an object that makes a link."""


@dataclass(frozen=True)
class Flows:
    """How many detections went from which old to which new object, shape (N,) each; each pair once.

    Id 0 stands for none.
    """

    old: Ids
    new: Ids
    attributed: Ids
    """Detections attributed to both."""
    left: Ids
    """Those of them that were epochs of the old one."""
    arrived: Ids
    """Those of them that are epochs of the new one."""
    shared: Ids
    """Those of them that are both."""


def count_flows(old: Ids, new: Ids, was_epoch: Mask, is_epoch: Mask) -> Flows:
    """Count detections by the pair of objects that they were and are attributed to.

    Parameters
    ----------
    old, new : int64 ndarray, shape (N,)
        Objectid that each detection was, and is, attributed to; 0 for none. Fastest where rows of one pair follow
        each other.
    was_epoch, is_epoch : bool ndarray, shape (N,)
        Whether it was, and is, an epoch of that object.
    """
    if not len(old):
        return add_flows()
    starts = np.flatnonzero(np.concatenate([[True], (old[1:] != old[:-1]) | (new[1:] != new[:-1])]))
    lengths = np.diff(np.append(starts, len(old)))
    sums = [np.add.reduceat(part.astype(np.int64), starts) for part in (was_epoch, is_epoch, was_epoch & is_epoch)]
    return add_flows(Flows(old[starts], new[starts], lengths, *sums))


def add_flows(*parts: Flows) -> Flows:
    """The sum of several counts, or of none, by old, then new object."""
    none = np.zeros(0, np.int64)
    old, new, *counts = (
        np.concatenate([none, *(getattr(part, name) for part in parts)]) for name in Flows.__dataclass_fields__
    )
    order = np.lexsort((new, old))
    old, new = old[order], new[order]
    starts = np.flatnonzero(
        np.concatenate([np.ones(min(len(old), 1), bool), (old[1:] != old[:-1]) | (new[1:] != new[:-1])])
    )
    sums = (np.add.reduceat(count[order], starts) if len(starts) else count for count in counts)
    return Flows(old[starts], new[starts], *sums)


@dataclass(frozen=True)
class Generation:
    """The objects of one generation of a unit and its transients, ascending by id."""

    objectid: Ids
    """Shape (N,)."""
    xyz: Floats
    """ICRS unit vectors, shape (N, 3)."""
    mag: Floats
    """Reference magnitude, of a transient its mean, shape (N,); NaN where unknown."""

    @property
    def transient(self) -> Mask:
        """Which of them are transients."""
        return self.objectid > MAX_OBJECTID


@dataclass(frozen=True)
class Lineage:
    """Rows of lineage, shape (N,) each, by old, then new object; the new ones without ancestor last."""

    old: Ids
    """0 for none."""
    new: Ids
    """0 for none."""
    kind: npt.NDArray[np.int8]
    separation: Floats
    """Arcsec; NaN where one is missing."""
    dmag: Floats
    """New minus old; NaN where one is missing."""
    shared: Ids
    """Detections that are epochs of both."""
    fraction_of_old: Floats
    """Shared detections over the epochs of the old one; NaN where it had none."""
    fraction_of_new: Floats


def trace(before: Generation, after: Generation, flows: Flows, radius_arcsec: float) -> Lineage:
    """Say what became of every old object, and where every new one is from.

    Parameters
    ----------
    before, after : Generation
    flows : Flows
        Of the unit.
    radius_arcsec : float
        Within which objects without detections are linked.
    """
    both = (flows.old > 0) & (flows.new > 0)
    old, new = np.searchsorted(before.objectid, flows.old[both]), np.searchsorted(after.objectid, flows.new[both])
    of_old, of_new = _totals(before, flows.old, flows.attributed), _totals(after, flows.new, flows.attributed)
    attributed = flows.attributed[both]
    least = np.where(~before.transient[old] & after.transient[new], of_old[old], np.minimum(of_old[old], of_new[new]))
    linked = attributed >= LINKED_FRACTION * least
    by_place = _links_by_position(before, after, (of_old, of_new), radius_arcsec)
    shared = np.concatenate([flows.shared[both][linked], np.zeros(len(by_place[0]), np.int64)])
    pairs = np.stack([np.concatenate([old[linked], by_place[0]]), np.concatenate([new[linked], by_place[1]])])
    (old, new), first = np.unique(pairs, axis=1, return_index=True)
    shared = shared[first]
    return _rows(before, after, _Links(old, new, shared), flows)


@dataclass(frozen=True)
class _Links:
    old: Ids
    """Row of the old object."""
    new: Ids
    shared: Ids

    def where(self, keep: Mask) -> _Links:
        """Some of them."""
        return _Links(self.old[keep], self.new[keep], self.shared[keep])


def _totals(generation: Generation, ids: Ids, counts: Ids) -> Ids:
    """Sum of counts by object."""
    known = ids > 0
    rows = np.searchsorted(generation.objectid, ids[known])
    return np.bincount(rows, counts[known], len(generation.objectid)).astype(np.int64)


def _links_by_position(
    before: Generation, after: Generation, attributed: tuple[Ids, Ids], radius_arcsec: float
) -> tuple[Ids, Ids]:
    """Rows of objects without detections and of the nearest object of the other generation within the radius."""
    dark_old, near_new = _nearest(before, attributed[0] == 0, after, radius_arcsec)
    dark_new, near_old = _nearest(after, attributed[1] == 0, before, radius_arcsec)
    return np.concatenate([dark_old, near_old]), np.concatenate([near_new, dark_new])


def _nearest(of: Generation, dark: Mask, among: Generation, radius_arcsec: float) -> tuple[Ids, Ids]:
    """Rows of dark objects that have an object of the other generation within the radius, and that of the nearest."""
    rows, others = np.flatnonzero(dark & ~of.transient), np.flatnonzero(~among.transient)
    if not (len(rows) and len(others)):
        return rows[:0], rows[:0]
    nearest, _ = nearest_seeds(build_grid(among.xyz[others], radius_arcsec), of.xyz[rows])
    return rows[nearest >= 0], others[nearest[nearest >= 0]]


def _kinds(before: Generation, after: Generation, links: _Links, separation: Floats) -> Ids:
    """What each link is: between two objects by such links alone, else by all."""
    from_object, to_object = ~before.transient[links.old], ~after.transient[links.new]
    apart = np.where(separation <= SAME_ARCSEC, SAME, MOVED)
    kind = apart.copy()
    for chosen, counted in ((slice(None), slice(None)), (from_object & to_object, from_object & to_object)):
        several = np.bincount(links.old[counted], minlength=len(before.objectid))[links.old] > 1
        joined = np.bincount(links.new[counted], minlength=len(after.objectid))[links.new] > 1
        kind[chosen] = np.where(joined, MERGED, np.where(several, SPLIT, apart))[chosen]
    succeeded = np.bincount(links.old[to_object], minlength=len(before.objectid))[links.old] > 0
    return np.where(from_object & ~to_object, np.where(succeeded, SPLIT, LOST), kind)


def _rows(before: Generation, after: Generation, links: _Links, flows: Flows) -> Lineage:
    lost = np.setdiff1d(np.arange(len(before.objectid)), links.old)
    fresh = np.setdiff1d(np.flatnonzero(~after.transient), links.new)
    chord2 = ((before.xyz[links.old] - after.xyz[links.new]) ** 2).sum(axis=1)
    separation = arcsec_of_chord2(chord2)
    kind = _kinds(before, after, links, separation)
    told = before.objectid[links.old] != after.objectid[links.new]
    links, kind, separation = links.where(told), kind[told], separation[told]
    epochs_of_old, epochs_of_new = _totals(before, flows.old, flows.left), _totals(after, flows.new, flows.arrived)
    with np.errstate(invalid="ignore"):
        of_old, of_new = links.shared / epochs_of_old[links.old], links.shared / epochs_of_new[links.new]
    old = np.concatenate([before.objectid[links.old], before.objectid[lost], np.zeros(len(fresh), np.int64)])
    new = np.concatenate([after.objectid[links.new], np.zeros(len(lost), np.int64), after.objectid[fresh]])
    order = np.lexsort((new, old, old == 0))

    def joined(linked: npt.NDArray[Any], for_lost: float, for_new: float) -> npt.NDArray[Any]:
        parts = [linked, np.full(len(lost), for_lost), np.full(len(fresh), for_new)]
        return np.concatenate(parts).astype(linked.dtype)[order]

    return Lineage(
        old[order],
        new[order],
        joined(kind, LOST, NEW).astype(np.int8),
        joined(separation, np.nan, np.nan),
        joined(after.mag[links.new] - before.mag[links.old], np.nan, np.nan),
        joined(links.shared, 0, 0),
        joined(of_old, np.nan, np.nan),
        joined(of_new, np.nan, np.nan),
    )
