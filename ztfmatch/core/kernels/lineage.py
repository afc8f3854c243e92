"""Lineage of the objects of a unit whose reference was regenerated, from where their epochs went.

An object is its lightcurve, so it lives on where its epochs are. It is linked to what has at least half of them now;
and, where it was divided, to each object that has at least a quarter of them and consists of them by half or more, if
all of these together have half. Where its successors have less than half of its epochs it is lost; what is recorded is
how many of them now are epochs of any objects, detections of transients, or only orphans. A detection that had lost
to a nearer one was no epoch, and says nothing.

A link is 'split' if the old one has several, 'merged' if another link brings the new one a quarter or more of its
epochs: a few strays of a neighbour change nobody's kind.

An object without a single epoch can be identified by its position alone. It is linked to the nearest object of the
other generation within the radius, if that has no link by epochs, and has it for its nearest too. So it has no part
in what is said of objects that were detected.

Transients are among the old and the new ones, recognized by their ids above MAX_OBJECTID; their detections are their
epochs. An object is linked to a transient only by half of its epochs, and is lost if no object succeeds it; what
happened between objects depends on their links alone. A transient that stays what it is has no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Array, Ids, Mask
from ztfmatch.core.config import SAME_ARCSEC
from ztfmatch.core.kernels.crossmatch import build_grid, nearest_seeds
from ztfmatch.core.kernels.sphere import Floats, arcsec_of_chord2
from ztfmatch.core.schema.lineage import LINEAGE_KINDS
from ztfmatch.core.survey import MAX_OBJECTID

SAME, MOVED, SPLIT, MERGED, LOST, NEW = range(len(LINEAGE_KINDS))
"""Kinds, as numbers."""

LINKED_FRACTION: Final = 0.5
"""Part of an object's epochs that makes a link."""

PART_FRACTION: Final = 0.25
"""Part of an object's epochs below which they are strays: they make it neither split nor merged."""


@dataclass(frozen=True)
class Flows:
    """How many detections went from which old to which new object or transient, shape (N,) each; each pair once.

    Id 0 stands for none: the detection was, or is, an orphan alone.
    """

    old: Ids
    new: Ids
    count: Ids


def count_flows(old: Ids, new: Ids) -> Flows:
    """Count detections by the pair of objects that they were and are epochs of.

    Parameters
    ----------
    old, new : int64 ndarray, shape (N,)
        Id of what each detection was, and is, an epoch of; 0 for none. Fastest where rows of one pair follow each
        other.
    """
    starts = _starts(old, new)
    return add_flows(Flows(old[starts], new[starts], np.diff(np.append(starts, len(old)))))


def add_flows(*parts: Flows) -> Flows:
    """The sum of several counts, or of none, by old, then new object."""
    none = np.zeros(0, np.int64)
    old, new, count = (
        np.concatenate([none, *(getattr(part, name) for part in parts)]) for name in Flows.__dataclass_fields__
    )
    order = np.lexsort((new, old))
    old, new, count = old[order], new[order], count[order]
    starts = _starts(old, new)
    return Flows(old[starts], new[starts], np.add.reduceat(count, starts) if len(starts) else count)


def _starts(old: Ids, new: Ids) -> Ids:
    """First row of each run of one pair."""
    first = np.ones(min(len(old), 1), bool)
    return np.flatnonzero(np.concatenate([first, (old[1:] != old[:-1]) | (new[1:] != new[:-1])]))


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
class Places:
    """Where the epochs of some old objects are now, shape (N,) each; together they are all."""

    in_objects: Ids
    in_transients: Ids
    orphaned: Ids
    """In neither."""


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
    places: Places
    """Of all epochs of the old one; zeros without one."""


def trace(before: Generation, after: Generation, flows: Flows, radius_arcsec: float) -> Lineage:
    """Say what became of every old object, and where every new one is from.

    Parameters
    ----------
    before, after : Generation
    flows : Flows
        Of the unit; every id in them is of one of these, or 0.
    radius_arcsec : float
        Within which objects without epochs are linked.
    """
    totals = _totals(before, flows.old, flows.count), _totals(after, flows.new, flows.count)
    by_epochs = _links_by_epochs(before, after, flows, totals)
    by_place = _links_by_place(before, after, (totals[0] == 0, _counts(by_epochs.new, after) == 0), radius_arcsec)
    links = _Links(
        *(np.concatenate([getattr(part, name) for part in (by_epochs, by_place)]) for name in vars(by_place))
    )
    return _rows(before, after, links.where(np.lexsort((links.new, links.old))), (totals, _places(before, flows)))


@dataclass(frozen=True)
class _Links:
    old: Ids
    """Row of the old object."""
    new: Ids
    shared: Ids

    def where(self, keep: Mask | Ids) -> _Links:
        """Some of them."""
        return _Links(self.old[keep], self.new[keep], self.shared[keep])


def _totals(generation: Generation, ids: Ids, counts: Ids) -> Ids:
    """Sum of counts by object."""
    known = ids > 0
    rows = np.searchsorted(generation.objectid, ids[known])
    return np.bincount(rows, counts[known], len(generation.objectid)).astype(np.int64)


def _counts(rows: Ids, generation: Generation) -> Ids:
    """How often each object of a generation is among some rows."""
    return np.bincount(rows, minlength=len(generation.objectid))


def _places(before: Generation, flows: Flows) -> Places:
    now = flows.new == 0, flows.new > MAX_OBJECTID
    parts = [_totals(before, flows.old[of], flows.count[of]) for of in (~(now[0] | now[1]), now[1], now[0])]
    return Places(*parts)


def _links_by_epochs(before: Generation, after: Generation, flows: Flows, totals: tuple[Ids, Ids]) -> _Links:
    # Candidates are all pairs that have any epoch in common.
    both = (flows.old > 0) & (flows.new > 0)
    old, new = np.searchsorted(before.objectid, flows.old[both]), np.searchsorted(after.objectid, flows.new[both])
    shared, of_old, of_new = flows.count[both], totals[0][old], totals[1][new]
    # An object lives on where half of it is. A part counts that is a fair share of the old and half of the new one.
    lives_on, to_object = shared >= LINKED_FRACTION * of_old, ~after.transient[new]
    part = to_object & (shared >= PART_FRACTION * of_old) & (shared >= LINKED_FRACTION * of_new)
    # Parts are successors only if together, and with the one that has most, they have half of the epochs.
    succeeding = to_object & (lives_on | part)
    arrived = np.bincount(old[succeeding], shared[succeeding], len(before.objectid))
    part &= (arrived >= LINKED_FRACTION * totals[0])[old]
    return _Links(old, new, shared).where(lives_on | part)


def _links_by_place(before: Generation, after: Generation, free: tuple[Mask, Mask], radius_arcsec: float) -> _Links:
    """Links of objects that have no epochs, and others that are free, each the nearest of the other."""
    # Mutual nearest neighbours, so that a place has one link at most whichever side it is seen from.
    sides = (before, after), (after, before)
    nearest = [_nearest(of, among, radius_arcsec) for of, among in sides]
    old = np.flatnonzero(free[0] & (nearest[0] >= 0))
    new = nearest[0][old]
    keep = free[1][new] & (nearest[1][new] == old)
    return _Links(old[keep], new[keep], np.zeros(int(keep.sum()), np.int64))


def _nearest(of: Generation, among: Generation, radius_arcsec: float) -> Ids:
    """Row of the nearest object of the other generation within the radius of each; -1 for none, and for transients."""
    found = np.full(len(of.objectid), -1)
    rows, others = np.flatnonzero(~of.transient), np.flatnonzero(~among.transient)
    if len(rows) and len(others):
        nearest, _ = nearest_seeds(build_grid(among.xyz[others], radius_arcsec), of.xyz[rows])
        found[rows] = np.where(nearest >= 0, others[nearest], -1)
    return found


def _kinds(before: Generation, after: Generation, links: _Links, separation: Floats, of_new: Ids) -> Ids:
    """What each link is: between two objects by such links alone, else by all."""
    from_object, to_object = ~before.transient[links.old], ~after.transient[links.new]
    # Strays that come along make nobody merged: only a link that brings a fair share of the new one's epochs does.
    matters = links.shared >= PART_FRACTION * of_new[links.new]
    # A link that is the only one of both its ends is classified by how far the object moved.
    apart = np.where(separation <= SAME_ARCSEC, SAME, MOVED)
    kind = apart.copy()
    # First as if transients were objects, which settles their links; then links between objects once more, among
    # themselves: that some epochs went to a transient, or came from one, says nothing of what objects became.
    for chosen in (np.ones(len(kind), bool), from_object & to_object):
        several = _counts(links.old[chosen], before)[links.old] > 1
        # Any other link that matters: the link itself is counted if it does, and taken off again.
        joined = _counts(links.new[chosen & matters], after)[links.new] - matters > 0
        # Where both are true the new one has several ancestors, which is what a reader of it must know: merged.
        kind[chosen] = np.where(joined, MERGED, np.where(several, SPLIT, apart))[chosen]
    # An object that became a transient is split if an object succeeds it as well, and lost if none does.
    succeeded = _counts(links.old[to_object], before)[links.old] > 0
    return np.where(from_object & ~to_object, np.where(succeeded, SPLIT, LOST), kind)


def _rows(before: Generation, after: Generation, links: _Links, counted: tuple[tuple[Ids, Ids], Places]) -> Lineage:
    """All links, what is lost and what is new; ``counted`` are the epochs of both sides, and where the old ones are."""
    (epochs_of_old, epochs_of_new), places = counted
    # Without a link the old ones are lost, and new objects are new; a new transient has no row.
    lost = np.setdiff1d(np.arange(len(before.objectid)), links.old)
    fresh = np.setdiff1d(np.flatnonzero(~after.transient), links.new)
    chord2 = ((before.xyz[links.old] - after.xyz[links.new]) ** 2).sum(axis=1)
    separation = arcsec_of_chord2(chord2)
    kind = _kinds(before, after, links, separation, epochs_of_new)
    # A transient that keeps its id is what it was; its link counted for the kinds of others.
    changed = before.objectid[links.old] != after.objectid[links.new]
    links, kind, separation = links.where(changed), kind[changed], separation[changed]
    with np.errstate(invalid="ignore"):
        of_old, of_new = links.shared / epochs_of_old[links.old], links.shared / epochs_of_new[links.new]
    old = np.concatenate([before.objectid[np.concatenate([links.old, lost])], np.zeros(len(fresh), np.int64)])
    new = np.concatenate([after.objectid[links.new], np.zeros(len(lost), np.int64), after.objectid[fresh]])
    order = np.lexsort((new, old, old == 0))

    def joined(linked: Array, for_lost: Any, for_new: float) -> Array:
        parts = [linked, np.broadcast_to(for_lost, len(lost)), np.full(len(fresh), for_new)]
        return np.concatenate(parts).astype(linked.dtype)[order]

    return Lineage(
        old=old[order],
        new=new[order],
        kind=joined(kind, LOST, NEW).astype(np.int8),
        separation=joined(separation, np.nan, np.nan),
        dmag=joined(after.mag[links.new] - before.mag[links.old], np.nan, np.nan),
        shared=joined(links.shared, 0, 0),
        fraction_of_old=joined(of_old, np.nan, np.nan),
        fraction_of_new=joined(of_new, np.nan, np.nan),
        places=Places(*(joined(part[links.old], part[lost], 0) for part in vars(places).values())),
    )
