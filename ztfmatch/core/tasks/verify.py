"""Verify the invariants on the stored rows of one tile, from the rows alone.

Nothing that append computed is trusted: matches, magnitudes, times and digests are made again from the stored
measured values, the ledger and the seeds, and compared. Checks of single rows are in ``verifyepochs``, pairs of rows
that competed in ``verifylost``, transients in ``verifytransients``. Here the rows are read, in chunks of bounded size,
and matched and counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Arrays, Ints
from ztfmatch.core.io import paths
from ztfmatch.core.io.arrays import decode_arrays, encode_arrays, read_arrays
from ztfmatch.core.io.merge import Lightcurves, iterate_lightcurves
from ztfmatch.core.io.parquet import DataFile, OpenFile
from ztfmatch.core.io.rows import codes_of_rows, codes_of_units
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.crossmatch import nearest_seeds
from ztfmatch.core.kernels.order import out_of_order
from ztfmatch.core.kernels.rows import MEASURED, add_digests, row_digests
from ztfmatch.core.kernels.sphere import Floats, unit_vectors
from ztfmatch.core.kernels.tiling import fine_pixels, in_tile, neighbours
from ztfmatch.core.schema import DETECTIONS, OBJECTS, ORPHANS, TRANSIENTDATA, TRANSIENTS, Table
from ztfmatch.core.schema.sky import EPOCH_NAMES, NEARER_DETECTION, NO_REFERENCE, NO_SEED, ORPHAN_REASONS
from ztfmatch.core.survey import IDS_OF_A_UNIT, Unit, objectid_range, unit_of_code, unit_of_objectid
from ztfmatch.core.tasks.linked import in_order
from ztfmatch.core.tasks.orphans import orphans_in_reach
from ztfmatch.core.tasks.seedgrids import Seeds, seeds_of_objects
from ztfmatch.core.tasks.staging import keep
from ztfmatch.core.tasks.starobjects import Objects, objects_in_reach, read_objects
from ztfmatch.core.tasks.tile import TileTask
from ztfmatch.core.tasks.verifyepochs import Findings, Ledger, check_epochs, name_of, repeated
from ztfmatch.core.tasks.verifylost import LostPairs
from ztfmatch.core.tasks.verifystars import wrong_stars
from ztfmatch.core.tasks.verifytransients import TransientFiles, wrong_transients

_BATCH_ROWS: Final = 262_144
_ROWS_IN_FLIGHT: Final = 1_000_000
_NUMBER_OF: Final = {reason: number for number, reason in enumerate(ORPHAN_REASONS)}


@dataclass(frozen=True)
class VerifyTask(TileTask):
    """One tile."""

    keep: str = ""
    """Operation under which to stage sums; none where the store cannot be written to."""

    def near(self, table: Table) -> list[DataFile]:
        """Files of the tile's neighbours: their orphans may have lost to detections of this tile."""
        return self.snapshot.of_tiles(table.name, neighbours(self.snapshot.tiling, self.tile)[1:])

    @property
    def orphan_files(self) -> Sequence[DataFile]:
        """Of the tile and its neighbours."""
        return [*self.files(ORPHANS), *self.near(ORPHANS)]


@dataclass
class Tally:
    """Rows and digests found for each exposure of the ledger."""

    matched: Ints
    orphans: Ints
    digest: npt.NDArray[np.uint64]

    def add(self, counts: Ints, rows: Ints, columns: Arrays) -> None:
        """Add rows of some exposures to one of the counts and to the digests."""
        digests = row_digests({name: np.ascontiguousarray(columns[name]) for name in MEASURED})
        add_digests(self.digest, counts, rows, digests)


@dataclass(frozen=True)
class VerifiedTile(Findings):
    """What was found in a tile, and where the sums are that are compared with the ledger."""

    kept: list[dict[str, str]] = field(default_factory=list)
    sums: bytes = b""
    """The sums themselves, where the store cannot be written to."""

    def read_sums(self, storage: Storage) -> Arrays:
        """Sums by name.

        ``exposureid``, ``matched``, ``orphans``, ``digest`` of every exposure with rows in the tile; ``unit``, as its
        smallest objectid, and the number of its active ``objects``.
        """
        return read_arrays(storage, self.kept[0]["path"]) if self.kept else decode_arrays(self.sums)


def verify_tile(task: VerifyTask) -> VerifiedTile:
    """Check every row of a tile."""
    findings, ledger = Findings(), Ledger(task.snapshot, task.tile)
    n = len(ledger.exposureid)
    tally = Tally(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.uint64))
    has_reference = task.snapshot.has_reference
    objects = _objects_near(task)
    seeds = seeds_of_objects(objects, has_reference, task.tile, task.snapshot.config.radius_arcsec)
    _check_orphans(task, ledger, _Referenced(has_reference, seeds), tally, findings)
    # Orphans first: they say who lost to whom, and the winners are then looked for as the lightcurves pass.
    in_reach = [columns for file in task.orphan_files for columns in orphans_in_reach(task, file)]
    pairs = LostPairs(in_reach, seeds)
    order, files = RowOrder(findings), task.files(DETECTIONS)
    for chunk in iterate_lightcurves(task.storage, files, EPOCH_NAMES, _ROWS_IN_FLIGHT, order.add):
        _check_lightcurves(chunk, ledger, seeds, findings)
        rows = ledger.rows_of(chunk.columns["exposureid"])
        tally.add(tally.matched, rows, chunk.columns)
        pairs.mark_won(chunk)
    order.check_all_seen(files)
    pairs.check_all_won(findings)
    findings.add("transients", *wrong_transients(_transient_files(task, in_reach)))
    if (stars := wrong_stars(task, objects)) is not None:
        findings.add("stars", *stars)
    sums = encode_arrays(_sums(ledger, tally, seeds))
    if not task.keep:
        return VerifiedTile(**vars(findings), sums=sums)
    path = paths.staged_array(task.keep, task.key)
    return VerifiedTile(**vars(findings), kept=[keep(task.storage, path, sums)])


def _objects_near(task: VerifyTask) -> Objects:
    """Objects of the tile, read now, and what is known of those around that are in its reach."""
    around = (objects_in_reach(task.storage, file, task.tile) for file in task.near(OBJECTS))
    return in_order([*(read_objects(task.storage, file) for file in task.files(OBJECTS)), *around])


def _sums(ledger: Ledger, tally: Tally, seeds: dict[Unit, Seeds]) -> Arrays:
    """What is compared with the ledger: an exposure covers several tiles, so that only sums over all tell anything."""
    seen = np.flatnonzero(tally.matched + tally.orphans)
    return {
        "exposureid": ledger.exposureid[seen],
        "matched": tally.matched[seen],
        "orphans": tally.orphans[seen],
        "digest": tally.digest[seen],
        "unit": np.array([objectid_range(unit)[0] for unit in seeds], np.int64),
        "objects": np.array([part.owned.sum() for part in seeds.values()], np.int64),
    }


def _transient_files(task: VerifyTask, orphans: Sequence[Arrays]) -> TransientFiles:
    return TransientFiles(
        storage=task.storage,
        tile=task.tile,
        transients=task.files(TRANSIENTS),
        links=task.files(TRANSIENTDATA),
        links_near=task.near(TRANSIENTDATA),
        orphans=orphans,
        radius_arcsec=task.snapshot.config.radius_arcsec,
    )


@dataclass(frozen=True)
class _Referenced:
    """Whether a unit has a reference, and the seeds that some have in a tile."""

    has_reference: Callable[[Unit], bool]
    seeds: dict[Unit, Seeds]


def _batches(task: VerifyTask, file: DataFile) -> Iterator[Arrays]:
    """Orphans of a file, some at a time; ``reason`` as its number in ORPHAN_REASONS, -1 for any other."""
    for batch in OpenFile(task.storage, file).batches(ORPHANS.names, _BATCH_ROWS):
        columns = {name: batch[name] for name in batch.schema.names}
        columns["reason"] = pc.index_in(batch["reason"].cast(pa.string()), pa.array(ORPHAN_REASONS)).fill_null(-1)
        columns["nearestid"] = batch["nearestid"].fill_null(0)
        yield {name: column.to_numpy(zero_copy_only=False) for name, column in columns.items()}


class RowOrder:
    """Rows of each detection file are sorted by objectid, hmjd, exposureid, each combination once."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._seen: dict[str, tuple[int, tuple[Any, ...]]] = {}
        """Rows of each file so far, and the keys of the last."""

    def add(self, file: DataFile, columns: Arrays) -> None:
        """See the next rows of a file."""
        keys = [columns[name] for name in DETECTIONS.sorted_by]
        wrong = out_of_order(*keys)
        first, last = (tuple(key[row] for key in keys) for row in (0, -1))
        seen, before = self._seen.get(file.path, (0, first))
        wrong[0] = seen > 0 and not first > before
        self._seen[file.path] = seen + len(wrong), last
        self._findings.add("order", wrong, lambda i: f"{file.path}: objectid {keys[0][i]} at hmjd {keys[1][i]}")

    def check_all_seen(self, files: Sequence[DataFile]) -> None:
        """Note the files of which rows were passed over: whoever trusts their order does not find those."""
        passed = np.array([self._seen.get(file.path, (0, ()))[0] != file.rows for file in files], bool)
        if passed.any():  # what was checked are rows
            self._findings.add("order", passed, lambda i: f"{files[i].path}: rows are not where its row groups say")


def _check_orphans(task: VerifyTask, ledger: Ledger, referenced: _Referenced, tally: Tally, findings: Findings) -> None:
    """Check the tile's orphans."""
    for file in task.files(ORPHANS):
        for columns in _batches(task, file):
            rows = ledger.rows_of(columns["exposureid"])
            units = codes_of_rows(columns)
            xyz = unit_vectors(columns["ra"], columns["dec"])
            check_epochs(columns, xyz, rows, ledger, units, findings)
            fine = fine_pixels(columns["ra"], columns["dec"])
            findings.add("tile", ~in_tile(fine, task.tile), lambda i, c=columns: name_of(c, i))
            _check_reasons(columns, units, xyz, referenced, findings)
            tally.add(tally.orphans, rows, columns)


def _check_reasons(columns: Arrays, units: Ints, xyz: Floats, referenced: _Referenced, findings: Findings) -> None:
    """The reason of each orphan is what its unit's seeds say."""
    # A seed in reach must have been won by another detection, or the row were matched; LostPairs looks for that one.
    expected = np.full(len(units), _NUMBER_OF[NO_SEED])
    nearest = np.zeros(len(units), np.int64)
    for code in np.unique(units).tolist():
        unit, rows = unit_of_code(code), np.flatnonzero(units == code)
        if not referenced.has_reference(unit):
            expected[rows] = _NUMBER_OF[NO_REFERENCE]
        elif (seeds := referenced.seeds.get(unit)) is not None:
            seed, _ = nearest_seeds(seeds.grid, xyz[rows])
            hit = rows[seed >= 0]
            expected[hit] = _NUMBER_OF[NEARER_DETECTION]
            nearest[hit] = seeds.objectid[seed[seed >= 0]]
    wrong = (columns["reason"] != expected) | (columns["nearestid"] != nearest)

    def describe(i: int) -> str:
        stored = ORPHAN_REASONS[columns["reason"][i]] if columns["reason"][i] >= 0 else "an unknown reason"
        return f"{name_of(columns, i)}: {stored}, expected {ORPHAN_REASONS[expected[i]]}"

    findings.add("reason", wrong, describe)


def _check_lightcurves(chunk: Lightcurves, ledger: Ledger, seeds: dict[Unit, Seeds], findings: Findings) -> None:
    """Every epoch's nearest seed is its object, and an object has one epoch an exposure."""
    # Files are sorted by objectid, and so by unit: its seeds are looked up once for a slice of epochs.
    columns = {**chunk.columns, "objectid": chunk.spread(chunk.objectid)}
    rows = ledger.rows_of(columns["exposureid"])
    units = np.empty(len(rows), np.int64)
    nearest = np.zeros(len(rows), np.int64)
    owned = np.zeros(len(rows), bool)
    xyz = unit_vectors(columns["ra"], columns["dec"])
    for unit, part in _unit_slices(chunk):
        units[part] = codes_of_units([unit])
        if unit in seeds:
            seed, _ = nearest_seeds(seeds[unit].grid, xyz[part])
            nearest[part] = np.where(seed >= 0, seeds[unit].objectid[seed], 0)
            owned[part] = np.where(seed >= 0, seeds[unit].owned[seed], False)
    check_epochs(columns, xyz, rows, ledger, units, findings)

    def name(i: int) -> str:
        return f"{name_of(columns, i)} is an epoch of {columns['objectid'][i]}"

    findings.add("match", nearest != columns["objectid"], lambda i: f"{name(i)}; its nearest seed is {nearest[i]}")
    findings.add("tile", ~owned, name)
    group = chunk.spread(np.arange(len(chunk.objectid)))
    findings.add("one-epoch-an-exposure", repeated(group, rows), name)


def _unit_slices(chunk: Lightcurves) -> Iterator[tuple[Unit, slice]]:
    """Units of a chunk, with their epochs."""
    heads = chunk.objectid // IDS_OF_A_UNIT
    starts = np.flatnonzero(np.concatenate([[True], heads[1:] != heads[:-1]]))
    for first, stop in zip(starts, [*starts[1:], len(heads)], strict=True):
        yield (unit_of_objectid(int(chunk.objectid[first])), slice(int(chunk.offsets[first]), int(chunk.offsets[stop])))
