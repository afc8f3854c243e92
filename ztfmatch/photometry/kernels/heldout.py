"""Cross-validation of corrections on held-out data: a fifth of the exposures, a fifth of the stars.

A channel is fitted once more, with the same weights and the same smoothness, to the rest. What a term is worth is by
how much the mean square of the residuals of the others, noise and all, grows when it is not taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.curve import COLOUR_TERMS, Curve
from ztfmatch.photometry.kernels.normalequations import Mask, NormalEquations
from ztfmatch.photometry.kernels.residuals import Bins
from ztfmatch.photometry.kernels.sums import FITTED, OTHER_EXPOSURES, OTHER_STARS

ALL: Final = "all"
TERMS: Final = (ALL, "magnitude", "position", "time", "colour")
MAGNITUDES: Final = tuple(range(13, 20))
"""Of bins of one magnitude, in which the gain by all terms is measured."""
NAMES: Final = (*TERMS, *(f"{ALL} at {mag} mag" for mag in MAGNITUDES))
ALWAYS: Final = ("magnitude", "position")
"""Terms that are there unless they make what was held out worse."""
HELD: Final = {"exposures": OTHER_EXPOSURES, "stars": OTHER_STARS}
NO_CHANGES: Final = np.zeros(len(HELD))
BRIGHT_MAG: Final = 17.5
LEAST_BINS: Final = 30
_SURELY: Final = 1.5
"""Standard deviations, of exposures and of stars alike."""


def held_out_squares(
    problem: NormalEquations,
    weighed: tuple[Floats, Floats],
    prior: Floats,
    curve: Curve,
    bins: Bins,
    changes: Floats = NO_CHANGES,
) -> tuple[Floats, tuple[str, ...]]:
    """By how much mean squares of residuals of bright stars are larger without terms, mag^2.

    Parameters
    ----------
    problem : NormalEquations
        Of all data.
    weighed : tuple of two float64 ndarray, shape (N,)
        Weight of each bin, mag^-2, and the part of it that it is trusted with.
    prior : float64 ndarray, shape (P, P)
    curve : Curve
    bins : Bins
    changes : float64 ndarray, shape (held,)
        What changes in time, which are taken off the sums, are worth.

    Returns
    -------
    worth : float64 ndarray, shape (held, names)
        In order of HELD and NAMES; NaN where too little is held out.
    harmful : tuple of str
        Of ALWAYS, those that make all that was held out worse, beyond chance.
    """
    sums, design = problem.sums, problem.design
    weight, trust = weighed
    fitted = sums.part == FITTED
    if fitted.sum() < LEAST_BINS:
        return np.full((len(HELD), len(NAMES)), np.nan), ()
    rest = replace(design, terms=design.terms[:, fitted])
    solution = NormalEquations(sums.where(fitted), rest, problem.known, problem.pull).solve(
        (weight * trust)[fitted], prior
    )
    mag = np.asarray(bins.bright + (sums.magnitude + 0.5) * bins.step)
    bright = mag < BRIGHT_MAG
    without = [solution.parameters, *(_without(problem, solution.parameters, curve, term) for term in TERMS)]
    models = [problem.predict(parameters) for parameters in without]
    squares = np.array([[_square(problem, weighed, model, (sums.part == part) & bright) for model in models]
                        for part in HELD.values()])  # fmt: skip
    worth = squares[:, 1:] - squares[:, :1]
    for term in (ALL, "time"):
        worth[:, TERMS.index(term)] += changes
    each = [_by_magnitude(problem, weighed, models[:2], (sums.part == part, mag)) for part in HELD.values()]
    harmful = (
        term for term in ALWAYS
        if all(_surely_worse(problem, weighed, (models[0], models[1 + TERMS.index(term)]), (sums.part == part) & bright)
               for part in HELD.values())
    )  # fmt: skip
    return np.concatenate([worth, each], axis=1), tuple(harmful)


def _surely_worse(
    problem: NormalEquations, weighed: tuple[Floats, Floats], models: Sequence[Floats], rows: Mask
) -> bool:
    """Whether the first of two models leaves larger squares than the second, by more than bins scatter."""
    share = (weighed[0] * weighed[1])[rows]
    if len(share) < LEAST_BINS:
        return False
    left = [(problem.mean - model)[rows] for model in models]
    one, other = ((off - (share @ off) / share.sum()) ** 2 for off in left)
    more = float(share @ (one - other) / share.sum())
    return more > _SURELY * float(np.linalg.norm(share * (one - other - more)) / share.sum())


def _without(problem: NormalEquations, parameters: Floats, curve: Curve, term: str) -> Floats:
    """Parameters with those of one term zero."""
    at, out = problem.blocks, parameters.copy()
    colour = slice(curve.size, curve.size + COLOUR_TERMS)
    of = {"magnitude": slice(0, curve.size), "position": at.of_map, "colour": colour}
    for part in (part for name, part in of.items() if term in (name, ALL)):
        out[part] = 0.0
    return out


def _by_magnitude(
    problem: NormalEquations, weighed: tuple[Floats, Floats], models: Sequence[Floats], rows: tuple[Mask, Floats]
) -> list[float]:
    """What all terms are worth in each of MAGNITUDES, for models with and without them; in one gauge for all."""
    held, mag = rows
    share = weighed[0] * weighed[1]
    squares = []
    for model in models:
        off = problem.mean - model
        squares.append((off - (share[held] @ off[held]) / max(share[held].sum(), 1e-12)) ** 2)
    out = []
    for low in MAGNITUDES:
        mine = held & (mag >= low) & (mag < low + 1)
        known = mine.sum() >= LEAST_BINS
        out.append(float(share[mine] @ (squares[1] - squares[0])[mine] / share[mine].sum()) if known else np.nan)
    return out


def _square(problem: NormalEquations, weighed: tuple[Floats, Floats], model: Floats, rows: Mask) -> float:
    """Mean square of residuals about their mean; bins that are not trusted count less."""
    weight, trust = (values[rows] for values in weighed)
    if len(weight) < LEAST_BINS:
        return np.nan
    share = weight * trust
    off = (problem.mean - model)[rows]
    off = off - (share @ off) / share.sum()
    return float(share @ off**2 / share.sum())
