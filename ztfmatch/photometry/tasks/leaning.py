"""What the maps of channels with few stars lean on, from what the fits of all channels left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.survey import Channel
from ztfmatch.photometry.kernels.leaning import DATA_HELD, MESSAGES_HELD, Leaning, MapData, MapPrior
from ztfmatch.photometry.kernels.modes import map_modes
from ztfmatch.photometry.tasks.comparison import KeptFile

MATRICES: Final = DATA_HELD + MESSAGES_HELD + 30
"""Of a map's modes, that a task holds."""


@dataclass(frozen=True)
class LeanTask:
    """Channels of one filter."""

    key: str
    storage: Storage
    wanted: tuple[Channel, ...]
    """That have few stars."""
    files: tuple[tuple[Channel, str], ...]
    """What data say of maps, of the channels that these may lean on, and their own; the most certain first."""
    modes: int
    """That the data of these channels tell."""
    config: CalibrateConfig
    operation_id: str


@dataclass(frozen=True)
class LeanKept:
    """Where the priors are of those channels that lean."""

    channels: tuple[Channel, ...]
    kept: tuple[KeptFile, ...]


def lean_task(task: LeanTask) -> LeanKept:
    """Find what channels lean on, and keep it; the same to the bit in any process, as of ``fit_task``."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        paths, modes = dict(task.files), map_modes(task.config.cells_x, task.config.cells_y).first(task.modes)
        leaning = Leaning(
            tuple(paths), lambda channel: read_map_data(task.storage, paths[channel]).padded(task.modes), modes
        )
        found = {channel: leaning.prior(channel, task.wanted) for channel in task.wanted}
        kept = {
            channel: KeptFile.of(
                task.storage, task.operation_id, f"{task.key}-{channel[0]:02d}-{channel[1]}", prior._asdict()
            )
            for channel, prior in found.items()
            if prior is not None
        }
        return LeanKept(tuple(kept), tuple(kept.values()))


def read_map_data(storage: Storage, path: str) -> MapData:
    """What the data of a channel say of its map."""
    held = read_arrays(storage, path)
    wide, narrow, rim = held["sizes"].tolist()
    return MapData(held["normal"], held["pull"], (wide, narrow, rim))


def read_map_prior(storage: Storage, path: str) -> MapPrior:
    """What :func:`lean_task` kept of a channel."""
    held = read_arrays(storage, path)
    wide, narrow, rim = held["sizes"].tolist()
    return MapPrior(held["mean"], held["covariance"], (wide, narrow, rim), tuple(held["leans_on"].tolist()))
