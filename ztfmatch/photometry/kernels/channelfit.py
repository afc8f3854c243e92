"""The corrections of a channel from the solution of its normal equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.photometry.kernels.changes import Changes
from ztfmatch.photometry.kernels.curve import COLOUR_TERMS, QUADRATIC, Curve, FitSettings
from ztfmatch.photometry.kernels.grid import cell_means, coarse_cells
from ztfmatch.photometry.kernels.normalequations import Mask, NormalEquations, Solution, sums_by
from ztfmatch.photometry.kernels.pooling import MapData
from ztfmatch.photometry.kernels.priors import Sizes
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.kernels.scatters import Scatters
from ztfmatch.photometry.kernels.splines import change_basis, map_basis

_NO_COLOUR: Final = 1e-6
_AROUND: Final = 2
"""Cells around one, whose stars may determine it."""


@dataclass(frozen=True)
class ChannelFit:
    """Corrections of a channel; NaN where a term has no value."""

    bright: float
    faint: float
    """Valid range of the magnitude term."""
    slope: float
    curvature: float
    """Coefficients of (mag - faint) and of its square."""
    slope_error: float
    curvature_error: float
    covariance: float
    """Of the two."""
    time: Floats
    """Of each node, MJD, shape (R,)."""
    curve: Floats
    """Magnitude term at each node, see :class:`ztfmatch.core.kernels.smoothcorrections.SmoothTables`."""
    coefficients: Floats
    """Of the map at each node, shape (R, B)."""
    colour: Floats
    """Factors of colour less MIDDLE_COLOUR, and of its square; zero where there is no such term."""
    mean_colour: Floats
    """Of each unit, see :class:`ztfmatch.core.kernels.smoothcorrections.SmoothExposures`; shape (U, 3)."""
    levels: Floats
    """Magnitude term at the middle of each bin of magnitude, and its error; shape (2, levels)."""
    map: Floats
    """Mean of each cell."""
    map_error: Floats
    map_stars: Floats
    map_n: Floats
    offset: Floats
    """Of each unit."""
    offset_error: Floats
    offset_stars: Floats
    offset_n: Floats
    raw_offset: Floats
    """Of each unit, also where it is not good enough to be applied."""
    sizes: Floats
    """Of the processes of the map, mag."""
    held: Floats
    """What terms are worth on what was held out, see :func:`ztfmatch.photometry.kernels.heldout.held_out_squares`."""
    star_scatter: Floats
    """Scatter of stars about the model by bin of magnitude, mag."""
    epoch_scatter: Floats
    """Scatter of epochs about their star, mag."""
    pooled_with: npt.NDArray[np.str_]
    """Which other channels the map is pooled with, see :class:`ztfmatch.photometry.kernels.pooling.MapPrior`."""


@dataclass(frozen=True)
class FitResult:
    """A solution, to be turned into corrections."""

    problem: NormalEquations
    solution: Solution
    bins: Bins
    settings: FitSettings
    curve: Curve
    sizes: Sizes
    scatters: Scatters
    changes: Changes | None
    held: Floats
    mapped: bool
    """Whether there is a map."""
    data: MapData
    """What the data say of the map."""
    pooled_with: tuple[str, ...]

    @property
    def inflation(self) -> float:
        """Of the variances, where the model does not describe the data."""
        return max(self.solution.chi2, 1.0)

    def fit(self) -> ChannelFit:
        """All terms with their errors."""
        s, bins, settings, at = self.problem.sums, self.bins, self.settings, self.problem.blocks
        cells = bins.nx * bins.ny
        cell = coarse_cells(bins.nx, bins.ny)[s.cell]
        stars = sums_by(cell, s.stars, cells)
        enough = self.mapped & (_window_sums(stars.reshape(bins.ny, bins.nx)).ravel() >= settings.min_cell_stars)
        means = self._cell_means()
        # The gauge depends on which cells are valid, and that on errors in a gauge: those in that of all with stars.
        good_cell = enough & (self._in_gauge(means, enough).map_error <= settings.max_error)
        level = self._in_gauge(means, good_cell)
        offset_stars = sums_by(s.unit, s.stars, at.units)
        known = np.zeros(at.units, bool)
        if self.problem.known is not None:
            known[self.problem.known.unit] = True
        good_unit = ((offset_stars >= settings.min_stars) | known) & (level.offset_error <= settings.max_error)
        parameters, spread = self.solution.parameters, self.inflation * np.diag(self.solution.covariance)
        trusted = 1.0 if self.curve.known else np.nan
        return ChannelFit(
            bright=self.curve.bright * trusted,
            faint=self.curve.faint * trusted,
            slope=float(parameters[0]) * trusted,
            curvature=float(parameters[1]) * trusted,
            slope_error=float(np.sqrt(spread[0])) * trusted,
            curvature_error=float(np.sqrt(spread[1])) * trusted,
            covariance=float(self.inflation * self.solution.covariance[0, 1]) * trusted,
            **self._at_nodes(level.shift),
            colour=self._colour(),
            mean_colour=self._mean_colours(),
            levels=self._levels() * trusted,
            map=np.where(good_cell, level.map, np.nan),
            map_error=level.map_error,
            map_stars=stars,
            map_n=sums_by(cell, s.n, cells),
            offset=np.where(good_unit, level.offset, np.nan),
            offset_error=level.offset_error,
            offset_stars=offset_stars,
            offset_n=sums_by(s.unit, s.n, at.units),
            raw_offset=level.offset,
            sizes=np.array(self.sizes),
            held=self.held,
            star_scatter=np.sqrt(self.scatters.star),
            epoch_scatter=np.sqrt(self.scatters.epoch),
            pooled_with=np.array(self.pooled_with, np.str_),
        )

    def _at_nodes(self, shift: float) -> dict[str, Floats]:
        """Times, curves and maps of the nodes, as they are applied."""
        parameters, at = self.solution.parameters, self.problem.blocks
        base, of_map = parameters[: self.curve.size], parameters[at.of_map] - shift
        if self.changes is None:
            return {"time": np.zeros(1), "curve": self.curve.numbers(base)[None], "coefficients": of_map[None]}
        bins = self.bins
        refine = change_basis(bins.nx, bins.ny).refined(map_basis(bins.nx, bins.ny))
        time, node = self.changes.time.timeline.rows()
        curves = [
            self.curve.numbers(base + np.concatenate([one, np.zeros(len(base) - QUADRATIC)]))
            for one in self.changes.curve[node]
        ]
        return {"time": time, "curve": np.stack(curves), "coefficients": of_map + self.changes.map[node] @ refine.T}

    def _colour(self) -> Floats:
        """Factors of the colour term; zero without one."""
        found = self.solution.parameters[self.curve.size : self.curve.size + COLOUR_TERMS]
        return np.where(np.abs(found) > _NO_COLOUR, found, 0.0)

    def _mean_colours(self) -> Floats:
        """Means of colour and its square over the stars of each unit, and the scatter of the colour term; (U, 3)."""
        s, units = self.problem.sums, self.problem.blocks.units
        stars = np.maximum(sums_by(s.unit, s.stars, units), 1e-9)
        means = [sums_by(s.unit, s.stars * values / s.n, units) / stars for values in (s.colour, s.colour2)]
        term = self._colour() @ np.stack([s.colour / s.n, s.colour2 / s.n])
        apart = (term - (self._colour() @ np.stack(means))[s.unit]) ** 2
        return np.stack([*means, np.sqrt(sums_by(s.unit, s.stars * apart, units) / stars)], axis=1)

    def _levels(self) -> Floats:
        """Magnitude term in the middle of each bin, and its error."""
        at, bins = slice(0, self.curve.size), self.bins
        basis = self.curve.basis(np.asarray(bins.bright + (np.arange(bins.levels) + 0.5) * bins.step))
        spread = np.einsum("im,ij,jm->m", basis, self.solution.covariance[at, at], basis)
        return np.stack([self.solution.parameters[at] @ basis, np.sqrt(self.inflation * spread)])

    def _cell_means(self) -> tuple[Floats, Floats]:
        """Matrix from coefficients to the mean of the map over each cell, (cells, B), and the variance of each mean.

        It is Kronecker's product of one along y and one along x, which the covariance is multiplied with in turn.
        """
        bins, splines, of_map = self.bins, self.problem.design.map, self.problem.blocks.of_map
        along = cell_means(bins.nx, QUADRANT_SHAPE_PIX[0]) @ splines.along
        up = cell_means(bins.ny, QUADRANT_SHAPE_PIX[1]) @ splines.up
        means = np.asarray(np.kron(up, along), np.float64)
        by_place = self.solution.covariance[of_map, of_map].reshape(up.shape[1], along.shape[1], -1)
        spread = np.tensordot(up, along @ by_place, 1).reshape(means.shape)
        return means, np.asarray(np.einsum("cb,cb->c", spread, means))

    def _in_gauge(self, cells: tuple[Floats, Floats], valid: Mask) -> _Level:
        """Values and errors where the valid cells have mean zero: that mean moves to the offsets."""
        means, own = cells
        solution, of_map, of_units = self.solution, self.problem.blocks.of_map, self.problem.blocks.of_units
        # The mean over valid cells is a sum of coefficients, by these shares. Values less it have the variance
        # var(x) - 2 cov(x, mean) + var(mean), and offsets, which get it, the same with a plus.
        share = valid @ means / max(valid.sum(), 1)
        crossed = solution.covariance[:, of_map] @ share
        common = float(share @ crossed[of_map])
        variance = own - 2.0 * (means @ crossed[of_map]) + common
        of_offset = np.diag(solution.covariance)[of_units] + 2.0 * crossed[of_units] + common
        coefficients = solution.parameters[of_map]
        shift = float(share @ coefficients)
        return _Level(
            shift,
            means @ coefficients - shift,
            np.sqrt(self.inflation * np.maximum(variance, 0.0)),
            solution.parameters[of_units] + shift,
            np.sqrt(self.inflation * np.maximum(of_offset, 0.0)),
        )


@dataclass(frozen=True)
class _Level:
    """Map and offsets in a gauge."""

    shift: float
    """What was taken off the map."""
    map: Floats
    map_error: Floats
    offset: Floats
    offset_error: Floats


def _window_sums(values: Floats) -> Floats:
    """Sum over each cell and those around it, up to two away."""
    width = 2 * _AROUND + 1
    padded = np.pad(values, _AROUND)
    rows, columns = values.shape
    return np.asarray(sum(padded[i : i + rows, j : j + columns] for i in range(width) for j in range(width)))
