"""Imported to make a process ready for tasks: imports everything, loads every compiled kernel.

The parent of a local cluster's workers imports this once, before it forks them; so a worker takes its first task as
fast as any other. On a new installation it is here that kernels are compiled, once for all workers; those that few
commands call are compiled when they do, or before by :mod:`ztfmatch.precompile`.
"""

from __future__ import annotations

import numpy as np

import ztfmatch.core.tasks.compact
import ztfmatch.core.tasks.inspect
import ztfmatch.core.tasks.lineage
import ztfmatch.core.tasks.match
import ztfmatch.core.tasks.rematch
import ztfmatch.core.tasks.retire
import ztfmatch.core.tasks.seeds
import ztfmatch.core.tasks.verify  # noqa: F401
from ztfmatch.core.kernels import calibration, crossmatch, lookup, order, reach, rows, sphere, statistics, targets
from ztfmatch.core.kernels.tiling import Tile


def load_kernels() -> None:
    """Run every kernel on next to nothing."""
    ra, dec, one = np.array([10.0]), np.array([20.0]), np.ones(1, np.int64)
    xyz = sphere.unit_vectors(ra, dec)
    grid = crossmatch.build_grid(xyz, 1.5)
    target = crossmatch.match_exposure(grid, xyz, np.zeros(1, np.int32))
    noted = targets.Noted(np.zeros(1, np.int64), np.zeros(1, np.int16), np.zeros(1, np.int64))
    targets.note_targets(target, np.zeros(1, np.int16), one, 0, noted)
    crossmatch.match_exposures(grid, xyz, np.zeros(1, np.int32), np.zeros(1, np.int32), 1)
    crossmatch.nearest_seeds(grid, xyz)
    records = np.zeros(1, [(name, np.dtype(kind).newbyteorder(">")) for name, kind in rows.MEASURED.values()])
    native = np.empty(1, rows.ROW)
    rows.take_near(records, reach.planes_around(Tile(0, 0)), native)
    rows.summarise(records)
    rows.digest({name: native[name] for name in rows.MEASURED})
    rows.gather(native, np.zeros(1, np.int64))
    rows.linked_digest(np.zeros(1, np.uint64), one, one)
    order.order_by_group(np.zeros(1, np.int64), ra, one, 1)
    order.order_by_group(np.zeros(1, np.int64), ra, one, 1, np.zeros(1, np.int32), 1)
    calibration.model_errors(np.ones(1, np.float32), np.zeros(4))
    lookup.find_rows(lookup.build_map(one), one)
    single = np.ones(1, np.float32)
    flags, released = np.zeros(1, np.uint16), np.ones(1, bool)
    epochs = statistics.Epochs(ra, single, single, flags, ra, dec, single, released)
    statistics.lightcurve_statistics(epochs, np.array([0, 1]))


load_kernels()
