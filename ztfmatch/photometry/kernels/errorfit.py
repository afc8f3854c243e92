"""The survey's error model, A + B m + C 10^(0.4 m) + D 10^(0.8 m), from the scatter of constant lightcurves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.calibration import ERROR_MODEL_BREAK_MAG, model_errors
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.residuals import SCATTER_BINS, SCATTER_FIRST_DEX, SCATTER_STEP_DEX, histogram_quantiles

Ids = npt.NDArray[np.int64]

SCATTER_BRIGHT_MAG: Final = 12.0
SCATTER_MAG_STEP: Final = 0.25
SCATTER_MAG_BINS: Final = 44
"""Bins of magnitude of lightcurves, 12 to 23."""

MIN_LIGHTCURVES: Final = 10
"""Fewest of a bin."""
_MIN_BINS: Final = 8
_MIN_SPAN_MAG: Final = 4.0
_LEAST_RELATIVE_ERROR: Final = 0.01
_MIN_FREEDOM: Final = 50.0


@dataclass(frozen=True)
class ErrorModelFit:
    """Coefficients of a unit, and what they are from."""

    coefficients: tuple[float, float, float, float]
    """A, B, C, D."""
    lightcurves: int
    bright: float
    """Range of magnitudes that they are fitted on."""
    faint: float
    rms: float
    """Of the scatter relative to the model, over the bins of magnitude."""


def typical_scatter(counts: Ids) -> tuple[Floats, Floats]:
    """Median scatter of the lightcurves of each bin of magnitude, and its error.

    Parameters
    ----------
    counts : int64 ndarray, shape (B, SCATTER_BINS)

    Returns
    -------
    scatter, error : float64 ndarray, shape (B,)
        mag; NaN where there are fewer than MIN_LIGHTCURVES.
    """
    centres = (SCATTER_FIRST_DEX + (np.arange(SCATTER_BINS) + 0.5) * SCATTER_STEP_DEX).astype(np.float64)
    low, middle, high = (histogram_quantiles(counts, centres, SCATTER_STEP_DEX, q) for q in (0.1587, 0.5, 0.8413))
    n = counts.sum(axis=1)
    scatter = np.where(n >= MIN_LIGHTCURVES, 10.0**middle, np.nan)
    dex = 1.2533 * 0.5 * (high - low) / np.sqrt(np.maximum(n, 1))  # sqrt(pi/2): a median's error over a mean's
    relative = np.maximum(np.log(10.0) * dex, _LEAST_RELATIVE_ERROR)
    return scatter, scatter * relative


def noise_of_epochs(within: Floats, freedom: Floats, extra: float) -> tuple[Floats, Floats]:
    """Scatter of epochs about their star at one place and time, where nothing that is corrected makes any.

    Parameters
    ----------
    within : float64 ndarray, shape (levels,)
        By magnitude, sum of squares about the means of what a star has in a cell and a slice of time, mag^2.
    freedom : float64 ndarray, shape (levels,)
        Detections less such means.
    extra : float
        Variance to be added: what corrections leave, less what those of single exposures take away, mag^2.

    Returns
    -------
    scatter, error : float64 ndarray, shape (levels,)
        mag; NaN where there are too few.
    """
    enough = freedom >= _MIN_FREEDOM
    variance = within / np.maximum(freedom, 1.0)
    scatter = np.sqrt(np.maximum(variance + extra, 0.25 * variance))
    relative = np.maximum(1.0 / np.sqrt(2.0 * np.maximum(freedom, 1.0)), _LEAST_RELATIVE_ERROR)
    return np.where(enough, scatter, np.nan), np.where(enough, scatter * relative, np.nan)


Noise = tuple[Floats, Floats, Floats]
"""Middle of bins of magnitude, scatter of epochs and its error."""


def fit_error_model(counts: Ids, noise: Noise | None = None) -> ErrorModelFit | None:
    """Fit the coefficients of one unit up to magnitude 20.5, beyond which the model is a line.

    Parameters
    ----------
    counts : int64 ndarray, shape (SCATTER_MAG_BINS, SCATTER_BINS)
        Lightcurves by magnitude and scatter.
    noise : tuple of three float64 ndarray, shape (levels,), optional
        Magnitudes, and from :func:`noise_of_epochs` scatters and errors, NaN for none: in place of the scatter of whole
        lightcurves, which has that of what is corrected.

    Returns
    -------
    ErrorModelFit or None
        None where too few bins have lightcurves enough, or the model would not be positive or fall towards the faint.
    """
    scatter, error = typical_scatter(counts)
    if noise is not None:
        scatter, error = _with_noise(scatter, error, noise)
    mag = SCATTER_BRIGHT_MAG + (np.arange(SCATTER_MAG_BINS) + 0.5) * SCATTER_MAG_STEP
    used = np.flatnonzero(np.isfinite(scatter) & (mag < ERROR_MODEL_BREAK_MAG))
    if len(used) < _MIN_BINS or mag[used[-1]] - mag[used[0]] < _MIN_SPAN_MAG:
        return None
    m = mag[used]
    bright = 10.0 ** (0.4 * (m - 20.0))  # scaled, so that the columns are of like size
    design = np.stack([np.ones(len(m)), m - 17.0, bright, bright**2], axis=1)
    solved = np.linalg.lstsq(design / error[used, None], scatter[used] / error[used], rcond=None)[0]
    coefficients = (
        float(solved[0] - 17.0 * solved[1]),
        float(solved[1]),
        float(solved[2] * 1e-8),
        float(solved[3] * 1e-16),
    )
    if not _is_sound(coefficients, m[0]):
        return None
    rms = float(np.sqrt(np.mean((design @ solved / scatter[used] - 1.0) ** 2)))
    half = 0.5 * SCATTER_MAG_STEP
    return ErrorModelFit(coefficients, int(counts[used].sum()), float(m[0] - half), float(m[-1] + half), rms)


def _with_noise(scatter: Floats, error: Floats, noise: Noise) -> tuple[Floats, Floats]:
    """Scatters and errors of the bins of magnitude, where the noise of epochs is known in its place."""
    known = np.flatnonzero(np.isfinite(noise[1]))
    if len(known) < 2:
        return scatter, error
    mag = SCATTER_BRIGHT_MAG + (np.arange(SCATTER_MAG_BINS) + 0.5) * SCATTER_MAG_STEP
    inside = np.isfinite(scatter) & (mag >= noise[0][known[0]]) & (mag <= noise[0][known[-1]])
    made = [np.interp(mag, noise[0][known], values[known]) for values in noise[1:]]
    return np.where(inside, made[0], scatter), np.where(inside, made[1], error)


def _is_sound(coefficients: tuple[float, float, float, float], bright: float) -> bool:
    """Whether the model is positive everywhere from the brightest bin on, and rises beyond the break."""
    grid = np.arange(bright, 24.0, 0.125).astype(np.float32)
    values = model_errors(grid, np.array(coefficients))
    return bool((values > 0.0).all() and values[-1] > values[grid <= ERROR_MODEL_BREAK_MAG][-1])
