"""Fit all channels, and those with few stars a second time, with priors pooled from the other channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.survey import Channel
from ztfmatch.photometry.kernels.modes import MODES_HELD
from ztfmatch.photometry.kernels.splines import map_basis
from ztfmatch.photometry.tasks.calibrate import ChannelResult, FitTask, fit_task, read_fit
from ztfmatch.photometry.tasks.pooling import MATRICES, PoolTask, pool_task

_CERTAIN_MAG: Final = 0.0008
"""Mean error of a map that needs no other."""


def fit_channels(runner: Runner, tasks: Sequence[FitTask]) -> dict[Channel, ChannelResult]:
    """Fit the channels.

    Raises
    ------
    JobFailedError
        If a task failed after its retries.
    MemoryBudgetError
        If a task would need more than a worker's budget.
    """
    storage, operation_id = tasks[0].storage, tasks[0].operation_id
    results = runner.run(Job("fitting corrections", fit_task, tasks, operation_id, storage))
    of = {(task.rcid, task.fid): result for task, result in zip(tasks, results, strict=True)}
    fits = {channel: read_fit(storage, result.kept[0].path) for channel, result in of.items()}
    errors = {channel: _error(fits[channel]) for channel, result in of.items() if len(result.kept) > 1}
    data = {channel: of[channel].kept[1].path for channel in sorted(errors, key=lambda channel: errors[channel])}
    modes = max((result.modes for result in results), default=0)
    uncertain = [channel for channel in errors if errors[channel] > _CERTAIN_MAG]
    pooling = _pool_tasks(tasks[0], data, uncertain, modes)
    runner.check_memory({task.key: _projected_bytes(task) for task in pooling})
    priors: dict[Channel, str] = {}
    for found in runner.run(Job("comparing maps", pool_task, pooling, operation_id, storage)) if pooling else ():
        priors |= {channel: file.path for channel, file in zip(found.channels, found.kept, strict=True)}
    again = [
        replace(task, key=f"{task.key}-pooled", map_prior=priors[task.rcid, task.fid], others=False)
        for task in tasks
        if (task.rcid, task.fid) in priors
    ]
    results = runner.run(Job("fitting corrections again", fit_task, again, operation_id, storage)) if again else []
    for task, result in zip(again, results, strict=True):
        fits[task.rcid, task.fid] = read_fit(storage, result.kept[0].path)
    return fits


def _error(result: ChannelResult) -> float:
    """Mean error of a map, mag."""
    return np.inf if result.fitted is None else float(np.mean(result.fitted.fit.map_error))


def _pool_tasks(task: FitTask, data: Mapping[Channel, str], uncertain: Sequence[Channel], modes: int) -> list[PoolTask]:
    """One a filter that has channels whose maps are uncertain, and others beside them."""
    tasks = []
    for fid in sorted({channel[1] for channel in uncertain}):
        wanted = tuple(channel for channel in uncertain if channel[1] == fid)
        rcids = {channel[0] for channel in wanted}
        files = tuple((channel, path) for channel, path in data.items() if channel[1] == fid or channel[0] in rcids)
        if len(files) > 1:
            tasks.append(
                PoolTask(
                    key=f"pool-{fid}",
                    storage=task.storage,
                    wanted=wanted,
                    files=files,
                    modes=modes,
                    config=task.config,
                    operation_id=task.operation_id,
                )
            )
    return tasks


def _projected_bytes(task: PoolTask) -> int:
    coefficients = map_basis(task.config.cells_x, task.config.cells_y).size
    return WORKER_BASE_BYTES + 8 * (MATRICES * task.modes**2 + MODES_HELD * coefficients**2)
