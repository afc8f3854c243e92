"""Time dependence of corrections: nodes with linear interpolation, and steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.kernels.sphere import Floats

Ids = npt.NDArray[np.int64]

NODE_DAYS: Final = 75.0
"""Usual distance of nodes: a season bends within three of them by a twentieth of its size."""
MOST_NODES: Final = 12
SLICE_DAYS: Final = 30.0
MOST_SLICES: Final = 12
CORRELATED_DAYS: Final = 365.0
"""Over which what a map changes by is alike."""


@dataclass(frozen=True)
class Timeline:
    """Nodes of a channel.

    Parameters
    ----------
    steps : tuple of float
        MJD at which something changed, ascending.
    nodes : tuple of tuple of float
        MJD of the nodes between two steps, before the first and after the last.
    """

    steps: tuple[float, ...]
    nodes: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, time: Floats, steps: tuple[float, ...], spacing: float = NODE_DAYS) -> Timeline:
        """For exposures of some times, with at most MOST_NODES nodes or one between any two steps."""
        steps = _needed(steps, time)
        era = np.searchsorted(steps, time, side="right")
        spans = [time[era == k] for k in range(len(steps) + 1)]
        while True:
            nodes = tuple(_nodes(span, spacing) for span in spans)
            if sum(map(len, nodes)) <= MOST_NODES or all(len(some) == 1 for some in nodes):
                return cls(steps, nodes)
            spacing *= 1.25

    @cached_property
    def size(self) -> int:
        """Number of nodes."""
        return sum(map(len, self.nodes))

    def weights(self, time: Floats) -> Floats:
        """Weight of each node at each time, shape (N, K)."""
        era = np.searchsorted(self.steps, time, side="right")
        out = np.zeros((len(time), self.size))
        first = 0
        for k, some in enumerate(self.nodes):
            mine = np.flatnonzero(era == k)
            for column, unit in enumerate(np.eye(len(some))):
                out[mine, first + column] = np.interp(time[mine], some, unit)
            first += len(some)
        return out

    def covariance(self) -> Floats:
        """Of what the nodes have in common beside the map of all times: alike over a year, not across a step."""
        time = np.array([t for some in self.nodes for t in some])
        era = np.array([k for k, some in enumerate(self.nodes) for _ in some])
        alike = np.exp(-np.abs(time[:, None] - time) / CORRELATED_DAYS)
        return np.asarray(alike * (era[:, None] == era) + 1e-6 * np.eye(len(time)))

    def rows(self) -> tuple[Floats, Ids]:
        """Times and node numbers of the rows to be applied: each era begins and ends at its steps."""
        times: list[float] = []
        numbers: list[int] = []
        first = 0
        for k, some in enumerate(self.nodes):
            before = [self.steps[k - 1]] if k else []
            after = [self.steps[k]] if k < len(self.steps) else []
            times += [*before, *some, *after]
            last = first + len(some) - 1
            numbers += [first] * len(before) + list(range(first, last + 1)) + [last] * len(after)
            first = last + 1
        return np.array(times), np.array(numbers, np.int64)


def _needed(steps: tuple[float, ...], time: Floats) -> tuple[float, ...]:
    """Steps without those that part nothing: before each there are exposures since the one before it."""
    kept: list[float] = []
    for step in steps:
        since = kept[-1] if kept else -np.inf
        if ((time >= since) & (time < step)).any() and (time >= step).any():
            kept.append(step)
    return tuple(kept)


def _nodes(time: Floats, spacing: float) -> tuple[float, ...]:
    """Nodes over the times of an era: evenly spaced, one in the middle of a short one."""
    low, high = float(time.min()), float(time.max())
    n = int(np.ceil((high - low) / spacing))
    return (0.5 * (low + high),) if high - low < 0.5 * spacing else tuple(np.linspace(low, high, n + 1).tolist())


def hats(time: Floats, steps: tuple[float, ...]) -> Floats:
    """Functions of time that are linear between nodes and step at steps, shape (N, K)."""
    return Timeline.of(time, steps).weights(time)


def slice_dates(first: float, last: float) -> tuple[float, ...]:
    """MJD at which sums of exposures from the first to the last are divided."""
    n = int(min(max((last - first) // SLICE_DAYS, 1), MOST_SLICES))
    return tuple(np.linspace(first, last, n + 1)[1:-1].tolist())
