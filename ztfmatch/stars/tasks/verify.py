"""Prove the statistics of the stars of one tile."""

from __future__ import annotations

from ztfmatch.core.schema import STARSTATISTICS
from ztfmatch.core.tasks.tile import TileTask
from ztfmatch.core.tasks.verifyepochs import Findings
from ztfmatch.core.tasks.verifystars import differing_rows
from ztfmatch.stars.tasks.statistics import star_statistics


def check_star_statistics(task: TileTask) -> Findings:
    """Compare the rows of a tile's stars with what the epochs give; the snapshot that they name may be another."""
    stored, expected = (
        rows.drop_columns(["snapshot"]) for rows in (task.read(STARSTATISTICS), star_statistics(task)[0])
    )
    starid, wrong = differing_rows(stored, expected, "starid")
    findings = Findings()
    findings.add("starstatistics", wrong, lambda i: f"star {starid[i]}: not the magnitudes of its epochs")
    return findings
