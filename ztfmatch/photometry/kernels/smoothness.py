"""Smoothness of a map: the sizes of its processes that maximize the evidence of the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.priors import USUAL_FACTOR, USUAL_SIZES, Sizes, covariance

_LEAST_MAG: Final[Sizes] = (0.0005, 0.0001, 0.001)
_LARGEST_MAG: Final[Sizes] = (0.03, 0.01, 0.08)
_FACTOR: Final = 2.0
"""By which a size is multiplied or divided; maps hardly differ where sizes do by less."""


def most_probable_sizes(normal: Floats, pull: Floats, processes: Floats) -> Sizes:
    """The sizes that are most probable, climbed along each in turn: by the evidence, and by what is usual.

    The evidence is that of a linear model with normal priors (Rasmussen and Williams 2006, 5.4.1).

    Parameters
    ----------
    normal, pull : float64 ndarray, shape (M, M), (M,)
        What the data say of modes of the map, see :func:`ztfmatch.photometry.kernels.modes.told_by`.
    processes : float64 ndarray, shape (3, M, M)
    """

    def evidence(sizes: Sizes) -> float:
        unusual = np.log(np.array(sizes) / USUAL_SIZES) / np.log(USUAL_FACTOR)
        root = np.asarray(np.linalg.cholesky(covariance(processes, sizes)))
        return log_evidence(root.T @ normal @ root, root.T @ pull) - 0.5 * float(unusual @ unusual)

    best, highest = USUAL_SIZES, evidence(USUAL_SIZES)
    for which in range(len(best)):
        best, highest = _climbed(evidence, (best, highest), which, _FACTOR)
    return best


def without_others(data: Floats, right: Floats, prior: Floats, of: slice) -> tuple[Floats, Floats]:
    """Normal matrix and right side of one block, of the data alone, all other parameters eliminated.

    With the normal matrix in blocks, C of this one and O of all others, it alone obeys C - CO O^-1 OC (Schur's
    complement).

    Parameters
    ----------
    data, right : float64 ndarray, shape (P, P), (P,)
        Normal matrix of the data alone, and right side.
    prior : float64 ndarray, shape (P, P)
        What is known of the other parameters before.
    of : slice
    """
    normal = data + prior
    others = np.delete(np.arange(len(right)), of)
    back = np.linalg.solve(normal[np.ix_(others, others)], np.column_stack([normal[others, of], right[others]]))
    return data[of, of] - normal[of, others] @ back[:, :-1], right[of] - normal[of, others] @ back[:, -1]


def with_any_of(normal: Floats, pull: Floats, some: Floats) -> tuple[Floats, Floats]:
    """What is known of x + U a from what is of x, or of x from what is of x + U a; a are normal numbers of variance 1.

    For inverse covariances A and pulls p it is A - A U (1 + U' A U)^-1 U' A, and p likewise (Woodbury's identity).

    Parameters
    ----------
    normal, pull : float64 ndarray, shape (P, P), (P,)
    some : float64 ndarray, shape (P, K)
        U.
    """
    turned = normal @ some
    inner = np.linalg.inv(np.eye(some.shape[1]) + some.T @ turned)
    return normal - turned @ inner @ turned.T, pull - turned @ (inner @ (some.T @ pull))


def log_evidence(inner: Floats, pull: Floats) -> float:
    """Logarithm of the evidence, relative to that of coefficients that are all zero.

    With the covariance K = L L' of the coefficients, A and p from :func:`without_others`, it is
    1/2 p' (A + K^-1)^-1 p - 1/2 ln |1 + L' A L|; with q = L' p the first term is 1/2 q' (1 + L' A L)^-1 q, without an
    inverse of K.

    Parameters
    ----------
    inner, pull : float64 ndarray, shape (B, B), (B,)
        L' A L and L' p; inner is changed.
    """
    inner[np.diag_indices_from(inner)] += 1.0
    factor = np.linalg.cholesky(inner)
    q = np.linalg.solve(factor, pull)
    return float(0.5 * q @ q - np.log(np.diag(factor)).sum())


def _with(sizes: Sizes, which: int, size: float) -> Sizes:
    wide, narrow, rim = (size if k == which else other for k, other in enumerate(sizes))
    return wide, narrow, rim


def _climbed(
    evidence: Callable[[Sizes], float], start: tuple[Sizes, float], which: int, factor: float
) -> tuple[Sizes, float]:
    """Multiply or divide one of the sizes as long as that raises the evidence."""
    best, highest = start
    for direction in (factor, 1.0 / factor):
        while True:
            size = best[which] * direction
            tried = _with(best, which, size)
            if not _LEAST_MAG[which] <= size <= _LARGEST_MAG[which] or (value := evidence(tried)) <= highest:
                break
            best, highest = tried, value
        if best != start[0]:
            break
    return best, highest
