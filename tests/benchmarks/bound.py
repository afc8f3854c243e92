"""What would be left of systematics by the best estimator that there is: one that knows what nobody does.

It knows the form of all terms and how their sizes are distributed, the course of a drift in time, the noise of each
epoch and star, and which stars are constant. Its few numbers are the mean of their distribution given the data.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.simulate import SimulationConfig
from ztfmatch.simulate.systematics import (
    BIAS_ONSET_MAG,
    BIAS_SPAN_MAG,
    EDGE_SCALE_PIX,
    ERROR_MODEL_BREAK_MAG,
    FIELD_OFFSET_MAG,
    SMOOTH_TERMS,
    ChannelSystematics,
    cell_centres,
    model_error,
)
from ztfmatch.simulate.varyingsystematics import DAYS_PER_YEAR

Floats = npt.NDArray[np.float64]

_DRAWN = 2000
"""Channels of other seeds, that tell how numbers are distributed."""
_OUTLIER_MAG = 0.05


def left_by_the_best(
    rows: pd.DataFrame, ps1: pd.DataFrame, config: SimulationConfig, fitted: npt.NDArray[np.bool_]
) -> Floats:
    """What is left of the systematics of each epoch, mag; NaN where the form has more than it knows.

    Parameters
    ----------
    rows : DataFrame
        Epochs of constant stars.
    ps1 : DataFrame
        Of the simulation.
    config : SimulationConfig
    fitted : bool ndarray, shape (N,)
        Epochs that count.
    """
    if config.flat_step or config.colour_bias or config.cloudy_fraction:
        return np.full(len(rows), np.nan)
    model, mean, before = _form(rows, config)
    known = rows[["star_id"]].merge(ps1, on="star_id", how="left", suffixes=("", "_ps1")).set_index(rows.index)
    term = rows.clrcoeff * (known.g - known.r) - known.r
    true = rows.clrcoeff * (rows.g - rows.r) - rows.r
    use = np.flatnonzero(fitted & (np.abs(term - true) < _OUTLIER_MAG) & (known.star == 1) & (rows.psfflux > 0.0))
    seen = (rows.magzp - 2.5 * np.log10(rows.psfflux) + term).to_numpy()
    star, number = np.unique(rows.star_id.to_numpy()[use], return_inverse=True)
    factor = rows.clrcoeff.mean()
    of_star = np.zeros(len(star))
    of_star[number] = ((factor * known.g_err) ** 2 + ((1.0 + factor) * known.r_err) ** 2).to_numpy()[use]
    weight = model_error(rows.true_mag.to_numpy()[use], config.filters[0]) ** -2.0

    def by_star(values: Floats) -> Floats:
        return np.bincount(number, weight * values, len(star))

    # What PS1 has wrong of a star is eliminated, with its variance before.
    a, z = model[use], seen[use] - model[use] @ mean
    of_stars = np.stack([by_star(column) for column in a.T], axis=1)
    share = of_star / (1.0 + of_star * by_star(np.ones(len(use))))
    normal = (a.T * weight) @ a - (of_stars.T * share) @ of_stars
    pull = (a.T * weight) @ z - of_stars.T @ (share * by_star(z))
    return rows.systematic.to_numpy() - model @ (mean + np.linalg.solve(normal + np.linalg.inv(before), pull))


def least_error_of_errors(rows: pd.DataFrame, fid: int, at: Floats) -> Floats:
    """Standard error of an error model at some magnitudes, relative to it: no unbiased estimator has less (Cramer-Rao).

    Its four coefficients are told by epochs about the means of their lightcurves: those of n epochs of constant noise
    have 2 (n - 1) of information on its logarithm.

    Parameters
    ----------
    rows : DataFrame
        Epochs of constant stars.
    fid : int
    at : float64 ndarray, shape (M,)
    """
    curves = rows.groupby("objectid").true_mag.agg(["size", "mean"])
    curves = curves[curves["mean"] < ERROR_MODEL_BREAK_MAG]

    def relative(mag: Floats) -> Floats:
        flux = 10.0 ** (0.4 * (mag - 20.0))
        return np.stack([np.ones(len(mag)), mag - 17.0, flux, flux * flux], axis=1) / model_error(mag, fid)[:, None]

    told, wanted = relative(curves["mean"].to_numpy(np.float64)), relative(at)
    covariance = np.linalg.inv((told.T * 2.0 * (curves["size"].to_numpy() - 1)) @ told)
    return np.asarray(np.sqrt(np.einsum("mi,ij,mj->m", wanted, covariance, wanted)))


def _form(rows: pd.DataFrame, config: SimulationConfig) -> tuple[Floats, Floats, Floats]:
    """Functions of each epoch that the systematics are a sum of, (N, P), and mean and covariance of their factors."""
    x, y = (rows[name].to_numpy(np.float64) for name in ("xpos", "ypos"))
    t = np.clip((BIAS_ONSET_MAG - rows.true_mag.to_numpy()) / BIAS_SPAN_MAG, 0.0, 1.25)
    channel = config.rcids[0], config.filters[0]
    drawn = [ChannelSystematics.draw(10**9 + seed, *channel) for seed in range(_DRAWN)]
    place, factors = _places(x, y), np.array([[*one.smooth, *one.edges] for one in drawn])
    columns = [np.ones((len(rows), 1)), np.stack([t, t * t], axis=1), place]
    known = [np.random.default_rng(0).normal(0.0, FIELD_OFFSET_MAG, (_DRAWN, 1)), np.array([one.bias for one in drawn])]
    known.append(factors)
    if config.flat_drift:
        years = (rows.obsmjd.to_numpy() - config.start_mjd) / DAYS_PER_YEAR
        course = config.flat_drift * (years + 0.5 * np.sin(2.0 * np.pi * years))
        columns.append(place * course[:, None])
        known.append(factors / np.sqrt(np.mean((_places(*cell_centres(60)) @ factors.T) ** 2, axis=0))[:, None])
    size = sum(one.shape[1] for one in known)
    before, first = np.zeros((size, size)), 0
    for one in known:
        stop = first + one.shape[1]
        before[first:stop, first:stop] = np.cov(one.T)
        first = stop
    return np.concatenate(columns, axis=1), np.concatenate([one.mean(axis=0) for one in known]), before


def _places(x: Floats, y: Floats) -> Floats:
    """Functions of place of :class:`ChannelSystematics`, means over the quadrant taken off, (N, 12)."""

    def raw(x: Floats, y: Floats) -> Floats:
        (u, v), edges = (2.0 * w / n - 1.0 for w, n in zip((x, y), QUADRANT_SHAPE_PIX, strict=True)), []
        along, up = (np.polynomial.legendre.legvander(w, 3) for w in (u, v))
        for w, n in zip((x, y), QUADRANT_SHAPE_PIX, strict=True):
            edges += [np.exp(-np.maximum(d, 0.0) / EDGE_SCALE_PIX) for d in (w, n - w)]
        smooth = [along[:, m] * up[:, n] for m, n in SMOOTH_TERMS]
        return np.stack([*smooth, *edges], axis=1)

    return raw(x, y) - raw(*cell_centres(200)).mean(axis=0)
