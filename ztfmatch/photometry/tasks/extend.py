"""Zero points and gradients of the exposures of one channel, given known corrections."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ztfmatch.core.config import CalibrateConfig
from ztfmatch.core.errors import CorrectionsError
from ztfmatch.core.io.arrays import read_arrays
from ztfmatch.core.io.corrections import FILES_OF_ALL, MODEL, read_corrections
from ztfmatch.core.io.storage import Storage
from ztfmatch.photometry.kernels.exposuremaps import CELLS, HALVES, SUMS
from ztfmatch.photometry.kernels.gradients import fit_gradients
from ztfmatch.photometry.tasks.calibrate import FitKept, changes_of_exposures
from ztfmatch.photometry.tasks.channelsums import layout_of, read_channel
from ztfmatch.photometry.tasks.comparison import KeptFile, bins_of

BYTES_PER_EXPOSURE: Final = 48 * HALVES * CELLS * SUMS
"""Peak memory of a task: its maps as read, added up, and as means and weights."""
_APPLIED: Final = (*(name for name in FILES_OF_ALL if name not in ("exposures", "sums")), MODEL)


@dataclass(frozen=True)
class ExtendTask:
    """One channel."""

    key: str
    storage: Storage
    rcid: int
    fid: int
    files: tuple[str, ...]
    """Of sums, one a tile, of all exposures: those that corrections know say what is usual."""
    config: CalibrateConfig
    operation_id: str
    place: str
    """Directory of the corrections."""


def extend_task(task: ExtendTask) -> FitKept:
    """Fit what each exposure is off by, and keep it; the same to the bit in any process, as of ``fit_task``.

    See :func:`read_exposures`.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        return _extend(task)


def _extend(task: ExtendTask) -> FitKept:
    bins = bins_of(task.config)
    maps = read_channel(task.storage, task.files, layout_of(bins, 1)).maps
    smooth = read_corrections(Path(task.place), _APPLIED).set.smooth
    if smooth is None:
        raise CorrectionsError(f"{task.place} has no continuous corrections")
    rows = [row for row, channel in enumerate(smooth.channel) if channel == (task.rcid, task.fid)]
    nodes = (smooth.time[rows], smooth.numbers["maps"][rows])
    found = fit_gradients(maps, changes_of_exposures(maps, nodes, bins), task.config.may_have("exposure"))
    arrays = {"id": maps.exposureid, "field": maps.field, **found._asdict()}
    return FitKept((KeptFile.of(task.storage, task.operation_id, task.key, arrays),))


def read_exposures(storage: Storage, path: str) -> dict[str, npt.NDArray[Any]]:
    """What :func:`extend_task` kept: key, field, and what ``Gradients`` has, of each exposure."""
    return {name: np.asarray(values) for name, values in read_arrays(storage, path).items()}
