"""Partial pooling: a prior for the map of a channel with few stars from the maps of other channels.

Channels of a camera have something in common: all readouts of a filter, such as steep rims, and one channel in all
filters, such as dust. The map of a channel is taken to be the sum of a part that it shares with others, its sources,
and one of its own. Both are sums of the same processes (:mod:`ztfmatch.photometry.kernels.priors`), which have a share
of their variances in the common part.

The sources say what that is: with A and p the normal matrix and right side of a source's map alone, N the covariance of
its own part, their message is of the precision (A^-1 + N)^-1 and the pull (1 + A N)^-1 p. Messages of all sources and
the covariance of the common part give its mean and covariance, which are what is known of the channel's map before its
own data: held-out evidence, since these are not in it. It is used only where it makes the channel's own data more
probable, and its map more certain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.photometry.kernels.modes import Modes
from ztfmatch.photometry.kernels.priors import Sizes, covariance
from ztfmatch.photometry.kernels.smoothness import log_evidence

_SMOOTH_SHARES: Final = (0.5, 0.9)
_RIM_SHARES: Final = (0.5, 0.9)
_TRIED: Final = 8
"""Channels that shares are chosen by."""
_MOST_SOURCES: Final = 12
"""More say hardly more of what all have in common than their own parts leave open."""
DATA_HELD: Final = 24
MESSAGES_HELD: Final = 64
"""Of channels at a time: each is a matrix of a map's modes."""
_LEAST_GAIN: Final = 5.0
"""Logarithm of the evidence of the channels that shares are chosen by: a share that adds less is taken for chance."""
_WORTH: Final = 0.9
"""Of the variance that a map has without, that it must at most have."""
_LEAST_OWN: Final = 0.02
"""Share of the variance that a map has of its own, however much is pooled."""

PLANE: Final = "plane"
FILTERS: Final = "filters"

Shares = tuple[float, float]
"""Of the variance of the wide and the narrow process, and of the rims."""
NONE: Final[Shares] = (0.0, 0.0)
Channel = tuple[int, int]
"""Readout channel and filter."""


class MapData(NamedTuple):
    """What the data of a channel say of the first M modes of its map, all other parameters eliminated."""

    normal: Floats
    """Shape (M, M)."""
    pull: Floats
    """Shape (M,)."""
    sizes: Sizes
    """Of its processes."""

    def padded(self, modes: int) -> MapData:
        """The same of so many modes: of those beyond the first the data say nothing."""
        more = modes - len(self.pull)
        return MapData(np.pad(self.normal, (0, more)), np.pad(self.pull, (0, more)), self.sizes)


class MapPrior(NamedTuple):
    """What is known of the first modes of a map before its data."""

    mean: Floats
    covariance: Floats
    sizes: Sizes
    """Of its processes without pooling."""
    pooled_with: tuple[str, ...] = ()
    """PLANE, FILTERS or both."""


class Common(NamedTuple):
    """What sources say of what a channel shares with them."""

    sources: str
    """PLANE or FILTERS."""
    mean: Floats
    covariance: Floats
    shares: Shares


class Pooling:
    """Pooling over the channels of a camera.

    Parameters
    ----------
    channels : sequence of Channel
        The most certain first: of a filter so many say what all have in common.
    read : callable
        Gives what the data of a channel say of its map; called again for what is not held any more.
    modes : Modes
        As many as the data have.
    """

    def __init__(self, channels: Sequence[Channel], read: Callable[[Channel], MapData], modes: Modes) -> None:
        self._channels, self._modes, self._processes = channels, modes, modes.processes
        self.data = lru_cache(maxsize=DATA_HELD)(read)
        self._message = lru_cache(maxsize=MESSAGES_HELD)(self._message_of)
        self._shares: dict[tuple[str, tuple[Channel, ...]], Shares] = {}
        self._evidence: dict[Channel, float] = {}

    def prior(self, channel: Channel, wanted: Sequence[Channel]) -> MapPrior | None:
        """Pooled prior of the map of a channel; None where that is not worth it.

        Parameters
        ----------
        channel : Channel
        wanted : sequence of Channel
            Those that shares are chosen by: the data decide for all that ask alike.
        """
        commons = [self.common(kind, channel, self._most_probable(kind, tuple(wanted))) for kind in (PLANE, FILTERS)]
        found = [common for common in commons if common is not None]
        tried = [[one] for one in found] + [found] * (len(found) > 1 and min(_rest(found)) >= _LEAST_OWN)
        priors = [self._with(channel, some) for some in tried]
        gains = [self._gain(channel, prior) for prior in priors]
        if not gains or max(gains) <= 0.0:
            return None
        best = priors[int(np.argmax(gains))]
        worth = self._uncertain(channel, best.covariance) < _WORTH * self._uncertain(channel, self._own(channel))
        return best if worth else None

    def _sources(self, kind: str, channel: Channel) -> list[Channel]:
        """Others of the same filter, or the same channel in other filters."""
        at = 1 if kind == PLANE else 0
        return [other for other in self._channels if other[at] == channel[at] and other != channel][:_MOST_SOURCES]

    def _most_probable(self, kind: str, wanted: tuple[Channel, ...]) -> Shares:
        """Shares that make the data of channels most probable, given those of their sources."""
        if (kind, wanted) not in self._shares:
            some = [channel for channel in wanted if self._sources(kind, channel)][:_TRIED]
            best, highest = NONE, 0.0
            for rims, tried in ((True, _RIM_SHARES), (False, _SMOOTH_SHARES)):
                each = [(best[0], share) if rims else (share, best[1]) for share in tried]
                gains = [sum(self._gain_of(kind, channel, shares) for channel in some) for shares in each]
                if max(gains) > highest + _LEAST_GAIN:
                    best, highest = each[int(np.argmax(gains))], max(gains)
            self._shares[kind, wanted] = best
        return self._shares[kind, wanted]

    def _gain_of(self, kind: str, channel: Channel, shares: Shares) -> float:
        common = self.common(kind, channel, shares)
        return 0.0 if common is None else self._gain(channel, self._with(channel, [common]))

    def _with(self, channel: Channel, commons: Sequence[Common]) -> MapPrior:
        """What is known of the map of a channel beside its own data."""
        sizes = self.data(channel).sizes
        spread = covariance(self._processes, _scaled(sizes, _rest(commons)))
        total = sum((one.covariance for one in commons), spread)
        mean = sum((one.mean for one in commons), np.zeros(len(total)))
        return MapPrior(mean, total, sizes, tuple(one.sources for one in commons))

    def _own(self, channel: Channel) -> Floats:
        return covariance(self._processes, self.data(channel).sizes)

    def _gain(self, channel: Channel, prior: MapPrior) -> float:
        """By how much the logarithm of the evidence is larger than without pooling."""
        one = self.data(channel)
        if channel not in self._evidence:
            root = np.linalg.cholesky(self._own(channel))
            self._evidence[channel] = log_evidence(root.T @ one.normal @ root, root.T @ one.pull)
        root, bent = np.linalg.cholesky(prior.covariance), one.normal @ prior.mean
        more = log_evidence(root.T @ one.normal @ root, root.T @ (one.pull - bent))
        return float(more + one.pull @ prior.mean - 0.5 * prior.mean @ bent) - self._evidence[channel]

    def _uncertain(self, channel: Channel, before: Floats) -> float:
        """Variance that coefficients have about their mean, which is a matter of convention, given the data."""
        one, vectors = self.data(channel), self._modes.vectors
        after, level = _after(before, one.normal), vectors.sum(axis=0) / np.sqrt(len(vectors))
        return float(np.trace(after) - level @ after @ level + np.square(one.sizes) @ self._modes.beyond)

    def common(self, kind: str, channel: Channel, shares: Shares) -> Common | None:
        """What the sources of a channel say of what it shares with them; None without any."""
        sources = self._sources(kind, channel)
        if shares == NONE or not sources:
            return None
        normal, pull = np.zeros(self._processes.shape[1:]), np.zeros(self._processes.shape[1])
        for source in sources:
            more, toward = self._message(source, shares)
            normal += more
            pull += toward
        middle = np.exp(np.median(np.log([self.data(source).sizes for source in sources]), axis=0))
        usual: Sizes = (float(middle[0]), float(middle[1]), float(middle[2]))
        after = _after(covariance(self._processes, _scaled(usual, shares)), normal)
        return Common(kind, after @ pull, after, shares)

    def _message_of(self, channel: Channel, shares: Shares) -> tuple[Floats, Floats]:
        """Precision and pull of what the data of a channel say of what it shares.

        With N = L L', (A^-1 + N)^-1 = A - A L (1 + L' A L)^-1 L' A, which needs no inverse of A.
        """
        one = self.data(channel)
        rest = (1.0 - shares[0], 1.0 - shares[1])
        root = np.linalg.cholesky(covariance(self._processes, _scaled(one.sizes, rest)))
        across = one.normal @ root
        known = np.column_stack([across.T, root.T @ one.pull])
        inner = across @ np.linalg.solve(np.eye(len(root)) + root.T @ across, known)
        return one.normal - inner[:, :-1], one.pull - inner[:, -1]


def _after(before: Floats, normal: Floats) -> Floats:
    """Covariance after data, (K^-1 + A)^-1 = L (1 + L' A L)^-1 L' with K = L L'."""
    root = np.linalg.cholesky(before)
    return np.asarray(root @ np.linalg.solve(np.eye(len(root)) + root.T @ normal @ root, root.T))


def _rest(commons: Sequence[Common]) -> Shares:
    """Shares of what a map has of its own."""
    return 1.0 - sum(one.shares[0] for one in commons), 1.0 - sum(one.shares[1] for one in commons)


def _scaled(sizes: Sizes, shares: Shares) -> Sizes:
    """Sizes of a part with some shares of the variances."""
    wide, narrow, rim = sizes
    smooth = float(np.sqrt(shares[0]))
    return wide * smooth, narrow * smooth, rim * float(np.sqrt(shares[1]))
