"""What is known of a map before its data."""

from __future__ import annotations

import numpy as np
import pytest

from ztfmatch.photometry.kernels.priors import map_processes
from ztfmatch.photometry.kernels.splines import map_basis

CELLS = 30


def at(x: float, y: float) -> int:
    """The coefficient nearest to a place, pixels."""
    px, py = map_basis(CELLS, CELLS).places
    return int(np.argmin((px - x) ** 2 + (py - y) ** 2))


LEFT, RIGHT, LOW, HIGH = (at(*place) for place in ((0.5, 1540), (3072.5, 1540), (1536, 0.5), (1536, 3080.5)))
EDGES = [LEFT, RIGHT, LOW, HIGH]


def rims() -> np.ndarray:
    return map_processes(CELLS, CELLS)[2]


def test_processes_have_their_size_in_the_middle_of_each_edge_and_no_rim_far_inside() -> None:
    np.testing.assert_allclose(np.diag(rims())[EDGES], 1.0, atol=1e-5)
    assert np.diag(rims())[at(1536, 1540)] < 1e-8


def test_rims_are_half_alike_at_all_edges_and_vary_less_along_their_own() -> None:
    edges = rims()[np.ix_(EDGES, EDGES)]
    np.testing.assert_allclose(edges[~np.eye(4, dtype=bool)], 0.5, atol=1e-5)
    near, far = (rims()[LEFT, at(0.5, y)] for y in (1700, 2700))
    assert 0.5 < far < near < 1.0


@pytest.mark.parametrize(("seen", "told"), [(1, 0.5), (2, 2 / 3), (3, 0.75)])
def test_rims_that_are_seen_tell_of_one_without_stars(seen: int, told: float) -> None:
    """Of values that are alike by a half n tell 0.5 n / (1 + 0.5 (n - 1)) of another, all being one."""
    known = EDGES[:seen]
    share = np.linalg.solve(rims()[np.ix_(known, known)], rims()[known, HIGH])
    assert share.sum() == pytest.approx(told, abs=1e-5)


def test_rim_that_is_alone_is_hardly_told_of_the_others() -> None:
    """Three edges seen without a rim, and noise of a tenth of the usual size: the fourth keeps what its stars say."""
    noisy = rims()[np.ix_(EDGES, EDGES)] + 0.01 * np.eye(4)
    kept = rims()[np.ix_(EDGES, EDGES)] @ np.linalg.solve(noisy, [1.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(kept, [1.0, 0.0, 0.0, 0.0], atol=0.02)
