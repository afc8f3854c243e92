"""Modes of maps, and splines that are products: against all coefficients, written out."""

from __future__ import annotations

import numpy as np
import pytest

from ztfmatch.core.survey import QUADRANT_SHAPE_PIX
from ztfmatch.photometry.kernels.grid import cell_means, coarse_cells, fine_areas
from ztfmatch.photometry.kernels.modes import map_modes, precision_with, told_by
from ztfmatch.photometry.kernels.priors import Sizes, covariance, map_precision, map_processes
from ztfmatch.photometry.kernels.smoothness import log_evidence, with_any_of
from ztfmatch.photometry.kernels.splines import map_basis

CELLS = (12, 10)
SPLINES = map_basis(*CELLS).on_cells(*CELLS)
SIZES: tuple[Sizes, ...] = ((0.003, 0.0005, 0.015), (0.012, 0.002, 0.03), (0.0005, 0.0001, 0.004))


def measured(stars: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Normal matrix and right side of a map of which so many stars of 20 mmag tell."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(covariance(map_processes(*CELLS), SIZES[0]))
    truth = root @ rng.standard_normal(len(root))
    weight = rng.exponential(stars / SPLINES.cells, SPLINES.cells) / 0.02**2
    noisy = SPLINES.sums(truth) + rng.standard_normal(SPLINES.cells) * weight**-0.5
    return SPLINES.normal(weight), SPLINES.pulls((weight * noisy)[None])[0]


def evidence(normal: np.ndarray, pull: np.ndarray, spread: np.ndarray) -> float:
    root = np.linalg.cholesky(spread)
    return log_evidence(root.T @ normal @ root, root.T @ pull)


@pytest.mark.parametrize("stars", [300, 3_000, 30_000])
def test_told_by_has_the_evidence_of_all_coefficients(stars: int) -> None:
    normal, pull = measured(stars)
    few = told_by(normal, pull, map_modes(*CELLS))
    processes = map_modes(*CELLS).first(len(few[1])).processes
    assert len(few[1]) < len(pull)
    for sizes in SIZES:
        every = evidence(normal, pull, covariance(map_processes(*CELLS), sizes))
        assert evidence(*few, covariance(processes, sizes)) == pytest.approx(every, abs=0.1)


def test_first_modes_keep_the_variance_of_each_process() -> None:
    every = map_modes(*CELLS)
    some = every.first(30).first(20)
    held = np.einsum("pmm->p", some.processes) + some.beyond
    np.testing.assert_allclose(held, np.einsum("pbb->p", map_processes(*CELLS)), rtol=1e-9)
    spread = covariance(map_processes(*CELLS), SIZES[1])
    np.testing.assert_allclose(some.vectors.T @ spread @ some.vectors, covariance(some.processes, SIZES[1]), atol=1e-12)


def test_precision_with_what_data_say_of_modes_is_that_of_the_data() -> None:
    """What is known of the first modes is taken to be from other data, which say nothing beyond."""
    normal, pull = measured(3_000)
    modes, sizes = map_modes(*CELLS), SIZES[0]
    few, toward = told_by(normal, pull, modes)
    some = modes.first(len(toward))
    before = np.linalg.inv(covariance(some.processes, sizes))
    after = np.linalg.inv(before + few)
    own = map_precision(*CELLS, sizes)
    precision, bent = precision_with(own, (after @ toward, after), sizes, modes)
    np.testing.assert_allclose(precision - own, some.vectors @ few @ some.vectors.T, rtol=1e-5, atol=1e-6 * few.max())
    np.testing.assert_allclose(bent, some.vectors @ toward, rtol=1e-5, atol=1e-6 * np.abs(toward).max())


@pytest.mark.parametrize("cells", [(30, 30), (8, 6), (3, 5)])
def test_splines_on_cells_are_the_products_written_out(cells: tuple[int, int]) -> None:
    basis, rng = map_basis(*cells), np.random.default_rng(2)
    every, splines = basis.at_cells(*cells), basis.on_cells(*cells)
    weight, coefficients, values = (rng.random(n) for n in (splines.cells, splines.size, splines.cells))
    np.testing.assert_allclose(splines.normal(weight), every.T @ (every * weight[:, None]), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(splines.sums(coefficients), every @ coefficients, rtol=1e-10)
    np.testing.assert_allclose(splines.pulls(np.stack([weight, values])), [weight @ every, values @ every], rtol=1e-10)
    means = np.zeros((cells[0] * cells[1], splines.cells))
    means[coarse_cells(*cells), np.arange(splines.cells)] = fine_areas(*cells)
    along, up = (cell_means(n, pixels) for n, pixels in zip(cells, QUADRANT_SHAPE_PIX, strict=True))
    np.testing.assert_allclose(np.kron(up, along), means, rtol=1e-10)


def test_with_any_of_is_known_by_the_covariance_that_is_wider_by_those_vectors() -> None:
    """In both directions: of what data say, the vectors' amounts are parameters that are solved for beside."""
    rng = np.random.default_rng(2)
    root, some, mean = rng.standard_normal((9, 9)), rng.standard_normal((9, 3)), rng.standard_normal(9)
    spread = root @ root.T + np.eye(9)
    wider = np.linalg.inv(spread + some @ some.T)
    got = with_any_of(np.linalg.inv(spread), np.linalg.solve(spread, mean), some)
    np.testing.assert_allclose(got[0], wider, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(got[1], wider @ mean, rtol=1e-7, atol=1e-9)
    normal, pull = measured(3_000)
    some = SPLINES.pulls(rng.standard_normal((2, SPLINES.cells))).T * 1e-3
    both = np.block([[normal, normal @ some], [some.T @ normal, some.T @ normal @ some + np.eye(2)]])
    precise = map_precision(*CELLS, SIZES[0])
    both[: len(pull), : len(pull)] += precise
    every = np.linalg.solve(both, np.concatenate([pull, some.T @ pull]))
    alone = with_any_of(normal, pull, some)
    np.testing.assert_allclose(np.linalg.solve(alone[0] + precise, alone[1]), every[: len(pull)], rtol=1e-5, atol=1e-8)
