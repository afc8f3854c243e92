"""Counts of a release by program, before anything is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ztfmatch.core.display import Displayable
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import DETECTIONS
from ztfmatch.core.survey import PROGRAM_NAMES
from ztfmatch.release.bulk import bulk_tasks
from ztfmatch.release.io.scope import ReleaseScope
from ztfmatch.release.publication import Publishing
from ztfmatch.release.tarball import Part
from ztfmatch.release.tasks.bulk import count_unit


@dataclass(frozen=True)
class ProgramCount:
    """What a release has of a program."""

    program: int
    name: str
    objects: int
    """Objects with an epoch of it."""
    epochs: int


@dataclass(frozen=True, kw_only=True)
class ReleasePreview(Displayable):
    """What a release would have."""

    release: str
    snapshot: int
    region: str
    active: int
    """Objects of its units and region, with epochs in the release or not: the rows of an object source database."""
    objects: int
    """Objects with epochs in it."""
    epochs: int
    programs: list[ProgramCount]
    snapshot_epochs: int
    """All that the snapshot has."""
    seconds: float


def preview_release(
    snapshot: SnapshotFiles, scope: ReleaseScope, output: Path, runner: Runner, part: Part | None = None
) -> ReleasePreview:
    """Count objects and epochs that any product of a scope, or of a part of the sky and time, would have.

    Raises
    ------
    OutputExistsError, ScopeError, ConfigError
        As the product would.
    JobFailedError
        If a task failed after its retries.
    """
    region = None if part is None else part.region
    public = scope.programs
    scope = scope if part is None else scope.within(part.since, part.until)
    publishing = Publishing(snapshot, scope, output, "dry run", public=public)
    publishing.begin(dry_run=True)
    results = runner.run(Job("counting", count_unit, bulk_tasks(publishing, runner, region), publishing.operation_id))
    objects, epochs = Counter[int](), Counter[int]()
    for result in results:
        objects.update(result.program_objects)
        epochs.update(result.program_epochs)
    publishing.check_epochs(epochs.total(), region)
    return ReleasePreview(
        release=scope.release,
        snapshot=snapshot.number,
        region="the whole sky" if region is None else region.name,
        active=sum(result.active for result in results),
        objects=sum(result.objects for result in results),
        epochs=epochs.total(),
        programs=[
            ProgramCount(n, PROGRAM_NAMES.get(n, ""), objects[n], epochs[n])
            for n in sorted({w.programid for w in scope.windows})
        ],
        snapshot_epochs=snapshot.rows(DETECTIONS.name),
        seconds=publishing.watch.seconds,
    )
