"""Make a store: read the references, decide the tiling, write the objects, commit snapshot 0."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ztfmatch.core.config import StoreConfig
from ztfmatch.core.errors import StoreExistsError
from ztfmatch.core.io import log, storefile
from ztfmatch.core.io.snapshot import before_first
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import FINE_ORDER, Pixels, Tile, Tiling, adaptive_tiling
from ztfmatch.core.operations.committing import commit_on_top
from ztfmatch.core.operations.common import (
    OperationId,
    Row,
    Stopwatch,
    files_of,
    tiles_of_footprint,
    told_places,
    write_rows,
    write_table,
)
from ztfmatch.core.operations.notices import Notice, wrapped_positions
from ztfmatch.core.operations.quarantine import check_usable
from ztfmatch.core.operations.references import find_references, inspect_all, reference_input
from ztfmatch.core.runner import Job, Runner
from ztfmatch.core.schema import QUARANTINE, REFERENCES
from ztfmatch.core.shown import Shown
from ztfmatch.core.tasks.inspect import GRID, GRID_ORDER, read_grid
from ztfmatch.core.tasks.seeds import ReferenceInput, SeedTask, write_objects

_BLOCK_BITS: Final = 12
"""Seeds are added up on blocks of so many bits of the numbers of pixels: of what is not covered none is made."""
_ROWS_AT_ONCE: Final = 1000


@dataclass(frozen=True, kw_only=True)
class InitReport(Shown):
    """What an init did."""

    store: str
    snapshot: int
    already_done: bool
    references: int
    objects: int
    tiles: int
    bytes: int
    quarantined: list[Row]
    seconds: float
    warnings: list[Notice]
    """What may not have been meant so."""


def init_store(
    storage: Storage, references: Sequence[str], config: StoreConfig, runner: Runner, strict: bool = False
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

    Raises
    ------
    ConfigError
        If no reference is found.
    BadInputError
        If none of the references can be used, or ``strict`` and one is bad or misnamed.
    StoreExistsError
        If there is a store made of other references, or something that is no store.
    """
    watch = Stopwatch()
    config.validate()
    storefile.check_free(storage)
    sources, notices = find_references(references, strict)
    found, quarantined = inspect_all(sources, runner)
    notices += wrapped_positions(found)
    check_usable("reference catalogs", len(sources), quarantined, strict)
    operation_id = OperationId("init", None, [asdict(config), found["sha256"].to_pylist()]).value
    storefile.create_store(storage, config)
    if log.commit_numbers(storage):
        return _already_done(storage, operation_id, watch, notices)
    tiling = tiling_of((read_grid(grid.as_py()) for grid in found[GRID]), config)
    found = found.drop_columns(GRID)
    results = runner.run(
        Job("objects", write_objects, _tasks(storage, found, tiling, operation_id), operation_id, storage)
    )
    refused = [{**row, "commit": 0} for row in quarantined]
    files = files_of(results)
    files += write_table(storage, REFERENCES, _first_generation(found), 0, operation_id[:12])
    files += write_rows(storage, QUARANTINE, refused, 0, operation_id[:12])
    objects = sum(result.objects for result in results)
    change = log.Change(
        "init",
        operation_id,
        {"references": told_places(references), **asdict(config)},
        {"references": found.num_rows, "objects": objects, "quarantined": len(refused)},
        files,
        tiling=tiling,
        started=watch.started,
    )
    committed = commit_on_top(before_first(storage, config), lambda _: change, lambda _: "made the store")
    return InitReport(
        store=storage.root,
        snapshot=committed.number,
        already_done=False,
        references=found.num_rows,
        objects=objects,
        tiles=len(tiling.tiles),
        bytes=committed.size,
        quarantined=refused,
        seconds=watch.seconds,
        warnings=notices,
    )


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
        tiles=len(tiling.tiles),
        bytes=sum(f.size for f in log.read_manifests(storage, first.manifests)),
        quarantined=[],
        seconds=watch.seconds,
        warnings=notices,
    )


def tiling_of(grids: Iterable[tuple[Pixels, Pixels]], config: StoreConfig) -> Tiling:
    """Tiles for the seeds of some references.

    Parameters
    ----------
    grids : iterable of (int64 ndarray, int64 ndarray)
        Of each, the pixels of GRID_ORDER with seeds, ascending, and their number in each. They are added up as they
        come, in as much memory as the sky has pixels of that order.
    config : StoreConfig
    """
    held: dict[int, Pixels] = {}
    for pixels, counts in grids:
        blocks, starts = np.unique(pixels >> _BLOCK_BITS, return_index=True)
        parts = zip(np.split(pixels, starts[1:]), np.split(counts, starts[1:]), strict=True)
        for block, (at, number) in zip(blocks.tolist(), parts, strict=False):  # without seeds there is one part
            if block not in held:
                held[block] = np.zeros(1 << _BLOCK_BITS, np.uint32)
            held[block][at & (len(held[block]) - 1)] += number.astype(np.uint32)
    return Tiling(tuple(tile for base in range(12) for tile in _tiles_within(Tile(0, base), held, config)))


def _tiles_within(base: Tile, held: dict[int, Pixels], config: StoreConfig) -> list[Tile]:
    """Tiles of a base pixel: those of the others are not divided, since nothing is told of them."""
    shift = 2 * GRID_ORDER - _BLOCK_BITS
    blocks = sorted(block for block in held if block >> shift == base.npix)
    filled = [np.flatnonzero(held[block]) for block in blocks]
    none = np.zeros(0, np.int64)
    pixels = np.concatenate([none, *((block << _BLOCK_BITS) + at for block, at in zip(blocks, filled, strict=True))])
    counts = np.concatenate([none, *(held[block][at] for block, at in zip(blocks, filled, strict=True))])
    fine = pixels << 2 * (FINE_ORDER - GRID_ORDER)
    tiling = adaptive_tiling(fine, counts.astype(np.int64), config.seeds_per_tile, config.max_order)
    return [tile for tile in tiling.tiles if tile.npix >> 2 * tile.order == base.npix]


def _tasks(storage: Storage, found: pa.Table, tiling: Tiling, operation_id: str) -> list[SeedTask]:
    by_tile: dict[Tile, list[ReferenceInput]] = {}
    for row in itertools.chain.from_iterable(batch.to_pylist() for batch in found.to_batches(_ROWS_AT_ONCE)):
        if row["ra"] is None:
            continue
        entry = reference_input(row, 0)
        for tile in tiles_of_footprint(tiling, row):
            by_tile.setdefault(tile, []).append(entry)
    return [
        SeedTask(f"objects-N{tile.order}-{tile.npix}", storage, tile, tuple(inputs), 0, operation_id[:12])
        for tile, inputs in sorted(by_tile.items())
    ]
