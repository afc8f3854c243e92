"""Which star keeps which starid when objects come and go: an id stays with most of its star's epochs.

An old star *leaves* its epochs to new stars: those of an object that is still active to the star that this is of now,
those of a retired object by its lineage. Its heir is the new star that gets most of them (of equal ones that which gets
more objects, then the one with the lowest first objectid). A new star keeps the id of that old one, of those whose
heir it is, which leaves it most (then: more objects, the lower starid). So an id has one star at most, and a star one
id, and the result for a star depends only on stars near it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.arrays import Ids, Mask

SAME: Final = 0
SPLIT: Final = 1
MERGED: Final = 2
NEW: Final = 3
LOST: Final = 4
KINDS: Final = ("same", "split", "merged", "new", "lost")


@dataclass(frozen=True)
class Legacy:
    """What old stars leave to new ones, one row a pair."""

    old: Ids
    """Starid, shape (K,)."""
    new: Ids
    """Number of the new star, shape (K,)."""
    epochs: Ids
    objects: Ids
    pair: Ids
    """Row here of each row that was given, shape (N,)."""

    @classmethod
    def of(cls, old: Ids, new: Ids, epochs: Ids) -> Legacy:
        """Add up what each object leaves, one row an object and successor."""
        order = np.lexsort((new, old))
        old, new = old[order], new[order]
        changes = np.ones(len(old), bool)
        changes[1:] = (old[1:] != old[:-1]) | (new[1:] != new[:-1])
        pair = np.empty(len(old), np.int64)
        pair[order] = np.cumsum(changes) - 1
        first = np.flatnonzero(changes)
        counts = np.diff(np.append(first, len(old))).astype(np.int64)
        return cls(old[first], new[first], counts, counts, pair).leaving(epochs)

    def leaving(self, epochs: Ids) -> Legacy:
        """The same pairs, of other numbers of epochs of the rows that were given, shape (N,)."""
        total = np.zeros(len(self.old), np.int64)
        np.add.at(total, self.pair, epochs)
        return replace(self, epochs=total)

    @functools.cached_property
    def splits(self) -> Mask:
        """Pairs of an old star that leaves to several, shape (K,)."""
        same = np.zeros(len(self.old) + 1, bool)
        same[1:-1] = self.old[1:] == self.old[:-1]
        return np.asarray(same[1:] | same[:-1])

    @functools.cached_property
    def merges(self) -> Mask:
        """Pairs of a new star that several leave to, shape (K,)."""
        return np.asarray(np.bincount(self.new)[self.new] > 1) if len(self.new) else np.zeros(0, bool)

    @property
    def contested(self) -> Mask:
        """Pairs that split or merge, shape (K,)."""
        return np.asarray(self.splits | self.merges)

    def heirs(self, first: Ids) -> Ids:
        """Starid that each new star keeps, 0 for none.

        Parameters
        ----------
        first : int64 ndarray, shape (S,)
            Lowest objectid of each new star.
        """
        kept = np.zeros(len(first), np.int64)
        clear = np.flatnonzero(~self.contested)
        kept[self.new[clear]] = self.old[clear]
        # All pairs of an old star that splits are among the contested, and all of a new one that merges.
        rows = np.flatnonzero(self.contested)
        keys = (first[self.new[rows]], -self.objects[rows], -self.epochs[rows], self.old[rows])
        best = _first_of_each(self.old, rows[np.lexsort(keys)])
        rows = best[np.lexsort((self.old[best], -self.objects[best], -self.epochs[best], self.new[best]))]
        rows = _first_of_each(self.new, rows)
        kept[self.new[rows]] = self.old[rows]
        return kept

    def kinds(self) -> npt.NDArray[np.int8]:
        """What became of the old star of each pair: split, merged with others, or the same, shape (K,)."""
        return np.where(self.splits, SPLIT, np.where(self.merges, MERGED, SAME)).astype(np.int8)


def _first_of_each(key: Ids, order: Ids) -> Ids:
    """Of rows in an order in which those of one key follow each other, the first of each."""
    ordered = key[order]
    changes = np.ones(len(ordered), bool)
    changes[1:] = ordered[1:] != ordered[:-1]
    return order[changes]
