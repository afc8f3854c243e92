"""Create a store: read the references, choose the tiling, write the objects, commit snapshot 0."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import StoreExistsError
from ztfmatch.core.io import log, storefile
from ztfmatch.core.io.parquet import DataFile
from ztfmatch.core.io.refused import Refused
from ztfmatch.core.io.snapshot import before_first
from ztfmatch.core.io.stagedfiles import StagedFiles
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.seedcounts import SeedCounts
from ztfmatch.core.kernels.tiling import Tile, Tiling
from ztfmatch.core.operations.commit import commit_on_top
from ztfmatch.core.operations.common import (
    OperationId,
    Stopwatch,
    abridged_places,
    files_of,
    write_table,
)
from ztfmatch.core.operations.link import link_new_store
from ztfmatch.core.operations.notices import Notice, wrapped_positions
from ztfmatch.core.operations.quarantine import QuarantineChange, check_usable
from ztfmatch.core.operations.references import (
    COVERED,
    References,
    find_references,
    inspect_all,
    reference_input,
)
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import REFERENCES
from ztfmatch.core.tasks.heap import give_back_freed_memory
from ztfmatch.core.tasks.seeds import ReferenceInput, SeedTask, write_objects

_ROWS_AT_ONCE: Final = 1000

_UNLINKED: Final = Notice("unlinked", "its first snapshot has no stars: 'ztfmatch link' makes them")


@dataclass(frozen=True, kw_only=True)
class InitReport(Displayable):
    """What an init did."""

    store: str
    snapshot: int
    already_done: bool
    references: int
    objects: int
    stars: int
    """0 where they were not linked."""
    tiles: int
    bytes: int
    quarantined: list[Refused]
    seconds: float
    warnings: list[Notice]
    """What may not have been meant so."""


def init_store(
    storage: Storage,
    references: Sequence[str],
    config: StoreConfig,
    runner: Runner,
    strict: bool = False,
    link: bool = True,
) -> InitReport:
    """Make a store of the seeds in reference catalogs.

    Parameters
    ----------
    storage : Storage
        Where; nothing or an unfinished init of the same settings may be there.
    references : sequence of str
        Files, directories or globs, as paths or URLs.
    config : StoreConfig
    runner : Runner
    strict : bool
        Fail if a reference cannot be used, instead of quarantining it, or a file that looks like one is misnamed.
    link : bool
        Link objects of different units that are one source into stars, in the same commit; else ``link`` does it later.

    Raises
    ------
    ConfigError
        If no reference is found.
    BadInputError
        If none of the references can be used, or ``strict`` and one is bad or misnamed.
    StoreExistsError
        If there is a store made of other references, or something that is not a store.
    """
    watch = Stopwatch()
    config.validate()
    storefile.check_free(storage)
    sources, notices = find_references(references, strict)
    inspected, tiling = _inspected(sources, runner, config)
    found, refused = inspected.rows, inspected.refused
    notices += wrapped_positions(found)
    check_usable("reference catalogs", len(sources), refused, strict)
    operation_id = OperationId("init", None, [asdict(config), found["sha256"].to_pylist()]).value
    storefile.create_store(storage, config)
    if log.commit_numbers(storage):
        done = _already_done(storage, operation_id, watch, notices)
        return replace(done, warnings=[*notices, _UNLINKED]) if link and not done.stars else done
    results = runner.run(
        Job("objects", write_objects, _tasks(storage, found, tiling, operation_id), operation_id, storage)
    )
    files = files_of(results) + _tables_about_files(storage, found, refused, operation_id[:12])
    objects = sum(result.objects for result in results)
    nothing = before_first(storage, config)
    counts = {"references": found.num_rows, "objects": objects, "quarantined": len(refused)}
    # Objects are linked from the files that were just written: there is no snapshot yet.
    if link:
        linked = link_new_store(StagedFiles.write(nothing, operation_id, files), tiling, operation_id, runner)
        files += files_of(linked)
        counts["stars"] = sum(result.stars for result in linked)
    change = log.Change(
        "init",
        operation_id,
        {"references": abridged_places(references), **asdict(config), "link": link},
        counts,
        files,
        tiling=tiling,
        started=watch.started,
    )
    committed = commit_on_top(nothing, lambda _: change, lambda _: "made the store")
    return InitReport(
        store=storage.root,
        snapshot=committed.number,
        already_done=False,
        references=found.num_rows,
        objects=objects,
        stars=counts.get("stars", 0),
        tiles=len(tiling.tiles),
        bytes=committed.size,
        quarantined=refused,
        seconds=watch.seconds,
        warnings=notices,
    )


def _inspected(sources: Sequence[str], runner: Runner, config: StoreConfig) -> tuple[References, Tiling]:
    """What is in the references, and the tiles of their seeds."""
    seeds = SeedCounts()
    inspected = inspect_all(sources, runner, seeds)
    tiling = seeds.tiling(config.seeds_per_tile, config.max_order)
    del seeds
    give_back_freed_memory()
    return inspected, tiling


def _tables_about_files(storage: Storage, found: pa.Table, refused: list[Refused], part: str) -> list[DataFile]:
    """Files of the references that were used, and of those that were not."""
    return [
        *write_table(storage, REFERENCES, _first_generation(found), 0, part),
        *QuarantineChange([], refused, frozenset()).write(storage, 0, part),
    ]


def _first_generation(found: pa.Table) -> pa.Table:
    """Rows of ``references``, of references that were found."""
    none = pa.array(np.zeros(found.num_rows, np.int8))
    made = {"generation": none, "commit": none.cast(REFERENCES.schema.field("commit").type)}
    columns = [made[name] if name in made else found[name] for name in REFERENCES.names]
    return pa.table(columns, schema=REFERENCES.schema)


def _already_done(storage: Storage, operation_id: str, watch: Stopwatch, notices: list[Notice]) -> InitReport:
    first = log.read_commit(storage, 0)
    if first.operation_id != operation_id:
        raise StoreExistsError(f"{storage.root} is a store already, made of other references: choose another place")
    counts, tiling = first.counts, log.read_tiling(storage, first.tiling)
    return InitReport(
        store=storage.root,
        snapshot=0,
        already_done=True,
        references=counts["references"],
        objects=counts["objects"],
        stars=counts.get("stars", 0),
        tiles=len(tiling.tiles),
        bytes=sum(f.size for f in log.read_manifests(storage, first.manifests)),
        quarantined=[],
        seconds=watch.seconds,
        warnings=notices,
    )


def _tasks(storage: Storage, found: pa.Table, tiling: Tiling, operation_id: str) -> list[SeedTask]:
    by_tile: dict[Tile, list[ReferenceInput]] = {}
    for row in itertools.chain.from_iterable(batch.to_pylist() for batch in found.to_batches(_ROWS_AT_ONCE)):
        entry = reference_input(row, 0)
        for tile in tiling.overlapping(np.array(row[COVERED], np.int64)).tolist():
            by_tile.setdefault(tiling.tiles[tile], []).append(entry)
    return [
        SeedTask(f"objects-{tile.key}", storage, tile, tuple(inputs), 0, operation_id[:12])
        for tile, inputs in sorted(by_tile.items())
    ]
