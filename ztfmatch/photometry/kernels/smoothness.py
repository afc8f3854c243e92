"""How smooth a map is: the differences of neighbouring cells under which the data are most probable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.normalequations import NormalEquations, Steps

_LEAST_STEP_MAG: Final = (0.0015, 0.005)
"""Least difference of neighbouring cells, inside and at the rim. Few stars may look as if there were no structure where
there is some: without these bounds such maps had errors too small by factors."""
_LARGEST_STEP_MAG: Final = 0.05
_STEP_FACTORS: Final = (2.0, 1.3)
"""By which a step is multiplied or divided in the first climb and in the second."""


def most_probable_steps(problem: NormalEquations, weight: Floats) -> Steps:
    """The steps with the highest evidence, climbed along each of the two in turn.

    The evidence is that of a linear model with normal priors (Rasmussen and Williams 2006, 5.4.1). Slopes and offsets
    do not depend on the steps, so they are eliminated first, once: with the normal matrix in blocks, C of cells and O
    of all others, the cells alone obey C - CO O^-1 OC (Schur's complement). A trial then takes one Cholesky
    decomposition of the size of the map.
    """
    data, right = problem.data(weight)
    normal = data + problem.priors((np.inf, np.inf))
    of_cell, others = problem.blocks.cell, problem.blocks.not_cell
    back = np.linalg.solve(normal[np.ix_(others, others)], np.column_stack([normal[others, of_cell], right[others]]))
    reduced = normal[of_cell, of_cell] - normal[of_cell, others] @ back[:, :-1]
    pull = right[of_cell] - normal[of_cell, others] @ back[:, -1]
    evidence = _evidence(problem, reduced, pull)
    step = _LEAST_STEP_MAG
    for factor in _STEP_FACTORS:
        for which in (0, 1):
            step = _climbed(evidence, step, which, factor)
    return step


def _evidence(problem: NormalEquations, reduced: Floats, pull: Floats) -> Callable[[Steps], float]:
    """Logarithm of the evidence but for a constant: 1/2 p A^-1 p - 1/2 ln|A| + 1/2 ln|P|, A = reduced + prior P.

    One decomposition gives both the determinant and the quadratic form: A is bordered by the pull p and a corner c, and
    the last pivot of the bordered matrix is c - p A^-1 p. The corner must exceed the largest such form, that of the
    loosest prior.
    """
    bordered = np.zeros((len(pull) + 1,) * 2)
    bordered[:-1, -1] = bordered[-1, :-1] = pull
    loosest = reduced + problem.smoothness((_LARGEST_STEP_MAG, _LARGEST_STEP_MAG))
    bordered[-1, -1] = 1.0 + 1.01 * float(pull @ np.linalg.solve(loosest, pull))

    def evidence(step: Steps) -> float:
        prior = problem.smoothness(step)
        bordered[:-1, :-1] = reduced + prior
        pivots = np.diag(np.linalg.cholesky(bordered))
        fitted = bordered[-1, -1] - pivots[-1] ** 2
        likely = 0.5 * fitted - np.log(pivots[:-1]).sum() + np.log(np.diag(np.linalg.cholesky(prior))).sum()
        return float(likely)

    return evidence


def _climbed(evidence: Callable[[Steps], float], step: Steps, which: int, factor: float) -> Steps:
    """Multiply or divide one of the steps as long as that raises the evidence."""
    best, highest = step, evidence(step)
    for direction in (factor, 1.0 / factor):
        while True:
            tried = (best[0] * direction, best[1]) if which == 0 else (best[0], best[1] * direction)
            allowed = _LEAST_STEP_MAG[which] <= tried[which] <= _LARGEST_STEP_MAG
            if not allowed or (value := evidence(tried)) <= highest:
                break
            best, highest = tried, value
        if best != step:
            break
    return best
