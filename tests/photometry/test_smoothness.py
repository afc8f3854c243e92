"""Sizes of the processes of a map, by the evidence of data that were drawn from them."""

from __future__ import annotations

import numpy as np
import pytest

from ztfmatch.photometry.kernels.priors import Sizes, covariance, map_processes
from ztfmatch.photometry.kernels.smoothness import most_probable_sizes
from ztfmatch.photometry.kernels.splines import map_basis

CELLS = (8, 8)
PROCESSES = map_processes(*CELLS)
STATIONARY, LOW = Sizes(0.003, 0.0005, 0.015), Sizes(0.0, 0.0, 0.015, 0.003)


def found(truth: Sizes, seed: int, stars: int = 4_000) -> Sizes:
    """Sizes from so many stars of 6 mmag all over a map."""
    rng = np.random.default_rng(seed)
    splines = map_basis(*CELLS).on_cells(*CELLS)
    coefficients = np.linalg.cholesky(covariance(PROCESSES, truth)) @ rng.standard_normal(PROCESSES.shape[1])
    weight = np.full(splines.cells, stars / splines.cells / 0.006**2)
    noisy = splines.sums(coefficients) + rng.standard_normal(splines.cells) * weight**-0.5
    return most_probable_sizes(splines.normal(weight), splines.pulls((weight * noisy)[None])[0], PROCESSES)


@pytest.mark.parametrize(("truth", "chosen"), [(LOW, range(15, 21)), (STATIONARY, range(6))])
def test_most_probable_sizes_takes_polynomials_where_maps_are_made_of_them(truth: Sizes, chosen: range) -> None:
    assert sum(found(truth, seed).low > 0.0 for seed in range(20)) in chosen


def test_most_probable_sizes_follow_what_is_smooth() -> None:
    for truth in (LOW, STATIONARY):
        several = [found(truth, seed).smooth for seed in range(20)]
        assert np.median(several) == pytest.approx(truth.smooth, rel=0.5)
        large = [found(Sizes(*4.0 * np.array(truth)), seed).smooth for seed in range(20)]
        assert np.median(large) > 2.0 * np.median(several)
