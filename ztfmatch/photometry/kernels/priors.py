"""Priors of a map: covariances of its coefficients.

A map is taken to be a sum of independent Gaussian processes: one that is smooth over the whole quadrant, one over
some cells, and one that decays from the edges inwards, as the response of real detectors does: partly alike at all
edges, partly each has its own, of which some varies slowly along it. The size of each is found from the data.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.photometry.kernels.grid import FIRST_EDGE_PIX
from ztfmatch.photometry.kernels.splines import SplineBasis, change_basis, map_basis

Sizes = tuple[float, float, float]
"""Standard deviation of each process, mag: wide, narrow, and at the edge the rims'."""

USUAL_SIZES: Final[Sizes] = (0.003, 0.0005, 0.015)
"""Of real cameras, mag."""
USUAL_FACTOR: Final = 2.0
"""By which those of a camera differ from the usual ones: where data are few, they are what is known."""

_WIDE_PIX: Final = 900.0
_NARROW_PIX: Final = 250.0
_RIM_PIX: Final = (30.0, 60.0, 120.0)
"""Scales of the decay; a rim is a sum of them."""
_ALONG_PIX: Final = 1200.0
_RIM_PARTS: Final = (0.25, 0.25, 0.5)
"""Of a rim's variance, in what varies along its edge, is the same all along it, and is common to all edges."""
_NUGGET_MAG: Final = 5e-5
"""Beside the processes, of each coefficient alone; it keeps matrices far from singular."""


@cache
def map_processes(nx: int, ny: int) -> npt.NDArray[np.float64]:
    """Covariances of the processes of a map, of size 1 each, shape (3, B, B)."""
    return _processes(map_basis(nx, ny))


@cache
def change_processes(nx: int, ny: int) -> npt.NDArray[np.float64]:
    """The same of what maps change by."""
    return _processes(change_basis(nx, ny))


def _processes(basis: SplineBasis) -> Floats:
    x, y = basis.places
    apart2 = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    columns, rows = QUADRANT_SHAPE_PIX
    distances = (x - FIRST_EDGE_PIX, columns + FIRST_EDGE_PIX - x, y - FIRST_EDGE_PIX, rows + FIRST_EDGE_PIX - y)
    decays = np.exp(-np.maximum(distances, 0.0) / np.reshape(_RIM_PIX, (-1, 1, 1)))  # by scale, edge and coefficient
    varying, steady, common = np.array(_RIM_PARTS) / len(_RIM_PIX)
    whole = decays.sum(axis=1)
    rims = common * (whole.T @ whole)
    for along, opposite in ((y, decays[:, :2].reshape(-1, len(x))), (x, decays[:, 2:].reshape(-1, len(x)))):
        slowly = np.exp(-0.5 * ((along[:, None] - along) / _ALONG_PIX) ** 2)
        rims += (varying * slowly + steady) * (opposite.T @ opposite)
    wide, narrow = (np.exp(-0.5 * apart2 / scale**2) for scale in (_WIDE_PIX, _NARROW_PIX))
    return np.stack([wide, narrow, rims])


def covariance(processes: Floats, sizes: Sizes) -> Floats:
    """Covariance of the coefficients for sizes of the processes."""
    total = np.tensordot(np.square(sizes), processes, 1)
    diagonal = np.arange(len(total))
    total[diagonal, diagonal] += _NUGGET_MAG**2
    return np.asarray(total)


@lru_cache(maxsize=8)
def map_precision(nx: int, ny: int, sizes: Sizes) -> Floats:
    """Inverse covariance of the coefficients of a map, the same to the bit in any process: kept, for sizes recur."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        return np.asarray(np.linalg.inv(covariance(map_processes(nx, ny), sizes)))
