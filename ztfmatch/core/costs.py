"""Measured costs of the steps of each operation: the constants that ``ztfmatch plan`` adds up.

Each names the benchmark that measures it; there is no other place for them. They are CPU seconds of one core of the
machine that docs/explanation/benchmarks.md tells of, which is shared with others: on another all are larger or smaller
by about the same factor, which a store's own history tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a step."""

    name: str
    seconds: float
    per: str
    benchmark: str
    """Script in tests/benchmarks that measures it."""


INSPECTED_ROW: Final = Cost("catalogs inspected", 0.28e-6, "row", "rehearsal.py")
MATCHED_ROW: Final = Cost("detections matched and written", 0.56e-6, "row", "rehearsal.py")
PASSED_ROW: Final = Cost("detections read that belong to another group of tiles", 0.06e-6, "row", "rehearsal.py")
LAID_SEED: Final = Cost("seeds read and laid out", 0.40e-6, "seed", "rehearsal.py")
MATCHING: Final = Cost("a task of matching", 0.03, "task", "rehearsal.py")
REFERENCE_SEED: Final = Cost("seeds of references inspected", 0.15e-6, "seed", "rehearsal.py")
REREAD_SEED: Final = Cost("seeds of references read for a tile", 0.06e-6, "seed", "rehearsal.py")
WRITTEN_OBJECT: Final = Cost("objects made and written", 0.17e-6, "object", "rehearsal.py")
EPOCH: Final = Cost("epochs of statistics", 0.18e-6, "epoch", "run.py")
OBJECT: Final = Cost("objects of statistics", 1.7e-6, "object", "rehearsal.py")
ORPHAN: Final = Cost("orphans grouped", 0.5e-6, "orphan", "rehearsal.py")
MERGED_ROW: Final = Cost("rows merged", 0.5e-6, "row", "run.py")
REMATCHED_ROW: Final = Cost("detections matched again", 0.77e-6, "row", "focalplane.py")
RETIRED_ROW: Final = Cost("rows of other units kept by a rematch", 0.06e-6, "row", "derived.py")
VERIFIED_ROW: Final = Cost("rows verified", 0.30e-6, "row", "run.py")
VERIFIED_OBJECT: Final = Cost("objects verified", 1.2e-6, "object", "rehearsal.py")
LINKED_OBJECT: Final = Cost("objects linked into stars, read and written", 0.5e-6, "object", "stars.py")
VERIFIED_MEMBER: Final = Cost("objects whose stars are verified", 0.3e-6, "object", "stars.py")
TRACED_SEED: Final = Cost("objects whose lineage is traced", 4.8e-6, "object", "rehearsal.py")
PUBLISHED_EPOCH: Final = Cost("epochs published as HATS", 0.31e-6, "epoch", "release.py")
PUBLISHED_OBJECT: Final = Cost("objects published as HATS", 0.4e-6, "object", "rehearsal.py")
TILE_TASK: Final = Cost("a task of a tile", 0.02, "task", "rehearsal.py")

STARTED: Final = Cost("a command started and ended, by the main process", 0.5, "command", "focalplane.py")
SENT_TASK: Final = Cost("a task sent to a worker, by the main process", 0.5e-3, "task", "tasks.py")
PLANNED_CATALOG: Final = Cost("a catalog planned, by the main process", 0.03e-3, "catalog", "planning.py")
COMMITTED_FILE: Final = Cost("a file committed, by the main process", 0.05e-3, "file", "manifests.py")

MAIN_BYTES: Final = 200 << 20
"""Of the main process, whatever it plans."""
MAIN_BYTES_PER_LISTED: Final = 40
"""Of each catalog of a list (surveylist.py)."""
MAIN_BYTES_PER_CATALOG: Final = 3_000
"""Of each catalog of a commit (planning.py)."""
MAIN_BYTES_PER_REMATCHED: Final = 560
"""Of each exposure of a rematch (rematchmemory.py)."""
MAIN_BYTES_OF_INIT: Final = 35 << 20
"""Of an init, whatever the number of references (initmemory.py)."""
MAIN_BYTES_PER_REFERENCE: Final = 2_000
"""Of each reference of an init (initmemory.py)."""

STORED_ROW_BYTES: Final = 33.4
"""Of a detection in the store (run.py)."""
STORED_OBJECT_BYTES: Final = 40.0
"""Of an object in the store (run.py)."""
LINKED_OBJECT_BYTES: Final = 14.0
"""Of an object's star and membership in the store, where a star has 5.4 objects (stars.py)."""
STATISTICS_BYTES: Final = 150.0
"""Of the statistics of an object in the store (run.py)."""
PUBLISHED_EPOCH_BYTES: Final = 5.0
"""Of an epoch in a HATS catalog (release.py)."""
PUBLISHED_OBJECT_BYTES: Final = 60.0
"""Of an object in a HATS catalog, beside its epochs (run.py)."""
SEED_BYTES: Final = 18.0
"""Read of an object to match with it (focalplane.py)."""
LEDGER_ROW_BYTES: Final = 150.0
"""Of an exposure in the store."""
SURVEY_ROWS_PER_SEED: Final = 0.39
"""Detections of a catalog for each seed of its unit, over the survey: 183 billion in 10.6 million catalogs, 4.5 billion
seeds of 102,000 units."""
SURVEY_SEEDS: Final = 44_000
"""Of a unit of the survey, in the mean."""
