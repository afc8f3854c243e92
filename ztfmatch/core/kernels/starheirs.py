"""Which star keeps which starid, when objects came and went: the id stays with most of the star's epochs.

An old star *leaves* its epochs to new stars: those of an object that is still active to the star that this is of now,
those of a retired object by its lineage. Its heir is the new star that gets most of them (of equal ones that which gets
more objects, then the one with the lowest first objectid). A new star keeps the id of that old one, of those whose
heir it is, which leaves it most (then: more objects, the lower starid). So an id has one star at most, and a star one
id, and what is told of a star depends on those near it alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

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

    @classmethod
    def of(cls, old: Ids, new: Ids, epochs: Ids) -> Legacy:
        """Add up what each object leaves, one row an object and successor."""
        order = np.lexsort((new, old))
        old, new, epochs = old[order], new[order], epochs[order]
        changes = np.ones(len(old), bool)
        changes[1:] = (old[1:] != old[:-1]) | (new[1:] != new[:-1])
        first = np.flatnonzero(changes)
        counts = np.diff(np.append(first, len(old)))
        total = np.add.reduceat(epochs, first) if len(first) else epochs[:0]
        return cls(old[first], new[first], total.astype(np.int64), counts.astype(np.int64))

    def contested(self) -> npt.NDArray[np.bool_]:
        """Pairs of an old star that leaves to several, or of a new one that several leave to, shape (K,)."""
        return np.asarray(_repeats(self.old) | _repeats(self.new))

    def heirs(self, first: Ids) -> Ids:
        """Starid that each new star keeps, 0 for none.

        Parameters
        ----------
        first : int64 ndarray, shape (S,)
            Lowest objectid of each new star.
        """
        kept = np.zeros(len(first), np.int64)
        best = _first_of_each(self.old, np.lexsort((first[self.new], -self.objects, -self.epochs, self.old)))
        rows = best[np.lexsort((self.old[best], -self.objects[best], -self.epochs[best], self.new[best]))]
        rows = _first_of_each(self.new, rows)
        kept[self.new[rows]] = self.old[rows]
        return kept

    def kinds(self) -> npt.NDArray[np.int8]:
        """What became of the old star of each pair: split, merged with others, or the same, shape (K,)."""
        splits, merges = _repeats(self.old), _repeats(self.new)
        return np.where(splits, SPLIT, np.where(merges, MERGED, SAME)).astype(np.int8)


def _first_of_each(key: Ids, order: Ids) -> Ids:
    """Of rows in an order in which those of one key follow each other, the first of each."""
    ordered = key[order]
    changes = np.ones(len(ordered), bool)
    changes[1:] = ordered[1:] != ordered[:-1]
    return order[changes]


def _repeats(values: Ids) -> npt.NDArray[np.bool_]:
    """Whether each value is there more than once, shape (N,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse] > 1)
