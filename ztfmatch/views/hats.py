"""A snapshot for LSDB: its objects, and links to its own files of detections, in the HATS layout.

HATS reads whatever lies in the directory of a pixel, and has no versions. So a view is of one snapshot, made whole and
then named, and never changed. Both catalogs have the tiles of the store as their partitions, and a detection is in the
tile of its object: joined by objectid, partition by partition, they give complete lightcurves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.localfiles import partial_of
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.common import WORKER_BASE_BYTES, Stopwatch
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import DETECTIONS, OBJECTS
from ztfmatch.release.io import hats
from ztfmatch.release.io.outputs import Output, outputs_of
from ztfmatch.release.publication import check_place, publish
from ztfmatch.views.delta import local_root
from ztfmatch.views.io.links import link
from ztfmatch.views.tasks.hats import VIEWED_OBJECTS, ViewTask, write_viewed_objects

OBJECT_CATALOG: Final = "objects"
DETECTION_CATALOG: Final = "detections"
_BYTES_PER_OBJECT: Final = 500


@dataclass(frozen=True, kw_only=True)
class HatsViewReport(Displayable):
    """What a view has."""

    output: str
    snapshot: int
    partitions: int
    objects: int
    detections: int
    linked: int
    """Files of the store that have a second name in it."""
    bytes: int
    """Bytes that were written."""
    seconds: float


def view_hats(snapshot: SnapshotFiles, output: Path, runner: Runner) -> HatsViewReport:
    """Show a compacted snapshot to LSDB.

    Raises
    ------
    ConfigError
        If the store is not a local directory, has no detections, or a tile has several files whose objects overlap.
    OutputExistsError
        If something is at the output's place.
    """
    watch = Stopwatch()
    check_place(output)
    root = local_root(snapshot)
    files = snapshot.of_table(DETECTIONS.name)
    _check_layout(snapshot, files)
    partial = partial_of(output, snapshot.commit.operation_id)
    partial.mkdir(exist_ok=True)
    out = Storage.at(partial)
    tasks = _tasks(snapshot, out)
    projected = {task.key: WORKER_BASE_BYTES + _BYTES_PER_OBJECT * task.rows(OBJECTS) for task in tasks}
    runner.check_memory(projected)
    written = outputs_of(runner.run(Job("objects", write_viewed_objects, tasks, "view", out)))
    for file in files:
        link(root / file.path, partial / _link_path(file))
    made = [*_object_files(snapshot, out, written), *_detection_files(snapshot, out, files)]
    directories = {_link_path(file).rsplit("/", 1)[0] for file in files}
    publish(out, output, [*(file.path for file in (*written, *made)), *directories])
    return HatsViewReport(
        output=str(output),
        snapshot=snapshot.number,
        partitions=len(written),
        objects=sum(o.rows for o in written),
        detections=sum(f.rows for f in files),
        linked=len(files),
        bytes=sum(o.size for o in (*written, *made)),
        seconds=watch.seconds,
    )


def _check_layout(snapshot: SnapshotFiles, files: Sequence[DataFile]) -> None:
    if not files:
        raise ConfigError(f"snapshot {snapshot.number} of {snapshot.storage.root} has no detections to view")
    for tile, held in snapshot.files.by_tile(DETECTIONS.name).items():
        if held.depth > 1:
            raise ConfigError(
                f"tile {tile} has {held.depth} files with the same objects: the view serves sorted tiles; "
                "run 'ztfmatch compact --full --min-files 2' first"
            )


def _tasks(snapshot: SnapshotFiles, out: Storage) -> list[ViewTask]:
    return [
        ViewTask(f"objects-{tile.key}", snapshot, tile, out, OBJECT_CATALOG)
        for tile in snapshot.tiles_with(OBJECTS.name)
    ]


def _link_path(file: DataFile) -> str:
    """Where a file of detections is in the view: all in the directory of a pixel are one partition."""
    if file.tile is None:
        raise ConfigError(f"{file.described} is of no tile")
    return f"{hats.pixel_directory(DETECTION_CATALOG, file.tile)}/{file.path.rsplit('/', 1)[-1]}"


def _object_files(snapshot: SnapshotFiles, out: Storage, written: Sequence[Output]) -> list[Output]:
    about = {
        "obs_collection": OBJECT_CATALOG,
        "dataproduct_type": "object",
        "hats_nrows": sum(output.rows for output in written),
        **hats.spatial_properties(("ra", "dec")),
        **hats.healpix_properties(),
        **hats.provenance_properties(snapshot.commit),
    }
    partitions = [(hats.tile_of_file(output.path), output.path) for output in written]
    return hats.write_catalog(out, OBJECT_CATALOG, about, VIEWED_OBJECTS.schema, partitions)


def _detection_files(snapshot: SnapshotFiles, out: Storage, files: Sequence[DataFile]) -> list[Output]:
    about = {
        "obs_collection": DETECTION_CATALOG,
        "dataproduct_type": "source",
        "hats_nrows": sum(file.rows for file in files),
        **hats.spatial_properties(("ra", "dec"), suffix="/"),
        **hats.provenance_properties(snapshot.commit),
    }
    partitions = [(file.tile, _link_path(file)) for file in files if file.tile is not None]
    return hats.write_catalog(out, DETECTION_CATALOG, about, DETECTIONS.schema, partitions)
