"""Modes of a map that its data determine: some hundred of several hundred coefficients where stars are few.

Coefficients are turned to the eigenvectors of a usual covariance, those with the largest variance first. Beyond a mode
that the data say next to nothing of there are none that they say more of: there the map is what was known before. What
sizes and other maps make of the evidence of the data is so told by small matrices.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.priors import USUAL_FACTOR, USUAL_SIZES, Sizes, covariance, map_processes

_INFORMED: Final = 1e-3
"""Variance of a mode over that of its error by the data alone, below which they say nothing of it."""
MODES_HELD: Final = 10
"""Matrices of coefficients that a process holds for all modes of a map, with what they are made from."""


class Modes(NamedTuple):
    """The first of them, M of B."""

    vectors: Floats
    """Coefficients of each, shape (B, M)."""
    variances: Floats
    """Usual ones, shape (M,)."""
    processes: Floats
    """Covariances of the processes of a map, of size 1 each, shape (3, M, M)."""
    beyond: Floats
    """Variance of each process in all modes beyond these, shape (3,)."""

    def first(self, modes: int) -> Modes:
        """So many of them."""
        rest = np.einsum("pmm->p", self.processes[:, modes:, modes:])
        some = (self.vectors[:, :modes], self.variances[:modes], self.processes[:, :modes, :modes])
        return Modes(*some, self.beyond + rest)


@cache
def map_modes(nx: int, ny: int) -> Modes:
    """All modes of a map, the same to the bit in any process."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        processes = map_processes(nx, ny)
        usual = covariance(USUAL_FACTOR**2 * processes, USUAL_SIZES)
        variances, vectors = (values[..., ::-1] for values in np.linalg.eigh(usual))
        return Modes(vectors, variances, vectors.T @ processes @ vectors, np.zeros(len(processes)))


def told_by(normal: Floats, pull: Floats, modes: Modes) -> tuple[Floats, Floats]:
    """Normal matrix and right side of coefficients, (B, B) and (B,), as those of the M modes that they tell."""
    turned = normal @ modes.vectors
    informed = modes.variances * np.einsum("bm,bm->m", modes.vectors, turned) > _INFORMED
    some = modes.vectors[:, : int(np.flatnonzero(informed).max(initial=0)) + 1]
    return some.T @ turned[:, : some.shape[1]], some.T @ pull


def precision_with(own: Floats, found: tuple[Floats, Floats], sizes: Sizes, modes: Modes) -> tuple[Floats, Floats]:
    """Inverse covariance of coefficients, and that times their mean, where something is known of the first modes.

    What is known adds to the inverse covariance of these alone, so that the others follow them as they do without.

    Parameters
    ----------
    own : float64 ndarray, shape (B, B)
        Inverse covariance without, of processes of these sizes.
    found : tuple of float64 ndarray, shape (M,) and (M, M)
        Mean and covariance of the first modes.
    sizes : Sizes
    modes : Modes
    """
    mean, spread = found
    some = modes.first(len(mean))
    known = np.linalg.inv(spread)
    more = some.vectors @ (known - np.linalg.inv(covariance(some.processes, sizes))) @ some.vectors.T
    return own + 0.5 * (more + more.T), some.vectors @ (known @ mean)
