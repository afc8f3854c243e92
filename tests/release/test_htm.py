"""The triangular mesh, against Rubin's sphgeom."""

from __future__ import annotations

import numpy as np
import pytest

from ztfmatch.release.kernels.htm import htm_index


@pytest.mark.parametrize("depth", [0, 1, 7, 20])
def test_htm_index_equals_that_of_sphgeom(depth: int) -> None:
    sphgeom = pytest.importorskip("lsst.sphgeom")
    rng = np.random.default_rng(depth)
    xyz = rng.normal(size=(3000, 3))
    xyz[:200, 2] *= 1e-9  # close to the equator, an edge of all roots
    xyz /= np.linalg.norm(xyz, axis=1)[:, None]
    mesh = sphgeom.HtmPixelization(depth)
    expected = [mesh.index(sphgeom.UnitVector3d(*row)) for row in xyz.tolist()]
    np.testing.assert_array_equal(htm_index(xyz, depth), expected)


def test_htm_index_child_is_four_times_its_parent_and_a_bit() -> None:
    xyz = np.random.default_rng(1).normal(size=(500, 3))
    xyz /= np.linalg.norm(xyz, axis=1)[:, None]
    for depth in range(20):
        np.testing.assert_array_equal(htm_index(xyz, depth + 1) // 4, htm_index(xyz, depth))
    assert set(htm_index(xyz, 0).tolist()) == set(range(8, 16))
