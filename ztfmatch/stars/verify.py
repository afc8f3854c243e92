"""Verify the statistics of stars and the offsets of units by recomputing both."""

from __future__ import annotations

from typing import Final

import numpy as np

from ztfmatch.core.errors import SnapshotNotFoundError
from ztfmatch.core.io.snapshot import SnapshotFiles, open_snapshot
from ztfmatch.core.operations.common import same_files
from ztfmatch.core.operations.verify import Verification
from ztfmatch.core.runner import Job
from ztfmatch.core.schema import MEMBERS, OFFSETS, STARS, STARSTATISTICS, STATISTICS
from ztfmatch.core.tasks.tile import TileTask
from ztfmatch.core.tasks.verifyepochs import Findings
from ztfmatch.stars.offsets import measure_offsets
from ztfmatch.stars.statistics import stale_stars
from ztfmatch.stars.tasks.statistics import check_star_statistics

_SAME_MAG: Final = 1e-6
"""Sums of many stars may be rounded in another way by another machine."""


def check_statistics(verification: Verification) -> list[Findings]:
    """Check the statistics of the stars of each tile whose epochs are not newer."""
    snapshot = verification.snapshot
    stale = set(stale_stars(snapshot))
    tiles = [tile for tile in snapshot.tiles_with(STARSTATISTICS.name) if tile not in stale]
    tasks = [TileTask(f"starstatistics-{tile.key}", snapshot, tile) for tile in tiles]
    job = Job("verifying stars", check_star_statistics, tasks, verification.operation_id, verification.staging)
    return verification.runner.run(job)


def check_offsets(verification: Verification) -> list[Findings]:
    """Measure the offsets of units again, where stars and statistics are what they were.

    Rounds of the solution are staged: of a store that cannot be written to offsets are not checked.
    """
    snapshot = verification.snapshot
    stored = snapshot.read(OFFSETS.name).sort_by(OFFSETS.order)
    if verification.staging is None or not stored.num_rows or not _still_of(snapshot, stored["snapshot"][0].as_py()):
        return []
    measured = measure_offsets(snapshot, verification.operation_id, verification.runner).rows
    findings = Findings()
    names = [name for name in OFFSETS.names if name not in ("offset", "error", "snapshot")]
    if not stored.select(names).equals(measured.select(names)):
        findings.add("offsets", np.ones(stored.num_rows, bool), lambda _: "other units, or of other stars")
        return [findings]
    off = [np.abs(stored[name].to_numpy() - measured[name].to_numpy()) for name in ("offset", "error")]
    units = stored.select(OFFSETS.sorted_by).to_pylist()
    findings.add("offsets", ~(np.maximum(*off) <= _SAME_MAG), lambda i: f"{units[i]}: not what its stars give")
    return [findings]


def _still_of(snapshot: SnapshotFiles, measured: int) -> bool:
    """Whether a snapshot has the stars and statistics of the one that offsets were measured in."""
    try:
        before = open_snapshot(snapshot.storage, measured)
    except SnapshotNotFoundError:
        return False
    return same_files(snapshot, before, STARS, MEMBERS, STATISTICS)
