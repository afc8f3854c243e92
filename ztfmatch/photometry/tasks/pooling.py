"""Priors for the maps of channels with few stars, pooled from the fits of all channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.survey import Channel
from ztfmatch.photometry.kernels.modes import map_modes
from ztfmatch.photometry.kernels.pooling import DATA_HELD, MESSAGES_HELD, MapData, MapPrior, Pooling
from ztfmatch.photometry.tasks.comparison import KeptFile

MATRICES: Final = DATA_HELD + MESSAGES_HELD + 30
"""Of a map's modes, that a task holds."""


@dataclass(frozen=True)
class PoolTask:
    """Channels of one filter."""

    key: str
    storage: Storage
    wanted: tuple[Channel, ...]
    """That have few stars."""
    files: tuple[tuple[Channel, str], ...]
    """Map data of the channels to pool, including their own; the most certain first."""
    modes: int
    """That the data of these channels tell."""
    config: CalibrateConfig
    operation_id: str


@dataclass(frozen=True)
class PooledPriors:
    """Files of the priors of channels for which pooling pays."""

    channels: tuple[Channel, ...]
    kept: tuple[KeptFile, ...]


def pool_task(task: PoolTask) -> PooledPriors:
    """Compute pooled priors and keep them; bit for bit the same in any process, as with ``fit_task``."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        paths, modes = dict(task.files), map_modes(task.config.cells_x, task.config.cells_y).first(task.modes)
        pooling = Pooling(
            tuple(paths), lambda channel: read_map_data(task.storage, paths[channel]).padded(task.modes), modes
        )
        found = {channel: pooling.prior(channel, task.wanted) for channel in task.wanted}
        kept = {
            channel: KeptFile.of(
                task.storage, task.operation_id, f"{task.key}-{channel[0]:02d}-{channel[1]}", prior._asdict()
            )
            for channel, prior in found.items()
            if prior is not None
        }
        return PooledPriors(tuple(kept), tuple(kept.values()))


def read_map_data(storage: Storage, path: str) -> MapData:
    """What the data of a channel say of its map."""
    held = read_arrays(storage, path)
    wide, narrow, rim = held["sizes"].tolist()
    return MapData(held["normal"], held["pull"], (wide, narrow, rim))


def read_map_prior(storage: Storage, path: str) -> MapPrior:
    """The prior of a channel that :func:`pool_task` kept."""
    held = read_arrays(storage, path)
    wide, narrow, rim = held["sizes"].tolist()
    return MapPrior(held["mean"], held["covariance"], (wide, narrow, rim), tuple(held["pooled_with"].tolist()))
