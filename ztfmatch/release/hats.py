"""Releases as HATS collections, which LSDB opens: lightcurves nested in rows of objects, or objects with statistics.

First the tasks count what every tile has in scope, from which the partitions follow; then they write these; then the
margin of each partition and the index. The last step gathers footers into the dataset's metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import pyarrow as pa

from ztfmatch.core.config import MARGIN_ARCSEC
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.kernels.tiling import in_sky_order
from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.operations.link import unlinked_tiles
from ztfmatch.core.runner import Runner
from ztfmatch.core.schema import DETECTIONS, OBJECTS, STARS
from ztfmatch.core.settings import AtLeastOne, Validated, within
from ztfmatch.release import about
from ztfmatch.release.hatsplan import Plan, index_tasks, plan_partitions
from ztfmatch.release.io import hats
from ztfmatch.release.io.outputs import Output, Written, outputs_of, place_of, write_bytes
from ztfmatch.release.io.scope import ReleaseScope
from ztfmatch.release.kernels.alignment import MAX_PARTITION_ORDER, Limits
from ztfmatch.release.kernels.rounding import SIGNIFICANT_BITS
from ztfmatch.release.publication import Publishing, PublishReport
from ztfmatch.release.schema import INDEX, MAGERR_BITS
from ztfmatch.release.tasks import hats as tasks
from ztfmatch.release.tasks.partition import HELD_BYTES
from ztfmatch.release.tasks.released import BYTES_PER_ROW_IN_FLIGHT, ROWS_IN_FLIGHT

_BYTES_PER_OBJECT: Final = {tasks.LIGHTCURVES: 200, tasks.OBJECTS: 1600, tasks.STARLIGHTCURVES: 400}
_BYTES_PER_STAR_EPOCH: Final = 160
"""A tile's epochs are held together until they are in order of its stars."""
_NAMES: Final = {tasks.LIGHTCURVES: "lc", tasks.OBJECTS: "objects", tasks.STARLIGHTCURVES: "stars"}
_ROWS: Final = {
    tasks.LIGHTCURVES: "objects with their lightcurves",
    tasks.OBJECTS: "objects with their statistics",
    tasks.STARLIGHTCURVES: "stars with the lightcurves of their objects",
}
_MOST_BYTES: Final = 32_000_000_000
"""Readers count the elements of a column's lists in 31 bits."""
_COPIES: Final = 4
"""Of a partition at once: in pieces, joined, sorted, encoded."""


@dataclass(frozen=True)
class HatsConfig(Validated):
    """How a HATS catalog is laid out.

    Parameters
    ----------
    partition_bytes : int
        Most bytes of a partition in memory.
    partition_rows : int
        Most rows of a partition.
    min_order : int
        HEALPix order of the largest partition.
    magerr_bits : int
        Significant bits kept of magerr; 24 are all.
    """

    partition_bytes: Annotated[int, within(1, _MOST_BYTES)] = 160_000_000
    partition_rows: AtLeastOne = 1_000_000
    min_order: Annotated[int, within(0, MAX_PARTITION_ORDER)] = 2
    _: KW_ONLY
    magerr_bits: Annotated[int, within(1, SIGNIFICANT_BITS)] = MAGERR_BITS

    @property
    def limits(self) -> Limits:
        """How large a partition may be."""
        return Limits(self.partition_rows, self.partition_bytes, self.min_order)


def publish_hats(
    snapshot: SnapshotFiles, scope: ReleaseScope, output: Path, runner: Runner, config: HatsConfig | None = None
) -> PublishReport:
    """Write the lightcurves of a release as a HATS collection.

    Raises
    ------
    OutputExistsError, ScopeError, ConfigError
        Before any work.
    JobFailedError
        If a task failed after its retries; the same call again resumes.
    """
    return _publish(tasks.LIGHTCURVES, snapshot, scope, output, runner, config or HatsConfig())


def publish_stars(
    snapshot: SnapshotFiles, scope: ReleaseScope, output: Path, runner: Runner, config: HatsConfig | None = None
) -> PublishReport:
    """Write the lightcurves of a release by star: one row a star, with the epochs of all its objects.

    Raises
    ------
    As :func:`publish_hats`; ConfigError too if the snapshot has no stars, or if they are out of date.
    """
    if not snapshot.files.has(STARS.name) or unlinked_tiles(snapshot):
        lacks = "stars that are out of date" if snapshot.files.has(STARS.name) else "no stars"
        raise ConfigError(
            f"{snapshot.storage.root} has {lacks} in snapshot {snapshot.number}: run 'ztfmatch link' first"
        )
    return _publish(tasks.STARLIGHTCURVES, snapshot, scope, output, runner, config or HatsConfig())


def publish_objects(
    snapshot: SnapshotFiles, scope: ReleaseScope, output: Path, runner: Runner, config: HatsConfig | None = None
) -> PublishReport:
    """Write all objects of a release, with the statistics of their epochs in it, as a HATS collection.

    Raises
    ------
    As :func:`publish_hats`.
    """
    return _publish(tasks.OBJECTS, snapshot, scope, output, runner, config or HatsConfig())


def _publish(
    content: str, snapshot: SnapshotFiles, scope: ReleaseScope, output: Path, runner: Runner, config: HatsConfig
) -> PublishReport:
    config.validate()
    publishing = Publishing(snapshot, scope, output, f"hats {content}", asdict(config))
    publishing.begin()
    catalog = _catalog(content, publishing, config)
    tiles = snapshot.tiles_with(OBJECTS.name)
    count_tasks = [tasks.CountTask(f"count-{tile.key}", catalog, tile, config.limits) for tile in tiles]
    runner.check_memory({task.key: _counting_bytes(task) for task in count_tasks})
    counted = publishing.run(runner, "counting", tasks.count_tile, count_tasks, preparing=True)
    plan = plan_partitions(tiles, counted, config.limits)
    publishing.check_epochs(plan.rows)
    outputs = _write(publishing, catalog, plan, counted, runner)
    counts = {"objects": plan.rows, "epochs": sum(result.epochs for result in counted)}
    return publishing.finish(outputs, counts | {"partitions": len(plan.partitions)})


def _write(
    publishing: Publishing, catalog: tasks.Catalog, plan: Plan, counted: Sequence[tasks.TileCounts], runner: Runner
) -> list[Output]:
    """Write the primary catalog, then its margin and index, then what describes them."""
    tasks.write_alignment(catalog.out, [piece.tile for piece in plan.partitions])
    planned = plan.tasks(catalog)
    runner.check_memory({task.key: _projected_bytes(task, plan) for task in planned})
    written = publishing.run(runner, "partitions", tasks.write_partitions, planned)
    margins = publishing.run(runner, "margins", tasks.write_margin, _margin_tasks(catalog, written))
    index = publishing.run(runner, "index", tasks.write_index, index_tasks(catalog, planned, written, counted))
    return [
        *_primary(publishing, catalog, plan, written),
        *_margin(publishing, catalog, margins),
        *_index(publishing, catalog, index, plan.rows),
        _collection(publishing, catalog, bool(margins)),
        _readme(publishing, catalog, plan.rows),
    ]


def _catalog(content: str, publishing: Publishing, config: HatsConfig) -> tasks.Catalog:
    name = f"ztf_{publishing.scope.release}_{_NAMES[content]}-hats"
    catalog = tasks.Catalog(
        **vars(publishing.inputs),
        content=content,
        name=name,
        margin=f"{name}_margin_{MARGIN_ARCSEC:.0f}arcs",
        index="",
        magerr_bits=config.magerr_bits,
    )
    return replace(catalog, index=f"{name}_index_{catalog.id_column}")


def _counting_bytes(task: tasks.CountTask) -> int:
    objects, rows = (task.catalog.rows(table, task.tile) for table in (OBJECTS, DETECTIONS))
    return (
        WORKER_BASE_BYTES
        + _BYTES_PER_OBJECT[tasks.LIGHTCURVES] * objects
        + BYTES_PER_ROW_IN_FLIGHT * min(rows, ROWS_IN_FLIGHT)
    )


def _projected_bytes(task: tasks.WriteTask, plan: Plan) -> int:
    objects, rows = (max(task.catalog.rows(table, tile) for tile in task.tiles) for table in (OBJECTS, DETECTIONS))
    size = {piece.tile: piece.size for piece in plan.partitions}
    largest, total = max(size[tile] for tile in task.targets), sum(size[tile] for tile in task.targets)
    held = min(total, HELD_BYTES + largest)
    in_flight = BYTES_PER_ROW_IN_FLIGHT * min(rows, ROWS_IN_FLIGHT)
    if task.catalog.content == tasks.STARLIGHTCURVES:
        in_flight += _BYTES_PER_STAR_EPOCH * rows
    return (
        WORKER_BASE_BYTES
        + _BYTES_PER_OBJECT[task.catalog.content] * objects
        + max(in_flight + held, held + (_COPIES - 1) * largest)
    )


def _margin_tasks(catalog: tasks.Catalog, written: Sequence[tasks.PartitionsWritten]) -> list[tasks.MarginTask]:
    alignment = tasks.read_alignment(catalog.out)
    reached = {tile for result in written for tile in result.margins}
    found: list[tasks.MarginTask] = []
    for tile in in_sky_order(reached):
        near = alignment.neighbours(tile)
        sources = tuple(t for t in near if place_of(catalog.out, tasks.margin_piece(tile, t)).is_file())
        found.append(tasks.MarginTask(f"margin-{tile.key}", catalog, tile, sources))
    return found


def _common(publishing: Publishing) -> hats.Properties:
    scope = publishing.scope
    return {
        "obs_title": f"ZTF {scope.release}",
        "obs_description": scope.description or f"Zwicky Transient Facility, release {scope.release}",
        **about.properties(scope),
        **hats.provenance_properties(publishing.snapshot.commit),
    }


def _sky(
    publishing: Publishing, catalog: tasks.Catalog, directory: str, written: Sequence[Output], kind: hats.Properties
) -> list[Output]:
    """Files at the root of a catalog on the sky, and its dataset's metadata."""
    columns = ("objra", "objdec") if catalog.is_nested else ("ra", "dec")
    properties = {
        "obs_collection": directory,
        **kind,
        "hats_nrows": sum(output.rows for output in written),
        **hats.spatial_properties(columns),
        **hats.healpix_properties(),
        "hats_max_rows": max(output.rows for output in written),
        "hats_estsize": sum(output.size for output in written) // 1024,
        **_common(publishing),
    }
    partitions = [(hats.tile_of_file(output.path), output.path) for output in written]
    return hats.write_catalog(catalog.out, directory, properties, catalog.table.schema, partitions)


def _primary(
    publishing: Publishing, catalog: tasks.Catalog, plan: Plan, written: Sequence[tasks.PartitionsWritten]
) -> list[Output]:
    files = {hats.tile_of_file(output.path): output for output in outputs_of(written)}
    ordered = [files[piece.tile] for piece in plan.partitions]
    skymap = Counter[int]()
    for result in written:
        skymap.update(result.skymap)
    kind: hats.Properties = {"dataproduct_type": "object", "hats_skymap_order": hats.SKYMAP_ORDER}
    described = _sky(publishing, catalog, catalog.name, ordered, kind)
    return [*ordered, *described, hats.write_skymap(catalog.out, catalog.name, skymap)]


def _margin(publishing: Publishing, catalog: tasks.Catalog, margins: Sequence[Written]) -> list[Output]:
    written = outputs_of(margins)
    if not written:
        return []
    kind = {
        "dataproduct_type": "margin",
        "hats_primary_table_url": catalog.name,
        "hats_margin_threshold": f"{MARGIN_ARCSEC:.1f}",
    }
    return [*written, *_sky(publishing, catalog, catalog.margin, written, kind)]


def _index(publishing: Publishing, catalog: tasks.Catalog, index: Sequence[Written], rows: int) -> list[Output]:
    written = outputs_of(index)
    properties = {
        "obs_collection": catalog.index,
        "dataproduct_type": "index",
        "hats_nrows": rows,
        "hats_primary_table_url": catalog.name,
        "hats_index_column": catalog.id_column,
        **_common(publishing),
    }
    names = [catalog.id_column, *INDEX.names[1:]]
    schema = pa.schema([field.with_name(name) for field, name in zip(INDEX.schema, names, strict=True)])
    paths = [output.path for output in written]
    metadata = hats.write_dataset_metadata(catalog.out, catalog.index, schema, paths)
    return [*written, *metadata, *hats.write_both_properties(catalog.out, catalog.index, properties)]


def _collection(publishing: Publishing, catalog: tasks.Catalog, has_margin: bool) -> Output:
    margin = catalog.margin if has_margin else None
    properties = {
        "obs_collection": catalog.name.removesuffix("-hats"),
        "hats_primary_table_url": catalog.name,
        "all_margins": margin,
        "default_margin": margin,
        "all_indexes": f"{catalog.id_column} {catalog.index}",
        "default_index": catalog.id_column,
        **_common(publishing),
    }
    return hats.write_properties(catalog.out, "collection.properties", properties)


def _readme(publishing: Publishing, catalog: tasks.Catalog, rows: int) -> Output:
    what = f"""A HATS collection of {rows:,} {_ROWS[catalog.content]}. In Python, with the directory of this file:
    import lsdb
    catalog = lsdb.open_catalog(DIRECTORY)
{catalog.name}/dataset has plain Parquet files, whose schema describes each column.
sha256sums.txt has the SHA-256 of each file (sha256sum -c sha256sums.txt), release.json what they were made from."""
    text = about.readme(publishing.scope, publishing.snapshot.commit, what)
    return write_bytes(publishing.out, about.README, text.encode())
