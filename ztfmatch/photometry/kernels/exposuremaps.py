"""Coarse maps of single exposures: their detections relative to the medians of their lightcurves.

The steep rims of a quadrant are left out: there a dither of the telescope looks like a change of the camera. The maps
are added up for two halves of the stars, so that what one half says of an exposure can be held to the other.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernelcache import njit
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.photometry.kernels.residuals import CLIP_SIGMAS, SCATTER_FLOOR_MAG, Summary

Ids = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SIDE: Final = 6
CELLS: Final = SIDE * SIDE
HALVES: Final = 2
PLANE: Final = 3
"""A zero point and two slopes."""
SUMS: Final = 2
"""Number of detections, sum of what they are off."""
RIM_PIX: Final = 150.0
CLOUD_MAG: Final = 0.08
"""Exposures may be off by this beside their noise."""
_COLUMNS, _ROWS = QUADRANT_SHAPE_PIX


class ExposureMaps(NamedTuple):
    """Maps of the exposures of a channel, shape (E,) each but for the sums, in order of time."""

    exposureid: Ids
    field: Ids
    time: Floats
    """MJD of the middle of the exposure."""
    sums: Floats
    """Shape (E, HALVES, CELLS, SUMS)."""

    def of_all_stars(self) -> tuple[Floats, Floats]:
        """Detections and mean of each cell, shape (E, CELLS); a mean of 0 where there are none."""
        n, total = np.moveaxis(self.sums.sum(axis=1), -1, 0)
        return n, total / np.maximum(n, 1.0)

    def variance(self) -> float:
        """Of one detection, by how much the halves differ; mag^2. NaN where they do not tell."""
        n, total = np.moveaxis(self.sums, -1, 0)
        both = (n > 0).all(axis=1)
        mean = total / np.maximum(n, 1.0)
        scaled = (mean[:, 0] - mean[:, 1]) ** 2 / np.sum(1.0 / np.maximum(n, 1.0), axis=1)
        found = float(np.median(scaled[both]) / _CHI2_MEDIAN) if both.any() else 0.0
        return found if found > 0.0 else np.nan

    def chance(self, functions: Floats) -> Floats:
        """Variances of the zero points and slopes of single exposures, beside functions of time and noise; mag^2.

        Detections that are off by more than four times their noise are outliers, and so are exposures.

        Parameters
        ----------
        functions : float64 ndarray, shape (E, K)

        Returns
        -------
        float64 ndarray, shape (3,)
            Of 1, u and v, which are uncorrelated where stars are everywhere; 0 where the noise is not known.
        """
        variance = self.variance()
        if not np.isfinite(variance):
            return np.zeros(PLANE)
        n, mean = self.of_all_stars()
        basis = np.stack([np.ones(CELLS), *place_centres()], axis=1)
        numbers, error2 = fitted_at_places(basis, n / variance, mean)
        most = CLIP_SIGMAS * np.sqrt(variance)
        freedom = max(len(n) - functions.shape[1], 1) / len(n)
        found = np.zeros(PLANE)
        for k in range(PLANE):
            root = error2[:, k, None] ** -0.5
            off = (
                numbers[:, k] - functions @ np.linalg.lstsq(root * functions, root[:, 0] * numbers[:, k], rcond=None)[0]
            )
            found[k] = np.mean(np.clip(off, -most, most) ** 2 / freedom - error2[:, k])
        return np.maximum(np.nan_to_num(found), 0.0)


def fitted_at_places(basis: Floats, weight: Floats, mean: Floats) -> tuple[Floats, Floats]:
    """Numbers of exposures by weighted least squares, and the squares of their errors, shape (E, p).

    Parameters
    ----------
    basis : float64 ndarray, shape (CELLS, p)
    weight, mean : float64 ndarray, shape (E, CELLS)
    """
    normal = np.einsum("ec,cp,cq->epq", weight, basis, basis) + 1e-3 * np.eye(basis.shape[1])
    inverse = np.linalg.inv(normal)
    return np.einsum("epq,eq->ep", inverse, (weight * mean) @ basis), np.einsum("epp->ep", inverse)


_CHI2_MEDIAN: Final = 0.4549
"""Of chi-square with one degree of freedom."""


def place_centres() -> tuple[Floats, Floats]:
    """Positions u and v, from -1 to 1 over the quadrant, of the centres of the cells; shape (CELLS,)."""
    middle = (np.arange(SIDE) + 0.5) / SIDE
    u, v = (2.0 * (RIM_PIX + middle * (pixels - 2 * RIM_PIX)) / pixels - 1.0 for pixels in (_COLUMNS, _ROWS))
    up, along = np.meshgrid(v, u, indexing="ij")
    return along.ravel(), up.ravel()


@njit(cache=True, nogil=True)
def add_exposure_maps(
    residual: Floats,
    place: tuple[Singles, Singles],
    exposure: Ids,
    offsets: Ids,
    summary: Summary,
    chosen: tuple[Mask, Mask],
    sums: Singles,
) -> None:
    """Add the epochs of chosen lightcurves, relative to their medians, to the maps of their exposures.

    Parameters
    ----------
    residual : float64 ndarray, shape (N,)
        NaN for epochs that do not count.
    place : tuple of two float32 ndarray, shape (N,)
        Pixels x, y.
    exposure : int64 ndarray, shape (N,)
    offsets : int64 ndarray, shape (M + 1,)
    summary : Summary
        Of the residuals, shape (M,).
    chosen : tuple of two bool ndarray, shape (M,)
        Which lightcurves count, and which are of the second half.
    sums : float32 ndarray, shape (E, HALVES, CELLS, SUMS)
        Added to.
    """
    wide, high = _COLUMNS - 2 * RIM_PIX, _ROWS - 2 * RIM_PIX
    for k in range(offsets.shape[0] - 1):
        if not chosen[0][k]:
            continue
        limit = CLIP_SIGMAS * max(summary.scatter[k], SCATTER_FLOOR_MAG) + CLOUD_MAG
        half = 1 if chosen[1][k] else 0
        for i in range(offsets[k], offsets[k + 1]):
            off = residual[i] - summary.median[k]
            u, v = (place[0][i] - RIM_PIX) / wide, (place[1][i] - RIM_PIX) / high
            if np.isnan(off) or abs(off) > limit or not (0.0 <= u < 1.0 and 0.0 <= v < 1.0):
                continue
            cell = int(v * SIDE) * SIDE + int(u * SIDE)
            sums[exposure[i], half, cell, 0] += 1.0
            sums[exposure[i], half, cell, 1] += off
