"""Estimate the cost of an append or an init from the names of its catalogs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ztfmatch.core import costs
from ztfmatch.core.config import AppendConfig, StoreConfig
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.catalogs import ROW_BYTES
from ztfmatch.core.io.snapshot import SnapshotFiles
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, REFERENCE_PATTERN
from ztfmatch.core.kernels.coverage import Coverage, Members
from ztfmatch.core.kernels.sphere import Floats
from ztfmatch.core.kernels.tiling import CAP_ORDER, FINE_ORDER, Tiling, adaptive_tiling
from ztfmatch.core.operations.append import CATALOGS_PER_INSPECTION
from ztfmatch.core.operations.commitbatches import starts_of
from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.operations.forecast import Draft, JobForecast
from ztfmatch.core.operations.forecastunits import (
    IMAGE_ORDER,
    Images,
    Units,
    known_units,
    ledger_by_unit,
    rows_of_catalogs,
)
from ztfmatch.core.operations.link import projected_bytes
from ztfmatch.core.operations.listing import Codes, Listing, list_catalogs
from ztfmatch.core.operations.matchplan import LEAST_SHARE, MOST_EXPOSURES, rows_of_task
from ztfmatch.core.survey import N_RCID
from ztfmatch.core.tasks.match import BYTES_PER_ROW, BYTES_PER_SEED, BYTES_PER_WRITTEN_ROW, MOST_ROWS_OF_FILE

_INSPECTION_BYTES: Final = 250 << 20
_IMAGE_BITS: Final = 2 * (FINE_ORDER - IMAGE_ORDER)
_BYTES_PER_TILE_REFERENCE: Final = 150


def forecast_append(snapshot: SnapshotFiles, places: Iterable[str], config: AppendConfig) -> Draft:
    """What an append of the catalogs of some places will take; none of them is opened.

    Parameters
    ----------
    snapshot : SnapshotFiles
    places : iterable of str
        Files, directories or globs; of files that are named as catalogs only the names are looked at, and the sizes
        of some.
    config : AppendConfig

    Raises
    ------
    ConfigError
        If there is no catalog.
    """
    listing = list_catalogs(places, EPOCHAL_PATTERN)
    if not listing.catalogs:
        raise ConfigError(f"no {EPOCHAL_PATTERN} in these places")
    units = known_units(snapshot, listing.units)
    rows, how = rows_of_catalogs(units, ledger_by_unit(snapshot), listing)
    number = listing.counts[units.code] * np.float64(listing.catalogs / max(listing.catalogs - listing.unnamed, 1))
    portions = list(commits_of(units.code // (N_RCID * 4), number, config.catalogs_per_commit))
    matched = [_matching(snapshot.tiling, _Given(units, number, rows).of(*portion), config) for portion in portions]
    total = float((number * rows).sum())
    matching = JobForecast.of(
        "matching", np.concatenate([one.seconds for one in matched]),
        (sum(one.read for one in matched), total * costs.STORED_ROW_BYTES, sum(one.files for one in matched)),
        max(one.memory for one in matched),
    )  # fmt: skip
    without = int((~units.has_reference).sum())
    return Draft(
        "append",
        f"{listing.catalogs:,} catalogs of {len(units.code):,} units, {total:,.0f} rows",
        total,
        [_inspection(listing.catalogs, total), matching],
        main_s=listing.catalogs * costs.PLANNED_CATALOG.seconds,
        main_bytes=listing.catalogs * costs.MAIN_BYTES_PER_LISTED
        + min(listing.catalogs, config.catalogs_per_commit) * costs.MAIN_BYTES_PER_CATALOG,
        main_written=listing.catalogs * costs.LEDGER_ROW_BYTES,
        commits=len(portions),
        assumed=[
            how,
            "no catalog is in the store already, and all can be used",
            *([f"{listing.unnamed:,} catalogs whose names tell no unit are as the others"] if listing.unnamed else []),
            *([f"{without:,} units without a reference lie where the camera puts them"] if without else []),
        ],
        used=(costs.INSPECTED_ROW, costs.MATCHED_ROW, costs.PASSED_ROW, costs.LAID_SEED, costs.MATCHING,
              costs.PLANNED_CATALOG),
    )  # fmt: skip


def _inspection(catalogs: int, rows: float) -> JobForecast:
    tasks = -(-catalogs // CATALOGS_PER_INSPECTION)
    each = np.full(tasks, rows * costs.INSPECTED_ROW.seconds / tasks)
    return JobForecast.of("reading catalogs", each, (rows * ROW_BYTES, 0, 0), _INSPECTION_BYTES)


def commits_of(field: Codes, number: Floats, most: int) -> Iterator[tuple[Codes, Floats]]:
    """Units of each commit, and which part of their catalogs, as :func:`~.commitbatches.portions_of` divides them.

    Parameters
    ----------
    field, number : ndarray, shape (U,)
        Of each unit, ascending, and its catalogs.
    most : int
        Catalogs of a commit.
    """
    _, which = np.unique(field, return_inverse=True)
    held = np.bincount(which, weights=number).astype(np.int64)
    ends = np.cumsum(held)
    starts = starts_of(held, most) if ends[-1] > most else [0]
    for low, high in itertools.pairwise([*starts, int(ends[-1])]):
        part = np.clip(np.minimum(ends, high) - np.maximum(ends - held, low), 0, None) / held
        chosen = np.flatnonzero(part[which])
        yield chosen, part[which][chosen]


@dataclass(frozen=True)
class _Given:
    """Units with catalogs; arrays of shape (U,)."""

    units: Units
    number: Floats
    """Catalogs of each."""
    rows: Floats
    """Of a catalog of each."""

    def of(self, chosen: Codes, part: Floats) -> _Given:
        """A part of the catalogs of some of them."""
        return _Given(self.units.of(chosen), self.number[chosen] * part, self.rows[chosen])

    @property
    def all_rows(self) -> Floats:
        return self.number * self.rows

    @property
    def seed_rows(self) -> Floats:
        """Seeds of each, in rows by the memory that they take."""
        return np.asarray(self.units.seeds * (BYTES_PER_SEED / BYTES_PER_ROW), np.float64)


@dataclass(frozen=True)
class _Matching:
    seconds: Floats
    """Of each task."""
    read: float
    files: float
    memory: float


def _matching(tiling: Tiling, given: _Given, config: AppendConfig) -> _Matching:
    """Tasks of a commit, as :func:`~.matchplan.match_tasks` divides them, from sums over units."""
    pixels = given.units.pixels()
    counts = np.array([len(found) for found in pixels], np.int64)
    size = given.all_rows + given.seed_rows
    cover = Coverage(tiling, np.concatenate(pixels), counts, size.astype(np.int64))
    touched = _tiles_touched(tiling, cover)
    most = rows_of_task(float(size.sum()), config.rows_per_task)
    groups = [
        _group(tiling, given, one, touched, (most, config.rows_per_task)) for one in cover.members(config.rows_per_task)
    ]
    seconds = np.concatenate([np.full(group.tasks, group.seconds / group.tasks) for group in groups])
    memory = WORKER_BASE_BYTES + max(group.memory for group in groups)
    return _Matching(seconds, sum(group.read for group in groups), sum(group.files for group in groups), memory)


def _tiles_touched(tiling: Tiling, cover: Coverage) -> Floats:
    """How many tiles each footprint touches."""
    shift = 2 * (FINE_ORDER - CAP_ORDER)
    first, last = (tiling.index_of_fine(edge) for edge in (cover.pixels << shift, ((cover.pixels + 1) << shift) - 1))
    footprint = np.repeat(np.arange(len(cover.counts)), cover.counts)
    pairs, at = np.unique(footprint * len(tiling.tiles) + first, return_index=True)
    weight = (last - first + 1)[at]
    return np.bincount(pairs // len(tiling.tiles), weights=weight, minlength=len(cover.counts)).astype(np.float64)


@dataclass(frozen=True)
class _Group:
    tasks: int
    seconds: float
    read: float
    files: float
    memory: float


def _group(tiling: Tiling, given: _Given, members: Members, touched: Floats, most: tuple[float, float]) -> _Group:
    """What the tasks of a group of tiles take together; ``most`` is what a task writes, and keeps in memory."""
    at, share = members.footprint, members.share
    rows, seeds, each = given.all_rows[at], given.units.seeds[at], given.rows[at]
    size = np.maximum(share, LEAST_SHARE) * (rows + given.seed_rows[at])
    number = given.number[at].sum()
    tasks = max(math.ceil(size.sum() / most[0]), math.ceil(number / MOST_EXPOSURES), 1)
    batches = max(math.ceil(size.sum() / most[1]), tasks)
    own = float((share * rows).sum())
    passed, laid = float(rows.sum()) - own, float((share * seeds).sum())
    seconds = (
        tasks * costs.MATCHING.seconds
        + own * costs.MATCHED_ROW.seconds
        + passed * costs.PASSED_ROW.seconds
        + laid * costs.LAID_SEED.seconds
    )
    start, stop = members.group.fine_range
    tiles = int(np.diff(tiling.index_of_fine(np.array([start, stop - 1])))[0]) + 1
    # Units lie about evenly over the tiles: so much of them does each touch, and a task has so many units.
    touches = min(float(np.maximum(share * touched[at], 1.0).mean()) / tiles, 1.0)
    files = tasks * tiles * (1.0 - (1.0 - touches) ** (len(at) / tasks))
    files += max(files, own / MOST_ROWS_OF_FILE)  # of orphans and of epochs
    read = ROW_BYTES * float(rows.sum()) + costs.SEED_BYTES * laid
    kept = BYTES_PER_WRITTEN_ROW * own / tasks if batches > tasks else 0.0
    seeds_of_batch = min(float(seeds.sum()), 2.0 * float(seeds.sum()) / batches)
    held = BYTES_PER_ROW * max(own / batches, float((share * each).max()))
    return _Group(tasks, seconds, read, files, held + BYTES_PER_SEED * seeds_of_batch + kept)


def forecast_init(references: Sequence[str] | Iterable[str], config: StoreConfig) -> Draft:
    """What an init of the references of some places will take; none of them is opened.

    Raises
    ------
    ConfigError
        If there is no reference.
    """
    listing = list_catalogs(references, REFERENCE_PATTERN)
    if not listing.catalogs:
        raise ConfigError(f"no {REFERENCE_PATTERN} in these places")
    sampled = listing.sampled_rows()
    seeds = round(sum(sampled.values()) / len(sampled)) if sampled else costs.SURVEY_SEEDS
    total = float(seeds * listing.catalogs)
    images = Images.of(listing.units, np.full(len(listing.units), seeds))
    writing = forecast_objects(tiling_of_images(images, config), images)
    how = f"as {len(sampled):,} of them by their size" if sampled else "as over the survey"
    return Draft(
        "init",
        f"{listing.catalogs:,} references, {total:,.0f} seeds",
        total,
        [_reading_references(listing, total), writing, _stars(writing.tasks, total)],
        main_bytes=costs.MAIN_BYTES_OF_INIT + listing.catalogs * costs.MAIN_BYTES_PER_REFERENCE,
        main_written=listing.catalogs * costs.LEDGER_ROW_BYTES,
        assumed=[f"a reference has {seeds:,} seeds, {how}, and lies where the camera puts its unit"],
        used=(costs.REFERENCE_SEED, costs.REREAD_SEED, costs.WRITTEN_OBJECT, costs.LINKED_OBJECT, costs.TILE_TASK),
    )


def _reading_references(listing: Listing, seeds: float) -> JobForecast:
    tasks = -(-listing.catalogs // CATALOGS_PER_INSPECTION)
    each = np.full(tasks, seeds * costs.REFERENCE_SEED.seconds / tasks)
    return JobForecast.of("reading references", each, (seeds * ROW_BYTES, 0, 0), _INSPECTION_BYTES)


def tiling_of_images(images: Images, config: StoreConfig) -> Tiling:
    """Tiles of seeds that are spread evenly over each image."""
    unique, at = np.unique(images.pixels, return_inverse=True)
    held = np.bincount(at, weights=images.spread).astype(np.int64)
    order = min(IMAGE_ORDER, config.max_order)
    return adaptive_tiling(unique << _IMAGE_BITS, held, config.seeds_per_tile, order)


def forecast_objects(tiling: Tiling, images: Images) -> JobForecast:
    """One task a tile: it reads the references that have seeds in a pixel of CAP_ORDER of which it has a part."""
    image, pixels = images.covered
    pixel, tile = tiling.parts(pixels)
    image, tile = np.divmod(np.unique(image[pixel] * len(tiling.tiles) + tile), len(tiling.tiles))
    touched, at = np.unique(tile, return_inverse=True)
    read = np.bincount(at, weights=images.seeds[image])
    own = np.bincount(tiling.index_of_fine(images.pixels << _IMAGE_BITS), images.spread, len(tiling.tiles))[touched]
    each = read * costs.REREAD_SEED.seconds + own * costs.WRITTEN_OBJECT.seconds + costs.TILE_TASK.seconds
    memory = WORKER_BASE_BYTES + float(read.max(initial=0.0)) * _BYTES_PER_TILE_REFERENCE
    io = (float(read.sum()) * ROW_BYTES, float(own.sum()) * costs.STORED_OBJECT_BYTES, float(len(touched)))
    return JobForecast.of("objects", each, io, memory)


def _stars(tiles: int, objects: float) -> JobForecast:
    """One task a tile with objects, each with its part; those of tiles beside them take next to nothing."""
    own = objects / max(tiles, 1)
    seconds = np.full(tiles, own * costs.LINKED_OBJECT.seconds + costs.TILE_TASK.seconds)
    io = (objects * costs.STORED_OBJECT_BYTES, objects * costs.LINKED_OBJECT_BYTES, 2.0 * tiles)
    return JobForecast.of("stars", seconds, io, projected_bytes(round(own), round(9 * own)))
