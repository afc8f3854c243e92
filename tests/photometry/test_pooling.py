"""Maps that lean on those of other channels: of simulated ones that share something, and of others that do not."""

from __future__ import annotations

import numpy as np
import pytest

from ztfmatch.photometry.kernels.modes import Modes
from ztfmatch.photometry.kernels.pooling import FILTERS, PLANE, Channel, MapData, MapPrior, Pooling
from ztfmatch.photometry.kernels.priors import Sizes, covariance, map_processes
from ztfmatch.photometry.kernels.splines import basis_values, map_basis

CELLS = (8, 8)
SIZES: Sizes = (0.003, 0.0005, 0.015)
BASIS = map_basis(*CELLS)
ALL = Modes(np.eye(BASIS.size), np.ones(BASIS.size), map_processes(*CELLS), np.zeros(3))
"""Coefficients themselves."""
NOISE = 0.006
FEW, MANY = 300, 20_000


def maps(rng: np.random.Generator, n: int, share: float = 1.0) -> np.ndarray:
    """Coefficients of maps that have a share of the usual variances, shape (n, B)."""
    root = np.linalg.cholesky(covariance(map_processes(*CELLS), SIZES))
    return np.asarray((share**0.5 * root @ rng.standard_normal((len(root), n))).T)


def measured(rng: np.random.Generator, coefficients: np.ndarray, stars: int) -> MapData:
    """What stars at random places say of a map whose mean is not known."""
    x, y = rng.uniform(0.5, 3072.5, stars), rng.uniform(0.5, 3080.5, stars)
    up, along = basis_values(BASIS.knots_y, y), basis_values(BASIS.knots_x, x)
    design = np.einsum("nj,ni->nji", up, along).reshape(stars, -1)
    residual = design @ coefficients + rng.normal(0.0, NOISE, stars)
    design, residual = design - design.mean(axis=0), residual - residual.mean()
    return MapData(design.T @ design / NOISE**2, design.T @ residual / NOISE**2, SIZES)


def camera(seed: int, common: float, stars: int = FEW, odd: bool = False) -> tuple[dict[Channel, np.ndarray], Pooling]:
    """Eight channels of a filter whose maps have a share of their variances in common; the last perhaps none."""
    rng = np.random.default_rng(seed)
    shared = maps(rng, 1, common)[0]
    own = maps(rng, 8, 1.0 - common)
    truth = {(k, 2): shared + own[k] for k in range(8)}
    if odd:
        truth[7, 2] = maps(rng, 1)[0]
    return truth, pooling_of({channel: measured(rng, of, stars) for channel, of in truth.items()})


def pooling_of(data: dict[Channel, MapData]) -> Pooling:
    return Pooling(tuple(data), data.__getitem__, ALL)


def left(truth: np.ndarray, data: MapData, prior: MapPrior | None) -> float:
    """Root mean square of what the fitted map is off by, about its mean, over places."""
    mean, spread = (0.0 * truth, covariance(map_processes(*CELLS), SIZES)) if prior is None else prior[:2]
    precision = np.linalg.inv(spread)
    fitted = np.linalg.solve(data.normal + precision, data.pull + precision @ mean)
    off = BASIS.at_cells(20, 20) @ (fitted - truth)
    return float(np.std(off))


def priors(leaning: Pooling, channels: list[Channel]) -> dict[Channel, MapPrior | None]:
    return {channel: leaning.prior(channel, channels) for channel in channels}


def test_prior_of_channels_that_share_a_map_makes_that_of_few_stars_better() -> None:
    before, after = [], []
    for seed in range(3):
        truth, leaning = camera(seed, 0.9)
        found = priors(leaning, list(truth))
        assert all(prior is not None and prior.pooled_with == (PLANE,) for prior in found.values())
        before += [left(truth[channel], leaning.data(channel), None) for channel in truth]
        after += [left(truth[channel], leaning.data(channel), found[channel]) for channel in truth]
    assert np.mean(np.square(after)) < 0.6 * np.mean(np.square(before))


@pytest.mark.parametrize("seed", range(4))
def test_prior_of_channels_that_share_nothing_is_none(seed: int) -> None:
    truth, leaning = camera(seed, 0.0)
    assert set(priors(leaning, list(truth)).values()) == {None}


def test_prior_of_the_one_channel_that_is_unlike_the_others_is_none() -> None:
    truth, leaning = camera(5, 0.9, odd=True)
    found = priors(leaning, list(truth))
    assert found.pop((7, 2)) is None
    assert all(prior is not None for prior in found.values())


def test_prior_of_channels_with_many_stars_is_none_though_they_share() -> None:
    truth, leaning = camera(6, 0.5, MANY)
    assert set(priors(leaning, list(truth)).values()) == {None}


def test_prior_of_a_channel_that_is_alike_in_both_filters_leans_on_the_other_filter() -> None:
    """One filter has many stars, the other few; channels among each other have nothing in common."""
    rng = np.random.default_rng(7)
    both, own = maps(rng, 4, 0.9), maps(rng, 8, 0.1).reshape(2, 4, -1)
    truth = {(k, fid): both[k] + own[fid - 1, k] for k in range(4) for fid in (1, 2)}
    data = {channel: measured(rng, of, MANY if channel[1] == 1 else FEW) for channel, of in truth.items()}
    few = [channel for channel in truth if channel[1] == 2]
    found = priors(pooling_of(data), few)
    assert all(prior is not None and prior.pooled_with == (FILTERS,) for prior in found.values())
    before, after = (
        np.mean([left(truth[channel], data[channel], some[channel]) ** 2 for channel in few])
        for some in (dict.fromkeys(few), found)
    )
    assert after < 0.6 * before


def test_message_and_common_are_those_of_all_maps_solved_at_once() -> None:
    """The map of a channel given the data of two others, by the joint covariance of all three."""
    truth, leaning = camera(8, 0.9)
    channels = list(truth)[:3]
    some = pooling_of({channel: leaning.data(channel) for channel in channels})
    shares = (0.5, 0.9)
    common = some.common(PLANE, channels[0], shares)
    assert common is not None
    processes = map_processes(*CELLS)
    wide, narrow, rim = SIZES
    shared = covariance(processes, (wide * 0.5**0.5, narrow * 0.5**0.5, rim * 0.9**0.5))
    rest = covariance(processes, (wide * 0.5**0.5, narrow * 0.5**0.5, rim * 0.1**0.5))
    joint = np.kron(np.ones((2, 2)), shared) + np.kron(np.eye(2), rest)
    size = len(shared)
    normal = np.zeros_like(joint)
    for k, channel in enumerate(channels[1:]):
        normal[k * size : (k + 1) * size, k * size : (k + 1) * size] = some.data(channel).normal
    pull = np.concatenate([some.data(channel).pull for channel in channels[1:]])
    across = np.tile(shared, 2)
    inner = np.linalg.inv(np.eye(2 * size) + normal @ joint)
    np.testing.assert_allclose(common.mean, across @ inner @ pull, atol=1e-7)
    np.testing.assert_allclose(common.covariance, shared - across @ inner @ normal @ across.T, atol=1e-10)
