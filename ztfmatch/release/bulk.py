"""Bulk lightcurve files as IRSA offers them: one Parquet file a unit, with a list of MD5 sums."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.region import Region
from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import DETECTIONS, OBJECTS
from ztfmatch.core.survey import FILTER_CODES, Unit, objectid_range
from ztfmatch.release import about
from ztfmatch.release.io.outputs import Output, outputs_of, write_bytes
from ztfmatch.release.io.scope import ReleaseScope
from ztfmatch.release.publication import Publishing, PublishReport
from ztfmatch.release.schema import BULK
from ztfmatch.release.tasks.bulk import BulkTask, write_unit
from ztfmatch.release.tasks.released import BYTES_PER_ROW_IN_FLIGHT, ROWS_IN_FLIGHT

CHECKSUMS: Final = "checksum.md5"
_FIRST_SECONDARY_FIELD: Final = 1000
_BYTES_PER_OBJECT: Final = 120


def bulk_directory(release: str) -> str:
    """Directory of a release's bulk files."""
    return f"lc_{release}"


def bulk_path(unit: Unit, release: str) -> str:
    """Path of a unit's file below the directory of a release, as IRSA has it."""
    root = 0 if unit.field < _FIRST_SECONDARY_FIELD else 1
    name = f"ztf_{unit.field:06d}_{FILTER_CODES[unit.fid]}_c{unit.ccdid:02d}_q{unit.qid}_{release}.parquet"
    return f"{root}/field{unit.field:06d}/{name}"


def publish_bulk(snapshot: SnapshotFiles, scope: ReleaseScope, output: Path, runner: Runner) -> PublishReport:
    """Write the lightcurves of every unit of a snapshot as a file, those epochs that a scope allows.

    Raises
    ------
    OutputExistsError, ScopeError, ConfigError
        Before any work.
    JobFailedError
        If a task failed after its retries; the same call again resumes.
    """
    publishing = Publishing(snapshot, scope, output, "bulk")
    publishing.begin()
    written, counts = write_lightcurves(publishing, runner)
    readme = _readme(publishing, counts, len(written))
    return publishing.finish([*written, *write_beside(publishing, written, readme)], counts)


def write_lightcurves(
    publishing: Publishing, runner: Runner, region: Region | None = None
) -> tuple[list[Output], dict[str, int]]:
    """Files of the units that the scope allows, with objects of a region alone, and what is in them.

    Raises
    ------
    ScopeError
        If there are no epochs.
    JobFailedError
    """
    results = publishing.run(runner, "lightcurves", write_unit, bulk_tasks(publishing, runner, region))
    counts = {"objects": sum(r.objects for r in results), "epochs": sum(r.epochs for r in results)}
    publishing.check_epochs(counts["epochs"], region)
    return outputs_of(results), counts


def write_beside(publishing: Publishing, written: Sequence[Output], readme: str) -> list[Output]:
    """Write what stands beside the files of units: a text about them, and their MD5 sums."""
    directory = bulk_directory(publishing.scope.release)
    return [
        write_bytes(publishing.out, f"{directory}/{about.README}", readme.encode()),
        write_bytes(publishing.out, f"{directory}/{CHECKSUMS}", _md5_list(written, f"{directory}/")),
    ]


def bulk_tasks(publishing: Publishing, runner: Runner, region: Region | None = None) -> list[BulkTask]:
    """One task for each unit that the scope allows."""
    directory = bulk_directory(publishing.scope.release)
    tasks = [
        BulkTask(
            f"bulk-{files.unit}",
            publishing.inputs,
            files,
            f"{directory}/{bulk_path(files.unit, publishing.scope.release)}",
            region,
        )
        for files in publishing.units(region)
    ]
    runner.check_memory(_projected_bytes(publishing.snapshot, tasks))
    return tasks


def _projected_bytes(snapshot: SnapshotFiles, tasks: Sequence[BulkTask]) -> dict[str, int]:
    asked = [(task.files.tiles, objectid_range(task.files.unit)) for task in tasks]
    objects, epochs = (snapshot.files.rows_near(table.name, asked) for table in (OBJECTS, DETECTIONS))
    read = _BYTES_PER_OBJECT * objects + BYTES_PER_ROW_IN_FLIGHT * np.minimum(epochs, ROWS_IN_FLIGHT)
    return dict(zip((task.key for task in tasks), (WORKER_BASE_BYTES + read).tolist(), strict=True))


def _md5_list(outputs: Sequence[Output], below: str) -> bytes:
    """Lines ``<md5>  ./<path>`` of files below a directory, as ``md5sum -c`` takes them."""
    ordered = sorted(outputs, key=lambda output: output.path)
    return "".join(f"{output.md5}  ./{output.path.removeprefix(below)}\n" for output in ordered).encode()


def files_text(release: str) -> str:
    """How the files of units are named, for a README."""
    return f"<0|1>/field<FFFFFF>/ztf_<FFFFFF>_<filter>_c<CC>_q<Q>_{release}.parquet"


def rows_text() -> str:
    """What is in a file of a unit, and how it is checked, for a README."""
    width = max(len(column.name) for column in BULK.columns)
    lines = [f"  {c.name:<{width}}  {c.type!s:<13} {c.unit:<4} {c.description}".rstrip() for c in BULK.columns]
    columns = "\n".join(lines)
    return f"""One row is an object; rows are sorted by objectid, epochs by time. Columns:
{columns}

{CHECKSUMS} has the MD5 sum of each file: md5sum -c {CHECKSUMS}
"""


def _readme(publishing: Publishing, counts: dict[str, int], files: int) -> str:
    scope = publishing.scope
    what = f"""{files} Parquet files, one for each field, filter, CCD and quadrant:
  {files_text(scope.release)}
  0 for fields below 1000, 1 for those from 1000 on.
{counts["objects"]} objects that have at least one epoch in the release, {counts["epochs"]} epochs.
{rows_text()}"""
    return about.readme(scope, publishing.snapshot.commit, what)
